"""Up to which entry each author's log counts (protocol/03-clock.md, Cut).

The ticks that a committed leader newly covers list entries that their witnesses hold. The support
of a digest for a number of an author is the weight of the distinct witnesses that list it in ticks
of the window: rounds from 64 before the previous committed leader on. An epoch extends each log by
successive, chained entries with more than a third of the weight each, so that an honest witness can
serve every one of them. Two supported digests for one number, or a supported one that does not
chain, is a fork that the clock itself commits: the author is frozen from that epoch on.

Why a window loses nothing: honest witnesses list what they hold and is uncut again every 32 rounds,
so an entry that enough of them hold has its support inside any window of 64. Why it is needed: the
support at a leader is then a function of the 64 rounds before it alone, so memory is a fixed
multiple of the ticks kept, and a node that joins at a checkpoint with these rounds (``prime``) cuts
exactly what everybody else cuts. A second digest for a number that was applied already is still
seen as a fork while the listings of both are in the window; later ones are a matter of evidence.

Nothing here depends on arrival: only ``prev_of`` looks at local storage, and where it lacks an
entry the whole epoch waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from orrange_p2p.core.dag import WINDOW_ROUNDS
from orrange_p2p.core.errors import IllegalTransitionError
from orrange_p2p.core.ids import ZERO32, Address, Digest, Seq
from orrange_p2p.core.ticks import HeadItem, Tick
from orrange_p2p.core.witnesses import WitnessTable


class LogHead(NamedTuple):
    """How far an author's log is cut."""

    next_seq: Seq
    """Number of the first entry not cut."""
    digest: Digest
    """The last entry cut, which the next one names as ``prev``; zero before the first."""


FRESH_LOG = LogHead(Seq(0), Digest(ZERO32))


class CutRun(NamedTuple):
    """Successive entries of one author that an epoch adds."""

    author: Address
    first_seq: Seq
    digests: tuple[Digest, ...]


class MissingEntry(NamedTuple):
    """An entry of the cut that is not held here."""

    author: Address
    seq: Seq
    digest: Digest
    witnesses: tuple[Address, ...]
    """Who lists it, ascending: more than a third, so an honest one can be asked."""


class CutFork(NamedTuple):
    """An author's fork, committed by the clock."""

    author: Address
    seq: Seq
    digests: tuple[Digest, ...]
    """The supported digests for ``seq``, ascending; a single one does not chain."""


class Extension(NamedTuple):
    """What an epoch adds to the cut. With ``missing`` the rest is empty and nothing changed."""

    runs: tuple[CutRun, ...] = ()
    """Ascending by author, at most one each."""
    missing: tuple[MissingEntry, ...] = ()
    """Fetch all of these, then call ``extend`` again."""
    forks: tuple[CutFork, ...] = ()
    """Authors frozen from the start of this epoch, ascending; none of them is in ``runs``."""


class _Line:
    """One author's log as the clock sees it."""

    __slots__ = ("again", "head", "ready", "slots", "twins")

    def __init__(self, head: LogHead) -> None:
        self.head: LogHead = head
        self.slots: dict[int, dict[Digest, int]] = {}
        """Number -> digest -> the witnesses that list it in the window."""
        self.again: dict[tuple[int, Digest, int], int] = {}
        """Listings by one witness beyond its first: it is out when the last of them is."""
        self.ready: set[int] = set()
        """Uncut numbers of which a digest reached support."""
        self.twins: set[int] = set()
        """Numbers of which a second digest reached support."""

    def copy(self) -> _Line:
        other = _Line(self.head)
        other.slots = {seq: dict(slot) for seq, slot in self.slots.items()}
        other.again = dict(self.again)
        other.ready = set(self.ready)
        other.twins = set(self.twins)
        return other

    def forget_support(self) -> None:
        self.slots.clear()
        self.again.clear()
        self.ready.clear()
        self.twins.clear()


