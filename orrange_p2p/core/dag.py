"""The ticks of one era: what is valid, what waits, and how much of it is kept.

``Dag`` takes verified ticks in any order (protocol/03-clock.md, Validity and Bounds). A tick is
held once all its parents are held and it keeps the rules; until then it waits. For each round it
counts, as bit masks of witnesses, who supports and who certifies which leader: a tick touches its
own round and the two before it, so adding one costs one pass over its parents. What follows from
the counts is the business of ``clock``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final, NamedTuple

from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.ids import Address, Digest, Era
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

NO_CANDIDATE: Final = Digest(b"")

# The fate of a leader slot.
UNDECIDED: Final = 0
SKIPPED: Final = 1
COMMITTED: Final = 2


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


class Node:
    """A tick in the DAG. ``parents`` are all held, or empty in the lowest round kept."""

    __slots__ = ("bit", "certifies", "covered", "parents", "round", "tick", "trusted", "vote")

    def __init__(self, tick: Tick, bit: int, parents: tuple[Node, ...]) -> None:
        self.tick: Tick = tick
        self.round: int = tick.round
        self.bit: int = bit
        self.parents: tuple[Node, ...] = parents
        self.vote: Digest = NO_CANDIDATE
        """The candidate of the previous round that it supports."""
        self.certifies: Digest = NO_CANDIDATE
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


class Slot:
    """One round: its ticks, and what is known about its leader."""

    __slots__ = (
        "candidates", "certificates", "chosen", "counts", "firsts", "leader", "mask", "nodes",
        "orphans", "rejected", "round", "status", "supports",
    )  # fmt: skip

    def __init__(self, round: int, leader: int) -> None:
        self.round: int = round
        self.leader: int = 1 << leader
        self.nodes: dict[Digest, Node] = {}
        self.candidates: list[Digest] = []
        """Those of ``nodes`` that are the leader's: several, if it equivocates."""
        self.mask: int = 0
        """Witnesses of whom a tick of this round is held."""
        self.supports: dict[Digest, int] = {}
        """Per candidate (and for none): witnesses with a tick of the next round saying so."""
        self.certificates: dict[Digest, int] = {}
        """Per candidate: witnesses with a certificate for it in the round after that."""
        self.status: int = UNDECIDED
        self.chosen: Node | None = None
        self.firsts: dict[int, Tick] = {}
        self.counts: dict[int, int] = {}
        """Per witness: ticks taken for this round, rejected ones included."""
        self.orphans: list[Digest] = []
        self.rejected: list[Digest] = []


class Report:
    """What followed from one tick so far."""

    __slots__ = ("equivocations", "held", "missing", "rejected")

    def __init__(self) -> None:
        self.held: list[Tick] = []
        self.missing: tuple[Digest, ...] = ()
        self.rejected: list[Rejected] = []
        self.equivocations: list[Equivocation] = []


