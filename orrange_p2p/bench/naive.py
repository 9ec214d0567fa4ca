"""A matcher to compare results with: limit orders and cancels, one sorted list a side.

It shares nothing with ``core/book.py``. What it does is plain to see, and so is what it costs.
"""

from __future__ import annotations

from bisect import bisect_left, insort

NaiveFill = tuple[int, int, int, int]
"""Maker's id, taker's id, price, quantity."""


class NaiveBook:
    """Each side lists (key, arrival, id), best first; a key is the price, negated for bids."""

    def __init__(self) -> None:
        self.sides: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]] = ([], [])
        self.open: dict[int, int] = {}
        self.places: dict[int, tuple[int, tuple[int, int, int]]] = {}
        self.arrivals = 0

    def place(self, order_id: int, side: int, price: int, quantity: int) -> list[NaiveFill]:
        sign = 1 if side else -1
        opposing = self.sides[1 - side]
        fills = []
        while quantity and opposing:
            key, _, maker = opposing[0]
            maker_price = abs(key)
            if (maker_price < price) if side else (maker_price > price):
                break
            lots = min(quantity, self.open[maker])
            fills.append((maker, order_id, maker_price, lots))
            quantity -= lots
            self.open[maker] -= lots
            if not self.open[maker]:
                self.cancel(maker)
        if quantity:
            self.arrivals += 1
            place = (sign * price, self.arrivals, order_id)
            insort(self.sides[side], place)
            self.open[order_id] = quantity
            self.places[order_id] = (side, place)
        return fills

    def cancel(self, order_id: int) -> None:
        side, place = self.places.pop(order_id)
        orders = self.sides[side]
        del orders[bisect_left(orders, place)]
        del self.open[order_id]
