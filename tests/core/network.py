"""A little asynchronous network of replicas in virtual time, for the property tests.

Everything is drawn from one seed: delays, losses, what authors do, who misbehaves and when. The
replicas, pacemakers, records and signatures are the real ones; only delivery is simulated.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence

from coincurve import PrivateKey

from orrange_p2p.core import entries, ticks
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.genesis import Author as ListedAuthor
from orrange_p2p.core.genesis import Genesis, Market, Parameters, Witness
from orrange_p2p.core.ids import ZERO32, Address, Digest, Lots, Price, Seq, TimeMs, Weight
from orrange_p2p.core.matches import trade_terms
from orrange_p2p.core.operations import Accept, Amend, Cancel, CancelAll, Operation, Place
from orrange_p2p.core.pacemaker import Pacemaker, Wait
from orrange_p2p.core.replica import AppliedEpoch, Replica
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.ticks import Tick
from orrange_p2p.crypto import secp256k1

CHAIN_LENGTH = 2048
START_MS = 1_700_000_000_000


class Key:
    """A test key with its address."""

    def __init__(self, number: int) -> None:
        self.secret = PrivateKey(number.to_bytes(32, "big"))
        self.address = Address(secp256k1.address_of(self.secret.public_key))

    def sign(self, digest: bytes) -> bytes:
        return secp256k1.sign(self.secret, digest)


WITNESS_KEYS = [Key(1000 + i) for i in range(7)]
CHAINS = [RevealChain(bytes([i]) * 32, CHAIN_LENGTH) for i in range(7)]


def make_genesis(
    witnesses: int,
    *,
    authors: Sequence[ListedAuthor] = (),
    is_open: bool = True,
    **parameters: int,
) -> Genesis:
    """A network of one market; parameters as given, the rest small enough to bite."""
    chosen = {"rounds_per_era": 1024, "accept_deadline_epochs": 4, "order_lifetime_ms": 60_000}
    return Genesis(
        "test",
        "eip155:31337",
        Address(bytes(20)),
        TimeMs(START_MS),
        is_open,
        Parameters(**(chosen | parameters)),
        tuple(
            sorted(
                (
                    Witness(WITNESS_KEYS[i].address, Weight(1), (CHAINS[i].anchor,))
                    for i in range(witnesses)
                ),
                key=lambda witness: witness.address,
            )
        ),
        tuple(sorted(authors, key=lambda author: author.address)),
        (
            Market(
                "eip155:31337/slip44:60",
                "eip155:31337/erc20:0x" + "11" * 20,
                1,
                1,
                "atomic",
                "evm",
                1,
                1,
                1,
            ),
        ),
    )


class Author:
    """Writes one log: random operations, and accepts for its matches."""

    def __init__(self, key: Key, genesis: Genesis, dice: random.Random) -> None:
        self.key = key
        self.genesis = genesis
        self.market_id = genesis.markets[0].id
        self.dice = dice
        self.next_seq = 0
        self.head = Digest(ZERO32)
        self.placed: list[tuple[int, int]] = []

    def write(self, operations: Sequence[Operation]) -> Entry:
        entry = self.sign(self.next_seq, self.head, operations)
        self.next_seq += 1
        self.head = entry.digest
        return entry

    def sign(self, seq: int, prev: Digest, operations: Sequence[Operation]) -> Entry:
        draft = entries.draft(
            self.genesis.separator, self.market_id, self.key.address, Seq(seq), prev, operations
        )
        return draft.signed(self.key.sign(draft.digest))

    def random_operations(self) -> list[Operation]:
        return [self._random_operation(at) for at in range(self.dice.randint(1, 5))]

    def _random_operation(self, position: int) -> Operation:
        dice = self.dice
        if self.placed and dice.random() < 0.25:
            seq, target = dice.choice(self.placed)
            if dice.random() < 0.3:
                self.placed.append((self.next_seq, position))
                return Amend(Seq(seq), target, self._random_place())
            return Cancel(Seq(seq), target)
        if dice.random() < 0.03:
            return CancelAll()
        self.placed.append((self.next_seq, position))
        return self._random_place()

    def _random_place(self) -> Place:
        dice = self.dice
        tif = dice.choice([0, 0, 0, 0, 1, 2, 3, 4])
        expiry = {1: START_MS + dice.randint(0, 20_000), 2: dice.randint(1, 40)}.get(tif, 0)
        quantity = dice.randint(1, 20)
        extras: dict[str, int] = {}
        if tif <= 2 and dice.random() < 0.1:
            extras["post_only"] = 1
        elif dice.random() < 0.1:
            extras["min_quantity"] = dice.randint(0, quantity)
        elif dice.random() < 0.1:
            extras["max_slippage"] = dice.randint(0, 5)
        return Place(
            dice.randint(0, 1),
            Price(dice.randint(95, 105)),
            Lots(quantity),
            tif,
            expiry,
            self_trade=dice.randint(0, 2),
            **extras,  # type: ignore[arg-type]
        )


class Node:
    """A replica and, unless it only reads, its witness."""

    def __init__(self, network: Network, number: int) -> None:
        self.network = network
        self.number = number
        self.key = WITNESS_KEYS[number]
        self.durable: list[Entry | Tick] = []
        self.signed: tuple[int, int] | None = None
        self.epochs: list[AppliedEpoch] = []
        self.evidence: list[object] = []
        self.alive = True
        self.start()

    def start(self) -> None:
        """From nothing, or after a crash: everything durable goes in again, in any order."""
        self.replica = Replica(self.network.genesis, self.network.market_id)
        self.epochs = []
        facts = list(self.durable)
        self.network.dice.shuffle(facts)
        for _ in range(2):  # an era that closes late makes ticks of the next one come too early
            for fact in facts:
                self._take(fact)
        self.era = -1
        self._pace()

    def _pace(self) -> None:
        if self.era != self.replica.era:
            self.era = self.replica.era
            signed = self.signed
            self.pacemaker: Pacemaker = self.replica.pacemaker(self.key.address, signed)  # type: ignore[arg-type]

    def receive(self, fact: Entry | Tick) -> None:
        if not self.alive:
            return
        self.durable.append(fact)
        self._take(fact)
        self._pace()

    def _take(self, fact: Entry | Tick) -> None:
        if isinstance(fact, Entry):
            effects = self.replica.add_entry(fact)
        else:
            effects = self.replica.add_tick(fact)
        self.epochs += effects.epochs
        self.evidence += effects.evidence

    def poll(self) -> None:
        """Tick if it is time."""
        if not self.alive:
            return
        now = TimeMs(START_MS + self.network.now)
        step = self.pacemaker.poll(now)
        if isinstance(step, Wait):
            return
        position = self.replica.reveal_position(self.replica.era, step.round)
        reveal = CHAINS[self.number].reveal(position)
        body = self.replica.tick_body(step, now, reveal)
        tick = self.sign(step.round, body)
        self.signed = (self.replica.era, step.round)
        self.pacemaker.note_ticked(step, now)
        self.receive(tick)
        self.network.on_tick(self, tick)

    def sign(self, round: int, body: ticks.TickBody) -> Tick:
        genesis = self.network.genesis
        draft = ticks.draft(
            genesis.separator,
            self.network.market_id,
            self.replica.era,
            round,  # type: ignore[arg-type]
            self.key.address,
            body,
        )
        return draft.signed(self.key.sign(draft.digest))

    @property
    def roots(self) -> list[bytes]:
        return [epoch.outcome.root for epoch in self.epochs]


class Network:
    """Nodes, authors and a queue of deliveries."""

    def __init__(
        self,
        seed: int,
        witnesses: int = 4,
        authors: int = 3,
        max_delay_ms: int = 400,
        loss: float = 0.0,
        **parameters: int,
    ) -> None:
        self.dice = random.Random(seed)
        self.genesis = make_genesis(witnesses, **parameters)
        self.market_id = self.genesis.markets[0].id
        self.now = 0
        self.max_delay_ms = max_delay_ms
        self.loss = loss
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.sequence = 0
        self.nodes = [Node(self, number) for number in range(witnesses)]
        self.authors = [Author(Key(1 + i), self.genesis, self.dice) for i in range(authors)]
        self.accepts = True
        self.log: list[Entry | Tick] = []

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        self.sequence += 1
        heapq.heappush(self.queue, (self.now + delay_ms, self.sequence, action))

    def spread(self, fact: Entry | Tick, nodes: Sequence[Node] | None = None) -> None:
        """Deliver to all nodes (or some), each after its own delay; sometimes twice or never."""
        self.log.append(fact)
        for node in self.nodes if nodes is None else nodes:
            if self.dice.random() >= self.loss:
                self.at(self.dice.randint(1, self.max_delay_ms), lambda n=node: n.receive(fact))
            if self.dice.random() < 0.05:
                self.at(self.dice.randint(1, 3000), lambda n=node: n.receive(fact))

    def on_tick(self, node: Node, tick: Tick) -> None:
        self.spread(tick, [other for other in self.nodes if other is not node])

    def repair(self) -> None:
        """What sync does: everything that was sent once reaches everyone in the end."""
        for node in self.nodes:
            held = {id(fact) for fact in node.durable}
            for fact in self.log[-400:]:
                if id(fact) not in held:
                    node.receive(fact)

    def run(self, until_ms: int, write_every_ms: int = 300) -> None:
        """Advance virtual time; authors write and accept as long as ``write_every_ms`` > 0."""
        next_write = self.now
        next_repair = self.now + 1000
        accepted: set[bytes] = set()
        while self.now < until_ms:
            self.now += 25
            while self.queue and self.queue[0][0] <= self.now:
                heapq.heappop(self.queue)[2]()
            for node in self.nodes:
                node.poll()
            if write_every_ms and self.now >= next_write:
                next_write += write_every_ms
                self._write(accepted)
            if self.now >= next_repair:
                next_repair += 1000
                if self.loss or not all(node.alive for node in self.nodes):
                    self.repair()

    def _write(self, accepted: set[bytes]) -> None:
        for author in self.authors:
            operations: list[Operation] = []
            if self.dice.random() < 0.7:
                operations = author.random_operations()
            if self.accepts:
                operations += self._accepts_of(author, accepted)
            if operations:
                self.spread(author.write(operations))

    def _accepts_of(self, author: Author, accepted: set[bytes]) -> list[Operation]:
        fold = self.nodes[0].replica.fold
        accepts: list[Operation] = []
        for match in fold.matches.values():
            if author.key.address in (match.maker.author, match.taker.author):
                name = match.id + author.key.address
                if name not in accepted and self.dice.random() < 0.8:
                    accepted.add(name)
                    terms = trade_terms(fold.market, self.market_id, match)
                    signature = author.key.sign(terms.digest(self.genesis.separator))
                    accepts.append(Accept(match.id, signature, b""))
        return accepts
