"""The port for trades that await their settlement, which no pruning of the log may take away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from orrange_p2p.core.ids import Address, MarketId, MatchId
from orrange_p2p.core.swaps.atomic import Progress
from orrange_p2p.core.swaps.binding import BoundTrade, Consent, Taken

__all__ = ["TradeRecord", "TradeStore"]


class TradeRecord(NamedTuple):
    """A trade of ours, and where its settlement stands."""

    trade: BoundTrade
    progress: Progress


class TradeStore(Protocol):
    """What a party must not forget of its matches and trades.

    Every write returns only after it would survive a power failure, whole or not at all.
    ``StoreError`` if the disk fails.
    """

    async def keep_bindings(self, market: MarketId, taken: Taken) -> None:
        """Keep what an epoch brought: consents of one side; trades, as due, which take the place of
        their consents; of lapsed matches nothing is kept. The same again is a no-op, also if the
        trade has gone on meanwhile."""
        ...

    async def consents(self, market: MarketId) -> Mapping[tuple[MatchId, Address], Consent]:
        """Those of matches that were neither bound nor lapsed."""
        ...

    async def record_progress(self, market: MarketId, progress: Mapping[MatchId, Progress]) -> None:
        """Note where trades stand now. ``CallerError``, and nothing is noted, for one not kept."""
        ...

    async def unsettled_trades(self, market: MarketId) -> Sequence[TradeRecord]:
        """All that neither settled for good nor expired, in the order in which they were kept."""
        ...

    async def trades(
        self, market: MarketId, since: int = 0, *, limit: int = 256
    ) -> Sequence[tuple[int, TradeRecord]]:
        """The first ``limit`` of those after position ``since``, settled ones too, with their
        positions: these are above 0 and grow in the order in which trades were kept."""
        ...

    async def count_trades(self, market: MarketId) -> Mapping[int, int]:
        """How many trades stand at each state; those of which there are none are left out."""
        ...
