"""Pubsub: streams to and from peers, what they say parsed, and nothing they say can raise."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from contextlib import suppress
from typing import Any, Protocol

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import INetStream
from libp2p.crypto.keys import PublicKey
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.exceptions import ParseError
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue

from orrange_p2p.p2p.hardening.queues import OutboundQueue, SeenIds
from orrange_p2p.p2p.hardening.router import HardGossipSub
from orrange_p2p.p2p.limits import Counters, Limits

__all__ = ["HardPubsub", "MessageTaker", "verify_message"]

RPC_BYTES = 1024 * 1024
READ_BYTES = 128 * 1024
STREAM_TIMEOUT_S = 15.0
SUBSCRIPTIONS_PER_RPC = 128
TOPIC_BYTES = 256
STREAMS_PER_PEER = 2
"""Inbound pubsub streams of one peer: one, and its successor after a reconnect."""
SIGNING_PREFIX = b"libp2p-pubsub:"
MAX_KEYS = 4096


class MessageTaker(Protocol):
    """Where parsed messages go."""

    async def take(self, forwarder: ID, message_id: bytes, message: rpc_pb2.Message) -> None:
        """Queue a message that is new and well formed but not verified yet."""
        ...


class HardPubsub(Pubsub):
    """Pubsub whose faults are mended from outside.

    - *garbage kills* (pubsub.py:562): bytes that are no protobuf raise DecodeError, which no one
      catches. Here they cost the peer its connection.
    - *one task per message* (pubsub.py:586): unbounded, unordered. Here: ``MessageTaker``.
    - *subscription channel* (pubsub.py:124): of 32, drops silently. Here: not used.
    - *outbound queue* (rpc_queue.py:39): see ``OutboundQueue``.
    - *seen before verified*: an id counts as seen once its signature is verified, never
      earlier (a forged copy would silence the original) and never later (stock marks it after
      the validator, pubsub.py:1774, so copies that arrive meanwhile are delivered twice).
    - *lost subscription* (pubsub.py:913): a topic joined between hello and registration is never
      announced. Here the hello is the first frame of a queue that is registered already.
    - *repeated sequence numbers* (pubsub.py:478): they start at the second of the start, so a
      node that sent more than one message a second repeats ids after a restart.
    - *senderRecord* (pubsub.py:542, gossipsub.py:1008): a signed record of all our addresses in
      every RPC, made, sent and verified anew. No one here needs it, so none is sent.
    - *one byte per read* (varint.py): see ``_Frames``.
    - *a thread per Pubsub* (base_timed_cache.py:26): see ``SeenIds``.
    """

    def __init__(self, host: Any, router: HardGossipSub, limits: Limits, counters: Counters):
        super().__init__(
            host,
            router,
            strict_signing=True,
            max_inbound_rpc_size=RPC_BYTES,
            max_subscriptions_per_rpc=SUBSCRIPTIONS_PER_RPC,
            max_subscriptions_per_peer=limits.peer_topics,
        )
        self.seen_messages.stop()
        self.seen_messages = SeenIds(limits.seen_messages)  # type: ignore[assignment]
        self.counter = time.time_ns()
        self.taker: MessageTaker | None = None
        self._hard_router = router
        self._swarm = host.get_network()
        self._limits = limits
        self._counters = counters
        self._inbound_streams: Counter[ID] = Counter()
        self._prefix = host.get_id().to_bytes()
        self._public_key = host.get_public_key().serialize()

    # In.

    async def stream_handler(self, stream: INetStream) -> None:
        """Read one peer's RPCs until its stream ends. Never raises but for cancellation."""
        peer_id = stream.muxed_conn.peer_id
        if self._inbound_streams[peer_id] >= STREAMS_PER_PEER:
            self._counters["gossip_streams_refused"] += 1
            await stream.reset()
            return
        self._inbound_streams[peer_id] += 1
        try:
            await self.continuously_read_stream(stream)
        except (DecodeError, ParseError):
            self._counters["gossip_malformed"] += 1
            await self._drop_peer(peer_id)
        except Exception:
            self._counters["gossip_streams_failed"] += 1
            await self._reset(stream)
        finally:
            self._inbound_streams[peer_id] -= 1
            if not self._inbound_streams[peer_id]:
                del self._inbound_streams[peer_id]

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Raises ``DecodeError`` and ``ParseError`` for what is not our protocol, and whatever the
        stream raises when it breaks."""
        peer_id = stream.muxed_conn.peer_id
        frames = _Frames(stream)
        while True:
            body = await frames.read()
            if body is None:
                return
            rpc = rpc_pb2.RPC()
            rpc.ParseFromString(body)
            await self._on_rpc(peer_id, rpc)

    async def _on_rpc(self, peer_id: ID, rpc: rpc_pb2.RPC) -> None:
        self._counters["gossip_rpcs_received"] += 1
        scores = self._hard_router.scores
        if scores.is_graylisted(peer_id, trio.current_time()):
            self._counters["gossip_graylisted"] += 1
            scores.forgive(peer_id)
            self.manager.run_task(self._swarm.ban, peer_id)
            return
        for message in rpc.publish:
            await self._on_message(peer_id, message)
        if len(rpc.subscriptions) > SUBSCRIPTIONS_PER_RPC:
            self._counters["gossip_subscriptions_ignored"] += 1
            scores.misbehaved(peer_id, trio.current_time())
        else:
            for subscription in rpc.subscriptions:
                await self._on_subscription(peer_id, subscription)
        if rpc.HasField("control"):
            await self._hard_router.handle_rpc(rpc, peer_id)

    async def _on_message(self, peer_id: ID, message: rpc_pb2.Message) -> None:
        """The cheap checks, in order of cost; the rest happens in the taker's time."""
        if len(message.topicIDs) != 1 or len(message.from_id) > 64 or len(message.seqno) != 8:
            self._counters["gossip_malformed"] += 1
            self._hard_router.scores.invalid(peer_id, message.ByteSize(), trio.current_time())
            return
        if message.topicIDs[0] not in self.subscribed_topics_receive:
            self._counters["gossip_foreign_topic"] += 1
            return
        if len(message.data) > self._limits.message_bytes:
            self._counters["gossip_oversized"] += 1
            self._hard_router.scores.invalid(peer_id, len(message.data), trio.current_time())
            return
        message_id = message.from_id + message.seqno
        if self.seen_messages.has(message_id):
            self._counters["gossip_duplicates"] += 1
            return
        if message.from_id == self._prefix:
            self._counters["gossip_echoes"] += 1
            return
        if self.taker is not None:
            await self.taker.take(peer_id, message_id, message)

    async def _on_subscription(self, peer_id: ID, subscription: Any) -> None:
        if len(subscription.topicid) > TOPIC_BYTES:
            self._counters["gossip_subscriptions_ignored"] += 1
            return
        self.handle_subscription(peer_id, subscription)
        if not subscription.subscribe:
            mesh = self._hard_router.mesh.get(subscription.topicid)
            if mesh is not None:
                mesh.discard(peer_id)

    # Out.

    def send(self, topic: str, payload: bytes) -> None:
        """Sign ``payload`` and queue it for the mesh. Our own signature is not verified again."""
        message = rpc_pb2.Message(
            data=payload, topicIDs=[topic], from_id=self._prefix, seqno=self._next_seqno()
        )
        assert self.sign_key is not None
        message.signature = self.sign_key.sign(SIGNING_PREFIX + message.SerializeToString())
        message.key = self._public_key
        message_id = message.from_id + message.seqno
        self.seen_messages.add(message_id)
        self._hard_router.forward(message_id, message, None)

    def get_hello_packet(self) -> rpc_pb2.RPC:
        """Our subscriptions."""
        return rpc_pb2.RPC(
            subscriptions=[
                rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in self.topic_ids
            ]
        )

    def _build_announce_rpc(
        self, topic_id: str, subscribe: bool
    ) -> tuple[rpc_pb2.RPC, rpc_pb2.RPC.SubOpts]:
        change = rpc_pb2.RPC.SubOpts(subscribe=subscribe, topicid=topic_id)
        return rpc_pb2.RPC(subscriptions=[change]), change

    async def _handle_new_peer(self, peer_id: ID) -> None:
        if peer_id in self.peers or self.is_peer_blacklisted(peer_id):
            return
        with trio.move_on_after(STREAM_TIMEOUT_S) as scope:
            stream = await self.host.new_stream(peer_id, self.protocols)
        if scope.cancelled_caught:
            raise SwarmException(f"no pubsub stream to {peer_id} in time")
        if peer_id in self.peers:
            await self._reset(stream)
            return
        self._hard_router.add_peer(peer_id, stream.get_protocol())
        queue = OutboundQueue(self._limits, self._counters)
        queue.push(self.get_hello_packet())
        self.peers[peer_id] = stream
        self.peer_queues[peer_id] = queue
        self.manager.run_task(self.handle_sending_messages, peer_id, stream, queue)
        if peer_id in self._peer_added_events:
            self._peer_added_events.pop(peer_id).set()
        for topic in [t for t, peers in self.peer_topics.items() if peer_id in peers]:
            await self._hard_router.on_peer_subscribed(peer_id, topic)

    async def handle_sending_messages(
        self, peer_id: ID, stream: INetStream, queue: RpcQueue
    ) -> None:
        assert isinstance(queue, OutboundQueue)
        try:
            while (data := await queue.next_write()) is not None:
                await stream.write(data)
                self._counters["gossip_bytes_sent"] += len(data)
        except Exception:
            self._counters["gossip_streams_failed"] += 1
            if self.peer_queues.get(peer_id) is queue:
                self._handle_dead_peer(peer_id)
        await self._reset(stream)

    def _handle_dead_peer(self, peer_id: ID) -> None:
        try:
            super()._handle_dead_peer(peer_id)
        except Exception:
            self._counters["libp2p_task_failures"] += 1

    async def _drop_peer(self, peer_id: ID) -> None:
        """End all connections to a peer that does not speak the protocol."""
        self._counters["peers_dropped"] += 1
        self.manager.run_task(self.host.disconnect, peer_id)

    @staticmethod
    async def _reset(stream: INetStream) -> None:
        with trio.move_on_after(1), suppress(Exception):  # broken already is what we want
            await stream.reset()


