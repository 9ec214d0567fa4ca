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

Ticks are numbered sets here: each slot keeps, per candidate, a bit mask of the witnesses that
support it and of those that certify it. A tick touches its own slot and the two before it, so an
``add`` costs one pass over its parents; only an anchor walks the DAG, once, level by level.

Why one file of this length: insertion, decision and pruning share the same few fields, and the
proof above is about all three together.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final, NamedTuple

from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.ids import Address, Digest, Era, Round, TimeMs, Weight
from orrange_p2p.core.ticks import Tick
from orrange_p2p.core.witnesses import WitnessTable

WINDOW_ROUNDS: Final = 64
"""Ticks this far before the last committed leader are kept; older ones are forgotten."""
MAX_AHEAD_ROUNDS: Final = 64
"""Ticks further than this above the highest quorum are not taken: pull them by round."""
UNSOLICITED_PER_ROUND: Final = 2
"""Ticks of one witness for one round taken without being an ancestor of anything: the second is
the evidence."""
SURPLUS_PER_WITNESS: Final = 64
"""Ticks beyond that, per witness and window, taken as ancestors of a proven equivocator's ticks."""
ORPHANS_PER_WITNESS: Final = 96
"""Ticks of one witness that may wait for parents without being ancestors themselves."""

_NONE: Final = Digest(b"")
_UNDECIDED: Final = 0
_SKIPPED: Final = 1
_COMMITTED: Final = 2


class Outcome(enum.Enum):
    """What became of the tick that was added."""

    HELD = "held"
    """In the DAG, with all its ancestors."""
    WAITING = "waiting"
    """An orphan: ``missing`` names what has to be fetched."""
    DUPLICATE = "duplicate"
    """Held or waiting already."""
    REJECTED = "rejected"
    """Breaks a rule, or descends from a tick that does: ``rejected`` says which."""
    OLD = "old"
    """Below the window: of no use to anyone who holds the last committed leader."""
    AHEAD = "ahead"
    """Too far above what we hold; pull the rounds between, then this one."""
    SURPLUS = "surplus"
    """Over a bound; taken later if it turns out to be an ancestor that is needed."""


class Rejected(NamedTuple):
    tick: Tick
    error: InvalidError


class Equivocation(NamedTuple):
    """Two ticks of one witness for one round. Their signatures are the proof."""

    first: Tick
    second: Tick


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


class _Node:
    """A tick in the DAG. ``parents`` are all held, or empty in the lowest round kept."""

    __slots__ = ("bit", "certifies", "covered", "parents", "round", "tick", "trusted", "vote")

    def __init__(self, tick: Tick, bit: int, parents: tuple[_Node, ...]) -> None:
        self.tick: Tick = tick
        self.round: int = tick.round
        self.bit: int = bit
        self.parents: tuple[_Node, ...] = parents
        self.vote: Digest = _NONE
        """The candidate of the previous round that it supports."""
        self.certifies: Digest = _NONE
        """The candidate of the round before that of which it is a certificate."""
        self.covered: bool = False
        """In the history of a committed leader."""
        self.trusted: bool = True
        """Its ancestry was checked down to round 0 or to a committed leader."""


class _Orphan:
    __slots__ = ("tick", "unlinked", "witness")

    def __init__(self, tick: Tick, witness: int, unlinked: int) -> None:
        self.tick: Tick = tick
        self.witness: int = witness
        self.unlinked: int = unlinked
        """How many of its parents are not in the DAG yet."""


