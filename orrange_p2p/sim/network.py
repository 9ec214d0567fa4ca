"""A network of the production core in virtual time: replicas, pacemakers, gap repair and signatures
are those that nodes run; simulated are links, clocks and dice.

What is modelled of gossipsub: a mesh of chosen neighbours over which a message is forwarded when it
first comes; a neighbour that has it already gets it once more (there is no IDONTWANT). A message
that a link lost is found missing by what refers to it, and asked for, as in production
(``core.gaps``); where the clock stands still, a node asks a neighbour for its newest ticks, a
witness offers its last one again, and so does a trader with an entry that nobody cut. What is not:
joining and leaving meshes, scores, floods, frames (each record is a message of its own), TCP.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from orrange_p2p.core import ticks
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.gaps import Gaps
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Digest, Epoch, Round, TimeMs
from orrange_p2p.core.pacemaker import Pacemaker, Wait
from orrange_p2p.core.replica import Effects, Replica
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.ticks import Tick
from orrange_p2p.ports import Signer
from orrange_p2p.sim.engine import Dice, Engine
from orrange_p2p.sim.latency import one_way_us
from orrange_p2p.sim.scenario import Scenario
from orrange_p2p.sim.traders import Trader

__all__ = ["Network", "Witnessing"]

LOOK_FOR_GAPS_US: Final = 250_000
STALLED_US: Final = 2_000_000
"""Without a new round for so long a neighbour is asked where it is."""
OFFER_AGAIN_US: Final = 1_000_000
"""A witness's last tick, while its round stays."""
STUCK_US: Final = 3_000_000
"""A trader's entry that no epoch has cut."""
MAX_ANSWERED: Final = 256
"""Records of one answer to what is missing."""
OVERHEAD_BYTES: Final = 160
"""Of a message beside its record: what gossipsub, noise and TCP add."""
_BUCKET_US: Final = 1000
_FACT = Entry | Tick


