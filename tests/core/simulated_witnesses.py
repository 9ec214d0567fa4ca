"""Ticks by hand, and a small asynchronous network of witnesses: honest ones run the real code.

Time is a number, chance is a seed. Messages take up to seconds, some are lost; lost ones come back
as ancestors that are asked for, or by a pull of whole rounds, as in the real node.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence

from orrange_p2p.core.clock import Added, Clock
from orrange_p2p.core.cut import Cut, Extension
from orrange_p2p.core.dag import Equivocation
from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, Round, Seq, TimeMs, Weight
from orrange_p2p.core.pacemaker import HeldLogs, Pace, Pacemaker, TickDraft, Wait
from orrange_p2p.core.ticks import Applied, HeadItem, Tick, TickBody, TickHeader
from orrange_p2p.core.witnesses import WitnessTable
from orrange_p2p.crypto.hashes import sha256

ERA = Era(0)
SEED = b"seed of the era".ljust(32)


def address(number: int) -> Address:
    return Address(bytes([number]) * 20)


def table_of(*weights: int) -> WitnessTable:
    """Witnesses 1, 2, ... with these weights."""
    return WitnessTable({address(i): Weight(w) for i, w in enumerate(weights, 1)})


def weak_table_of(*weights: int) -> WitnessTable:
    """The mutant: half the weight is taken for a quorum."""
    table = table_of(*weights)
    table.quorum = Weight(table.total // 2)
    return table


def make_tick(
    witness: int | Address,
    round: int,
    parents: Iterable[Tick | Digest] = (),
    heads: Sequence[HeadItem] = (),
    *,
    time_ms: int = 0,
    era: int = ERA,
    twin: int = 0,
) -> Tick:
    """A tick that needs no signature; ``twin`` tells equivocations of equal content apart."""
    who = witness if isinstance(witness, bytes) else address(witness)
    named = tuple(sorted(p.digest if isinstance(p, Tick) else p for p in parents))
    body = TickBody(named, tuple(heads), TimeMs(time_ms), Applied(Epoch(0), bytes(32)), bytes(32))
    header = TickHeader(MarketId(bytes(32)), Era(era), Round(round), Address(who), bytes(32))
    digest = sha256(repr((who, era, round, named, heads, time_ms, twin)).encode())
    return Tick(header, Digest(digest), body, b"", b"")


def full_rounds(table: WitnessTable, rounds: int) -> list[Tick]:
    """A network without faults or delays: everyone ticks every round on everyone's last."""
    ticks: list[Tick] = []
    previous: list[Tick] = []
    for round in range(rounds):
        previous = [make_tick(w, round, previous, time_ms=250 * round) for w in table.addresses]
        ticks += previous
    return ticks


