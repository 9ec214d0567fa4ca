"""Yamux with windows that are enforced and writes that cannot be torn.

A muxer of our own in place of libp2p's, on the same wire (hashicorp/yamux, spec.md), because its
faults sit in the one loop that everything passes through. It stays one class to stay readable.
"""

from __future__ import annotations

import struct
from collections import deque
from contextlib import suppress
from typing import Any, Final

import trio
from libp2p.abc import IMuxedConn, IMuxedStream, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID
from multiaddr import Multiaddr

from orrange_p2p.p2p.cleanup import shielded_for
from orrange_p2p.p2p.limits import Counters, Limits

__all__ = ["Buffered", "HardMuxerMultistream", "HardYamux"]

HEADER: Final = struct.Struct("!BBHII")
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
NORMAL, PROTOCOL_ERROR = range(2)

FIRST_WINDOW: Final = 256 * 1024
LAST_WINDOW: Final = 1024 * 1024
"""Windows grow to this for a reader that keeps up: 8 MB/s over 120 ms."""
FRAME_BYTES: Final = 64 * 1024
OUT_BYTES: Final = 256 * 1024
"""What may wait for the socket before writers wait."""
READ_BYTES: Final = 64 * 1024
CONNECTION_BUFFER_BYTES: Final = 8 * 1024 * 1024
TOTAL_BUFFER_BYTES: Final = 128 * 1024 * 1024
"""Received and not read yet, over the streams of one connection and of all of them."""

WINDOW_TIMEOUT_S: Final = 10.0
WRITE_TIMEOUT_S: Final = 20.0
PING_INTERVAL_S: Final = 15.0
PING_TIMEOUT_S: Final = 15.0
HALF_CLOSED_S: Final = 60.0


class Buffered:
    """Bytes that all connections of a host hold for readers."""

    def __init__(self) -> None:
        self.size = 0


class _ViolationError(Exception):
    """The peer broke the protocol; the connection ends."""


