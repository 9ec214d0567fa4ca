"""A JSON-RPC server on a Unix socket, for the owner of the node alone (mode 0600).

Each connection is served one request at a time, in order; clients that want concurrency open
more. Nothing a client sends or fails to read harms the node or another client.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs
import structlog
import trio

from orrange_p2p.core import jsonrpc
from orrange_p2p.core.errors import (
    ConfigError,
    DeadlineError,
    OrrangeError,
    PortInUseError,
    WorldError,
)
from orrange_p2p.core.jsonrpc import BadRequestError, Request

__all__ = ["Limits", "Method", "Methods", "Params", "RpcServer", "StreamMethod", "listening"]

Params = Mapping[str, Any]
Method = Callable[[Params], Awaitable[Any]]
"""Takes the parameters and returns a JSON value. ``OrrangeError`` is told to the client."""
StreamMethod = Callable[[Params], AsyncIterator[Any]]
"""An async generator of JSON values; closed when the client leaves or reads too slowly."""
Methods = Mapping[str, Method]

_SOCKET_PATH_BYTES: Final = 107
_CHUNK_BYTES: Final = 64 * 1024

log = structlog.get_logger()


@attrs.frozen
class Limits:
    """What one client, and all together, may take."""

    clients: int = 64
    request_bytes: int = jsonrpc.MAX_REQUEST_BYTES
    reply_bytes: int = jsonrpc.MAX_REPLY_BYTES
    write_timeout_s: float = 5.0
    """A client that does not read for this long is cut off."""
    method_timeout_s: float = 60.0
    """A method that takes longer is cancelled: its client may be gone."""


class RpcServer:
    """Serves ``methods`` and ``streams`` on every connection handed to ``serve``."""

    def __init__(
        self,
        methods: Methods,
        streams: Mapping[str, StreamMethod] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._methods = methods
        self._streams = streams or {}
        self._limits = limits or Limits()
        self._clients = 0
        self.counters: Counter[str] = Counter()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer one client until it leaves or is cut off."""
        self._clients += 1
        try:
            async with stream:
                await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.counters["rpc_lost"] += 1
        except trio.TooSlowError:
            self.counters["rpc_slow_readers"] += 1
        finally:
            self._clients -= 1

    async def _converse(self, stream: trio.abc.Stream) -> None:
        if self._clients > self._limits.clients:
            self.counters["rpc_refused"] += 1
            refusal = WorldError(f"more than {self._limits.clients} clients: try again later")
            await self._send(stream, jsonrpc.encode_failure(None, refusal))
            return
        lines = _Lines(stream, self._limits.request_bytes)
        while True:
            try:
                line = await lines.receive()
                if line is None:
                    return
                request = jsonrpc.decode_request(line)
            except BadRequestError as error:
                self.counters["rpc_malformed"] += 1
                await self._send(stream, jsonrpc.encode_failure(error.id, error))
                if lines.is_lost:
                    return
                continue
            self.counters["rpc_requests"] += 1
            if request.method in self._streams:
                await self._stream(stream, lines, request)
                return
            await self._send(stream, await self._answer(request))

    async def _answer(self, request: Request) -> bytes:
        method = self._methods.get(request.method)
        if method is None:
            known = ", ".join(sorted([*self._methods, *self._streams]))
            message = f"no method {request.method!r}; there are: {known}"
            return jsonrpc.encode_error(request.id, jsonrpc.METHOD_NOT_FOUND, message)
        try:
            with trio.move_on_after(self._limits.method_timeout_s) as deadline:
                reply = jsonrpc.encode_result(request.id, await method(request.params))
            if deadline.cancelled_caught:
                reason = f"took longer than {self._limits.method_timeout_s:g} s"
                raise DeadlineError(f"{request.method!r} {reason}, and may have happened")
        except OrrangeError as error:
            return jsonrpc.encode_failure(request.id, error)
        except Exception as error:  # a bug of ours that a request can reach must not end the node
            return self._internal_error(request, error)
        if len(reply) > self._limits.reply_bytes:
            message = f"the answer is larger than {self._limits.reply_bytes} bytes: ask for less"
            return jsonrpc.encode_error(request.id, jsonrpc.WORLD_ERROR, message, "WorldError")
        return reply

    def _internal_error(self, request: Request, error: Exception) -> bytes:
        self.counters["rpc_internal_errors"] += 1
        log.error("rpc method failed", method=request.method, exc_info=error)
        message = f"{request.method!r} failed inside the node; its log says more"
        return jsonrpc.encode_error(request.id, jsonrpc.INTERNAL_ERROR, message)

    async def _stream(self, stream: trio.abc.Stream, lines: _Lines, request: Request) -> None:
        """Push events until the generator or the client ends; the connection ends with it."""
        async with _unwrapped(), trio.open_nursery() as nursery:

            async def watch_client() -> None:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await lines.receive_end()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch_client)
            await self._send(stream, await self._push(stream, request))
            nursery.cancel_scope.cancel()

    async def _push(self, stream: trio.abc.Stream, request: Request) -> bytes:
        """All events; returns what is to be said at the end."""
        events = self._streams[request.method](request.params)
        try:
            async with aclosing(events) as items:  # type: ignore[type-var]
                async for item in items:
                    await self._send(stream, jsonrpc.encode_event(request.id, item))
        except OrrangeError as error:
            return jsonrpc.encode_failure(request.id, error)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise
        except Exception as error:  # as in _answer
            return self._internal_error(request, error)
        return jsonrpc.encode_result(request.id, None)

    async def _send(self, stream: trio.abc.Stream, line: bytes) -> None:
        with trio.fail_after(self._limits.write_timeout_s):
            await stream.send_all(line)


