"""What is noted while a network runs, and the figures that follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orrange_p2p.core.entries import Entry
from orrange_p2p.core.fold import EpochFacts, EpochOutcome, Fold
from orrange_p2p.core.ids import Address, Digest, Epoch
from orrange_p2p.core.operations import Evidence, Side
from orrange_p2p.core.replica import Effects, Replica
from orrange_p2p.sim.facts import Facts
from orrange_p2p.sim.links import NEVER, OVERHEAD_BYTES, Spread
from orrange_p2p.sim.shared import SharedFold

__all__ = ["Measures", "quantiles"]

QUANTILES: Final = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
DEPTH_LEVELS: Final = 10
"""Prices of each side over which the book's depth is added up."""

Counts = NDArray[np.int64]


class _Epoch:
    """What the first node to apply an epoch found, and when each node did."""

    __slots__ = (
        "depth",
        "entries",
        "era",
        "nodes",
        "orders",
        "root",
        "spread",
        "times_us",
        "trades",
    )

    def __init__(self, facts: EpochFacts, outcome: EpochOutcome, fold: Fold) -> None:
        self.root = outcome.root
        self.era: int = facts.era
        self.entries: tuple[Entry, ...] = facts.entries
        self.times_us: list[int] = []
        self.nodes: list[int] = []
        """Which one it was, each time."""
        self.orders = outcome.placed
        self.trades = len(outcome.trades)
        bid, ask = fold.book.best(Side.BUY), fold.book.best(Side.SELL)
        self.spread = None if bid is None or ask is None else ask - bid
        self.depth = sum(
            lots for side in Side for _, lots, _ in fold.book.depth(side, DEPTH_LEVELS)
        )


