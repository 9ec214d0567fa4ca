"""The trades of one market that are not settled for good, and where each stands.

Whatever moves one is noted in the store before anybody makes anything of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from typing import Final

import structlog
import trio

from orrange_p2p.core.ids import MarketId, MatchId
from orrange_p2p.core.swaps.atomic import Effect, Event, Fact, Progress, TradeState, advance
from orrange_p2p.ports import Clock
from orrange_p2p.ports.trades import TradeRecord, TradeStore

__all__ = ["OpenTrades"]

log = structlog.get_logger()

FIRST_REST_S: Final = 10.0
"""After a trade's first failure; twice as long after each further one."""
MAX_UNTOLD: Final = 16_384
"""Trades that logs tell of and we do not know, remembered in case they become ours. Most never do:
the contract is the whole network's."""
MAX_FACTS: Final = 4
"""Remembered of each; anyone can make the contract repeat itself, and the last fact counts most."""
_ANY: Final = frozenset(TradeState)
_SHOWN: Final = (TradeState.MINED, TradeState.DENIED)


class OpenTrades:
    """In the order in which they bound. They come from ``Bindings``, through the store."""

    def __init__(
        self, market_id: MarketId, store: TradeStore, clock: Clock, counters: Counter[str]
    ) -> None:
        self._market_id = market_id
        self._store = store
        self._clock = clock
        self._counters = counters
        self._records: dict[MatchId, TradeRecord] = {}
        self._moving = trio.Lock()
        """Between reading where a trade stands and noting where it goes nothing else moves it."""
        self._untold: dict[MatchId, list[Fact]] = {}
        """What logs say of trades that we do not know, or not yet, oldest first."""
        self._rests_until: dict[MatchId, int] = {}

    def get(self, name: MatchId) -> TradeRecord | None:
        return self._records.get(name)

    def at(self, *states: TradeState) -> list[TradeRecord]:
        """Those that stand at one of these."""
        return [record for record in self._records.values() if record.progress.state in states]

    def rests_until(self, name: MatchId) -> int:
        """Our monotonic clock's time before which a trade that failed is not tried again."""
        return self._rests_until.get(name, 0)

    async def take_new(self) -> None:
        """Read the trades that have come since the last time, and after a start all.

        The other party may have settled one before our epochs had it.
        """
        async with self._moving:
            for record in await self._store.unsettled_trades(self._market_id):
                self._records.setdefault(record.trade.id, record)
        for name in self._untold.keys() & self._records.keys():
            for fact in self._untold.pop(name):
                await self.move([name], fact)

    async def show(self, name: MatchId, fact: Fact) -> None:
        """A block shows this of a trade, which may become ours yet."""
        if name in self._records:
            await self.move([name], fact)
            return
        facts = self._untold.setdefault(name, [])
        facts.append(fact)
        del facts[:-MAX_FACTS]
        while len(self._untold) > MAX_UNTOLD:
            del self._untold[next(iter(self._untold))]

    async def finalize(self, number: int) -> None:
        """Blocks up to ``number`` are final."""
        shown = [one.trade.id for one in self.at(*_SHOWN) if one.progress.block <= number]
        await self.move(shown, Fact(Event.FINALIZED), _SHOWN)

    async def take_back(self, number: int) -> None:
        """Blocks after ``number`` showed nothing."""
        replaced = [one.trade.id for one in self.at(*_SHOWN) if one.progress.block > number]
        await self.move(replaced, Fact(Event.TAKEN_BACK), _SHOWN)
        for name, facts in list(self._untold.items()):
            facts[:] = [fact for fact in facts if fact.block <= number]
            if not facts:
                del self._untold[name]

    async def move(
        self, names: Iterable[MatchId], fact: Fact, only: Container[TradeState] = _ANY
    ) -> list[Effect]:
        """Note where a fact takes those of the trades that stand at one of ``only``; what follows.

        Which they are is looked at once nothing else moves them.
        """
        async with self._moving:
            moved: dict[MatchId, Progress] = {}
            followed: list[Effect] = []
            for name in names:
                record = self._records.get(name)
                if record is None or record.progress.state not in only:
                    continue
                stands, effects = advance(record.progress, fact)
                if stands != record.progress:
                    moved[name] = stands
                followed += effects
            if moved:
                await self._store.record_progress(self._market_id, moved)
            for name, stands in moved.items():
                before = self._records[name].progress
                self._records[name] = self._records[name]._replace(progress=stands)
                if stands.failures > before.failures:
                    rest_s = FIRST_REST_S * 2 ** (stands.failures - 1)
                    self._rests_until[name] = self._clock.monotonic_ms() + int(1000 * rest_s)
                self._tell(name, stands)
        return followed

    def _tell(self, name: MatchId, stands: Progress) -> None:
        if stands.state is TradeState.SETTLED:
            self._counters["trades_settled"] += 1
            log.info("trade settled", trade=name.hex(), block=stands.block)
            del self._records[name]
            self._rests_until.pop(name, None)
        elif stands.state is TradeState.DEFAULTED:
            self._counters["trades_defaulted"] += 1
            log.warning(
                "trade not settled: a party could not pay, or refused",
                trade=name.hex(),
                party=stands.blamed.hex(),
                block=stands.block,
                transaction=stands.tx_hash.hex(),
            )
        elif stands.state is TradeState.ABANDONED:
            self._counters["trades_abandoned"] += 1
            log.error("trade given up: it keeps failing", trade=name.hex())
        elif stands.state is TradeState.EXPIRED:
            self._counters["trades_expired"] += 1
            log.warning("trade not settled in time: it never will be", trade=name.hex())
            del self._records[name]
            self._rests_until.pop(name, None)
