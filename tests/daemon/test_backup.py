"""Backup and restore: files first, then real nodes of which one comes back from an old backup."""

from __future__ import annotations

import io
import stat
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from orrange_p2p.cli import cluster
from orrange_p2p.client.api import Client, connect
from orrange_p2p.core.errors import ConfigError, StoreError, WorldError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.daemon import backup, datadir
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.daemon.keys import PlainKeys
from orrange_p2p.daemon.signing import RESTORED
from orrange_p2p.ports.chain import Attempt, Intent, IntentRecord
from orrange_p2p.store.intents_sqlite import open_sqlite_intents
from orrange_p2p.store.sqlite_file import SqliteFile


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDir:
    """A stopped node that has a store."""
    monkeypatch.setattr("orrange_p2p.core.reveals.RevealChain.__init__.__defaults__", (2048,))
    directory = DataDir(tmp_path / "node")
    datadir.make_directory(directory)
    datadir.make_keys(directory, is_witness=True, traders=2)
    witness = datadir.witness_of(PlainKeys(directory), [datadir.DEVELOPMENT_MARKET])
    genesis = datadir.development_genesis([witness], 0)
    datadir.write_network(directory, genesis)
    datadir.write_config(NodeConfig(directory))
    with SqliteFile(directory.store, genesis.network_id) as store:
        store.set_meta("mode", b"m")
    return directory


def back_up(directory: DataDir, target: Path) -> Path:
    backup.back_up(directory, target, partial(backup.copy_stopped_stores, directory))
    return target


def meta(directory: DataDir, name: str) -> bytes | None:
    with SqliteFile(directory.store, directory.load_genesis().network_id) as store:
        return store.meta(name)


def files(directory: DataDir) -> dict[str, bytes]:
    """All but the store."""
    paths = [path for path in directory.path.rglob("*") if path.is_file()]
    found = {str(path.relative_to(directory.path)): path.read_bytes() for path in paths}
    return {name: data for name, data in found.items() if not name.startswith("store.sqlite")}


