"""The port for chains on which one leg of a swap is locked, whatever kind of chain it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from orrange_p2p.core.ids import MatchId
from orrange_p2p.core.swaps.legs import Lock, LockView

__all__ = ["ChainTime", "Leg"]


class ChainTime(NamedTuple):
    """A head, and what time it is by it."""

    height: int
    time_s: int
    """Seconds since the Unix epoch, as timelocks are judged. On Bitcoin it trails the clock by
    about an hour."""


class Leg(Protocol):
    """One chain. Every call can be repeated: what it began before goes on, nothing is done twice.

    What is sent is kept before it is broadcast, and from then on broadcast again at each block and
    replaced by one with a higher fee as its time runs out, whatever crashes or is reorganised.
    ``UnreachableError`` or ``DeadlineError``: the chain cannot be asked now. ``DisagreementError``:
    its endpoints contradict each other. ``RefusedError``: it will not, and says why.
    """

    @property
    def chain(self) -> str:
        """CAIP-2."""
        ...

    def party(self, trade: MatchId) -> bytes:
        """Who we are in this swap, as ``Lock.sender`` and ``recipient``: always the same, from the
        seed alone."""
        ...

    async def now(self) -> ChainTime:
        """The head."""
        ...

    def heads(self) -> AsyncIterator[ChainTime]:
        """The head, and each new one; ends only by cancellation."""
        ...

    async def check(self, lock: Lock) -> None:
        """Whether we could lock this now. ``RefusedError`` says why not: funds, allowance, dust."""
        ...

    async def lock(self, lock: Lock, *, by_s: int) -> None:
        """See to it that our lock is in a block before ``by_s``, by the chain's time."""
        ...

    async def cancel(self, lock: Lock) -> None:
        """See to it that a lock of ours that is in no block never gets into one. It may be too
        late, which a later view tells."""
        ...

    async def view(self, lock: Lock) -> LockView:
        """What the chain shows of anybody's lock with these terms."""
        ...

    async def claim(self, lock: Lock, preimage: bytes, *, by_s: int) -> None:
        """See to it that the recipient gets it, before ``by_s`` by the chain's time."""
        ...

    async def refund(self, lock: Lock) -> None:
        """See to it that the sender gets it back. ``CallerError`` before its time."""
        ...

    async def rescue(self, lock: Lock) -> bytes:
        """What somebody without our keys needs to end the lock in our favour, beside its terms;
        empty where nothing is needed. Bitcoin: a signed refund, and a claim without the secret."""
        ...

    async def save(self, lock: Lock, rescue: bytes, preimage: bytes) -> None:
        """End somebody's lock in their favour, with what ``rescue`` gave them: by a claim with the
        secret, or without one by a refund. ``RefusedError``, until it can be done."""
        ...
