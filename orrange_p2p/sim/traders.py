"""Who trades: each writes real, signed entries, and accepts what it matches.

They are as simple as the questions need that are asked with them; none of them wants to be rich.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from orrange_p2p.core import entries
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.fold import EpochOutcome
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import ZERO32, Digest, Lots, MatchId, Price, Seq
from orrange_p2p.core.operations import (
    Accept,
    Accepted,
    Cancel,
    Evidence,
    Operation,
    Place,
    Side,
    TimeInForce,
)
from orrange_p2p.feeds.bitstamp import OrderCreated, OrderDeleted
from orrange_p2p.ports import Signer
from orrange_p2p.sim.engine import Dice, Engine

__all__ = ["Desk", "FeedTrader", "Maker", "Racer", "RandomTrader", "Taker", "Trader", "replay"]

MIDDLE: Final = 10_000
"""Ticks. What traders take for the price before there is any."""
AROUND: Final = 20
MOST_LOTS: Final = 20
MAKER_EVERY_US: Final = 1_000_000
MAKER_AWAY: Final = 3
MAKER_LOTS: Final = 50
TAKER_EVERY_US: Final = 10_000_000
TAKER_BURST: Final = 20
RACE_EVERY_US: Final = 250_000
"""A racer answers no more often, or two of them would answer each other for ever."""
THINKS_US: Final = 1_000
"""A racer's answer to what it sees."""


class Desk(Protocol):
    """Where a trader's entries go out."""

    engine: Engine

    def write(self, trader: Trader, operations: Sequence[Operation]) -> Entry | None:
        """Sign and publish the trader's next entry; None while its node is offline."""

    def fork(self, trader: Trader, one: Operation, another: Operation) -> None:
        """Sign two entries of one number, and tell each to another half of the network."""


class Trader:
    """The writer of one log, at one node."""

    refuses = False
    """Never accepts what it matches."""

    def __init__(self, genesis: Genesis, signer: Signer, home: int, dice: Dice) -> None:
        self.home = home
        self.address = signer.address
        self.dice = dice
        self.last_price = MIDDLE
        self._genesis = genesis
        self._signer = signer
        self._next_seq = 0
        self._head = Digest(ZERO32)
        self._to_accept: list[MatchId] = []
        self._uncut: list[Entry] = []

    def begin(self, desk: Desk) -> None:
        """Set it going."""

    def see(self, entry: Entry, desk: Desk) -> None:
        """An entry came to its node."""

    def note(self, outcome: EpochOutcome) -> None:
        """An epoch was applied at its node: matches of ours are accepted with the next entry."""
        if outcome.matches:
            self.last_price = outcome.matches[-1].price
        if self.refuses:
            return
        self._to_accept += [
            match.id
            for match in outcome.matches
            if self.address in (match.maker.author, match.taker.author)
        ]

    @property
    def has_matches(self) -> bool:
        return bool(self._to_accept)

    def uncut(self, first: int) -> list[Entry]:
        """Entries from this number on, which no epoch has cut; those before are forgotten."""
        self._uncut = [entry for entry in self._uncut if entry.seq >= first]
        return self._uncut

    def sign(self, operations: Sequence[Operation], proofs: Iterable[Evidence] = ()) -> Entry:
        """The next entry: these, and accepts of all that waits for one."""
        all_operations = [*operations, *proofs]
        waiting, self._to_accept = self._to_accept, []
        if waiting:
            unsigned = Accept(tuple(Accepted(name, b"") for name in sorted(waiting)), b"")
            signature = self._signer.sign(Digest(unsigned.digest(self._genesis.separator)))
            all_operations.append(unsigned._replace(signature=signature))
        entry = self._signed(all_operations)
        self._next_seq += 1
        self._head = entry.digest
        self._uncut.append(entry)
        return entry

    def sign_another(self, operations: Sequence[Operation]) -> Entry:
        """A second entry under the number of the next one: a fork."""
        return self._signed(operations)

    def _signed(self, operations: Sequence[Operation]) -> Entry:
        draft = entries.draft(
            self._genesis.separator,
            self._genesis.markets[0].id,
            self.address,
            Seq(self._next_seq),
            self._head,
            operations,
        )
        return draft.signed(self._signer.sign(draft.digest))