class _Frames:
    """Length-prefixed frames of a stream, read in large pieces.

    Stock reads the length byte by byte, each through four locks and, in yamux, with an answer
    of 12 bytes to the peer.
    """

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def read(self) -> bytes | None:
        """The next frame; none at the end. Raises ``ParseError`` for a length that is no varint or
        over the limit, or when the stream ends within a frame."""
        size, start = 0, 0
        while True:
            if start == len(self._buffer):
                if not await self._fill():
                    if self._buffer:
                        raise ParseError("the stream ends within a frame")
                    return None
                continue
            byte = self._buffer[start]
            size |= (byte & 0x7F) << (7 * start)
            start += 1
            if byte < 0x80:
                break
            if start == 4:
                raise ParseError("frame length is no varint below 2^28")
        if size > RPC_BYTES:
            raise ParseError(f"frame of {size} bytes")
        end = start + size
        while len(self._buffer) < end:
            if not await self._fill():
                raise ParseError("the stream ends within a frame")
        body = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return body

    async def _fill(self) -> bool:
        try:
            data = await self._stream.read(READ_BYTES)
        except StreamEOF:
            return False
        self._buffer += data
        return bool(data)


_keys: OrderedDict[bytes, PublicKey] = OrderedDict()
"""Parsed keys by origin, because parsing costs as much as verifying. The key follows from the
id, so all transports of a process may share them."""


def verify_message(message: rpc_pb2.Message) -> bool:
    """Whether the origin it names signed it. Whatever the bytes are, it answers.

    Stock (validators.py:63) raises for a key it cannot parse, which ends the program.
    """
    try:
        key = _keys.get(message.from_id)
        if key is None:
            key = _public_key(message)
            _keys[message.from_id] = key
            if len(_keys) > MAX_KEYS:
                _keys.popitem(last=False)
        unsigned = rpc_pb2.Message(
            data=message.data,
            topicIDs=message.topicIDs,
            from_id=message.from_id,
            seqno=message.seqno,
        )
        payload = SIGNING_PREFIX + unsigned.SerializeToString()
        return bool(key.verify(payload, message.signature))
    except Exception:
        return False


def _public_key(message: rpc_pb2.Message) -> PublicKey:
    origin = ID(message.from_id)
    key = origin.extract_public_key()
    if key is None:
        key = deserialize_public_key(message.key)
    if ID.from_pubkey(key) != origin:
        raise ValueError("the key is not the origin's")
    return key
