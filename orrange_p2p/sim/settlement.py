"""Trades on a simulated chain: the production table of settlement (``core.swaps.atomic``), run by
both parties of each trade, over blocks that fill up, are replaced, or come too late.

The chain is as much of one as settlement sees: transactions wait in the order in which they came,
blocks have room for so many trades and are final after so many more, a trade settles once or names
who did not pay. Fees are counted in units of what one trade pays when nobody is in a hurry.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from orrange_p2p.core.fold import EpochOutcome
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Address, MatchId, TimeMs
from orrange_p2p.core.matches import Match
from orrange_p2p.core.swaps import atomic
from orrange_p2p.core.swaps.atomic import Event, Fact, Progress, TradeState, may_send
from orrange_p2p.core.swaps.binding import BoundTrade, Consent
from orrange_p2p.sim.engine import Engine
from orrange_p2p.sim.measures import Counts
from orrange_p2p.sim.scenario import Attack, AttackKind, Scenario

__all__ = ["Settlement"]

LOOK_US: Final = 1_000_000
"""How often a party looks for whose turn it is."""
WORST: Final = 100
"""Of a price's change against a defaulter, the least that makes it default, in millionths."""
_UNSIGNED: Final = Consent(Address(bytes(20)), (), bytes(65))
_SHOWN: Final = (TradeState.MINED, TradeState.DENIED)


class _Shown(NamedTuple):
    """What a block says of a trade."""

    trade: MatchId
    event: Event
    blamed: Address


class _Block(NamedTuple):
    time_ms: TimeMs
    shown: tuple[_Shown, ...]
    fee: int
    """Of each trade in it, in millionths of the usual one."""


class _Deal:
    """A bound trade, and where each party believes it stands."""

    __slots__ = ("bound", "lots", "parties", "price", "settled_us", "since_us")

    def __init__(self, match: Match, bound: BoundTrade, now_us: int) -> None:
        self.bound = bound
        self.price: int = match.price
        self.lots: int = match.quantity
        self.parties: dict[Address, Progress] = {}
        self.since_us = now_us
        self.settled_us: int | None = None