class HardStream(IMuxedStream):
    """One stream. ``close`` ends our half, ``reset`` both."""

    def __init__(self, stream_id: int, connection: HardYamux, *, ours: bool) -> None:
        self.stream_id = stream_id
        self.muxed_conn = connection
        self.ours = ours
        self.was_reset = False
        self.send_closed = False
        self.recv_closed = False
        self.send_window = FIRST_WINDOW
        self.recv_window = FIRST_WINDOW
        self.closed_at = 0.0
        self._connection = connection
        self._buffer = bytearray()
        self._target = FIRST_WINDOW
        self._consumed = 0
        self._grown_at = trio.current_time()
        self._readable = trio.Event()
        self._sendable = trio.Event()

    async def __aenter__(self) -> HardStream:
        return self

    async def read(self, n: int | None = None) -> bytes:
        """What is there, at most ``n`` bytes; waits for the first of them.

        Raises ``MuxedStreamEOF`` at the end and ``MuxedStreamReset`` after a reset.
        """
        while not self._buffer:
            if self.was_reset:
                raise MuxedStreamReset("the stream was reset")
            if self.recv_closed:
                raise MuxedStreamEOF("the stream has ended")
            self._readable = trio.Event()
            await self._readable.wait()
        size = len(self._buffer) if n is None or n < 0 else min(n, len(self._buffer))
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._connection._held(-size)
        self._return_window(size)
        return data

    def _return_window(self, size: int) -> None:
        """Tell the peer of room in halves of the window.

        Stock (yamux.py:441) tells after each read, one byte or more, which together with the
        answers was most of the CPU.
        """
        self._consumed += size
        if self.recv_closed or self._consumed * 2 < self._target:
            return
        delta, self._consumed = self._consumed, 0
        now = trio.current_time()
        if self._target < LAST_WINDOW and now - self._grown_at < 4 * self._connection.rtt_s:
            delta += self._target
            self._target *= 2
        self._grown_at = now
        self.recv_window += delta
        self._connection._send_control(WINDOW_UPDATE, 0, self.stream_id, delta)

    async def write(self, data: bytes) -> None:
        """Returns when all of it is queued for the socket. If cancelled, part of it may be, in
        whole yamux frames: reset the stream then.

        Raises ``MuxedStreamError`` when the peer leaves no window for ``WINDOW_TIMEOUT_S``.
        """
        rest = memoryview(data)
        while rest:
            if self.send_window <= 0:
                with trio.move_on_after(WINDOW_TIMEOUT_S):
                    while self.send_window <= 0 and not self.send_closed:
                        self._sendable = trio.Event()
                        await self._sendable.wait()
                if self.send_window <= 0:
                    raise MuxedStreamError("the peer does not read")
            self._check_sending()
            size = min(self.send_window, FRAME_BYTES - HEADER.size, len(rest))
            self.send_window -= size
            header = HEADER.pack(0, DATA, 0, self.stream_id, size)
            await self._connection._send(header + bytes(rest[:size]))
            rest = rest[size:]

    def _check_sending(self) -> None:
        if self.was_reset:
            raise MuxedStreamReset("the stream was reset")
        if self.send_closed:
            raise MuxedStreamClosed("closed for sending")

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.send_closed:
            self.send_closed = True
            self.closed_at = trio.current_time()
            self._connection._send_control(WINDOW_UPDATE, FIN, self.stream_id, 0)
            self._connection._forget_if_done(self)

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        self.reset_now()

    def reset_now(self) -> None:
        if not (self.send_closed and self.recv_closed):
            self._connection._send_control(WINDOW_UPDATE, RST, self.stream_id, 0)
        self.end(was_reset=True)
        self._connection._forget_if_done(self)

    def set_deadline(self, ttl: int) -> None:
        raise NotImplementedError("use a cancel scope")

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._connection.get_remote_address()

    # Called by the connection.

    def received(self, data: bytes) -> None:
        self._buffer += data
        self._readable.set()

    def credited(self, size: int) -> None:
        self.send_window = min(self.send_window + size, 1 << 31)
        self._sendable.set()

    def peer_closed(self) -> None:
        self.recv_closed = True
        self._readable.set()

    def end(self, *, was_reset: bool) -> None:
        self.was_reset |= was_reset
        self.send_closed = self.recv_closed = True
        if self.was_reset:
            self._connection._held(-len(self._buffer))
            self._buffer.clear()
        self._readable.set()
        self._sendable.set()


