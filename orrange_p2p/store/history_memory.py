"""The events that reputation is made of, in memory: for tests, and for who reads a chain anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orrange_p2p.core.bitcoin_bonds import BitcoinBond
from orrange_p2p.core.histories import ChainEvent
from orrange_p2p.ports.history import ReadTo
from orrange_p2p.store.chain_file import check_page

__all__ = ["MemoryBonds", "MemoryHistory"]


class MemoryHistory:
    """Implements ``HistoryStore``."""

    def __init__(self) -> None:
        self._events: list[ChainEvent] = []
        self._read_to: ReadTo | None = None

    async def read_to(self) -> ReadTo | None:
        return self._read_to

    async def append(self, events: Sequence[ChainEvent], read_to: ReadTo) -> None:
        check_page(self._read_to, events, read_to)
        self._events += events
        self._read_to = read_to

    async def events(self, last: int) -> Sequence[ChainEvent]:
        return [event for event in self._events if event.place.block <= last]

    async def bitcoin_bindings(self) -> Sequence[ChainEvent]:
        return [event for event in self._events if event.bitcoin_key]

    async def peer_bindings(self) -> Sequence[ChainEvent]:
        return [event for event in self._events if event.peer_id]

    async def counts(self) -> dict[str, int]:
        return dict(Counter(event.kind.name.lower() for event in self._events))


class MemoryBonds:
    """Implements ``BondStore``."""

    def __init__(self) -> None:
        self._bonds: list[BitcoinBond] = []
        self._read_to: ReadTo | None = None

    async def read_to(self) -> ReadTo | None:
        return self._read_to

    async def append(self, bonds: Sequence[BitcoinBond], read_to: ReadTo) -> None:
        check_page(self._read_to, bonds, read_to)
        self._bonds += bonds
        self._read_to = read_to

    async def bonds(self) -> Sequence[BitcoinBond]:
        return list(self._bonds)
