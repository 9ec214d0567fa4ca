"""The replica: verified facts in, effects out (protocol/03-clock.md and 04-book.md joined).

One per market. It owns the clock of the present era, the cut, the held logs and the fold, and
passes what one of them says on to the next. It reads no time, draws nothing at random, waits for
nothing and writes nothing: the daemon and the simulator drive the very same object.

A fact handed over must be durable already, since the replica tells witnesses' ticks what is held.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from orrange_p2p.core import evidence
from orrange_p2p.core.checkpoints import CHECKPOINT_EPOCHS, CertifiedState, Checkpoint, Snapshots
from orrange_p2p.core.clock import Added, Clock, CommitPoint, Decided, Outcome, epoch_time
from orrange_p2p.core.cut import Cut, CutRun, LogHead, MissingEntry
from orrange_p2p.core.dag import MAX_AHEAD_ROUNDS
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.fold import EpochFacts, EpochOutcome, Fold
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.handovers import Handover, is_handover
from orrange_p2p.core.ids import ZERO32, Address, Digest, Epoch, Era, MarketId, Round, Seq, TimeMs
from orrange_p2p.core.operations import Evidence
from orrange_p2p.core.pacemaker import HeldLogs, Pace, Pacemaker, TickDraft
from orrange_p2p.core.reveals import RevealVerifier
from orrange_p2p.core.roots import Halt, RootReports
from orrange_p2p.core.roster import Roster, RosterRequest, of_genesis
from orrange_p2p.core.ticks import Applied, Tick, TickBody
from orrange_p2p.core.witnesses import WitnessTable

MAX_WANTED: Final = 8192
"""Listed entries we lack and remember; the oldest give way, and are listed again if they count."""
MAX_EARLY_TICKS: Final = 512
"""Ticks of the next era kept until the present one closes; each witness has its share of them."""
MAX_HANDOVERS: Final = 4
"""Not taken yet; the oldest give way."""
MAX_REMEMBERED: Final = 4096
"""Latest applied entries of which a second side that turns up late is still proven a fork."""


class Taken(enum.Enum):
    """What became of a fact."""

    HELD = "held"
    WAITING = "waiting"
    """A tick whose parents are missing."""
    DUPLICATE = "duplicate"
    USELESS = "useless"
    """Old, too far ahead, over a bound, or by an author who does not count: no blame."""
    INVALID = "invalid"
    """Objectively wrong: whoever sent it pays."""


class AppliedEpoch(NamedTuple):
    """An epoch that became part of the state."""

    facts: EpochFacts
    outcome: EpochOutcome


class Effects(NamedTuple):
    """What followed from one fact."""

    taken: Taken
    epochs: tuple[AppliedEpoch, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    """New proofs of forks and equivocation; keep them, publish them."""
    missing_ticks: tuple[Digest, ...] = ()
    """Ask whoever sent the fact for these."""
    reason: str = ""
    """Why it is invalid."""


class _Committed(NamedTuple):
    epoch: Epoch
    era: Era
    era_opened_by: Digest
    era_end_ms: TimeMs
    decided: Decided
    leader: Tick
    time_ms: TimeMs
    closes_era: bool


class Replica:
    """One market's state at one node."""

    def __init__(
        self,
        genesis: Genesis,
        market_id: MarketId,
        checkpoint_epochs: int = CHECKPOINT_EPOCHS,
        new_fold: Callable[[Genesis, MarketId], Fold] = Fold,
        new_cut: Callable[[WitnessTable], Cut] = Cut,
    ) -> None:
        """A market at its genesis. Of every ``checkpoint_epochs`` epochs the first that a quorum
        vouches for is kept as a checkpoint: nodes that agree on it can serve a joining node
        together. ``new_fold`` and ``new_cut``: where many replicas run in one process, ones that
        share what is equal (``sim.shared``)."""
        self.genesis = genesis
        self.market_id = market_id
        self.era = Era(0)
        self._rosters = {self.era: of_genesis(genesis, market_id)}
        """Those of the present era, of the next one once it is known, and of the last one."""
        self.clock = Clock(self.table, self.era, self._era_seed(ZERO32))
        self.previous_clock: Clock | None = None
        """The era before: nodes behind us still ask for its last rounds."""
        self.logs = HeldLogs()
        self.fold = new_fold(genesis, market_id)
        self.committed_epoch = Epoch(0)
        """Latest epoch whose leader is committed; applied once the next one is, and its entries
        are here."""
        self.vouched = Applied(Epoch(0), ZERO32)
        """What our ticks report as applied."""
        self.halt: Halt | None = None
        """Why no epoch is applied any more: the roots that witnesses vouch for contradict."""
        self._roots = RootReports(self.table)
        self._snapshots = Snapshots(checkpoint_epochs)
        self._cut = new_cut(self.table)
        self._verifiers: dict[bytes, RevealVerifier] = {}
        """By anchor."""
        self._era_opened_by = Digest(ZERO32)
        self._era_end_ms: TimeMs | None = None
        self._closed_by: Digest | None = None
        """The leader that closed the present era, while the next one's roster is not known."""
        self._named_next = ZERO32
        """What the state says of the next era's roster, if we began after it did."""
        self._committed_ms = genesis.start_ms
        self._waiting: deque[_Committed] = deque()
        self._is_absorbed = False
        self._blocking: dict[Digest, MissingEntry] = {}
        self._entries: dict[Digest, Entry] = {}
        self._wanted: dict[Digest, tuple[Address, Seq]] = {}
        self._first_of: dict[tuple[Address, Seq], Entry] = {}
        self._twins: dict[tuple[Address, Seq], list[Digest]] = {}
        """Held entries besides the first of their number: forks, until the cut passes them."""
        self._remembered: dict[tuple[Address, Seq], Entry] = {}
        self._proven_forks: set[Address] = set()
        self._early: dict[Digest, Tick] = {}
        self._handovers: tuple[Handover, ...] = ()
        self._handed_over = -1
        """The last era whose handover was noted."""

    @classmethod
    def resume(
        cls,
        genesis: Genesis,
        market_id: MarketId,
        checkpoint: Checkpoint,
        blobs: Mapping[bytes, bytes],
        checkpoint_epochs: int = CHECKPOINT_EPOCHS,
    ) -> Replica:
        """A market at a verified checkpoint; ``blobs``: its parts and terms by name.

        It goes on once it is given the ticks of the 64 rounds up to the checkpoint's leader, and of
        those after it that decide the two slots before; of a checkpoint that closed its era it
        needs none. Raises ``PeerError`` for blobs that are not what their names say, ``KeyError``
        for missing ones.
        """
        self = cls(genesis, market_id, checkpoint_epochs)
        header = checkpoint.header
        if genesis.parameters.elected_witnesses:
            self._rosters = checkpoint.rosters(blobs)
            self._named_next = header.next_roster
        fold = self.fold
        self.era = header.era
        fold.load(header, checkpoint.leaves(blobs), self.roster)
        heads = {}
        for address, account in fold.accounts.items():
            heads[address] = LogHead(account.next_seq, account.head)
            if not account.frozen:
                self.logs.note_cut(address, account.next_seq, account.head)
        self.committed_epoch = header.epoch
        self._committed_ms = header.time_ms
        self.vouched = Applied(header.epoch, header.root)
        if header.closes_era:
            self._begin_era(header.leader)
            self.previous_clock = None
            fold.begin_era(self.roster)
        else:
            self._era_opened_by = header.era_opened_by
            self._era_end_ms = header.era_end_ms
            seed = self._era_seed(header.era_opened_by)
            point = CommitPoint(header.round, header.leader)
            self.clock = Clock(self.table, self.era, seed, resume_at=point)
        # By the witnesses of the era that goes on, which need not be those of the checkpoint.
        frozen = [address for address, account in fold.accounts.items() if account.frozen]
        self._cut = Cut(self.table, heads, frozen)
        self._roots = RootReports(self.table)
        self._roots.resume(self.vouched, checkpoint.certificate.vouchers)
        self._snapshots.resume(header.epoch)
        return self

    # --- what others ask ---

    @property
    def roster(self) -> Roster:
        """Of the present era."""
        return self._roster_of(self.era)

    @property
    def table(self) -> WitnessTable:
        """The witnesses of the present era."""
        return self.roster.table

    def is_witness(self, address: Address, era: Era) -> bool:
        """Whether ticks of this era by this address may count, as far as we know rosters."""
        if era == self.era + 1 and self._next_roster is None:
            return address in self.table
        return era in (self.era, self.era + 1) and address in self._roster_of(era).table

    @property
    def epoch(self) -> Epoch:
        """Latest applied epoch."""
        return self.fold.epoch

    @property
    def root(self) -> bytes:
        return self.fold.root

    @property
    def checkpoint(self) -> Applied:
        """The latest epoch whose root a quorum of witnesses vouches for, and we computed."""
        return self._roots.checkpoint

    @property
    def certified(self) -> CertifiedState | None:
        """The latest state that a quorum vouches for, whole: proofs come from it."""
        return self._snapshots.latest

    @property
    def checkpoints(self) -> tuple[CertifiedState, ...]:
        """What joining nodes may start from, oldest first: few, and each for some while."""
        return self._snapshots.kept

    def holds_entry(self, digest: Digest) -> bool:
        """Whether an entry is held and not applied yet."""
        return digest in self._entries

    def is_known_entry(self, author: Address, seq: Seq, digest: Digest) -> bool:
        """Whether the entry is held, or its number applied: then verifying it again is idle.

        It is not where the entry could prove a fork that nobody has proven yet.
        """
        if digest in self._entries:
            return True
        if seq >= self.logs.first_uncut(author):
            return False
        applied = self._remembered.get((author, seq))
        return applied is None or applied.digest == digest or author in self._proven_forks

    def is_known_tick(self, digest: Digest) -> bool:
        return digest in self.clock

    def blocking(self) -> tuple[MissingEntry, ...]:
        """Entries of the cut that we lack: no epoch is applied until they are here."""
        return tuple(self._blocking.values())

    def wanted_entries(self, most: int) -> tuple[Digest, ...]:
        """Entries that witnesses list and we lack, those of the cut first, then oldest first."""
        first = [digest for digest in self._blocking if digest not in self._entries]
        rest = [digest for digest in self._wanted if digest not in self._blocking]
        return tuple((first + rest)[:most])

    def lacks_entry_of(self, author: Address) -> bool:
        """Whether a witness lists an entry of this author that we do not hold."""
        return any(listed == author for listed, _ in self._wanted.values())

    def forget_wanted(self, digests: Iterable[Digest]) -> None:
        """Nobody could serve these: ask no more, unless somebody lists them anew."""
        for digest in digests:
            self._wanted.pop(digest, None)

    def wanted_ticks(self) -> tuple[Digest, ...]:
        """Parents of ticks that wait."""
        return self.clock.missing

    def pacemaker(self, witness: Address, last_signed: tuple[Era, int] | None) -> Pacemaker:
        """The pacemaker of a witness for the present era; make a new one when ``era`` changes."""
        parameters = self.genesis.parameters
        signed = None
        if last_signed is not None and last_signed[0] >= self.era:
            # Of an era that it left it knows no more how far it got: it signs nothing in it.
            is_past = last_signed[0] > self.era
            signed = Round(parameters.rounds_per_era if is_past else last_signed[1])
        pace = Pace(
            parameters.min_round_ms,
            parameters.leader_timeout_ms,
            rounds_per_era=parameters.rounds_per_era,
        )
        return Pacemaker(witness, self.clock, self.logs, pace, signed)

    def tick_body(self, draft: TickDraft, now_ms: TimeMs, reveal: bytes) -> TickBody:
        """What a witness's tick says, given where its pacemaker wants to go."""
        return TickBody(draft.parents, draft.heads, now_ms, self.vouched, reveal)

    def reveal_position(self, witness: Address, round: int) -> int:
        """Position of a round of the present era in a witness's hash chain. Raises
        ``InvalidError`` for somebody who is none."""
        seat = self.roster.seat_of(witness)
        if seat is None:
            raise InvalidError(f"0x{witness.hex()} is no witness of era {self.era}")
        return (self.era - seat.since) * self.genesis.parameters.rounds_per_era + round

    # --- facts ---

    def add_entry(self, entry: Entry) -> Effects:
        """Take a durable entry whose signature is verified."""
        digest, author, seq = entry.digest, entry.author, entry.seq
        if self.halt is not None:
            return Effects(Taken.USELESS)
        if digest in self._entries:
            return Effects(Taken.DUPLICATE)
        if seq < self.logs.first_uncut(author):
            return Effects(Taken.DUPLICATE, evidence=self._fork_evidence(entry))
        if self.fold.is_frozen(author) or not self.fold.is_eligible(author):
            return Effects(Taken.USELESS)
        proofs = self._fork_evidence(entry)
        is_new = self.logs.note_entry(author, seq, digest, entry.prev)
        if not is_new and digest not in self._blocking:
            return Effects(Taken.USELESS, evidence=proofs)
        self._entries[digest] = entry
        if self._first_of.setdefault((author, seq), entry) is not entry:
            self._twins.setdefault((author, seq), []).append(digest)
        self._wanted.pop(digest, None)
        epochs: tuple[AppliedEpoch, ...] = ()
        if self._blocking.pop(digest, None) is not None and not self._blocking:
            epochs = self._apply_ready()
        return Effects(Taken.HELD, epochs, proofs)

    def add_tick(self, tick: Tick) -> Effects:
        """Take a durable tick whose signature is verified."""
        if self.halt is not None:
            return Effects(Taken.USELESS)
        if tick.era == self.era + 1:
            share = MAX_EARLY_TICKS // len((self._next_roster or self.roster).table)
            if sum(tick.witness == early.witness for early in self._early.values()) < share:
                if self.is_witness(tick.witness, tick.era):
                    self._early[tick.digest] = tick
            return Effects(Taken.USELESS)
        if tick.era != self.era:
            return Effects(Taken.USELESS)  # a later one is no fault of the peer's: we are behind
        seat = self.roster.seat_of(tick.witness)
        if seat is None:
            return Effects(Taken.INVALID, reason="tick by an address that is no witness")
        if tick.round >= self.genesis.parameters.rounds_per_era:
            return Effects(Taken.INVALID, reason="tick of a round past the era's last")
        if tick.round > self.clock.highest_quorum_round + 1 + MAX_AHEAD_ROUNDS:
            return Effects(Taken.USELESS)  # before its reveal costs a hash for every round between
        verifier = self._verifiers.setdefault(seat.anchor, RevealVerifier(seat.anchor))
        try:
            verifier.check(self.reveal_position(tick.witness, tick.round), tick.reveal)
        except InvalidError as error:
            return Effects(Taken.INVALID, reason=str(error))
        added = self.clock.add(tick)
        proofs = tuple(evidence.of_equivocation(e.first, e.second) for e in added.equivocations)
        for held in added.held:
            self._note_listed(held)
        if added.resumed:
            self._cut.prime(added.resumed)
        closed = self._note_decided(added)
        epochs = self._apply_ready()
        effects = Effects(
            _TAKEN[added.outcome],
            epochs,
            proofs,
            added.missing,
            str(added.rejected[0].error) if added.outcome is Outcome.REJECTED else "",
        )
        return self._with_early(effects) if closed else effects

    def _with_early(self, effects: Effects) -> Effects:
        """The era closed: take what had arrived of the next one."""
        early, self._early = self._early, {}
        for tick in early.values():
            more = self.add_tick(tick)
            effects = effects._replace(
                epochs=effects.epochs + more.epochs,
                evidence=effects.evidence + more.evidence,
                missing_ticks=effects.missing_ticks + more.missing_ticks,
            )
        return effects

    def _fork_evidence(self, entry: Entry) -> tuple[Evidence, ...]:
        name = (entry.author, entry.seq)
        first = self._first_of.get(name) or self._remembered.get(name)
        if first is None or first.digest == entry.digest or entry.author in self._proven_forks:
            return ()
        self._proven_forks.add(entry.author)
        return (evidence.of_fork(first, entry),)

    def _note_listed(self, tick: Tick) -> None:
        wanted = self._wanted
        for head in tick.heads:
            seq: int = head.first_seq
            uncut = self.logs.first_uncut(head.author)
            for digest in head.digests:
                if seq >= uncut and digest not in self._entries and digest not in wanted:
                    if len(wanted) >= MAX_WANTED:
                        del wanted[next(iter(wanted))]
                    wanted[digest] = (head.author, Seq(seq))
                seq += 1

    # --- from decided leaders to epochs ---

    def _note_decided(self, added: Added) -> bool:
        """Number the committed leaders. True if one of them closed the era, and the next began."""
        for decided in added.decided:
            leader = decided.leader
            if leader is None or self._closed_by is not None:
                continue
            self.committed_epoch = Epoch(self.committed_epoch + 1)
            self._committed_ms = epoch_time(self._committed_ms, decided)
            if self._era_end_ms is None:
                self._era_end_ms = TimeMs(self._committed_ms + self.genesis.parameters.era_ms)
            closes = self._committed_ms >= self._era_end_ms
            self._waiting.append(
                _Committed(
                    self.committed_epoch,
                    self.era,
                    self._era_opened_by,
                    self._era_end_ms,
                    decided,
                    leader,
                    self._committed_ms,
                    closes,
                )
            )
            if closes:  # later rounds of the closed era are void
                if self._next_roster is None:
                    self._closed_by = leader.digest
                else:
                    self._begin_era(leader.digest)
                    return True
        return False

    def _begin_era(self, closing: Digest) -> None:
        self.previous_clock = self.clock
        self._rosters[Era(self.era + 1)] = self._roster_of(Era(self.era + 1))
        self._rosters.pop(Era(self.era - 1), None)
        self.era = Era(self.era + 1)
        self._era_opened_by = closing
        self.clock = Clock(self.table, self.era, self._era_seed(closing))
        self._era_end_ms = None
        self._closed_by = None
        self._named_next = ZERO32
        anchors = {seat.anchor for seat in self.roster.seats}
        self._verifiers = {a: one for a, one in self._verifiers.items() if a in anchors}

    # --- rosters ---

    def _roster_of(self, era: Era) -> Roster:
        """Raises ``KeyError`` for one that is not known yet, or not any more."""
        found = self._rosters.get(era)
        if found is None and not self.genesis.parameters.elected_witnesses:
            found = self._rosters[era] = of_genesis(self.genesis, self.market_id, era)
        return self._rosters[era] if found is None else found

    @property
    def _next_roster(self) -> Roster | None:
        if self.genesis.parameters.elected_witnesses:
            return self._rosters.get(Era(self.era + 1))
        return self.roster

    @property
    def wanted_roster(self) -> RosterRequest | None:
        """The next era's roster, from when it can be read until it is given."""
        parameters = self.genesis.parameters
        if self._next_roster is not None or self._era_end_ms is None:
            return None
        pin_ms = TimeMs(self._era_end_ms - parameters.pin_ms)
        return None if self._committed_ms < pin_ms else RosterRequest(Era(self.era + 1), pin_ms)

    def give_roster(self, roster: Roster) -> Effects:
        """Take the roster of the next era, as it was read off the home chain.

        Until then no epoch is applied that has to name it, and no era begins by it. Raises
        ``InvalidError`` if the state names another one: then this node has read another chain.
        """
        if self._next_roster is not None or roster.era != self.era + 1:
            return Effects(Taken.DUPLICATE)
        if self._named_next not in (ZERO32, roster.digest):
            raise InvalidError(
                f"the roster of era {roster.era} that was read at block {roster.pin.block} is not "
                "the one that the network's state names"
            )
        self._rosters[roster.era] = roster
        if self._closed_by is None:
            return Effects(Taken.HELD, self._apply_ready())
        self._begin_era(self._closed_by)
        return self._with_early(Effects(Taken.HELD, self._apply_ready()))

    def _next_named(self, committed: _Committed) -> bytes | None:
        """The digest of the next era's roster for the header of an epoch: zero if it is not due
        there; None if it is, and not known."""
        parameters = self.genesis.parameters
        due_ms = committed.era_end_ms - parameters.handover_ms
        if not parameters.elected_witnesses or committed.time_ms < due_ms:
            return ZERO32
        roster = self._rosters.get(Era(committed.era + 1))
        return None if roster is None else roster.digest

    def _era_seed(self, closing: bytes) -> bytes:
        """Draws the era's leaders. The closing leader is committed, so all nodes know it alike."""
        return sha256(
            b"orrange/era/1" + self.genesis.network_id + self.market_id + closing
        ).digest()

    def _apply_ready(self) -> tuple[AppliedEpoch, ...]:
        """Apply every epoch whose successor is committed and whose entries are all here."""
        applied = []
        # The seed of an epoch is drawn from its successor's leader, so one always waits.
        while len(self._waiting) >= 2 and not self._blocking and self.halt is None:
            committed, successor = self._waiting[0], self._waiting[1]
            next_roster = self._next_named(committed)
            if next_roster is None:
                break
            if not self._is_absorbed:
                if not self._count_reports(committed.decided.history):
                    break
                self._cut.absorb(committed.decided.history)
                self._is_absorbed = True
            extension = self._cut.extend(self._prev_of, self.fold.is_eligible)
            if extension.missing:
                self._blocking = {missing.digest: missing for missing in extension.missing}
                break
            self._is_absorbed = False
            self._waiting.popleft()
            facts = EpochFacts(
                committed.epoch,
                committed.era,
                committed.era_opened_by,
                committed.era_end_ms,
                committed.leader.round,
                committed.leader.digest,
                committed.time_ms,
                successor.leader.reveal,
                tuple(self._entries[d] for run in extension.runs for d in run.digests),
                tuple(fork.author for fork in extension.forks),
                tuple((t.witness, t.applied.epoch) for t in committed.decided.history),
                next_roster,
            )
            outcome = self.fold.apply(facts)
            applied.append(AppliedEpoch(facts, outcome))
            self._note_applied(extension.runs, outcome)
            if committed.closes_era:
                following = self._roster_of(Era(committed.era + 1))
                self._cut.begin_era(following.table)
                self._roots.begin_era(following.table)
                self.fold.begin_era(following)
        return tuple(applied)

    def _count_reports(self, ticks: tuple[Tick, ...]) -> bool:
        """Whether the market goes on after what these ticks report."""
        before = self._roots.checkpoint
        self.halt = self._roots.absorb(ticks, self.fold.epoch)
        certified = self._roots.checkpoint
        if certified != before:
            self._snapshots.certify(certified.epoch, self._roots.vouchers)
            self._note_handover()
        return self.halt is None

    def _note_handover(self) -> None:
        """Keep the first certificate of an era that names the next one's roster."""
        state = self._snapshots.latest
        if state is None or not is_handover(state.certificate):
            return
        era, roster = state.header.era, state.roster(state.header.next_roster)
        if roster is None or era <= self._handed_over:
            return
        self._handed_over = era
        self._handovers = (*self._handovers, Handover(state.certificate, roster))[-MAX_HANDOVERS:]

    def take_handovers(self) -> tuple[Handover, ...]:
        """Those of the eras that ended since the last call: they are to be kept for followers."""
        taken, self._handovers = self._handovers, ()
        return taken

    def _prev_of(self, digest: Digest) -> Digest | None:
        entry = self._entries.get(digest)
        return None if entry is None else entry.prev

    def _note_applied(self, runs: tuple[CutRun, ...], outcome: EpochOutcome) -> None:
        for run in runs:
            end = run.first_seq + len(run.digests)
            self.logs.note_cut(run.author, Seq(end), run.digests[-1])
            for seq, digest in enumerate(run.digests, run.first_seq):
                self._remember(self._entries[digest])
                self._wanted.pop(digest, None)
                self._forget_number(run.author, Seq(seq))
        for author in outcome.frozen:
            self._cut.freeze(author)
            self.logs.drop(author)
            for name in [name for name in self._first_of if name[0] == author]:
                self._forget_number(*name)
        if outcome.epoch % self.genesis.parameters.applied_interval_epochs == 0:
            self.vouched = Applied(outcome.epoch, outcome.root)
            self._roots.note_own(outcome.epoch, outcome.root)
            view = self.fold.view()
            beside = self.fold.terms()
            known = {roster.digest: roster for roster in self._rosters.values()}
            beside |= {name: known[name].encode() for name in view.header.rosters}
            self._snapshots.add(view, beside)

    def _remember(self, applied: Entry) -> None:
        """Keep what proves the entry was signed, without its operations."""
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[applied.author, applied.seq] = Entry(
            applied.header, applied.digest, (), applied.signature, b""
        )

    def _forget_number(self, author: Address, seq: Seq) -> None:
        """Let go of every entry held under a number: the applied one and others' sides."""
        first = self._first_of.pop((author, seq))
        for digest in (first.digest, *self._twins.pop((author, seq), ())):
            self._entries.pop(digest, None)


_TAKEN: Final = {
    Outcome.HELD: Taken.HELD,
    Outcome.WAITING: Taken.WAITING,
    Outcome.DUPLICATE: Taken.DUPLICATE,
    Outcome.REJECTED: Taken.INVALID,
    Outcome.OLD: Taken.USELESS,
    Outcome.AHEAD: Taken.USELESS,
    Outcome.SURPLUS: Taken.USELESS,
}
