"""Endpoints that lie are found out; endpoints that send rubbish cost a failover, nothing more."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from evm_chains import CHAIN, Line, Tampered, anvil, chain_on, honest, mine, pay, rpc
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from orrange_p2p.chains.evm.answers import MAX_ANSWER_BYTES
from orrange_p2p.chains.evm.chain import open_evm_chain
from orrange_p2p.chains.evm.config import EvmConfig, check_url, shown_url
from orrange_p2p.chains.evm.websocket import WebSocketEndpoint
from orrange_p2p.core.errors import (
    ConfigError,
    DeadlineError,
    DisagreementError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.ports.chain import IntentState
from orrange_p2p.store.intents_memory import MemoryIntents

Tamper = Callable[[str, list[Any], Any], Any]


def of_another_chain(method: str, params: list[Any], answer: Any) -> Any:
    return "0x1" if method == "eth_chainId" else answer


def with_another_genesis(method: str, params: list[Any], answer: Any) -> Any:
    if method == "eth_getBlockByNumber" and params[0] == "0x0":
        return {**answer, "hash": "0x" + "66" * 32}
    return answer


def with_another_final_block(method: str, params: list[Any], answer: Any) -> Any:
    if method == "eth_getBlockByNumber" and params[0] not in ("latest", "finalized", "0x0"):
        return answer and {**answer, "hash": "0x" + "66" * 32}
    return answer


async def test_one_of_another_chain_is_not_used() -> None:
    async with anvil() as port:
        endpoints = [Tampered(port, of_another_chain), Tampered(port, honest)]
        async with chain_on(endpoints=list(endpoints)) as chain:
            await chain.submit(pay("rent"))
            await mine(port, 3)
            assert (await chain.wait("rent", timeout_s=5)).state is IntentState.FINAL
            (alarm,) = chain.alarms()
            assert "serves chain 1, not 31337" in alarm
            asked = endpoints[0].asked
            await chain.head()
            assert endpoints[0].asked == asked


async def test_one_of_another_genesis_is_not_used_once_the_first_is_known() -> None:
    store = MemoryIntents()
    async with anvil() as port:
        async with chain_on(endpoints=[Tampered(port, honest)], store=store) as chain:
            await chain.finalized()
        endpoints = [Tampered(port, with_another_genesis), Tampered(port, honest)]
        async with chain_on(endpoints=list(endpoints), store=store) as chain:
            await chain.head()
            (alarm,) = chain.alarms()
            assert "another first block" in alarm


async def test_two_that_have_different_first_blocks_are_both_not_believed() -> None:
    async with anvil() as port:
        endpoints = [Tampered(port, with_another_genesis), Tampered(port, honest)]
        async with chain_on(endpoints=list(endpoints)) as chain:
            with pytest.raises(DisagreementError, match=r"correct node\.toml"):
                await chain.head()
            assert len(chain.alarms()) == 2
            with pytest.raises(DisagreementError):
                await chain.submit(pay("rent"))


async def test_who_is_outvoted_on_a_final_block_is_not_used() -> None:
    async with anvil() as port:
        await mine(port, 5)
        liar = Tampered(port, with_another_final_block)
        endpoints = [liar, Tampered(port, honest), Tampered(port, honest)]
        async with chain_on(endpoints=list(endpoints)) as chain:
            final = await chain.finalized()
            block = await rpc(port, "eth_getBlockByNumber", hex(final.number), False)
            assert final.hash == bytes.fromhex(block["hash"][2:])
            (alarm,) = chain.alarms()
            assert liar.url in alarm
            assert "contradicts" in alarm


async def test_without_a_majority_nobody_is_believed() -> None:
    async with anvil() as port:
        await mine(port, 5)
        endpoints = [Tampered(port, with_another_final_block), Tampered(port, honest)]
        async with chain_on(endpoints=list(endpoints)) as chain:
            with pytest.raises(DisagreementError):
                await chain.finalized()


class AnchorHeldBack:
    """An honest endpoint whose first answer about one block comes only when it is let go."""

    url = "http://held-back.invalid"

    def __init__(self, port: int, number: int) -> None:
        self._port = port
        self._held = hex(number)
        self.is_asked = trio.Event()
        self.may_answer = trio.Event()

    async def request(self, method: str, params: list[Any]) -> Any:
        answer = await rpc(self._port, method, *params)
        if params[:1] == [self._held] and not self.is_asked.is_set():
            self.is_asked.set()
            await self.may_answer.wait()
        return answer


async def test_an_anchor_that_moves_while_an_endpoint_is_checked_costs_it_nothing() -> None:
    """Two questions check a new endpoint at once; the first's answer moves the anchor on."""
    store = MemoryIntents()
    async with anvil() as port:
        await mine(port, 5)
        async with chain_on(endpoints=[Tampered(port, honest)], store=store) as chain:
            anchor = await chain.finalized()
        await mine(port, 5)
        endpoint = AnchorHeldBack(port, anchor.number)
        async with chain_on(endpoints=[endpoint], store=store) as chain:
            # The chain's own look at the head is the question that is held back.
            await endpoint.is_asked.wait()
            assert (await chain.finalized()).number > anchor.number
            endpoint.may_answer.set()
            await mine(port)
            while chain.looked_at < anchor.number and not chain.alarms():  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert chain.alarms() == []