class Histogram:
    """Durations in whole milliseconds."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, duration_us: int) -> None:
        self._counts[duration_us // _BUCKET_US] += 1

    def figures(self) -> dict[str, int | None]:
        """Quantiles; None if there is nothing."""
        total = sum(self._counts.values())
        wanted = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
        found: dict[str, int | None] = dict.fromkeys(wanted)
        passed = 0
        for value, count in sorted(self._counts.items()):
            passed += count
            for name, percent in wanted.items():
                if found[name] is None and passed * 100 >= total * percent:
                    found[name] = value
        return found


class Witnessing:
    """What a witness has beside its replica."""

    def __init__(self, signer: Signer, chain: RevealChain, replica: Replica) -> None:
        self.signer = signer
        self.chain = chain
        self.last: Tick | None = None
        self.offered_us = 0
        self.era = replica.era
        self.pacemaker: Pacemaker = replica.pacemaker(signer.address, None)
        self.wakes_at_us = -1


class Node:
    """One participant."""

    __slots__ = (
        "dice",
        "gaps",
        "held",
        "mesh",
        "moved_us",
        "number",
        "place",
        "replica",
        "round",
        "uplink_us",
        "witness",
    )

    def __init__(self, number: int, place: int, replica: Replica, dice: Dice) -> None:
        self.number = number
        self.place = place
        self.replica = replica
        self.dice = dice
        self.gaps = Gaps()
        self.held: dict[Digest, _FACT] = {}
        self.mesh: list[Node] = []
        self.uplink_us = 0
        """Until then the uplink is busy with what was sent before."""
        self.round = -1
        self.moved_us = 0
        """Since when the clock stands in this round."""
        self.witness: Witnessing | None = None


class Network:
    """All nodes of a scenario. ``witnesses``: signers and reveal chains, in the order of nodes;
    ``traders``: signers."""

    def __init__(
        self,
        scenario: Scenario,
        genesis: Genesis,
        witnesses: Sequence[tuple[Signer, RevealChain]],
        traders: Sequence[Signer],
        replica: Callable[[Genesis], Replica],
    ) -> None:
        self.scenario = scenario
        self.engine = Engine(scenario.seed)
        self._genesis = genesis
        self._one_way_us = one_way_us(scenario.places)
        self._start_ms = genesis.start_ms
        count = len(scenario.places)
        self.nodes = [
            Node(number, number % count, replica(genesis), self.engine.dice(number, "node"))
            for number in range(scenario.nodes)
        ]
        self._weave()
        active = witnesses[: len(witnesses) - scenario.silent_witnesses]
        for node, (signer, chain) in zip(self.nodes, active, strict=False):
            node.witness = Witnessing(signer, chain, node.replica)
        self.traders = [
            Trader(genesis, signer, number % scenario.nodes, self.engine.dice(number, "trader"))
            for number, signer in enumerate(traders)
        ]
        self._at_home: dict[int, list[Trader]] = {}
        for trader in self.traders:
            self._at_home.setdefault(trader.home, []).append(trader)
        self.counts: Counter[str] = Counter()
        self.propagation = Histogram()
        self.commits = Histogram()
        """From an entry's writing to a node's applying it, at every node."""
        self._born_us: dict[Digest, int] = {}
        self._born_again: dict[Digest, int] = {}
        """When an entry was offered last."""
        self._roots: dict[Epoch, bytes] = {}
        self.disagreements: list[str] = []

    def _weave(self) -> None:
        """Each node chooses neighbours; a choice counts for both."""
        own = min((self.scenario.degree + 1) // 2, len(self.nodes) - 1)
        neighbours: list[dict[int, None]] = [{} for _ in self.nodes]
        for node in self.nodes:
            dice = self.engine.dice(node.number, "mesh")
            mine = neighbours[node.number]
            # The ring keeps the mesh whole whatever is drawn.
            chosen = [(node.number + 1) % len(self.nodes)] if len(self.nodes) > 1 else []
            while len(chosen) < own:
                other = dice.below(len(self.nodes))
                if other != node.number and other not in chosen:
                    chosen.append(other)
            for other in chosen:
                mine[other] = None
                neighbours[other][node.number] = None
        for node in self.nodes:
            node.mesh = [self.nodes[other] for other in neighbours[node.number]]

    # --- running ---

    def begin(self) -> None:
        """Set everything going."""
        engine, scenario = self.engine, self.scenario
        for node in self.nodes:
            if node.witness is not None:
                engine.at(0, self._poll, node)
            # Not all in one moment.
            engine.at(node.dice.below(LOOK_FOR_GAPS_US), self._look_for_gaps, node)
        if scenario.orders_per_s:
            every_us = 1_000_000 // scenario.orders_per_s
            engine.at(every_us, self._order, engine.dice(0, "orders"), every_us)

    def run_to(self, second: int) -> None:
        """Let simulated time pass up to there."""
        self.engine.run(second * 1_000_000)

    def _now_ms(self) -> TimeMs:
        return TimeMs(self._start_ms + self.engine.now_us // 1000)

    # --- traders ---

    def _order(self, dice: Dice, every_us: int) -> None:
        trader = self.traders[dice.below(len(self.traders))]
        self._write(trader, is_order=True)
        self.engine.after(every_us, self._order, dice, every_us)

    def _write(self, trader: Trader, *, is_order: bool) -> None:
        entry = trader.write([trader.order()] if is_order else [])
        self.counts["orders"] += is_order
        self._publish(self.nodes[trader.home], entry)

    def _accept(self, trader: Trader) -> None:
        if trader.has_matches:
            self._write(trader, is_order=False)

    # --- facts ---

    def _publish(self, node: Node, fact: _FACT) -> None:
        self._born_us[fact.digest] = self.engine.now_us
        self.counts["facts"] += 1
        self._receive(node, fact, None)

    def _receive(self, node: Node, fact: _FACT, sender: Node | None) -> None:
        if fact.digest in node.held:
            self.counts["duplicates"] += 1
            return
        self._take(node, fact)
        for other in node.mesh:
            if other is not sender:
                self._send(node, other, fact)
        if node.witness is not None and isinstance(fact, Tick):
            self._poll(node)

    def _take(self, node: Node, fact: _FACT) -> None:
        node.held[fact.digest] = fact
        self.counts["taken"] += 1
        self.propagation.add(self.engine.now_us - self._born_us[fact.digest])
        replica = node.replica
        effects: Effects = (
            replica.add_entry(fact) if isinstance(fact, Entry) else replica.add_tick(fact)
        )
        for facts, outcome in effects.epochs:
            root = self._roots.setdefault(outcome.epoch, outcome.root)
            if root != outcome.root:
                self.disagreements.append(f"node {node.number} in epoch {outcome.epoch}")
            for entry in facts.entries:
                self.commits.add(self.engine.now_us - self._born_us[entry.digest])
            for trader in self._at_home.get(node.number, ()):
                trader.note(outcome.matches)
                if trader.has_matches:
                    self.engine.after(20_000, self._accept, trader)

    def _send(self, node: Node, other: Node, fact: _FACT) -> None:
        size = len(fact.encoded) + OVERHEAD_BYTES
        self.counts["messages"] += 1
        self.counts["bytes"] += size
        busy_us = size * 8_000 // self.scenario.bandwidth_kbps
        node.uplink_us = max(node.uplink_us, self.engine.now_us) + busy_us
        if node.dice.chance(self.scenario.loss_ppm):
            self.counts["lost"] += 1
            return
        way_us = self._one_way_us[node.place][other.place]
        # Paths differ by some percent from one message to the next.
        way_us += node.dice.below(max(1, way_us // 10))
        self.engine.at(node.uplink_us + way_us, self._receive, other, fact, node)

    # --- witnesses ---

    def _poll(self, node: Node) -> None:
        witness, replica = node.witness, node.replica
        assert witness is not None
        while True:
            if witness.era != replica.era:
                witness.era = replica.era
                witness.pacemaker = replica.pacemaker(witness.signer.address, None)
            step = witness.pacemaker.poll(self._now_ms())
            if isinstance(step, Wait):
                self._wake(node, witness, step)
                return
            witness.pacemaker.note_ticked(step, self._now_ms())
            reveal = witness.chain.reveal(replica.reveal_position(replica.era, step.round))
            body = replica.tick_body(step, self._now_ms(), reveal)
            draft = ticks.draft(
                self._genesis.separator,
                replica.market_id,
                replica.era,
                step.round,
                witness.signer.address,
                body,
            )
            tick = draft.signed(witness.signer.sign(draft.digest))
            self._born_us[tick.digest] = self.engine.now_us
            self.counts["facts"] += 1
            self.counts["ticks"] += 1
            witness.last, witness.offered_us = tick, self.engine.now_us
            self._take(node, tick)
            self._offer(node, tick)

    def _wake(self, node: Node, witness: Witnessing, step: Wait) -> None:
        if step.until_ms is None:
            return
        at_us = (step.until_ms - self._start_ms) * 1000
        if at_us != witness.wakes_at_us:
            witness.wakes_at_us = at_us
            self.engine.at(at_us, self._poll, node)

    # --- what was lost ---

    def _look_for_gaps(self, node: Node) -> None:
        now_ms = self._now_ms()
        due = node.gaps.note_missing(node.replica, now_ms)
        if due and node.mesh:
            peer = node.mesh[node.dice.below(len(node.mesh))]
            node.gaps.note_asked(node.replica, due, now_ms, len(node.mesh))
            self.counts["asked"] += len(due)
            way_us = self._one_way_us[node.place][peer.place]
            self.engine.after(way_us, self._answer, peer, node, due[:MAX_ANSWERED])
        self._look_for_standstill(node)
        self.engine.after(LOOK_FOR_GAPS_US, self._look_for_gaps, node)

    def _look_for_standstill(self, node: Node) -> None:
        now_us, witness = self.engine.now_us, node.witness
        round = node.replica.clock.highest_quorum_round
        if round != node.round:
            node.round, node.moved_us = round, now_us
        elif now_us - node.moved_us >= STALLED_US and node.mesh:
            node.moved_us = now_us
            peer = node.mesh[node.dice.below(len(node.mesh))]
            way_us = self._one_way_us[node.place][peer.place]
            self.engine.after(way_us, self._tell_newest, peer, node)
        if witness is not None and witness.last is not None:
            if now_us - witness.offered_us >= OFFER_AGAIN_US:
                witness.offered_us = now_us
                self._offer(node, witness.last)
        for trader in self._at_home.get(node.number, ()):
            first = node.replica.logs.first_uncut(trader.address)
            stuck = [entry for entry in trader.uncut(first) if self._is_stuck(entry)]
            for entry in stuck[:1]:
                self._born_again[entry.digest] = now_us
                self._offer(node, entry)

    def _is_stuck(self, entry: Entry) -> bool:
        since_us = self._born_again.get(entry.digest, self._born_us[entry.digest])
        return self.engine.now_us - since_us >= STUCK_US

    def _offer(self, node: Node, fact: _FACT) -> None:
        for other in node.mesh:
            self._send(node, other, fact)

    def _tell_newest(self, peer: Node, node: Node) -> None:
        clock = peer.replica.clock
        top = clock.highest_round
        newest = [
            tick.digest
            for round in range(max(0, top - 2), top + 1)
            for tick in clock.ticks_of_round(Round(round))
        ]
        self._answer(peer, node, newest)

    def _answer(self, peer: Node, node: Node, wanted: Sequence[Digest]) -> None:
        for digest in wanted:
            fact = peer.held.get(digest)
            if fact is not None:
                self.counts["repaired"] += digest not in node.held
                way_us = self._one_way_us[peer.place][node.place]
                self.engine.after(way_us, self._receive, node, fact, peer)
