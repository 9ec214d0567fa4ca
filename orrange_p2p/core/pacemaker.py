"""When a witness leaves a round, and what its next tick says (protocol/03-clock.md, Pace).

Pure: it reads the ``Clock`` and the ``HeldLogs``, is told the time, and drafts. Whoever owns it
persists and signs the draft, says so with ``note_ticked``, and only then sends: a draft that was
not noted is drafted again, perhaps differently, and no round is ever drafted twice once noted.

Pacing is local. No other node can check it, agreement does not rest on it, and a witness that does
it badly only makes the clock slower.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core.clock import Clock
from orrange_p2p.core.ids import MAX_UINT63, ZERO32, Address, Digest, Round, Seq, TimeMs
from orrange_p2p.core.ticks import HeadItem

RELIST_ROUNDS: Final = 32
"""Held entries still uncut are listed again this many rounds after; half the clock's window."""
CALM_ROUNDS: Final = 4
"""Rounds above the last commit that are no sign of trouble: two always, and a crashed leader's."""
MAX_DOUBLINGS: Final = 5
"""The leader timeout grows to 32 times its first value and no further."""
SILENT_ROUNDS: Final = 8
"""A leader not heard of for longer is not waited for while commits go on."""
HELD_AHEAD: Final = 1024
"""Entries per author held beyond the cut; further ones come back by sync when it has moved."""
MAX_ALTERNATIVES: Final = 2
"""Entries remembered for one number besides the listed one."""

_SEARCH_ROUNDS: Final = 8


class Pace(NamedTuple):
    """The parameters of a witness; those of time come from genesis."""

    min_round_ms: int = 250
    leader_timeout_ms: int = 1000
    max_listed: int = 3072
    """Entry digests in one tick. At most 68 bytes each, an item of its own included, so a tick
    stays below 216 KiB of its 256."""
    rounds_per_era: int = MAX_UINT63
    """Rounds from this one on are not ticked: the era's reveals end there."""


class TickDraft(NamedTuple):
    """What the pacemaker decides of a tick; time, applied root, reveal are added by its owner."""

    round: Round
    parents: tuple[Digest, ...]
    """Ascending."""
    heads: tuple[HeadItem, ...]
    """Ascending by author, one run each."""


class Wait(NamedTuple):
    """Nothing to sign. Poll again after new ticks, and at ``until_ms`` if that is not ``None``."""

    until_ms: TimeMs | None


class _Log:
    __slots__ = ("chain", "head", "loose", "next_seq")

    def __init__(self, next_seq: int, head: Digest) -> None:
        self.next_seq: int = next_seq
        self.head: Digest = head
        self.chain: list[Digest] = []
        """Held, uncut and chained, from ``next_seq`` on."""
        self.loose: dict[int, list[tuple[Digest, Digest]]] = {}
        """Held and not in the chain, as (digest, prev): early ones, and other sides of forks."""

    def grow(self) -> None:
        while True:
            seq = self.next_seq + len(self.chain)
            tail = self.chain[-1] if self.chain else self.head
            fitting = [pair for pair in self.loose.get(seq, ()) if pair[1] == tail]
            if not fitting:
                return
            self.chain.append(fitting[0][0])
            self.loose[seq].remove(fitting[0])
            if not self.loose[seq]:
                del self.loose[seq]


