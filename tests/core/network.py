"""A little asynchronous network of replicas in virtual time, for the property tests.

Everything is drawn from one seed: delays, losses, what authors do, who misbehaves and when. The
replicas, pacemakers, records and signatures are the real ones; only delivery is simulated.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any

from coincurve import PrivateKey

from orrange_p2p.core import entries, ticks
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.evidence import culprit
from orrange_p2p.core.genesis import Author as ListedAuthor
from orrange_p2p.core.genesis import Genesis, Market, Parameters, Witness
from orrange_p2p.core.ids import (
    ZERO32,
    Address,
    Digest,
    Epoch,
    Lots,
    MarketId,
    Price,
    Seq,
    TimeMs,
    Weight,
)
from orrange_p2p.core.operations import (
    Accept,
    Accepted,
    Amend,
    Cancel,
    CancelAll,
    Evidence,
    Operation,
    Place,
)
from orrange_p2p.core.pacemaker import Pacemaker, TickDraft, Wait
from orrange_p2p.core.replica import AppliedEpoch, Effects, Replica, Taken
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.roster import Roster, RosterRequest
from orrange_p2p.core.ticks import Applied, HeadItem, Tick, TickBody
from orrange_p2p.crypto import secp256k1

CHAIN_LENGTH = 16_384
NO_REGISTRY = Address(bytes(20))
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
    registry: Address = NO_REGISTRY,
    **parameters: int,
) -> Genesis:
    """A network of one market; parameters as given, the rest small enough to bite."""
    chosen = {"rounds_per_era": 512, "accept_deadline_epochs": 4, "order_lifetime_ms": 60_000}
    return Genesis(
        "test",
        "eip155:31337",
        registry,
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
    """A replica and its witness. What it received is durable; the replica is what it makes of it.

    ``durable`` is what a store would hold: everything verified, whether or not the replica took it.
    """

    def __init__(self, network: Network, number: int) -> None:
        self.network = network
        self.number = number
        self.key = WITNESS_KEYS[number]
        self.durable: dict[Digest, Entry | Tick] = {}
        self.signed: tuple[int, int] | None = None
        self.epochs: list[AppliedEpoch] = []
        self.lives: list[list[AppliedEpoch]] = []
        """The epochs of each life before a crash."""
        self.evidence: list[Evidence] = []
        self.reads_at: dict[int, int] = {}
        self.reads_within_ms = 1000
        self.alive = True
        self.start()

    @property
    def is_honest(self) -> bool:
        return True

    def start(self) -> None:
        """From nothing, or after a crash: everything durable goes in again, in any order."""
        self.replica = self.network.make_replica(self)
        self.lives.append(self.epochs)
        self.epochs = []
        facts = list(self.durable.values())
        self.network.dice.shuffle(facts)
        self.take_all(facts)
        self.alive = True
        self.era = -1
        self._pace()

    def crash(self) -> None:
        self.alive = False

    def take_all(self, facts: Sequence[Entry | Tick]) -> None:
        """Hand facts over until no more of them is of use: a tick may come before its era, or too
        far above what is held."""
        while True:
            before = self._progress()
            for fact in facts:
                if self.lacks(fact):
                    self.take(fact)
            if self._progress() == before:
                return

    def catch_up(self, facts: Sequence[Entry | Tick]) -> None:
        """The same, reading the home chain at once."""
        while True:
            self.take_all(facts)
            wanted = self.replica.wanted_roster
            if wanted is None:
                return
            self.epochs += self.replica.give_roster(self.network.elect(wanted)).epochs

    def _progress(self) -> tuple[int, ...]:
        clock = self.replica.clock
        return self.replica.era, len(clock), clock.orphan_count, len(self.epochs)

    def lacks(self, fact: Entry | Tick) -> bool:
        """Whether the replica could use it, as far as it can say."""
        replica = self.replica
        if isinstance(fact, Entry):
            return not replica.is_known_entry(fact.author, fact.seq, fact.digest)
        is_timely = fact.era > replica.era or (
            fact.era == replica.era and fact.round >= replica.clock.first_round_kept
        )
        return is_timely and not replica.is_known_tick(fact.digest)

    def _pace(self) -> None:
        if self.era != self.replica.era:
            self.era = self.replica.era
            signed = self.signed
            self.pacemaker: Pacemaker = self.replica.pacemaker(self.key.address, signed)  # type: ignore[arg-type]

    def receive(self, fact: Entry | Tick) -> None:
        if self.alive:
            self.durable.setdefault(fact.digest, fact)
            self.take(fact)
            self._pace()

    def take(self, fact: Entry | Tick) -> Effects:
        if isinstance(fact, Entry):
            effects = self.replica.add_entry(fact)
        else:
            effects = self.replica.add_tick(fact)
        self.epochs += effects.epochs
        self.evidence += effects.evidence
        self.network.refused += effects.taken is Taken.INVALID
        return effects

    def pull(self, peer: Node) -> None:
        """What sync does: whatever a peer holds and we lack."""
        for digest, fact in peer.durable.items():
            self.durable.setdefault(digest, fact)
        self.take_all(list(peer.durable.values()))
        self._pace()

    def poll(self) -> None:
        """Tick if it is time."""
        if not self.alive or self.key.address not in self.replica.table:
            return
        now = TimeMs(START_MS + self.network.now)
        step = self.pacemaker.poll(now)
        if isinstance(step, Wait):
            return
        self.signed = (self.replica.era, step.round)
        self.pacemaker.note_ticked(step, now)
        self.tick(step, now)

    def read_roster(self) -> None:
        """Read the home chain, each node when it gets to it."""
        wanted = self.replica.wanted_roster
        if not self.alive or wanted is None:
            return
        at = self.reads_at.setdefault(
            wanted.era, self.network.now + self.network.dice.randint(0, self.reads_within_ms)
        )
        if self.network.now >= at:
            self.epochs += self.replica.give_roster(self.network.elect(wanted)).epochs
            self._pace()

    def tick(self, step: TickDraft, now: TimeMs) -> None:
        tick = self.sign(step.round, self.body(step, now))
        self.receive(tick)
        self.network.spread(tick, self.peers(), source=self)

    def peers(self) -> list[Node]:
        return [other for other in self.network.nodes if other is not self]

    def body(self, step: TickDraft, now: TimeMs) -> TickBody:
        position = self.replica.reveal_position(self.key.address, step.round)
        return self.replica.tick_body(step, now, CHAINS[self.number].reveal(position))

    def sign(self, round: int, body: TickBody) -> Tick:
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


class Liar(Node):
    """A faulty witness: it tells different nodes different things, withholds, and lies about time,
    about what it holds and about what it applied."""

    @property
    def is_honest(self) -> bool:
        return False

    def tick(self, step: TickDraft, now: TimeMs) -> None:
        dice = self.network.dice
        draw = dice.random()
        peers = self.peers()
        dice.shuffle(peers)
        body = self.body(step, now)
        tick = self.sign(step.round, self._distorted(body) if draw < 0.5 else body)
        twin = self.sign(step.round, self._distorted(body))
        self.receive(tick)
        if draw < 0.4:
            some = dice.randint(0, len(peers))
            self.network.spread(tick, peers[:some], source=self)
            self.network.spread(twin, peers[some:], source=self)
        elif draw < 0.7:
            self.network.spread(tick, peers[: dice.randint(0, 2)], source=self)
        else:
            self.network.spread(tick, peers, source=self)

    def _distorted(self, body: TickBody) -> TickBody:
        dice = self.network.dice
        parents = list(body.parents)
        quorum = self.replica.table.quorum
        while len(parents) > quorum and dice.random() < 0.5:
            parents.remove(dice.choice(parents))
        heads = [head for head in body.heads if dice.random() < 0.7]
        if dice.random() < 0.3:
            made_up = tuple(Digest(dice.randbytes(32)) for _ in range(3))
            author = dice.choice(self.network.authors).key.address
            heads = [head for head in heads if head.author != author]
            heads.append(HeadItem(author, Seq(dice.randint(0, 30)), made_up))
        return body._replace(
            parents=tuple(parents),
            heads=tuple(sorted(heads)),
            time_ms=TimeMs(dice.choice([0, body.time_ms, body.time_ms + 10**9])),
            applied=Applied(Epoch(dice.randint(0, 1000)), dice.randbytes(32)),
        )


class Network:
    """Nodes, authors and a queue of deliveries."""

    def __init__(
        self,
        seed: int,
        witnesses: int = 4,
        authors: int = 3,
        max_delay_ms: int = 400,
        loss: float = 0.0,
        liars: int = 0,
        replica_class: Callable[[Genesis, MarketId], Replica] = Replica,
        listed: Sequence[ListedAuthor] = (),
        candidates: int = 0,
        elect: Callable[[RosterRequest], Roster] | None = None,
        **parameters: Any,
    ) -> None:
        """``elect``: what nodes read off the home chain. ``candidates``: nodes that are no
        witnesses of genesis."""
        self.dice = random.Random(seed)
        self.genesis = make_genesis(witnesses, authors=listed, **parameters)
        self._elect = elect
        self.market_id = self.genesis.markets[0].id
        self.replica_class = replica_class
        self.now = 0
        self.max_delay_ms = max_delay_ms
        self.loss = loss
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.sequence = 0
        self.refused = 0
        """Facts that a replica called objectively wrong."""
        self.group = [0] * (witnesses + candidates)
        """Nodes of one group reach each other; all are of group 0 unless the network is parted."""
        self.nodes: list[Node] = [
            (Liar if number < liars else Node)(self, number)
            for number in range(witnesses + candidates)
        ]
        self.authors = [Author(Key(1 + i), self.genesis, self.dice) for i in range(authors)]
        self.accepts = True
        self.accepted: set[bytes] = set()
        self.shown: set[bytes] = set()
        self.next_write = 0
        self.next_repair = 1000

    @property
    def honest(self) -> list[Node]:
        return [node for node in self.nodes if node.is_honest]

    def elect(self, request: RosterRequest) -> Roster:
        assert self._elect is not None
        return self._elect(request)

    def make_replica(self, node: Node) -> Replica:
        return self.replica_class(self.genesis, self.market_id)

    def at(self, delay_ms: int, action: Callable[[], None]) -> None:
        self.sequence += 1
        heapq.heappush(self.queue, (self.now + delay_ms, self.sequence, action))

    def spread(
        self, fact: Entry | Tick, nodes: Sequence[Node] | None = None, source: Node | None = None
    ) -> None:
        """Deliver to all nodes (or some), each after its own delay; sometimes twice or never."""
        for node in self.nodes if nodes is None else nodes:
            if self.dice.random() >= self.loss:
                self.at(
                    self.dice.randint(1, self.max_delay_ms),
                    lambda n=node: self.deliver(fact, n, source),
                )
            if self.dice.random() < 0.05:
                self.at(self.dice.randint(1, 3000), lambda n=node: self.deliver(fact, n, source))

    def deliver(self, fact: Entry | Tick, node: Node, source: Node | None) -> None:
        if source is None or self.group[source.number] == self.group[node.number]:
            node.receive(fact)

    def part(self, *groups: Sequence[int]) -> None:
        """Part the network; nodes not named stay with the first group. ``part()`` heals it."""
        self.group = [0] * len(self.nodes)
        for name, numbers in enumerate(groups):
            for number in numbers:
                self.group[number] = name

    def repair(self) -> None:
        """Every node that is up pulls from another one that it reaches."""
        for node in self.nodes:
            peers = [
                peer
                for peer in self.nodes
                if peer is not node
                and peer.alive
                and self.group[peer.number] == self.group[node.number]
            ]
            if node.alive and peers:
                node.pull(self.dice.choice(peers))

    def settle(self, epochs: int = 3) -> None:
        """Heal everything and run on, nobody writing, until every honest node went on by some
        epochs; then give every node what the others have. Fails after two minutes."""
        self.part()
        for node in self.nodes:
            if not node.alive:
                node.start()
        target = max(len(node.epochs) for node in self.honest) + epochs
        deadline = self.now + 120_000
        while min(len(node.epochs) for node in self.honest) < target:
            assert self.now < deadline, "the clock stands still"
            self.run(self.now + 1000, write_every_ms=0)
        self.exchange()

    def exchange(self) -> None:
        """Everyone pulls from everyone."""
        for _ in range(2):
            for node in self.nodes:
                for peer in node.peers():
                    node.pull(peer)

    def run(self, until_ms: int, write_every_ms: int = 300) -> None:
        """Advance virtual time; authors write and accept as long as ``write_every_ms`` > 0."""
        while self.now < until_ms:
            self.now += 25
            while self.queue and self.queue[0][0] <= self.now:
                heapq.heappop(self.queue)[2]()
            for node in self.nodes:
                node.read_roster()
                node.poll()
            if write_every_ms and self.now >= self.next_write:
                self.next_write = self.now + write_every_ms
                self._write()
            if self.now >= self.next_repair:
                self.next_repair = self.now + 1000
                self.repair()

    def home_of(self, author: Author) -> Node:
        """The honest node an author writes through and reads from."""
        honest = self.honest
        return honest[self.authors.index(author) % len(honest)]

    def _write(self) -> None:
        for author in self.authors:
            home = self.home_of(author)
            if not home.alive:
                continue
            operations: list[Operation] = []
            if self.dice.random() < 0.7:
                operations = author.random_operations()
            if self.accepts:
                operations += self._accepts_of(author, home)
            if author is self.authors[0]:
                operations += self._evidence_of(home)
            if operations:
                self.publish(author, operations)

    def publish(self, author: Author, operations: Sequence[Operation]) -> None:
        home = self.home_of(author)
        entry = author.write(operations)
        home.receive(entry)
        self.spread(entry, home.peers(), source=home)

    def fork(self, author: Author) -> tuple[Entry, Entry]:
        """Two entries of one number, shown to different nodes; the author goes on with one."""
        seq, prev = author.next_seq, author.head
        twin = author.sign(seq, prev, [Place(1, Price(110), Lots(1))])
        entry = author.write([Place(0, Price(90), Lots(1))])
        some = self.dice.randint(1, len(self.nodes) - 1)
        nodes = list(self.nodes)
        self.dice.shuffle(nodes)
        self.spread(entry, nodes[:some])
        self.spread(twin, nodes[some:])
        return entry, twin

    def _accepts_of(self, author: Author, home: Node) -> list[Operation]:
        fold = home.replica.fold
        chosen: list[Accepted] = []
        for match in fold.matches.values():
            if author.key.address in (match.maker.author, match.taker.author):
                name = match.id + author.key.address
                if name not in self.accepted and self.dice.random() < 0.8:
                    self.accepted.add(name)
                    chosen.append(Accepted(match.id, match.id[:5]))
        if not chosen:
            return []
        unsigned = Accept(tuple(sorted(chosen)), bytes(65))
        signature = author.key.sign(unsigned.digest(self.genesis.separator))
        return [unsigned._replace(signature=signature)]

    def _evidence_of(self, home: Node) -> list[Operation]:
        """What the node found out, each culprit once."""
        found: list[Operation] = []
        for proof in home.evidence:
            name = culprit(proof, self.genesis.separator, self.market_id)
            if name not in self.shown:
                self.shown.add(name)
                found.append(proof)
        return found


def disagreement(network: Network) -> str:
    """Where two lives of honest nodes went apart (I1); empty if all are prefixes of the longest."""
    lives = [life for node in network.honest for life in (*node.lives, node.epochs)]
    longest = max(lives, key=len)
    for life in lives:
        for mine, other in zip(life, longest, strict=False):
            if what_of(mine) != what_of(other):
                return f"epoch {mine.facts.epoch}: {what_of(mine)} and {what_of(other)}"
    return ""


def what_of(epoch: AppliedEpoch) -> tuple[object, ...]:
    facts = epoch.facts
    entry_digests = [entry.digest.hex() for entry in facts.entries]
    return (*facts._replace(entries=()), entry_digests, epoch.outcome.root.hex())
