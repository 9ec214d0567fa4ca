"""The EVM adapter on a real anvil: what is sent happens once, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from evm_chains import (
    ALICE,
    ANSWER_CODE,
    BOB,
    CHAIN,
    GWEI,
    REFUSER_CODE,
    Line,
    Tampered,
    anvil,
    chain_on,
    created_by,
    mine,
    pay,
    rpc,
)

from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.chains.evm.config import EvmConfig
from orrange_p2p.core.errors import (
    CallerError,
    DeadlineError,
    RefusedError,
    RevertedError,
    UnreachableError,
)
from orrange_p2p.ports.chain import Intent, IntentState, IntentStatus, IntentStore
from orrange_p2p.store.intents_memory import MemoryIntents
from orrange_p2p.store.intents_sqlite import open_sqlite_intents

NO_MINING = ("--no-mining",)


async def test_an_intent_becomes_final() -> None:
    async with anvil() as port, chain_on(port) as chain:
        assert chain.chain_id == CHAIN
        sent = await chain.submit(pay("rent"))
        assert (sent.name, sent.nonce, sent.attempts) == ("rent", 0, 1)
        mined = await chain.wait("rent", confirmations=1, timeout_s=5)
        assert (mined.state, mined.tx_hash) == (IntentState.MINED, sent.tx_hash)
        assert await chain.balance(BOB) == 7
        assert await chain.submit(pay("rent")) == mined
        await mine(port, 3)
        final = await chain.wait("rent", timeout_s=5)
        assert (final.state, final.confirmations) == (IntentState.FINAL, 4)
        assert final.block == mined.block
        assert (await chain.balance(ALICE.address)) == 10_000 * 10**18 - 7 - final.fee_wei
        assert (await chain.finalized()).number == 2
        assert (await chain.head()).number == 4


async def test_http_alone_does_as_well() -> None:
    async with anvil() as port:
        config = EvmConfig(CHAIN, (f"http://127.0.0.1:{port}",), poll_interval_ms=20)
        async with open_evm_chain(config, MemoryIntents(), [ALICE]) as chain:
            await chain.submit(pay("rent"))
            await mine(port, 2)
            assert (await chain.wait("rent", timeout_s=5)).state is IntentState.FINAL


async def test_a_contract_is_made_and_called() -> None:
    async with anvil() as port, chain_on(port) as chain:
        await chain.submit(Intent("deploy", ALICE.address, None, ANSWER_CODE))
        await chain.wait("deploy", confirmations=1, timeout_s=5)
        assert await chain.call(created_by(ALICE.address, 0), b"") == (42).to_bytes(32, "big")


async def test_what_the_chain_would_refuse_leaves_no_trace() -> None:
    async with anvil() as port, chain_on(port) as chain:
        await chain.submit(Intent("deploy", ALICE.address, None, REFUSER_CODE))
        await chain.wait("deploy", confirmations=1, timeout_s=5)
        contract = created_by(ALICE.address, 0)
        with pytest.raises(RevertedError) as reverted:
            await chain.call(contract, b"")
        assert reverted.value.data == bytes.fromhex("deadbeef")
        with pytest.raises(RevertedError):
            await chain.submit(Intent("call", ALICE.address, contract, b"x"))
        assert await chain.status("call") is None
        with pytest.raises(RefusedError, match=r"holds 99.* wei, and this could take 1000"):
            await chain.submit(pay("fortune", 10**30))
        assert await chain.status("fortune") is None
        # With a gas limit of one's own nobody asks the chain first, and it costs the fee.
        await chain.submit(Intent("call", ALICE.address, contract, gas_limit=50_000))
        await mine(port, 3)
        failed = await chain.wait("call", timeout_s=5)
        assert (failed.state, failed.reverted) == (IntentState.FAILED, True)
        assert failed.fee_wei > 0
        assert (await chain.submit(pay("after"))).nonce == 2


async def test_one_name_is_one_transaction() -> None:
    async with anvil() as port, chain_on(port) as chain:
        await chain.submit(pay("rent"))
        with pytest.raises(CallerError, match="another transaction already"):
            await chain.submit(pay("rent", 8))
        with pytest.raises(CallerError, match="no key of"):
            await chain.submit(Intent("x", BOB, BOB))
        for name in ("", "x" * 129, "a\n"):
            with pytest.raises(CallerError, match="printable"):
                await chain.submit(pay(name))
        with pytest.raises(CallerError, match="no intent"):
            await chain.wait("nothing", timeout_s=1)
        with pytest.raises(DeadlineError):
            await chain.wait("rent", confirmations=99, timeout_s=0.05)


async def test_many_at_once_get_nonces_of_their_own() -> None:
    async with anvil() as port, chain_on(port) as chain:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(chain.submit, pay(f"part {number}"))
        for number in range(20):
            await chain.wait(f"part {number}", confirmations=1, timeout_s=5)
        assert await chain.balance(BOB) == 140


async def test_two_chains_side_by_side() -> None:
    async with anvil(1001) as one_port, anvil(1002) as other_port:
        one_config, other_config = "eip155:1001", "eip155:1002"
        async with (
            chain_on(one_port, chain=one_config) as one,
            chain_on(other_port, chain=other_config) as other,
        ):
            await one.submit(pay("a", 1))
            await other.submit(pay("a", 2))
            await one.wait("a", confirmations=1, timeout_s=5)
            await other.wait("a", confirmations=1, timeout_s=5)
            assert (await one.balance(BOB), await other.balance(BOB)) == (1, 2)


# --- fees ---


async def test_a_stuck_transaction_is_replaced_until_it_is_mined() -> None:
    async with anvil(31337, *NO_MINING) as port, chain_on(port) as chain:
        sent = await chain.submit(pay("rent"))
        assert (await chain.fees()).max_fee_wei < 3 * GWEI
        for _ in range(30):
            await rpc(port, "anvil_setNextBlockBaseFeePerGas", hex(8 * GWEI))
            await mine(port)
            number = (await chain.head()).number
            await looked_at(chain, number)
            status = await chain.status("rent")
            assert status is not None
            if status.state is IntentState.MINED:
                break
        assert status.state is IntentState.MINED
        assert status.attempts > 1
        assert status.tx_hash != sent.tx_hash
        assert (await chain.balance(BOB), status.nonce) == (7, 0)
        assert chain.counters()["replacements"] == status.attempts - 1


async def test_no_replacement_passes_the_cap() -> None:
    cap = 2 * GWEI + GWEI // 10
    async with (
        anvil(31337, *NO_MINING) as port,
        chain_on(port, max_fee_wei=cap, bump_after_blocks=1) as chain,
    ):
        await chain.submit(pay("rent"))
        for number in range(1, 6):
            await rpc(port, "anvil_setNextBlockBaseFeePerGas", hex(8 * GWEI))
            await mine(port)
            await looked_at(chain, number)
        status = await chain.status("rent")
        assert status is not None
        assert (status.state, status.attempts) == (IntentState.PENDING, 1)
        # It waits with us, not with the endpoint, which took it out of its pool.
        await rpc(port, "anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        await mine(port)
        await looked_at(chain, 6)
        await mine(port)
        assert (await chain.wait("rent", confirmations=1, timeout_s=5)).attempts == 1


# --- the chain takes back ---


async def test_a_reorganisation_takes_a_transaction_back_and_it_is_sent_again() -> None:
    async with anvil(31337, *NO_MINING) as port, chain_on(port) as chain:
        await mine(port, 5)
        await chain.submit(pay("rent"))
        await mine(port)
        mined = await chain.wait("rent", confirmations=1, timeout_s=5)
        await rpc(port, "anvil_reorg", 1, [])
        status = await chain.status("rent")
        assert status is not None
        assert (status.state, status.confirmations) == (IntentState.PENDING, 0)
        await mine(port)
        await looked_at(chain, 7)
        await mine(port)
        again = await chain.wait("rent", confirmations=1, timeout_s=5)
        assert again.tx_hash == mined.tx_hash
        assert again.block != mined.block
        await mine(port, 3)
        assert (await chain.wait("rent", timeout_s=5)).state is IntentState.FINAL
        assert await chain.balance(BOB) == 7


async def test_a_nonce_that_somebody_else_used_ends_in_dropped() -> None:
    async with anvil(31337, *NO_MINING) as port, chain_on(port) as chain:
        await mine(port, 5)
        await chain.submit(pay("rent"))
        await rpc(port, "anvil_dropAllTransactions")
        await rpc(port, "anvil_setNonce", "0x" + ALICE.address.hex(), "0x1")
        await mine(port)
        await looked_at(chain, 6)
        status = await chain.status("rent")
        assert status is not None
        assert (status.state, status.note) == (
            IntentState.PENDING,
            "another transaction took its nonce",
        )
        await mine(port, 3)
        assert (await chain.wait("rent", timeout_s=5)).state is IntentState.DROPPED
        assert (await chain.submit(pay("rent, again"))).nonce == 1


async def test_a_gap_before_our_nonces_is_filled() -> None:
    async with anvil(31337, *NO_MINING) as port, chain_on(port) as chain:
        address = "0x" + ALICE.address.hex()
        await rpc(port, "anvil_setNonce", address, "0x2")
        assert (await chain.submit(pay("rent"))).nonce == 2
        await rpc(port, "anvil_setNonce", address, "0x0")
        for number in range(1, 15):
            await mine(port)
            await looked_at(chain, number)
        assert (await chain.wait("rent", confirmations=1, timeout_s=5)).nonce == 2
        assert chain.counters()["gaps"] == 2
        assert await chain.balance(BOB) == 7


# --- crashes ---


class Crash(BaseException):
    """The process ends here."""


class Fuse:
    """Lets so many steps pass, and then nothing more."""

    def __init__(self, steps: float) -> None:
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash


class FusedStore:
    """Each call is two steps: the process may end before it or after."""

    def __init__(self, store: IntentStore, fuse: Fuse) -> None:
        self._store, self._fuse = store, fuse

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._store, name)

        async def fused(*arguments: Any) -> Any:
            self._fuse.step()
            answer = await call(*arguments)
            self._fuse.step()
            return answer

        return fused


@asynccontextmanager
async def life(path: Path, port: int, fuse: Fuse) -> AsyncIterator[EvmChain]:
    """The node from its start to its end or its crash; what remains is the file."""

    def crossed(method: str, params: list[Any], answer: Any) -> Any:
        fuse.step()
        return answer

    class Fused(Tampered):
        async def request(self, method: str, params: list[Any]) -> Any:
            fuse.step()
            return await super().request(method, params)

    async with open_sqlite_intents(path, CHAIN) as file:
        store: Any = FusedStore(file, fuse)
        async with chain_on(store=store, endpoints=[Fused(port, crossed)]) as chain:
            yield chain


async def rent_is_paid(path: Path, port: int, name: str, fuse: Fuse) -> IntentStatus:
    async with life(path, port, fuse) as chain:
        await chain.submit(pay(name))
        return await chain.wait(name, timeout_s=5)


async def keep_mining(port: int) -> None:
    while True:
        await mine(port)
        await trio.sleep(0.005)


async def test_a_crash_between_any_two_steps_pays_once(tmp_path: Path) -> None:
    crashes = 0
    async with anvil(31337, *NO_MINING) as port, trio.open_nursery() as nursery:
        nursery.start_soon(keep_mining, port)
        for steps in (*range(24), *range(24, 1000, 7)):
            path, name = tmp_path / "chain.sqlite", f"rent {steps}"
            fuse = Fuse(steps)
            with trio.fail_after(20):
                try:
                    await rent_is_paid(path, port, name, fuse)
                except* Crash:
                    crashes += 1
                status = await rent_is_paid(path, port, name, Fuse(float("inf")))
            assert status.state is IntentState.FINAL
            paid = int(await rpc(port, "eth_getBalance", "0x" + BOB.hex(), "latest"), 16)
            sent = int(
                await rpc(port, "eth_getTransactionCount", "0x" + ALICE.address.hex(), "latest"), 16
            )
            assert (paid, sent) == (7 * (status.nonce + 1), status.nonce + 1)
            if fuse.left >= 0:
                break
        nursery.cancel_scope.cancel()
    assert crashes > 10


# --- endpoints ---


async def test_a_dead_endpoint_is_gone_around() -> None:
    async with anvil() as port, trio.open_nursery() as nursery:
        first = Line(port, nursery)
        async with chain_on(await first.open(), port) as chain:
            await chain.submit(pay("rent"))
            first.cut()
            await mine(port, 3)
            assert (await chain.wait("rent", timeout_s=5)).state is IntentState.FINAL
            assert chain.counters()["failures"] > 0
            assert chain.alarms() == []


async def test_an_only_endpoint_is_waited_for() -> None:
    async with anvil() as port, trio.open_nursery() as nursery:
        line = Line(port, nursery)
        front = await line.open()
        async with chain_on(front) as chain:
            await chain.submit(pay("rent"))
            line.cut()
            await mine(port, 3)
            with pytest.raises(UnreachableError):
                await chain.head()
            await line.open(front)
            assert (await chain.wait("rent", timeout_s=5)).state is IntentState.FINAL
        line.cut()


async def looked_at(chain: EvmChain, number: int) -> None:
    """Wait until the chain's task has dealt with block ``number``."""
    with trio.fail_after(5):
        while chain.looked_at < number:  # noqa: ASYNC110
            await trio.sleep(0.005)