class HeldLogs:
    """Which uncut entries this node holds: what its ticks may list.

    Per author it is one chain from the cut on. Of a forked author it is the side that was held
    first, until the cut goes the other way.
    """

    __slots__ = ("_logs",)

    def __init__(self) -> None:
        self._logs: dict[Address, _Log] = {}

    def note_entry(self, author: Address, seq: Seq, digest: Digest, prev: Digest) -> bool:
        """A valid entry is held, durably. ``False``: not needed, or too far ahead of the cut."""
        log = self._logs.get(author)
        if log is None:
            log = self._logs[author] = _Log(0, Digest(ZERO32))
        place = seq - log.next_seq
        if not 0 <= place < HELD_AHEAD:
            return False
        if place < len(log.chain) and log.chain[place] == digest:
            return False
        others = log.loose.setdefault(seq, [])
        if (digest, prev) in others or len(others) >= MAX_ALTERNATIVES:
            return False
        others.append((digest, prev))
        log.grow()
        return True

    def note_cut(self, author: Address, next_seq: Seq, head: Digest) -> None:
        """The applied cut of an author moved; also how a restarted node sets the start."""
        log = self._logs.get(author)
        if log is None:
            self._logs[author] = _Log(next_seq, head)
            return
        passed = next_seq - log.next_seq
        if 0 < passed <= len(log.chain) and log.chain[passed - 1] == head:
            log.chain = log.chain[passed:]
        elif passed != 0 or log.head != head:
            log.chain = []
        log.next_seq, log.head = next_seq, head
        for seq in [seq for seq in log.loose if seq < next_seq]:
            del log.loose[seq]
        log.grow()

    def drop(self, author: Address) -> None:
        """The author is frozen: nothing of it will be cut, so nothing is listed."""
        self._logs.pop(author, None)

    def authors(self) -> list[Address]:
        """Who has held, uncut entries; ascending."""
        return sorted([author for author, log in self._logs.items() if log.chain])

    def first_uncut(self, author: Address) -> Seq:
        log = self._logs.get(author)
        return Seq(0 if log is None else log.next_seq)

    def held(self, author: Address) -> tuple[Digest, ...]:
        """The chain of held entries from ``first_uncut`` on."""
        log = self._logs.get(author)
        return () if log is None else tuple(log.chain)

    def head(self, author: Address) -> Digest:
        """The last entry of that chain, or where the cut ends: what the next entry follows."""
        log = self._logs.get(author)
        if log is None:
            return Digest(ZERO32)
        return log.chain[-1] if log.chain else log.head

    def next_wanted(self, author: Address) -> Seq:
        """The first number that is not held in the chain: where a fetch goes on."""
        log = self._logs.get(author)
        return Seq(0 if log is None else log.next_seq + len(log.chain))


class _Listed(NamedTuple):
    next_seq: int
    since_round: int
    """When the author was last listed from the cut on."""


