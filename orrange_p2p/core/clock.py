"""From ticks to epochs: the DAG of one era and its commit rule (protocol/03-clock.md).

``Clock`` takes verified ticks in any order and says, in the order of rounds, which leaders commit
and what history each of them newly covers. The commit rule is that of Cordial Miners (arXiv
2205.09174) and Mysticeti (arXiv 2310.14821) with one leader slot per round. For a leader tick L of
round r:

    support            a tick of r+1 with L among its parents
    certificate        a tick of r+2 whose parents include supports of weight >= q
    direct commit      certificates of weight >= q
    direct skip        ticks of r+1 of weight >= q are held, and for every held candidate L weight
                       >= q of witnesses have a tick of r+1 that does not support it
    by the anchor      else the first slot of round >= r+3 that is not skipped decides: undecided,
                       and so is r; committed, and L commits iff its history holds a certificate

Why a decision never has to be revised: two quorums share more than a third, hence an honest witness
with one tick per round. So at most one candidate of a slot can have a certificate; a certified one
has no q non-supports; and what commits directly has a certificate in the history of every tick of
r+3 and later. A candidate that is not held is supported by no held tick, since a tick is held only
with all its parents; that is why the direct skip need not know all candidates.

The masks that these rules weigh are kept by ``dag`` as ticks come in; only an anchor walks the DAG,
once, level by level.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from orrange_p2p.core.dag import (
    COMMITTED,
    NO_CANDIDATE,
    SKIPPED,
    UNDECIDED,
    WINDOW_ROUNDS,
    Dag,
    Equivocation,
    Node,
    Outcome,
    Rejected,
    Report,
    Slot,
    in_order,
)
from orrange_p2p.core.ids import Address, Digest, Era, Round, TimeMs, Weight
from orrange_p2p.core.ticks import Tick
from orrange_p2p.core.witnesses import WitnessTable

__all__ = [
    "Added",
    "Clock",
    "CommitPoint",
    "Decided",
    "Equivocation",
    "Outcome",
    "Rejected",
    "epoch_time",
    "weighted_median",
]

_UNLINKED_SLOTS: Final = 2
"""A leader supported in the next round and certified in the one after is an ancestor from the third
on; so many slots before a leader may hold ones that it does not know."""


class Decided(NamedTuple):
    """The fate of one leader slot. Slots are decided strictly in the order of rounds."""

    round: Round
    leader: Tick | None
    """``None``: the slot is skipped, the fields below are empty, and no epoch results."""
    history: tuple[Tick, ...]
    """What the leader covers and no earlier one did, itself included, ordered by (round, witness,
    digest), without ticks older than 64 rounds before the previous committed leader."""
    median_ms: TimeMs
    """Weighted median of the parents' times; of round 0, the leader's own. See ``epoch_time``."""


class CommitPoint(NamedTuple):
    """The last committed leader."""

    round: Round
    digest: Digest


class Added(NamedTuple):
    """Everything that followed from adding one tick."""

    outcome: Outcome
    held: tuple[Tick, ...] = ()
    """Ticks new in the DAG, parents first: this one and orphans that waited for it."""
    missing: tuple[Digest, ...] = ()
    """Parents of this tick that nobody gave us yet: fetch them from whoever sent it."""
    rejected: tuple[Rejected, ...] = ()
    equivocations: tuple[Equivocation, ...] = ()
    """At most one per witness and era: the first proof of it."""
    decided: tuple[Decided, ...] = ()
    resumed: tuple[Tick, ...] = ()
    """Given once by a resumed clock, before the first decided slot: ``covered_ticks`` of the leader
    to resume from and all before it. The cut is primed with them."""


def weighted_median(samples: Iterable[tuple[TimeMs, Weight]]) -> TimeMs:
    """The smallest time such that samples up to it weigh at least half (the lower median).

    Over a quorum, faulty samples weigh less than half, so it lies between two honest clocks.
    """
    ordered = sorted(samples)
    total = sum([weight for _, weight in ordered])
    below = 0
    for time_ms, weight in ordered:
        below += weight
        if 2 * below >= total:
            return time_ms
    raise ValueError("the median of nothing")


def epoch_time(previous_ms: TimeMs, decided: Decided) -> TimeMs:
    """The time of a committed leader's epoch: it never runs backwards."""
    return max(previous_ms, decided.median_ms)


