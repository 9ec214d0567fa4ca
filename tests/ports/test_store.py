"""The conformance suite of the ``Store`` port, which every adapter passes, and SQLite's own tests.

1  what is appended comes back in order    6  a key goes forward only, whatever comes
2  a digest is kept once                   7  an epoch has one root
3  markets are apart                       8  pages end at their limits and miss nothing
4  entries and ticks are found by place    9  small values are kept
5  our own last position is known         10  a checkpoint is kept with all its parts
                                          11  pruning stays behind it, and forgets no position
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orrange_p2p.core.errors import CallerError, ConfigError, StoreError
from orrange_p2p.core.ids import (
    Address,
    Digest,
    Epoch,
    Era,
    MarketId,
    NetworkId,
    Round,
    Seq,
    TimeMs,
)
from orrange_p2p.ports import (
    CheckpointRecord,
    EpochRecord,
    OwnPosition,
    PruneLine,
    Record,
    RecordKind,
    Store,
)
from orrange_p2p.store.memory import MemoryStore
from orrange_p2p.store.schema import _STEPS, SCHEMA_VERSION
from orrange_p2p.store.sqlite import open_sqlite_store
from orrange_p2p.store.sqlite_file import (
    Append,
    AppendOwn,
    KeepCheckpoint,
    KeepParts,
    SqliteFile,
)

ENTRY, TICK = RecordKind.ENTRY, RecordKind.TICK
NETWORK = NetworkId(b"n" * 32)
MARKET, OTHER_MARKET = MarketId(b"m" * 32), MarketId(b"o" * 32)
ALICE, BOB = Address(b"a" * 20), Address(b"b" * 20)


def record(
    number: int,
    kind: RecordKind = ENTRY,
    *,
    signer: Address = ALICE,
    era: int = 0,
    market: MarketId = MARKET,
    content: bytes = b"",
) -> Record:
    """Distinct contents make distinct digests."""
    name = b"%d|%d|%d|" % (kind, era, number) + signer + market + content
    digest = Digest(sha256(name).digest())
    return Record(kind, market, signer, Era(era), number, digest, name)


def checkpoint(number: int, *parts: bytes) -> CheckpointRecord:
    return CheckpointRecord(Epoch(number), b"checkpoint %d" % number, parts)


def named(*contents: bytes) -> dict[bytes, bytes]:
    return {sha256(content).digest(): content for content in contents}


def epoch(number: int, root: bytes = b"r" * 32) -> EpochRecord:
    return EpochRecord(Epoch(number), root, Digest(b"l" * 32), TimeMs(1000 + number))


async def loaded(store: Store, market: MarketId = MARKET) -> list[Record]:
    return [one async for page in store.load(market) for one in page]


Open = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    @asynccontextmanager
    async def open_memory() -> AsyncIterator[Store]:
        yield MemoryStore()

    if request.param == "memory":
        return open_memory
    return lambda: open_sqlite_store(tmp_path / "store.sqlite", NETWORK)


# --- every adapter ---


async def test_what_is_appended_comes_back_in_order(opened: Open) -> None:
    async with opened() as store:
        assert await loaded(store) == []
        records = [record(2), record(0, TICK), record(1), record(7, signer=BOB)]
        await store.append(records[:3])
        await store.append([])
        await store.append(records[3:])
        assert await loaded(store) == records


async def test_a_digest_is_kept_once(opened: Open) -> None:
    async with opened() as store:
        first = record(0)
        await store.append([first, first])
        await store.append([first._replace(encoded=b"signed again"), record(1)])
        assert await loaded(store) == [first, record(1)]


async def test_markets_are_apart(opened: Open) -> None:
    async with opened() as store:
        other = record(0, market=OTHER_MARKET)
        await store.append([record(0), other])
        assert await loaded(store) == [record(0)]
        assert await store.find(MARKET, [other.digest]) == []
        assert await store.log(OTHER_MARKET, ALICE, Seq(0)) == [other]


async def test_facts_are_found_by_their_place(opened: Open) -> None:
    async with opened() as store:
        fork = record(1, content=b"fork")
        entries = [record(2), record(1), record(0), fork, record(1, signer=BOB)]
        ticks = [record(1, TICK, era=1), record(0, TICK, era=1), record(0, TICK)]
        await store.append(entries + ticks)
        assert await store.log(MARKET, ALICE, Seq(1)) == [record(1), fork, record(2)]
        assert await store.log(MARKET, ALICE, Seq(1), limit=1) == [record(1)]
        assert await store.log(MARKET, ALICE, Seq(3)) == []
        assert await store.rounds(MARKET, Era(1), Round(0)) == [ticks[1], ticks[0]]
        assert await store.rounds(MARKET, Era(2), Round(0)) == []
        asked = [ticks[0].digest, Digest(b"?" * 32), fork.digest]
        assert await store.find(MARKET, asked) == [ticks[0], fork]


async def test_our_last_position_is_known(opened: Open) -> None:
    async with opened() as store:
        assert await store.own_position(ENTRY, MARKET, ALICE) is None
        await store.append([record(8)])  # somebody else's word about Alice
        assert await store.own_position(ENTRY, MARKET, ALICE) is None
        await store.append_own([record(0), record(1)])
        await store.append_own([record(5, TICK, era=3)])
        at = await store.own_position(ENTRY, MARKET, ALICE)
        assert at == OwnPosition(Era(0), 1, record(1).digest)
        at = await store.own_position(TICK, MARKET, ALICE)
        assert at == OwnPosition(Era(3), 5, record(5, TICK, era=3).digest)
        assert await store.own_position(ENTRY, OTHER_MARKET, ALICE) is None
        assert len(await loaded(store)) == 4


@pytest.mark.parametrize(
    ("signed", "again"),
    [
        (record(5), record(5, content=b"another")),
        (record(5), record(4)),
        (record(5, TICK), record(5, TICK, content=b"another")),
        (record(5, TICK, era=2), record(9, TICK, era=1)),
    ],
)
async def test_no_key_signs_twice(opened: Open, signed: Record, again: Record) -> None:
    async with opened() as store:
        await store.append_own([signed])
        await store.append_own([signed])
        later = record(6, signed.kind, era=2)
        for attempt in ([again], [record(0, signer=BOB), again], [later, again]):
            with pytest.raises(CallerError, match="never signs twice"):
                await store.append_own(attempt)
        assert await loaded(store) == [signed]
        assert await store.own_position(ENTRY, MARKET, BOB) is None
        await store.append_own([later])
        assert await loaded(store) == [signed, later]


async def test_an_epoch_has_one_root(opened: Open) -> None:
    async with opened() as store:
        assert await store.latest_epoch(MARKET) is None
        for number in (1, 2, 3, 2):
            await store.record_epoch(MARKET, epoch(number))
        with pytest.raises(CallerError, match="not folded alike"):
            await store.record_epoch(MARKET, epoch(2, b"x" * 32))
        assert await store.epochs(MARKET, Epoch(2)) == [epoch(2), epoch(3)]
        assert await store.epochs(MARKET, Epoch(0), limit=1) == [epoch(1)]
        assert await store.latest_epoch(MARKET) == epoch(3)
        assert await store.latest_epoch(OTHER_MARKET) is None
        await store.drop_epochs(MARKET, Epoch(2))
        await store.drop_epochs(OTHER_MARKET, Epoch(0))
        assert await store.latest_epoch(MARKET) == epoch(2)


async def test_pages_miss_nothing(opened: Open) -> None:
    async with opened() as store:
        big = [record(n, content=bytes(60_000)) for n in range(30)]
        small = [record(n, TICK) for n in range(2500)]
        await store.append(big + small)
        pages = [page async for page in store.load(MARKET)]
        assert [one for page in pages for one in page] == big + small
        assert max(sum(len(one.encoded) for one in page) for page in pages) < 600_000
        assert len(await store.log(MARKET, ALICE, Seq(0))) == 9
        assert len(await store.rounds(MARKET, Era(0), Round(0))) == 256


async def test_a_checkpoint_is_kept_with_all_its_parts(opened: Open) -> None:
    async with opened() as store:
        assert await store.checkpoint(MARKET) is None
        parts = named(b"one", b"two", b"three")
        one, two, three = parts
        await store.keep_parts(MARKET, named(b"one", b"two"))
        with pytest.raises(CallerError, match="1 parts of the checkpoint"):
            await store.keep_checkpoint(MARKET, checkpoint(8, one, two, three))
        assert await store.checkpoint(MARKET) is None
        await store.keep_parts(MARKET, named(b"three", b"two"))
        assert await store.held_parts(MARKET, [three, b"?", one]) == {one, three}
        assert await store.held_parts(OTHER_MARKET, [one]) == set()
        for _ in range(2):
            await store.keep_checkpoint(MARKET, checkpoint(8, one, two, three, one))
        assert await store.checkpoint(MARKET) == checkpoint(8, one, two, three, one)
        assert await store.part(MARKET, two) == b"two"
        assert await store.part(MARKET, b"?") is None
        with pytest.raises(CallerError, match="newer than 7"):
            await store.keep_checkpoint(MARKET, checkpoint(7))
        await store.keep_checkpoint(MARKET, checkpoint(9, two))
        assert await store.checkpoint(MARKET) == checkpoint(9, two)
        assert await store.checkpoint(OTHER_MARKET) is None
        await store.record_epoch(MARKET, epoch(9))
        await store.drop_checkpoints(MARKET)
        assert await store.checkpoint(MARKET) is None
        assert await store.held_parts(MARKET, list(parts)) == set()
        await store.record_epoch(MARKET, epoch(9, b"x" * 32))  # computed anew


async def test_pruning_stays_behind_the_checkpoint(opened: Open) -> None:
    async with opened() as store:
        entries = [record(n) for n in range(6)] + [record(n, signer=BOB) for n in range(3)]
        ticks = [record(n, TICK, era=era) for era in (0, 1) for n in range(8)]
        others = [record(n, kind, market=OTHER_MARKET) for kind in (ENTRY, TICK) for n in range(3)]
        await store.append([*entries, *ticks, *others])
        await store.append_own([record(0, signer=BOB)])
        for number in range(1, 7):
            await store.record_epoch(MARKET, epoch(number))
        line = PruneLine(Epoch(4), Era(1), Round(3), ((ALICE, Seq(4)), (BOB, Seq(3))))
        with pytest.raises(CallerError, match="no such checkpoint"):
            await store.prune(MARKET, line)
        old, both, new = named(b"old", b"both", b"new")
        await store.keep_parts(MARKET, {old: b"damaged"})
        await store.keep_parts(MARKET, named(b"old", b"both", b"new"))
        assert await store.part(MARKET, old) == b"old"
        await store.keep_checkpoint(MARKET, checkpoint(3, old, both))
        with pytest.raises(CallerError, match="no such checkpoint"):
            await store.prune(MARKET, line)
        assert len(await loaded(store)) == len(entries) + len(ticks)
        await store.keep_checkpoint(MARKET, checkpoint(5, both, new))
        while await store.prune(MARKET, line, limit=2):
            pass
        assert await loaded(store) == [record(4), record(5), *ticks[11:]]
        assert await loaded(store, OTHER_MARKET) == others
        assert await store.epochs(MARKET, Epoch(0)) == [epoch(4), epoch(5), epoch(6)]
        assert await store.held_parts(MARKET, [old, both, new]) == {both, new}
        assert await store.checkpoint(MARKET) == checkpoint(5, both, new)
        with pytest.raises(CallerError, match="never signs twice"):
            await store.append_own([record(0, signer=BOB, content=b"another")])


async def test_small_values_are_kept(opened: Open) -> None:
    async with opened() as store:
        assert await store.meta("mode") is None
        await store.set_meta("mode", b"a")
        await store.set_meta("mode", b"b")
        assert await store.meta("mode") == b"b"


async def test_appending_goes_on_while_loading(opened: Open) -> None:
    async with opened() as store:
        await store.append([record(n) for n in range(2000)])
        seen = 0
        async for page in store.load(MARKET):
            seen += len(page)
            await store.append([record(10_000 + seen)])
        assert seen == 2000


Steps = st.lists(
    st.tuples(st.sampled_from([ENTRY, TICK]), st.integers(0, 2), st.integers(0, 3), st.booleans())
)


@settings(max_examples=60)
@given(Steps)
def test_both_adapters_do_the_same_whatever_comes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[RecordKind, int, int, bool]]
) -> None:
    """And no accepted record contradicts an earlier one of its signer."""
    file = SqliteFile(tmp_path_factory.mktemp("store") / "store.sqlite", NETWORK)
    memory = MemoryStore()
    accepted: dict[tuple[RecordKind, int, int], Digest] = {}

    async def run() -> None:
        for kind, era, number, variant in steps:
            era = era if kind is TICK else 0
            one = record(number, kind, era=era, content=b"v" * variant)
            (refusal,) = file.commit([AppendOwn([one])])
            if refusal is None:
                await memory.append_own([one])
                assert accepted.setdefault((kind, era, number), one.digest) == one.digest
            else:
                with pytest.raises(CallerError, match=re.escape(str(refusal))):
                    await memory.append_own([one])
        assert file.load_page(MARKET, 0, 1 << 60)[0] == await loaded(memory)

    with file:
        trio.run(run)


# --- SQLite alone ---


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def test_everything_is_there_after_a_restart(path: Path) -> None:
    with SqliteFile(path, NETWORK) as file:
        file.append([record(0)])
        file.append_own([record(1)])
        file.record_epoch(MARKET, epoch(1))
        file.set_meta("mode", b"m")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with SqliteFile(path, NETWORK) as file:
        assert file.load_page(MARKET, 0, file.last_position())[0] == [record(0), record(1)]
        assert file.latest_epoch(MARKET) == epoch(1)
        assert file.meta("mode") == b"m"
        with pytest.raises(CallerError):
            file.append_own([record(1, content=b"another")])


def test_it_is_durable_and_private_while_open(path: Path) -> None:
    with SqliteFile(path, NETWORK) as file:
        file.append([record(0)])
        assert file._db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert file._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        modes = {stat.S_IMODE(side.stat().st_mode) for side in path.parent.iterdir()}
        assert modes == {0o600}


def test_a_refused_write_does_not_disturb_its_group(path: Path) -> None:
    with SqliteFile(path, NETWORK) as file:
        answers = file.commit(
            [
                AppendOwn([record(0)]),
                AppendOwn([record(0, content=b"another")]),
                Append([record(1)._replace(digest=Digest(b"short"))]),
                AppendOwn([record(1)]),
            ]
        )
        assert [type(answer) for answer in answers] == [
            type(None),
            CallerError,
            CallerError,
            type(None),
        ]
        assert file.load_page(MARKET, 0, 99)[0] == [record(0), record(1)]


async def test_concurrent_writers_share_flushes(path: Path) -> None:
    async with open_sqlite_store(path, NETWORK) as store:
        async with trio.open_nursery() as nursery:
            for n in range(500):
                nursery.start_soon(store.append, [record(n)])
        assert store.flushes <= 5
        assert len(await loaded(store)) == 500


async def test_cancelled_writers_harm_nobody(path: Path) -> None:
    async with open_sqlite_store(path, NETWORK) as store:
        acknowledged: list[int] = []

        async def write(number: int) -> None:
            await store.append([record(number)])
            acknowledged.append(number)

        async with trio.open_nursery() as nursery:
            doomed = [trio.CancelScope() for _ in range(50)]

            async def write_doomed(number: int) -> None:
                with doomed[number]:
                    await write(number)

            for number in range(50):
                nursery.start_soon(write_doomed, number)
                nursery.start_soon(write, 100 + number)
            await trio.lowlevel.checkpoint()
            for scope in doomed:
                scope.cancel()
        assert {100 + number for number in range(50)} <= set(acknowledged)
        assert set(acknowledged) <= {one.number for one in await loaded(store)}


async def test_a_closed_store_says_so(path: Path) -> None:
    async with open_sqlite_store(path, NETWORK) as store:
        pass
    with pytest.raises(StoreError, match="closed"):
        await store.append([record(0)])
    with pytest.raises(StoreError, match="closed"):
        await store.meta("mode")


def test_a_copy_is_whole_and_marked_while_the_store_goes_on(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    with SqliteFile(path, NETWORK, {"mode": b"first"}) as file:
        assert file.meta("mode") == b"first"
        file.set_meta("mode", b"m")
        file.append([record(0)])
        file.backup(copy, {"mark": b"!"})
        assert file.meta("mark") is None
        file.append([record(1)])
        with pytest.raises(StoreError, match="cannot write"):
            file.backup(copy, {})
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy.sqlite"]
    with SqliteFile(copy, NETWORK, {"mode": b"first"}) as file:
        assert (file.meta("mode"), file.meta("mark")) == (b"m", b"!")
        assert file.check() == 1


def test_one_process_at_a_time(path: Path) -> None:
    with SqliteFile(path, NETWORK), pytest.raises(StoreError, match="in use"):
        SqliteFile(path, NETWORK)


def test_another_network_is_refused(path: Path) -> None:
    SqliteFile(path, NETWORK).close()
    with pytest.raises(ConfigError, match="belongs to network"):
        SqliteFile(path, NetworkId(b"x" * 32))
    SqliteFile(path, NETWORK).close()


def test_a_newer_schema_is_refused(path: Path) -> None:
    SqliteFile(path, NETWORK).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigError, match="update orrange"):
        SqliteFile(path, NETWORK)


def test_a_foreign_database_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(ConfigError, match="another program"):
        SqliteFile(path, NETWORK)


def test_damage_is_told(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StoreError, match="damaged"):
        SqliteFile(path, NETWORK)
    path.unlink()
    with SqliteFile(path, NETWORK) as file:
        file.append([record(n, content=bytes(3000)) for n in range(200)])
    _damage(path)
    with SqliteFile(path, NETWORK) as file, pytest.raises(StoreError, match="damaged"):
        file.load_page(MARKET, 0, 1 << 60)
    with SqliteFile(path, NETWORK) as file, pytest.raises(StoreError, match="damaged"):
        file.check()


def test_a_file_is_checked_once_the_machine_went_down_with_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after every kill of the process, which harms no file and may happen to large ones."""
    file = SqliteFile(path, NETWORK)
    file.append([record(n, content=bytes(3000)) for n in range(200)])
    file._db.close()  # as if killed: the mark stays
    _damage(path)
    SqliteFile(path, NETWORK)._db.close()
    monkeypatch.setattr("orrange_p2p.store.sqlite_file._boot", lambda: b"a later boot")
    with pytest.raises(StoreError, match="damaged"):
        SqliteFile(path, NETWORK)


