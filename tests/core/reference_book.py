"""The naive book: one list, sorted again for every operation. Slow, and short enough to read.

Written from the rules of the book and not from ``core/book.py``, which is tested against it.
Whatever is to be known beforehand (fill-or-kill, minimum quantity, post-only) is found out by
trying it on a copy.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from orrange_p2p.core import book as b


@dataclass
class ReferenceOrder:
    id: int
    owner: bytes
    side: int
    price: int
    quantity: int
    tif: int = b.GTC
    post_only: bool = False
    stp: int = b.CANCEL_NEWEST
    min_quantity: int = 0
    max_slippage: int = -1
    score: int = 0
    min_score: int = 0
    epoch: int = 0
    rank: int = 0
    open: int = field(init=False)
    reserved: int = 0
    filled: int = 0
    cancelled: int = 0
    reason: int = b.NONE

    def __post_init__(self) -> None:
        self.open = self.quantity

    def cancel(self, lots: int, reason: int) -> None:
        self.open -= lots
        self.cancelled += lots
        self.reason = reason


def eligible(one: ReferenceOrder, other: ReferenceOrder) -> bool:
    return one.score >= other.min_score and other.score >= one.min_score


Trade = tuple[int, int, int, int]
"""Maker's id, taker's id, price, quantity."""


class ReferenceBook:
    def __init__(self) -> None:
        self.resting: list[ReferenceOrder] = []
        self.removed: list[int] = []

    def side(self, side: int) -> list[ReferenceOrder]:
        """The orders of a side, best first."""
        sign = -1 if side == b.BUY else 1
        mine = [order for order in self.resting if order.side == side]
        return sorted(mine, key=lambda order: (sign * order.price, order.epoch, order.rank))

    def find(self, order_id: int) -> ReferenceOrder | None:
        return next((order for order in self.resting if order.id == order_id), None)

    def limit(self, order: ReferenceOrder) -> int:
        """The worst price at which an arriving order trades."""
        if order.max_slippage < 0:
            return order.price
        prices = [
            other.price
            for other in self.side(1 - order.side)
            if other.owner != order.owner and eligible(order, other)
        ]
        if not prices:
            return order.price
        if order.side == b.BUY:
            return min(order.price, prices[0] + order.max_slippage)
        return max(order.price, prices[0] - order.max_slippage)

    def match(self, order: ReferenceOrder, limit: int) -> list[Trade]:
        trades: list[Trade] = []
        for other in self.side(1 - order.side):
            crosses = other.price <= limit if order.side == b.BUY else other.price >= limit
            if not crosses or order.open == 0:
                break
            lots = min(order.open, other.open)
            if other.owner == order.owner:
                if order.stp == b.CANCEL_NEWEST:
                    order.cancel(order.open, b.STP)
                    break
                if order.stp == b.CANCEL_OLDEST:
                    other.cancel(other.open, b.STP)
                else:
                    other.cancel(lots, b.STP)
                    order.cancel(lots, b.STP)
                self.removed.append(other.id)
            elif eligible(order, other):
                for party in (order, other):
                    party.open -= lots
                    party.reserved += lots
                trades.append((other.id, order.id, other.price, lots))
        self.resting = [other for other in self.resting if other.open > 0]
        return trades

    def attempt(self, order: ReferenceOrder, limit: int) -> tuple[int, bool]:
        """(lots that would fill, whether anything at all would happen), tried on a copy."""
        trial = copy.deepcopy(self)
        trial.removed = []
        taker = copy.deepcopy(order)
        taker.reason = b.NONE  # of this attempt alone: an order that returns may have one
        trades = trial.match(taker, limit)
        touched = bool(trades) or bool(trial.removed) or taker.reason == b.STP
        return sum(trade[3] for trade in trades), touched

    def place(self, order: ReferenceOrder) -> list[Trade]:
        limit = self.limit(order)
        would_fill, touched = self.attempt(order, limit)
        if order.post_only and touched:
            order.cancel(order.open, b.POST_ONLY_WOULD_CROSS)
        elif order.tif == b.FOK and would_fill < order.quantity:
            order.cancel(order.open, b.FOK_UNFILLED)
        elif would_fill < order.min_quantity:
            order.cancel(order.open, b.MIN_QUANTITY)
        if order.open == 0:
            return []
        trades = self.match(order, limit)
        if order.open > 0:
            if order.tif in (b.IOC, b.FOK):
                order.cancel(order.open, b.IOC_REMAINDER)
            elif order.max_slippage >= 0:
                order.cancel(order.open, b.SLIPPAGE)
            else:
                self.resting.append(order)
        return trades

    def cancel(self, order_id: int, reason: int) -> ReferenceOrder | None:
        order = self.find(order_id)
        if order is not None:
            order.cancel(order.open, reason)
            self.resting.remove(order)
        return order

    def reenter(self, order: ReferenceOrder, quantity: int) -> list[Trade]:
        order.reserved -= quantity
        order.open += quantity
        if self.find(order.id) is not None:
            return []
        if order.max_slippage >= 0:
            order.cancel(order.open, b.SLIPPAGE)
            return []
        if order.post_only and self.attempt(order, order.price)[1]:
            order.cancel(order.open, b.POST_ONLY_WOULD_CROSS)
            return []
        trades = self.match(order, order.price)
        if order.open > 0:
            self.resting.append(order)
        return trades
