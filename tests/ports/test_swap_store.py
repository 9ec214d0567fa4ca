"""The conformance suite of the ``SwapStore`` port, which every adapter passes.

1  what is kept is read back as it was      4  what has ended is open no more, and can be read
2  the same again changes nothing           5  a hash that is used is found, but for one's own
3  where a swap stands outlives a restart   6  markets are apart; the store knows when it began
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from orrange_p2p.core.errors import CallerError, ConfigError, StoreError
from orrange_p2p.core.ids import Address, Amount, Epoch, MarketId, MatchId, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.operations import Side
from orrange_p2p.core.swaps.agreement import Deal
from orrange_p2p.core.swaps.htlc import ENDED, Role, Swap, SwapProgress, SwapState
from orrange_p2p.core.swaps.legs import Lock
from orrange_p2p.core.swaps.schedule import CHAIN_CLASSES, schedule
from orrange_p2p.ports.swaps import Shown, SwapRecord, SwapStore
from orrange_p2p.store.swaps_memory import MemorySwaps
from orrange_p2p.store.swaps_sqlite import open_sqlite_swaps

MARKET, OTHER_MARKET = MarketId(b"m" * 32), MarketId(b"o" * 32)
ALICE, BOB = Address(b"a" * 20), Address(b"b" * 20)
BEGUN_MS = 1_700_000_000_000
CLAIMING = SwapProgress(SwapState.CLAIMING, b"p" * 32)
SHOWN = Shown("lock", "", "0xlock", "0xend")

Open = Callable[[], AbstractAsyncContextManager[SwapStore]]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    memory = MemorySwaps(BEGUN_MS)
    starts = 0

    @asynccontextmanager
    async def open_memory() -> AsyncIterator[SwapStore]:
        yield memory

    def open_file() -> AbstractAsyncContextManager[SwapStore]:
        nonlocal starts
        starts += 1
        return open_sqlite_swaps(tmp_path / "swaps.sqlite", BEGUN_MS + starts - 1)

    return open_memory if request.param == "memory" else open_file


def record(number: int, market: MarketId = MARKET) -> SwapRecord:
    trade = Trade(
        market, bytes([number]) * 32, ALICE, BOB, Amount(2**200), Amount(7), Epoch(3), TimeMs(9)
    )
    evm, btc = CHAIN_CLASSES["evm"], CHAIN_CLASSES["btc"]
    times = schedule(TimeMs(BEGUN_MS), btc, evm)
    own = Lock(
        *("eip155:1", "eip155:1/slip44:60", Amount(7), bytes([number]) * 32, trade.id),
        *(ALICE, BOB, times.short_timelock_s),
    )
    other = own._replace(chain="bip122:0", asset="bip122:0/slip44:0", amount=Amount(2**200))
    deal = Deal(trade, BOB, TimeMs(BEGUN_MS), Side.BUY)
    return SwapRecord(deal, Swap(Role.RESPONDER, own, other, evm, btc, times))


async def test_what_is_kept_is_read_back_and_the_same_again_changes_nothing(opened: Open) -> None:
    first, second = record(1), record(2)
    refused = record(3)._replace(
        swap=None, progress=SwapProgress(SwapState.UNLOCKED), problem="their terms are no terms"
    )
    async with opened() as store:
        await store.keep([first, second, refused])
        await store.record(first.deal.id, CLAIMING, SHOWN, "slow")
        await store.keep([first])
    async with opened() as store:
        stands = first._replace(progress=CLAIMING, shown=SHOWN, problem="slow")
        assert await store.get(first.deal.id) == stands
        assert await store.open(MARKET) == [stands, second]
        assert await store.swaps(MARKET) == [(1, stands), (2, second), (3, refused)]
        assert await store.swaps(MARKET, 1, limit=1) == [(2, second)]
        assert await store.count(MARKET) == {
            SwapState.READY: 1,
            SwapState.CLAIMING: 1,
            SwapState.UNLOCKED: 1,
        }
        assert await store.get(MatchId(bytes(32))) is None


@pytest.mark.parametrize("state", SwapState)
async def test_what_has_ended_is_open_no_more(opened: Open, state: SwapState) -> None:
    one = record(1)
    async with opened() as store:
        await store.keep([one])
        await store.record(one.deal.id, SwapProgress(state), Shown(), "")
        assert len(await store.open(MARKET)) == (state not in ENDED)
        assert len(await store.swaps(MARKET)) == 1


async def test_a_hash_that_is_used_is_found(opened: Open) -> None:
    one, other = record(1), record(2, OTHER_MARKET)
    assert one.swap is not None and other.swap is not None
    async with opened() as store:
        await store.keep([one, other])
        assert not await store.is_used(one.swap.own.hashlock, one.deal.id)
        assert await store.is_used(other.swap.own.hashlock, one.deal.id)
        assert not await store.is_used(bytes(32), one.deal.id)


async def test_markets_are_apart_and_the_store_knows_when_it_began(opened: Open) -> None:
    async with opened() as store:
        await store.keep([record(1), record(2, OTHER_MARKET)])
        assert len(await store.open(MARKET)) == len(await store.open(OTHER_MARKET)) == 1
    async with opened() as store:
        assert store.begun_ms == BEGUN_MS
        with pytest.raises(CallerError, match="there is no swap 0x0000"):
            await store.record(MatchId(bytes(32)), CLAIMING, Shown(), "")


async def test_a_file_in_use_and_one_of_another_kind_are_told(tmp_path: Path) -> None:
    path = tmp_path / "swaps.sqlite"
    async with open_sqlite_swaps(path, 1):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(StoreError, match="in use by another process"):
            async with open_sqlite_swaps(path, 1):
                pass
    from orrange_p2p.store.intents_sqlite import open_sqlite_intents

    with pytest.raises(ConfigError, match="is not a file of sent transactions"):
        async with open_sqlite_intents(path, "eip155:1"):
            pass
