"""Trades of a market of swaps: what our accepts say, and the swap that each trade becomes.

As ``Bindings`` is for markets whose trades are one call of a contract.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

import structlog
import trio

from orrange_p2p.core.errors import PeerError
from orrange_p2p.core.fold import Fold
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Address, MarketId, MatchId, TimeMs
from orrange_p2p.core.matches import Match
from orrange_p2p.core.operations import Side
from orrange_p2p.core.replica import AppliedEpoch
from orrange_p2p.core.swaps.agreement import Deal, SwapTerms, agree, role_of
from orrange_p2p.core.swaps.binding import Consent
from orrange_p2p.core.swaps.htlc import Role, SwapProgress, SwapState
from orrange_p2p.ports.legs import Leg
from orrange_p2p.ports.swaps import SwapRecord, SwapStore

__all__ = ["Agreements"]

log = structlog.get_logger()
_NO_SWAP = SwapProgress(SwapState.UNLOCKED)


class Agreements:
    """The trades of some authors in one market.

    A crash between an epoch and its record here loses nothing: what is not kept is computed again
    from the same epochs, since these are noted, and pruned behind, only afterwards.
    """

    def __init__(
        self,
        store: SwapStore,
        market: Market,
        market_id: MarketId,
        authors: Iterable[Address],
        legs: tuple[Leg, Leg],
        secret: Callable[[MatchId], bytes],
        counters: Counter[str],
    ) -> None:
        """``legs``: on base's chain and on quote's. ``secret``: ours for a match, from the seed."""
        self._store = store
        self._market = market
        self._market_id = market_id
        self._authors = frozenset(authors)
        self._legs = legs
        self._secret = secret
        self._counters = counters
        self._turn = trio.Lock()
        self.on_swaps: list[Callable[[], None]] = []
        """Each is called once new swaps are kept."""

    def terms(self, match: Match, author: Address) -> bytes:
        """What this author's accept of the match says: always the same."""
        side = Side.BUY if author == match.buyer else Side.SELL
        base, quote = self._legs
        gives, gets = (quote, base) if side is Side.BUY else (base, quote)
        hashlock = b""
        if role_of(self._market, side) is Role.INITIATOR:
            hashlock = sha256(self._secret(match.id)).digest()
        return SwapTerms(gives.party(match.id), gets.party(match.id), hashlock).encode()

    async def kept(self) -> Mapping[tuple[MatchId, Address], Consent]:
        """Nothing: what both sides said is in the state itself until a match ends."""
        return {}

    def begin(self, fold: Fold, kept: Mapping[tuple[MatchId, Address], Consent]) -> None:
        """Go on from a state: nothing to do, likewise."""

    async def standing(self) -> dict[str, int]:
        """How many swaps stand where."""
        counts = await self._store.count(self._market_id)
        return {SwapState(state).name.lower(): count for state, count in sorted(counts.items())}

    async def swaps(self, since: int, limit: int) -> Sequence[tuple[int, SwapRecord]]:
        """Those after a position, with their positions."""
        return await self._store.swaps(self._market_id, since, limit=limit)

    async def take(self, epochs: Sequence[AppliedEpoch], fold: Fold) -> None:
        """Keep what these epochs brought; durable on return.

        One after the other: a hash that an epoch before these brought has to be known.
        """
        async with self._turn:
            records = await self._keep(epochs)
        if not records:
            return
        for record in records:
            if record.swap is None:
                self._counters["swaps_impossible"] += 1
                log.warning("no swap for a trade", trade=record.deal.id.hex(), why=record.problem)
        for notify in self.on_swaps:
            notify()

    async def _keep(self, epochs: Sequence[AppliedEpoch]) -> Sequence[SwapRecord]:
        records: list[SwapRecord] = []
        used: set[bytes] = set()
        for _, outcome in epochs:
            for match in outcome.trades:
                if self._authors & {match.buyer, match.seller}:
                    records.append(await self._record(match, outcome.time_ms, used))
        if records:
            await self._store.keep(records)
        return records

    async def _record(self, match: Match, bound_ms: TimeMs, used: set[bytes]) -> SwapRecord:
        side = Side.BUY if match.buyer in self._authors else Side.SELL
        own, other = match.buyer, match.seller
        if side is Side.SELL:
            own, other = other, own
        trade = match.trade(self._market, self._market_id)
        deal = Deal(trade, match.maker.author, bound_ms, side)
        if other in self._authors:
            why = "both sides are traders of this node: there is nothing to exchange"
            return SwapRecord(deal, None, _NO_SWAP, problem=why)
        try:
            ours = SwapTerms.decode(match.terms[own])
        except PeerError:
            why = "this node had no chains to settle on when it accepted"
            return SwapRecord(deal, None, _NO_SWAP, problem=why)
        try:
            swap = agree(self._market, deal, ours, match.terms[other])
        except PeerError as error:
            return SwapRecord(deal, None, _NO_SWAP, problem=f"the other side's terms: {error}")
        hashlock = swap.own.hashlock
        if hashlock in used or await self._store.is_used(hashlock, deal.id):
            # Its secret may be out already, or come out in the other swap at an awkward time.
            why = "the other side's hash is that of another swap"
            return SwapRecord(deal, None, _NO_SWAP, problem=why)
        used.add(hashlock)
        # What we did about a trade from before our store is not in it: never lock a second time.
        is_old = bound_ms < self._store.begun_ms
        state = SwapState.CANCELLING if is_old else SwapState.READY
        return SwapRecord(deal, swap, SwapProgress(state))
