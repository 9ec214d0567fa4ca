"""Real chains to test on, and endpoints that misbehave on purpose."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import trio

from orrange_p2p.chains.evm import answers
from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.chains.evm.config import EvmConfig
from orrange_p2p.chains.evm.endpoints import Endpoint
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.crypto.hashes import keccak256
from orrange_p2p.devnet.anvil import anvil_program, open_anvil
from orrange_p2p.ports.chain import Intent, IntentStore
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.intents_memory import MemoryIntents

NUMBER = 31337
CHAIN = f"eip155:{NUMBER}"
ALICE = MemorySigner(
    bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
)
"""Holds 10,000 coins on every anvil chain."""
BOB = Address(b"\xb0" * 20)
GWEI = 10**9

ANSWER_CODE = bytes.fromhex("67602a5f5260205ff35f5260086018f3")
"""Deploys a contract that answers 42 to everything."""
REFUSER_CODE = bytes.fromhex("6b63deadbeef5f526004601cfd5f52600c6014f3")
"""Deploys a contract that refuses everything with 0xdeadbeef."""
LOGGER_CODE = bytes.fromhex("655f355f5fa1005f526006601af3")
"""Deploys a contract that emits one log, with the first 32 bytes it is called with as topic."""


def pay(name: str, value: int = 7, to: Address = BOB) -> Intent:
    return Intent(name, ALICE.address, to, value=Amount(value))


@asynccontextmanager
async def anvil(
    number: int = NUMBER, *options: str, port: int = 0, slots_in_epoch: int = 1
) -> AsyncIterator[int]:
    if anvil_program() is None:
        pytest.skip("no anvil: `make setup` installs it where there is npm")
    async with open_anvil(
        number, options=options, port=port, slots_in_epoch=slots_in_epoch
    ) as port:
        yield port


async def rpc(port: int, method: str, *params: Any) -> Any:
    """A request past the code under test, but for what it makes of errors."""
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return answers.result((await client.post(f"http://127.0.0.1:{port}", json=call)).json())


async def receipt(port: int, name: str, seconds: float = 10) -> Any:
    """Of a transaction that is in a block soon: anvil mines only after it has answered."""
    with trio.fail_after(seconds):
        while (found := await rpc(port, "eth_getTransactionReceipt", name)) is None:  # noqa: ASYNC110
            await trio.sleep(0.01)
    return found


async def mine(port: int, blocks: int = 1) -> None:
    await rpc(port, "anvil_mine", hex(blocks))


def config(*ports: int, chain: str = CHAIN, **changes: Any) -> EvmConfig:
    endpoints = tuple(f"ws://127.0.0.1:{port}" for port in ports)
    return EvmConfig(chain, endpoints, poll_interval_ms=20, timeout_ms=5_000, **changes)


@asynccontextmanager
async def chain_on(
    *ports: int,
    store: IntentStore | None = None,
    endpoints: list[Endpoint] | None = None,
    **changes: Any,
) -> AsyncIterator[EvmChain]:
    async with open_evm_chain(
        config(*ports, **changes), store or MemoryIntents(), [ALICE], endpoints=endpoints
    ) as chain:
        yield chain


class Tampered:
    """An endpoint whose answers pass through a function of method, parameters and answer."""

    _numbers = itertools.count()

    def __init__(self, port: int, tamper: Callable[[str, list[Any], Any], Any]) -> None:
        self.url = f"http://tampered-{next(self._numbers)}.invalid"
        self._port = port
        self.tamper = tamper
        self.asked = 0

    async def request(self, method: str, params: list[Any]) -> Any:
        self.asked += 1
        return self.tamper(method, params, await rpc(self._port, method, *params))


class Line:
    """A TCP port in front of another, which can be cut and opened again."""

    def __init__(self, port: int, nursery: trio.Nursery) -> None:
        self._port = port
        self._nursery = nursery
        self._scope = trio.CancelScope()

    async def open(self, port: int = 0) -> int:
        """Its port."""
        self._scope = trio.CancelScope()
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self._nursery.start_soon(self._serve, listeners, self._scope)
        return int(listeners[0].socket.getsockname()[1])

    def cut(self) -> None:
        self._scope.cancel()

    async def _serve(self, listeners: list[trio.SocketListener], scope: trio.CancelScope) -> None:
        with scope:
            await trio.serve_listeners(self._carry, listeners)

    async def _carry(self, near: trio.SocketStream) -> None:
        async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for data in source:
                    await sink.send_all(data)
            nursery.cancel_scope.cancel()

        async with (
            await trio.open_tcp_stream("127.0.0.1", self._port) as far,
            near,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(copy, near, far)
            nursery.start_soon(copy, far, near)


def created_by(sender: Address, nonce: int) -> Address:
    """Where a sender's transaction with a nonce below 128 puts the contract that it creates."""
    return Address(keccak256(b"\xd6\x94" + sender + bytes((nonce or 0x80,)))[12:])


def honest(method: str, params: list[Any], answer: Any) -> Any:
    return answer


async def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait for something that no event tells of."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)
