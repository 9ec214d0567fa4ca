"""Queues and caches with bounds: what waits for a peer, what was seen, what can be asked for."""

from __future__ import annotations

from collections import OrderedDict, deque

import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.utils.varint import encode_uvarint

from orrange_p2p.p2p.limits import Counters, Limits

__all__ = ["OutboundQueue", "RecentMessages", "SeenIds", "frame_rpc"]

SEEN_S = 120.0
"""Longer than a message is under way; what comes again later is known by the hashes of its
records."""
WRITE_BYTES = 128 * 1024
"""Frames are joined up to this size into one write: each write costs a task switch, a yamux
header and an encryption."""


def frame_rpc(rpc: rpc_pb2.RPC) -> bytes:
    """``rpc`` as it goes over the wire: a varint length and the bytes."""
    body = rpc.SerializeToString()
    return encode_uvarint(len(body)) + body


class OutboundQueue(RpcQueue):
    """What waits to be sent to one peer: frames, encoded once for all peers.

    Stock (rpc_queue.py:39): 32 RPCs per peer and everything beyond dropped without a trace; of
    1,000 messages sent in a loop 31 arrive. Stock also copies, splits and encodes each RPC anew
    for each peer. Here: thousands of frames within a bound in bytes, and drops are counted.
    """

    def __init__(self, limits: Limits, counters: Counters) -> None:
        super().__init__(max_message_size=1024 * 1024)
        self._limits = limits
        self._counters = counters
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._ready = trio.Event()
        self._drained = trio.Event()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def half_full(self) -> bool:
        return (
            len(self._frames) * 2 > self._limits.outbound_messages
            or self._bytes * 2 > self._limits.outbound_bytes
        )

    def push(self, rpc: rpc_pb2.RPC, priority: bool = False) -> bool:
        """Queue ``rpc``; false if it was dropped, which is counted. ``priority`` changes nothing:
        a queue this deep is full only when the peer does not read at all."""
        return self.push_frame(frame_rpc(rpc))

    def push_frame(self, frame: bytes) -> bool:
        """The same for an encoded frame."""
        if (
            self._closed
            or len(self._frames) >= self._limits.outbound_messages
            or self._bytes + len(frame) > self._limits.outbound_bytes
        ):
            self._counters["gossip_outbound_dropped"] += 1
            return False
        self._frames.append(frame)
        self._bytes += len(frame)
        self._ready.set()
        return True

    async def next_write(self) -> bytes | None:
        """The next frames, joined; none once the queue is closed."""
        while not self._frames:
            if self._closed:
                return None
            self._ready = trio.Event()
            await self._ready.wait()
        taken = [self._frames.popleft()]
        size = len(taken[0])
        while self._frames and size + len(self._frames[0]) <= WRITE_BYTES:
            frame = self._frames.popleft()
            taken.append(frame)
            size += len(frame)
        self._bytes -= size
        self._drained.set()
        self._drained = trio.Event()
        return b"".join(taken)

    async def wait_drained(self) -> None:
        """Until something was taken out."""
        await self._drained.wait()

    def close(self) -> None:
        self._closed = True
        self._frames.clear()
        self._bytes = 0
        self._ready.set()
        self._drained.set()


class SeenIds:
    """Ids of messages that were verified; forgotten after ``SEEN_S``, the oldest also when full.

    Stock (timed_cache/base_timed_cache.py:26): one thread per Pubsub, never stopped, and no bound
    but time. A bound in number alone is no use to a quiet node: it fills up for hours.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: OrderedDict[bytes, float] = OrderedDict()
        """When each was added."""

    def __len__(self) -> int:
        return len(self._ids)

    def has(self, message_id: bytes) -> bool:
        return message_id in self._ids

    def add(self, message_id: bytes) -> bool:
        """True if it is new."""
        if message_id in self._ids:
            return False
        now_s = trio.current_time()
        self._ids[message_id] = now_s
        while len(self._ids) > self._size or next(iter(self._ids.values())) < now_s - SEEN_S:
            self._ids.popitem(last=False)
        return True


class RecentMessages:
    """Messages of the last few heartbeats, announced by IHAVE and served on IWANT.

    Stock (mcache.py:73): bounded by time only, so memory is rate x history x size. Here the
    oldest leave when the bytes run out.
    """

    WINDOW = 3
    """Heartbeats a message is announced for."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._beat = 0
        self._entries: OrderedDict[bytes, tuple[int, str, bytes]] = OrderedDict()

    def put(self, message_id: bytes, topic: str, frame: bytes) -> None:
        self._entries[message_id] = (self._beat, topic, frame)
        self._bytes += len(frame)
        while self._bytes > self._max_bytes:
            self._pop()

    def get(self, message_id: bytes) -> bytes | None:
        entry = self._entries.get(message_id)
        return entry[2] if entry else None

    def window(self, topic: str, most: int) -> list[bytes]:
        """The newest ids of ``topic``, at most ``most``."""
        ids: list[bytes] = []
        for message_id in reversed(self._entries):
            if len(ids) == most:
                break
            if self._entries[message_id][1] == topic:
                ids.append(message_id)
        return ids

    def shift(self) -> None:
        """A heartbeat has passed."""
        self._beat += 1
        oldest = self._beat - self.WINDOW
        while self._entries and next(iter(self._entries.values()))[0] < oldest:
            self._pop()

    def _pop(self) -> None:
        _, (_, _, frame) = self._entries.popitem(last=False)
        self._bytes -= len(frame)
