"""The chains of `orrange devnet`: the embedded one does to a node what anvil does."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "chains"))

from evm_chains import (
    ALICE,
    ANSWER_CODE,
    BOB,
    GWEI,
    LOGGER_CODE,
    REFUSER_CODE,
    anvil,
    chain_on,
    config,
    created_by,
    pay,
    rpc,
)

from orrange_p2p.bench.one_market import one_market
from orrange_p2p.chains.evm import erc20, settlement
from orrange_p2p.chains.evm.chain import open_evm_chain
from orrange_p2p.chains.evm.fees import Offer
from orrange_p2p.chains.evm.transactions import Transaction, sign
from orrange_p2p.core.errors import PortInUseError, RefusedError, RevertedError
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Amount
from orrange_p2p.crypto.hashes import keccak256
from orrange_p2p.devnet.accounts import accounts
from orrange_p2p.devnet.anvil import anvil_program
from orrange_p2p.devnet.bank import open_bank
from orrange_p2p.devnet.chains import KINDS, open_chains
from orrange_p2p.devnet.contracts import BASE, HASH_TIMELOCK, QUOTE, REGISTRY, SETTLEMENT
from orrange_p2p.devnet.embedded import EmbeddedChain, RpcError
from orrange_p2p.devnet.rpc_server import open_embedded
from orrange_p2p.ports.chain import Cursor, Intent, IntentState, LogFilter, Logs
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.intents_memory import MemoryIntents

Open = Callable[[], AbstractAsyncContextManager[int]]


@pytest.fixture(params=["embedded", "anvil"])
def opened(request: pytest.FixtureRequest) -> Open:
    return anvil if request.param == "anvil" else lambda: open_embedded(31337)


async def test_an_intent_becomes_final_and_costs_what_it_says(opened: Open) -> None:
    async with opened() as port, chain_on(port) as chain:
        before = await chain.balance(ALICE.address)
        assert before == 10_000 * 10**18
        await chain.submit(pay("rent"))
        await chain.wait("rent", confirmations=1, timeout_s=5)
        for _ in range(2):
            await rpc(port, "evm_mine")
        status = await chain.wait("rent", timeout_s=5)
        assert (status.state, status.attempts) == (IntentState.FINAL, 1)
        assert await chain.balance(BOB) == 7
        assert await chain.balance(ALICE.address) == before - 7 - status.fee_wei
        assert (await chain.finalized()).number == 1


async def test_contracts_answer_refuse_and_log(opened: Open) -> None:
    async with opened() as port, chain_on(port) as chain:
        for name, code in (("a", ANSWER_CODE), ("r", REFUSER_CODE), ("l", LOGGER_CODE)):
            await chain.submit(Intent(name, ALICE.address, None, code))
        answerer, refuser, logger = (created_by(ALICE.address, nonce) for nonce in range(3))
        await chain.wait("l", confirmations=1, timeout_s=5)
        assert await chain.call(answerer, b"") == (42).to_bytes(32, "big")
        with pytest.raises(RevertedError) as reverted:
            await chain.call(refuser, b"")
        assert reverted.value.data == bytes.fromhex("deadbeef")
        with pytest.raises(RevertedError):
            await chain.submit(pay("x", to=refuser))
        with pytest.raises(RefusedError):
            await chain.submit(pay("fortune", 10**30))
        failing = Intent("f", ALICE.address, refuser, gas_limit=50_000)
        await chain.submit(failing)
        assert (await chain.wait("f", confirmations=1, timeout_s=5)).reverted
        for number in range(3):
            await chain.submit(
                Intent(f"log {number}", ALICE.address, logger, bytes((number,)) * 32)
            )
        await chain.wait("log 2", confirmations=1, timeout_s=5)  # anvil answers before it mines
        seen: list[int] = []
        head = (await chain.head()).number
        async with aclosing(chain.follow(LogFilter((logger,)), 0)) as steps:
            cursor: Cursor | None = None
            with trio.fail_after(10):
                while cursor is None or cursor.number < head:
                    step = await anext(steps)
                    assert isinstance(step, Logs)
                    cursor = step.cursor
                    seen += [log.topics[0][0] for log in step.logs]
        assert seen == [0, 1, 2]


async def test_many_clients_share_it(opened: Open) -> None:
    """Over both transports at once, with a key each."""
    done = []

    async def client(number: int) -> None:
        signer = MemorySigner(accounts()[number].secret)
        async with open_evm_chain(config(port), MemoryIntents(), [signer]) as chain:
            for part in range(3):
                name = f"{number} {part}"
                await chain.submit(Intent(name, signer.address, BOB, value=Amount(1)))
                await chain.wait(name, confirmations=1, timeout_s=10)
            done.append(number)

    async with opened() as port:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(client, number)
            for _ in range(10):
                assert await rpc(port, "eth_chainId") == "0x7a69"
        assert int(await rpc(port, "eth_getBalance", "0x" + BOB.hex(), "latest"), 16) == 12
    assert sorted(done) == [0, 1, 2, 3]


async def test_a_block_time_makes_blocks_without_transactions() -> None:
    async with (
        open_embedded(7, block_time_s=0.02) as port,
        chain_on(port, chain="eip155:7") as chain,
    ):
        await chain.submit(pay("rent"))
        assert (await chain.wait("rent", timeout_s=10)).state is IntentState.FINAL


async def test_two_chains_are_two() -> None:
    async with open_chains("embedded", (5, 6), first_port=0, block_time_s=None) as chains:
        assert [one.chain for one in chains] == ["eip155:5", "eip155:6"]
        found = [int(await rpc(one.port, "eth_chainId"), 16) for one in chains]
        assert found == [5, 6]
        with pytest.raises(PortInUseError):
            async with open_chains("embedded", (5,), first_port=chains[0].port, block_time_s=None):
                pass


def test_logs_are_numbered_through_their_block() -> None:
    chain = EmbeddedChain(5, mines_at_once=False)
    logger = created_by(ALICE.address, 0)
    calls = [(None, LOGGER_CODE), *((logger, bytes((number,)) * 32) for number in range(3))]
    for nonce, (to, data) in enumerate(calls):
        offer = Offer(3 * GWEI, GWEI)
        _, raw = sign(Transaction(5, nonce, offer, 200_000, to, 0, data), ALICE)
        chain.answer("eth_sendRawTransaction", ["0x" + raw.hex()])
    chain.mine()
    names = chain.block(1)["transactions"]
    assert len(names) == 4
    logs = chain.answer("eth_getLogs", [{"fromBlock": "0x1", "toBlock": "0x1"}])
    assert [log["logIndex"] for log in logs] == ["0x0", "0x1", "0x2"]
    last = chain.answer("eth_getTransactionReceipt", [names[-1]])
    assert last["logs"] == logs[-1:]


# --- what lies on them ---


@pytest.mark.parametrize("kind", KINDS)
async def test_contracts_lie_where_a_genesis_can_name_them_before(kind: str) -> None:
    """On a chain that makes no block by itself, and whose number is not the usual one."""
    if kind == "anvil" and anvil_program() is None:
        pytest.skip("no anvil: `make setup` installs it where there is npm")
    names = [one.asset("eip155:5") for one in (BASE, QUOTE)]
    market = Market(*names, 1, 1, "atomic", "evm-evm", 1, 1, 1)
    genesis = attrs.evolve(one_market(market, 0), registry=REGISTRY)
    owner = MemorySigner(b"\x01" * 32)
    async with (
        open_chains(kind, [5], first_port=0, block_time_s=3600) as (chain,),
        open_bank(chain, [owner]) as bank,
        chain_on(chain.port, chain="eip155:5") as seen,
    ):
        deployed = await bank.deploy(genesis)
        assert list(deployed.values())[:3] == [BASE.address, QUOTE.address, HASH_TIMELOCK]
        assert (deployed["Registry"], deployed["Settlement"]) == (REGISTRY, SETTLEMENT)
        for address in deployed.values():
            assert len(await rpc(chain.port, "eth_getCode", f"0x{address.hex()}", "latest")) > 100
        assert await seen.call(SETTLEMENT, settlement.separator_call()) == genesis.separator
        await seen.submit(Intent("list", ALICE.address, SETTLEMENT, settlement.list_call(market)))
        await rpc(chain.port, "evm_mine")
        assert any(await seen.call(SETTLEMENT, settlement.listed_call(market.id)))
        assert await seen.call(REGISTRY, selector("token()")) == bytes(12) + QUOTE.address
        await bank.hand_out([owner.address], coins=Amount(10**18), base=Amount(7), quote=Amount(9))
        assert await bank.held(owner.address) == (7, 9)
        await bank.approve([owner.address], Amount(5))
        allowed = await seen.call(QUOTE.address, erc20.allowance_call(owner.address, SETTLEMENT))
        assert erc20.read_amount(allowed) == 5
        assert erc20.read_decimals(await seen.call(BASE.address, erc20.DECIMALS)) == BASE.decimals
        assert erc20.read_symbol(await seen.call(BASE.address, erc20.SYMBOL)) == BASE.symbol


def selector(signature: str) -> bytes:
    return keccak256(signature.encode())[:4]


# --- the embedded chain refuses what it does not know ---

CHAIN = EmbeddedChain(1)
parameter = (
    st.none() | st.integers() | st.text(max_size=10) | st.just({}) | st.just("0x" + "00" * 32)
)


@settings(max_examples=200)
@given(
    st.sampled_from([*CHAIN._methods, "eth_nothing"]).filter(lambda name: name != "evm_mine"),
    st.lists(parameter, max_size=3),
)
def test_any_request_is_answered_or_refused(method: str, params: list[Any]) -> None:
    with suppress(RpcError):
        json.dumps(CHAIN.answer(method, params))


async def test_what_is_no_request_is_refused() -> None:
    async with open_embedded(31337) as port:
        for raw in (
            b"garbage\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST / HTTP/9\r\n\r\n",
        ):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(raw)
                await stream.send_eof()
                with trio.fail_after(5):
                    while await stream.receive_some(65536):
                        pass
        assert await rpc(port, "eth_blockNumber") == "0x0"


def test_the_accounts_are_anvils() -> None:
    assert accounts()[0].secret == bytes.fromhex(
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    )
    assert accounts()[0].address == ALICE.address
    assert len({account.address for account in accounts()}) == 10


# --- the command ---


@asynccontextmanager
async def devnet(*options: str) -> AsyncIterator[tuple[trio.Process, dict[str, Any]]]:
    command = [sys.executable, "-m", "orrange_p2p.cli.main", "devnet", "--port", "0", *options]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        text = b""
        with trio.fail_after(30):
            while not text.endswith(b"\n"):
                text += await process.stdout.receive_some(65536)
        yield process, json.loads(text)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


@pytest.mark.parametrize(("kind", "stop"), [("embedded", signal.SIGINT), ("anvil", signal.SIGTERM)])
async def test_the_command_runs_until_it_is_stopped(kind: str, stop: signal.Signals) -> None:
    if kind == "anvil" and anvil_program() is None:
        pytest.skip("no anvil: `make setup` installs it where there is npm")
    numbers = ("--chain-id", "31337", "--chain-id", "31338")
    funded = ("--fund", f"0x{BOB.hex()}")
    async with devnet("--evm", kind, *numbers, *funded) as (process, told):
        assert [one["chain"] for one in told["chains"]] == ["eip155:31337", "eip155:31338"]
        deployed = [one["contracts"] for one in told["chains"]]
        assert deployed[0] == deployed[1]
        assert deployed[0]["tUSD"] == f"0x{QUOTE.address.hex()}"
        assert "Settlement" not in deployed[0]  # of no network yet
        ports = [int(one["ws"].rpartition(":")[2]) for one in told["chains"]]
        async with chain_on(ports[1], chain="eip155:31338") as chain:
            assert await chain.balance(BOB) == 100 * 10**18
            held = erc20.read_amount(await chain.call(BASE.address, erc20.balance_call(BOB)))
            assert held == 1_000_000 * 10**BASE.decimals
            await chain.submit(pay("rent"))
            await chain.wait("rent", confirmations=1, timeout_s=5)
        process.send_signal(stop)
        with trio.fail_after(10):
            assert await process.wait() == 0
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
