"""One endpoint over WebSocket: requests share a socket, answers come in any order.

The socket is opened when it is needed and again after it broke; whoever asks too often for a
dead one is ``endpoints``' business, which waits longer each time.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import h11
import trio
import wsproto.utilities
from trio_websocket import (
    ConnectionClosed,
    HandshakeError,
    WebSocketConnection,
    open_websocket_url,
)

from orrange_p2p.chains.evm import answers
from orrange_p2p.chains.evm.answers import MAX_ANSWER_BYTES
from orrange_p2p.core.errors import (
    DeadlineError,
    MalformedError,
    OversizedError,
    PeerError,
    UnreachableError,
    WorldError,
)

__all__ = ["WebSocketEndpoint", "heads"]

MAX_PENDING: Final = 32
"""Requests on the way at one time; more wait for their turn within their own deadline."""
_QUEUE: Final = 4
"""Messages that trio-websocket reads ahead; each may be as large as an answer may be."""
_CLOSE_S: Final = 1.0
_TOO_BIG: Final = 1009
_BROKEN: Final = (
    *(HandshakeError, ConnectionClosed, OSError, trio.BrokenResourceError),
    # What trio-websocket lets through when the handshake is answered by rubbish.
    *(h11.ProtocolError, wsproto.utilities.ProtocolError, UnicodeDecodeError),
)


class _Waiter:
    """One request on the way."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.answer: dict[str, Any] = {}
        self.failure: WorldError | PeerError | None = None


class _Connection:
    """One open socket and the requests on it."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._waiting: dict[int, _Waiter] = {}
        self._last_id = 0
        self.is_open = True

    async def request(self, method: str, params: list[Any]) -> Any:
        """The result, as JSON."""
        self._last_id += 1
        number, waiter = self._last_id, _Waiter()
        self._waiting[number] = waiter
        try:
            await self._socket.send_message(_encoded(number, method, params))
            await waiter.done.wait()
        except ConnectionClosed:
            raise UnreachableError("the connection was closed") from None
        finally:
            self._waiting.pop(number, None)
        if waiter.failure is not None:
            raise waiter.failure
        return answers.result(waiter.answer)

    async def listen(self) -> None:
        """Hand answers out until the socket ends or brings what is no answer."""
        failure: WorldError | PeerError = UnreachableError("the connection was closed")
        try:
            while True:
                message = answers.parse(await self._socket.get_message())
                if not isinstance(message, dict):
                    raise MalformedError("the endpoint's message is no object")
                number = message.get("id")
                if type(number) is not int or not 0 < number <= self._last_id:
                    if "method" in message:
                        continue  # a notice, though we have asked for none here
                    raise MalformedError("the endpoint answers what was not asked")
                # An answer that came after its deadline finds nobody waiting.
                if (waiter := self._waiting.pop(number, None)) is not None:
                    waiter.answer = message
                    waiter.done.set()
        except ConnectionClosed as error:
            if error.reason is not None and error.reason.code == _TOO_BIG:
                failure = OversizedError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        except MalformedError as error:
            failure = error
        finally:
            self.is_open = False
            for waiter in self._waiting.values():
                waiter.failure = failure
                waiter.done.set()
            self._waiting.clear()


class WebSocketEndpoint:
    """Its sockets live in ``nursery``, and end with it."""

    def __init__(self, url: str, timeout_s: float, nursery: trio.Nursery) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._nursery = nursery
        self._turns = trio.CapacityLimiter(MAX_PENDING)
        self._opening = trio.Lock()
        self._connection: _Connection | None = None

    async def request(self, method: str, params: list[Any]) -> Any:
        """The result as JSON. Raises ``UnreachableError``, ``DeadlineError``, ``RefusedError``,
        ``MalformedError``."""
        try:
            with trio.fail_after(self._timeout_s):
                async with self._turns:
                    connection = await self._connected()
                    return await connection.request(method, params)
        except trio.TooSlowError:
            raise DeadlineError(f"no answer within {self._timeout_s:g} s") from None

    async def _connected(self) -> _Connection:
        async with self._opening:
            connection = self._connection
            if connection is None or not connection.is_open:
                connection = self._connection = await self._nursery.start(self._run)
            assert connection is not None
            return connection

    async def _run(self, task_status: Any) -> None:
        """The life of one socket; its end is told to whoever waits on it, never raised here."""
        was_opened = False
        try:
            async with _socket(self.url, self._timeout_s) as socket:
                connection = _Connection(socket)
                was_opened = True
                task_status.started(connection)
                await connection.listen()
        except UnreachableError:
            if not was_opened:
                raise


@asynccontextmanager
async def heads(url: str, timeout_s: float) -> AsyncIterator[AsyncIterator[None]]:
    """Yields something whenever the endpoint says that there is a new head, on a second socket.

    What it says is not looked at: it is a hint to go and ask, so a liar gains nothing by it. The
    iteration ends with ``UnreachableError`` when the socket does.
    """
    async with _socket(url, timeout_s) as socket:

        async def hints() -> AsyncIterator[None]:
            try:
                await socket.send_message(_encoded(1, "eth_subscribe", ["newHeads"]))
                while True:
                    await socket.get_message()
                    yield
            except ConnectionClosed:
                raise UnreachableError("the connection was closed") from None

        yield hints()


@asynccontextmanager
async def _socket(url: str, timeout_s: float) -> AsyncIterator[WebSocketConnection]:
    """Every way in which a socket fails is an ``UnreachableError``."""
    try:
        async with open_websocket_url(
            url,
            message_queue_size=_QUEUE,
            max_message_size=MAX_ANSWER_BYTES,
            connect_timeout=timeout_s,
            disconnect_timeout=_CLOSE_S,
        ) as socket:
            yield socket
    except _BROKEN as error:
        raise UnreachableError(f"no connection: {type(error).__name__}") from None


def _encoded(number: int, method: str, params: list[Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
