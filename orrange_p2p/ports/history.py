"""Where the events that reputation is made of are kept, and bonds on Bitcoin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from orrange_p2p.core.bitcoin_bonds import BitcoinBond
from orrange_p2p.core.histories import ChainEvent

__all__ = ["BondStore", "HistoryStore", "ReadTo"]


class ReadTo(NamedTuple):
    """The last final block whose events are kept."""

    block: int
    hash: bytes
    time_s: int
    """On Bitcoin, the median time past."""


class HistoryStore(Protocol):
    """Events of final blocks of one chain, and how far it was read. ``StoreError`` if a disk
    fails."""

    async def read_to(self) -> ReadTo | None:
        """None before the first page."""
        ...

    async def append(self, events: Sequence[ChainEvent], read_to: ReadTo) -> None:
        """Keep a page together with how far it goes: both or neither, durable on return.

        Raises ``CallerError``, and keeps nothing, for a page that does not go on from the last:
        events that are not after it, or after the page's own end.
        """
        ...

    async def events(self, last: int) -> Sequence[ChainEvent]:
        """All events of blocks up to ``last``, in their order."""
        ...

    async def bitcoin_bindings(self) -> Sequence[ChainEvent]:
        """Those that name a Bitcoin key, in their order."""
        ...

    async def peer_bindings(self) -> Sequence[ChainEvent]:
        """Those that name a peer id, in their order."""
        ...

    async def counts(self) -> dict[str, int]:
        """How many events of each kind are kept."""
        ...


class BondStore(Protocol):
    """Bonds in deep blocks of a Bitcoin chain, and how far it was read. ``StoreError`` if a disk
    fails."""

    async def read_to(self) -> ReadTo | None:
        """None before the first page."""
        ...

    async def append(self, bonds: Sequence[BitcoinBond], read_to: ReadTo) -> None:
        """As ``HistoryStore.append``."""
        ...

    async def bonds(self) -> Sequence[BitcoinBond]:
        """All of them, in their order."""
        ...
