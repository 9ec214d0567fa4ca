"""Settling the trades of one atomic market: the table of ``core.swaps.atomic`` over a chain.

Two tasks. One reads the contract's logs: what they show moves trades on, and a replaced block moves
them back. The other sends what is due, and looks after what was sent. Whatever moves is noted in
the store before anything is made of it, so a crash at any point costs at most a second try, which
the contract answers by saying that the trade has ended.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Sequence
from hashlib import sha256
from struct import Struct
from typing import Final

import structlog
import trio

from orrange_p2p.chains.evm import settlement
from orrange_p2p.core.errors import (
    CallerError,
    ConfigError,
    MalformedError,
    RefusedError,
    ReorganisedError,
    RevertedError,
    StoreError,
    WorldError,
)
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, MarketId, MatchId
from orrange_p2p.core.swaps.atomic import (
    MAX_FAILURES,
    Effect,
    Event,
    Fact,
    TradeState,
    may_send,
)
from orrange_p2p.core.swaps.binding import BoundTrade
from orrange_p2p.daemon.open_trades import OpenTrades
from orrange_p2p.daemon.settlement_config import SettlingConfig
from orrange_p2p.ports import Clock, Store
from orrange_p2p.ports.chain import (
    Chain,
    Cursor,
    Intent,
    IntentState,
    Log,
    LogFilter,
    Logs,
    Rewind,
)
from orrange_p2p.ports.trades import TradeStore

__all__ = ["Settling"]

log = structlog.get_logger()

LOOK_S: Final = 1.0
"""How often is looked after what was sent, and for whose turn it is."""
TRY_AGAIN_S: Final = 5.0
"""After a chain that could not be reached, or would not."""
LISTED_S: Final = 600.0
CURSOR_S: Final = 30.0
"""How often the place in the logs is noted."""
READ_AGAIN_S: Final = 600.0
"""After a restart so much is read again: logs may tell of a trade before our epochs have it."""
_CURSOR: Final = Struct(">Q32sQ32s")
_ON_ITS_WAY: Final = (TradeState.PUBLISHING, TradeState.SENT)
_LASTING: Final = (IntentState.FINAL, IntentState.FAILED, IntentState.DROPPED)


class Settling:
    """One market. Its trades come from ``Bindings``, through the store."""

    def __init__(
        self,
        config: SettlingConfig,
        genesis: Genesis,
        market_id: MarketId,
        *,
        trades: TradeStore,
        store: Store,
        chain: Chain,
        own: Collection[Address],
        payer: Address,
        clock: Clock,
        counters: Counter[str],
    ) -> None:
        """``own``: whose trades these are; ``payer``: whose transactions settle them."""
        self._config = config
        self._genesis = genesis
        self._market_id = market_id
        self._store = store
        self._chain = chain
        self._own = frozenset(own)
        self._payer = payer
        self._clock = clock
        self._counters = counters
        self._trades = OpenTrades(market_id, trades, clock, counters)
        self._read_to = -1
        """Number of the block up to which the logs were read."""
        self._cursor_name = f"settling {market_id.hex()} {config.contract.hex()}"
        self._bound = trio.Event()
        self._troubles: dict[str, str] = {}
        """What does not work now, by what was tried."""
        self._not_before = 0
        """Our monotonic clock's time before which nothing is sent, after a failure."""

    def note(self, trades: Sequence[BoundTrade]) -> None:
        """Trades were kept: what is new of them is read from the store."""
        self._bound.set()

    @property
    def market_id(self) -> MarketId:
        return self._market_id

    @property
    def why_not(self) -> str | None:
        """Why nothing can be settled now, in words; None if all is well."""
        return next(iter(self._troubles.values()), None)

    async def run(self) -> None:
        """Settle until cancelled. Returns only if the chain or the contract cannot be trusted: the
        log says why, and no trade is sent."""
        await self._trades.take_new()
        try:
            await self._until_it_answers()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_all)
                await self._read_all()
        except (ConfigError, ReorganisedError) as error:
            self._counters["settling_stopped"] += 1
            self._troubles = {"contract": str(error)}
            log.error("settling stopped", market=self._market_id.hex(), reason=str(error))

    # --- the contract ---

    async def _until_it_answers(self) -> None:
        while True:
            try:
                await self._check_contract()
                self._troubles.clear()
                return
            except StoreError:
                raise
            except RevertedError as error:
                # An endpoint that answers so is not the one at fault.
                raise ConfigError(
                    f"0x{self._config.contract.hex()} on {self._chain.chain_id} is no Settlement, "
                    f"or refuses the market: {error}"
                ) from None
            except (WorldError, MalformedError) as error:
                self._troubles["contract"] = str(error)
                log.warning("chain does not answer yet", chain=self._chain.chain_id, why=str(error))
                await trio.sleep(TRY_AGAIN_S)

    async def _check_contract(self) -> None:
        """That it is this network's, and knows the market. Raises ``ConfigError`` if not."""
        contract = self._config.contract
        if await self._chain.call(contract, settlement.separator_call()) != self._genesis.separator:
            raise ConfigError(
                f"0x{contract.hex()} on {self._chain.chain_id} is not this network's Settlement"
            )
        listed = await self._chain.call(contract, settlement.listed_call(self._market_id))
        if any(listed):
            return
        market = self._genesis.market(self._market_id)
        what = sha256(self._payer + contract + self._market_id).hexdigest()
        name = f"list {what}"
        await self._chain.submit(Intent(name, self._payer, contract, settlement.list_call(market)))
        status = await self._chain.wait(name, confirmations=1, timeout_s=LISTED_S)
        if status.reverted:
            raise ConfigError(f"Settlement refuses the market {self._market_id.hex()}")

    # --- reading ---

    async def _read_all(self) -> None:
        while True:
            try:
                start = await self._start()
                # Since then blocks may have been replaced: what they showed is shown again.
                await self._trades.take_back(start.number)
                self._read_to = start.number
                await self._read(self._chain.follow(LogFilter((self._config.contract,)), start))
            except (StoreError, ReorganisedError):
                raise
            except (WorldError, MalformedError) as error:
                self._troubles["reading"] = str(error)
                log.warning("cannot read the contract's logs", why=str(error))
            await trio.sleep(TRY_AGAIN_S)

    async def _start(self) -> Cursor:
        """Where reading goes on; kept before anything is sent that it could miss."""
        kept = await self._store.meta(self._cursor_name)
        if kept is not None:
            return Cursor(*_CURSOR.unpack(kept))
        final = await self._chain.finalized()
        cursor = Cursor(final.number, final.hash, final.number, final.hash)
        await self._store.set_meta(self._cursor_name, _CURSOR.pack(*cursor))
        return cursor

    async def _read(self, steps: AsyncIterator[Logs | Rewind]) -> None:
        passed: deque[tuple[float, Cursor]] = deque()
        """Where reading stood, and when; the first was long enough ago to go on from."""
        async for step in steps:
            if isinstance(step, Rewind):
                await self._trades.take_back(step.cursor.number)
            else:
                await self._take(step)
            self._read_to = step.cursor.number
            self._troubles.pop("reading", None)
            now_s = trio.current_time()
            if not passed or now_s - passed[-1][0] >= CURSOR_S:
                passed.append((now_s, step.cursor))
                while len(passed) > 1 and now_s - passed[1][0] >= READ_AGAIN_S:
                    passed.popleft()
                if now_s - passed[0][0] >= READ_AGAIN_S:
                    cursor = passed[0][1]
                    await self._store.set_meta(self._cursor_name, _CURSOR.pack(*cursor))

    async def _take(self, step: Logs) -> None:
        for one in step.logs:
            try:
                said = settlement.read(one)
            except MalformedError as error:
                log.warning("not a log of Settlement", why=str(error))
                continue
            if said is None:
                continue
            name, fact = said
            if fact.event is not Event.SHOWN_FAILURE:
                await self._trades.show(name, fact)
            elif await self._is_ours(name, one):
                if settlement.says_ended(one) and await self._is_settled(name):
                    # By a log that we did not read: from before we settled here, or lost since.
                    fact = Fact(Event.SHOWN_SETTLED, block=one.block_number, tx_hash=one.tx_hash)
                await self._trades.show(name, fact)
        await self._trades.finalize(step.cursor.final_number)
        await self._expire(step.cursor.number)

    async def _expire(self, read_to: int) -> None:
        """Note which trades can settle no more: by the stamp of a final block that was read.

        The contract is asked as well: a trade that reached us late may have settled before the
        logs that are read begin.
        """
        if not self._trades.at(TradeState.DUE, *_ON_ITS_WAY):
            return
        final = await self._chain.finalized()
        if final.number > read_to:
            return
        for trade, _ in self._trades.at(TradeState.DUE, *_ON_ITS_WAY):
            if trade.trade.expiry_ms > 1000 * final.time_s:
                continue
            fact = Fact(Event.OVERDUE)
            if await self._is_settled(trade.id):
                fact = Fact(Event.SHOWN_SETTLED, block=final.number)
            await self._trades.move([trade.id], fact, (TradeState.DUE, *_ON_ITS_WAY))

    async def _is_ours(self, name: MatchId, told: Log) -> bool:
        """Whether a failure is that of our transaction. Anyone can make a call fail."""
        record = self._trades.get(name)
        if record is None or not record.progress.intent:
            return False
        status = await self._chain.status(record.progress.intent)
        return status is not None and status.tx_hash == told.tx_hash

    async def _is_settled(self, name: MatchId) -> bool:
        state = await self._chain.call(self._config.contract, settlement.state_call(name))
        return settlement.is_settled(state)

    # --- sending ---

    async def _send_all(self) -> None:
        while True:
            if self._read_to >= 0:
                try:
                    await self._look_after_sent()
                    if await self._send_due():
                        self._troubles.pop("sending", None)
                except StoreError:
                    raise
                except (WorldError, MalformedError) as error:
                    self._counters["settling_retries"] += 1
                    self._not_before = self._clock.monotonic_ms() + int(1000 * TRY_AGAIN_S)
                    self._troubles["sending"] = str(error)
                    log.warning("cannot settle now", why=str(error))
            bound = self._bound
            with trio.move_on_after(LOOK_S):
                await bound.wait()
            if bound.is_set():
                self._bound = trio.Event()
                await trio.sleep(self._config.gather_ms / 1000)
                await self._trades.take_new()

    async def _look_after_sent(self) -> None:
        """Transactions that were kept, and those that can tell nothing any more."""
        by_intent: dict[str, list[MatchId]] = {}
        for record in self._trades.at(*_ON_ITS_WAY):
            by_intent.setdefault(record.progress.intent, []).append(record.trade.id)
        for intent, names in by_intent.items():
            read_to = self._read_to
            status = await self._chain.status(intent) if intent else None
            same = [
                name
                for name in names
                if (kept := self._trades.get(name)) and kept.progress.intent == intent
            ]
            if status is None:
                await self._trades.move(same, Fact(Event.LOST), _ON_ITS_WAY)
                continue
            await self._trades.move(same, Fact(Event.KEPT), (TradeState.PUBLISHING,))
            if status.state in _LASTING and status.block and status.block[0] <= read_to:
                await self._trades.move(same, Fact(Event.LOST), (TradeState.SENT,))

    async def _send_due(self) -> bool:
        """Whether it was tried, and nothing that could be sent is left."""
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._not_before:
            return False
        due = []
        for trade, progress in self._trades.at(TradeState.DUE):
            if progress.failures >= MAX_FAILURES:
                await self._trades.move([trade.id], Fact(Event.GIVEN_UP), (TradeState.DUE,))
            elif self._trades.rests_until(trade.id) <= now_ms and may_send(
                trade, self._own, self._clock.wall_ms(), self._config.fallback_ms
            ):
                due.append(trade.id)
        for at in range(0, len(due), settlement.MAX_BATCH):
            await self._send(due[at : at + settlement.MAX_BATCH])
        return True

    async def _send(self, names: Sequence[MatchId]) -> None:
        """One transaction with these trades, but for those that a block has shown meanwhile."""
        records = [
            record
            for name in names
            if (record := self._trades.get(name)) and record.progress.state is TradeState.DUE
        ]
        if not records:
            return
        data = settlement.settle_call([record.trade for record in records])
        # The same trades tried again are another transaction; the same attempt is the same one.
        attempt = max(record.progress.attempts for record in records) + 1
        name = f"settle {sha256(self._payer + self._config.contract + data).hexdigest()} {attempt}"
        gas_limit = settlement.gas_limit(len(records))
        contract = self._config.contract
        intent = Intent(name, self._payer, contract, data, gas_limit=gas_limit)
        ids = [record.trade.id for record in records]
        followed = await self._trades.move(ids, Fact(Event.BATCHED, intent=name), (TradeState.DUE,))
        if Effect.PUBLISH not in followed:
            return
        try:
            await self._chain.submit(intent)
        except CallerError as error:
            raise RefusedError(str(error)) from None  # too many wait to be mined
        self._counters["settlements_sent"] += 1
        await self._trades.move(ids, Fact(Event.KEPT), (TradeState.PUBLISHING,))