class _Slot:
    """One round: its ticks, and what is known about its leader."""

    __slots__ = (
        "candidates", "certificates", "chosen", "counts", "firsts", "leader", "mask", "nodes",
        "orphans", "rejected", "round", "status", "supports",
    )  # fmt: skip

    def __init__(self, round: int, leader: int) -> None:
        self.round: int = round
        self.leader: int = 1 << leader
        self.nodes: dict[Digest, _Node] = {}
        self.candidates: list[Digest] = []
        """Those of ``nodes`` that are the leader's: several, if it equivocates."""
        self.mask: int = 0
        """Witnesses of whom a tick of this round is held."""
        self.supports: dict[Digest, int] = {}
        """Per candidate (and for none): witnesses with a tick of the next round saying so."""
        self.certificates: dict[Digest, int] = {}
        """Per candidate: witnesses with a certificate for it in the round after that."""
        self.status: int = _UNDECIDED
        self.chosen: _Node | None = None
        self.firsts: dict[int, Tick] = {}
        self.counts: dict[int, int] = {}
        """Per witness: ticks taken for this round, rejected ones included."""
        self.orphans: list[Digest] = []
        self.rejected: list[Digest] = []


class _Report:
    __slots__ = ("decided", "equivocations", "held", "missing", "rejected")

    def __init__(self) -> None:
        self.held: list[Tick] = []
        self.missing: tuple[Digest, ...] = ()
        self.rejected: list[Rejected] = []
        self.equivocations: list[Equivocation] = []
        self.decided: list[Decided] = []


