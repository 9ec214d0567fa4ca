"""The transport without a network: what tests and small simulations use.

A ``MemoryNetwork`` hands out transports and carries what they say, with seeded loss, duplication
and reordering, and with links that can be cut. It reads no wall clock: a message that is
reordered waits for a number of scheduling turns, not for time.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import frozen

from orrange_p2p.core.errors import (
    ConfigError,
    DeadlineError,
    OversizedError,
    PeerError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.cleanup import unwrap_single
from orrange_p2p.p2p.limits import DEFAULT_LIMITS, Limits
from orrange_p2p.ports import GossipHandler, PeerInfo, RequestHandler, Verdict

__all__ = ["MemoryNetwork", "MemoryTransport"]


@frozen
class _Message:
    number: int
    """Its id: counted per network, so each publish is a message of its own."""
    origin: PeerId
    topic: str
    payload: bytes


class MemoryNetwork:
    """Links between transports of one process.

    ``loss`` and ``duplication`` are probabilities per message and link, ``reordering`` the
    largest number of scheduling turns a message may be late. One seed, one history, as long as
    trio's own scheduling is fixed too.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: int = 0,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.loss = loss
        self.duplication = duplication
        self.reordering = reordering
        self.limits = limits
        self._random = random.Random(seed)  # noqa: S311
        self._transports: dict[str, MemoryTransport] = {}
        self._groups: dict[PeerId, int] = {}
        self._messages = 0

    @asynccontextmanager
    async def open_transport(self, name: str | None = None) -> AsyncIterator[MemoryTransport]:
        """A transport named ``name``, closed on leaving. A taken name raises ``ConfigError``.

        An exception of a handler that is no ``PeerError`` cancels the block and is raised from it.
        """
        peer_id = PeerId(name or f"memory{len(self._transports)}")
        if peer_id in self._transports:
            raise ConfigError(f"a transport named {peer_id} exists; choose another name")
        async with unwrap_single(), trio.open_nursery() as nursery:
            transport = MemoryTransport(self, peer_id, nursery)
            self._transports[peer_id] = transport
            try:
                yield transport
            finally:
                transport._close()
                del self._transports[peer_id]
                nursery.cancel_scope.cancel()

    def partition(self, *groups: Iterable[MemoryTransport]) -> None:
        """Let only members of one group hear each other; who is in no group hears no one.

        Connections survive, as they do when a cable is cut.
        """
        self._groups = {
            transport.peer_id: number
            for number, group in enumerate(groups, start=1)
            for transport in group
        }
        for transport in self._transports.values():
            self._groups.setdefault(transport.peer_id, -1 - len(self._groups))

    def heal(self) -> None:
        """End the partition. What was lost stays lost."""
        self._groups = {}

    def _number(self) -> int:
        self._messages += 1
        return self._messages

    def _linked(self, one: PeerId, other: PeerId) -> bool:
        return self._groups.get(one, 0) == self._groups.get(other, 0)

    def _copies(self, sender: PeerId, receiver: PeerId) -> list[int]:
        """Delays in turns, one for each copy that arrives."""
        if not self._linked(sender, receiver) or self._random.random() < self.loss:
            return []
        copies = 2 if self._random.random() < self.duplication else 1
        return [self._random.randint(0, self.reordering) for _ in range(copies)]