class Measures:
    """Told by the network what happens."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.evidence: list[Evidence] = []
        self.disagreements: list[str] = []
        self.misled: frozenset[int] = frozenset()
        """Nodes that are shown another home chain: what they compute is nobody's else."""
        self.refusals: Counter[tuple[Address, str]] = Counter()
        self.lapsed: Counter[tuple[Address, ...]] = Counter()
        """Matches that ended without a trade, by who was silent."""
        self._accused: set[bytes] = set()
        self._epochs: dict[Epoch, _Epoch] = {}

    def note_spread(self, spread: Spread, size: int) -> None:
        counts = self.counts
        counts["messages"] += spread.copies
        counts["bytes"] += spread.copies * (size + OVERHEAD_BYTES)
        counts["lost"] += spread.lost
        counts["duplicates"] += spread.duplicates

    def note_effects(self, number: int, replica: Replica, effects: Effects, now_us: int) -> None:
        """What followed from a fact at a node."""
        for proof in effects.evidence:
            if proof.first not in self._accused:
                self._accused.add(proof.first)
                self.evidence.append(proof)
        for facts, outcome in effects.epochs if number not in self.misled else ():
            known = self._epochs.get(outcome.epoch)
            if known is None:
                known = self._epochs[outcome.epoch] = self._first(replica, facts, outcome)
            elif known.root != outcome.root:
                self.disagreements.append(
                    f"node {number} in epoch {outcome.epoch} at {now_us / 1e6:.1f} s"
                )
                continue
            known.times_us.append(now_us)
            known.nodes.append(number)

    def _first(self, replica: Replica, facts: EpochFacts, outcome: EpochOutcome) -> _Epoch:
        counts = self.counts
        counts["matches"] += len(outcome.matches)
        counts["trades"] += len(outcome.trades)
        counts["frozen"] += len(outcome.frozen)
        for order_id, why in outcome.refusals:
            self.refusals[order_id.author, why.name.lower()] += 1
        for lapse in outcome.lapses:
            counts["lapses"] += 1
            self.lapsed[lapse.silent] += 1
        fold = replica.fold
        machine = fold.state.machine if isinstance(fold, SharedFold) else fold
        assert machine is not None, "the first to apply an epoch holds the machine"
        return _Epoch(facts, outcome, machine)

    # --- figures ---

    def commits_ms(
        self, facts: Facts, without: Set[Address] = frozenset(), at: Set[int] | None = None
    ) -> Counts:
        """From an entry's writing to its epoch's applying, at every node: how many took how many
        whole milliseconds. ``without``: authors that do not count. ``at``: nodes that alone do."""
        total = np.zeros(1, np.int64)
        for epoch in self._epochs.values():
            written = [facts.get(e.digest) for e in epoch.entries if e.author not in without]
            born = [fact.born_us for fact in written if fact is not None]
            times = zip(epoch.times_us, epoch.nodes, strict=True)
            there = [time_us for time_us, node in times if at is None or node in at]
            if born and there:
                took = np.subtract.outer(np.array(there), np.array(born)) // 1000
                total = _add(total, np.bincount(took.ravel()))
        return total

    def lags_ms(self) -> Counts:
        """From the first node's applying an epoch to each other one's: how long states differ."""
        total = np.zeros(1, np.int64)
        for epoch in self._epochs.values():
            times = np.sort(np.array(epoch.times_us, np.int64))
            total = _add(total, np.bincount((times[1:] - times[0]) // 1000))
        return total

    def epoch_of(self) -> dict[Digest, Epoch]:
        """Which epoch cut an entry."""
        return {e.digest: name for name, epoch in self._epochs.items() for e in epoch.entries}

    def rows(self) -> list[dict[str, Any]]:
        """One for each epoch, for tables."""
        return [
            {
                "epoch": int(name),
                "era": epoch.era,
                "root": epoch.root.hex(),
                "first_applied_us": min(epoch.times_us),
                "last_applied_us": max(epoch.times_us),
                "applied_by": len(epoch.times_us),
                "entries": len(epoch.entries),
                "orders": epoch.orders,
                "trades": epoch.trades,
                "spread_ticks": epoch.spread,
                "depth_lots": epoch.depth,
            }
            for name, epoch in sorted(self._epochs.items())
        ]


def propagation_ms(facts: Facts) -> Counts:
    """From a record's publication to its arrival at each node that got it: how many took how many
    whole milliseconds."""
    total = np.zeros(1, np.int64)
    for fact in facts:
        came = fact.arrives_us[(fact.arrives_us > 0) & (fact.arrives_us < NEVER)]
        total = _add(total, np.bincount(came // 1000))
    return total


def _add(first: Counts, second: Counts) -> Counts:
    if len(first) < len(second):
        first, second = second, first
    first = first.copy()
    first[: len(second)] += second
    return first


def quantiles(counts: Counts) -> dict[str, int | None]:
    """Nearest ranks in whole milliseconds; None of nothing."""
    total = int(counts.sum())
    if total == 0:
        return dict.fromkeys(QUANTILES)
    passed = np.cumsum(counts)
    return {
        name: int(np.searchsorted(passed, -(-total * percent // 100)))
        for name, percent in QUANTILES.items()
    }


def mean(counts: Counts) -> float | None:
    """In milliseconds."""
    total = int(counts.sum())
    return round(float(counts @ np.arange(len(counts))) / total, 2) if total else None


def inversions(order: Sequence[tuple[int, int]]) -> float | None:
    """Of neighbours in the order of writing, the share that an epoch put the other way round;
    ``order``: (written at, epoch) of each entry."""
    ordered = [epoch for _, epoch in sorted(order)]
    pairs = list(pairwise(ordered))
    return round(sum(a > b for a, b in pairs) / len(pairs), 4) if pairs else None


def race_won(races: Iterable[tuple[int, int]]) -> float | None:
    """How often an answer comes before what it answers, ties half: (epoch, epoch of the answer)."""
    wins = [1.0 if answer < seen else 0.5 if answer == seen else 0.0 for seen, answer in races]
    return round(sum(wins) / len(wins), 4) if wins else None
