"""One market at one node: its replica, and the tasks that feed it and speak for it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

import structlog
import trio

from orrange_p2p.core.accounts import LiveOrder
from orrange_p2p.core.checkpoints import CHECKPOINT_EPOCHS
from orrange_p2p.core.entries import Entry, decode_entry
from orrange_p2p.core.fold import Fold
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.handovers import Handover
from orrange_p2p.core.hello import VERSIONS, Versions
from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, PeerId, Round, Seq, TimeMs
from orrange_p2p.core.matches import Match
from orrange_p2p.core.operations import Evidence
from orrange_p2p.core.pacemaker import HELD_AHEAD
from orrange_p2p.core.replica import AppliedEpoch, Effects, Replica, Taken
from orrange_p2p.core.roots import Halt, HaltReason
from orrange_p2p.core.roster import Roster, decode_roster
from orrange_p2p.core.ticks import Tick, decode_tick
from orrange_p2p.daemon.agreements import Agreements
from orrange_p2p.daemon.bindings import Bindings
from orrange_p2p.daemon.intake import Fact, Intake
from orrange_p2p.daemon.outbox import Outbox
from orrange_p2p.daemon.twins import Twins
from orrange_p2p.ports import Clock, EpochRecord, Record, RecordKind, Store, Transport, Verdict

MAX_TICKS_AHEAD: Final = 1024
"""Ticks so many rounds ahead are kept on disk for later; what is further is pulled when needed."""
log = structlog.get_logger()

REMEMBERED_EPOCHS: Final = 1024
"""Minutes of them: whoever follows a node asks every few seconds."""
REMEMBERED_COMMITS: Final = 2048
KEPT_ROSTERS: Final = 8
"""Of the last eras, for a restart while the home chain is out of reach."""


class EpochStamp(NamedTuple):
    """When an epoch was applied and durable here."""

    epoch: Epoch
    root: bytes
    time_ms: TimeMs
    durable_ms: int
    """On this machine's monotonic clock."""
    placed: int
    matches: int
    trades: int


class OwnCommit(NamedTuple):
    """When an entry of ours was submitted and in which epoch it was cut."""

    author: Address
    seq: Seq
    submitted_ms: int
    epoch: Epoch


