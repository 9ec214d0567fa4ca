"""The conformance suite of the ``TradeStore`` port, which every adapter passes.

1  one side's consent waits for the other's    5  a trade that is not kept stands nowhere
2  a trade takes the place of its consents     6  what is settled for good is looked at no more
3  of a lapsed match nothing stays             7  pruning takes nothing; markets are apart
4  where a trade stands outlives a replay      8  all can be read, page after page
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Protocol

import pytest

from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import (
    Address,
    Amount,
    Epoch,
    Era,
    MarketId,
    MatchId,
    NetworkId,
    Round,
    TimeMs,
)
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.swaps.atomic import Progress, TradeState
from orrange_p2p.core.swaps.binding import BoundTrade, Consent, Taken
from orrange_p2p.ports import CheckpointRecord, PruneLine, Store
from orrange_p2p.ports.trades import TradeRecord, TradeStore
from orrange_p2p.store.memory import MemoryStore
from orrange_p2p.store.sqlite import open_sqlite_store

MARKET, OTHER_MARKET = MarketId(b"m" * 32), MarketId(b"o" * 32)
ALICE, BOB = Address(b"a" * 20), Address(b"b" * 20)
SENT = Progress(TradeState.SENT, "settle 1", 3, 2, 0, BOB, b"t" * 32)


class BothStores(Store, TradeStore, Protocol):
    """One file keeps both."""


Open = Callable[[], AbstractAsyncContextManager[BothStores]]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    memory = MemoryStore()

    @asynccontextmanager
    async def open_memory() -> AsyncIterator[BothStores]:
        yield memory

    if request.param == "memory":
        return open_memory
    return lambda: open_sqlite_store(tmp_path / "store.sqlite", NetworkId(b"n" * 32))


def consent(content: bytes) -> Consent:
    return Consent(Address(bytes(20)), (b"p" * 32,), content.ljust(65, b"."))


def bound(number: int, market: MarketId = MARKET) -> BoundTrade:
    most = Amount((1 << 256) - 1)
    trade = Trade(market, bytes([number]) * 32, ALICE, BOB, Amount(1), most, Epoch(3), TimeMs(9))
    return BoundTrade(trade, BOB, TimeMs(7), consent(b"alice"), consent(b"bob"))


def waiting(trade: BoundTrade) -> Taken:
    return Taken({(trade.id, ALICE): trade.buyer}, (), ())


def made(*trades: BoundTrade) -> Taken:
    return Taken({}, trades, ())


async def test_a_trade_takes_the_place_of_what_one_side_said(opened: Open) -> None:
    async with opened() as store:
        await store.keep_bindings(MARKET, waiting(bound(1)))
        assert await store.consents(MARKET) == waiting(bound(1)).consents
        assert await store.unsettled_trades(MARKET) == []
        await store.keep_bindings(MARKET, made(bound(1)))
    async with opened() as store:
        assert await store.consents(MARKET) == {}
        assert await store.unsettled_trades(MARKET) == [TradeRecord(bound(1), Progress())]


async def test_of_a_lapsed_match_nothing_stays(opened: Open) -> None:
    async with opened() as store:
        for number in (1, 2):
            await store.keep_bindings(MARKET, waiting(bound(number)))
        await store.keep_bindings(MARKET, Taken({}, (), (bound(1).id,)))
        assert await store.consents(MARKET) == waiting(bound(2)).consents


async def test_where_a_trade_stands_outlives_a_replay(opened: Open) -> None:
    async with opened() as store:
        await store.keep_bindings(MARKET, made(bound(9), bound(1)))
        await store.record_progress(MARKET, {bound(1).id: SENT})
        await store.keep_bindings(MARKET, waiting(bound(1)))
        await store.keep_bindings(MARKET, made(bound(1)))
    async with opened() as store:
        expected = [TradeRecord(bound(9), Progress()), TradeRecord(bound(1), SENT)]
        assert await store.unsettled_trades(MARKET) == expected
        assert await store.count_trades(MARKET) == {TradeState.DUE: 1, TradeState.SENT: 1}


async def test_what_is_not_kept_stands_nowhere(opened: Open) -> None:
    async with opened() as store:
        await store.keep_bindings(MARKET, made(bound(1)))
        with pytest.raises(CallerError, match="no trade"):
            await store.record_progress(MARKET, {bound(1).id: SENT, MatchId(b"x" * 32): SENT})
        assert await store.unsettled_trades(MARKET) == [TradeRecord(bound(1), Progress())]


async def test_what_is_settled_is_looked_at_no_more(opened: Open) -> None:
    async with opened() as store:
        await store.keep_bindings(MARKET, made(*map(bound, range(1, 10))))
        states = {bound(n + 1).id: Progress(state) for n, state in enumerate(TradeState)}
        await store.record_progress(MARKET, states)
        left = {record.progress.state for record in await store.unsettled_trades(MARKET)}
        assert left == set(TradeState) - {TradeState.SETTLED, TradeState.EXPIRED}
        assert await store.count_trades(MARKET) == dict.fromkeys(TradeState, 1)


async def test_all_can_be_read_page_after_page(opened: Open) -> None:
    trades = list(map(bound, range(1, 8)))
    async with opened() as store:
        await store.keep_bindings(OTHER_MARKET, made(bound(9, OTHER_MARKET)))
        await store.keep_bindings(MARKET, made(*trades))
        settled = Progress(TradeState.SETTLED, "settle 1", 1, 0, 7, tx_hash=b"t" * 32)
        await store.record_progress(MARKET, {trades[0].id: settled})
    async with opened() as store:
        read: list[tuple[int, TradeRecord]] = []
        while page := await store.trades(MARKET, read[-1][0] if read else 0, limit=3):
            read += page
            assert len(page) <= 3
        assert [record.trade for _, record in read] == trades
        assert [record.progress for _, record in read[:2]] == [settled, Progress()]
        positions = [position for position, _ in read]
        assert positions == sorted(set(positions))
        assert positions[0] > 0


async def test_a_file_of_version_3_is_taken_along(tmp_path: Path) -> None:
    """It did not say which transaction showed how a trade ended."""
    path, network = tmp_path / "store.sqlite", NetworkId(b"n" * 32)
    async with open_sqlite_store(path, network) as store:
        await store.keep_bindings(MARKET, made(bound(1)))
        await store.record_progress(MARKET, {bound(1).id: SENT})
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE trades DROP COLUMN tx_hash")
        db.execute("PRAGMA user_version = 3")
        db.commit()
    async with open_sqlite_store(path, network) as store:
        kept = TradeRecord(bound(1), SENT._replace(tx_hash=b""))
        assert await store.unsettled_trades(MARKET) == [kept]


async def test_pruning_takes_nothing_and_markets_are_apart(opened: Open) -> None:
    async with opened() as store:
        await store.keep_bindings(MARKET, waiting(bound(1)))
        await store.keep_bindings(MARKET, made(bound(2)))
        assert await store.unsettled_trades(OTHER_MARKET) == []
        assert await store.consents(OTHER_MARKET) == {}
        await store.keep_checkpoint(MARKET, CheckpointRecord(Epoch(8), b"", ()))
        await store.prune(MARKET, PruneLine(Epoch(8), Era(9), Round(9), ()))
        await store.drop_checkpoints(MARKET)
        assert await store.consents(MARKET) == waiting(bound(1)).consents
        assert await store.unsettled_trades(MARKET) == [TradeRecord(bound(2), Progress())]
