"""By which contracts of a chain trades are settled: ``[settlement."eip155:1"]`` for those that are
one call, ``[swap."eip155:1"]`` for the legs of swaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.ids import Address
from orrange_p2p.daemon.tables import TableKind, address, between, parse_tables, tables_to_toml

__all__ = [
    "SettlingConfig",
    "SwapConfig",
    "parse_settlements",
    "parse_swaps",
    "settlements_to_toml",
    "swaps_to_toml",
]


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


@attrs.frozen
class SwapConfig:
    """Locking the legs of swaps on an EVM chain."""

    chain: str
    """CAIP-2; one of the configured chains."""
    contract: Address
    """A ``HashTimelock`` there; the same at all nodes that swap with one another."""
    trader: int = 1
    """Which trader key locks, receives and pays; counted from 1."""


def parse_settlements(value: object) -> tuple[SettlingConfig, ...]:
    """The tables under ``settlement``. Raises ``ConfigError`` that names chain and key."""
    return parse_tables(value, '[settlement."eip155:1"]', _evm(_SETTLING))


def parse_swaps(value: object) -> tuple[SwapConfig, ...]:
    """The tables under ``swap``. Raises ``ConfigError`` that names chain and key."""
    return parse_tables(value, '[swap."eip155:1"]', _evm(_SWAP))


def settlements_to_toml(settlements: Sequence[SettlingConfig]) -> str:
    """The tables that ``parse_settlements`` reads back to equal configurations."""
    return tables_to_toml("settlement", settlements, tuple(_SETTLING.keys))


def swaps_to_toml(swaps: Sequence[SwapConfig]) -> str:
    """The tables that ``parse_swaps`` reads back to equal configurations."""
    return tables_to_toml("swap", swaps, tuple(_SWAP.keys))


def _evm(kind: TableKind) -> Callable[[str], TableKind]:
    def kind_of(name: str) -> TableKind:
        evm_chain_id(name)
        return kind

    return kind_of


_SETTLING: Final = TableKind(
    SettlingConfig,
    "contract",
    {
        "contract": address,
        "trader": between(1, 1_000),
        "gather_ms": between(0, 600_000),
        "fallback_ms": between(0, 86_400_000),
    },
)
_SWAP: Final = TableKind(SwapConfig, "contract", {"contract": address, "trader": between(1, 1_000)})
assert {"chain", *_SETTLING.keys} == {field.name for field in attrs.fields(SettlingConfig)}
assert {"chain", *_SWAP.keys} == {field.name for field in attrs.fields(SwapConfig)}
