"""Requests: one stream each, a 4-byte big-endian length and the bytes, both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID

from orrange_p2p.core.errors import OversizedError, PeerError, UnreachableError
from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.cleanup import shielded_for
from orrange_p2p.p2p.host import RunningHost
from orrange_p2p.p2p.limits import Counters, Limits
from orrange_p2p.ports import RequestHandler

__all__ = ["Streams"]

READ_BYTES = 128 * 1024
STREAM_ERRORS = (BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What libp2p raises when a stream or its connection ends early."""


class Streams:
    """The request half of the transport, both ends."""

    def __init__(
        self,
        running: RunningHost,
        limits: Limits,
        counters: Counters,
        nursery: trio.Nursery,
        blame: Callable[[ID, int], Awaitable[None]],
    ) -> None:
        """``blame`` is told of each request that our handler or a bound rejects, with its size."""
        self._running = running
        self._limits = limits
        self._counters = counters
        self._nursery = nursery
        self._blame = blame
        self._serving: Counter[ID] = Counter()

    def serve(self, protocol: str, handler: RequestHandler) -> None:
        async def handle(stream: INetStream) -> None:
            await self._serve(handler, stream)

        self._running.host.set_stream_handler(TProtocol(protocol), handle)

    async def request(self, peer: PeerId, protocol: str, payload: bytes) -> bytes:
        """The reply. The caller sets the deadline; when it passes, the stream is reset."""
        if len(payload) > self._limits.request_bytes:
            raise OversizedError(
                f"request of {len(payload)} bytes; the limit is {self._limits.request_bytes}"
            )
        try:
            peer_id = ID.from_base58(peer)
        except ValueError as error:
            raise UnreachableError(f"{peer!r} is not a peer id") from error
        if not self._running.swarm.get_connections(peer_id):
            raise UnreachableError(f"not connected to {peer}")
        try:
            stream: Any = await self._running.host.new_stream(peer_id, [TProtocol(protocol)])
        except STREAM_ERRORS as error:
            raise UnreachableError(f"{peer} does not speak {protocol}, or is gone") from error
        done = False
        try:
            await stream.write(len(payload).to_bytes(4, "big") + payload)
            await stream.close_write()
            reply = await _read_framed(stream, self._limits.reply_bytes)
            done = True
            return reply
        except STREAM_ERRORS as error:
            raise UnreachableError(f"{peer} reset the stream of {protocol}") from error
        finally:
            with shielded_for(1):
                await (stream.close() if done else stream.reset())

    async def _serve(self, handler: RequestHandler, stream: INetStream) -> None:
        peer = stream.muxed_conn.peer_id
        limits = self._limits
        if (
            self._serving[peer] >= limits.served_per_peer
            or self._serving.total() >= limits.served_total
        ):
            self._counters["requests_refused"] += 1
            await stream.reset()
            return
        self._serving[peer] += 1
        try:
            with trio.move_on_after(limits.serve_timeout_s) as scope:
                await self._answer(handler, PeerId(peer.to_base58()), stream)
        finally:
            self._serving[peer] -= 1
            if not self._serving[peer]:
                del self._serving[peer]
        if scope.cancelled_caught:
            self._counters["requests_timed_out"] += 1
            await stream.reset()

    async def _answer(self, handler: RequestHandler, peer: PeerId, stream: INetStream) -> None:
        """Read, ask the handler, reply. Never raises but for cancellation."""
        try:
            request = await _read_framed(stream, self._limits.request_bytes)
        except OversizedError:
            self._counters["requests_rejected"] += 1
            await stream.reset()
            await self._blame(stream.muxed_conn.peer_id, 0)
            return
        except STREAM_ERRORS:
            self._counters["requests_broken"] += 1
            await stream.reset()
            return
        try:
            reply = await handler(peer, request)
        except PeerError:
            self._counters["requests_rejected"] += 1
            await stream.reset()
            await self._blame(stream.muxed_conn.peer_id, len(request))
            return
        except Exception as error:
            # A fault of ours: it belongs to our own supervisor, not to libp2p's.
            self._nursery.start_soon(_raise, error)
            await stream.reset()
            return
        try:
            await stream.write(len(reply).to_bytes(4, "big") + reply)
            await stream.close()
            self._counters["requests_served"] += 1
        except STREAM_ERRORS:
            self._counters["requests_broken"] += 1
            await stream.reset()


async def _read_framed(stream: INetStream, limit: int) -> bytes:
    """Raises ``OversizedError`` once the length is known, ``StreamEOF`` if it ends early."""
    buffer = bytearray()
    size = None
    while size is None or len(buffer) < 4 + size:
        data = await stream.read(READ_BYTES)
        if not data:
            raise StreamEOF("the stream ends within a message")
        buffer += data
        if size is None and len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if size > limit:
                raise OversizedError(f"{size} bytes announced; the limit is {limit}")
    return bytes(buffer[4 : 4 + size])


async def _raise(error: Exception) -> None:
    raise error
