"""The port for swaps under way: where each stands outlives every crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from orrange_p2p.core.ids import MarketId, MatchId
from orrange_p2p.core.swaps.agreement import Deal
from orrange_p2p.core.swaps.htlc import Swap, SwapProgress

__all__ = ["Shown", "SwapRecord", "SwapStore"]


class Shown(NamedTuple):
    """The transactions that a look at the chains showed last, for people; empty: none."""

    own_lock: str = ""
    own_end: str = ""
    other_lock: str = ""
    other_end: str = ""


class SwapRecord(NamedTuple):
    """A trade of ours, the swap that settles it, and where it stands."""

    deal: Deal
    swap: Swap | None
    """None where the two sides' terms make no swap; then it has ended before it began."""
    progress: SwapProgress = SwapProgress()
    shown: Shown = Shown()
    problem: str = ""
    """Why there is no swap, or why it goes on otherwise than hoped, in words."""


class SwapStore(Protocol):
    """What a party must not forget of its swaps.

    Every write returns only after it would survive a power failure, whole or not at all.
    ``StoreError`` if the disk fails.
    """

    @property
    def begun_ms(self) -> int:
        """When this store was made, by the wall clock. What we did about swaps that bound before
        then may be missing in it."""
        ...

    async def keep(self, records: Sequence[SwapRecord]) -> None:
        """Keep new ones. One that is kept already stays as it is."""
        ...

    async def record(
        self, name: MatchId, progress: SwapProgress, shown: Shown, problem: str
    ) -> None:
        """Note where a swap stands now. ``CallerError`` for one that is not kept."""
        ...

    async def get(self, name: MatchId) -> SwapRecord | None: ...

    async def open(self, market: MarketId) -> Sequence[SwapRecord]:
        """All that have not ended, in the order in which they were kept."""
        ...

    async def is_used(self, hashlock: bytes, but: MatchId) -> bool:
        """Whether a swap other than ``but`` has this hash, in whichever market and state."""
        ...

    async def swaps(
        self, market: MarketId, since: int = 0, *, limit: int = 256
    ) -> Sequence[tuple[int, SwapRecord]]:
        """The first ``limit`` of those after position ``since``, with their positions: these are
        above 0 and grow in the order in which swaps were kept."""
        ...

    async def count(self, market: MarketId) -> Mapping[int, int]:
        """How many swaps stand at each state; those of which there are none are left out."""
        ...
