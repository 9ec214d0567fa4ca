"""Settling the trades of one atomic market: the table of ``core.swaps.atomic`` over a chain.

Two tasks. One reads the contract's logs: what they show moves trades on, and a replaced block moves
them back. The other sends what is due, and looks after what was sent. Whatever moves is noted in
the store before anything is made of it, so a crash at any point costs at most a second try, which
the contract answers by saying that the trade has ended.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Container, Iterable, Sequence
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
    Progress,
    TradeState,
    advance,
    may_send,
)
from orrange_p2p.core.swaps.binding import BoundTrade
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
from orrange_p2p.ports.trades import TradeRecord, TradeStore

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
MAX_UNTOLD: Final = 16_384
"""Trades that logs tell of and we do not know, remembered in case they become ours. Most never do:
the contract is the whole network's."""
MAX_FACTS: Final = 4
"""Remembered of each; anyone can make the contract repeat itself, and the last fact counts most."""
_CURSOR: Final = Struct(">Q32sQ32s")
_ANY: Final = frozenset(TradeState)
_SHOWN: Final = (TradeState.MINED, TradeState.DENIED)
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
        self._trades = trades
        self._store = store
        self._chain = chain
        self._own = frozenset(own)
        self._payer = payer
        self._clock = clock
        self._counters = counters
        self._records: dict[MatchId, TradeRecord] = {}
        """All that are not settled for good, in the order in which they bound."""
        self._moving = trio.Lock()
        """Between reading where a trade stands and noting where it goes nothing else moves it."""
        self._read_to = -1
        """Number of the block up to which the logs were read."""
        self._cursor_name = f"settling {market_id.hex()} {config.contract.hex()}"
        self._bound = trio.Event()
        self._untold: dict[MatchId, list[Fact]] = {}
        """What logs say of trades that we do not know, or not yet, oldest first."""
        self._rests_until: dict[MatchId, int] = {}
        """After a failure each rests for a while, twice as long each time."""
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
        await self._take_new()
        try:
            await self._until_it_answers()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_all)
                await self._read_all()
        except (ConfigError, ReorganisedError) as error:
            self._counters["settling_stopped"] += 1
            self._troubles = {"contract": str(error)}
            log.error("settling stopped", market=self._market_id.hex(), reason=str(error))

    # --- where trades stand ---

    async def _take_new(self) -> None:
        """Read the trades that have come since the last time, and after a start all.

        The other party may have settled one before our epochs had it.
        """
        async with self._moving:
            for record in await self._trades.unsettled_trades(self._market_id):
                self._records.setdefault(record.trade.id, record)
        for name in self._untold.keys() & self._records.keys():
            for fact in self._untold.pop(name):
                await self._move([name], fact)

    async def _move(
        self, names: Iterable[MatchId], fact: Fact, only: Container[TradeState] = _ANY
    ) -> list[Effect]:
        """Note where a fact takes those of the trades that stand at one of ``only``; what follows.

        Which they are is looked at once nothing else moves them.
        """
        async with self._moving:
            moved: dict[MatchId, Progress] = {}
            followed: list[Effect] = []
            for name in names:
                record = self._records.get(name)
                if record is None or record.progress.state not in only:
                    continue
                stands, effects = advance(record.progress, fact)
                if stands != record.progress:
                    moved[name] = stands
                followed += effects
            if moved:
                await self._trades.record_progress(self._market_id, moved)
            for name, stands in moved.items():
                before = self._records[name].progress
                self._records[name] = self._records[name]._replace(progress=stands)
                if stands.failures > before.failures:
                    rest_s = TRY_AGAIN_S * 2**stands.failures
                    self._rests_until[name] = self._clock.monotonic_ms() + int(1000 * rest_s)
                self._tell(name, stands)
        return followed

    def _tell(self, name: MatchId, stands: Progress) -> None:
        if stands.state is TradeState.SETTLED:
            self._counters["trades_settled"] += 1
            log.info("trade settled", trade=name.hex(), block=stands.block)
            del self._records[name]
            self._rests_until.pop(name, None)
        elif stands.state is TradeState.DEFAULTED:
            self._counters["trades_defaulted"] += 1
            log.warning(
                "trade not settled: a party could not pay, or refused",
                trade=name.hex(),
                party=stands.blamed.hex(),
                block=stands.block,
            )
        elif stands.state is TradeState.ABANDONED:
            self._counters["trades_abandoned"] += 1
            log.error("trade given up: it keeps failing", trade=name.hex())

    def _standing(self, *states: TradeState) -> list[MatchId]:
        return [name for name, one in self._records.items() if one.progress.state in states]

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
                await self._take_back(start.number)
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
                await self._take_back(step.cursor.number)
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
            if name not in self._records:
                self._remember(name, fact)
            elif fact.event is not Event.SHOWN_FAILURE or await self._is_ours(name, one):
                await self._move([name], fact)
        final = [
            name
            for name in self._standing(*_SHOWN)
            if self._records[name].progress.block <= step.cursor.final_number
        ]
        await self._move(final, Fact(Event.FINALIZED), _SHOWN)

    def _remember(self, name: MatchId, fact: Fact) -> None:
        if fact.event is Event.SHOWN_FAILURE:
            return  # of nobody's transaction that concerns us
        facts = self._untold.setdefault(name, [])
        facts.append(fact)
        del facts[:-MAX_FACTS]
        while len(self._untold) > MAX_UNTOLD:
            del self._untold[next(iter(self._untold))]

    async def _is_ours(self, name: MatchId, told: Log) -> bool:
        """Whether a failure is that of our transaction. Anyone can make a call fail."""
        intent = self._records[name].progress.intent
        if not intent:
            return False
        status = await self._chain.status(intent)
        return status is not None and status.tx_hash == told.tx_hash

    async def _take_back(self, number: int) -> None:
        """Blocks after ``number`` showed nothing."""
        replaced = [
            name for name in self._standing(*_SHOWN) if self._records[name].progress.block > number
        ]
        await self._move(replaced, Fact(Event.TAKEN_BACK), _SHOWN)
        for name, facts in list(self._untold.items()):
            standing = [fact for fact in facts if fact.block <= number]
            if standing:
                self._untold[name] = standing
            else:
                del self._untold[name]

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
                await self._take_new()

    async def _look_after_sent(self) -> None:
        """Transactions that were kept, and those that can tell nothing any more."""
        by_intent: dict[str, list[MatchId]] = {}
        for name in self._standing(*_ON_ITS_WAY):
            by_intent.setdefault(self._records[name].progress.intent, []).append(name)
        for intent, names in by_intent.items():
            read_to = self._read_to
            status = await self._chain.status(intent) if intent else None
            same = [
                name
                for name in names
                if name in self._records and self._records[name].progress.intent == intent
            ]
            if status is None:
                await self._move(same, Fact(Event.LOST), _ON_ITS_WAY)
                continue
            await self._move(same, Fact(Event.KEPT), (TradeState.PUBLISHING,))
            if status.state in _LASTING and status.block and status.block[0] <= read_to:
                await self._move(same, Fact(Event.LOST), (TradeState.SENT,))

    async def _send_due(self) -> bool:
        """Whether it was tried, and nothing that could be sent is left."""
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._not_before:
            return False
        due = []
        for name in self._standing(TradeState.DUE):
            trade, progress = self._records[name]
            if progress.failures >= MAX_FAILURES:
                await self._move([name], Fact(Event.GIVEN_UP), (TradeState.DUE,))
            elif self._rests_until.get(name, 0) <= now_ms and may_send(
                trade, self._own, self._clock.wall_ms(), self._config.fallback_ms
            ):
                due.append(name)
        for at in range(0, len(due), settlement.MAX_BATCH):
            await self._send(due[at : at + settlement.MAX_BATCH])
        return True

    async def _send(self, names: Sequence[MatchId]) -> None:
        """One transaction with these trades, but for those that a block has shown meanwhile."""
        records = [
            self._records[name]
            for name in names
            if name in self._records and self._records[name].progress.state is TradeState.DUE
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
        followed = await self._move(ids, Fact(Event.BATCHED, intent=name), (TradeState.DUE,))
        if Effect.PUBLISH not in followed:
            return
        try:
            await self._chain.submit(intent)
        except CallerError as error:
            raise RefusedError(str(error)) from None  # too many wait to be mined
        self._counters["settlements_sent"] += 1
        await self._move(ids, Fact(Event.KEPT), (TradeState.PUBLISHING,))