class Dag:
    """The ticks of one market and era.

    What makes a tick invalid (with all its descendants): another era; a signer who is no witness; a
    parent that is not of the previous round; two parents of one witness; parents of less than a
    quorum; parents in round 0, or none later. All of that shows in its causal history. That a
    witness leaves out its own previous tick does not (a history holds ticks of the previous round
    only as parents), so that rule binds honest witnesses and is no ground for rejection.

    Below the window nothing can be checked any more: a tick of the lowest round kept is taken
    without its parents, but neither it nor its descendants are trusted until a committed leader
    covers them, and honest witnesses build on trusted ticks only. So whatever they build on has
    been checked to the ground by one of them, and pruning at different times never makes honest
    nodes differ about the validity of each other's ticks.
    """

    __slots__ = (
        "_heard_rounds", "_orphan_counts", "_rejected", "_seed", "_surplus", "_untrusted", "base",
        "era", "index", "orphans", "proven", "quorum_round", "slots", "table", "top", "touched",
        "waiting",
    )  # fmt: skip

    def __init__(self, table: WitnessTable, era: Era, era_seed: bytes, base: int) -> None:
        self.table: WitnessTable = table
        self.era: Era = era
        self._seed: bytes = era_seed
        self.base: int = base
        """Lowest round whose ticks are kept and taken."""
        self.quorum_round: int = base - 1
        """Highest round of which ticks of a quorum are held."""
        self.top: int = base - 1
        """Highest round of which any tick is held."""
        self.slots: dict[int, Slot] = {}
        self.index: dict[Digest, Node] = {}
        """Every tick held."""
        self.orphans: dict[Digest, _Orphan] = {}
        self.waiting: dict[Digest, list[Digest]] = {}
        """Missing or unlinked parent -> the orphans that wait for it."""
        self.proven: int = 0
        """Witnesses known to have signed two ticks for one round."""
        self.touched: set[int] = set()
        """Rounds whose counts have changed since somebody cleared this."""
        self._rejected: dict[Digest, InvalidError] = {}
        self._untrusted: dict[Digest, Node] = {}
        self._surplus: list[int] = [0] * len(table)
        self._orphan_counts: list[int] = [0] * len(table)
        self._heard_rounds: list[int] = [-1] * len(table)

    def missing(self) -> tuple[Digest, ...]:
        """Every parent that some orphan waits for and that we do not have, ascending."""
        return tuple(sorted([d for d in self.waiting if d not in self.orphans]))

    def adoptable(self, round: int) -> dict[Address, Digest]:
        """Per witness the trusted tick of a round; of proven equivocators none."""
        slot = self.slots.get(round)
        if slot is None:
            return {}
        return {
            node.tick.witness: node.tick.digest
            for node in slot.nodes.values()
            if node.trusted and not node.bit & self.proven
        }

    def heard_round(self, witness: Address) -> int:
        """The highest round of which a tick of the witness is held; -1 if none ever was."""
        return self._heard_rounds[self.table.index_of(witness)]

    def receive(self, tick: Tick, report: Report) -> Outcome:
        """Take a tick whose signature, market and shape are verified. A bad one never raises."""
        digest = tick.digest
        if digest in self.index or digest in self.orphans:
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
        if tick.round < self.base:
            return Outcome.OLD
        if tick.round > self.quorum_round + 1 + MAX_AHEAD_ROUNDS:
            return Outcome.AHEAD
        slot = self._slot(tick.round)
        first = slot.firsts.setdefault(witness, tick)
        if first.digest != digest and not self.proven >> witness & 1:
            self.proven |= 1 << witness
            report.equivocations.append(Equivocation(first, tick))
        count = slot.counts.get(witness, 0)
        if count >= UNSOLICITED_PER_ROUND and not self._is_needed(digest, witness):
            return Outcome.SURPLUS
        unlinked = [] if tick.round == self.base else self._unlinked(tick)
        if (
            unlinked
            and digest not in self.waiting
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
            self.orphans[digest] = _Orphan(tick, witness, len(unlinked))
            self._orphan_counts[witness] += 1
            slot.orphans.append(digest)
            for parent in unlinked:
                self.waiting.setdefault(parent, []).append(digest)
            report.missing = tuple([d for d in unlinked if d not in self.orphans])
            return Outcome.WAITING
        self._insert(tick, report)
        return Outcome.HELD if digest in self.index else Outcome.REJECTED

    def _is_needed(self, digest: Digest, witness: int) -> bool:
        """Whether a further tick of an equivocator may come in, as an ancestor.

        One that a witness not proven false lists is always let in: these are bounded by one per
        listing witness and round, and an honest one among them must not be cut off. Others, which
        proven equivocators list, could be made up without end and spend the witness's budget.
        """
        for child in self.waiting.get(digest, ()):
            if not self.proven >> self.orphans[child].witness & 1:
                return True
            if self._surplus[witness] < SURPLUS_PER_WITNESS:
                return True
        return False

    def _unlinked(self, tick: Tick) -> list[Digest]:
        index = self.index
        return [digest for digest in tick.parents if digest not in index]

    def _slot(self, round: int) -> Slot:
        slot = self.slots.get(round)
        if slot is None:
            slot = Slot(round, self.table.leader_index(self._seed, round))
            self.slots[round] = slot
        return slot

    def _insert(self, tick: Tick, report: Report) -> None:
        """Link a tick all of whose parents are held, then the orphans that waited for it."""
        ready = [tick]
        while ready:
            tick = ready.pop()
            error = self._link(tick)
            if error is not None:
                self._reject(tick, error, report)
                continue
            report.held.append(tick)
            for child in self.waiting.pop(tick.digest, ()):
                orphan = self.orphans[child]
                orphan.unlinked -= 1
                if orphan.unlinked == 0:
                    self._forget_orphan(child)
                    ready.append(orphan.tick)

    def _link(self, tick: Tick) -> InvalidError | None:
        """Check a tick against its parents, and enter it and what it says about two slots."""
        round = tick.round
        bit = 1 << self.table.index_of(tick.witness)
        slot = self._slot(round)
        if round == self.base:
            node = Node(tick, bit, ())
            node.trusted = round == 0
            if round == 0 and tick.parents:
                return InvalidError("a tick of round 0 has parents")
        else:
            parents = tuple([self.index[digest] for digest in tick.parents])
            node = Node(tick, bit, parents)
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
            self.touched.add(round - 1)
            voted = self.slots.get(round - 2)  # forgotten, if the parents are the lowest kept
            for digest, voters in votes.items():
                if voted is not None and self.table.is_quorum(voters):
                    node.certifies = digest
                    voted.certificates[digest] = voted.certificates.get(digest, 0) | bit
                    self.touched.add(round - 2)
        slot.nodes[tick.digest] = node
        if bit == slot.leader:
            slot.candidates.append(tick.digest)
        slot.mask |= bit
        self.index[tick.digest] = node
        if not node.trusted:
            self._untrusted[tick.digest] = node
        self.top = max(self.top, round)
        if round > self.quorum_round and self.table.is_quorum(slot.mask):
            self.quorum_round = round
        witness = bit.bit_length() - 1
        self._heard_rounds[witness] = max(self._heard_rounds[witness], round)
        return None

    def _reject(self, tick: Tick, error: InvalidError, report: Report) -> None:
        self._rejected[tick.digest] = error
        self._slot(tick.round).rejected.append(tick.digest)
        report.rejected.append(Rejected(tick, error))
        self._reject_descendants(tick.digest, report)

    def _reject_descendants(self, digest: Digest, report: Report) -> None:
        doomed = [digest]
        while doomed:
            parent = doomed.pop()
            for child in self.waiting.pop(parent, ()):
                orphan = self.orphans[child]
                self._forget_orphan(child)
                error = InvalidError(f"parent {parent.hex()} is invalid")
                self._rejected[child] = error
                self._slot(orphan.tick.round).rejected.append(child)
                report.rejected.append(Rejected(orphan.tick, error))
                doomed.append(child)

    def _forget_orphan(self, digest: Digest) -> None:
        """Take an orphan out of every list it is in."""
        orphan = self.orphans.pop(digest)
        self._orphan_counts[orphan.witness] -= 1
        self.slots[orphan.tick.round].orphans.remove(digest)
        for parent in orphan.tick.parents:
            children = self.waiting.get(parent)
            if children is not None and digest in children:
                children.remove(digest)
                if not children:
                    del self.waiting[parent]

    # Trust and forgetting.

    def retrust(self) -> None:
        """What a committed leader covers is trusted, and so is what rests on trusted ticks only."""
        for node in sorted(self._untrusted.values(), key=lambda node: node.round):
            if not node.trusted and node.parents and all(p.trusted for p in node.parents):
                node.trusted = True
            if node.trusted:
                del self._untrusted[node.tick.digest]

    def forget_below(self, base: int, report: Report) -> None:
        """Drop every round below ``base``; what waited there, or for what was there, comes in."""
        old_base = self.base
        if base <= old_base:
            return
        for round in range(old_base, base):
            slot = self.slots.get(round)
            if slot is None:
                continue
            for digest in list(slot.orphans):
                self._forget_orphan(digest)
            for digest in slot.rejected:
                del self._rejected[digest]
            for digest in slot.nodes:
                del self.index[digest]
                self._untrusted.pop(digest, None)
            for witness, count in slot.counts.items():
                self._surplus[witness] -= max(0, count - UNSOLICITED_PER_ROUND)
            del self.slots[round]
        self.base = base
        lowest = self._slot(base)
        for node in lowest.nodes.values():
            node.parents = ()  # or the whole past would stay in memory
        released = [self.orphans[digest].tick for digest in lowest.orphans]
        for tick in released:
            self._forget_orphan(tick.digest)
        for tick in released:
            self._insert(tick, report)


def in_order(nodes: Iterable[Node]) -> list[Node]:
    return sorted(nodes, key=lambda n: (n.round, n.tick.witness, n.tick.digest))
