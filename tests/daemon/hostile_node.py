"""A live node to attack: libp2p, SQLite, one witness, and an honest trader at a node of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from p2p_attacks import attacker, say, signed_message

from orrange_p2p.core import entries, ticks
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.frames import Frame
from orrange_p2p.core.genesis import Author, Genesis, Market, Parameters, Witness
from orrange_p2p.core.ids import (
    ZERO32,
    Address,
    Digest,
    Epoch,
    Era,
    Lots,
    MarketId,
    Price,
    Round,
    Seq,
    TimeMs,
    Weight,
)
from orrange_p2p.core.operations import Operation, Place
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.ticks import Applied, Tick, TickBody
from orrange_p2p.daemon import api
from orrange_p2p.daemon.author import AuthorLog
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.p2p.hardening.queues import frame_rpc
from orrange_p2p.p2p.host import RunningHost
from orrange_p2p.p2p.libp2p_transport import Libp2pTransport, open_transport
from orrange_p2p.p2p.limits import Limits
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.memory import MemoryStore
from orrange_p2p.store.sqlite import open_sqlite_store

LISTEN = ["/ip4/127.0.0.1/tcp/0"]
DEADLINE_S = 20
SEQNOS = itertools.count()
"""A message is known by its origin and number; ours are all of one origin."""
MARKET = Market(
    "eip155:31337/slip44:60",
    "eip155:31337/erc20:0x" + "11" * 20,
    tick_size=1,
    lot_size=1,
    settlement="atomic",
    timing="evm",
    rate_numerator=1,
    rate_denominator=1,
    volatility_ppm=1,
)


class Key:
    """One participant: it may be a witness and a trader."""

    def __init__(self, number: int) -> None:
        self.signer = MemorySigner(bytes([1 + number]) * 32)
        self.chain = RevealChain(bytes([number]) * 32, 1 << 15)


def genesis_of(witnesses: Sequence[Key], authors: Sequence[Key], name: str = "test") -> Genesis:
    return Genesis(
        name,
        "eip155:31337",
        Address(bytes(20)),
        TimeMs(time.time_ns() // 1_000_000),
        False,
        Parameters(min_round_ms=50, leader_timeout_ms=200),
        tuple(
            sorted(
                (Witness(k.signer.address, Weight(1), (k.chain.anchor,)) for k in witnesses),
                key=lambda witness: witness.address,
            )
        ),
        tuple(sorted((Author(k.signer.address, 0) for k in authors), key=lambda a: a.address)),
        (MARKET,),
    )


@define
class Live:
    """The network under attack. ``nodes[0]`` is the victim; the last one trades and is honest."""

    genesis: Genesis
    nodes: list[Node]
    transports: list[Libp2pTransport]
    placed: int = 0

    @property
    def victim(self) -> Node:
        return self.nodes[0]

    @property
    def address(self) -> str:
        return self.transports[0].addresses[0]

    @property
    def market(self) -> MarketNode:
        return market_of(self.victim)

    def counter(self, name: str) -> int:
        return self.victim.counters[name] + self.transports[0].counters().get(name, 0)

    async def check_alive(self) -> None:
        """The victim answers, and an order written elsewhere commits there."""
        methods: Any = api.methods(self.victim)
        assert (await methods["status"]({}))["markets"]
        await author_of(self.nodes[-1]).submit([Place(0, Price(100), Lots(1))])
        self.placed += 1
        await until(lambda: self.market.totals["orders"] >= self.placed)


def market_of(node: Node) -> MarketNode:
    return node.markets[MARKET.id]


def author_of(node: Node) -> AuthorLog:
    return next(iter(node.logs_of(market_of(node)).values()))


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


@asynccontextmanager
async def live(
    directory: Path,
    *,
    witnesses: Sequence[Key] = (Key(1),),
    absent: Sequence[Key] = (),
    rogues: Sequence[Key] = (),
    limits: Limits | None = None,
) -> AsyncIterator[Live]:
    """A node for each of ``witnesses`` and one for the honest trader, all connected.

    ``absent`` witnesses belong to the network and run no node; ``rogues`` are authors without one.
    """
    trader = Key(100)
    genesis = genesis_of([*witnesses, *absent], [trader, *rogues])
    async with AsyncExitStack() as stack:
        made = Live(genesis, [], [])
        for number in range(len(witnesses) + 1):
            transport = await stack.enter_async_context(
                open_transport(
                    secret=bytes([200 + number]) * 32, listen=LISTEN, limits=limits or Limits()
                )
            )
            is_witness = number < len(witnesses)
            store: Any = MemoryStore()
            if number == 0:
                store = await stack.enter_async_context(
                    open_sqlite_store(directory / "store.sqlite", genesis.network_id)
                )
            node = Node(
                genesis,
                store,
                transport,
                SystemClock(),
                bootstrap=[other.addresses[0] for other in made.transports],
                witness=(witnesses[number].signer, {MARKET.id: witnesses[number].chain})
                if is_witness
                else None,
                traders=[] if is_witness else [trader.signer],
            )
            made.nodes.append(await stack.enter_async_context(running(node)))
            made.transports.append(transport)
        for transport in made.transports:
            await until(lambda transport=transport: len(transport.peers()) == len(made.nodes) - 1)
        await made.check_alive()
        yield made
        await made.check_alive()


@asynccontextmanager
async def hostile(live: Live, secret: bytes = b"m" * 32) -> AsyncIterator[Voice]:
    async with attacker(live.address, secret) as (host, victim):
        yield Voice(live, host, victim)


@define
class Voice:
    """A hostile peer that is connected to the victim and can say anything."""

    live: Live
    host: RunningHost
    victim: ID
    stream: Any = None

    async def gossip(self, *payloads: bytes, topic: str | None = None) -> None:
        """Publish payloads in messages that are valid by themselves."""
        for payload in payloads:
            made = signed_message(b"m" * 32, next(SEQNOS), payload, topic or self.live.market.topic)
            rpc = rpc_pb2.RPC(publish=[made])
            if self.stream is None:
                self.stream = await say(self.host, self.victim, rpc)
            else:
                await self.stream.write(frame_rpc(rpc))


# Records as an attacker makes them.


def entry_of(
    genesis: Genesis,
    key: Key,
    seq: int = 0,
    prev: Digest | None = None,
    *,
    market: MarketId = MARKET.id,
    operations: Sequence[Operation] = (Place(0, Price(1), Lots(1)),),
    forged: bool = False,
) -> Entry:
    default = Digest(b"p" * 32) if seq else Digest(ZERO32)
    draft = entries.draft(
        genesis.separator, market, key.signer.address, Seq(seq), prev or default, operations
    )
    return draft.signed(key.signer.sign(Digest(b"x" * 32) if forged else draft.digest))


def tick_of(
    genesis: Genesis, key: Key, round: int, parents: Sequence[Digest], time_ms: int = 0
) -> Tick:
    body = TickBody(
        tuple(sorted(parents)),
        (),
        TimeMs(time_ms or time.time_ns() // 1_000_000),
        Applied(Epoch(0), ZERO32),
        key.chain.reveal(round),
    )
    draft = ticks.draft(
        genesis.separator, MARKET.id, Era(0), Round(round), key.signer.address, body
    )
    return draft.signed(key.signer.sign(draft.digest))


def frame(*entries_: Entry, ticks: Sequence[Tick] = ()) -> bytes:
    return Frame(
        tuple(entry.encoded for entry in entries_), tuple(tick.encoded for tick in ticks)
    ).encode()
