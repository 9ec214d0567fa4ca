"""A network of the production core in virtual time: replicas, pacemakers, gap repair and signatures
are those that nodes run; simulated are links, clocks and dice.

How gossip spreads is told in ``links``. What it lost is found missing by what refers to it, and
asked for, as in production (``core.gaps``); who is behind pulls rounds by pages; where the clock
stands still, a node asks a neighbour for its newest ticks, a witness offers its last one again, and
so does a trader with an entry that nobody cut. What is pulled is not forwarded. Peers serve all
that they ever took, as archives do, and at once.

Nodes with a witness or a trader are run event by event. All others only listen: what one of them
takes moves nobody else, so each is handed what came to it in a quarter of a second at once, in the
order in which it came. Nodes that compute the same share the work (``shared``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orrange_p2p.core import evidence, gaps, ticks
from orrange_p2p.core.allowances import Allowances
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.gaps import Gaps
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, Digest, Round, TimeMs
from orrange_p2p.core.operations import Evidence, EvidenceKind, Operation, Place
from orrange_p2p.core.pacemaker import Pacemaker, TickDraft, Wait
from orrange_p2p.core.replica import Effects, Replica
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.ticks import Tick
from orrange_p2p.ports import Signer
from orrange_p2p.sim.elections import Elections
from orrange_p2p.sim.engine import Dice, Engine
from orrange_p2p.sim.facts import Fact, Facts
from orrange_p2p.sim.links import NEVER, Links
from orrange_p2p.sim.measures import Measures
from orrange_p2p.sim.scenario import OF_WITNESSES, Attack, AttackKind, Scenario
from orrange_p2p.sim.settlement import Settlement
from orrange_p2p.sim.traders import Racer, Trader

__all__ = ["Network", "Node", "Witnessing"]

WINDOW_US: Final = 250_000
"""How often a node looks for what it lacks; listeners are run for so long at once."""
STALLED_US: Final = 2_000_000
"""Without a new round for so long a neighbour is asked where it is."""
OFFER_AGAIN_US: Final = 1_000_000
"""A witness's last tick, while its round stays."""
STUCK_US: Final = 3_000_000
"""A trader's entry that no epoch has cut."""
ACCEPT_US: Final = 20_000
"""From a match to its accept: what a node gathers for one entry."""
MAX_ANSWERED: Final = 256
"""Records of one answer."""


class Witnessing:
    """What a witness has beside its replica."""

    def __init__(
        self, signer: Signer, chain: RevealChain, replica: Replica, attack: Attack | None
    ) -> None:
        self.signer = signer
        self.chain = chain
        self.attack = attack
        self.last: Fact | None = None
        self.era = replica.era
        self.pacemaker: Pacemaker = replica.pacemaker(signer.address, None)
        self.wakes_at_us = -1
        self.from_us = 0
        """When it begins to tick."""


class Node:
    """One participant."""

    __slots__ = ("asked_until_us", "dice", "evidence", "gaps", "heard", "is_active", "is_misled",
                 "moved_us", "number", "reads_at_us", "replica", "round", "traders",
                 "witness")  # fmt: skip

    def __init__(self, number: int, replica: Replica, dice: Dice) -> None:
        self.number = number
        self.replica = replica
        self.dice = dice
        self.gaps = Gaps()
        self.heard: dict[Address, tuple[int, int]] = {}
        """Per witness the latest (era, round) of a tick that came."""
        self.round = -1
        self.moved_us = 0
        """Since when the clock stands in this round."""
        self.asked_until_us = 0
        """A page of rounds is on its way till then."""
        self.witness: Witnessing | None = None
        self.traders: list[Trader] = []
        self.evidence: list[Evidence] = []
        """Proofs of forks to write into the log."""
        self.is_active = False
        self.reads_at_us: int | None = None
        """When it gets to reading the roster it wants."""
        self.is_misled = False