class Clock:
    """The leaders that the ticks of one market and era commit. ``Dag`` says which ticks count."""

    __slots__ = ("_covered_rounds", "_dag", "_gate", "_last", "_next", "_seed", "era", "table")

    def __init__(
        self,
        table: WitnessTable,
        era: Era,
        era_seed: bytes,
        first_round: Round = Round(0),  # noqa: B008 - an integer
        resume_at: CommitPoint | None = None,
    ) -> None:
        """An empty DAG whose lowest round is ``first_round``.

        A node that joins late passes the last committed leader of its checkpoint as ``resume_at``
        and adds the ticks of the 64 rounds before it and of those after: slots are given out from
        the next one on, once that leader is held and the two slots before it are decided.
        ``era_seed`` is 32 bytes.
        """
        base: int = first_round
        self._next: int = first_round
        """The first slot not given out as decided."""
        self._last: CommitPoint | None = resume_at
        self._gate: Digest = NO_CANDIDATE
        """The leader to resume from, until all that it and earlier ones cover is known."""
        if resume_at is not None:
            base = max(base, resume_at.round - WINDOW_ROUNDS)
            self._next = max(base, resume_at.round - _UNLINKED_SLOTS)
            self._gate = resume_at.digest
        self.table: WitnessTable = table
        self.era: Era = era
        self._seed: bytes = era_seed
        self._dag: Dag = Dag(table, era, era_seed, base)
        self._covered_rounds: list[int] = [-1] * len(table)

    def add(self, tick: Tick) -> Added:
        """Take a tick whose signature, market and shape are verified. A bad one never raises."""
        report = Report()
        decided: list[Decided] = []
        outcome = self._dag.receive(tick, report)
        resumed: tuple[Tick, ...] = ()
        gate = self._dag.index.get(self._gate) if self._gate else None
        if gate is not None and not gate.covered:
            self._trust(gate)
        while self._dag.touched:
            self._decide()
            if gate is not None and self._gate and self._resume(gate):
                resumed = self.covered_ticks()
            self._sequence(decided, report)
        return Added(
            outcome,
            tuple(report.held),
            report.missing,
            tuple(report.rejected),
            tuple(report.equivocations),
            tuple(decided),
            resumed,
        )

    # What others read.

    @property
    def first_round_kept(self) -> Round:
        """Lowest round whose ticks are kept and taken."""
        return Round(self._dag.base)

    @property
    def next_round(self) -> Round:
        """The first slot that is not decided in sequence."""
        return Round(self._next)

    @property
    def highest_quorum_round(self) -> int:
        """The highest round of which ticks of a quorum are held; one below the first, if none."""
        return self._dag.quorum_round

    @property
    def highest_round(self) -> int:
        """The highest round of which any tick is held; one below the first, if none."""
        return self._dag.top

    @property
    def undecided_rounds(self) -> int:
        """How many slots up to ``highest_quorum_round`` are not decided in sequence."""
        return max(0, self._dag.quorum_round + 1 - self._next)

    @property
    def last_committed(self) -> CommitPoint | None:
        return self._last

    @property
    def rounds_since_commit(self) -> int:
        """Rounds with a quorum above the last committed leader: two or three when all is well."""
        last = self._last.round if self._last is not None else self._dag.base - 1
        return self._dag.quorum_round - last

    @property
    def equivocators(self) -> tuple[Address, ...]:
        """Witnesses proven to have signed two ticks for one round of this era."""
        return self.table.members(self._dag.proven)

    @property
    def missing(self) -> tuple[Digest, ...]:
        """Every parent that some orphan waits for and that we do not have, ascending."""
        return self._dag.missing()

    @property
    def orphan_count(self) -> int:
        return len(self._dag.orphans)

    def __len__(self) -> int:
        """How many ticks are in the DAG."""
        return len(self._dag.index)

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._dag.index

    def get(self, digest: Digest) -> Tick | None:
        """A tick of the DAG; orphans are not given out, since they are not checked."""
        node = self._dag.index.get(digest)
        return None if node is None else node.tick

    def ticks_of_round(self, round: Round) -> tuple[Tick, ...]:
        """The ticks of the DAG in one round, ordered by (witness, digest)."""
        slot = self._dag.slots.get(round)
        return () if slot is None else tuple([n.tick for n in in_order(slot.nodes.values())])

    def covered_ticks(self) -> tuple[Tick, ...]:
        """The kept ticks that committed leaders cover, in order: what a joining node replays."""
        return tuple([n.tick for n in in_order(self._dag.index.values()) if n.covered])

    def leader_of(self, round: Round) -> Address:
        return self.table.leader(self._seed, round)

    def is_equivocator(self, witness: Address) -> bool:
        return bool(self._dag.proven & self.table.mask_of((witness,)))

    def adoptable(self, round: Round) -> dict[Address, Digest]:
        """Per witness the tick of a round that an honest witness may take as a parent.

        Not those of proven equivocators, and not those whose ancestry could not be checked.
        """
        return self._dag.adoptable(round)

    def is_vote_settled(self, round: Round) -> bool:
        """The held ticks of the next round hold q supports or q non-supports of this leader."""
        slot = self._dag.slots.get(round)
        if slot is None:
            return False
        table = self.table
        return self._is_directly_skipped(slot) or any(
            table.is_quorum(mask)
            for digest, mask in slot.supports.items()
            if digest != NO_CANDIDATE
        )

    def last_heard_round(self, witness: Address) -> int:
        """The highest round of which a tick of the witness is held; -1 if none ever was."""
        return self._dag.heard_round(witness)

    def last_covered_round(self, witness: Address) -> int:
        """The highest round of a tick of the witness that a leader covered; -1 if none ever was."""
        return self._covered_rounds[self.table.index_of(witness)]

    # Decision.

    def _decide(self) -> None:
        changed = False
        for round in self._dag.touched:
            slot = self._dag.slots.get(round)
            if slot is not None and slot.status == UNDECIDED and round >= self._next:
                changed |= self._decide_directly(slot)
        self._dag.touched.clear()
        if changed:
            self._decide_by_anchors()

    def _decide_directly(self, slot: Slot) -> bool:
        for digest, mask in slot.certificates.items():
            if self.table.is_quorum(mask):
                slot.status = COMMITTED
                slot.chosen = slot.nodes[digest]
                return True
        if self._is_directly_skipped(slot):
            slot.status = SKIPPED
            return True
        return False

    def _is_directly_skipped(self, slot: Slot) -> bool:
        held = 0
        for mask in slot.supports.values():
            held |= mask
        if not self.table.is_quorum(held):
            return False
        for candidate in slot.candidates:
            against = 0
            for digest, mask in slot.supports.items():
                if digest != candidate:
                    against |= mask
            if not self.table.is_quorum(against):
                return False
        return True

    def _decide_by_anchors(self) -> None:
        """Settle, from the top down, every slot whose anchor is decided."""
        anchor: Node | None = None
        walked: Node | None = None
        level: set[Node] = set()
        level_round = 0
        for round in range(self._dag.top, self._next - 1, -1):
            later = self._dag.slots.get(round + 3)
            if later is None or later.status == UNDECIDED:
                anchor = None
            elif later.status == COMMITTED:
                anchor = later.chosen
            # A skipped slot leaves the anchor of round + 1 in place.
            slot = self._dag.slots.get(round)
            if slot is None or slot.status != UNDECIDED or anchor is None:
                continue
            if anchor is not walked:
                walked, level, level_round = anchor, {anchor}, anchor.round
            while level_round > round + 2:
                level = {parent for node in level for parent in node.parents}
                level_round -= 1
            certified = [node.certifies for node in level if node.certifies]
            if certified:
                # All equal while less than a third is faulty; beyond that, at least determined.
                slot.status = COMMITTED
                slot.chosen = slot.nodes[min(certified)]
            else:
                slot.status = SKIPPED

    # From decisions to a sequence.

    def _trust(self, gate: Node) -> None:
        """The checkpoint's leader is held: what it covers can be built on."""
        self._cover(gate, self._dag.base)
        self._dag.retrust()
        self._dag.touched.add(self._next)

    def _resume(self, gate: Node) -> bool:
        """Cover what the leaders before the checkpoint's cover; whether all of it is known.

        It is no later leader's news. A committed leader is an ancestor of every committed one
        three rounds later or more, or of the anchor that decided it, but need not be of those in
        between: what the leaders of the last slots cover is not all in the history of ``gate``.
        """
        while self._next < gate.round:
            slot = self._dag.slots.get(self._next)
            if slot is None or slot.status == UNDECIDED:
                return False
            if slot.chosen is not None:
                self._cover(slot.chosen, self._dag.base)
            self._next += 1
        self._next = gate.round + 1
        self._gate = NO_CANDIDATE
        self._dag.retrust()
        return True

    def _sequence(self, decided: list[Decided], report: Report) -> None:
        """Give out decided slots in order; forget what the last committed leader lets us."""
        if self._gate:
            return
        committed = False
        while True:
            slot = self._dag.slots.get(self._next)
            if slot is None or slot.status == UNDECIDED:
                break
            if slot.chosen is None:
                decided.append(Decided(Round(slot.round), None, (), TimeMs(0)))
            else:
                decided.append(self._commit(slot.chosen))
                committed = True
            self._next += 1
        if committed and self._last is not None:
            self._dag.retrust()
            self._dag.forget_below(self._last.round - WINDOW_ROUNDS, report)

    def _commit(self, leader: Node) -> Decided:
        floor = 0 if self._last is None else self._last.round - WINDOW_ROUNDS
        history = self._cover(leader, floor)
        self._last = CommitPoint(Round(leader.round), leader.tick.digest)
        median = leader.tick.time_ms
        if leader.parents:
            weigh = self.table.weigh
            median = weighted_median([(p.tick.time_ms, weigh(p.bit)) for p in leader.parents])
        ticks = tuple([node.tick for node in in_order(history)])
        return Decided(Round(leader.round), leader.tick, ticks, median)

    def _cover(self, leader: Node, floor: int) -> list[Node]:
        """Mark and return the leader's history that no earlier one covers, down to ``floor``."""
        leader.covered = True
        history = [leader]
        for node in history:  # grows while it is read
            node.trusted = True
            witness = node.bit.bit_length() - 1
            self._covered_rounds[witness] = max(self._covered_rounds[witness], node.round)
            for parent in node.parents:
                if not parent.covered and parent.round >= floor:
                    parent.covered = True
                    history.append(parent)
        return history
