"""``[chain."eip155:1"]`` in ``node.toml``: where a chain is to be found and what to pay on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from orrange_p2p.chains.evm.config import EvmConfig, check_url
from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.errors import ConfigError

__all__ = ["chains_to_toml", "parse_chains"]

FINALITY_TAGS: Final = ("finalized", "safe")


def parse_chains(value: object) -> tuple[EvmConfig, ...]:
    """The chains of the table ``chain``. Raises ``ConfigError`` that names chain and key."""
    if not isinstance(value, dict):
        raise ConfigError('must be tables such as [chain."eip155:1"]')
    return tuple(_chain(name, table) for name, table in value.items())


def chains_to_toml(chains: Sequence[EvmConfig]) -> str:
    """The tables that ``parse_chains`` reads back to equal configurations."""
    text = ""
    for config in chains:
        text += f'\n[chain."{config.chain}"]\n'
        for name in _KEYS:
            value = getattr(config, name)
            if isinstance(value, tuple):
                value = "[" + ", ".join(f'"{url}"' for url in value) + "]"
            elif isinstance(value, str):
                value = f'"{value}"'
            text += f"{name} = {value}\n"
    return text


def _chain(name: str, table: object) -> EvmConfig:
    evm_chain_id(name)
    if not isinstance(table, dict) or "endpoints" not in table:
        raise ConfigError(f'"{name}": names no endpoints')
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise ConfigError(f'"{name}": {unknown[0]}: unknown key; known: {", ".join(_KEYS)}')
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = _KEYS[key](value)
        except ConfigError as error:
            raise ConfigError(f'"{name}": {key}: {error}') from None
    config = EvmConfig(name, **values)
    if config.min_priority_fee_wei > config.max_fee_wei:
        raise ConfigError(f'"{name}": min_priority_fee_wei is above max_fee_wei')
    return config


def _endpoints(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(url, str) for url in value):
        raise ConfigError('must be a list such as ["ws://127.0.0.1:8545"]')
    if len(set(value)) < len(value):
        raise ConfigError("lists something twice")
    for url in value:
        if any(char in url for char in '"\\') or not url.isprintable():
            raise ConfigError("a URL has no quotes, backslashes or control characters")
    return tuple(map(check_url, value))


def _tag(value: object) -> str:
    if value not in FINALITY_TAGS:
        raise ConfigError(f"{value!r} is none of: {', '.join(FINALITY_TAGS)}")
    return str(value)


def _between(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ConfigError(f"must be an integer from {least} to {most}, not {value!r}")
        return value

    return parse


_KEYS: Final[Mapping[str, Callable[[object], Any]]] = {
    "endpoints": _endpoints,
    "finality": _tag,
    "finality_depth": _between(1, 1_000_000),
    "max_fee_wei": _between(1, 10**18),
    "min_priority_fee_wei": _between(0, 10**18),
    "bump_after_blocks": _between(1, 10_000),
    "poll_interval_ms": _between(10, 600_000),
    "timeout_ms": _between(100, 120_000),
}
assert {"chain", *_KEYS} == {field.name for field in attrs.fields(EvmConfig)}