class Node:
    """An honest witness: the real clock and pacemaker, and what it committed."""

    def __init__(self, table: WitnessTable, who: Address, pace: Pace, peers: Network) -> None:
        self.who = who
        self.network = peers
        self.table = table
        self.clock = Clock(table, ERA, SEED)
        self.logs = HeldLogs()
        self.cut = Cut(table)
        self.extensions: list[Extension] = []
        self.pace = pace
        self.pacemaker = Pacemaker(who, self.clock, self.logs, pace)
        self.received: dict[Digest, Tick] = {}
        self.slots: list[tuple[int, Digest | None, tuple[Digest, ...]]] = []
        self.evidence: list[Equivocation] = []
        self.alive = True
        self.wakes_at: int | None = None

    def take(self, tick: Tick, sender: Address) -> None:
        self.received[tick.digest] = tick
        self.note(self.clock.add(tick))
        missing = self.clock.missing
        if missing:
            self.network.ask(self, sender, missing)
        self.poll()

    def note(self, added: Added) -> None:
        self.evidence += added.equivocations
        for decided in added.decided:
            leader = None if decided.leader is None else decided.leader.digest
            history = tuple(tick.digest for tick in decided.history)
            self.slots.append((decided.round, leader, history))
            if decided.leader is not None:
                self.apply(self.cut, decided.history)

    def apply(self, cut: Cut, history: Sequence[Tick]) -> None:
        """One epoch of the replica's work: cut the logs, and list no more what is cut."""
        cut.absorb(history)
        extension = cut.extend(self.network.entries.get, lambda author: True)
        self.extensions.append(extension)
        for run in extension.runs:
            head = cut.head_of(run.author)
            self.logs.note_cut(run.author, head.next_seq, head.digest)
        for fork in extension.forks:
            self.logs.drop(fork.author)

    def poll(self) -> None:
        now = self.network.now
        answer = self.pacemaker.poll(TimeMs(now))
        while isinstance(answer, TickDraft):
            self.pacemaker.note_ticked(answer, TimeMs(now))
            tick = make_tick(
                self.who, answer.round, answer.parents, answer.heads, time_ms=now + self.who[0]
            )
            self.received[tick.digest] = tick
            self.note(self.clock.add(tick))
            self.network.broadcast(self.who, tick)
            answer = self.pacemaker.poll(TimeMs(now))
        assert isinstance(answer, Wait)
        if answer.until_ms is not None and answer.until_ms != self.wakes_at:
            self.wakes_at = answer.until_ms
            self.network.at(answer.until_ms, self.wake)

    def wake(self) -> None:
        self.wakes_at = None
        self.poll()

    def restart(self, order: random.Random) -> None:
        """Lose everything but the store: the ticks, in no order, and the last signed round."""
        ticks = list(self.received.values())
        order.shuffle(ticks)
        last = self.pacemaker.last_signed_round
        self.clock = Clock(self.table, ERA, SEED)
        self.slots = []
        self.cut, self.extensions = Cut(self.table), []
        self.pacemaker = Pacemaker(self.who, self.clock, self.logs, self.pace, last)
        # The store gives ticks back as often as the clock calls for more: it takes no round that
        # is far above what it holds.
        while ticks:
            for tick in ticks:
                self.note(self.clock.add(tick))
            left = [t for t in ticks if t.digest not in self.clock]
            left = [t for t in left if t.round >= self.clock.first_round_kept]
            if len(left) == len(ticks):
                break
            ticks = left
        self.wakes_at = None


class Liar:
    """A faulty witness: twins for different nodes, withheld ticks, arbitrary parents."""

    def __init__(self, table: WitnessTable, who: Address, network: Network) -> None:
        self.table = table
        self.who = who
        self.network = network
        self.clock = Clock(table, ERA, SEED)
        self.received: dict[Digest, Tick] = {}
        self.alive = True
        self.done = -1

    def take(self, tick: Tick, sender: Address) -> None:
        self.received[tick.digest] = tick
        self.clock.add(tick)
        if self.clock.missing:
            self.network.ask(self, sender, self.clock.missing)
        self.poll()

    def poll(self) -> None:
        chance = self.network.chance
        while self.done < self.clock.highest_quorum_round + 1:
            self.done += 1
            parents = self.clock.ticks_of_round(Round(self.done - 1)) if self.done else ()
            nodes = [n for n in self.network.nodes.values() if n is not self]
            chance.shuffle(nodes)
            twins = chance.choice((1, 2, 2, 2, 3))
            for twin in range(twins):
                tick = make_tick(
                    self.who, self.done, self.choose(parents), time_ms=chance.randrange(10**6),
                    twin=twin,
                )  # fmt: skip
                self.received[tick.digest] = tick
                self.clock.add(tick)
                for node in nodes[twin::twins]:
                    if chance.random() < 0.8:  # else withheld from it
                        self.network.send(self.who, node, tick)

    def choose(self, ticks: Sequence[Tick]) -> list[Tick]:
        """Just a quorum at random, of each witness one of its ticks."""
        shuffled = list(ticks)
        self.network.chance.shuffle(shuffled)
        chosen: dict[Address, Tick] = {}
        for tick in shuffled:
            if self.table.weight_of_set(chosen) >= self.table.quorum:
                break
            chosen.setdefault(tick.witness, tick)
        return list(chosen.values())


