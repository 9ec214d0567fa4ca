"""Logs in order, from a place that outlives the process, with what was replaced taken back.

Final blocks are asked for in ranges. After them each block is asked for alone, by its hash, and has
to name the one before it as its parent: so nothing is missed and nothing is mixed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from orrange_p2p.chains.evm import answers
from orrange_p2p.chains.evm.endpoints import Ask, Endpoints
from orrange_p2p.core.errors import (
    DeadlineError,
    MalformedError,
    OversizedError,
    RefusedError,
    ReorganisedError,
    UnreachableError,
)
from orrange_p2p.ports.chain import Block, Cursor, Log, LogFilter, Logs, Rewind

__all__ = ["WIDEST_RANGE", "Follower", "filter_request"]

WIDEST_RANGE: Final = 2_000
"""Blocks that one request asks for; halved when an endpoint finds it too much."""
MAX_REFUSALS: Final = 10
"""In a row, of the logs of a block that is there."""
MAX_FAILURES: Final = 10
"""Heads in a row at which no endpoint gave a usable answer."""
MAX_REMEMBERED: Final = 8_192
"""Blocks after the last final one; a reorganisation past them goes back to that one."""


def filter_request(wanted: LogFilter) -> dict[str, Any]:
    """A filter as endpoints are told, but for the blocks."""
    request: dict[str, Any] = {
        "topics": [["0x" + one.hex() for one in any_of] or None for any_of in wanted.topics]
    }
    if wanted.addresses:
        request["address"] = ["0x" + address.hex() for address in wanted.addresses]
    return request


class Follower:
    """One iteration of ``Chain.follow``."""

    def __init__(
        self,
        endpoints: Endpoints,
        wanted: LogFilter,
        start: int | Cursor,
        tips: Callable[[], Awaitable[tuple[Block, Block]]],
    ) -> None:
        """``tips`` waits for the next head, and answers with it and the newest final block."""
        self._endpoints = endpoints
        self._tips = tips
        self._filter = filter_request(wanted)
        self._first = start if isinstance(start, int) else start.number + 1
        self._cursor = start if isinstance(start, Cursor) else None
        self._trail: deque[tuple[int, bytes]] = deque(maxlen=MAX_REMEMBERED)
        """Blocks behind the cursor that may still be replaced, oldest first."""
        self._width = WIDEST_RANGE
        self._refusals = 0
        self._failures = 0
        self.rewinds = 0

    async def steps(self) -> AsyncIterator[Logs | Rewind]:
        """The port's iteration."""
        while True:
            head, final = await self._tips()
            while True:
                try:
                    step = await self._step(head, final)
                except (UnreachableError, DeadlineError, MalformedError):
                    # At the next head again. If that never helps, somebody has to be told.
                    self._failures += 1
                    if self._failures >= MAX_FAILURES:
                        raise
                    break
                self._failures = 0
                if step is None:
                    break
                yield step

    async def _step(self, head: Block, final: Block) -> Logs | Rewind | None:
        """None when there is nothing to do before the next head."""
        if self._cursor is None and self._first > final.number:
            # So that there is always a final block to go back to.
            self._cursor = Cursor(final.number, final.hash, final.number, final.hash)
        cursor = self._cursor
        number = self._first if cursor is None else cursor.number + 1
        if number > head.number:
            return None
        if cursor is not None and cursor.number <= final.number:
            # Also when it was final: a node that was away must notice that the chain is another.
            found = await self._hash_at(cursor.number)
            if found is not None and found != cursor.hash:
                return await self._rewind(cursor)
        if number <= final.number:
            return await self._range(number, final)
        block = await self._block(number)
        if block is None:
            return None
        if cursor is not None and block.parent != cursor.hash:
            if await self._hash_at(cursor.number) != cursor.hash:
                return await self._rewind(cursor)
            return None  # the two answers are of different moments
        try:
            logs = await self._endpoints.ask(
                "eth_getLogs",
                [{**self._filter, "blockHash": "0x" + block.hash.hex()}],
                lambda value: _of_block(answers.logs(value), block),
            )
        except RefusedError:
            # It may have been replaced since it was named. If it stays, they really will not.
            self._refusals += 1
            if self._refusals > MAX_REFUSALS:
                raise
            return None
        self._refusals = 0
        assert cursor is not None
        self._cursor = self._after(cursor, block, final)
        return Logs(logs, self._cursor)

    async def _range(self, number: int, final: Block) -> Logs:
        """Final blocks from ``number`` on, as many as an endpoint answers for at once."""
        while True:
            last = min(number + self._width - 1, final.number)

            async def read(ask: Ask, last: int = last) -> tuple[tuple[Log, ...], Block]:
                # The same endpoint: one that lags would leave out what it has not seen.
                block = await ask("eth_getBlockByNumber", [hex(last), False], answers.block)
                if block.number != last or (last == final.number and block.hash != final.hash):
                    raise MalformedError("the endpoint's block is another one")
                span = {"fromBlock": hex(number), "toBlock": hex(last)}
                try:
                    logs = await ask("eth_getLogs", [{**self._filter, **span}], answers.logs)
                except OversizedError as error:
                    raise RefusedError(str(error)) from None
                if logs and not number <= logs[0].block_number <= logs[-1].block_number <= last:
                    raise MalformedError("the endpoint's logs are of other blocks")
                return logs, block

            try:
                logs, block = await self._endpoints.ask_one(read)
            except RefusedError:
                if self._width == 1:
                    raise
                self._width //= 2
                continue
            self._width = min(WIDEST_RANGE, self._width * 2)
            self._trail.clear()
            self._cursor = Cursor(last, block.hash, last, block.hash)
            return Logs(logs, self._cursor)

    def _after(self, cursor: Cursor, block: Block, final: Block) -> Cursor:
        self._trail.append((block.number, block.hash))
        safe = (cursor.final_number, cursor.final_hash)
        while self._trail and self._trail[0][0] <= final.number:
            safe = self._trail.popleft()
        return Cursor(block.number, block.hash, *safe)

    async def _rewind(self, cursor: Cursor) -> Rewind:
        """Back to the last block that both histories share."""
        self.rewinds += 1
        while self._trail:
            number, block_hash = self._trail[-1]
            if number < cursor.number and await self._hash_at(number) == block_hash:
                self._cursor = Cursor(number, block_hash, cursor.final_number, cursor.final_hash)
                return Rewind(self._cursor)
            self._trail.pop()
        if cursor.number == cursor.final_number or (
            await self._hash_at(cursor.final_number) != cursor.final_hash
        ):
            raise ReorganisedError(
                f"block {cursor.final_number} was final and is another one now: what was read off "
                "it has to be looked at"
            )
        safe = (cursor.final_number, cursor.final_hash)
        self._cursor = Cursor(*safe, *safe)
        return Rewind(self._cursor)

    async def _block(self, number: int) -> Block | None:
        def decode(value: object) -> Block | None:
            block = answers.maybe(answers.block)(value)
            if block is not None and block.number != number:
                raise MalformedError("the endpoint's block is another one")
            return block

        return await self._endpoints.ask("eth_getBlockByNumber", [hex(number), False], decode)

    async def _hash_at(self, number: int) -> bytes | None:
        block = await self._block(number)
        return None if block is None else block.hash


def _of_block(logs: tuple[Log, ...], block: Block) -> tuple[Log, ...]:
    if any(log.block_hash != block.hash or log.block_number != block.number for log in logs):
        raise MalformedError("the endpoint's logs are of another block")
    return logs
