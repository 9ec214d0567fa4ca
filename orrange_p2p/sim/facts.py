"""What was published, and where it is by now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from orrange_p2p.core.entries import Entry
from orrange_p2p.core.ids import Digest
from orrange_p2p.core.ticks import Tick
from orrange_p2p.sim.links import NEVER, Times

__all__ = ["Fact", "Facts"]

ROUND_PAGE: Final = 64
"""Rounds of ticks in one answer."""


class Fact:
    """An entry or a tick on its way."""

    __slots__ = ("again_us", "arrives_us", "born_us", "is_tick", "number", "offered_us", "record")

    def __init__(self, number: int, record: Entry | Tick, born_us: int, nodes: int) -> None:
        self.number = number
        self.record = record
        self.is_tick = isinstance(record, Tick)
        self.born_us = born_us
        self.offered_us = born_us
        """When it was published last."""
        self.arrives_us: Times = np.full(nodes, NEVER, np.int32)
        """(N,) after ``born_us``; what comes later than it does by another way is a duplicate."""

        self.again_us: dict[int, int] = {}
        """When it comes to a node once more, that passed it over and asked for it since."""

    def comes(self, node: int, time_us: int) -> bool:
        """Whether this is a moment at which the node gets it, and has not got it before."""
        arrives_us = self.born_us + int(self.arrives_us[node])
        return arrives_us == time_us or self.again_us.get(node) == time_us

    def reaches(self, node: int) -> int:
        """When, in microseconds; far beyond the end of any run if never."""
        after = int(self.arrives_us[node])
        return 1 << 62 if after >= NEVER else self.born_us + after


class Facts:
    """All facts of a run, by number, by digest, and ticks by round."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._all: list[Fact] = []
        self._of: dict[Digest, Fact] = {}
        self._rounds: dict[tuple[int, int], list[Fact]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Fact]:
        return iter(self._all)

    def __getitem__(self, number: int) -> Fact:
        return self._all[number]

    def get(self, digest: Digest) -> Fact | None:
        return self._of.get(digest)

    def add(self, record: Entry | Tick, now_us: int) -> Fact:
        """Publish a record for the first time."""
        fact = Fact(len(self._all), record, now_us, self._nodes)
        self._all.append(fact)
        self._of[record.digest] = fact
        if isinstance(record, Tick):
            self._rounds.setdefault((record.era, record.round), []).append(fact)
        return fact

    def held_of_rounds(self, node: int, era: int, first: int, now_us: int) -> list[Fact]:
        """Ticks of a page of rounds that a node has, as it would serve them."""
        return [
            fact
            for round in range(first, first + ROUND_PAGE)
            for fact in self._rounds.get((era, round), ())
            if fact.reaches(node) <= now_us
        ]