class Clock:
    """The ticks of one market and era, and the leaders they commit.

    What makes a tick invalid (with all its descendants): another era; a signer who is no witness; a
    parent that is not of the previous round; two parents of one witness; parents of less than a
    quorum; parents in round 0, or none later. All of that shows in its causal history. That a
    witness leaves out its own previous tick does not (a history holds ticks of the previous round
    only as parents), so that rule binds honest witnesses and is no ground for rejection.

    Below the window nothing can be checked any more: a tick of the lowest round kept is taken
    without its parents, but neither it nor its descendants are offered to ``adoptable`` until a
    committed leader covers them. So whatever honest witnesses build on has been checked to the
    ground by one of them, and nobody's pruning makes honest nodes differ about validity.
    """

    __slots__ = (
        "_base", "_gate", "_covered_rounds", "_heard_rounds", "_index", "_last", "_next",
        "_orphan_counts", "_orphans", "_proven", "_quorum_round", "_rejected", "_seed", "_slots",
        "_surplus", "_top", "_touched", "_untrusted", "_waiting", "era", "table",
    )  # fmt: skip

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
        and adds the ticks of the 64 rounds before it and of those after: slots are decided from
        the next one on, once that leader is held. ``era_seed`` is 32 bytes.
        """
        self.table: WitnessTable = table
        self.era: Era = era
        self._seed: bytes = era_seed
        self._base: int = first_round
        self._next: int = first_round
        self._last: CommitPoint | None = resume_at
        self._gate: Digest = _NONE
        if resume_at is not None:
            self._base = max(int(first_round), resume_at.round - WINDOW_ROUNDS)
            self._next = resume_at.round + 1
            self._gate = resume_at.digest
        self._quorum_round: int = self._base - 1
        self._top: int = self._base - 1
        self._slots: dict[int, _Slot] = {}
        self._index: dict[Digest, _Node] = {}
        self._orphans: dict[Digest, _Orphan] = {}
        self._waiting: dict[Digest, list[Digest]] = {}
        """Missing or unlinked parent -> the orphans that wait for it."""
        self._rejected: dict[Digest, InvalidError] = {}
        self._untrusted: dict[Digest, _Node] = {}
        self._touched: set[int] = set()
        self._proven: int = 0
        self._surplus: list[int] = [0] * len(table)
        self._orphan_counts: list[int] = [0] * len(table)
        self._heard_rounds: list[int] = [-1] * len(table)
        self._covered_rounds: list[int] = [-1] * len(table)

    # What others read.

    @property
    def first_round_kept(self) -> Round:
        """Lowest round whose ticks are kept and taken."""
        return Round(self._base)

    @property
    def next_round(self) -> Round:
        """The first slot that is not decided in sequence."""
        return Round(self._next)

    @property
    def highest_quorum_round(self) -> int:
        """The highest round of which ticks of a quorum are held; one below the first, if none."""
        return self._quorum_round

    @property
    def highest_round(self) -> int:
        """The highest round of which any tick is held; one below the first, if none."""
        return self._top

    @property
    def undecided_rounds(self) -> int:
        """How many slots up to ``highest_quorum_round`` are not decided in sequence."""
        return max(0, self._quorum_round + 1 - self._next)

    @property
    def last_committed(self) -> CommitPoint | None:
        return self._last

    @property
    def rounds_since_commit(self) -> int:
        """Rounds with a quorum above the last committed leader: two or three when all is well."""
        last = self._last.round if self._last is not None else self._base - 1
        return self._quorum_round - last

    @property
    def equivocators(self) -> tuple[Address, ...]:
        """Witnesses proven to have signed two ticks for one round of this era."""
        return self.table.members(self._proven)

    @property
    def missing(self) -> tuple[Digest, ...]:
        """Every parent that some orphan waits for and that we do not have, ascending."""
        return tuple(sorted([d for d in self._waiting if d not in self._orphans]))

    @property
    def orphan_count(self) -> int:
        return len(self._orphans)

    def __len__(self) -> int:
        """How many ticks are in the DAG."""
        return len(self._index)

    def __contains__(self, digest: Digest) -> bool:
        return digest in self._index

    def get(self, digest: Digest) -> Tick | None:
        """A tick of the DAG; orphans are not given out, since they are not checked."""
        node = self._index.get(digest)
        return None if node is None else node.tick

    def ticks_of_round(self, round: Round) -> tuple[Tick, ...]:
        """The ticks of the DAG in one round, ordered by (witness, digest)."""
        slot = self._slots.get(round)
        return () if slot is None else tuple([n.tick for n in _in_order(slot.nodes.values())])

    def covered_ticks(self) -> tuple[Tick, ...]:
        """The kept ticks that committed leaders cover, in order: what a joining node replays."""
        return tuple([n.tick for n in _in_order(self._index.values()) if n.covered])

    def leader_of(self, round: Round) -> Address:
        return self.table.leader(self._seed, round)

    def is_equivocator(self, witness: Address) -> bool:
        return bool(self._proven & self.table.mask_of((witness,)))

    def adoptable(self, round: Round) -> dict[Address, Digest]:
        """Per witness the tick of a round that an honest witness may take as a parent.

        Not those of proven equivocators, and not those whose ancestry could not be checked.
        """
        slot = self._slots.get(round)
        if slot is None:
            return {}
        return {
            node.tick.witness: node.tick.digest
            for node in slot.nodes.values()
            if node.trusted and not node.bit & self._proven
        }

    def is_vote_settled(self, round: Round) -> bool:
        """The held ticks of the next round hold q supports or q non-supports of this leader."""
        slot = self._slots.get(round)
        if slot is None:
            return False
        table = self.table
        return self._is_directly_skipped(slot) or any(
            table.is_quorum(mask) for digest, mask in slot.supports.items() if digest != _NONE
        )

    def last_heard_round(self, witness: Address) -> int:
        """The highest round of which a tick of the witness is held; -1 if none ever was."""
        return self._heard_rounds[self.table.index_of(witness)]

    def last_covered_round(self, witness: Address) -> int:
        """The highest round of a tick of the witness that a leader covered; -1 if none ever was."""
        return self._covered_rounds[self.table.index_of(witness)]

    # Insertion.

    def add(self, tick: Tick) -> Added:
        """Take a tick whose signature, market and shape are verified. A bad one never raises."""
        report = _Report()
        outcome = self._receive(tick, report)
        while self._touched:
            self._decide()
            self._sequence(report)
        return Added(
            outcome,
            tuple(report.held),
            report.missing,
            tuple(report.rejected),
            tuple(report.equivocations),
            tuple(report.decided),
        )

    def _receive(self, tick: Tick, report: _Report) -> Outcome:
        digest = tick.digest
        if digest in self._index or digest in self._orphans:
            return Outcome.DUPLICATE
        known_error = self._rejected.get(digest)
        if known_error is not None:
            report.rejected.append(Rejected(tick, known_error))
            return Outcome.REJECTED
        witness = self.table.index_of(tick.witness)
        if tick.era != self.era or witness < 0:
            # Not remembered: anyone can sign such ticks, and it costs nothing to see again.
            reason = f"tick of era {tick.era}" if tick.era != self.era else "not by a witness"
            error = InvalidError(f"{reason}; this is the DAG of era {self.era}")
            report.rejected.append(Rejected(tick, error))
            self._reject_descendants(digest, report)
            return Outcome.REJECTED
        if tick.round < self._base:
            return Outcome.OLD
        if tick.round > self._quorum_round + 1 + MAX_AHEAD_ROUNDS:
            return Outcome.AHEAD
        slot = self._slot(tick.round)
        first = slot.firsts.setdefault(witness, tick)
        if first.digest != digest and not self._proven >> witness & 1:
            self._proven |= 1 << witness
            report.equivocations.append(Equivocation(first, tick))
        count = slot.counts.get(witness, 0)
        if count >= UNSOLICITED_PER_ROUND and not self._is_needed(digest, witness):
            return Outcome.SURPLUS
        unlinked = [] if tick.round == self._base else self._unlinked(tick)
        if (
            unlinked
            and digest not in self._waiting
            and self._orphan_counts[witness] >= ORPHANS_PER_WITNESS
        ):
            return Outcome.SURPLUS
        slot.counts[witness] = count + 1
        if count >= UNSOLICITED_PER_ROUND:
            self._surplus[witness] += 1
        bad_parents = [d for d in tick.parents if d in self._rejected]
        if bad_parents:
            self._reject(tick, InvalidError(f"parent {bad_parents[0].hex()} is invalid"), report)
            return Outcome.REJECTED
        if unlinked:
            self._orphans[digest] = _Orphan(tick, witness, len(unlinked))
            self._orphan_counts[witness] += 1
            slot.orphans.append(digest)
            for parent in unlinked:
                self._waiting.setdefault(parent, []).append(digest)
            report.missing = tuple([d for d in unlinked if d not in self._orphans])
            return Outcome.WAITING
        self._insert(tick, report)
        return Outcome.HELD if digest in self._index else Outcome.REJECTED

    def _is_needed(self, digest: Digest, witness: int) -> bool:
        """Whether a further tick of an equivocator may come in, as an ancestor.

        One that a witness not proven false lists is always let in: these are bounded by one per
        listing witness and round, and an honest one among them must not be cut off. Others, which
        proven equivocators list, could be made up without end and spend the witness's budget.
        """
        for child in self._waiting.get(digest, ()):
            if not self._proven >> self._orphans[child].witness & 1:
                return True
            if self._surplus[witness] < SURPLUS_PER_WITNESS:
                return True
        return False

    def _unlinked(self, tick: Tick) -> list[Digest]:
        index = self._index
        return [digest for digest in tick.parents if digest not in index]

    def _slot(self, round: int) -> _Slot:
        slot = self._slots.get(round)
        if slot is None:
            slot = _Slot(round, self.table.leader_index(self._seed, round))
            self._slots[round] = slot
        return slot

    def _insert(self, tick: Tick, report: _Report) -> None:
        """Link a tick all of whose parents are held, then the orphans that waited for it."""
        ready = [tick]
        while ready:
            tick = ready.pop()
            error = self._link(tick)
            if error is not None:
                self._reject(tick, error, report)
                continue
            report.held.append(tick)
            for child in self._waiting.pop(tick.digest, ()):
                orphan = self._orphans[child]
                orphan.unlinked -= 1
                if orphan.unlinked == 0:
                    self._forget_orphan(child)
                    ready.append(orphan.tick)

    def _link(self, tick: Tick) -> InvalidError | None:
        """Check a tick against its parents, and enter it and what it says about two slots."""
        round = tick.round
        bit = 1 << self.table.index_of(tick.witness)
        slot = self._slot(round)
        if round == self._base:
            node = _Node(tick, bit, ())
            node.trusted = round == 0
            if round == 0 and tick.parents:
                return InvalidError("a tick of round 0 has parents")
        else:
            parents = tuple([self._index[digest] for digest in tick.parents])
            node = _Node(tick, bit, parents)
            leader = self._slot(round - 1).leader
            mask = 0
            votes: dict[Digest, int] = {}
            for parent in parents:
                if parent.round != round - 1:
                    return InvalidError(f"a parent of round {parent.round} in round {round}")
                if mask & parent.bit:
                    return InvalidError("two parents of one witness")
                mask |= parent.bit
                if parent.bit == leader:
                    node.vote = parent.tick.digest
                if parent.vote:
                    votes[parent.vote] = votes.get(parent.vote, 0) | parent.bit
                if not parent.trusted:
                    node.trusted = False
            if not self.table.is_quorum(mask):
                return InvalidError(f"parents of weight {self.table.weigh(mask)}, below a quorum")
            previous = self._slot(round - 1)
            previous.supports[node.vote] = previous.supports.get(node.vote, 0) | bit
            self._touched.add(round - 1)
            voted = self._slots.get(round - 2)  # forgotten, if the parents are the lowest kept
            for digest, voters in votes.items():
                if voted is not None and self.table.is_quorum(voters):
                    node.certifies = digest
                    voted.certificates[digest] = voted.certificates.get(digest, 0) | bit
                    self._touched.add(round - 2)
        slot.nodes[tick.digest] = node
        if bit == slot.leader:
            slot.candidates.append(tick.digest)
        slot.mask |= bit
        self._index[tick.digest] = node
        if not node.trusted:
            self._untrusted[tick.digest] = node
        self._top = max(self._top, round)
        if round > self._quorum_round and self.table.is_quorum(slot.mask):
            self._quorum_round = round
        witness = bit.bit_length() - 1
        self._heard_rounds[witness] = max(self._heard_rounds[witness], round)
        if tick.digest == self._gate:
            self._gate = _NONE
            self._cover(node, self._base)
            self._retrust()
            self._touched.add(self._next)
        return None

    def _reject(self, tick: Tick, error: InvalidError, report: _Report) -> None:
        self._rejected[tick.digest] = error
        self._slot(tick.round).rejected.append(tick.digest)
        report.rejected.append(Rejected(tick, error))
        self._reject_descendants(tick.digest, report)

    def _reject_descendants(self, digest: Digest, report: _Report) -> None:
        doomed = [digest]
        while doomed:
            parent = doomed.pop()
            for child in self._waiting.pop(parent, ()):
                orphan = self._orphans[child]
                self._forget_orphan(child)
                error = InvalidError(f"parent {parent.hex()} is invalid")
                self._rejected[child] = error
                self._slot(orphan.tick.round).rejected.append(child)
                report.rejected.append(Rejected(orphan.tick, error))
                doomed.append(child)

    def _forget_orphan(self, digest: Digest) -> None:
        """Take an orphan out of every list it is in."""
        orphan = self._orphans.pop(digest)
        self._orphan_counts[orphan.witness] -= 1
        self._slots[orphan.tick.round].orphans.remove(digest)
        for parent in orphan.tick.parents:
            children = self._waiting.get(parent)
            if children is not None and digest in children:
                children.remove(digest)
                if not children:
                    del self._waiting[parent]

    # Decision.

    def _decide(self) -> None:
        changed = False
        for round in self._touched:
            slot = self._slots.get(round)
            if slot is not None and slot.status == _UNDECIDED and round >= self._next:
                changed |= self._decide_directly(slot)
        self._touched.clear()
        if changed:
            self._decide_by_anchors()

    def _decide_directly(self, slot: _Slot) -> bool:
        for digest, mask in slot.certificates.items():
            if self.table.is_quorum(mask):
                slot.status = _COMMITTED
                slot.chosen = slot.nodes[digest]
                return True
        if self._is_directly_skipped(slot):
            slot.status = _SKIPPED
            return True
        return False

    def _is_directly_skipped(self, slot: _Slot) -> bool:
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
        anchor: _Node | None = None
        walked: _Node | None = None
        level: set[_Node] = set()
        level_round = 0
        for round in range(self._top, self._next - 1, -1):
            later = self._slots.get(round + 3)
            if later is None or later.status == _UNDECIDED:
                anchor = None
            elif later.status == _COMMITTED:
                anchor = later.chosen
            # A skipped slot leaves the anchor of round + 1 in place.
            slot = self._slots.get(round)
            if slot is None or slot.status != _UNDECIDED or anchor is None:
                continue
            if anchor is not walked:
                walked, level, level_round = anchor, {anchor}, anchor.round
            while level_round > round + 2:
                level = {parent for node in level for parent in node.parents}
                level_round -= 1
            certified = [node.certifies for node in level if node.certifies]
            if certified:
                # All equal while less than a third is faulty; beyond that, at least determined.
                slot.status = _COMMITTED
                slot.chosen = slot.nodes[min(certified)]
            else:
                slot.status = _SKIPPED

    def _sequence(self, report: _Report) -> None:
        """Give out decided slots in order; forget what the last committed leader lets us."""
        if self._gate:
            return
        committed = False
        while True:
            slot = self._slots.get(self._next)
            if slot is None or slot.status == _UNDECIDED:
                break
            if slot.chosen is None:
                report.decided.append(Decided(Round(slot.round), None, (), TimeMs(0)))
            else:
                report.decided.append(self._commit(slot.chosen))
                committed = True
            self._next += 1
        if committed:
            self._retrust()
            self._prune(report)

    def _commit(self, leader: _Node) -> Decided:
        floor = 0 if self._last is None else self._last.round - WINDOW_ROUNDS
        history = self._cover(leader, floor)
        self._last = CommitPoint(Round(leader.round), leader.tick.digest)
        median = leader.tick.time_ms
        if leader.parents:
            weigh = self.table.weigh
            median = weighted_median([(p.tick.time_ms, weigh(p.bit)) for p in leader.parents])
        ticks = tuple([node.tick for node in _in_order(history)])
        return Decided(Round(leader.round), leader.tick, ticks, median)

    def _cover(self, leader: _Node, floor: int) -> list[_Node]:
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

    def _retrust(self) -> None:
        """What a committed leader covers is trusted, and so is what rests on trusted ticks only."""
        for node in sorted(self._untrusted.values(), key=lambda node: node.round):
            if not node.trusted and node.parents and all(p.trusted for p in node.parents):
                node.trusted = True
            if node.trusted:
                del self._untrusted[node.tick.digest]

    def _prune(self, report: _Report) -> None:
        assert self._last is not None
        old_base, base = self._base, self._last.round - WINDOW_ROUNDS
        if base <= old_base:
            return
        for round in range(old_base, base):
            slot = self._slots.get(round)
            if slot is None:
                continue
            for digest in list(slot.orphans):
                self._forget_orphan(digest)
            for digest in slot.rejected:
                del self._rejected[digest]
            for digest in slot.nodes:
                del self._index[digest]
                self._untrusted.pop(digest, None)
            for witness, count in slot.counts.items():
                self._surplus[witness] -= max(0, count - UNSOLICITED_PER_ROUND)
            del self._slots[round]
        self._base = base
        lowest = self._slot(base)
        for node in lowest.nodes.values():
            node.parents = ()  # or the whole past would stay in memory
        released = [self._orphans[digest].tick for digest in lowest.orphans]
        for tick in released:
            self._forget_orphan(tick.digest)
        for tick in released:
            self._insert(tick, report)


def _in_order(nodes: Iterable[_Node]) -> list[_Node]:
    return sorted(nodes, key=lambda n: (n.round, n.tick.witness, n.tick.digest))