def test_a_restored_node_is_the_same_but_its_store_is_marked(node: DataDir, tmp_path: Path) -> None:
    archive = back_up(node, tmp_path / "backup")
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    again = DataDir(tmp_path / "deep" / "again")
    names = backup.restore(archive, again)
    assert names[-1] == "store.sqlite"
    expected = files(node)
    del expected["never-signed"]
    assert files(again) == expected
    assert (meta(again, "mode"), meta(node, RESTORED)) == (b"m", None)
    assert len(meta(again, RESTORED) or b"") == 16
    for path in [again.path, *again.path.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert {path.name for path in tmp_path.iterdir()} == {"node", "backup", "deep"}


SENT = IntentRecord(
    Intent("rent", Address(b"a" * 20), Address(b"b" * 20), value=Amount(7)),
    3,
    21_000,
    (Attempt(b"h" * 32, b"raw", 2, 1, 9),),
)


async def test_what_was_sent_to_chains_comes_back(node: DataDir, tmp_path: Path) -> None:
    node.chains.mkdir(mode=0o700)
    async with open_sqlite_intents(node.sent("eip155:31337"), "eip155:31337") as sent:
        await sent.add(SENT)
    again = DataDir(tmp_path / "again")
    names = backup.restore(back_up(node, tmp_path / "backup"), again)
    assert "chains/eip155-31337.sqlite" in names
    assert stat.S_IMODE(again.chains.stat().st_mode) == 0o700
    assert stat.S_IMODE(again.sent("eip155:31337").stat().st_mode) == 0o600
    async with open_sqlite_intents(again.sent("eip155:31337"), "eip155:31337") as sent:
        assert await sent.pending() == [SENT]
        assert await sent.next_nonce(SENT.intent.sender) == 4


def test_the_bundles_of_open_swaps_come_back_and_where_they_stood_does_not(
    node: DataDir, tmp_path: Path
) -> None:
    node.bundles.mkdir()
    bundle = node.bundles / f"{bytes(32).hex()}.json"
    bundle.write_text("what ends a swap")
    (node.bundles / "notes.txt").write_text("somebody's")
    node.swaps.write_bytes(b"where swaps stood")
    again = DataDir(tmp_path / "again")
    backup.restore(back_up(node, tmp_path / "backup"), again)
    assert [path.name for path in again.bundles.iterdir()] == [bundle.name]
    assert (again.bundles / bundle.name).read_text() == "what ends a swap"
    assert not again.swaps.exists()


def test_a_node_that_never_ran_has_no_store_to_save(node: DataDir, tmp_path: Path) -> None:
    node.store.unlink()
    again = DataDir(tmp_path / "again")
    again.path.mkdir()
    assert "store.sqlite" not in backup.restore(back_up(node, tmp_path / "backup"), again)
    assert not again.never_signed.exists()


def test_nothing_is_overwritten(node: DataDir, tmp_path: Path) -> None:
    archive = back_up(node, tmp_path / "backup")
    before = archive.read_bytes()
    with pytest.raises(ConfigError, match="not overwritten"):
        back_up(node, archive)
    assert archive.read_bytes() == before
    with pytest.raises(ConfigError, match="not empty"):
        backup.restore(archive, node)
    with pytest.raises(ConfigError, match="no directory"):
        back_up(node, tmp_path / "none" / "backup")


def test_a_store_in_use_is_not_copied_behind_its_back(node: DataDir, tmp_path: Path) -> None:
    with (
        SqliteFile(node.store, node.load_genesis().network_id),
        pytest.raises(StoreError, match="in use"),
    ):
        back_up(node, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_damage_is_told_and_nothing_is_made(node: DataDir, tmp_path: Path) -> None:
    whole = back_up(node, tmp_path / "backup").read_bytes()
    for name, garbled in {
        "empty": b"",
        "text": b"not a tar archive" * 100,
        "cut short": whole[: len(whole) // 2],
        "a key changed": whole.replace(node.witness_key.read_bytes(), b"0" * 64 + b"\n"),
        "a store changed": whole.replace(b"SQLite format 3", b"SQLite format 4"),
        "another format": whole.replace(b"orrange backup 1", b"orrange backup 9"),
        "a name changed": whole.replace(b"keys/peer.key", b"keys/../../xy"),
        "no manifest": whole.replace(b"manifest.json", b"manifest.nosj"),
    }.items():
        assert garbled != whole, name
        source = tmp_path / "garbled"
        source.write_bytes(garbled)
        with pytest.raises(ConfigError):
            backup.restore(source, DataDir(tmp_path / "again"))
        assert {path.name for path in tmp_path.iterdir()} == {"node", "backup", "garbled"}, name
    with pytest.raises(ConfigError, match="missing"):
        backup.restore(tmp_path / "none", DataDir(tmp_path / "again"))


def test_what_no_manifest_lists_is_refused(node: DataDir, tmp_path: Path) -> None:
    archive = back_up(node, tmp_path / "backup")
    with tarfile.open(archive, "a") as more:
        member = tarfile.TarInfo("../stranger")
        member.size = 1
        more.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(ConfigError, match="stranger"):
        backup.restore(archive, DataDir(tmp_path / "again"))
    assert not (tmp_path / "stranger").exists()


# --- real nodes ---

BRISK = attrs.evolve(cluster.WIDE, min_round_ms=100, era_ms=1_000_000)
"""Rounds are shorter than usual: what is asserted here does not depend on how long they take."""


def orrange(*args: str | Path) -> str:
    command = [sys.executable, "-m", "orrange_p2p.cli.main", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@asynccontextmanager
async def running(directory: DataDir, peers: list[str]) -> AsyncIterator[Client]:
    command = [sys.executable, "-m", "orrange_p2p.cli.main", "run"]
    with (directory.path / "node.log").open("ab") as log:
        process = await trio.lowlevel.open_process(
            [*command, "--data-dir", str(directory.path)], stderr=log
        )
    try:
        with trio.fail_after(30):
            while not directory.rpc_socket.exists():  # noqa: ASYNC110
                await trio.sleep(0.05)
        async with connect(directory.rpc_socket) as client:
            for peer in peers:
                await client.call("connect", {"address": peer})
            yield client
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def place(client: Client) -> None:
    order = {"op": "place", "side": "buy", "price": 5, "quantity": 1}
    await client.call("submit", {"operations": [order]})


async def until(client: Client, condition: Callable[[dict[str, Any]], bool]) -> None:
    with trio.fail_after(40):
        while True:
            status = await client.call("status")
            if condition({**status, **status["markets"][0]}):
                return
            await trio.sleep(0.1)


async def test_a_node_restored_from_an_old_backup_does_not_fork(tmp_path: Path) -> None:
    await trio.to_thread.run_sync(
        cluster.make_network, tmp_path, datadir.DEVELOPMENT_MARKET, 4, 1, BRISK
    )
    old, archive = DataDir(tmp_path / "node-3"), tmp_path / "backup"
    with old.config.open("a") as config:
        config.write('[chain."eip155:31337"]\nendpoints = ["ws://127.0.0.1:1"]\n')
    async with cluster.running(tmp_path, 3, {}) as others:
        peers = [(await other.status())["addresses"][0] for other in others]
        watched = others[0].client
        async with running(old, peers) as client:
            await place(client)
            await until(watched, lambda status: status["open_orders"] == 1)
            await trio.to_thread.run_sync(orrange, "backup", archive, "--data-dir", old.path)
            for count in (2, 3):
                await place(client)
                await until(watched, lambda status, count=count: status["open_orders"] == count)
        again = DataDir(tmp_path / "again")
        await trio.to_thread.run_sync(orrange, "restore", archive, "--data-dir", again.path)
        assert again.sent_to() == ["eip155:31337"]
        async with running(again, peers) as client:
            with pytest.raises(WorldError, match="restored"):
                await place(client)
            await until(client, lambda status: status["signs_nothing"] is None)
            await place(client)
            await until(watched, lambda status: status["open_orders"] == 4)
            await until(client, lambda status: status["open_orders"] == 4)
        for other in others:
            status = await other.status()
            assert "evidence" not in status["counters"]
            assert status["root"] is not None


async def test_a_store_that_was_lost_is_not_taken_for_the_first_one(tmp_path: Path) -> None:
    await trio.to_thread.run_sync(
        cluster.make_network, tmp_path, datadir.DEVELOPMENT_MARKET, 1, 1, cluster.WIDE
    )
    directory = DataDir(tmp_path / "node-0")
    assert directory.never_signed.exists()
    async with running(directory, []) as client:
        await place(client)
    assert not directory.never_signed.exists()
    assert meta(directory, RESTORED) is None
    directory.store.unlink()
    async with running(directory, []):
        pass
    assert len(meta(directory, RESTORED) or b"") == 16