class Network:
    """Delivers ticks late, twice, out of order or not at all."""

    def __init__(
        self,
        table: WitnessTable,
        liars: int,
        seed: int,
        *,
        delay_ms: int = 2000,
        loss: float = 0.1,
        pace: Pace | None = None,
    ) -> None:
        self.chance = random.Random(seed)
        self.now = 1_000_000
        self.delay_ms = delay_ms
        self.loss = loss
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.count = 0
        self.entries: dict[Digest, Digest] = {}
        """Every entry there is, with its ``prev``: any node can fetch any."""
        self.cut_off: Callable[[Address, Address], bool] = lambda sender, receiver: False
        faulty = set(self.chance.sample(table.addresses, liars))
        self.nodes: dict[Address, Node | Liar] = {}
        for who in table.addresses:
            if who in faulty:
                self.nodes[who] = Liar(table, who, self)
            else:
                self.nodes[who] = Node(table, who, pace or Pace(), self)
        self.honest = [node for node in self.nodes.values() if isinstance(node, Node)]
        for node in self.nodes.values():
            self.at(self.now + self.chance.randrange(500), node.poll)
            self.at(self.now + self.chance.randrange(3000), lambda node=node: self.pull(node))

    def at(self, time_ms: int, call: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (time_ms, self.count, call))

    def run(self, until: Callable[[], bool], limit_ms: int = 10**7) -> bool:
        """Let events happen until the condition holds; whether it did within the time limit."""
        end = self.now + limit_ms
        while self.events and self.now < end:
            if until():
                return True
            self.now, _, call = heapq.heappop(self.events)
            call()
        return until()

    def run_for(self, ms: int) -> None:
        self.run(lambda: False, ms)

    def run_rounds(self, rounds: int) -> bool:
        """Until every live honest node holds a quorum of that round."""
        return self.run(
            lambda: all(n.clock.highest_quorum_round >= rounds for n in self.honest if n.alive)
        )

    def broadcast(self, sender: Address, tick: Tick) -> None:
        for node in self.nodes.values():
            if node.who != sender:
                self.send(sender, node, tick)

    def send(self, sender: Address, node: Node | Liar, tick: Tick) -> None:
        if self.cut_off(sender, node.who) or self.chance.random() < self.loss:
            return
        for _ in range(2 if self.chance.random() < 0.1 else 1):
            self.at(self.now + self.delay(), lambda: self.deliver(sender, node, tick))

    def delay(self) -> int:
        """Mostly short, at times up to the bound."""
        if self.chance.random() < 0.7:
            return self.chance.randrange(1 + self.delay_ms // 10)
        return self.chance.randrange(1 + self.delay_ms)

    def deliver(self, sender: Address, node: Node | Liar, tick: Tick) -> None:
        if node.alive and self.nodes[sender].alive:
            node.take(tick, sender)

    def ask(self, asker: Node | Liar, sender: Address, digests: Sequence[Digest]) -> None:
        """Fetch ancestors from whoever sent a descendant."""
        for digest in digests:
            tick = self.nodes[sender].received.get(digest)
            if tick is not None:
                self.send(sender, asker, tick)

    def pull(self, node: Node | Liar) -> None:
        """Every second or so: a peer's ticks from our first undecided round on, oldest first."""
        self.at(self.now + 700 + self.chance.randrange(600), lambda: self.pull(node))
        peer = self.chance.choice(self.honest)
        if peer is node or not node.alive or not peer.alive or self.cut_off(peer.who, node.who):
            return
        for round in range(node.clock.next_round, peer.clock.highest_round + 1):
            for tick in peer.clock.ticks_of_round(Round(round)):
                if tick.digest not in node.clock:
                    self.send(peer.who, node, tick)

    def disagreement(self) -> str | None:
        """The first slot about which two honest nodes differ."""
        for one in self.honest:
            for other in self.honest:
                for mine, theirs in zip(one.slots, other.slots, strict=False):
                    if mine != theirs:
                        return f"round {mine[0]}: {mine[1]!r} and {theirs[1]!r}"
        return None


def entry_digest(author: Address, seq: int, side: str = "") -> Digest:
    return Digest(sha256(repr((author, seq, side)).encode()))


def run_of(author: Address, first_seq: int, digests: Iterable[Digest]) -> HeadItem:
    return HeadItem(author, Seq(first_seq), tuple(digests))
