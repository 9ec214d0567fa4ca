"""The discrete-event engine: virtual time, an ordered queue, and dice that everybody owns alone.

Time is whole microseconds from the start of the run. Events of one moment run in the order in which
they were scheduled. Nothing here reads a clock or depends on hashing, so a seed gives the same run
in every process.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, TypeVar

_T = TypeVar("_T")
_MASK: Final = (1 << 64) - 1
GOLDEN: Final = 0x9E3779B97F4A7C15


class Dice:
    """Counter-based randomness (splitmix64) of one owner for one purpose.

    What one node draws never moves what another one gets, whatever the order of events: a scenario
    with one more agent is otherwise the same scenario.
    """

    __slots__ = ("_state",)

    def __init__(self, seed: int, owner: int, purpose: str) -> None:
        name = f"orrange sim {seed} {owner} {purpose}".encode()
        self._state = int.from_bytes(sha256(name).digest()[:8], "big")

    def bits(self) -> int:
        """64 of them."""
        self._state = state = (self._state + GOLDEN) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        return state ^ (state >> 31)

    def below(self, end: int) -> int:
        """0 .. end-1."""
        return self.bits() * end >> 64

    def between(self, first: int, last: int) -> int:
        """Both included."""
        return first + self.below(last - first + 1)

    def chance(self, ppm: int) -> bool:
        return ppm > 0 and self.below(1_000_000) < ppm

    def shuffle(self, items: list[_T]) -> None:
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]


class Engine:
    """The queue of what is to happen."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_us = 0
        self.events = 0
        self._queue: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._sequence = 0

    def dice(self, owner: int, purpose: str) -> Dice:
        """Fresh dice: ask once for each owner and purpose."""
        return Dice(self.seed, owner, purpose)

    def at(self, time_us: int, action: Callable[..., object], *arguments: Any) -> None:
        """Call ``action`` at that time, or now if it is past."""
        self._sequence = sequence = self._sequence + 1
        heapq.heappush(self._queue, (max(time_us, self.now_us), sequence, action, arguments))

    def after(self, delay_us: int, action: Callable[..., object], *arguments: Any) -> None:
        self.at(self.now_us + delay_us, action, *arguments)

    def run(self, until_us: int) -> None:
        """Let everything happen up to that time, itself included."""
        queue = self._queue
        pop = heapq.heappop
        while queue and queue[0][0] <= until_us:
            self.now_us, _, action, arguments = pop(queue)
            self.events += 1
            action(*arguments)
        self.now_us = max(self.now_us, until_us)