class Settlement:
    """All trades of a network, on one chain."""

    def __init__(
        self, scenario: Scenario, engine: Engine, market: Market, start_ms: TimeMs
    ) -> None:
        self._config = scenario.chain
        self._engine = engine
        self._market = market
        self._start_ms = start_ms
        self._attacks = [one for one in scenario.attack if one.kind in _OF_CHAINS]
        self.defaulters: frozenset[Address] = frozenset()
        """Traders that take their allowance back from trades the price has moved against."""
        self.last_price = 0
        self.tell: Callable[[Address, Address, int], None] = lambda buyer, seller, paid: None
        """Told of each trade that settled when its block is final."""
        self._deals: dict[MatchId, _Deal] = {}
        self._open: dict[MatchId, None] = {}
        self._mempool: deque[MatchId] = deque()
        self._waiting: set[MatchId] = set()
        self._blocks: list[_Block] = []
        self._ended_by: dict[MatchId, int] = {}
        """The block that shows how a trade ended."""
        self.counts: Counter[str] = Counter()
        self.gain = 0
        """What defaulters kept by not paying, in lots times ticks."""

    def begin(self) -> None:
        """Set the chain going."""
        self._engine.after(self._config.block_ms * 1000, self._mine)
        self._engine.after(LOOK_US, self._look)
        for attack in self._attacks:
            if attack.kind is AttackKind.REORGANISE:
                self._engine.at(attack.from_s * 1_000_000, self._replace, attack)

    def take(self, outcome: EpochOutcome, party: Address) -> None:
        """An epoch was applied where ``party`` is: its trades are due."""
        if outcome.matches:
            self.last_price = outcome.matches[-1].price
        for match in outcome.trades:
            if party in (match.buyer, match.seller):
                deal = self._deals.get(match.id)
                if deal is None:
                    trade = match.trade(self._market, self._market.id)
                    bound = BoundTrade(
                        trade, match.maker.author, outcome.time_ms, _UNSIGNED, _UNSIGNED
                    )
                    deal = self._deals[match.id] = _Deal(match, bound, self._engine.now_us)
                    self._open[match.id] = None
                    self.counts["bound"] += 1
                deal.parties.setdefault(party, Progress())

    def _now_ms(self) -> TimeMs:
        return TimeMs(self._start_ms + self._engine.now_us // 1000)

    # --- the parties ---

    def _advance(self, deal: _Deal, party: Address, fact: Fact) -> None:
        before = deal.parties[party]
        deal.parties[party], _ = atomic.advance(before, fact)
        if deal.parties[party].state is TradeState.SETTLED and deal.settled_us is None:
            deal.settled_us = self._engine.now_us

    def _look(self) -> None:
        """Whoever's turn it is sends what is due; and what is past its time is given up."""
        self._engine.after(LOOK_US, self._look)
        final_ms = self._final_ms()
        for name in list(self._open):
            deal = self._deals[name]
            for party, progress in list(deal.parties.items()):
                if progress.state in (TradeState.DUE, TradeState.PUBLISHING, TradeState.SENT):
                    if final_ms >= deal.bound.trade.expiry_ms and name not in self._ended_by:
                        self._advance(deal, party, Fact(Event.OVERDUE))
                    elif progress.state is TradeState.DUE and self._may_send(deal, party):
                        self._send(name, deal, party)
            if all(one.state in atomic.ENDED for one in deal.parties.values()):
                del self._open[name]

    def _may_send(self, deal: _Deal, party: Address) -> bool:
        return may_send(deal.bound, (party,), self._now_ms(), self._config.fallback_ms)

    def _send(self, name: MatchId, deal: _Deal, party: Address) -> None:
        self._advance(deal, party, Fact(Event.BATCHED, intent=party.hex()))
        self._advance(deal, party, Fact(Event.KEPT))
        self.counts["sent"] += 1
        if name not in self._waiting:
            self._waiting.add(name)
            self._mempool.append(name)

    # --- the chain ---

    def _final_ms(self) -> TimeMs:
        """Time of the latest final block."""
        place = len(self._blocks) - 1 - self._config.confirmations
        return TimeMs(0) if place < 0 else self._blocks[place].time_ms

    def _room(self) -> tuple[int, int]:
        """Trades that a block takes now, and what each pays."""
        room, now_s = self._config.trades_per_block, self._engine.now_us // 1_000_000
        for attack in self._attacks:
            if attack.kind is AttackKind.FEE_SPIKE and attack.from_s <= now_s < attack.until_s:
                room = max(1, room * attack.percent // 100)
        return room, 1_000_000 * self._config.trades_per_block // room

    def _mine(self) -> None:
        self._engine.after(self._config.block_ms * 1000, self._mine)
        room, fee = self._room()
        height = len(self._blocks)
        shown: list[_Shown] = []
        while self._mempool and len(shown) < room:
            name = self._mempool.popleft()
            self._waiting.discard(name)
            if name not in self._ended_by:
                shown.append(self._execute(name))
        self._blocks.append(_Block(self._now_ms(), tuple(shown), fee))
        self.counts["fees"] += fee * len(shown)
        for one in shown:
            if one.event is not Event.SHOWN_FAILURE:
                self._ended_by[one.trade] = height
            for party in self._deals[one.trade].parties:
                fact = Fact(one.event, block=height, blamed=one.blamed)
                self._advance(self._deals[one.trade], party, fact)
        self._finalize(height - self._config.confirmations)

    def _execute(self, name: MatchId) -> _Shown:
        """What the contract says of a trade now."""
        deal = self._deals[name]
        if self._now_ms() >= deal.bound.trade.expiry_ms:
            return _Shown(name, Event.SHOWN_FAILURE, Address(b""))
        trade = deal.bound.trade
        moved = self.last_price - deal.price
        for party, loss in ((trade.buyer, -moved), (trade.seller, moved)):
            if party in self.defaulters and loss * 1_000_000 > deal.price * WORST:
                self.gain += loss * deal.lots
                return _Shown(name, Event.SHOWN_DEFAULT, party)
        return _Shown(name, Event.SHOWN_SETTLED, Address(b""))

    def _finalize(self, height: int) -> None:
        if height < 0:
            return
        for one in self._blocks[height].shown:
            deal = self._deals[one.trade]
            trade = deal.bound.trade
            if one.event is Event.SHOWN_SETTLED:
                self.tell(trade.buyer, trade.seller, deal.price * deal.lots)
            for party, progress in list(deal.parties.items()):
                if progress.state in _SHOWN and progress.block == height:
                    self._advance(deal, party, Fact(Event.FINALIZED))

    def _replace(self, attack: Attack) -> None:
        """The latest blocks are replaced by empty ones; what was in them waits again."""
        self._engine.after(attack.every_s * 1_000_000, self._replace, attack)
        for height in range(max(0, len(self._blocks) - attack.depth), len(self._blocks)):
            block = self._blocks[height]
            self._blocks[height] = block._replace(shown=())
            for one in block.shown:
                deal = self._deals[one.trade]
                self._ended_by.pop(one.trade, None)
                for party, progress in list(deal.parties.items()):
                    if progress.state in _SHOWN and progress.block == height:
                        self._advance(deal, party, Fact(Event.TAKEN_BACK))
                        self.counts["taken_back"] += 1
                    elif progress.state in atomic.ENDED and progress.block == height:
                        self.counts["final_undone"] += 1
                if one.trade not in self._waiting:
                    self._waiting.add(one.trade)
                    self._mempool.append(one.trade)

    # --- figures ---

    def took_ms(self) -> Counts:
        """From binding to the first party's final block: how many settled trades took how many
        whole milliseconds."""
        took = [
            (deal.settled_us - deal.since_us) // 1000
            for deal in self._deals.values()
            if deal.settled_us is not None
        ]
        return np.bincount(np.array(took, np.int64), minlength=1)

    def figures(self) -> dict[str, Any]:
        """How trades ended; a trade counts as what its parties agree on, or as open."""
        ends: Counter[str] = Counter()
        for deal in self._deals.values():
            states = {progress.state for progress in deal.parties.values()}
            is_one = len(states) == 1 and next(iter(states)) in atomic.ENDED
            ends[next(iter(states)).name.lower() if is_one else "open"] += 1
        return {
            **{name: ends[name] for name in ("settled", "defaulted", "expired", "open")},
            "blocks": len(self._blocks),
            "taken_back": self.counts["taken_back"],
            "final_undone": self.counts["final_undone"],
            "fees": round(self.counts["fees"] / 1_000_000, 1),
            "kept_by_defaulters": self.gain,
        }


_OF_CHAINS: Final = (AttackKind.REORGANISE, AttackKind.FEE_SPIKE)