async def test_who_changes_what_was_final_is_not_used() -> None:
    async with anvil() as port:
        await mine(port, 5)
        endpoints = [Tampered(port, honest)]
        store = MemoryIntents()
        async with chain_on(endpoints=list(endpoints), store=store) as chain:
            await chain.finalized()
        endpoints = [Tampered(port, with_another_final_block)]
        async with chain_on(endpoints=list(endpoints), store=store) as chain:
            with pytest.raises(WorldError):
                await chain.head()
            assert "which was final" in chain.alarms()[0]


async def test_one_that_calls_blocks_final_too_early_moves_nothing() -> None:
    def hasty(method: str, params: list[Any], answer: Any) -> Any:
        return latest if params[:1] == ["finalized"] else answer

    async with anvil() as port:
        await mine(port, 5)
        latest = await rpc(port, "eth_getBlockByNumber", "latest", False)
        endpoints = [Tampered(port, hasty), Tampered(port, honest)]
        async with chain_on(endpoints=list(endpoints)) as chain:
            assert (await chain.finalized()).number == 3


async def test_where_the_tag_is_not_known_depth_decides() -> None:
    def without_tag(method: str, params: list[Any], answer: Any) -> Any:
        return None if params[:1] == ["finalized"] else answer

    async with anvil() as port:
        await mine(port, 9)
        async with chain_on(endpoints=[Tampered(port, without_tag)], finality_depth=7) as chain:
            assert (await chain.finalized()).number == 2


async def test_a_receipt_that_one_endpoint_made_up_settles_nothing() -> None:
    def forged(method: str, params: list[Any], answer: Any) -> Any:
        if method == "eth_getTransactionReceipt" and answer is not None:
            return {**answer, "status": "0x0"}
        return answer

    async with anvil() as port:
        endpoints = [Tampered(port, forged), Tampered(port, honest), Tampered(port, honest)]
        async with chain_on(endpoints=list(endpoints)) as chain:
            await chain.submit(pay("rent"))
            await mine(port, 3)
            assert (await chain.wait("rent", timeout_s=5)).state is IntentState.FINAL
            assert len(chain.alarms()) == 1


# --- rubbish ---

RUBBISH = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'{"id":1}',
    b'{"id":1,"result":null}',
    b'{"id":1,"result":{"number":"0x1","hash":"0x2"}}',
    b'{"id":1,"error":7}',
    b'{"id":[1],"result":"0x1"}',
    b'{"id":1e999,"result":"0x1"}',
    b"[" * 200_000,
    b"\xff\xfe\x00",
    b"9" * 5000,
]


async def test_rubbish_over_http_costs_a_failover() -> None:
    async with anvil() as port, trio.open_nursery() as nursery:
        for rubbish in RUBBISH:
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(rubbish)
            front = await answering(nursery, head + rubbish)
            await fails(f"http://127.0.0.1:{front}")
        for raw in (
            b"",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ):
            front = await answering(nursery, raw)
            await fails(f"http://127.0.0.1:{front}")
        await fails_over(f"http://127.0.0.1:{await answering(nursery, b'garbage')}", port)
        nursery.cancel_scope.cancel()


async def test_rubbish_over_websocket_costs_a_failover() -> None:
    async with anvil() as port, trio.open_nursery() as nursery:
        for rubbish in RUBBISH:
            front = await speaking(nursery, rubbish)
            await fails(f"ws://127.0.0.1:{front}")
        for raw in (
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nforbidden",
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: \x89pgrade\r\n\r\n",
            b"\x00" * 1000,
        ):
            front = await answering(nursery, raw)
            await fails(f"ws://127.0.0.1:{front}")
        await fails_over(f"ws://127.0.0.1:{await speaking(nursery, b'garbage')}", port)
        nursery.cancel_scope.cancel()


