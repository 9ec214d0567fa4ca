"""The conformance suite of the ``IntentStore`` port, and SQLite's own tests.

1  what is added comes back, by name and as pending    4  a sender's nonce belongs to one intent
2  replacements are kept in order                      5  nonces are counted per sender
3  a name is taken once                                6  an outcome is kept once, and ends it
                                                       7  small values are kept
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from orrange_p2p.core.errors import CallerError, ConfigError, StoreError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.ports.chain import (
    Attempt,
    Intent,
    IntentRecord,
    IntentState,
    IntentStore,
    Outcome,
)
from orrange_p2p.store.intents_memory import MemoryIntents
from orrange_p2p.store.intents_sqlite import open_sqlite_intents

CHAIN = "eip155:31337"
ALICE, BOB = Address(b"a" * 20), Address(b"b" * 20)
MOST = (1 << 256) - 1

Open = Callable[[], AbstractAsyncContextManager[IntentStore]]


def attempt(content: bytes, fee: int = 7) -> Attempt:
    return Attempt(content.ljust(32, b"."), b"raw " + content, fee, fee - 1, 12)


def record(name: str, nonce: int, sender: Address = ALICE) -> IntentRecord:
    intent = Intent(name, sender, BOB, b"data", Amount(5))
    return IntentRecord(intent, nonce, 21_000, (attempt(name.encode()),))


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    @asynccontextmanager
    async def open_memory() -> AsyncIterator[IntentStore]:
        yield MemoryIntents()

    if request.param == "memory":
        return open_memory
    return lambda: open_sqlite_intents(tmp_path / "chain.sqlite", CHAIN)


async def test_what_is_added_comes_back(opened: Open) -> None:
    async with opened() as store:
        assert await store.get("a") is None
        assert await store.pending() == []
        extreme = IntentRecord(
            Intent("b", ALICE, None, bytes(1000), Amount(MOST), 99), 3, 99, (attempt(b"b", MOST),)
        )
        other = record("c", 0, BOB)
        for one in (extreme, other, record("a", 2)):
            await store.add(one)
        assert await store.get("b") == extreme
        assert await store.pending() == [record("a", 2), extreme, other]


async def test_replacements_are_kept_in_order(opened: Open) -> None:
    async with opened() as store:
        await store.add(record("a", 0))
        for content in (b"second", b"third"):
            await store.add_attempt("a", attempt(content))
        kept = await store.get("a")
        assert kept is not None
        assert kept.attempts == (attempt(b"a"), attempt(b"second"), attempt(b"third"))
        with pytest.raises(CallerError, match="no intent"):
            await store.add_attempt("b", attempt(b"fourth"))


async def test_a_name_and_a_nonce_are_taken_once(opened: Open) -> None:
    async with opened() as store:
        await store.add(record("a", 0))
        with pytest.raises(CallerError, match="an intent 'a' already"):
            await store.add(record("a", 1))
        with pytest.raises(CallerError, match="nonce 0 belongs to intent 'a'"):
            await store.add(record("b", 0))
        await store.add(record("b", 0, BOB))
        assert [one.intent.name for one in await store.pending()] == ["a", "b"]


async def test_nonces_are_counted_per_sender(opened: Open) -> None:
    async with opened() as store:
        assert await store.next_nonce(ALICE) == 0
        await store.add(record("a", 6))
        await store.conclude(
            "a", Outcome(IntentState.DROPPED, b"h" * 32, (1, b"b" * 32), Amount(0))
        )
        assert await store.next_nonce(ALICE) == 7
        assert await store.next_nonce(BOB) == 0


async def test_an_outcome_is_kept_once_and_ends_it(opened: Open) -> None:
    outcome = Outcome(IntentState.FINAL, b"h" * 32, (9, b"b" * 32), Amount(MOST))
    async with opened() as store:
        await store.add(record("a", 0))
        for _ in range(2):
            await store.conclude("a", outcome)
        assert await store.get("a") == record("a", 0)._replace(outcome=outcome)
        assert await store.pending() == []
        with pytest.raises(CallerError, match="another outcome"):
            await store.conclude("a", outcome._replace(state=IntentState.FAILED))
        with pytest.raises(CallerError, match="is final already"):
            await store.add_attempt("a", attempt(b"late"))
        with pytest.raises(CallerError, match="no intent"):
            await store.conclude("b", outcome)


async def test_small_values_are_kept(opened: Open) -> None:
    async with opened() as store:
        assert await store.meta("x") is None
        for value in (b"1", b"\x002"):
            await store.set_meta("x", value)
            assert await store.meta("x") == value


# --- the file ---


async def test_the_file_remembers_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    async with open_sqlite_intents(path, CHAIN) as store:
        await store.add(record("a", 4))
    async with open_sqlite_intents(path, CHAIN) as store:
        assert await store.pending() == [record("a", 4)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_second_process_and_another_chain_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.sqlite"
    async with open_sqlite_intents(path, CHAIN):
        with pytest.raises(StoreError, match="in use by another process"):
            async with open_sqlite_intents(path, CHAIN):
                pass
    with pytest.raises(ConfigError, match="belongs to chain eip155:31337, not eip155:1"):
        async with open_sqlite_intents(path, "eip155:1"):
            pass


async def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(ConfigError, match="not a file of sent transactions"):
        async with open_sqlite_intents(foreign, CHAIN):
            pass
    garbage = tmp_path / "garbage.sqlite"
    garbage.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        async with open_sqlite_intents(garbage, CHAIN):
            pass
    with pytest.raises(StoreError, match="No such file"):
        async with open_sqlite_intents(tmp_path / "none" / "x.sqlite", CHAIN):
            pass
