"""When orders end: which ones are due, without looking at the others."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from orrange_p2p.core.accounts import LiveOrder

_DEAD_SLACK: Final = 1024


class Agenda:
    """Orders by the time or epoch at which they end, if nothing ends them before.

    Nearly all orders of an epoch end together, so they share one entry of the heap.
    """

    __slots__ = ("_orders", "_size", "_times")

    def __init__(self) -> None:
        self._times: list[int] = []
        self._orders: dict[int, list[LiveOrder]] = {}
        self._size = 0

    def add(self, time: int, order: LiveOrder) -> None:
        orders = self._orders.get(time)
        if orders is None:
            self._orders[time] = [order]
            heappush(self._times, time)
        else:
            orders.append(order)
        self._size += 1

    def take_before(self, time: int) -> list[LiveOrder]:
        """Take out those that end earlier: the earliest first, and of one time the first added."""
        due: list[LiveOrder] = []
        while self._times and self._times[0] < time:
            due += self._orders.pop(heappop(self._times))
        self._size -= len(due)
        return due

    def forget_dead(self, live: int) -> None:
        """Keep memory in proportion to the ``live`` orders there are."""
        if self._size <= 2 * live + _DEAD_SLACK:
            return
        kept: dict[int, list[LiveOrder]] = {}
        self._size = 0
        for time, orders in self._orders.items():
            alive = [order for order in orders if order.is_live()]
            if alive:
                kept[time] = alive
                self._size += len(alive)
        self._orders = kept
        self._times = list(kept)
        heapify(self._times)
