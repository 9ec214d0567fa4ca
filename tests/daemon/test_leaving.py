"""SIGTERM under load: within five seconds, and nothing that was acknowledged is lost."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path

import trio

from orrange_p2p.cli import cluster
from orrange_p2p.client.api import Client
from orrange_p2p.core.entries import decode_entry
from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.ids import Seq
from orrange_p2p.core.operations import CancelAll
from orrange_p2p.daemon import datadir
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.daemon.keys import PlainKeys
from orrange_p2p.ports import RecordKind
from orrange_p2p.store.sqlite_file import SqliteFile

LEAVE_S = 5.0
LOAD = [{"op": "place", "side": "buy", "price": 5, "quantity": 1}] * 32


async def load(client: Client, acknowledged: list[int]) -> None:
    with suppress(WorldError):  # the node has left
        while True:
            named = await client.call("submit", {"operations": LOAD})
            acknowledged.append(named[0]["seq"])


async def test_a_node_under_load_leaves_in_time_and_keeps_its_word(tmp_path: Path) -> None:
    genesis = await trio.to_thread.run_sync(
        cluster.make_network, tmp_path, datadir.DEVELOPMENT_MARKET, 2, 1, cluster.WIDE
    )
    directory = DataDir(tmp_path / "node-0")
    directory.config.write_text(
        directory.config.read_text().replace("cancel_on = []", 'cancel_on = ["shutdown"]')
    )
    acknowledged: list[int] = []
    async with cluster.running(tmp_path, 2, {}) as nodes, trio.open_nursery() as nursery:
        process = nodes[0].process
        for node in nodes:
            for _ in range(4):
                into = acknowledged if node is nodes[0] else []
                nursery.start_soon(load, node.client, into)
        await trio.sleep(3)
        process.send_signal(signal.SIGTERM)
        before = time.monotonic()
        with trio.fail_after(2 * LEAVE_S):
            status = await process.wait()
        assert (status, time.monotonic() - before < LEAVE_S) == (0, True)
        nursery.cancel_scope.cancel()
    assert len(acknowledged) > 10
    author = PlainKeys(directory).traders()[0].address
    market = genesis.markets[0].id
    with SqliteFile(directory.store, genesis.network_id) as store:
        (kept,) = store.log(market, author, Seq(max(acknowledged)), 1)
        position = store.own_position(RecordKind.ENTRY, market, author)
        assert kept.number == max(acknowledged)
        assert position is not None
        (last,) = store.log(market, author, Seq(position.number), 1)
    entry = decode_entry(last.encoded, genesis.separator, market)
    assert [type(operation) for operation in entry.operations] == [CancelAll]  # as it was told to