class HardYamux(IMuxedConn):
    """One connection.

    - *window ignored* (yamux.py:1546): stock logs and buffers on, 1.7 GB in 10 s. Here the
      connection ends, and what all streams may hold is bounded.
    - *torn writes* (yamux.py:851): a write cancelled while it waits leaves a gap in the cipher's
      counter or half a frame in the socket, and the whole connection dies. Here one task owns the
      socket; cancelling a writer is safe at every point.
    - *writes without a deadline*: a peer that does not read holds tasks for ever. Here 20 s.
    - *dead peers stay* (yamux.py:703): a missing pong is ignored. Here it ends the connection.
    - *streams without a bound* (yamux.py:1292), and ids of the wrong parity, are refused.
    - *one system call per frame*: what waits is joined into one write.
    """

    def __init__(
        self,
        conn: ISecureConn,
        peer_id: ID,
        limits: Limits,
        counters: Counters,
        buffered: Buffered,
    ) -> None:
        self.peer_id = peer_id
        self.secured_conn = conn
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.on_close: Any = None
        self.rtt_s = 0.001
        self._limits = limits
        self._counters = counters
        self._total = buffered
        self._buffered = 0
        self._is_initiator = conn.is_initiator
        self._next_id = 1 if conn.is_initiator else 2
        self._streams: dict[int, HardStream] = {}
        self._accepted = 0
        self._incoming, self._accepting = trio.open_memory_channel[HardStream](
            limits.streams_per_connection
        )
        self._scope = trio.CancelScope()
        self._leaving = False
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._out_ready = trio.Event()
        self._out_room = trio.Event()
        self._pong = trio.Event()
        self._ping_value = 0

    # What libp2p calls.

    @property
    def is_initiator(self) -> bool:
        return self._is_initiator

    @property
    def is_established(self) -> bool:
        return self.event_started.is_set() and not self._leaving

    @property
    def is_closed(self) -> bool:
        return self.event_closed.is_set()

    def get_transport_addresses(self) -> list[Multiaddr]:
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.secured_conn.get_remote_address()

    async def start(self) -> None:
        """Run the connection until either side ends it. Raises nothing but cancellation."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write_out)
                    nursery.start_soon(self._ping)
                    self.event_started.set()
                    await self._read_frames()
                    nursery.cancel_scope.cancel()
        except Exception:
            self._counters["connections_broken"] += 1
        finally:
            self._end_streams()
            with shielded_for(1), suppress(Exception):
                await self.secured_conn.close()
            self.event_closed.set()
        if self.on_close is not None:
            await self.on_close()

    async def close(self) -> None:
        """Say goodbye, send what is queued within a second, and end."""
        if not self.event_started.is_set():
            self._end_streams()
            await self.secured_conn.close()
            self.event_closed.set()
        if not self._leaving:
            self._leave(NORMAL)
            with trio.move_on_after(1):
                while self._out_bytes and not self.event_closed.is_set():
                    await self._out_room.wait()
        self._scope.cancel()
        with trio.move_on_after(2):
            await self.event_closed.wait()

    async def open_stream(self) -> HardStream:
        await trio.lowlevel.checkpoint()
        if self._leaving:
            raise MuxedStreamError("the connection is closing")
        if len(self._streams) - self._accepted >= 4 * self._limits.streams_per_connection:
            raise MuxedStreamError("too many streams are open")
        stream = HardStream(self._next_id, self, ours=True)
        self._next_id += 2
        self._streams[stream.stream_id] = stream
        self._send_control(WINDOW_UPDATE, SYN, stream.stream_id, 0)
        return stream

    async def accept_stream(self) -> HardStream:
        try:
            return await self._accepting.receive()
        except trio.EndOfChannel:
            raise MuxedConnUnavailable("the connection has ended") from None

    # Out.

    async def _send(self, frame: bytes) -> None:
        """Queue a frame, when there is room."""
        while self._out_bytes >= OUT_BYTES and not self._leaving:
            await self._out_room.wait()
        if self._leaving:
            raise MuxedStreamReset("the connection has ended")
        self._queue(frame)
        await trio.lowlevel.checkpoint()

    def _send_control(self, kind: int, flags: int, stream_id: int, value: int) -> None:
        """Queue a header without waiting: the reader must not wait for the writer."""
        if not self._leaving:
            if self._out_bytes > 2 * OUT_BYTES:
                self._counters["yamux_violations"] += 1
                self._leaving = True
                self._scope.cancel()
                return
            self._queue(HEADER.pack(0, kind, flags, stream_id, value))

    def _queue(self, frame: bytes) -> None:
        self._out.append(frame)
        self._out_bytes += len(frame)
        self._out_ready.set()

    async def _write_out(self) -> None:
        while True:
            while not self._out:
                self._out_ready = trio.Event()
                await self._out_ready.wait()
            batch = b"".join(self._out)
            self._out.clear()
            with trio.fail_after(WRITE_TIMEOUT_S):
                await self.secured_conn.write(batch)
            self._out_bytes -= len(batch)
            self._out_room.set()
            self._out_room = trio.Event()

    async def _ping(self) -> None:
        while True:
            self._pong = trio.Event()
            self._ping_value = (self._ping_value + 1) & 0xFFFFFFFF
            asked = trio.current_time()
            self._send_control(PING, SYN, 0, self._ping_value)
            with trio.fail_after(PING_TIMEOUT_S):
                await self._pong.wait()
            self.rtt_s = max(0.001, trio.current_time() - asked)
            await trio.sleep(PING_INTERVAL_S)
            expired = trio.current_time() - HALF_CLOSED_S
            for stream in list(self._streams.values()):
                if stream.send_closed and stream.closed_at < expired:
                    stream.reset_now()

    # In.

    async def _read_frames(self) -> None:
        buffer = bytearray()
        try:
            while True:
                await self._fill(buffer, HEADER.size)
                version, kind, flags, stream_id, value = HEADER.unpack_from(buffer)
                del buffer[: HEADER.size]
                if version != 0 or kind > GO_AWAY:
                    raise _ViolationError
                if kind == GO_AWAY:
                    return
                if kind == PING:
                    self._on_ping(flags, value)
                    continue
                data = b""
                if kind == DATA and value:
                    if value > LAST_WINDOW:
                        raise _ViolationError
                    await self._fill(buffer, value)
                    data = bytes(buffer[:value])
                    del buffer[:value]
                self._on_frame(flags, stream_id, data, value if kind == WINDOW_UPDATE else 0)
        except _ViolationError:
            self._counters["yamux_violations"] += 1
            self._leave(PROTOCOL_ERROR)

    async def _fill(self, buffer: bytearray, size: int) -> None:
        while len(buffer) < size:
            data = await self.secured_conn.read()
            if not data:
                raise EOFError
            buffer += data

    def _on_ping(self, flags: int, value: int) -> None:
        if flags & SYN:
            self._send_control(PING, ACK, 0, value)
        elif value == self._ping_value:
            self._pong.set()

    def _on_frame(self, flags: int, stream_id: int, data: bytes, credit: int) -> None:
        if flags & SYN and not flags & RST:
            self._on_syn(stream_id)
        stream = self._streams.get(stream_id)
        if stream is None:
            return  # reset by us while this was under way
        if len(data) > stream.recv_window:
            raise _ViolationError
        stream.recv_window -= len(data)
        if (
            self._buffered + len(data) > CONNECTION_BUFFER_BYTES
            or self._total.size + len(data) > TOTAL_BUFFER_BYTES
        ):
            self._counters["streams_over_buffer"] += 1
            stream.reset_now()
            return
        if data and not stream.recv_closed:
            self._held(len(data))
            stream.received(data)
        if credit:
            stream.credited(credit)
        if flags & FIN:
            stream.peer_closed()
        if flags & RST:
            stream.end(was_reset=True)
        if flags & (FIN | RST):
            self._forget_if_done(stream)

    def _on_syn(self, stream_id: int) -> None:
        if stream_id in self._streams or stream_id % 2 == self._next_id % 2 or not stream_id:
            raise _ViolationError
        if self._accepted >= self._limits.streams_per_connection:
            self._counters["streams_refused"] += 1
            self._send_control(WINDOW_UPDATE, RST, stream_id, 0)
            return
        stream = HardStream(stream_id, self, ours=False)
        try:
            self._incoming.send_nowait(stream)
        except trio.WouldBlock:
            self._counters["streams_refused"] += 1
            self._send_control(WINDOW_UPDATE, RST, stream_id, 0)
            return
        self._accepted += 1
        self._streams[stream_id] = stream
        self._send_control(WINDOW_UPDATE, ACK, stream_id, 0)

    # Bookkeeping.

    def _held(self, size: int) -> None:
        self._buffered += size
        self._total.size += size

    def _forget_if_done(self, stream: HardStream) -> None:
        if stream.send_closed and stream.recv_closed and stream.stream_id in self._streams:
            del self._streams[stream.stream_id]
            self._accepted -= not stream.ours

    def _leave(self, code: int) -> None:
        self._send_control(GO_AWAY, 0, 0, code)
        self._leaving = True
        self._out_room.set()
        self._out_room = trio.Event()

    def _end_streams(self) -> None:
        self._leaving = True
        self._incoming.close()
        self._out_room.set()
        self._out_room = trio.Event()
        self._pong.set()
        for stream in list(self._streams.values()):
            stream.end(was_reset=True)
        self._streams.clear()


class HardMuxerMultistream(MuxerMultistream):
    """Offers yamux only, and makes ours of it: stock (muxer_multistream.py:143) names its own."""

    def __init__(self, limits: Limits, counters: Counters) -> None:
        super().__init__({PROTOCOL_ID: HardYamux})  # type: ignore[dict-item]
        self._limits = limits
        self._counters = counters
        self._buffered = Buffered()

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        muxed = HardYamux(conn, peer_id, self._limits, self._counters, self._buffered)
        return self._annotate_connection(muxed, conn, protocol)
