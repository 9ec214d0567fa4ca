"""``[chain."eip155:1"]`` and ``[chain."bip122:..."]`` in ``node.toml``: where a chain is to be
found, and what to pay on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from orrange_p2p.chains.bitcoin.config import BitcoinConfig, network_of
from orrange_p2p.chains.evm.config import EvmConfig, check_url
from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.daemon.tables import TableKind, between, parse_tables, tables_to_toml

__all__ = ["ChainConfig", "chains_to_toml", "parse_chains"]

ChainConfig = EvmConfig | BitcoinConfig
FINALITY_TAGS: Final = ("finalized", "safe")


def parse_chains(value: object) -> tuple[ChainConfig, ...]:
    """The chains of the table ``chain``. Raises ``ConfigError`` that names chain and key."""
    return parse_tables(value, '[chain."eip155:1"]', _kind_of)


def chains_to_toml(chains: Sequence[ChainConfig]) -> str:
    """The tables that ``parse_chains`` reads back to equal configurations."""
    return "".join(
        tables_to_toml("chain", [one], tuple(_kind_of(one.chain).keys)) for one in chains
    )


def _kind_of(name: str) -> TableKind:
    if name.startswith("bip122:"):
        network_of(name)
        return _BITCOIN
    evm_chain_id(name)
    return _EVM


def _evm(name: str, **values: Any) -> EvmConfig:
    config = EvmConfig(name, **values)
    if config.min_priority_fee_wei > config.max_fee_wei:
        raise ConfigError("min_priority_fee_wei is above max_fee_wei")
    return config


def _bitcoin(name: str, **values: Any) -> BitcoinConfig:
    config = BitcoinConfig(name, **values)
    if config.min_rate > config.max_rate:
        raise ConfigError("min_rate is above max_rate")
    return config


def _url(value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError("must be a URL in quotes")
    if any(char in value for char in '"\\') or not value.isprintable():
        raise ConfigError("a URL has no quotes, backslashes or control characters")
    return check_url(value)


def _endpoints(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(url, str) for url in value):
        raise ConfigError('must be a list such as ["ws://127.0.0.1:8545"]')
    if len(set(value)) < len(value):
        raise ConfigError("lists something twice")
    return tuple(map(_url, value))


def _endpoint(value: object) -> str:
    url = _url(value)
    if not url.startswith("http"):
        raise ConfigError("bitcoind answers over http or https, such as http://127.0.0.1:8332")
    return url


def _file(value: object) -> str:
    is_path = isinstance(value, str) and value.isprintable() and '"' not in value
    if not is_path or "\\" in str(value):
        raise ConfigError("must be a path in quotes, or empty")
    text = str(value)
    if text and not Path(text).is_absolute():
        raise ConfigError(f"{text!r} must be an absolute path")
    return text


def _tag(value: object) -> str:
    if value not in FINALITY_TAGS:
        raise ConfigError(f"{value!r} is none of: {', '.join(FINALITY_TAGS)}")
    return str(value)


_EVM: Final = TableKind(
    _evm,
    "endpoints",
    {
        "endpoints": _endpoints,
        "finality": _tag,
        "finality_depth": between(1, 1_000_000),
        "max_fee_wei": between(1, 10**18),
        "min_priority_fee_wei": between(0, 10**18),
        "bump_after_blocks": between(1, 10_000),
        "poll_interval_ms": between(10, 600_000),
        "timeout_ms": between(100, 120_000),
    },
)
_BITCOIN: Final = TableKind(
    _bitcoin,
    "endpoint",
    {
        "endpoint": _endpoint,
        "cookie_file": _file,
        "finality_depth": between(1, 1_000),
        "min_rate": between(1_000, 10_000_000),
        "max_rate": between(1_000, 10_000_000),
        "bump_after_blocks": between(1, 1_000),
        "poll_interval_ms": between(10, 600_000),
        "timeout_ms": between(100, 120_000),
    },
)
assert {"chain", *_EVM.keys} == {field.name for field in attrs.fields(EvmConfig)}
assert {"chain", *_BITCOIN.keys} == {field.name for field in attrs.fields(BitcoinConfig)}
