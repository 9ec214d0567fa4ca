"""What became of our own orders, for a while: the state itself forgets those that have ended."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from orrange_p2p.core.accounts import LiveOrder
from orrange_p2p.core.book import NONE, REASON_NAMES
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.fold import Fold
from orrange_p2p.core.ids import Address, Lots, OrderId, Price, Seq
from orrange_p2p.core.operations import Amend, Place
from orrange_p2p.core.replica import AppliedEpoch

__all__ = ["OrderState", "OwnOrder", "OwnOrders"]

REMEMBERED: Final = 4096
"""Ended orders of a market; older ones are forgotten."""


class OrderState(enum.Enum):
    """Where an order of ours stands."""

    PENDING = "pending"
    """Signed and durable here; no epoch has it yet."""
    OPEN = "open"
    """In the book."""
    MATCHED = "matched"
    """All that is left of it waits for both sides to accept."""
    ENDED = "ended"
    """Filled or cancelled; ``reason`` says what became of what was not filled."""
    REFUSED = "refused"
    """It never reached the book; ``reason`` says why."""


class OwnOrder(NamedTuple):
    """An order of ours and its account."""

    id: OrderId
    terms: Place
    state: OrderState
    open: int
    reserved: int = 0
    filled: int = 0
    reason: str = ""
    """Why quantity was cancelled; empty if none was."""
    epoch: int = 0
    """In which it came into the book, or was refused."""


class OwnOrders:
    """Of some authors in one market."""

    def __init__(self, authors: Collection[Address]) -> None:
        self._authors = frozenset(authors)
        self._past: dict[OrderId, OwnOrder] = {}

    def take(self, epochs: Sequence[AppliedEpoch]) -> None:
        """Note what applied epochs did to our orders."""
        for facts, outcome in epochs:
            refused = [(n, why) for n, why in outcome.refusals if n.author in self._authors]
            if refused:
                placed = dict(_places(facts.entries))
                for name, why in refused:
                    if (terms := placed.get(name)) is not None:
                        reason = why.name.lower()
                        self._note(
                            OwnOrder(
                                name, terms, OrderState.REFUSED, 0, reason=reason, epoch=facts.epoch
                            )
                        )
            for order in outcome.ended:
                if order.id.author in self._authors:  # type: ignore[attr-defined]
                    self._note(_of_live(order))

    def _note(self, order: OwnOrder) -> None:
        self._past[order.id] = order
        if len(self._past) > REMEMBERED:
            del self._past[next(iter(self._past))]

    def past(self) -> list[OwnOrder]:
        """Those that ended or were refused since the start, or in what was replayed then; the
        latest first."""
        return list(reversed(self._past.values()))

    def live(self, fold: Fold) -> list[OwnOrder]:
        """Those in the book, and those that wait for their matches, by name."""
        found = [
            _of_live(order)
            for author in self._authors
            if (account := fold.accounts.get(author)) is not None
            for group in account.groups.values()
            for order in group.slots
            if order is not None and order.is_live()
        ]
        return sorted(found, key=lambda order: order.id)


def pending(entries: Iterable[Entry]) -> list[OwnOrder]:
    """The orders of entries that no epoch has yet."""
    return [
        OwnOrder(name, terms, OrderState.PENDING, terms.quantity)
        for name, terms in _places(entries)
    ]


def _places(entries: Iterable[Entry]) -> Iterable[tuple[OrderId, Place]]:
    for entry in entries:
        for position, operation in enumerate(entry.operations):
            name = OrderId(entry.author, Seq(entry.seq), position)
            if isinstance(operation, Amend):
                yield name, operation.order
            elif isinstance(operation, Place):
                yield name, operation


def _of_live(order: LiveOrder) -> OwnOrder:
    state = OrderState.ENDED
    if order.is_live():
        state = OrderState.OPEN if order.open else OrderState.MATCHED
    terms = Place(
        order.side,
        Price(order.price),
        Lots(order.quantity),
        order.tif,
        order.expiry,
        int(order.post_only),
        order.stp,
        Lots(order.min_quantity),
        None if order.max_slippage < 0 else order.max_slippage,
        order.min_score,
    )
    return OwnOrder(
        order.id,  # type: ignore[arg-type]
        terms,
        state,
        order.open,
        order.reserved,
        order.filled,
        "" if order.reason == NONE else REASON_NAMES[order.reason],
        order.epoch,
    )
