"""Swaps without a disk: what tests use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

import trio

from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import MarketId, MatchId
from orrange_p2p.core.swaps.htlc import ENDED, SwapProgress
from orrange_p2p.ports.swaps import Shown, SwapRecord

__all__ = ["MemorySwaps"]


class MemorySwaps:
    """Implements ``SwapStore`` for as long as the object lives."""

    def __init__(self, begun_ms: int = 0) -> None:
        self._begun_ms = begun_ms
        self._records: dict[MatchId, SwapRecord] = {}

    @property
    def begun_ms(self) -> int:
        return self._begun_ms

    async def keep(self, records: Sequence[SwapRecord]) -> None:
        await trio.lowlevel.checkpoint()
        for record in records:
            self._records.setdefault(record.deal.id, record)

    async def record(
        self, name: MatchId, progress: SwapProgress, shown: Shown, problem: str
    ) -> None:
        await trio.lowlevel.checkpoint()
        if name not in self._records:
            raise CallerError(f"there is no swap 0x{name.hex()}")
        self._records[name] = self._records[name]._replace(
            progress=progress, shown=shown, problem=problem
        )

    async def get(self, name: MatchId) -> SwapRecord | None:
        await trio.lowlevel.checkpoint()
        return self._records.get(name)

    async def open(self, market: MarketId) -> Sequence[SwapRecord]:
        await trio.lowlevel.checkpoint()
        return [one for one in self._of(market) if one.progress.state not in ENDED]

    async def is_used(self, hashlock: bytes, but: MatchId) -> bool:
        await trio.lowlevel.checkpoint()
        return any(
            one.swap is not None and one.swap.own.hashlock == hashlock
            for name, one in self._records.items()
            if name != but
        )

    async def swaps(
        self, market: MarketId, since: int = 0, *, limit: int = 256
    ) -> Sequence[tuple[int, SwapRecord]]:
        await trio.lowlevel.checkpoint()
        placed = enumerate(self._records.values(), start=1)
        wanted = (
            (place, one)
            for place, one in placed
            if place > since and one.deal.trade.market == market
        )
        return list(islice(wanted, limit))

    async def count(self, market: MarketId) -> Mapping[int, int]:
        await trio.lowlevel.checkpoint()
        return Counter(int(one.progress.state) for one in self._of(market))

    def _of(self, market: MarketId) -> list[SwapRecord]:
        return [one for one in self._records.values() if one.deal.trade.market == market]