class Network:
    """All nodes of a scenario."""

    def __init__(
        self,
        scenario: Scenario,
        genesis: Genesis,
        witnesses: Sequence[tuple[Signer, RevealChain]],
        traders: Sequence[Trader],
        replica: Callable[[], Replica],
        settlement: Callable[[Engine], Settlement],
        elections: Callable[[Engine], Elections] | None = None,
    ) -> None:
        """``witnesses``: signers and reveal chains, in the order of nodes. ``elections``: the home
        chain, of a network that elects them."""
        self.scenario = scenario
        self.engine = Engine(scenario.seed)
        self.settlement = settlement(self.engine)
        self.elections = None if elections is None else elections(self.engine)
        if self.elections is not None:
            self.settlement.tell = self.elections.note_settled
        self.allowances = Allowances()
        self.measures = Measures()
        self.counts: Counter[str] = self.measures.counts
        self._genesis = genesis
        self._start_ms = genesis.start_ms
        attacks = _attacks_of_witnesses(scenario)
        twins = [n for n, attack in attacks.items() if attack.kind is AttackKind.TWINS]
        hosts = [*range(scenario.nodes), *twins]
        places = [host % len(scenario.places) for host in hosts]
        self.links = Links(scenario, places, hosts)
        self.facts = Facts(len(hosts))
        self.nodes = [
            Node(number, replica(), self.engine.dice(number, "node"))
            for number in range(len(hosts))
        ]
        for number, host in enumerate(hosts):
            attack = attacks.get(host)
            if host < len(witnesses) and (attack is None or attack.kind is not AttackKind.SILENT):
                node = self.nodes[number]
                signer, chain = witnesses[host]
                node.witness = Witnessing(signer, chain, node.replica, attack)
                if number >= scenario.nodes and attack is not None:  # a second life
                    node.witness.from_us = attack.from_s * 1_000_000
            if attack is not None and attack.kind is AttackKind.MISLED:
                self.nodes[number].is_misled = True
        self.measures.misled = frozenset([n.number for n in self.nodes if n.is_misled])
        self.traders = list(traders)
        for trader in traders:
            self.nodes[trader.home].traders.append(trader)
        for node in self.nodes:
            node.is_active = node.witness is not None or bool(node.traders)
        self._active = np.array([n.number for n in self.nodes if n.is_active], np.intp)
        self._passive = np.array([n.number for n in self.nodes if not n.is_active], np.intp)
        self._inbox: dict[int, list[tuple[NDArray[np.int64], NDArray[np.intp], int]]] = {}
        self._window = 0

    # --- running ---

    def begin(self) -> None:
        """Set everything going."""
        for node in self.nodes:
            if node.witness is not None:
                self.engine.at(node.witness.from_us, self._start, node, node.witness)
            if node.is_active:  # not all in one moment
                self.engine.at(node.dice.below(WINDOW_US), self._look_again, node)
        for trader in self.traders:
            trader.begin(self)
        self.settlement.begin()
        if self.elections is not None:
            self.elections.begin()

    def run_to(self, second: int) -> None:
        """Let simulated time pass up to there."""
        while self._window * WINDOW_US < second * 1_000_000:
            self._window += 1
            self.engine.run(self._window * WINDOW_US - 1)
            self._listen()

    def _now_ms(self) -> TimeMs:
        return TimeMs(self._start_ms + self.engine.now_us // 1000)

    # --- publishing ---

    def write(self, trader: Trader, operations: Sequence[Operation]) -> Entry | None:
        """The next entry of a trader, out of its node; None while that is offline."""
        node = self.nodes[trader.home]
        if not self.links.online[node.number]:
            return None
        proofs, node.evidence = node.evidence, []
        entry = trader.sign(operations, proofs)
        self.counts["orders"] += sum(isinstance(one, Place) for one in operations)
        fact = self.publish(node, entry, None, self.scenario.flush_ms * 1000)
        self._take(node, fact, self.engine.now_us)
        return entry

    def fork(self, trader: Trader, one: Operation, another: Operation) -> None:
        """Two entries under one number, each told to another half of the network."""
        node = self.nodes[trader.home]
        second = trader.sign_another([another])
        first = trader.sign([one])
        halves = self._halves()
        self.publish(node, second, halves[1])
        self._take(node, self.publish(node, first, halves[0]), self.engine.now_us)

    def _halves(self) -> tuple[list[int], list[int]]:
        numbers = range(self.scenario.nodes)
        return [n for n in numbers if n % 2 == 0], [n for n in numbers if n % 2]

    def publish(
        self,
        node: Node,
        record: Entry | Tick,
        first: Sequence[int] | None = None,
        delay_us: int = 0,
    ) -> Fact:
        """A new record goes out of a node, which takes it first. ``first``: to these nodes alone,
        who spread it. ``delay_us``: so much later than the node has it itself."""
        fact = self.facts.add(record, self.engine.now_us)
        fact.arrives_us[node.number] = 0
        if delay_us:
            self.engine.after(delay_us, self._spread, node, fact, first)
        else:
            self._spread(node, fact, first)
        return fact

    def _spread(self, node: Node, fact: Fact, first: Sequence[int] | None = None) -> None:
        now_us = self.engine.now_us
        fact.offered_us = now_us
        if not self.links.online[node.number]:
            return
        record, size = fact.record, len(fact.record.encoded)
        if isinstance(record, Entry) and not self._is_allowed(node, record.author, size):
            self.counts["over_allowance"] += 1
            self.links.burden(now_us, node.number)
            return
        spread = self.links.spread(now_us, node.number, size, first)
        self.measures.note_spread(spread, size)
        came = spread.arrives_us
        before = fact.arrives_us
        late_us = now_us - fact.born_us
        if late_us >= NEVER:
            return  # offered for a quarter of an hour: nobody is there
        arrives = came + np.int32(late_us)
        sooner = (came < NEVER) & (arrives < before)
        before[sooner] = arrives[sooner]
        sooner[node.number] = False
        self._schedule(fact, sooner)

    def _is_allowed(self, node: Node, author: Address, size: int) -> bool:
        """Whether nodes let an author bring an entry. They all see nearly the same of it, so one
        account is kept for all, as it stands next to the author's node; what is beyond it is looked
        at there and goes no further."""
        if self.elections is not None:
            self.allowances.take_roster(node.replica.roster)
        return self.allowances.spend(author, size, self.engine.now_us)

    def _schedule(self, fact: Fact, which: NDArray[np.bool_]) -> None:
        """Let a fact arrive at nodes when ``arrives_us`` says."""
        born_us, arrives = fact.born_us, fact.arrives_us
        active = self._active[which[self._active]]
        for number, after in zip(active.tolist(), arrives[active].tolist(), strict=True):
            self.engine.at(born_us + after, self._arrive, self.nodes[number], fact)
        passive = self._passive[which[self._passive]]
        if len(passive):
            times = arrives[passive].astype(np.int64) + born_us
            windows = times // WINDOW_US
            for window in np.unique(windows).tolist():
                here = windows == window
                part = (times[here], passive[here], fact.number)
                self._inbox.setdefault(window, []).append(part)

    # --- taking ---

    def _arrive(self, node: Node, fact: Fact) -> None:
        if not fact.comes(node.number, self.engine.now_us):
            self.counts["overtaken"] += 1
            return
        if not self.links.online[node.number]:
            fact.arrives_us[node.number] = NEVER
            return
        self._take(node, fact, self.engine.now_us)

    def _take(self, node: Node, fact: Fact, now_us: int) -> None:
        record = fact.record
        self.counts["taken"] += 1
        if isinstance(record, Entry):
            effects = node.replica.add_entry(record)
            for trader in node.traders:
                trader.see(record, self)
        else:
            node.heard[record.witness] = (record.era, record.round)
            effects = node.replica.add_tick(record)
        if effects.epochs or effects.evidence:
            self._note(node, effects, now_us)
        if node.witness is not None and fact.is_tick and now_us >= node.witness.from_us:
            self._poll(node)

    def _note(self, node: Node, effects: Effects, now_us: int) -> None:
        self.measures.note_effects(node.number, node.replica, effects, now_us)
        if effects.evidence:
            self._accuse(effects)
        if node.traders:
            node.evidence += [e for e in effects.evidence if e.kind == EvidenceKind.FORK]
            for _, outcome in effects.epochs:
                for trader in node.traders:
                    trader.note(outcome)
                    self.settlement.take(outcome, trader.address)
            for trader in node.traders:
                if trader.has_matches or node.evidence:
                    self.engine.after(ACCEPT_US, self._accept, trader)

    def _accept(self, trader: Trader) -> None:
        if trader.has_matches or self.nodes[trader.home].evidence:
            self.write(trader, [])

    def _listen(self) -> None:
        """Hand the window's facts to those that only listen, one node after the other."""
        parts = self._inbox.pop(self._window - 1, None)
        if parts:
            times = np.concatenate([part[0] for part in parts])
            numbers = np.concatenate([part[1] for part in parts])
            facts = np.repeat(
                np.array([part[2] for part in parts]), [len(part[0]) for part in parts]
            )
            order = np.lexsort((facts, times, numbers))
            self._hear(times[order].tolist(), numbers[order].tolist(), facts[order].tolist())
        online = self.links.online
        for number in self._passive.tolist():
            if online[number]:
                self._look(self.nodes[number])

    def _hear(self, times: list[int], numbers: list[int], facts: list[int]) -> None:
        online = self.links.online.tolist()
        every = list(self.facts)
        node = self.nodes[numbers[0]]
        replica, taken = node.replica, 0
        add_entry, add_tick, heard = replica.add_entry, replica.add_tick, node.heard
        for time_us, number, name in zip(times, numbers, facts, strict=True):
            fact = every[name]
            if number != node.number:
                node = self.nodes[number]
                replica = node.replica
                add_entry, add_tick, heard = replica.add_entry, replica.add_tick, node.heard
            # What is nearly always so is asked without a call.
            arrives_us = fact.born_us + fact.arrives_us.item(number)
            if arrives_us != time_us and not fact.comes(number, time_us):
                self.counts["overtaken"] += 1
                continue
            if not online[number]:
                fact.arrives_us[number] = NEVER
                continue
            taken += 1
            record = fact.record
            if isinstance(record, Entry):
                effects = add_entry(record)
            else:
                heard[record.witness] = (record.era, record.round)
                effects = add_tick(record)
            if effects.epochs or effects.evidence:
                self.measures.note_effects(number, replica, effects, time_us)
                if effects.evidence:
                    self._accuse(effects)
        self.counts["taken"] += taken

    # --- witnesses ---

    def _start(self, node: Node, witness: Witnessing) -> None:
        """A second life goes on where the first one was seen last: it is not caught at once."""
        replica, address = node.replica, witness.signer.address
        seen = replica.clock.last_heard_round(address)
        witness.pacemaker = replica.pacemaker(address, (replica.era, seen) if seen >= 0 else None)
        self._poll(node)

    def _poll(self, node: Node) -> None:
        witness, replica = node.witness, node.replica
        assert witness is not None
        while True:
            if witness.signer.address not in replica.table:
                return
            if witness.era != replica.era:
                witness.era = replica.era
                witness.pacemaker = replica.pacemaker(witness.signer.address, None)
            step = witness.pacemaker.poll(self._now_ms())
            if isinstance(step, Wait):
                self._wake(node, witness, step)
                return
            witness.pacemaker.note_ticked(step, self._now_ms())
            self._tick(node, witness, step)

    def _tick(self, node: Node, witness: Witnessing, step: TickDraft) -> None:
        replica = node.replica
        reveal = witness.chain.reveal(replica.reveal_position(witness.signer.address, step.round))
        draft = ticks.draft(
            self._genesis.separator,
            replica.market_id,
            replica.era,
            step.round,
            witness.signer.address,
            replica.tick_body(step, self._now_ms(), reveal),
        )
        tick = draft.signed(witness.signer.sign(draft.digest))
        self.counts["ticks"] += 1
        attack = witness.attack
        first, delay_us = None, 0
        if attack is not None and attack.kind is AttackKind.DELAY:
            delay_us = attack.delay_ms * 1000
        elif attack is not None and attack.kind is AttackKind.WITHHOLD:
            first = self._some_others(node, attack.told)
        witness.last = self.publish(node, tick, first, delay_us)
        self._take(node, witness.last, self.engine.now_us)

    def _some_others(self, node: Node, count: int) -> list[int]:
        others = [other for other in range(self.scenario.nodes) if other != node.number]
        node.dice.shuffle(others)
        return others[:count]

    def _wake(self, node: Node, witness: Witnessing, step: Wait) -> None:
        if step.until_ms is None:
            return
        at_us = (step.until_ms - self._start_ms) * 1000
        if at_us != witness.wakes_at_us:
            witness.wakes_at_us = at_us
            self.engine.at(at_us, self._poll, node)

    # --- what was lost ---

    def _look_again(self, node: Node) -> None:
        self.engine.after(WINDOW_US, self._look_again, node)
        if self.links.online[node.number]:
            self._look(node)

    def _look(self, node: Node) -> None:
        """What a node does every now and then: look for what it lacks, and where it stands."""
        now_us, now_ms = self.engine.now_us, self._now_ms()
        replica = node.replica
        if replica.halt is not None:
            return  # it takes nothing more
        if self.elections is not None:
            self._read_roster(node, self.elections)
        due = node.gaps.note_missing(replica, now_ms)
        if due:
            peers = self.links.mesh[node.number]
            peer = self._peer(node)
            node.gaps.note_asked(replica, due, now_ms, len(peers))
            self.counts["asked"] += len(due)
            known = [fact for digest in due if (fact := self.facts.get(digest)) is not None]
            self._ask(node, peer, lambda: known)
        round = replica.clock.highest_quorum_round
        if round != node.round:
            node.round, node.moved_us = round, now_us
        if now_us >= node.asked_until_us and gaps.is_behind(replica, node.heard):
            self._catch_up(node)
        elif now_us - node.moved_us >= STALLED_US:
            node.moved_us = now_us
            peer = self._peer(node)
            self._ask(node, peer, lambda: self._newest(peer))
        self._offer_again(node)

    def _offer_again(self, node: Node) -> None:
        now_us = self.engine.now_us
        last = None if node.witness is None else node.witness.last
        if last is not None and now_us - last.offered_us >= OFFER_AGAIN_US:
            # Of an era that is over nobody needs it any more, but who pulls its rounds.
            if isinstance(last.record, Tick) and last.record.era >= node.replica.era:
                self._spread(node, last)
        for trader in node.traders:
            for entry in trader.uncut(node.replica.logs.first_uncut(trader.address))[:1]:
                fact = self.facts.get(entry.digest)
                if fact is not None and now_us - fact.offered_us >= STUCK_US:
                    self._spread(node, fact)

    def _peer(self, node: Node) -> int:
        mesh = self.links.mesh[node.number]
        return mesh[node.dice.below(len(mesh))]

    def _newest(self, peer: int) -> list[Fact]:
        clock = self.nodes[peer].replica.clock
        top = clock.highest_round
        newest = [
            self.facts.get(tick.digest)
            for round in range(max(0, top - 2), top + 1)
            for tick in clock.ticks_of_round(Round(round))
        ]
        return [fact for fact in newest if fact is not None]

    def _catch_up(self, node: Node) -> None:
        peer = self._peer(node)
        era, first = node.replica.era, max(0, node.replica.clock.highest_quorum_round - 1)
        node.asked_until_us = self.engine.now_us + 2 * self.links.way_us(node.number, peer)
        self.counts["pages"] += 1
        self._ask(
            node, peer, lambda: self.facts.held_of_rounds(peer, era, first, self.engine.now_us)
        )

    def _ask(self, node: Node, peer: int, wanted: Callable[[], Iterable[Fact]]) -> None:
        """Ask a peer, if there is a way to it, for what it has of this by then. The peers of who is
        eclipsed are the attacker's."""
        hold_us = int(self.links.hold_us[node.number])
        if self.links.is_open(node.number, peer) and peer != node.number and hold_us < NEVER:
            way_us = self.links.way_us(node.number, peer)
            self.engine.after(way_us + hold_us, self._answer, peer, node, wanted)

    def _answer(self, peer: int, node: Node, wanted: Callable[[], Iterable[Fact]]) -> None:
        now_us = self.engine.now_us
        at_us = now_us + self.links.way_us(peer, node.number)
        held = [fact for fact in wanted() if fact.reaches(peer) <= now_us]
        for fact in held[:MAX_ANSWERED]:
            reaches_us = fact.reaches(node.number)
            if at_us < reaches_us:
                fact.arrives_us[node.number] = at_us - fact.born_us
            elif reaches_us < self._run_from_us(node) and self._lacks(node, fact):
                fact.again_us[node.number] = at_us  # it was passed over when it came
            else:
                continue
            self.counts["repaired"] += 1
            if node.is_active:
                self.engine.at(at_us, self._arrive, node, fact)
            else:
                part = (np.array([at_us]), np.array([node.number]), fact.number)
                self._inbox.setdefault(at_us // WINDOW_US, []).append(part)

    def _run_from_us(self, node: Node) -> int:
        """Until when the node has been handed what came to it."""
        return self.engine.now_us if node.is_active else (self._window - 1) * WINDOW_US

    def _lacks(self, node: Node, fact: Fact) -> bool:
        record, replica = fact.record, node.replica
        if isinstance(record, Entry):
            return not replica.is_known_entry(record.author, record.seq, record.digest)
        return not replica.is_known_tick(record.digest)

    # --- eras ---

    def _read_roster(self, node: Node, elections: Elections) -> None:
        """Read the home chain for the next era, each node when it gets to it."""
        wanted = node.replica.wanted_roster
        if wanted is None:
            node.reads_at_us = None
            return
        now_us = self.engine.now_us
        if node.reads_at_us is None:
            node.reads_at_us = now_us + node.dice.below(elections.read_within_us)
        if now_us >= node.reads_at_us:
            read = elections.another if node.is_misled else elections.roster
            effects = node.replica.give_roster(read(wanted))
            self._note(node, effects, now_us)
            elections.present_era = max(elections.present_era, node.replica.era)
            if node.witness is not None and now_us >= node.witness.from_us:
                self._poll(node)

    # --- who is guilty ---

    def _accuse(self, effects: Effects) -> None:
        """Whoever has a proof shows it to the registry."""
        if self.elections is not None:
            for proof in effects.evidence:
                self.elections.note_guilty(self._culprit(proof))

    def _culprit(self, proof: Evidence) -> Address:
        return evidence.culprit(proof, self._genesis.separator, self._genesis.markets[0].id)

    def convicted(self) -> dict[Address, str]:
        """Who is proven to have signed two records of one name, by anybody's evidence."""
        found = {}
        for proof in self.measures.evidence:
            address = self._culprit(proof)
            found[address] = EvidenceKind(proof.kind).name.lower()
        return found

    def races(self) -> list[tuple[Digest, Digest]]:
        """Entries that racers answered, and the answers."""
        return [race for one in self.traders if isinstance(one, Racer) for race in one.raced]


def _attacks_of_witnesses(scenario: Scenario) -> dict[int, Attack]:
    """By number of the witness: the last ones are the attackers."""
    found: dict[int, Attack] = {}
    number = scenario.witnesses
    for attack in scenario.attack:
        if attack.kind in OF_WITNESSES:
            for _ in range(attack.count):
                number -= 1
                found[number] = attack
    return found
