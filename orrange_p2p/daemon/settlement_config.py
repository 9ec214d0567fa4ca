"""``[settlement."eip155:1"]`` in ``node.toml``: by which contract of a chain trades are settled."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address

__all__ = ["SettlingConfig", "parse_settlements", "settlements_to_toml"]

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


@attrs.frozen
class SettlingConfig:
    """Settling the markets between two tokens of one chain."""

    chain: str
    """CAIP-2; one of the configured chains."""
    contract: Address
    """The network's ``Settlement`` there."""
    trader: int = 1
    """Which trader key pays for transactions; counted from 1."""
    gather_ms: int = 3_000
    """Trades that bind within so long share a transaction."""
    fallback_ms: int = 60_000
    """How long the maker's node has before the taker's sends too."""


def parse_settlements(value: object) -> tuple[SettlingConfig, ...]:
    """The tables under ``settlement``. Raises ``ConfigError`` that names chain and key."""
    if not isinstance(value, dict):
        raise ConfigError('must be tables such as [settlement."eip155:1"]')
    return tuple(_settlement(name, table) for name, table in value.items())


def settlements_to_toml(settlements: Sequence[SettlingConfig]) -> str:
    """The tables that ``parse_settlements`` reads back to equal configurations."""
    text = ""
    for one in settlements:
        text += f'\n[settlement."{one.chain}"]\ncontract = "0x{one.contract.hex()}"\n'
        text += "".join(f"{name} = {getattr(one, name)}\n" for name in _KEYS if name != "contract")
    return text


def _settlement(name: str, table: object) -> SettlingConfig:
    evm_chain_id(name)
    if not isinstance(table, dict) or "contract" not in table:
        raise ConfigError(f'"{name}": names no contract')
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise ConfigError(f'"{name}": {unknown[0]}: unknown key; known: {", ".join(_KEYS)}')
    values = {}
    for key, value in table.items():
        try:
            values[key] = _KEYS[key](value)
        except ConfigError as error:
            raise ConfigError(f'"{name}": {key}: {error}') from None
    return SettlingConfig(name, **values)


def _contract(value: object) -> Address:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise ConfigError(f"{value!r} is not an address: 0x and 40 hexadecimal digits")
    return Address(bytes.fromhex(value[2:]))


def _between(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ConfigError(f"must be an integer from {least} to {most}, not {value!r}")
        return value

    return parse


_KEYS: Final[Mapping[str, Callable[[object], Any]]] = {
    "contract": _contract,
    "trader": _between(1, 1_000),
    "gather_ms": _between(0, 600_000),
    "fallback_ms": _between(0, 86_400_000),
}
assert {"chain", *_KEYS} == {field.name for field in attrs.fields(SettlingConfig)}