class _Lines:
    """Splits what a client sends. Holds at most one line and one chunk."""

    def __init__(self, stream: trio.abc.Stream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._held = bytearray()
        self._searched = 0
        self.is_lost = False
        """After a line over the limit there is no telling where the next one begins."""

    async def receive(self) -> bytes | None:
        """The next line, None at the end. Raises ``BadRequestError`` for a line over the limit."""
        while True:
            end = self._held.find(b"\n", self._searched)
            if end < 0 and len(self._held) <= self._limit:
                self._searched = len(self._held)
                chunk = await self._stream.receive_some(_CHUNK_BYTES)
                if not chunk:
                    return None
                self._held += chunk
                continue
            if not 0 <= end <= self._limit:
                self.is_lost = True
                reason = f"a request is longer than {self._limit} bytes"
                raise BadRequestError(jsonrpc.INVALID_REQUEST, reason)
            line = bytes(self._held[:end])
            del self._held[: end + 1]
            self._searched = 0
            if line.strip():
                return line

    async def receive_end(self) -> None:
        """Until the client closes or says anything more."""
        if not self._held:
            await self._stream.receive_some(1)


@asynccontextmanager
async def listening(path: Path, server: RpcServer) -> AsyncIterator[None]:
    """Serve on a socket of mode 0600 at ``path`` for the length of the block.

    Raises ``PortInUseError`` if another process answers there; what a dead one left is replaced.
    """
    listener = trio.SocketListener(_bind(path))
    identity = os.lstat(path).st_ino
    try:
        async with _unwrapped(), trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, server.serve, [listener])
            yield
            nursery.cancel_scope.cancel()
    finally:
        listener.socket.close()
        _unlink_own(path, identity)


def _unlink_own(path: Path, identity: int) -> None:
    """Unless somebody put another socket there meanwhile."""
    if os.path.lexists(path) and os.lstat(path).st_ino == identity:
        path.unlink()


def _bind(path: Path) -> trio.socket.SocketType:
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            _remove_stale(path, name)
            mask = os.umask(0o177)
            try:
                plain.bind(name)
            finally:
                os.umask(mask)
        plain.listen(128)
        return trio.socket.from_stdlib_socket(plain)
    except OSError as error:
        plain.close()
        raise WorldError(f"cannot listen on {path}: {error.strerror or error}") from None
    except BaseException:
        plain.close()
        raise


def _remove_stale(path: Path, name: str) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_socket():
        raise ConfigError(f"{path} is in the way and no socket: move it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink()
            return
        except TimeoutError:
            pass
    raise PortInUseError(f"another node answers on {path}: stop it first")


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of the path that fits into the 108 bytes of a socket address."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = f"/proc/self/fd/{descriptor}/{path.name}"
        if not os.path.isdir(os.path.dirname(name)) or len(name) > _SOCKET_PATH_BYTES:
            raise ConfigError(f"{path} is too long for a socket: set rpc_socket in node.toml")
        yield name
    finally:
        os.close(descriptor)


@asynccontextmanager
async def _unwrapped() -> AsyncIterator[None]:
    """Raise an exception that came alone without the nursery's group around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        raise alone from alone.__cause__
