"""Gossip: from a peer's message to a verdict, through bounded queues and a fixed set of tasks."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping

import trio
from attrs import frozen
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from orrange_p2p.core.errors import ConfigError, OversizedError, PeerError
from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.hardening.pubsub import verify_message
from orrange_p2p.p2p.hardening.router import HardGossipSub
from orrange_p2p.p2p.host import RunningHost
from orrange_p2p.p2p.limits import Counters, Limits
from orrange_p2p.ports import GossipHandler, Verdict

__all__ = ["Gossip"]


@frozen
class _Waiting:
    forwarder: ID
    message_id: bytes
    message: rpc_pb2.Message


class Gossip:
    """The gossip half of the transport.

    Streams of peers put messages into a queue with a share per peer; a fixed number of tasks takes
    one of each peer in turn, so that who sends many delays nobody else's, verifies the origin's
    signature, asks the topic's handler and forwards what it accepts. A peer whose share is full is
    held back on its stream, then its messages are dropped and counted.
    """

    def __init__(
        self, running: RunningHost, limits: Limits, counters: Counters, lost_percent: int = 0
    ) -> None:
        """``lost_percent``: so many of the messages are lost on purpose, for measuring."""
        self._lost_percent = lost_percent
        pubsub = running.pubsub
        router = pubsub.router
        assert isinstance(router, HardGossipSub)
        self._swarm = running.swarm
        self._pubsub = pubsub
        self._router = router
        self._limits = limits
        self._counters = counters
        self._handlers: dict[str, GossipHandler] = {}
        self._queues: dict[ID, deque[_Waiting]] = {}
        """Of peers that have something waiting, in the order of their turns."""
        self._queued = 0
        self._queued_bytes = 0
        self._room = trio.Event()
        self._work = trio.Semaphore(0)
        pubsub.taker = self

    async def run(self) -> None:
        """Judge messages until cancelled. An exception of a handler that is no ``PeerError`` ends
        it and is raised."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._limits.handlers):
                nursery.start_soon(self._judge_all)

    async def subscribe(self, topic: str, handler: GossipHandler) -> None:
        if topic in self._handlers:
            raise ConfigError(f"topic {topic} has a handler already")
        self._handlers[topic] = handler
        await self._pubsub.subscribe(topic)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Returns when queued. Waits up to ``publish_wait_s`` while no peer has room."""
        limit = self._limits.message_bytes
        if len(payload) > limit:
            raise OversizedError(f"message of {len(payload)} bytes; the limit is {limit}")
        await trio.lowlevel.checkpoint()
        queues = [
            queue
            for peer in self._router.receivers(topic, own=True)
            if (queue := self._router.queue(peer)) is not None
        ]
        if queues and all(queue.half_full for queue in queues):
            with trio.move_on_after(self._limits.publish_wait_s):
                while all(queue.half_full for queue in queues):
                    await min(queues, key=len).wait_drained()
        self._pubsub.send(topic, payload)
        self._counters["gossip_published"] += 1

    def favour(self, parts: Mapping[ID, float]) -> None:
        """See ``ports.Transport.favour``."""
        self._router.scores.favour(parts)

    async def take(self, forwarder: ID, message_id: bytes, message: rpc_pb2.Message) -> None:
        """Queue a message; while there is no room the caller, a peer's stream, waits."""
        while not self._fits(forwarder, message):
            with trio.move_on_after(self._limits.inbound_wait_s) as scope:
                await self._room.wait()
            # After a pause of the whole process the deadline comes first: let handlers run.
            await trio.lowlevel.checkpoint()
            if scope.cancelled_caught and not self._fits(forwarder, message):
                self._counters["gossip_inbound_dropped"] += 1
                return
        queue = self._queues.setdefault(forwarder, deque())
        queue.append(_Waiting(forwarder, message_id, message))
        self._queued += 1
        self._queued_bytes += len(message.data)
        self._work.release()

    def queued(self) -> int:
        """Messages that wait for a handler."""
        return self._queued

    def _fits(self, forwarder: ID, message: rpc_pb2.Message) -> bool:
        limits = self._limits
        return (
            self._queued < limits.inbound_messages
            and self._queued_bytes + len(message.data) <= limits.inbound_bytes
            and len(self._queues.get(forwarder, ())) < limits.inbound_peer_messages
        )

    async def _judge_all(self) -> None:
        while True:
            await self._work.acquire()
            waiting = self._next()
            self._room.set()
            self._room = trio.Event()
            await self._judge(waiting)

    def _next(self) -> _Waiting:
        """The oldest message of the peer whose turn it is; all others have theirs before it has
        another."""
        peer = next(iter(self._queues))
        queue = self._queues.pop(peer)
        waiting = queue.popleft()
        if queue:
            self._queues[peer] = queue
        self._queued -= 1
        self._queued_bytes -= len(waiting.message.data)
        return waiting

    async def _judge(self, waiting: _Waiting) -> None:
        message = waiting.message
        handler = self._handlers.get(message.topicIDs[0])
        if handler is None:
            return
        if self._pubsub.seen_messages.has(waiting.message_id):
            self._counters["gossip_duplicates"] += 1
            return
        if not verify_message(message):
            self._counters["gossip_bad_signature"] += 1
            await self.blame(waiting.forwarder, len(message.data))
            return
        # Between the check above and this mark nothing waits: one handler call per id.
        self._pubsub.seen_messages.add(waiting.message_id)
        if self._lost_percent and random.randrange(100) < self._lost_percent:  # noqa: S311
            self._counters["gossip_lost_on_purpose"] += 1
            return
        try:
            verdict = await handler(PeerId(waiting.forwarder.to_base58()), message.data)
        except PeerError:
            verdict = Verdict.REJECT
        self._counters[f"gossip_{verdict.value}"] += 1
        if verdict is Verdict.ACCEPT:
            self._router.scores.delivered(waiting.forwarder, trio.current_time())
            self._router.forward(waiting.message_id, message, waiting.forwarder)
        elif verdict is Verdict.REJECT:
            await self.blame(waiting.forwarder, len(message.data))

    async def blame(self, peer: ID, size: int) -> None:
        """Whoever hands on ``size`` bytes that are objectively invalid pays: in the end with its
        connection."""
        now_s = trio.current_time()
        scores = self._router.scores
        scores.invalid(peer, size, now_s)
        if scores.is_graylisted(peer, now_s):
            scores.forgive(peer)
            await self._swarm.ban(peer)
