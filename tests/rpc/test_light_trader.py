"""Trading over three real nodes that one does not trust, with a log of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from click.testing import CliRunner
from test_light import liar

from orrange_p2p.bench import replay
from orrange_p2p.cli import cluster
from orrange_p2p.cli import main as cli
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.client.light import Verdict
from orrange_p2p.client.light_trader import LightTrader
from orrange_p2p.core import entries
from orrange_p2p.core.accounts import LiveOrder
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.errors import ConfigError, UnreachableError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import ZERO32, Digest, Lots, OrderId, Price, Seq
from orrange_p2p.core.operations import Cancel, CancelAll, Place, Side
from orrange_p2p.daemon.api_config import ApiConfig
from orrange_p2p.daemon.config import DataDir, NodeConfig, load_config
from orrange_p2p.daemon.keys import open_keys
from orrange_p2p.daemon.light_trading import open_light_trader
from orrange_p2p.ports import Signer
from orrange_p2p.signers.memory import MemorySigner

NODES = 3
FAST = attrs.evolve(
    cluster.WIDE,
    min_round_ms=100,
    era_ms=1_000_000,
    applied_interval_epochs=4,
    accept_deadline_epochs=128,
)
MARKET = attrs.evolve(
    replay.MARKET,
    base="eip155:31337/erc20:0x0000000000000000000000000000000000000002",
    settlement="atomic",
    timing="evm-evm",
)


@attrs.frozen
class Net:
    """Three nodes, and the directory of a fourth that never runs: its trader is the light one."""

    genesis: Genesis
    nodes: list[NodeProcess]
    urls: list[str]
    config: NodeConfig

    @asynccontextmanager
    async def trader(self, *urls: str) -> AsyncIterator[LightTrader]:
        keys = open_keys(self.config, str)
        async with open_light_trader(self.config, keys, MARKET.id, urls or self.urls) as light:
            yield light

    @property
    def signer(self) -> Signer:
        return open_keys(self.config, str).traders()[0]


@asynccontextmanager
async def network(base: Path) -> AsyncIterator[Net]:
    api = ApiConfig(port=0, public=True)
    genesis = await trio.to_thread.run_sync(
        lambda: cluster.make_network(base, MARKET, NODES + 1, 1, FAST, api=api)
    )
    async with cluster.running(base, NODES, {}) as nodes:
        urls = [(await node.client.call("api"))["url"] for node in nodes]
        net = Net(genesis, nodes, urls, load_config(base / f"node-{NODES}"))
        with trio.fail_after(60):
            while True:
                try:
                    async with net.trader():
                        break
                except UnreachableError:
                    await trio.sleep(0.3)
        yield net


async def own_orders(light: LightTrader, wanted: Callable[[list[LiveOrder]], bool]) -> None:
    """Once the certified book shows such orders of ours."""
    author = light.author
    with trio.fail_after(30):
        while True:
            found = await light.orders()
            assert found.book is not None and not found.liars
            if wanted([one for one in found.book.orders if one.id.author == author]):
                return
            await trio.sleep(0.3)


SELL = Place(Side.SELL, Price(1000), Lots(5))


async def test_placing_matching_and_cancelling(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        async with net.trader() as light, trio.open_nursery() as nursery:
            nursery.start_soon(light.run)
            name = await light.place(SELL)
            assert name == OrderId(light.author, Seq(0), 0)
            await own_orders(light, lambda orders: [o.open for o in orders] == [5])

            buyer = (await net.nodes[0].status())["authors"][0]
            buy = {"op": "place", "side": "buy", "price": 1000, "quantity": 2}
            await net.nodes[0].client.call("submit", {"author": buyer, "operations": [buy]})
            with trio.fail_after(40):
                await bound(net)
            await own_orders(light, lambda orders: [(o.open, o.filled) for o in orders] == [(3, 2)])
            await light.submit([Cancel(name.seq, name.position)])
            await own_orders(light, lambda orders: not orders)
            nursery.cancel_scope.cancel()
        await again(net)
        await over_few_nodes(net)
        await liars(net)
        await without_its_store(net)
        await refusals(net)
        await trio.to_thread.run_sync(typed, net)


async def bound(net: Net) -> None:
    """Once a trade is."""
    while True:
        if (await net.nodes[1].status())["markets"][0]["totals"].get("trades") == 1:
            return
        await trio.sleep(0.2)


async def again(net: Net) -> None:
    """It goes on where it was."""
    async with net.trader() as light:
        assert light.next_seq == 3  # an order, an accept, a cancel
        assert (await light.place(SELL)).seq == 3
        await own_orders(light, lambda orders: len(orders) == 1)


async def over_few_nodes(net: Net) -> None:
    """What no node took is kept, and handed in with what comes next."""
    async with net.trader() as light:
        light.urls = ("http://127.0.0.1:1",)
        with pytest.raises(UnreachableError, match="entry 4, which is signed and kept"):
            await light.place(SELL)
        light.urls = ("http://127.0.0.1:1", net.urls[0])
        done = await light.submit([CancelAll()])
        assert [w.verdict for w in done.words] == [Verdict.SILENT, Verdict.SOUND]
        assert done.names[0].seq == 5
        await own_orders(light, lambda orders: not orders)


async def liars(net: Net) -> None:
    """A node that makes up what we signed is named, and believed in nothing."""

    def of_another(said: dict[str, Any]) -> dict[str, Any]:
        if "entries" in said:
            entry = signed(net, MemorySigner(b"\x07" * 32), Seq(0), Digest(ZERO32))
            said["entries"] = ["0x" + entry.encoded.hex()]
        return said

    def proves_nothing(said: dict[str, Any]) -> dict[str, Any]:
        if "proof" in said:
            said["proof"] = said["proof"][:-2] + ("00" if said["proof"][-2:] != "00" else "01")
        return said

    for lie in (of_another, proves_nothing):
        async with liar(net.urls[2], lie) as url, net.trader(net.urls[0], url) as light:
            words = await light.open()
            assert [w.verdict for w in words] == [Verdict.SOUND, Verdict.LIES], lie
            assert light.next_seq == 6

    def makes_matches_up(said: dict[str, Any]) -> dict[str, Any]:
        if "matches" in said:
            said["matches"].append(["00" * 12, "00" * 130])
        return said

    async with liar(net.urls[2], makes_matches_up) as url:
        async with net.trader(net.urls[0], url) as light:
            assert await light.accept_pending() == ()
            assert light.next_seq == 6
        async with net.trader(url) as light:
            with pytest.raises(UnreachableError, match="not the matches that the witnesses"):
                await light.accept_pending()


async def without_its_store(net: Net) -> None:
    """Keys that have signed, in a directory that knows nothing of it: every node has to tell."""
    store = net.config.data_dir.store
    for file in store.parent.glob(store.name + "*"):
        file.unlink()
    with pytest.raises(UnreachableError, match="so every node has to tell"):
        async with net.trader(net.urls[0], "http://127.0.0.1:1"):
            pass
    async with net.trader() as light:
        assert light.next_seq == 6
        await light.place(SELL)
        await own_orders(light, lambda orders: len(orders) == 1)


def signed(net: Net, signer: Signer, seq: Seq, prev: Digest) -> Entry:
    separator = net.genesis.separator
    draft = entries.draft(separator, MARKET.id, signer.address, seq, prev, [CancelAll()])
    return draft.signed(signer.sign(draft.digest))


async def refusals(net: Net) -> None:
    """What a node does not take, and what it says: nobody is frozen by a mistake."""
    async with net.trader() as light:
        ours, seq = net.signer, light.next_seq
    zero, head = Digest(ZERO32), Digest(b"\x01" * 32)
    stranger = MemorySigner(b"\x07" * 32)
    forged = bytearray(signed(net, ours, seq, head).encoded)
    forged[-1] ^= 1
    cases = [
        (signed(net, ours, Seq(seq - 1), head).encoded, 409, "sign none twice"),
        (signed(net, ours, Seq(seq + 1), head).encoded, 409, f"entry {seq} of"),
        (signed(net, ours, seq, head).encoded, 409, "follows another one"),
        (signed(net, stranger, Seq(0), zero).encoded, 409, "may not trade in this network"),
        (bytes(forged), 400, ""),
        (b"\x00", 400, ""),
    ]
    async with httpx.AsyncClient() as http:
        for encoded, status, reason in cases:
            answer = await http.post(
                f"{net.urls[0]}/v1/entries", json={"entry": "0x" + encoded.hex()}
            )
            assert answer.status_code == status, answer.text
            assert reason in answer.json()["message"]
    assert not (await net.nodes[0].status())["counters"].get("evidence")


def typed(net: Net) -> None:
    """As one types it."""
    home = ["--data-dir", str(net.config.data_dir.path)]
    nodes = [part for url in net.urls for part in ("--node", url)]
    place = ["light", "place", "--sell", "4", "--price", "1010"]
    done = CliRunner().invoke(cli.main, [*place, *home, *nodes])
    assert done.exit_code == 0, done.output
    assert '"order":' in done.output and done.output.count('"sound"') == NODES
    done = CliRunner().invoke(cli.main, ["light", "cancel", "all", *home, *nodes])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli.main, ["light", "cancel", "5", *home, *nodes])
    assert done.exit_code == 2, done.output
    done = CliRunner().invoke(cli.main, [*place, *home, "--node", "http://127.0.0.1:1"])
    assert done.exit_code == 3 and "no node tells how far the log goes" in done.stderr
    done = CliRunner().invoke(cli.main, [*place, "--buy", "1", *home, *nodes])
    assert done.exit_code == 2 and "one of the two" in done.stderr


async def test_a_market_of_swaps_takes_a_node(tmp_path: Path) -> None:
    directory = DataDir(tmp_path / "node-0")
    genesis = cluster.make_network(tmp_path, replay.MARKET, 1, 1, cluster.WIDE)
    config = load_config(directory.path)
    with pytest.raises(ConfigError, match="run a node for it"):
        async with open_light_trader(config, open_keys(config, str), genesis.markets[0].id, ["x"]):
            pass
