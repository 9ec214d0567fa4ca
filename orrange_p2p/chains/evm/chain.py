"""The ``Chain`` port over an EVM chain's JSON-RPC, and what runs behind it.

One task looks at every new head and moves intents on; a second one only listens for hints that
there is a head, so that the first need not wait for its poll.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from orrange_p2p.chains.evm import answers, websocket
from orrange_p2p.chains.evm.config import EvmConfig
from orrange_p2p.chains.evm.endpoints import Endpoint, Endpoints
from orrange_p2p.chains.evm.follower import WIDEST_RANGE, Follower, filter_request
from orrange_p2p.chains.evm.http import open_http_endpoint
from orrange_p2p.chains.evm.intents import Intents
from orrange_p2p.chains.evm.websocket import WebSocketEndpoint
from orrange_p2p.core.errors import (
    CallerError,
    DeadlineError,
    DisagreementError,
    MalformedError,
    OversizedError,
    RefusedError,
    UnreachableError,
)
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.ports import Signer
from orrange_p2p.ports.chain import (
    Block,
    Cursor,
    Fees,
    Intent,
    IntentState,
    IntentStatus,
    IntentStore,
    Log,
    LogFilter,
    Logs,
    Rewind,
)

__all__ = ["EvmChain", "open_evm_chain"]

_GENESIS: Final = "genesis"
_ANCHOR: Final = "final-block"
_ANCHOR_FORMAT: Final = struct.Struct(">Q32s32sQ")
_LONGEST_PAUSE_S: Final = 30.0
_LASTING: Final = frozenset({IntentState.FINAL, IntentState.FAILED, IntentState.DROPPED})


class EvmChain:
    """Implements ``Chain``. Made by ``open_evm_chain``."""

    def __init__(
        self,
        config: EvmConfig,
        endpoints: Endpoints,
        store: IntentStore,
        signers: Mapping[Address, Signer],
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._store = store
        self._intents = Intents(config, endpoints, store, signers)
        self._tips: tuple[Block, Block] | None = None
        """Head and final block of the last look."""
        self._looked = trio.Event()
        """Set, and replaced, after each look that found a new head."""
        self._hint = trio.Event()
        self._finalising = trio.Lock()
        self._saved_genesis = endpoints.genesis
        self._rewinds = 0

    @property
    def chain_id(self) -> str:
        return self._config.chain

    async def head(self) -> Block:
        return await self._endpoints.ask("eth_getBlockByNumber", ["latest", False], answers.block)

    async def finalized(self) -> Block:
        return await self._advance_anchor(await self.head())

    async def balance(self, account: Address) -> Amount:
        params = ["0x" + account.hex(), "latest"]
        return Amount(await self._endpoints.ask("eth_getBalance", params, answers.quantity))

    async def call(self, to: Address, data: bytes, *, sender: Address | None = None) -> bytes:
        request = {"to": "0x" + to.hex(), "data": "0x" + data.hex()}
        if sender is not None:
            request["from"] = "0x" + sender.hex()
        return await self._endpoints.ask("eth_call", [request, "latest"], answers.data)

    async def agreed_call(self, to: Address, data: bytes) -> bytes:
        """``call`` for what never changes: all endpoints that answer have to say the same."""
        request = {"to": "0x" + to.hex(), "data": "0x" + data.hex()}
        answer = await self._endpoints.agree("eth_call", [request, "latest"], answers.data)
        assert answer is not None, "null is no answer"
        return answer

    async def fees(self) -> Fees:
        return await self._intents.fees()

    async def submit(self, intent: Intent) -> IntentStatus:
        status = await self._intents.submit(intent, await self.head())
        self._hint.set()
        return status

    async def status(self, name: str) -> IntentStatus | None:
        record = await self._store.get(name)
        return None if record is None else await self._intents.status(record, await self.head())

    async def wait(
        self, name: str, *, confirmations: int | None = None, timeout_s: float
    ) -> IntentStatus:
        with trio.move_on_after(timeout_s):
            while True:
                looked = self._looked
                status = await self.status(name)
                if status is None:
                    raise CallerError(f"there is no intent {name!r}")
                if status.state in _LASTING or (
                    confirmations is not None and status.confirmations >= confirmations
                ):
                    return status
                await looked.wait()
        raise DeadlineError(f"intent {name!r} did not get there within {timeout_s:g} s")

    async def follow(self, wanted: LogFilter, start: int | Cursor) -> AsyncIterator[Logs | Rewind]:
        seen: tuple[Block, Block] | None = None

        async def next_tips() -> tuple[Block, Block]:
            nonlocal seen
            while self._tips is None or self._tips == seen:
                await self._looked.wait()
            seen = self._tips
            return seen

        async for step in Follower(self._endpoints, wanted, start, next_tips).steps():
            self._rewinds += isinstance(step, Rewind)
            yield step

    def counters(self) -> dict[str, int]:
        return {
            **self._endpoints.counts,
            **self._intents.counts,
            "rewinds": self._rewinds,
        }

    def alarms(self) -> Sequence[str]:
        return list(self._endpoints.alarms)

    # --- beside the port, for what is made of it in this room ---

    async def heads(self) -> AsyncIterator[Block]:
        """The newest head that was looked at, and each new one."""
        seen: Block | None = None
        while True:
            while self._tips is None or self._tips[0] == seen:
                await self._looked.wait()
            seen = self._tips[0]
            yield seen

    async def call_at(self, head: Block, to: Address, data: bytes) -> bytes:
        """``call`` at this very block: all endpoints that have it have to say the same."""
        request = {"to": "0x" + to.hex(), "data": "0x" + data.hex()}
        where = {"blockHash": "0x" + head.hash.hex()}
        said = await self._endpoints.agree("eth_call", [request, where], answers.data)
        assert said is not None, "null is no answer"
        return said

    async def code(self, contract: Address) -> bytes:
        """What lies at an address; empty for an account without code."""
        params = ["0x" + contract.hex(), "latest"]
        return await self._endpoints.ask("eth_getCode", params, answers.data)

    async def simulate(
        self, sender: Address, calls: Sequence[tuple[Address, bytes]]
    ) -> Sequence[tuple[bool, bytes]]:
        """What these calls would do one after the other, in one block that is never made. Raises
        ``RefusedError`` where the endpoint does not simulate (``eth_simulateV1``)."""
        asked = [
            {"from": "0x" + sender.hex(), "to": "0x" + to.hex(), "data": "0x" + data.hex()}
            for to, data in calls
        ]
        params = [{"blockStateCalls": [{"calls": asked}]}, "latest"]
        done = await self._endpoints.ask("eth_simulateV1", params, answers.simulated)
        if len(done) != len(calls):
            raise MalformedError("the endpoint simulated another number of calls")
        return done

    async def logs(self, wanted: LogFilter, first: int, last: int) -> Sequence[Log]:
        """All logs of blocks ``first`` to ``last`` that a filter lets through, in order."""
        found: list[Log] = []
        width = WIDEST_RANGE
        while first <= last:
            end = min(last, first + width - 1)
            try:
                found += await self._logs_between(wanted, first, end)
            except (RefusedError, OversizedError):
                if width == 1:
                    raise
                width //= 2
                continue
            first = end + 1
        return found

    async def agreed_logs(self, wanted: LogFilter, first: int, last: int) -> Sequence[Log]:
        """The same of final blocks: all endpoints that answer have to say the same."""
        request = {**filter_request(wanted), "fromBlock": hex(first), "toBlock": hex(last)}
        try:
            found = await self._endpoints.agree("eth_getLogs", [request], answers.logs)
        except (RefusedError, OversizedError):
            if first == last:
                raise
            middle = (first + last) // 2
            early = await self.agreed_logs(wanted, first, middle)
            return [*early, *await self.agreed_logs(wanted, middle + 1, last)]
        assert found is not None, "null is no list"
        if found and not first <= found[0].block_number <= found[-1].block_number <= last:
            raise MalformedError("the endpoint's logs are of other blocks")
        return found

    async def agreed_block(self, number: int) -> Block:
        """A final block: likewise. Raises ``UnreachableError`` if nobody has it."""
        block = await self._endpoints.agree(
            "eth_getBlockByNumber", [hex(number), False], answers.maybe(answers.block)
        )
        if block is None or block.number != number:
            raise UnreachableError(f"no endpoint has block {number}")
        return block

    async def first_block(self, time_s: int) -> int:
        """Number of the first block stamped ``time_s`` or later; of the one after the head if there
        is none."""
        low, high = 0, (await self.head()).number + 1
        while low < high:
            middle = (low + high) // 2
            block = await self._endpoints.ask(
                "eth_getBlockByNumber", [hex(middle), False], answers.block
            )
            if block.time_s >= time_s:
                high = middle
            else:
                low = middle + 1
        return low

    async def _logs_between(self, wanted: LogFilter, first: int, last: int) -> Sequence[Log]:
        request = {**filter_request(wanted), "fromBlock": hex(first), "toBlock": hex(last)}
        logs = await self._endpoints.ask("eth_getLogs", [request], answers.logs)
        if logs and not first <= logs[0].block_number <= logs[-1].block_number <= last:
            raise MalformedError("the endpoint's logs are of other blocks")
        return logs

    # --- behind the port ---

    @property
    def looked_at(self) -> int:
        """Number of the newest block that intents were moved on by; -1 before the first."""
        return -1 if self._tips is None else self._tips[0].number

    async def run(self) -> None:
        """Look at every new head, for ever. A chain that cannot be reached is waited for."""
        failures = 0
        while True:
            self._hint = trio.Event()
            pause = self._config.poll_interval_ms / 1000
            try:
                await self._look()
                failures = 0
            except (
                DeadlineError,
                DisagreementError,
                MalformedError,
                RefusedError,
                UnreachableError,
            ):
                failures = min(failures + 1, 10)
                pause = min(_LONGEST_PAUSE_S, pause * 2**failures)
            with trio.move_on_after(pause):
                await self._hint.wait()

    async def listen(self, url: str) -> None:
        """Let ``run`` look as soon as the endpoint tells of a head.

        A broken socket is opened again, later each time.
        """
        failures = 0
        while True:
            try:
                async with websocket.heads(url, self._config.timeout_ms / 1000) as hints:
                    async for _ in hints:
                        failures = 0
                        self._hint.set()
            except UnreachableError:
                failures = min(failures + 1, 10)
            await trio.sleep(min(_LONGEST_PAUSE_S, 0.5 * 2**failures))

    async def _look(self) -> None:
        head = await self.head()
        final = await self._advance_anchor(head)
        await self._intents.step(head, final)
        if self._tips != (head, final):
            self._tips = (head, final)
            self._looked.set()
            self._looked = trio.Event()

    async def _advance_anchor(self, head: Block) -> Block:
        """The newest final block: one that all endpoints agree on, never older than the last one.

        A single endpoint that calls a block final too early gains nothing: of their answers the
        lower one in the middle counts.
        """
        async with self._finalising:
            anchor = self._endpoints.anchor
            number = await self._final_number(head)
            if anchor is not None and number <= anchor.number:
                return anchor
            block = await self._endpoints.agree(
                "eth_getBlockByNumber", [hex(number), False], answers.maybe(answers.block)
            )
            if block is None:
                raise UnreachableError(f"no endpoint has block {number}, which is called final")
            if block.number != number:
                raise MalformedError("the endpoint's block is another one")
            self._endpoints.anchor = block
            await self._save(block)
            return block

    async def _final_number(self, head: Block) -> int:
        params = [self._config.finality, False]
        try:
            said = await self._endpoints.ask_all(
                "eth_getBlockByNumber", params, answers.maybe(answers.block)
            )
        except RefusedError:
            said = []
        numbers = sorted(block.number for block in said if block is not None)
        if not numbers:  # they do not know the tag
            return max(0, head.number - self._config.finality_depth)
        return min(numbers[(len(numbers) - 1) // 2], head.number)

    async def _save(self, anchor: Block) -> None:
        if self._saved_genesis is None and self._endpoints.genesis is not None:
            await self._store.set_meta(_GENESIS, self._endpoints.genesis)
            self._saved_genesis = self._endpoints.genesis
        packed = _ANCHOR_FORMAT.pack(anchor.number, anchor.hash, anchor.parent, anchor.time_s)
        await self._store.set_meta(_ANCHOR, packed)


@asynccontextmanager
async def open_evm_chain(
    config: EvmConfig,
    store: IntentStore,
    signers: Sequence[Signer] = (),
    *,
    endpoints: Sequence[Endpoint] | None = None,
) -> AsyncIterator[EvmChain]:
    """A chain for as long as the block lasts. ``endpoints`` replaces those of the configuration.

    Opening reaches for nothing: a chain that is down now may be up later.
    """
    packed = await store.meta(_ANCHOR)
    anchor = None if packed is None else Block(*_ANCHOR_FORMAT.unpack(packed))
    timeout_s = config.timeout_ms / 1000
    async with AsyncExitStack() as clients, trio.open_nursery() as nursery:
        opened: list[Endpoint] = []
        for url in config.endpoints if endpoints is None else ():
            if url.startswith("http"):
                opened.append(await clients.enter_async_context(open_http_endpoint(url, timeout_s)))
            else:
                opened.append(WebSocketEndpoint(url, timeout_s, nursery))
        pool = Endpoints(
            opened if endpoints is None else endpoints,
            config.number,
            genesis=await store.meta(_GENESIS),
            anchor=anchor,
        )
        chain = EvmChain(config, pool, store, {signer.address: signer for signer in signers})
        nursery.start_soon(chain.run)
        for url in config.endpoints if endpoints is None else ():
            if url.startswith("ws"):
                nursery.start_soon(chain.listen, url)
                break
        yield chain
        nursery.cancel_scope.cancel()