class Cut:
    """The cut of one market: for each leader in order, ``absorb`` its history, then ``extend``."""

    __slots__ = ("_absorbed", "_buckets", "_floor", "_frozen", "_lines", "_next_floor", "_open",
                 "table")  # fmt: skip

    def __init__(
        self,
        table: WitnessTable,
        heads: Mapping[Address, LogHead] | None = None,
        frozen: Iterable[Address] = (),
    ) -> None:
        """From genesis, or from the ``heads`` and ``frozen`` authors of a checkpoint's state."""
        self.table: WitnessTable = table
        self._lines: dict[Address, _Line] = {}
        for author, head in (heads or {}).items():
            self._lines[author] = _Line(head)
        self._frozen: set[Address] = set(frozen)
        self._open: set[Address] = set()
        """Authors of whom something is ready or forked: all that ``extend`` has to look at."""
        self._buckets: dict[int, list[tuple[int, tuple[HeadItem, ...]]]] = {}
        self._floor: int = 0
        self._next_floor: int = 0
        self._absorbed: bool = False

    def copy(self) -> Cut:
        """Another cut in this state: what one of them does leaves the other alone."""
        other = Cut(self.table)
        other._lines = {author: line.copy() for author, line in self._lines.items()}
        other._frozen = set(self._frozen)
        other._open = set(self._open)
        other._buckets = {round: list(bucket) for round, bucket in self._buckets.items()}
        other._floor, other._next_floor = self._floor, self._next_floor
        other._absorbed = self._absorbed
        return other

    def head_of(self, author: Address) -> LogHead:
        line = self._lines.get(author)
        return FRESH_LOG if line is None else line.head

    def heads(self) -> dict[Address, LogHead]:
        """Every author of whom anything was cut, ascending."""
        lines = self._lines
        return {a: lines[a].head for a in sorted(lines) if lines[a].head.next_seq > 0}

    @property
    def frozen(self) -> tuple[Address, ...]:
        return tuple(sorted(self._frozen))

    def is_frozen(self, author: Address) -> bool:
        return author in self._frozen

    def freeze(self, author: Address) -> None:
        """Cut nothing more of an author: a fork was proven by evidence in the book."""
        self._frozen.add(author)
        self._open.discard(author)
        line = self._lines.get(author)
        if line is not None:
            line.forget_support()

    def support(self, author: Address, seq: Seq) -> dict[Digest, tuple[Address, ...]]:
        """Who lists which digest for a number, within the window."""
        line = self._lines.get(author)
        slot = {} if line is None else line.slots.get(seq, {})
        return {digest: self.table.members(slot[digest]) for digest in sorted(slot)}

    def begin_era(self, table: WitnessTable) -> None:
        """Another era: other weights, rounds from 0, no support yet.

        Heads and frozen authors stay. What was listed and not cut will be listed again, since the
        witnesses' first ticks of the era have no parent of their own.
        """
        self._require_extended()
        self.table = table
        self._buckets.clear()
        self._open.clear()
        self._floor = self._next_floor = 0
        for author in list(self._lines):
            line = self._lines[author]
            line.forget_support()
            if line.head.next_seq == 0:
                del self._lines[author]

    def prime(self, ticks: Sequence[Tick]) -> None:
        """Count the listings of the window before a checkpoint; the cut itself stays.

        ``ticks``: all that the checkpoint's leader and earlier ones cover, from 64 rounds before
        that leader on, ordered by (round, witness, digest) as ``Clock.covered_ticks`` gives them.
        """
        self._require_extended()
        self._count_all(ticks)

    def absorb(self, ticks: Sequence[Tick]) -> None:
        """Count what a committed leader newly covers, as ``Decided.history`` gives it.

        The leader is the last of them: its history holds no other tick of its round. Raises
        ``IllegalTransitionError`` when the previous epoch was not extended: what it cuts must not
        depend on this one.
        """
        self._require_extended()
        self._absorbed = True
        self._count_all(ticks)

    def extend(
        self,
        prev_of: Callable[[Digest], Digest | None],
        eligible: Callable[[Address], bool],
    ) -> Extension:
        """The entries that the absorbed leader's epoch adds.

        ``prev_of`` gives the ``prev`` of an entry that is held and valid, else ``None``; it is
        asked for supported digests only. ``eligible`` says, from the state after the previous
        epoch, whose entries count at all.
        """
        if not self._absorbed:
            raise IllegalTransitionError("extend without a leader absorbed before")
        runs: list[CutRun] = []
        missing: list[MissingEntry] = []
        forks: list[CutFork] = []
        looked_at: list[Address] = []
        for author in sorted(self._open):
            if not eligible(author):
                continue
            looked_at.append(author)
            line = self._lines[author]
            fork = self._twin_fork(author, line)
            if fork is None:
                run, fork = self._run(author, line, prev_of, missing)
                if run.digests and fork is None:
                    runs.append(run)
            if fork is not None:
                forks.append(fork)
        if missing:
            return Extension(missing=tuple(missing))
        self._absorbed = False
        for run in runs:
            self._advance(self._lines[run.author], run)
        for fork in forks:
            self.freeze(fork.author)
        for author in looked_at:
            line = self._lines[author]
            if not line.ready and not line.twins:
                self._open.discard(author)
        return Extension(tuple(runs), (), tuple(forks))

    def _require_extended(self) -> None:
        if self._absorbed:
            raise IllegalTransitionError("the previous leader's epoch is not extended yet")

    # Counting.

    def _count_all(self, ticks: Sequence[Tick]) -> None:
        self._floor = self._next_floor
        for round in sorted(r for r in self._buckets if r < self._floor):
            for bit, heads in self._buckets.pop(round):
                for head in heads:
                    self._discount(bit, head)
        for tick in ticks:
            if tick.round < self._floor or not tick.heads:
                continue
            bit = self.table.mask_of((tick.witness,))
            self._buckets.setdefault(tick.round, []).append((bit, tick.heads))
            for head in tick.heads:
                self._count(bit, head)
        if ticks:
            self._next_floor = ticks[-1].round - WINDOW_ROUNDS

    def _count(self, bit: int, head: HeadItem) -> None:
        author = head.author
        if author in self._frozen:
            return
        line = self._lines.get(author)
        if line is None:
            line = self._lines[author] = _Line(FRESH_LOG)
        more_than_third, weigh = self.table.more_than_third, self.table.weigh
        seq: int = head.first_seq
        for digest in head.digests:
            slot = line.slots.get(seq)
            if slot is None:
                slot = line.slots[seq] = {}
            before = slot.get(digest, 0)
            if before & bit:
                key = (seq, digest, bit)
                line.again[key] = line.again.get(key, 0) + 1
            else:
                slot[digest] = before | bit
                if more_than_third(weigh(before | bit)) and not more_than_third(weigh(before)):
                    self._note_supported(author, line, seq, slot)
            seq += 1

    def _note_supported(
        self, author: Address, line: _Line, seq: int, slot: dict[Digest, int]
    ) -> None:
        if seq >= line.head.next_seq:
            line.ready.add(seq)
            self._open.add(author)
        if len(slot) > 1 and len(self._supported(slot)) > 1:
            line.twins.add(seq)
            self._open.add(author)

    def _discount(self, bit: int, head: HeadItem) -> None:
        if head.author in self._frozen:
            return
        line = self._lines[head.author]
        seq: int = head.first_seq
        for digest in head.digests:
            key = (seq, digest, bit)
            more = line.again.get(key, 0)
            if more > 1:
                line.again[key] = more - 1
            elif more:
                del line.again[key]
            else:
                slot = line.slots[seq]
                slot[digest] &= ~bit
                if not slot[digest]:
                    del slot[digest]
                if not slot:
                    del line.slots[seq]
                    line.ready.discard(seq)
                    line.twins.discard(seq)
            seq += 1
        if not line.slots:
            self._open.discard(head.author)
            if line.head.next_seq == 0:
                del self._lines[head.author]

    def _supported(self, slot: dict[Digest, int]) -> list[Digest]:
        table = self.table
        return sorted([d for d, mask in slot.items() if table.more_than_third(table.weigh(mask))])

    # Extending.

    def _twin_fork(self, author: Address, line: _Line) -> CutFork | None:
        """The lowest number with two digests that are supported now."""
        for seq in sorted(line.twins):
            digests = self._supported(line.slots[seq])
            if len(digests) > 1:
                return CutFork(author, Seq(seq), tuple(digests))
        return None

    def _run(
        self,
        author: Address,
        line: _Line,
        prev_of: Callable[[Digest], Digest | None],
        missing: list[MissingEntry],
    ) -> tuple[CutRun, CutFork | None]:
        """The successive supported entries, up to the first that does not chain."""
        seq: int = line.head.next_seq
        head = line.head.digest
        digests: list[Digest] = []
        fork: CutFork | None = None
        while seq in line.ready:
            supported = self._supported(line.slots[seq])
            if not supported:
                break
            digest = supported[0]
            prev = prev_of(digest)
            if prev is None:
                holders = self.table.members(line.slots[seq][digest])
                missing.append(MissingEntry(author, Seq(seq), digest, holders))
            elif prev != head:
                fork = CutFork(author, Seq(seq), (digest,))
                break
            digests.append(digest)
            head = digest
            seq += 1
        return CutRun(author, line.head.next_seq, tuple(digests)), fork

    def _advance(self, line: _Line, run: CutRun) -> None:
        next_seq = run.first_seq + len(run.digests)
        line.ready.difference_update(range(run.first_seq, next_seq))
        line.head = LogHead(Seq(next_seq), run.digests[-1])
