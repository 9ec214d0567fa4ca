"""JSON-RPC for an embedded chain on one port of this machine, over HTTP and WebSocket, as anvil's.

Served to whoever can reach the loopback interface; what it guards is worth nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import h11
import trio
import wsproto.utilities
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection
from trio_websocket import wrap_server_stream as wrap_websocket

from orrange_p2p.core.errors import PortInUseError
from orrange_p2p.devnet.bitcoin import BitcoinNode
from orrange_p2p.devnet.embedded import EmbeddedChain, RpcError

__all__ = ["open_bitcoin", "open_embedded"]

HOST: Final = "127.0.0.1"
MAX_REQUEST_BYTES: Final = 4 << 20
MAX_CONNECTIONS: Final = 256
_READ_BYTES: Final = 65536
_IDLE_S: Final = 300.0
_CLOSE_S: Final = 1.0
_BROKEN: Final = (
    *(ConnectionClosed, HandshakeError, trio.BrokenResourceError, trio.ClosedResourceError),
    *(h11.ProtocolError, wsproto.utilities.ProtocolError, UnicodeDecodeError),
)
"""A client that left, or speaks something else."""


class _Replayed(trio.abc.Stream):
    """A stream of which the beginning was read to see what it is."""

    def __init__(self, beginning: bytes, rest: trio.SocketStream) -> None:
        self._beginning = beginning
        self._rest = rest

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        beginning, self._beginning = self._beginning, b""
        return beginning or bytes(await self._rest.receive_some(max_bytes))

    async def send_all(self, data: bytes | memoryview) -> None:
        await self._rest.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._rest.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._rest.aclose()


class _Chain(Protocol):
    """What is served: either chain of this room."""

    @property
    def head(self) -> int: ...
    def block(self, number: int) -> dict[str, Any]: ...
    def answer(self, method: str, params: list[Any]) -> Any: ...
    def mine(self) -> str: ...


class _Server:
    """One chain and its clients."""

    def __init__(self, chain: _Chain, block_time_s: float | None) -> None:
        self._chain = chain
        self._block_time_s = block_time_s
        self._turn = trio.CapacityLimiter(1)
        """The chain is computed in one thread, so that it does not hold up its clients."""
        self._connections = trio.CapacityLimiter(MAX_CONNECTIONS)
        self._grown = trio.Event()
        """Set, and replaced, when there is a new block."""

    async def keep_mining(self) -> None:
        while self._block_time_s is not None:
            await trio.sleep(self._block_time_s)
            await self._computed(self._chain.mine)

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, whatever it speaks."""
        async with self._connections, stream:
            try:
                beginning = bytes(await stream.receive_some(_READ_BYTES))
                if beginning.startswith(b"GET "):
                    await self._serve_websocket(_Replayed(beginning, stream))
                elif beginning:
                    await self._serve_http(_Replayed(beginning, stream))
            except _BROKEN:
                pass

    async def _serve_http(self, stream: _Replayed) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            body = bytearray()
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    with trio.move_on_after(_IDLE_S) as idle:
                        connection.receive_data(await stream.receive_some(_READ_BYTES))
                    if idle.cancelled_caught:
                        return
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > MAX_REQUEST_BYTES:
                        return
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif not isinstance(event, h11.Request):
                    return
            answer = await self._reply(bytes(body), None)
            headers = [("content-type", "application/json"), ("content-length", str(len(answer)))]
            await stream.send_all(
                (connection.send(h11.Response(status_code=200, headers=headers)) or b"")
                + (connection.send(h11.Data(data=answer)) or b"")
                + (connection.send(h11.EndOfMessage()) or b"")
            )
            if connection.our_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _serve_websocket(self, stream: _Replayed) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_websocket(nursery, stream, max_message_size=MAX_REQUEST_BYTES)
            socket = await request.accept()
            try:
                while True:
                    message = await socket.get_message()
                    octets = message if isinstance(message, bytes) else message.encode()
                    answer = await self._reply(octets, (socket, nursery))
                    await socket.send_message(answer.decode())
            except ConnectionClosed:
                nursery.cancel_scope.cancel()

    async def _reply(
        self, message: bytes, client: tuple[WebSocketConnection, trio.Nursery] | None
    ) -> bytes:
        number: Any = None
        try:
            call = json.loads(message)
            number, method, params = call["id"], call["method"], call.get("params") or []
            if method == "eth_subscribe" and client is not None and params == ["newHeads"]:
                client[1].start_soon(self._tell_heads, client[0])
                result: Any = "0x1"
            else:
                result = await self._answer(method, params)
        except RpcError as error:
            failure = {"code": error.code, "message": error.message}
            if error.data is not None:
                failure["data"] = error.data
            return json.dumps({"jsonrpc": "2.0", "id": number, "error": failure}).encode()
        except (ValueError, TypeError, KeyError, RecursionError):
            failure = {"code": -32600, "message": "not a JSON-RPC request"}
            return json.dumps({"jsonrpc": "2.0", "id": number, "error": failure}).encode()
        return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()

    async def _answer(self, method: str, params: list[Any]) -> Any:
        return await self._computed(lambda: self._chain.answer(method, params))

    async def _computed(self, call: Callable[[], Any]) -> Any:
        head = self._chain.head
        try:
            return await trio.to_thread.run_sync(call, limiter=self._turn)
        finally:
            if self._chain.head != head:
                self._grown.set()
                self._grown = trio.Event()

    async def _tell_heads(self, socket: WebSocketConnection) -> None:
        try:
            while True:
                await self._grown.wait()
                head = self._chain.block(self._chain.head)
                params = {"subscription": "0x1", "result": head}
                notice = {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
                await socket.send_message(json.dumps(notice))
        except ConnectionClosed:
            pass


@asynccontextmanager
async def open_embedded(
    number: int, *, port: int = 0, block_time_s: float | None = None
) -> AsyncIterator[int]:
    """A chain for as long as the block lasts, and the port it listens on (0: any free one).

    Blocks are mined every ``block_time_s`` seconds; None: with each transaction.
    """
    chain = await trio.to_thread.run_sync(
        lambda: EmbeddedChain(number, mines_at_once=block_time_s is None)
    )
    async with _served(chain, port, block_time_s) as opened:
        yield opened


@asynccontextmanager
async def open_bitcoin(
    *, port: int = 0, block_time_s: float | None = None, mines_at_once: bool = True, time_s: int = 0
) -> AsyncIterator[int]:
    """A Bitcoin regtest chain, likewise. ``mines_at_once`` False and no ``block_time_s``: blocks
    come when they are asked for. ``time_s``: its clock at the start; 0: the machine's."""
    at_once = mines_at_once and block_time_s is None
    chain = await trio.to_thread.run_sync(lambda: BitcoinNode(mines_at_once=at_once, time_s=time_s))
    try:
        async with _served(chain, port, block_time_s) as opened:
            yield opened
    finally:
        chain.close()


@asynccontextmanager
async def _served(chain: _Chain, port: int, block_time_s: float | None) -> AsyncIterator[int]:
    server = _Server(chain, block_time_s)
    try:
        listeners = await trio.open_tcp_listeners(port, host=HOST)
    except OSError as error:
        raise PortInUseError(
            f"{HOST} port {port} cannot be listened on: {error.strerror}"
        ) from None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        nursery.start_soon(server.keep_mining)
        yield int(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()