async def test_an_answer_without_end_is_cut_off() -> None:
    piece = b"x" * 65536

    async def http(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(2 * MAX_ANSWER_BYTES // len(piece)):
            await stream.send_all(piece)

    async with trio.open_nursery() as nursery:
        endless = await listening(nursery, http)
        big = await speaking(nursery, b"x" * (MAX_ANSWER_BYTES + 1))
        for url in (f"http://127.0.0.1:{endless}", f"ws://127.0.0.1:{big}"):
            tracemalloc.start()
            config = EvmConfig(CHAIN, (url,), poll_interval_ms=60_000)
            async with open_evm_chain(config, MemoryIntents()) as chain:
                with pytest.raises(UnreachableError, match=f"more than {MAX_ANSWER_BYTES} bytes"):
                    await chain.head()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 8 * MAX_ANSWER_BYTES
        nursery.cancel_scope.cancel()


async def test_silence_ends_at_its_deadline() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        port = await listening(nursery, silent)
        for url in (f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"):
            config = EvmConfig(CHAIN, (url,), timeout_ms=50, poll_interval_ms=60_000)
            async with open_evm_chain(config, MemoryIntents()) as chain:
                with pytest.raises((DeadlineError, UnreachableError)):
                    await chain.head()
        nursery.cancel_scope.cancel()


async def test_answers_are_told_apart_and_late_ones_find_nobody() -> None:
    """One socket, two questions: the second answer first, then both again."""

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        calls = [json.loads(await socket.get_message()) for _ in range(2)]
        await socket.send_message('{"method":"eth_subscription","params":{}}')
        for call in (*reversed(calls), *calls):
            await socket.send_message(json.dumps({"id": call["id"], "result": call["method"]}))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        port = await serving(nursery, serve)
        endpoint = WebSocketEndpoint(f"ws://127.0.0.1:{port}", 5, nursery)
        answers = {}

        async def ask(method: str) -> None:
            answers[method] = await endpoint.request(method, [])

        async with trio.open_nursery() as asking:
            asking.start_soon(ask, "a")
            asking.start_soon(ask, "b")
        assert answers == {"a": "a", "b": "b"}
        nursery.cancel_scope.cancel()


async def test_a_broken_socket_is_opened_again() -> None:
    async with anvil() as port, trio.open_nursery() as nursery:
        line = Line(port, nursery)
        front = await line.open()
        endpoint = WebSocketEndpoint(f"ws://127.0.0.1:{front}", 5, nursery)
        assert await endpoint.request("eth_chainId", []) == "0x7a69"
        line.cut()
        with pytest.raises(UnreachableError):
            await endpoint.request("eth_chainId", [])
        await line.open(front)
        assert await endpoint.request("eth_chainId", []) == "0x7a69"
        nursery.cancel_scope.cancel()


def test_urls_are_checked_and_their_secrets_not_shown() -> None:
    assert check_url("wss://host.example/v3/key") == "wss://host.example/v3/key"
    assert shown_url("wss://user:secret@host.example:1/v3/key") == "wss://host.example:1"
    for url in ("", "ftp://x", "http://", "ws:// x", "127.0.0.1:8545"):
        with pytest.raises(ConfigError, match="is not an endpoint"):
            check_url(url)


# --- servers that misbehave ---


async def fails(url: str) -> None:
    """Whatever it says is one of our errors."""
    config = EvmConfig(CHAIN, (url,), timeout_ms=200, poll_interval_ms=60_000)
    async with open_evm_chain(config, MemoryIntents()) as chain:
        with pytest.raises(WorldError):
            await chain.head()


async def fails_over(url: str, good_port: int) -> None:
    """It is asked first, and the other answers."""
    config = EvmConfig(CHAIN, (url, f"http://127.0.0.1:{good_port}"))
    async with open_evm_chain(config, MemoryIntents()) as chain:
        assert (await chain.head()).number == 0


async def listening(
    nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[None]]
) -> int:
    async def handle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await handler(stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, handle, [listener])
    return int(listener.socket.getsockname()[1])


async def answering(nursery: trio.Nursery, raw: bytes) -> int:
    """Says the same to whoever connects."""

    async def handler(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(raw)

    return await listening(nursery, handler)


async def serving(
    nursery: trio.Nursery, handler: Callable[[WebSocketRequest], Awaitable[None]]
) -> int:
    server = await nursery.start(serve_websocket, handler, "127.0.0.1", 0, None)
    return int(server.port)


async def speaking(nursery: trio.Nursery, message: bytes) -> int:
    """A WebSocket server that answers the same to every message."""

    async def handler(request: WebSocketRequest) -> None:
        socket = await request.accept()
        try:
            while True:
                await socket.get_message()
                await socket.send_message(message)
        except ConnectionClosed:
            pass

    return await serving(nursery, handler)