class Pacemaker:
    """One witness in one era.

    It leaves a round, that is, ticks the next one, when all of these hold:

    - it holds ticks of that round which it may adopt (``Clock.adoptable``) of weight >= q;
    - ``min_round_ms`` passed since it ticked;
    - the leader timeout passed, or it holds the leader's tick of the round and the votes about the
      previous leader are settled (q supports or q non-supports). Neither is waited for on behalf of
      a proven equivocator, nor the tick of a leader silent for more than 8 rounds while commits go
      on: a crashed witness then costs its slots, not a second each.

    The leader timeout doubles with every round beyond 4 since the last committed leader, at most 5
    times, and so falls back with the next commit. It counts commits and not decisions: skips alone
    would leave it too short for ever on a network slower than the timeout.

    When a quorum is already in a later round, it ticks that round at once: the others are waiting.
    """

    __slots__ = ("_clock", "_cursor", "_entered_ms", "_listed", "_logs", "_pace", "_round",
                 "_last_signed", "_witness")  # fmt: skip

    def __init__(
        self,
        witness: Address,
        clock: Clock,
        logs: HeldLogs,
        pace: Pace | None = None,
        last_signed_round: Round | None = None,
    ) -> None:
        """``last_signed_round`` of this era comes from the store: nothing up to it is drafted."""
        self._witness: Address = witness
        self._clock: Clock = clock
        self._logs: HeldLogs = logs
        self._pace: Pace = pace if pace is not None else Pace()
        self._last_signed: int = -1 if last_signed_round is None else last_signed_round
        self._round: int = self._last_signed
        self._entered_ms: int = -1
        self._listed: dict[Address, _Listed] = {}
        self._cursor: Address | None = None

    @property
    def last_signed_round(self) -> Round | None:
        return None if self._last_signed < 0 else Round(self._last_signed)

    @property
    def leader_timeout_ms(self) -> int:
        """How long the leader of the present round is waited for."""
        return self._pace.leader_timeout_ms << min(self._excess_rounds(), MAX_DOUBLINGS)

    def poll(self, now_ms: TimeMs) -> TickDraft | Wait:
        """The tick to sign now, or until when there is none unless ticks arrive."""
        if self._entered_ms < 0:
            self._entered_ms = now_ms
        clock = self._clock
        if self._last_signed < 0 and clock.highest_quorum_round < 0:
            return self._draft(0, {})
        best = self._highest_round_to_build_on()
        if best < 0 and self._last_signed < 0 and clock.first_round_kept == 0:
            return self._draft(0, {})  # others got further with a witness since proven false
        if best > self._last_signed:
            parents = clock.adoptable(Round(best - 1)) if best > 0 else {}
            if best == 0 or self._is_quorum(parents):
                return self._draft(best, parents)
            if best != self._round:
                # Nothing to tick it on: take part from the next round on.
                self._round, self._entered_ms = best, now_ms
        if best < self._last_signed or best < 0:
            return Wait(None)
        earliest = self._entered_ms + self._pace.min_round_ms
        if now_ms < earliest:
            return Wait(TimeMs(earliest))
        latest = self._entered_ms + self.leader_timeout_ms
        parents = clock.adoptable(Round(best))
        if now_ms < latest and not self._has_leader(best, parents):
            return Wait(TimeMs(latest))
        return self._draft(best + 1, parents)

    def note_ticked(self, draft: TickDraft, now_ms: TimeMs) -> None:
        """The draft is signed and stored: the witness is in its round now."""
        self._last_signed = self._round = draft.round
        self._entered_ms = now_ms
        known: dict[Address, _Listed] = {}
        previous = self._clock.adoptable(Round(draft.round - 1))
        if previous.get(self._witness) in draft.parents:
            known = self._listed
        self._listed = {}
        for author in self._logs.authors():
            if author in known:
                self._listed[author] = known[author]
        for head in draft.heads:
            since: int = draft.round
            before = known.get(head.author)
            if before is not None and head.first_seq != self._logs.first_uncut(head.author):
                since = before.since_round
            self._listed[head.author] = _Listed(head.first_seq + len(head.digests), since)
        if sum([len(head.digests) for head in draft.heads]) >= self._pace.max_listed:
            self._cursor = self._order([head.author for head in draft.heads])[-1]

    # Rounds.

    def _excess_rounds(self) -> int:
        return max(0, self._clock.rounds_since_commit - CALM_ROUNDS)

    def _is_quorum(self, ticks: dict[Address, Digest]) -> bool:
        table = self._clock.table
        return table.weight_of_set(ticks) >= table.quorum

    def _highest_round_to_build_on(self) -> int:
        """The highest round with adoptable ticks of a quorum; -1 if there is none near the top.

        Down to our own last one: where the rounds above rest on a witness proven false since, the
        others wait for our ticks of just these rounds.
        """
        top = self._clock.highest_quorum_round
        lowest = min(top - _SEARCH_ROUNDS + 1, self._last_signed)
        for round in range(top, max(-1, lowest - 1), -1):
            if self._is_quorum(self._clock.adoptable(Round(round))):
                return round
        return -1

    def _has_leader(self, round: int, ticks: dict[Address, Digest]) -> bool:
        clock = self._clock
        leader = clock.leader_of(Round(round))
        if leader not in ticks and leader != self._witness and not clock.is_equivocator(leader):
            silent = round - clock.last_heard_round(leader) > SILENT_ROUNDS
            if not silent or self._excess_rounds() > 0:
                return False
        if round == 0 or clock.is_equivocator(clock.leader_of(Round(round - 1))):
            return True
        return clock.is_vote_settled(Round(round - 1))

    # Contents.

    def _draft(self, round: int, parents: dict[Address, Digest]) -> TickDraft | Wait:
        if round >= self._pace.rounds_per_era:
            return Wait(None)
        chosen = dict(parents)
        if self._witness in chosen and self._is_left_behind():
            del chosen[self._witness]
            if not self._is_quorum(chosen):
                chosen = dict(parents)
        heads = self._heads(round, self._witness in chosen)
        return TickDraft(Round(round), tuple(sorted(chosen.values())), heads)

    def _is_left_behind(self) -> bool:
        """Whether our ticks have not got into committed histories for half a window.

        Then nobody received them, and others could soon not check their ancestry any more. A tick
        without our own parent starts afresh and lists everything again.
        """
        last = self._clock.last_committed
        if last is None:
            return False
        return self._clock.last_covered_round(self._witness) < last.round - RELIST_ROUNDS

    def _heads(self, round: int, has_own_parent: bool) -> tuple[HeadItem, ...]:
        """What is held beyond our own parent tick, or without one beyond the cut."""
        left = self._pace.max_listed
        heads: list[HeadItem] = []
        for author in self._order(self._logs.authors()):
            if left == 0:
                break
            first: int = self._logs.first_uncut(author)
            start = first
            listed = self._listed.get(author) if has_own_parent else None
            if listed is not None and round - listed.since_round < RELIST_ROUNDS:
                start = max(first, listed.next_seq)
            digests = self._logs.held(author)[start - first :][:left]
            if digests:
                heads.append(HeadItem(author, Seq(start), digests))
                left -= len(digests)
        return tuple(sorted(heads))

    def _order(self, authors: list[Address]) -> list[Address]:
        """Ascending, but first who comes after the last one that a full tick had room for.

        Else the authors of low addresses could keep all others out of a witness's ticks.
        """
        cursor = self._cursor
        if cursor is None:
            return authors
        return [a for a in authors if a > cursor] + [a for a in authors if a <= cursor]
