"""Tables of ``node.toml`` that are named by a chain: ``[chain."eip155:1"]`` and their like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from orrange_p2p.core.addresses import parse_address
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address

__all__ = ["TableKind", "address", "between", "parse_tables", "tables_to_toml"]


class TableKind(NamedTuple):
    """What a table may say."""

    build: Callable[..., Any]
    """Makes a record of the table's name and values. May raise ``ConfigError``."""
    required: str
    """The one key that has no default."""
    keys: Mapping[str, Callable[[object], Any]]
    """A parser for each; raises ``ConfigError`` with what it wants."""


def parse_tables(
    value: object, example: str, kind_of: Callable[[str], TableKind]
) -> tuple[Any, ...]:
    """The records of the tables in ``value``. ``kind_of`` looks at a table's name.

    Raises ``ConfigError`` that names table and key.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"must be tables such as {example}")
    return tuple(_parse(name, table, kind_of(name)) for name, table in value.items())


def _parse(name: str, table: object, kind: TableKind) -> Any:
    if not isinstance(table, dict) or kind.required not in table:
        raise ConfigError(f'"{name}": names no {kind.required}')
    unknown = sorted(set(table) - set(kind.keys))
    if unknown:
        known = ", ".join(kind.keys)
        raise ConfigError(f'"{name}": {unknown[0]}: unknown key; known: {known}')
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = kind.keys[key](value)
        except ConfigError as error:
            raise ConfigError(f'"{name}": {key}: {error}') from None
    try:
        return kind.build(name, **values)
    except ConfigError as error:
        raise ConfigError(f'"{name}": {error}') from None


def tables_to_toml(section: str, records: Iterable[Any], keys: Sequence[str]) -> str:
    """The tables that ``parse_tables`` reads back to equal records, each named by its ``chain``."""
    text = ""
    for record in records:
        text += f'\n[{section}."{record.chain}"]\n'
        text += "".join(f"{key} = {_literal(getattr(record, key))}\n" for key in keys)
    return text


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f'"0x{value.hex()}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def between(least: int, most: int) -> Callable[[object], int]:
    """A parser of whole numbers."""

    def parse(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ConfigError(f"must be an integer from {least} to {most}, not {value!r}")
        return value

    return parse


def address(value: object) -> Address:
    """Parses an address of an EVM chain."""
    return parse_address(value if isinstance(value, str) else repr(value))
