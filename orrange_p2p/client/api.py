"""A trio client of a node's local API.

async with connect(path) as client:
    status = await client.call("status")
    async for event in client.stream("watch"):
        ...
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.client.socket_path import short
from orrange_p2p.core import jsonrpc
from orrange_p2p.core.errors import (
    DeadlineError,
    MalformedError,
    OversizedError,
    UnreachableError,
)
from orrange_p2p.core.jsonrpc import Event, Reply, Request

__all__ = ["Client", "connect"]

CONNECTIONS: Final = 16
"""Calls of one client under way at once; the node answers each connection in order."""
_CHUNK_BYTES: Final = 64 * 1024


class _Connection:
    def __init__(self, stream: trio.SocketStream, path: Path) -> None:
        self.stream = stream
        self._path = path
        self._held = bytearray()

    async def send(self, request: Request) -> None:
        line = jsonrpc.encode_request(request)
        try:
            await self.stream.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The server may have said why before it closed.
            return

    async def receive(self, id: int) -> Reply | Event:
        """The next answer to request ``id``. Raises ``UnreachableError`` when the node is gone."""
        searched = 0
        while (end := self._held.find(b"\n", searched)) < 0:
            searched = len(self._held)
            if searched > jsonrpc.MAX_REPLY_BYTES:
                raise OversizedError(f"an answer is longer than {jsonrpc.MAX_REPLY_BYTES} bytes")
            try:
                chunk = await self.stream.receive_some(_CHUNK_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                chunk = b""
            if not chunk:
                raise UnreachableError(f"the node at {self._path} closed the connection")
            self._held += chunk
        answer = jsonrpc.decode_answer(bytes(self._held[:end]))
        del self._held[: end + 1]
        if answer.id != id and answer.id is not None:
            raise MalformedError(f"an answer to request {answer.id!r}, not to {id}")
        return answer


class Client:
    """Made by ``connect``. Calls may run concurrently; each waits for its own answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slots = trio.Semaphore(CONNECTIONS)
        self._idle: list[_Connection] = []
        self._last_id = 0

    async def call(
        self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 30.0
    ) -> Any:
        """The result of a method.

        Raises what the method raised, ``UnreachableError`` if the node is gone, ``DeadlineError``
        after ``timeout_s`` seconds; then, as after a cancellation, it may still have happened.
        """
        request = self._request(method, params)
        with trio.move_on_after(timeout_s):
            async with self._slots:
                return await self._exchange(request)
        raise DeadlineError(f"the node at {self._path} did not answer within {timeout_s:g} s")

    async def _exchange(self, request: Request) -> Any:
        connection = self._idle.pop() if self._idle else await self._open()
        is_clean = False
        try:
            await connection.send(request)
            answer = await connection.receive(_id(request))
            is_clean = isinstance(answer, Reply) and answer.id is not None
        finally:
            # A connection with an answer still to come is of no use to the next call.
            if is_clean:
                self._idle.append(connection)
            else:
                await trio.aclose_forcefully(connection.stream)
        if not isinstance(answer, Reply):
            raise MalformedError(f"{request.method!r} is a stream: use stream()")
        if answer.error is not None:
            raise answer.error
        return answer.result

    async def stream(
        self, method: str, params: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Any, None]:
        """The events of a streaming method, on a connection of their own, until either side ends.

        Close it (``contextlib.aclosing``) when leaving before the end. Read on, or the node cuts
        it off.
        """
        request = self._request(method, params)
        connection = await self._open()
        try:
            await connection.send(request)
            while isinstance(answer := await connection.receive(_id(request)), Event):
                yield answer.item
            if answer.error is not None:
                raise answer.error
        finally:
            await trio.aclose_forcefully(connection.stream)

    def _request(self, method: str, params: Mapping[str, Any] | None) -> Request:
        self._last_id += 1
        return Request(self._last_id, method, params or {})

    async def _open(self) -> _Connection:
        try:
            with short(self._path) as name:
                return _Connection(await trio.open_unix_socket(name), self._path)
        except OSError as error:
            reason = error.strerror or error
            raise UnreachableError(f"no node answers at {self._path}: {reason}") from None

    async def _start(self) -> None:
        self._idle.append(await self._open())

    async def _close(self) -> None:
        for connection in self._idle:
            await trio.aclose_forcefully(connection.stream)
        self._idle.clear()


def _id(request: Request) -> int:
    assert type(request.id) is int
    return request.id


@asynccontextmanager
async def connect(path: Path) -> AsyncIterator[Client]:
    """A client of the node that listens at ``path``. Raises ``UnreachableError`` if none does."""
    client = Client(path)
    await client._start()
    try:
        yield client
    finally:
        with trio.CancelScope(shield=True):
            await client._close()