class MarketNode:
    """Joins replica, store, intake and outbox of one market. ``run`` does the rest."""

    def __init__(
        self,
        genesis: Genesis,
        market_id: MarketId,
        store: Store,
        transport: Transport,
        clock: Clock,
        counters: Counter[str],
        after_apply: Callable[[Fold], None] | None = None,
        *,
        versions: Versions = VERSIONS,
        spoken: Callable[[], Iterable[int]] | None = None,
        checkpoint_epochs: int = CHECKPOINT_EPOCHS,
    ) -> None:
        """Hears the topics of all ``versions``, and speaks on those of ``spoken``."""
        self.genesis = genesis
        self.market_id = market_id
        self.market = genesis.market(market_id)
        self.store = store
        self.transport = transport
        self.clock = clock
        self.counters = counters
        self.checkpoint_epochs = checkpoint_epochs
        self.replica = Replica(genesis, market_id, checkpoint_epochs)
        self.versions = versions
        self._spoken = spoken or (lambda: (versions.highest,))
        self.topic = topic_of(genesis, market_id, versions.highest)
        self.outbox = Outbox(transport, self._topics, counters)
        self.intake = Intake(
            genesis.separator,
            market_id,
            self._take_batch,
            self.is_wanted,
            self.is_held,
            counters,
            self._owner_of,
            lambda: self.replica.roster if genesis.parameters.elected_witnesses else None,
        )
        self.changed = trio.Event()
        """Set, and replaced by a fresh one, whenever the replica took something."""
        self.epochs: deque[EpochStamp] = deque(maxlen=REMEMBERED_EPOCHS)
        self.commits: deque[OwnCommit] = deque(maxlen=REMEMBERED_COMMITS)
        self.totals: Counter[str] = Counter()
        self.on_matches: list[Callable[[Sequence[Match]], None]] = []
        self.on_evidence: list[Callable[[Sequence[Evidence]], None]] = []
        self.on_epochs: list[Callable[[Sequence[AppliedEpoch]], None]] = []
        """Each is called as soon as the fold has moved on, before anybody can look at it."""
        self.on_outside: list[Callable[[Record], Awaitable[None]]] = []
        """Each is called with every record from others before it is stored."""
        self.heard: dict[Address, tuple[int, int]] = {}
        """Per witness the latest (era, round) of which we saw a tick, taken or not."""
        self._submitted: dict[tuple[Address, Seq], int] = {}
        self.recorded = Epoch(0)
        """The latest epoch noted in the store: what it and those before brought is durable."""
        self._noted = trio.Event()
        """Set once the epochs applied last are noted."""
        self._noted.set()
        self._counted = Epoch(0)
        """The latest epoch in the totals; one that is computed again does not count again."""
        self._told_halt = False
        self._twins = Twins()
        self._after_apply = after_apply
        self.keeper: Bindings | Agreements | None = None
        """Keeps what settlement needs, if trades are settled here."""

    async def load(self, replica: Replica) -> int:
        """Begin with this state, and replay what the store holds beyond it; how many records that
        were. Call before ``run``."""
        await self._go_on_from(replica)
        return await self._replay()

    async def adopt(self, replica: Replica) -> None:
        """Go on from another state than ours, with what our store has beyond it."""
        await self._go_on_from(replica)
        self._told_halt = False
        self.epochs.clear()  # some may be of the state that was wrong
        self._submitted = {
            (author, seq): submitted_ms
            for (author, seq), submitted_ms in self._submitted.items()
            if seq >= replica.logs.first_uncut(author)
        }
        await self._replay()
        for notify in self.on_matches:
            notify(list(self.replica.fold.matches.values()))
        self._wake()

    async def _go_on_from(self, replica: Replica) -> None:
        """Put a state in place, and with it what the store says of settlement and noted epochs.

        Nobody runs between the last look at the store and the exchange: an epoch that is applied
        meanwhile is looked at again.
        """
        while True:
            epoch = self.replica.epoch
            consents = {} if self.keeper is None else await self.keeper.kept()
            latest = await self.store.latest_epoch(self.market_id)
            if self.replica.epoch == epoch:
                break
        self.replica = replica
        self.recorded = Epoch(0) if latest is None else latest.epoch
        if self.keeper is not None:
            self.keeper.begin(replica.fold, consents)

    async def _replay(self) -> int:
        """Take from the store what lies beyond the replica's state."""
        loaded = 0
        async for page in self.store.load(self.market_id):
            for record in page:
                if not self._is_past(record):
                    await self._react(self._apply(self.decode(record)))
                    loaded += 1
            await self._take_kept_roster()
        while await self._refill() or await self._take_kept_roster():
            pass
        return loaded

    def _is_past(self, record: Record) -> bool:
        """Whether the replica stands behind a record, which then need not even be decoded."""
        replica = self.replica
        if record.kind is RecordKind.ENTRY:
            return record.number < replica.logs.first_uncut(record.signer)
        return (record.era, record.number) < (replica.era, replica.clock.first_round_kept)

    async def _refill(self) -> int:
        """Take from our own store what the replica lacks now: records that came too early for it.

        How many it took. Records are durable before the replica judges them, so what it passed
        over as too far ahead is there when it gets that far, also after a restart.
        """
        replica = self.replica
        digests = [*replica.wanted_ticks(), *(entry.digest for entry in replica.blocking())]
        records = list(await self.store.find(self.market_id, digests))
        first = Round(max(0, replica.clock.highest_quorum_round))
        records += await self.store.rounds(self.market_id, replica.era, first)
        taken = 0
        for record in records:
            fact = self.decode(record)
            if not self.is_held(fact):
                effects = self._apply(fact)
                await self._react(effects)
                # What waits names what it waits for, which the next look finds.
                taken += effects.taken in (Taken.HELD, Taken.WAITING)
        return taken

    async def take_roster(self, roster: Roster) -> None:
        """Go on by the next era's roster, which is kept first. Raises ``InvalidError`` if the
        market's state names another one."""
        await self.store.set_meta(self._name_of_roster(roster.era), roster.encode())
        await self._react(self._tell_of(self.replica.give_roster(roster)))
        while await self._refill():
            pass

    async def _take_kept_roster(self) -> bool:
        """Whether the replica waited for a roster that is kept from before."""
        wanted = self.replica.wanted_roster
        if wanted is None:
            return False
        kept = await self.store.meta(self._name_of_roster(wanted.era))
        roster = decode_roster(kept) if kept else None
        if roster is None or roster.era != wanted.era:
            return False
        await self._react(self._tell_of(self.replica.give_roster(roster)))
        return True

    async def _keep_handover(self, handover: Handover) -> None:
        """One of each era, for whoever follows the witnesses from one to the next."""
        name = self._name_of_handover(handover.era)
        if await self.store.meta(name) is None:
            await self.store.set_meta(name, handover.encode())
            self.counters["handovers_kept"] += 1

    async def handover(self, era: Era) -> bytes | None:
        """That of an era, encoded; None for one in which this node was not there yet, or which has
        not ended."""
        return await self.store.meta(self._name_of_handover(era))

    def _name_of_handover(self, era: Era) -> str:
        return f"handover.{self.market_id.hex()}.{era}"

    async def forget_rosters(self) -> None:
        """They may be why the state here is wrong."""
        for place in range(KEPT_ROSTERS):
            await self.store.set_meta(self._name_of_roster(Era(place)), b"")

    def _name_of_roster(self, era: Era) -> str:
        return f"roster.{self.market_id.hex()}.{era % KEPT_ROSTERS}"

    def _owner_of(self, author: Address) -> Address:
        """The owner of a session key; of any other author, itself."""
        account = self.replica.fold.accounts.get(author)
        return author if account is None else account.owner.address

    def is_wanted(self, fact: Fact) -> bool:
        """Whether a verified fact could ever count here: else it is not worth its disk space.

        Whoever wrote it offers it again while it is not cut, so nothing is lost by saying no early.
        """
        replica = self.replica
        if isinstance(fact, Tick):
            self._note_heard(fact)
            top = replica.clock.highest_quorum_round + MAX_TICKS_AHEAD
            is_near = fact.round <= top if fact.era == replica.era else fact.era == replica.era + 1
            is_near = is_near and replica.is_witness(fact.witness, fact.era)
            name = (fact.witness, int(fact.era), int(fact.round))
            return is_near and self._twins.admit(name, fact.digest, self._is_needed)
        fold = replica.fold
        if fold.is_frozen(fact.author) or not fold.is_eligible(fact.author):
            return False
        if fact.seq >= replica.logs.first_uncut(fact.author) + HELD_AHEAD:
            return False
        return self._twins.admit((fact.author, -1, fact.seq), fact.digest, self._is_needed)

    def _is_needed(self, digest: Digest) -> bool:
        """As an ancestor, or for the cut."""
        replica = self.replica
        return digest in replica.wanted_ticks() or digest in {
            entry.digest for entry in replica.blocking()
        }

    def is_held(self, fact: Fact) -> bool:
        """Whether the replica has taken this fact, or is past it."""
        if isinstance(fact, Tick):
            return self.replica.is_known_tick(fact.digest)
        return self.replica.is_known_entry(fact.author, fact.seq, fact.digest)

    def decode(self, record: Record) -> Fact:
        """A fact from the store. Its signature was verified before it got there."""
        if record.kind is RecordKind.ENTRY:
            return decode_entry(record.encoded, self.genesis.separator, self.market_id)
        return decode_tick(record.encoded, self.genesis.separator, self.market_id)

    async def run(self) -> None:
        """Join the topic and serve until cancelled."""
        for version in range(self.versions.lowest, self.versions.highest + 1):
            topic = topic_of(self.genesis, self.market_id, version)
            await self.transport.subscribe(topic, partial(self._on_gossip, topic))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.intake.run)
            nursery.start_soon(self.outbox.run)

    def _topics(self) -> list[str]:
        return [topic_of(self.genesis, self.market_id, v) for v in sorted(self._spoken())]

    async def _on_gossip(self, heard_on: str, peer: PeerId, payload: bytes) -> Verdict:
        """Judge a frame, and hand what is new to neighbours that hear another version only.

        It ends, because only what nobody handed us before is new.
        """
        verdict = await self.intake.on_gossip(peer, payload)
        if verdict is Verdict.ACCEPT and len(topics := self._topics()) > 1:
            for topic in topics:
                if topic != heard_on:
                    self.counters["frames_bridged"] += 1
                    await self.transport.publish(topic, payload)
        return verdict

    # --- facts ---

    async def take_own(self, record: Entry | Tick) -> None:
        """Take a record of our own, which is durable already."""
        await self._react(self._apply(record))

    async def _take_batch(self, batch: Sequence[tuple[PeerId, Fact]]) -> None:
        records = [record_of(fact) for _, fact in batch]
        for look in self.on_outside:
            for record in records:
                await look(record)
        await self.store.append(records)
        for _, fact in batch:
            await self._react(self._apply(fact))

    def _note_heard(self, tick: Tick) -> None:
        """Also of a tick that is too far ahead to be taken: it tells that we are behind."""
        if tick.witness in self.replica.table:
            latest = self.heard.get(tick.witness, (0, -1))
            self.heard[tick.witness] = max(latest, (tick.era, tick.round))

    def _apply(self, fact: Fact) -> Effects:
        if isinstance(fact, Entry):
            effects = self.replica.add_entry(fact)
        else:
            effects = self.replica.add_tick(fact)
        self.counters[f"facts_{effects.taken.value}"] += 1
        return self._tell_of(effects)

    def _tell_of(self, effects: Effects) -> Effects:
        """Those who look at every epoch are told of it at once."""
        if effects.epochs:
            for look in self.on_epochs:
                look(effects.epochs)
            if self._after_apply is not None:
                self._after_apply(self.replica.fold)
        return effects

    async def _react(self, effects: Effects) -> None:
        """What follows from a fact, wherever it came from: gossip, sync, our own store."""
        if effects.epochs:
            await self._note(effects.epochs)
        if self.replica.halt is not None and not self._told_halt:
            self._told_halt = True
            self._tell(self.replica.halt)
        for handover in self.replica.take_handovers():
            await self._keep_handover(handover)
        if effects.evidence:
            self.counters["evidence"] += len(effects.evidence)
            for report in self.on_evidence:
                report(effects.evidence)
        if effects.taken is not Taken.DUPLICATE:
            self._wake()

    async def _note(self, epochs: Sequence[AppliedEpoch]) -> None:
        """Make durable what these epochs brought, then note them, after all that came before them:
        several facts may be at this point at once, and the later ones' store may be faster."""
        before, done = self._noted, trio.Event()
        self._noted = done
        try:
            if self.keeper is not None:
                await self.keeper.take(epochs, self.replica.fold)
            await before.wait()
            for facts, outcome in epochs:
                if outcome.epoch > self.recorded:
                    await self.store.record_epoch(
                        self.market_id,
                        EpochRecord(outcome.epoch, outcome.root, facts.leader, outcome.time_ms),
                    )
                    self.recorded = outcome.epoch
            self._stamp(epochs)
        finally:
            done.set()
        for epoch in epochs:
            for notify in self.on_matches:
                notify(epoch.outcome.matches)

    def _wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def _stamp(self, epochs: Sequence[AppliedEpoch]) -> None:
        durable_ms = self.clock.monotonic_ms()
        for facts, outcome in epochs:
            self.epochs.append(
                EpochStamp(
                    outcome.epoch,
                    outcome.root,
                    outcome.time_ms,
                    durable_ms,
                    outcome.placed,
                    len(outcome.matches),
                    len(outcome.trades),
                )
            )
            if outcome.epoch <= self._counted:
                continue
            self._counted = outcome.epoch
            self.totals["orders"] += outcome.placed
            self.totals["matches"] += len(outcome.matches)
            self.totals["trades"] += len(outcome.trades)
            self.totals["lapses"] += len(outcome.lapses)
            self.totals["refusals"] += len(outcome.refusals)
            self.totals["entries"] += len(facts.entries)
            for entry in facts.entries:
                self.totals["operations"] += len(entry.operations)
                if len(entry.operations) > self.totals["largest_entry"]:
                    self.totals["largest_entry"] = len(entry.operations)
                submitted = self._submitted.pop((entry.author, entry.seq), None)
                if submitted is not None:
                    self.commits.append(
                        OwnCommit(entry.author, entry.seq, submitted, outcome.epoch)
                    )

    def _tell(self, halt: Halt) -> None:
        """The operator has to know, in words: nothing here is traded any more."""
        self.counters["halts"] += 1
        advice = (
            "this node's state is wrong: it computes it anew, or takes that of its peers"
            if halt.reason is HaltReason.CONTRADICTED
            else "honest nodes disagree: keep the data directory and tell the developers"
        )
        log.error(
            "market halted",
            market=self.market_id.hex(),
            reason=halt.reason.value,
            epoch=halt.epoch,
            own_root=halt.own_root.hex(),
            roots={r.root.hex(): [w.hex() for w in r.witnesses] for r in halt.reports},
            what_to_do=advice,
        )

    def note_submitted(self, entry: Entry, submitted_ms: int) -> None:
        """Remember when an entry of ours was asked for, to tell how long its commit took."""
        self._submitted[entry.author, entry.seq] = submitted_ms


def record_of(fact: Fact) -> Record:
    """The fact as the store keeps it."""
    return Record.of_entry(fact) if isinstance(fact, Entry) else Record.of_tick(fact)


def topic_of(genesis: Genesis, market_id: MarketId, version: int) -> str:
    """The gossip topic of a market: wire version, network, market, so that strangers never meet."""
    return f"/orrange/{version}/{genesis.network_id.hex()[:16]}/{market_id.hex()}"


def corrupt(fold: Fold) -> None:
    """Break a fold on purpose: one lot too many in a live order. For showing that checks work."""
    order: LiveOrder
    for order in fold.live_orders():
        if order.open > 0:
            order.open += 1
            order.quantity += 1
            fold.note_changed(order)
            return
