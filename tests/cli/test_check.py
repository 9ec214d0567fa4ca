"""``orrange check``: a sound node's files, and each kind of damage."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from orrange_p2p.bench.ingest import MARKET
from orrange_p2p.cli import cluster
from orrange_p2p.cli import main as cli
from orrange_p2p.daemon.config import DataDir


def check(directory: DataDir) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(cli.main, ["check", "--data-dir", str(directory.path)])
    assert not result.stderr, result.stderr
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> DataDir:
    """A node that ran for some rounds."""
    base = tmp_path_factory.mktemp("check")

    async def run() -> None:
        cluster.make_network(base, MARKET, 1, 1, cluster.WIDE)
        async with cluster.running(base, 1, {}) as (node,):
            with trio.fail_after(20):
                while (await node.status())["markets"][0]["epoch"] < 3:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            while_running = await trio.to_thread.run_sync(check, node.directory)
            assert while_running[0] == 1
            assert "in use by another process" in while_running[1]["findings"][-1]["wrong"]

    trio.run(run)
    return DataDir(base / "node-0")


def test_a_stopped_node_is_sound(stopped: DataDir) -> None:
    status, said = check(stopped)
    assert (status, said["sound"]) == (0, True)
    assert [finding["what"].split()[0] for finding in said["findings"]] == [
        "configuration",
        "store",
        "records",
        "checkpoint",
    ]


def test_a_byte_of_a_record_that_changed_is_told(stopped: DataDir) -> None:
    with closing(sqlite3.connect(stopped.store, isolation_level=None)) as db:
        position, encoded = db.execute(
            "SELECT position, encoded FROM records ORDER BY position LIMIT 1"
        ).fetchone()
        broken = encoded[:-1] + bytes([encoded[-1] ^ 1])
        db.execute("UPDATE records SET encoded = ? WHERE position = ?", (broken, position))
    status, said = check(stopped)
    with closing(sqlite3.connect(stopped.store, isolation_level=None)) as db:
        db.execute("UPDATE records SET encoded = ? WHERE position = ?", (encoded, position))
    assert (status, said["sound"]) == (1, False)
    assert len(said["findings"]) == 4, said
    assert "is damaged" in said["findings"][2]["wrong"]
    assert check(stopped)[0] == 0


def test_an_empty_directory_has_nothing_to_check(tmp_path: Path) -> None:
    status, said = check(DataDir(tmp_path))
    assert (status, said["sound"]) == (1, False)