class MemoryTransport:
    """One node's end. Obtained from ``MemoryNetwork.open_transport``; see ``ports.Transport``."""

    def __init__(self, network: MemoryNetwork, peer_id: PeerId, nursery: trio.Nursery) -> None:
        self._network = network
        self._peer_id = peer_id
        self._nursery = nursery
        self._closed = False
        self._links: set[PeerId] = set()
        self._handlers: dict[str, GossipHandler] = {}
        self._servers: dict[str, RequestHandler] = {}
        self._serving: Counter[PeerId] = Counter()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._inbound: deque[tuple[PeerId, _Message]] = deque()
        self._counters: Counter[str] = Counter()
        self._arrived = trio.Event()
        nursery.start_soon(self._deliver)

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def addresses(self) -> Sequence[str]:
        return (f"/memory/{self._peer_id}/p2p/{self._peer_id}",)

    async def dial(self, address: str) -> PeerId:
        await trio.lowlevel.checkpoint()
        self._check_open()
        parts = address.split("/")
        if len(parts) != 5 or parts[0] or parts[1] != "memory" or parts[3] != "p2p":
            raise ConfigError(f"not an address of this network: {address!r}")
        peer_id = PeerId(parts[4])
        if peer_id == self._peer_id:
            raise ConfigError(f"{address} is this node itself; remove it from the list of peers")
        peer = self._network._transports.get(parts[2])
        if peer is None or peer.peer_id != peer_id:
            raise UnreachableError(f"no peer {peer_id} at {address}")
        if not self._network._linked(self._peer_id, peer_id):
            raise UnreachableError(f"no way to {address}")
        self._links.add(peer_id)
        peer._links.add(self._peer_id)
        return peer_id

    async def disconnect(self, peer: PeerId) -> None:
        await trio.lowlevel.checkpoint()
        self._links.discard(peer)
        if peer in self._network._transports:
            self._network._transports[peer]._links.discard(self._peer_id)

    def peers(self) -> Mapping[PeerId, PeerInfo]:
        return {
            peer_id: PeerInfo(peer_id, peer.addresses[0], tuple(sorted(peer._handlers)))
            for peer_id in sorted(self._links)
            if (peer := self._network._transports.get(peer_id)) is not None
        }

    async def subscribe(self, topic: str, handler: GossipHandler) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()
        if topic in self._handlers:
            raise ConfigError(f"topic {topic} has a handler already")
        self._handlers[topic] = handler

    async def publish(self, topic: str, payload: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()
        limit = self._network.limits.message_bytes
        if len(payload) > limit:
            raise OversizedError(f"message of {len(payload)} bytes; the limit is {limit}")
        message = _Message(self._network._number(), self._peer_id, topic, bytes(payload))
        self._mark_seen(message)
        self._counters["gossip_published"] += 1
        self._spread(message, self._peer_id)

    def serve(self, protocol: str, handler: RequestHandler) -> None:
        self._check_open()
        self._servers[protocol] = handler

    async def request(
        self, peer: PeerId, protocol: str, payload: bytes, *, timeout_s: float
    ) -> bytes:
        self._check_open()
        if len(payload) > self._network.limits.request_bytes:
            raise OversizedError(f"request of {len(payload)} bytes is over the limit")
        with trio.move_on_after(timeout_s):
            return await self._ask(peer, protocol, payload)
        raise DeadlineError(f"{peer} did not answer on {protocol} within {timeout_s:g} s")

    def favour(self, parts: Mapping[PeerId, float]) -> None:
        """Everybody hears everybody here: there is nothing to choose."""

    def counters(self) -> Mapping[str, int]:
        return dict(self._counters)

    async def _ask(self, peer: PeerId, protocol: str, payload: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        other = self._network._transports.get(peer) if peer in self._links else None
        if other is None:
            raise UnreachableError(f"not connected to {peer}")
        handler = other._servers.get(protocol)
        if handler is None:
            raise UnreachableError(f"{peer} does not speak {protocol}")
        if not self._network._linked(self._peer_id, peer):
            await trio.sleep_forever()  # the caller's deadline ends it
        reply = await other._serve(handler, self._peer_id, payload)
        if len(reply) > self._network.limits.reply_bytes:
            raise OversizedError(f"reply of {len(reply)} bytes from {peer} is over the limit")
        return reply

    async def _serve(self, handler: RequestHandler, peer: PeerId, payload: bytes) -> bytes:
        """Run ``handler`` in a task of this side, so that its exceptions stay here."""
        limits = self._network.limits
        if (
            self._serving[peer] >= limits.served_per_peer
            or self._serving.total() >= limits.served_total
        ):
            self._counters["requests_refused"] += 1
            raise UnreachableError(f"{self._peer_id} refuses more requests now")
        done = trio.Event()
        replies: list[bytes] = []

        async def run() -> None:
            self._serving[peer] += 1
            try:
                replies.append(await handler(peer, payload))
            except PeerError:
                self._counters["requests_rejected"] += 1
            finally:
                self._serving[peer] -= 1
                done.set()

        self._nursery.start_soon(run)
        await done.wait()
        if not replies:
            raise UnreachableError(f"{self._peer_id} reset the stream")
        return replies[0]

    def _spread(self, message: _Message, forwarder: PeerId) -> None:
        for peer_id in sorted(self._links):
            peer = self._network._transports.get(peer_id)
            if peer is None or peer_id in (forwarder, message.origin):
                continue
            copies = self._network._copies(self._peer_id, peer_id)
            if not copies:
                self._counters["gossip_lost"] += 1
            for turns in copies:
                if turns:
                    peer._nursery.start_soon(peer._receive_late, self._peer_id, message, turns)
                else:
                    peer._receive(self._peer_id, message)

    async def _receive_late(self, sender: PeerId, message: _Message, turns: int) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        self._receive(sender, message)

    def _receive(self, sender: PeerId, message: _Message) -> None:
        if self._closed or message.topic not in self._handlers:
            return
        if len(self._inbound) >= self._network.limits.inbound_messages:
            self._counters["gossip_inbound_dropped"] += 1
            return
        self._inbound.append((sender, message))
        self._arrived.set()

    async def _deliver(self) -> None:
        while True:
            while self._inbound:
                sender, message = self._inbound.popleft()
                if message.number in self._seen:
                    self._counters["gossip_duplicates"] += 1
                    continue
                self._mark_seen(message)
                await self._judge(sender, message)
                await trio.lowlevel.checkpoint()
            self._arrived = trio.Event()
            await self._arrived.wait()

    async def _judge(self, sender: PeerId, message: _Message) -> None:
        try:
            verdict = await self._handlers[message.topic](sender, message.payload)
        except PeerError:
            verdict = Verdict.REJECT
        self._counters[f"gossip_{verdict.value}"] += 1
        if verdict is Verdict.ACCEPT:
            self._spread(message, sender)

    def _mark_seen(self, message: _Message) -> None:
        self._seen[message.number] = None
        if len(self._seen) > self._network.limits.seen_messages:
            self._seen.popitem(last=False)

    def _check_open(self) -> None:
        if self._closed:
            raise WorldError("the transport is closed")

    def _close(self) -> None:
        self._closed = True
        for peer_id in self._links:
            peer = self._network._transports.get(peer_id)
            if peer is not None:
                peer._links.discard(self._peer_id)
        self._links.clear()
