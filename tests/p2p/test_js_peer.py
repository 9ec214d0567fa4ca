"""A peer not written here: js-libp2p's gossipsub on the market topic of a live node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

sys.path.append(str(Path(__file__).parents[1] / "daemon"))

from hostile_node import Key, entry_of, frame, live, until

JS = Path(__file__).parent / "js"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="no node on the path"),
    pytest.mark.skipif(
        not (JS / "node_modules" / ".installed").exists(),
        reason="the packages of tests/p2p/js are not installed: run `make setup`",
    ),
]


@asynccontextmanager
async def js_peer(address: str, topic: str) -> AsyncIterator[tuple[trio.Process, list[Any]]]:
    """The peer's process, and what it has told so far."""
    told: list[Any] = []
    async with trio.open_nursery() as nursery:
        running: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                ["node", str(JS / "peer.js"), address, topic],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                check=False,
            )
        )

        async def listen() -> None:
            assert running.stdout is not None
            text = b""
            async for data in running.stdout:
                *lines, text = (text + data).split(b"\n")
                told.extend(json.loads(line) for line in lines)

        nursery.start_soon(listen)
        try:
            yield running, told
        finally:
            nursery.cancel_scope.cancel()


async def test_a_js_peer_hears_frames_and_is_heard(tmp_path: Path) -> None:
    author = Key(7)
    async with live(tmp_path, rogues=[author]) as net:
        topic = net.market.topic
        async with js_peer(net.address, topic) as (peer, told):

            def count() -> Counter[str]:
                return Counter(fact["event"] for fact in told)

            await until(lambda: count()["in mesh"])
            await net.check_alive()  # its order travels by gossip
            await until(lambda: count()["valid"] >= 20)
            await until(lambda: any(fact.get("entries") for fact in told))
            assert any(fact.get("ticks") for fact in told)
            assert not count()["invalid"]

            # It holds no keys of authors: the entry is signed here, and the network's part is its.
            assert peer.stdin is not None
            entry = entry_of(net.genesis, author)
            await peer.stdin.send_all(frame(entry).hex().encode() + b"\n")
            for node in net.nodes:
                log = next(iter(node.markets.values())).replica.logs
                await until(lambda log=log: log.first_uncut(author.signer.address) == 1)
            assert not net.counter("gossip_reject")

            # And what is no frame is refused on either side.
            await peer.stdin.send_all(b"ff\n")
            await until(lambda: net.counter("gossip_reject") == 1)
            await net.transports[0].publish(topic, b"\x82\x80\x98\x00")  # not the shortest form
            await until(lambda: count()["invalid"] == 1)
