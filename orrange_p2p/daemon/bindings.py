"""Keeping what settlement needs of our own trades, before anything else is made of an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from orrange_p2p.core.fold import Fold
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Address, MarketId, MatchId
from orrange_p2p.core.replica import AppliedEpoch
from orrange_p2p.core.swaps.atomic import TradeState
from orrange_p2p.core.swaps.binding import Binder, BoundTrade, Consent, Taken
from orrange_p2p.ports.trades import TradeRecord, TradeStore

__all__ = ["Bindings"]

log = structlog.get_logger()


class Bindings:
    """The trades of some authors in one market, from their matches on.

    A crash between an epoch and its record here loses nothing: what is not kept is computed again
    from the same epochs, since these are noted, and pruned behind, only afterwards.
    """

    def __init__(
        self,
        store: TradeStore,
        market: Market,
        market_id: MarketId,
        authors: Iterable[Address],
        counters: Counter[str],
    ) -> None:
        self._store = store
        self._market_id = market_id
        self._binder = Binder(market, market_id, authors)
        self._counters = counters
        self.on_trades: list[Callable[[Sequence[BoundTrade]], None]] = []
        """Each is called with trades once they are kept; after a restart perhaps once more."""

    async def kept(self) -> Mapping[tuple[MatchId, Address], Consent]:
        """The consents in the store."""
        return await self._store.consents(self._market_id)

    def begin(self, fold: Fold, kept: Mapping[tuple[MatchId, Address], Consent]) -> None:
        """Go on from a state, before the next epoch is applied to it."""
        self._binder.begin(fold.matches.values(), kept)

    async def standing(self) -> dict[str, int]:
        """How many trades stand where."""
        counts = await self._store.count_trades(self._market_id)
        return {TradeState(state).name.lower(): count for state, count in sorted(counts.items())}

    async def trades(self, since: int, limit: int) -> Sequence[tuple[int, TradeRecord]]:
        """Those after a position, with their positions."""
        return await self._store.trades(self._market_id, since, limit=limit)

    async def take(self, epochs: Sequence[AppliedEpoch], fold: Fold) -> None:
        """Keep what these epochs brought; durable on return.

        One write, on its way before anybody else runs: no checkpoint of these epochs is kept
        before it.
        """
        unsigned = self._binder.unsigned
        each = [self._binder.take(facts, outcome, fold.accounts) for facts, outcome in epochs]
        taken = Taken(
            {key: consent for one in each for key, consent in one.consents.items()},
            tuple(trade for one in each for trade in one.trades),
            tuple(name for one in each for name in one.lapsed),
        )
        if self._binder.unsigned > unsigned:
            self._counters["trades_unsigned"] += self._binder.unsigned - unsigned
            log.warning(
                "bound without our having seen both accepts: the other party has to settle",
                trades=self._binder.unsigned - unsigned,
                epoch=epochs[-1].outcome.epoch,
            )
        if taken:
            await self._store.keep_bindings(self._market_id, taken)
        if taken.trades:
            for notify in self.on_trades:
                notify(taken.trades)