def test_a_sound_file_passes_the_check(path: Path) -> None:
    with SqliteFile(path, NETWORK) as file:
        file.append([record(n) for n in range(20)])
        assert file.check() == 20


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8192:24576] = random.Random(1).randbytes(16384)
    path.write_bytes(content)


def test_a_file_of_version_1_is_taken_along(path: Path) -> None:
    """One that the code of that version wrote."""
    shutil.copy(Path(__file__).parent / "data" / "store-v1.sqlite", path)
    for _ in range(2):
        with SqliteFile(path, NETWORK) as file:
            assert file._db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
            records = [*(record(n) for n in range(3)), record(0, TICK), record(5, TICK, era=2)]
            assert file.load_page(MARKET, 0, 99)[0] == records
            assert file.latest_epoch(MARKET) == epoch(1)
            assert file.meta("mode") == b"m"
            at = file.own_position(TICK, MARKET, ALICE)
            assert at == OwnPosition(Era(2), 5, records[-1].digest)
            file.commit([KeepParts(MARKET, named(b"one"))])
            file.commit([KeepCheckpoint(MARKET, checkpoint(8, *named(b"one")))])
            assert file.checkpoint(MARKET) == checkpoint(8, *named(b"one"))


@pytest.mark.parametrize("version", range(2, SCHEMA_VERSION))
def test_a_file_of_a_version_between_is_taken_along(path: Path, version: int) -> None:
    """From the file of version 1, by the steps that led there, with a checkpoint in it."""
    shutil.copy(Path(__file__).parent / "data" / "store-v1.sqlite", path)
    (name,) = named(b"one")
    kept = checkpoint(8, name)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in ";\n".join(_STEPS[1:version]).split(";\n"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("INSERT INTO checkpoints VALUES (?, ?, ?)", (MARKET, 8, kept.encoded))
        db.execute("INSERT INTO parts VALUES (?, ?, ?)", (MARKET, name, b"one"))
        db.execute("INSERT INTO checkpoint_parts VALUES (?, ?, ?, ?)", (MARKET, 8, 0, name))
    with SqliteFile(path, NETWORK) as file:
        assert file._db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert file.checkpoint(MARKET) == kept
        assert file.part(MARKET, name) == b"one"
        assert len(file.load_page(MARKET, 0, 99)[0]) == 5
        assert file.unsettled_trades(MARKET) == []


def test_no_place_to_write_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        SqliteFile(tmp_path / "none" / "store.sqlite", NETWORK)
    with pytest.raises(StoreError, match="cannot open"):
        SqliteFile(tmp_path, NETWORK)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_told(path: Path) -> None:
    SqliteFile(path, NETWORK).close()
    path.chmod(0o400)
    with pytest.raises(StoreError, match="Permission denied"):
        SqliteFile(path, NETWORK)


async def test_a_full_disk_loses_nothing_and_heals(path: Path) -> None:
    async with open_sqlite_store(path, NETWORK) as store:
        await store.append_own([record(0)])
        pages = store._file._db.execute("PRAGMA page_count").fetchone()[0]
        store._file._db.execute(f"PRAGMA max_page_count = {pages + 5}")
        big = [record(n, content=bytes(10_000)) for n in range(1, 9)]
        with pytest.raises(StoreError, match="no space left"):
            await store.append_own(big)
        assert await loaded(store) == [record(0)]
        at = await store.own_position(ENTRY, MARKET, ALICE)
        assert at is not None and at.number == 0
        store._file._db.execute("PRAGMA max_page_count = 100000")
        await store.append_own(big)
        assert await loaded(store) == [record(0), *big]


WRITER = """
import sys
from hashlib import sha256
from pathlib import Path
from orrange_p2p.ports import Record, RecordKind
from orrange_p2p.store.sqlite_file import SqliteFile

path, start = Path(sys.argv[1]), int(sys.argv[2])
with SqliteFile(path, b"n" * 32) as file:
    for n in range(start, start + 100_000):
        records = []
        for kind in RecordKind:
            content = b"%d/%d/" % (n, kind) + bytes(2000)
            digest = sha256(content).digest()
            records.append(Record(kind, b"m" * 32, b"a" * 20, 0, n, digest, content))
        file.append_own(records)
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
"""


def test_kill_at_any_point_loses_nothing_acknowledged(path: Path) -> None:
    """A writer is killed in the middle, again and again, and goes on where its guard stands."""
    dice = random.Random(7)
    acknowledged = -1
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(acknowledged + 1)],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            for _ in range(dice.randrange(1, 60)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().splitlines(keepends=True)
        acknowledged = max([acknowledged, *(int(line) for line in rest if line.endswith("\n"))])
        with SqliteFile(path, NETWORK) as file:
            for kind in (ENTRY, TICK):
                at = file.own_position(kind, MARKET, ALICE)
                assert at is not None and at.number in (acknowledged, acknowledged + 1)
            acknowledged = at.number
            numbers = [
                row[0] for row in file._db.execute("SELECT number FROM records ORDER BY position")
            ]
            assert numbers == [n for n in range(acknowledged + 1) for _ in range(2)]
            with pytest.raises(CallerError):
                file.append_own([record(acknowledged, content=b"another")])


PRUNER = """
import sys
from hashlib import sha256
from pathlib import Path
from orrange_p2p.ports import CheckpointRecord, PruneLine, Record, RecordKind
from orrange_p2p.store.sqlite_file import KeepCheckpoint, KeepParts, SqliteFile

market, author = b"m" * 32, b"a" * 20
with SqliteFile(Path(sys.argv[1]), b"n" * 32) as file:
    at = file.own_position(RecordKind.ENTRY, market, author)
    start = 0 if at is None else at.number + 1
    for n in range(start, start + 100_000):
        file.append_own([Record(RecordKind.ENTRY, market, author, 0, n, sha256(b"%d" % n).digest(),
                                b"%d" % n)])
        if n % 4 == 0:
            parts = {sha256(c).digest(): c for c in (b"shared", b"part %d" % n)}
            for one in parts.items():
                file.commit([KeepParts(market, dict([one]))])
            file.commit([KeepCheckpoint(market, CheckpointRecord(n, b"%d" % n, tuple(parts)))])
            while file.prune(market, PruneLine(n, 0, 0, ((author, n),)), 2):
                pass
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
"""


def test_a_kill_between_checkpoint_and_pruning_leaves_no_hole(path: Path) -> None:
    """Checkpoint, its parts, and every entry since: at any moment all of it is there."""
    dice = random.Random(8)
    last = -1
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", PRUNER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(dice.randrange(1, 40)):
                last = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            writer.stdout.read()
        with SqliteFile(path, NETWORK) as file:
            kept = file.checkpoint(MARKET)
            assert kept is not None
            assert file.held_parts(MARKET, kept.parts) == set(kept.parts)
            numbers = [r.number for r in file.load_page(MARKET, 0, 1 << 60)[0]]
            assert numbers[-1] >= last
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert numbers[0] <= kept.epoch
