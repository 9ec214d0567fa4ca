"""The shortened `make chaos`, and that its judge sees what would be wrong.

`make chaos` runs the long form: more kills, one node cut off, then two.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import chaos
import pytest
import soak
from attrs import frozen
from verdict import Acknowledged, judge, read_book

from orrange_p2p.core import ticks
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Epoch
from orrange_p2p.core.ticks import Applied, decode_tick
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.ports import Record
from orrange_p2p.signers.keyfile import open_signer
from orrange_p2p.store.sqlite_file import SqliteFile


@frozen
class Ran:
    """What one run left behind."""

    figures: dict[str, Any]
    genesis: Genesis
    stores: list[Path]
    book: list[Acknowledged]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    if reason := chaos.why_not():
        pytest.skip(f"SKIPPED: no chaos here: {reason}")
    base = tmp_path_factory.mktemp("chaos")
    figures = chaos.run(base, chaos.SHORT, seed=1)
    kept = [DataDir(base / f"node-{n}") for n in range(chaos.NODES) if n != chaos.FULL_DISK_NODE]
    yield Ran(
        figures,
        kept[0].load_genesis(),
        [directory.store for directory in kept],
        read_book(base / "acknowledged"),
    )
    print(figures, file=sys.stderr)


def test_nothing_is_lost_and_all_agree(ran: Ran) -> None:
    figures = ran.figures
    assert figures["passed"]
    assert figures["roots_equal"] and figures["lost"] == figures["double_signatures"] == 0
    assert figures["kills"] >= 3 and figures["acknowledged"] >= 100
    assert figures["common_epoch"] > 0


# --- the judge: each sabotage of a copy is seen ---


def judged(ran: Ran, tmp_path: Path, sabotage: Callable[[Path], None]) -> dict[str, Any]:
    spoiled = tmp_path / "store.sqlite"
    shutil.copy(ran.stores[0], spoiled)
    sabotage(spoiled)
    return judge(ran.genesis, [spoiled, *ran.stores[1:]], ran.book)


def test_the_judge_misses_an_acknowledged_entry(ran: Ran, tmp_path: Path) -> None:
    line = ran.book[len(ran.book) // 2]
    author = bytes.fromhex(line.author[2:])

    def forget(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            gone = "DELETE FROM records WHERE kind = 0 AND signer = ? AND number = ?"
            assert db.execute(gone, (author, line.seq)).rowcount == 1

    found = judged(ran, tmp_path, forget)
    assert found["lost"] >= 1


def test_the_judge_misses_an_operation(ran: Ran, tmp_path: Path) -> None:
    line = ran.book[0]
    other = line._replace(row={**line.row, "price": line.row["price"] + 1})
    found = judge(ran.genesis, ran.stores[:1], [other, *ran.book[1:]])
    assert found["lost"] == 1


def test_the_judge_finds_a_second_signature(ran: Ran, tmp_path: Path) -> None:
    genesis = ran.genesis
    witness = open_signer(DataDir(ran.stores[0].parent).witness_key)

    def sign_again(path: Path) -> None:
        with SqliteFile(path, genesis.network_id) as file:
            page, _ = file.load_page(genesis.markets[0].id, 0, file.last_position())
            first = next(r for r in page if r.kind and r.signer == witness.address)
            tick = decode_tick(first.encoded, genesis.separator, first.market)
            body = tick.body._replace(applied=Applied(Epoch(0), b"another root".ljust(32)))
            draft = ticks.draft(
                genesis.separator, first.market, tick.era, tick.round, witness.address, body
            )
            file.append([Record.of_tick(draft.signed(witness.sign(draft.digest)))])

    found = judged(ran, tmp_path, sign_again)
    assert found["double_signatures"] == 1


def test_the_judge_finds_a_wrong_root(ran: Ran, tmp_path: Path) -> None:
    def forge(path: Path) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE epochs SET root = zeroblob(32) WHERE epoch = 2")

    found = judged(ran, tmp_path, forge)
    assert not found["roots_equal"] and found["unequal_epochs"] == [2]


# --- the soak's arithmetic; the soak itself is `make soak` ---


def test_growth_counts_from_when_a_node_has_settled() -> None:
    def sample(minute: float, rss_kib: int) -> soak.Sample:
        return soak.Sample(minute, rss_kib, 0, 0, 0, 0, 0, 0)

    filling = [sample(minute, 1000 + 100 * minute) for minute in range(5)]
    flat = [sample(minute, 1500) for minute in range(5, 30)]
    assert soak.growth([*filling, *flat], 5) == 0
    growing = [sample(minute, 1000 + 10 * minute) for minute in range(30)]
    assert soak.growth(growing, 5) > soak.GROWTH_LIMIT