class RandomTrader(Trader):
    """Gode and Sunder's zero intelligence (1993), around a middle that stays."""

    def order(self) -> Place:
        dice = self.dice
        side = dice.below(2)
        away = dice.between(-AROUND // 4, AROUND)
        price = MIDDLE - away if side == Side.BUY else MIDDLE + away
        return Place(side, Price(price), Lots(dice.between(1, MOST_LOTS)))


class Maker(Trader):
    """Quotes both sides of the last price, and replaces its quotes each second."""

    def begin(self, desk: Desk) -> None:
        self._quoted: int | None = None
        desk.engine.after(self.dice.below(MAKER_EVERY_US), self._quote, desk)

    def _quote(self, desk: Desk) -> None:
        desk.engine.after(MAKER_EVERY_US, self._quote, desk)
        operations: list[Operation] = []
        if self._quoted is not None:
            operations += [Cancel(Seq(self._quoted), 0), Cancel(Seq(self._quoted), 1)]
        first = len(operations)
        for side, sign in ((Side.BUY, -1), (Side.SELL, 1)):
            price = Price(max(1, self.last_price + sign * MAKER_AWAY))
            operations.append(Place(side, price, Lots(MAKER_LOTS), post_only=1))
        # The first two positions are the quotes, so that they can be named.
        entry = desk.write(self, operations[first:] + operations[:first])
        if entry is not None:
            self._quoted = entry.seq


class Taker(Trader):
    """Sends many orders at once that cross the book, and rest nowhere."""

    def begin(self, desk: Desk) -> None:
        desk.engine.after(self.dice.below(TAKER_EVERY_US), self._take, desk)

    def _take(self, desk: Desk) -> None:
        desk.engine.after(TAKER_EVERY_US, self._take, desk)
        side = self.dice.below(2)
        away = AROUND if side == Side.BUY else -AROUND
        price = Price(max(1, self.last_price + away))
        lots = [Lots(self.dice.between(1, MOST_LOTS)) for _ in range(TAKER_BURST)]
        desk.write(self, [Place(side, price, one, TimeInForce.IOC) for one in lots])


class Racer(Trader):
    """Answers orders it sees on the wire at once by one that is a tick better: does being quick put
    it first?"""

    def begin(self, desk: Desk) -> None:
        self.raced: list[tuple[Digest, Digest]] = []
        """Each entry it answered, and its answer."""
        self._rests_until_us = 0

    def see(self, entry: Entry, desk: Desk) -> None:
        if entry.author == self.address or desk.engine.now_us < self._rests_until_us:
            return
        order = next((one for one in entry.operations if isinstance(one, Place)), None)
        if order is not None:
            self._rests_until_us = desk.engine.now_us + RACE_EVERY_US
            desk.engine.after(THINKS_US, self._race, desk, entry, order)

    def _race(self, desk: Desk, seen: Entry, order: Place) -> None:
        better = order.price + (1 if order.side == Side.BUY else -1)
        answer = desk.write(self, [Place(order.side, Price(max(1, better)), Lots(1))])
        if answer is not None:
            self.raced.append((seen.digest, answer.digest))


class FeedTrader(Trader):
    """Places and cancels what a recording says."""

    def begin(self, desk: Desk) -> None:
        self._places: dict[int, tuple[Seq, int]] = {}

    def follow(self, event: OrderCreated | OrderDeleted, desk: Desk) -> None:
        if isinstance(event, OrderDeleted):
            place = self._places.pop(event.id, None)
            if place is not None:
                desk.write(self, [Cancel(*place)])
            return
        order = Place(event.side, Price(event.price_cents), Lots(event.amount_satoshi))
        entry = desk.write(self, [order])
        if entry is not None:
            self._places[event.id] = (entry.seq, 0)


def replay(traders: Sequence[FeedTrader], events: Iterable[object], speed: int, desk: Desk) -> None:
    """Hand a recording's orders to traders at the recorded pace times ``speed``."""
    wanted = (
        event
        for event in events
        # What was deleted with nothing left was traded there, not cancelled; so it may be here.
        if isinstance(event, OrderCreated)
        or (isinstance(event, OrderDeleted) and event.amount_satoshi > 0)
    )
    first_ms: int | None = None

    def step(event: OrderCreated | OrderDeleted) -> None:
        traders[event.id % len(traders)].follow(event, desk)
        plan()

    def plan() -> None:
        nonlocal first_ms
        event = next(wanted, None)
        if event is None:
            return
        first_ms = event.time_ms if first_ms is None else first_ms
        desk.engine.at((event.time_ms - first_ms) * 1000 // speed, step, event)

    plan()
