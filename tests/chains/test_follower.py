"""Logs come once and in order, and what was replaced is taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import trio
from evm_chains import ALICE, LOGGER_CODE, Tampered, anvil, chain_on, created_by, honest, mine, rpc

from orrange_p2p.chains.evm.chain import EvmChain
from orrange_p2p.core.errors import RefusedError, ReorganisedError, UnreachableError
from orrange_p2p.core.ids import Address
from orrange_p2p.ports.chain import Cursor, Intent, LogFilter, Logs, Rewind

NO_MINING = ("--no-mining",)
LOGGER = created_by(ALICE.address, 0)
WANTED = LogFilter((LOGGER,))


def topic(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Reader:
    """What a follower has told, as its consumer would keep it."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        """Block and topic of each log that still stands."""
        self.cursor: Cursor | None = None
        self.rewinds = 0

    def take(self, step: Logs | Rewind) -> None:
        if isinstance(step, Rewind):
            self.rewinds += 1
            self.seen = [one for one in self.seen if one[0] <= step.cursor.number]
        else:
            for log in step.logs:
                assert log.block_number <= step.cursor.number
                self.seen.append((log.block_number, int.from_bytes(log.topics[0], "big")))
        assert step.cursor.final_number <= step.cursor.number
        self.cursor = step.cursor

    async def read(self, steps: AsyncIterator[Logs | Rewind], number: int) -> None:
        """Until block ``number`` was read."""
        with trio.fail_after(10):
            while self.cursor is None or self.cursor.number < number:
                self.take(await anext(steps))


async def deploy(port: int, chain: EvmChain) -> None:
    await chain.submit(Intent("logger", ALICE.address, None, LOGGER_CODE))
    await mine(port)
    await chain.wait("logger", confirmations=1, timeout_s=5)


async def emit(port: int, number: int) -> None:
    """A log in a block of its own, past the code under test."""
    call = {"from": "0x" + ALICE.address.hex(), "to": "0x" + LOGGER.hex()}
    await rpc(port, "eth_sendTransaction", {**call, "data": "0x" + topic(number).hex()})
    await mine(port)


async def test_logs_come_in_order_old_and_new() -> None:
    async with anvil(31337, *NO_MINING) as port, chain_on(port) as chain:
        await deploy(port, chain)
        for number in range(2, 7):
            await emit(port, number)
        reader = Reader()
        async with aclosing(chain.follow(WANTED, 0)) as steps:
            await reader.read(steps, 6)
            await emit(port, 7)
            await reader.read(steps, 7)
        assert reader.seen == [(number, number) for number in range(2, 8)]
        assert reader.cursor is not None
        assert reader.cursor.final_number >= 4
        only = Reader()
        async with aclosing(chain.follow(LogFilter((LOGGER,), ((topic(4),),)), 0)) as steps:
            await only.read(steps, 7)
        assert only.seen == [(4, 4)]
        other = Reader()
        async with aclosing(chain.follow(LogFilter((Address(b"x" * 20),)), 5)) as steps:
            await other.read(steps, 7)
        assert other.seen == []


async def test_following_goes_on_from_a_kept_cursor() -> None:
    async with anvil(31337, *NO_MINING) as port:
        reader = Reader()
        async with chain_on(port) as chain:
            await deploy(port, chain)
            await emit(port, 2)
            async with aclosing(chain.follow(WANTED, 0)) as steps:
                await reader.read(steps, 2)
        for number in range(3, 9):
            await emit(port, number)
        async with chain_on(port) as chain:
            assert reader.cursor is not None
            async with aclosing(chain.follow(WANTED, reader.cursor)) as steps:
                await reader.read(steps, 8)
        assert reader.seen == [(number, number) for number in range(2, 9)]
        assert reader.rewinds == 0


@pytest.mark.parametrize("restart", [False, True])
async def test_a_reorganisation_is_taken_back(restart: bool) -> None:
    """Two blocks with logs are replaced by empty ones; while we follow, or while we are away."""
    async with anvil(31337, *NO_MINING) as port, chain_on(port) as chain:
        await deploy(port, chain)
        for number in range(2, 7):
            await emit(port, number)
        reader = Reader()
        async with aclosing(chain.follow(WANTED, 0)) as steps:
            await reader.read(steps, 6)
            if not restart:
                await replace_two(port, reader, steps)
        if restart:
            assert reader.cursor is not None
            async with aclosing(chain.follow(WANTED, reader.cursor)) as steps:
                await replace_two(port, reader, steps)
        assert reader.rewinds == 1
        assert [block for block, _ in reader.seen] == [2, 3, 4, 7]
        assert chain.counters()["rewinds"] == 1


async def replace_two(port: int, reader: Reader, steps: AsyncIterator[Logs | Rewind]) -> None:
    await rpc(port, "anvil_reorg", 2, [])
    await rpc(port, "anvil_dropAllTransactions")
    await emit(port, 7)
    await reader.read(steps, 7)


async def test_a_final_block_that_was_replaced_is_an_error() -> None:
    """A chain that was reset under the same name."""
    async with anvil(31337, *NO_MINING) as port, chain_on(port) as chain:
        await mine(port, 5)
        cursor = Cursor(3, b"\x66" * 32, 3, b"\x66" * 32)
        with pytest.raises(ReorganisedError, match="block 3 was final"):
            async for _ in chain.follow(WANTED, cursor):
                pass


async def test_an_endpoint_that_only_answers_rubbish_is_told_of() -> None:
    """Else its reader would wait for ever and nobody would know why."""

    def twice(method: str, params: list[Any], answer: Any) -> Any:
        return answer * 2 if method == "eth_getLogs" else answer

    async with anvil() as port, chain_on(endpoints=[Tampered(port, twice)]) as chain:
        await chain.submit(Intent("logger", ALICE.address, None, LOGGER_CODE))
        await chain.submit(Intent("log", ALICE.address, LOGGER, topic(1), gas_limit=50_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_mining, port)
            with pytest.raises(UnreachableError, match="out of order"), trio.fail_after(10):
                async for _ in chain.follow(WANTED, 0):
                    pass
            nursery.cancel_scope.cancel()


async def keep_mining(port: int) -> None:
    while True:
        await mine(port)
        await trio.sleep(0.02)


async def test_a_range_that_is_too_much_is_asked_for_in_pieces() -> None:
    def narrow(method: str, params: list[Any], answer: Any) -> Any:
        if method == "eth_getLogs" and "fromBlock" in params[0]:
            if int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= 10:
                raise RefusedError("query returned more than 10000 results", -32005)
        return answer

    async with anvil(31337, *NO_MINING) as port:
        async with chain_on(endpoints=[Tampered(port, honest)]) as chain:
            await deploy(port, chain)
        for number in range(2, 41):
            await emit(port, number)
        async with chain_on(endpoints=[Tampered(port, narrow)]) as chain:
            reader = Reader()
            async with aclosing(chain.follow(WANTED, 0)) as steps:
                await reader.read(steps, 40)
        assert reader.seen == [(number, number) for number in range(2, 41)]
