"""A light client against three real nodes, one of which lies."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from click.testing import CliRunner
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from orrange_p2p.bench.replay import MARKET
from orrange_p2p.cli import cluster
from orrange_p2p.cli import main as cli
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.client.light import Found, LightClient, Verdict
from orrange_p2p.core.errors import ConfigError, UnreachableError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, OrderId, Seq
from orrange_p2p.core.operations import Side
from orrange_p2p.daemon.api_config import ApiConfig
from orrange_p2p.rpc.http_server import http_listening

NODES = 3
ORDERS = 60

Lie = Callable[[dict[str, Any]], Any]


@attrs.frozen
class Net:
    """What is asked, and what the answer has to be."""

    genesis: Genesis
    nodes: list[NodeProcess]
    urls: list[str]
    author: str
    network_file: Path


@asynccontextmanager
async def network(base: Path) -> AsyncIterator[Net]:
    """Three public nodes with the same orders in their certified books."""
    api = ApiConfig(port=0, public=True)
    genesis = await trio.to_thread.run_sync(
        lambda: cluster.make_network(base, MARKET, NODES, 1, cluster.WIDE, api=api)
    )
    async with cluster.running(base, NODES, {}) as nodes:
        rng = random.Random(3)
        author = (await nodes[0].status())["authors"][0]
        operations = [
            {
                "op": "place",
                "side": side,
                "price": 1000 + (rng.randint(1, 20) if side == "sell" else -rng.randint(1, 20)),
                "quantity": rng.randint(1, 9),
            }
            for side in ("buy", "sell")
            for _ in range(ORDERS // 2)
        ]
        await nodes[0].client.call("submit", {"author": author, "operations": operations})
        urls = [(await node.client.call("api"))["url"] for node in nodes]
        client = LightClient(genesis, urls)
        with trio.fail_after(60):
            while True:
                try:
                    found = await client.book(MARKET.id)
                    is_there = found.book is not None and len(found.book.orders) == ORDERS
                    if is_there and all(w.verdict is Verdict.SOUND for w in found.words):
                        break
                except UnreachableError:
                    pass
                await trio.sleep(0.5)
        yield Net(genesis, nodes, urls, author, base / "node-0" / "network.toml")


@asynccontextmanager
async def liar(url: str, lie: Lie) -> AsyncIterator[str]:
    """A node that says what another one says, but for one thing."""
    app = FastAPI(openapi_url=None)

    @app.get("/{path:path}")
    async def answer(path: str, request: Request) -> Any:
        async with httpx.AsyncClient() as http:
            said = await http.get(f"{url}/{path}", params=dict(request.query_params))
        told = lie(said.json())
        return told if isinstance(told, JSONResponse) else JSONResponse(told)

    async with http_listening(app, "127.0.0.1", 0) as address:
        yield address


def forged(said: dict[str, Any]) -> dict[str, Any]:
    """One order more than there is: another price in a leaf."""
    key, leaf = said["orders"][0]
    octets = bytearray.fromhex(leaf)
    octets[12] ^= 1
    said["orders"][0] = [key, octets.hex()]
    return said


def withheld(said: dict[str, Any]) -> dict[str, Any]:
    del said["orders"][1]
    return said


def disordered(said: dict[str, Any]) -> dict[str, Any]:
    said["orders"] = said["orders"][::-1]
    return said


def uncertified(said: dict[str, Any]) -> dict[str, Any]:
    """A certificate whose header was touched."""
    text = said["certificate"]
    at = len(text) // 3
    said["certificate"] = text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :]
    return said


LIES: dict[str, tuple[Lie, str]] = {
    "forged": (forged, ""),
    "withheld": (withheld, "not the orders that the witnesses vouch for"),
    "disordered": (disordered, "not in ascending order"),
    "uncertified": (uncertified, ""),
    "another market": (lambda said: {**said, "certificate": "0x80"}, ""),
    "no hex": (lambda said: {**said, "certificate": 3}, "is not hexadecimal"),
    "no list": (lambda said: {**said, "orders": {"a": 1}}, "no list of pairs"),
    "no object": (lambda said: [said], "no object"),
}


async def test_three_nodes_of_which_one_lies(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        client = LightClient(net.genesis, net.urls)
        honest = await client.book(MARKET.id)
        assert honest.book is not None and not honest.liars
        told = await net.nodes[1].client.call("book", {"levels": 50})
        for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
            assert [list(map(str, row)) for row in honest.book.depth(side, 50)] == told[name]

        for name, (lie, reason) in LIES.items():
            async with liar(net.urls[2], lie) as url:
                found = await LightClient(net.genesis, [*net.urls[:2], url]).book(MARKET.id)
                check(found, honest, url, name, reason)

        await stale(net, honest)
        await silent(net)
        await one_order(net)
        await trio.to_thread.run_sync(typed, net)


def check(found: Found, honest: Found, url: str, name: str, reason: str) -> None:
    assert found.book is not None and honest.book is not None
    assert found.book.depth(Side.BUY, 50) == honest.book.depth(Side.BUY, 50), name
    assert [word.url for word in found.liars] == [url], name
    assert reason in found.liars[0].reason, name


async def stale(net: Net, honest: Found) -> None:
    """A node that shows an old state that once was certified."""
    async with httpx.AsyncClient() as http:
        old = (await http.get(f"{net.urls[2]}/v1/certified")).json()
    await trio.sleep(3)
    async with liar(net.urls[2], lambda said: old) as url:
        client = LightClient(net.genesis, [url, *net.urls[:2]], stale_ms=1500)
        found = await client.book(MARKET.id)
    assert [w.verdict for w in found.words] == [Verdict.STALE, Verdict.SOUND, Verdict.SOUND]
    assert found.epoch > old["epoch"] >= honest.epoch
    assert "older than another node's" in found.words[0].reason


async def silent(net: Net) -> None:
    """Nodes that do not answer are gone around, as long as one does."""
    nobody = "http://127.0.0.1:1"
    found = await LightClient(net.genesis, [nobody, net.urls[0], net.urls[0]]).book(MARKET.id)
    assert [w.verdict for w in found.words] == [Verdict.SILENT, Verdict.SOUND]
    with pytest.raises(UnreachableError, match="no node shows a state that holds"):
        await LightClient(net.genesis, [nobody]).book(MARKET.id)
    with pytest.raises(ConfigError):
        LightClient(net.genesis, [])


async def one_order(net: Net) -> None:
    author = Address(bytes.fromhex(net.author[2:]))
    client = LightClient(net.genesis, net.urls)
    there = await client.order(MARKET.id, OrderId(author, Seq(0), 5))
    assert there.order is not None and there.order.open > 0
    nowhere = await client.order(MARKET.id, OrderId(author, Seq(9), 0))
    assert nowhere.order is None and not nowhere.liars

    def denies(said: dict[str, Any]) -> dict[str, Any]:
        return {**said, "proof": said["proof"][:-2] + "ff"}

    async with liar(net.urls[1], denies) as url:
        found = await LightClient(net.genesis, [url, net.urls[0]]).order(
            MARKET.id, OrderId(author, Seq(0), 5)
        )
    assert found.order is not None and [word.url for word in found.liars] == [url]


def typed(net: Net) -> None:
    """As one types it."""
    nodes = [part for url in net.urls for part in ("--node", url)]
    done = CliRunner().invoke(
        cli.main, ["light", "book", "--network", str(net.network_file), *nodes, "--json"]
    )
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["orders"] == ORDERS and len(said["nodes"]) == NODES
    order = f"{net.author}/0/0"
    done = CliRunner().invoke(
        cli.main, ["light", "order", order, "--network", str(net.network_file), *nodes, "--json"]
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["live"] is True
    done = CliRunner().invoke(
        cli.main,
        ["light", "book", "--network", str(net.network_file), "--node", "http://127.0.0.1:1"],
    )
    assert done.exit_code == 3 and "no node shows a state that holds" in done.stderr
