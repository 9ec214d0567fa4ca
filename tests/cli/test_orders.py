"""``orrange orders``, ``book`` and ``trades``: what a node is told, then a node that runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from click.testing import CliRunner, Result

from orrange_p2p.cli import cluster
from orrange_p2p.cli import main as cli
from orrange_p2p.core.genesis import Market, Witness
from orrange_p2p.core.ids import Address, TimeMs, Weight
from orrange_p2p.daemon import datadir
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.rpc.server import RpcServer, listening

ALICE, BOB = "0x" + "a1" * 20, "0x" + "b2" * 20
GOLD, USD = (f"eip155:31337/erc20:0x{byte * 20}" for byte in ("b0", "c0"))
MARKETS = (
    # A coin of 18 decimals in lots of a hundredth, against one of 6, in steps of a cent.
    Market(GOLD, USD, 100, 10**16, "atomic", "evm", 1, 1, 1),
    Market(USD, GOLD, 1, 1, "atomic", "evm", 1, 1, 1),
)
IDS = ["0x" + market.id.hex() for market in MARKETS]
OPEN = {
    "order": f"{BOB}/7/0",
    "state": "open",
    "side": "buy",
    "price": "23647",
    "quantity": "50",
    "open": "30",
    "reserved": "0",
    "filled": "20",
    "reason": None,
    "epoch": 3,
    "time_in_force": "gtt",
    "expiry": 1893456000000,
    "post_only": True,
    "self_trade": "decrement",
    "min_quantity": "0",
    "max_slippage": None,
    "min_reputation": 5,
}


class FakeNode:
    """Answers what a node would, and remembers what it was told."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.rows: list[dict[str, Any]] = [OPEN]
        self.submitted: list[dict[str, Any]] = []

    async def markets(self, params: object) -> Any:
        names = [("GOLD/USD", 18, 6), (None, None, None)]
        return [
            {
                "market": id_,
                "name": name,
                "base_decimals": base,
                "quote_decimals": quote,
                "authors": [ALICE, BOB],
            }
            for id_, (name, base, quote) in zip(IDS, names, strict=True)
        ]

    async def submit(self, params: Any) -> Any:
        self.submitted.append(params)
        return [{"author": params["author"], "seq": 7, "position": 0}]

    async def orders(self, params: Any) -> Any:
        return self.rows if params["market"] == IDS[0] else []

    async def run(self, *arguments: str) -> Result:
        methods = {"markets": self.markets, "submit": self.submit, "orders": self.orders}
        call = [*arguments, "--data-dir", str(self.home)]
        async with listening(self.home / "rpc.sock", RpcServer(methods)):
            return await trio.to_thread.run_sync(lambda: CliRunner().invoke(cli.main, call))

    async def order(self, *arguments: str) -> dict[str, Any]:
        """The only operation that came of a call."""
        result = await self.run("orders", *arguments)
        assert result.exit_code == 0, result.output
        (params,) = self.submitted
        (operation,) = params["operations"]
        return dict(operation)


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    directory = DataDir(tmp_path)
    witness = Witness(Address(b"w" * 20), Weight(1), (b"a" * 32, b"a" * 32))
    network = datadir.development_genesis([attrs.evolve(witness, anchors=(b"a" * 32,))], TimeMs(0))
    network = attrs.evolve(network, witnesses=(witness,), markets=MARKETS)
    datadir.write_network(directory, network)
    datadir.write_config(NodeConfig(directory))
    return FakeNode(tmp_path)


PLACE = ("place", "--market", "gold/usd", "--trader", "2", "--yes")


async def test_coins_become_lots_and_ticks(node: FakeNode) -> None:
    placed = await node.order(*PLACE, "--buy", "0.5", "--price", "236.47")
    assert placed == {"op": "place", "side": "buy", "quantity": "50", "price": "23647"}
    assert (node.submitted[0]["author"], node.submitted[0]["market"]) == (BOB, IDS[0])


async def test_what_an_order_may_say(node: FakeNode) -> None:
    wishes = ["--expires", "1h", "--post-only", "--stp", "oldest", "--min-reputation", "4"]
    before_ms = time.time_ns() // 1_000_000
    placed = await node.order(*PLACE, "--sell", "1", "--price", "1", *wishes)
    assert 3_600_000 <= placed.pop("expiry") - before_ms < 3_700_000
    assert placed == {
        "op": "place",
        "side": "sell",
        "quantity": "100",
        "price": "100",
        "time_in_force": "gtt",
        "post_only": True,
        "self_trade": "cancel_oldest",
        "min_reputation": 4,
    }


async def test_an_amended_order_keeps_what_is_not_said(node: FakeNode) -> None:
    amended = await node.order("amend", "2/7/0", "--price", "236.5", "--yes")
    assert amended == {
        "op": "amend",
        "seq": 7,
        "position": 0,
        "side": "buy",
        "quantity": "30",
        "price": "23650",
        "time_in_force": "gtt",
        "expiry": 1893456000000,
        "post_only": True,
        "self_trade": "decrement",
        "min_reputation": 5,
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--buy", "0.125", "--price", "2"], "the nearest are 0.12 and 0.13"),
        (["--buy", "1", "--price", "2.005"], "the nearest are 2 and 2.01"),
        (["--buy", "1", "--sell", "1", "--price", "2"], "one of the two"),
        (["--buy", "1", "--price", "2", "--market", "GLOD/USD"], "Did you mean GOLD/USD?"),
        (["--buy", "1", "--price", "2", "--market", IDS[1]], "add --raw"),
        (["--buy", "0.5", "--price", "2", "--raw"], "no number of lots"),
        (["--buy", "1", "--price", "2", "--trader", "3"], f"one of 1 {ALICE}, 2 {BOB}"),
        (["--buy", "1", "--price", "2", "--tif", "ioc", "--expires", "1h"], "leave --expires"),
        (["--buy", "1", "--price", "2", "--tif", "gtt"], "gtt needs --expires"),
        (["--buy", "1", "--price", "2", "--expires", "2001-01-01T00:00Z"], "is over"),
        (["--buy", "1", "--price", "2", "--expires", "2031-01-01"], "no time zone"),
    ],
)
async def test_what_is_wrong_is_said_before_anything_is_done(
    node: FakeNode, arguments: list[str], said: str
) -> None:
    result = await node.run("orders", *PLACE, *arguments)
    assert (result.exit_code, node.submitted) == (2, [])
    assert said in result.stderr


async def test_nothing_is_placed_unasked(node: FakeNode) -> None:
    order = ["orders", *PLACE[:-1], "--buy", "0.5", "--price", "236.47"]
    result = await node.run(*order)
    assert (result.exit_code, node.submitted) == (2, [])
    assert "add --yes" in result.stderr
    result = await node.run(*order, "--dry-run")
    assert (result.exit_code, node.submitted) == (0, [])
    assert "buy 0.5 GOLD at 236.47 USD or better: 118.235 USD in all" in result.stderr
    assert json.loads(result.stdout)["operation"]["quantity"] == "50"


async def test_a_refusal_is_told_with_its_reason(node: FakeNode) -> None:
    node.rows = [{**OPEN, "state": "refused", "open": "0", "filled": "0", "reason": "open_orders"}]
    result = await node.run("orders", *PLACE, "--buy", "0.5", "--price", "236.47")
    assert result.exit_code == 1
    assert "as many orders are open as an author may have" in result.stderr
    assert json.loads(result.stdout)["state"] == "refused"


async def test_a_table_has_names_that_can_be_typed(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orrange_p2p.cli.orders.wants_json", bool)
    monkeypatch.setenv("COLUMNS", "120")
    shown = (await node.run("orders", "list")).stdout
    assert "GOLD/USD" in shown
    for cell in ("2/7/0", "236.47", "0.5", "0.3", "0.2", "01-01 00:00Z"):
        assert f" {cell} " in shown


def test_a_typo_is_answered_with_what_was_meant() -> None:
    for call, meant in ((["ordes"], "orders"), (["orders", "plce"], "place")):
        result = CliRunner().invoke(cli.main, call)
        assert result.exit_code == 2
        assert f"Did you mean '{meant}'?" in result.stderr


# --- a node that runs ---

BRISK = attrs.evolve(cluster.WIDE, min_round_ms=100, era_ms=1_000_000)
"""Rounds are shorter than usual: what is asserted here does not depend on how long they take."""


async def test_orders_on_a_running_node(tmp_path: Path) -> None:
    await trio.to_thread.run_sync(
        cluster.make_network, tmp_path, datadir.DEVELOPMENT_MARKET, 1, 2, BRISK
    )
    home = tmp_path / "node-0"

    async def run(*arguments: str, status: int = 0) -> Any:
        call = [*arguments, "--data-dir", str(home)]
        result = await trio.to_thread.run_sync(lambda: CliRunner().invoke(cli.main, call))
        assert result.exit_code == status, result.output
        return json.loads(result.stdout) if result.stdout else result.stderr

    async def placed(trader: int, *arguments: str, status: int = 0) -> Any:
        ready = ("--raw", "--yes", "--trader", str(trader))
        return await run("orders", "place", *arguments, *ready, status=status)

    async with cluster.running(tmp_path, 1, {}):
        resting = await placed(1, "--buy", "5", "--price", "100")
        assert (resting["state"], resting["open"]) == ("open", "5")
        book = await run("book", "--raw")
        assert (book["bids"], book["asks"]) == ([["100", "5", 1]], [])
        taking = await placed(2, "--sell", "2", "--price", "99", "--tif", "ioc")
        assert int(taking["reserved"]) + int(taking["filled"]) == 2
        killed = await placed(2, "--sell", "9", "--price", "99", "--tif", "fok", status=1)
        assert (killed["state"], killed["reason"]) == ("ended", "fok_unfilled")
        late = await placed(2, "--sell", "9", "--price", "99", "--expiry-epoch", "1", status=1)
        assert (late["state"], late["reason"]) == ("refused", "expired")
        with trio.fail_after(20):
            while (await run("orders", "list", "--trader", "1"))[0]["filled"] != "2":  # noqa: ASYNC110
                await trio.sleep(0.1)
        amended = await run("orders", "amend", "1/0/0", "--price", "98", "--raw", "--yes")
        assert (amended["open"], amended["price"]) == ("3", "98")
        assert "nothing to amend" in await run(
            "orders", "amend", resting["order"], "--price", "97", "--raw", "--yes", status=1
        )
        other = await placed(2, "--sell", "1", "--price", "200")
        (cancelled,) = await run("orders", "cancel", other["order"])
        assert (cancelled["state"], cancelled["reason"]) == ("ended", "user")
        await placed(2, "--sell", "1", "--price", "200")
        done = await run("orders", "cancel", "all")
        assert [row["reason"] for row in done] == ["user", "user"]
        assert await run("orders", "cancel", "all") == []
        assert await run("orders", "list") == []
        history = {row["order"]: row for row in await run("orders", "list", "--all")}
        assert history[resting["order"]]["filled"] == "2"
        taken = history[taking["order"]]
        assert (taken["state"], taken["filled"], taken["reason"]) == ("ended", "2", None)
        assert len(history) == 7
        assert await run("trades") == []
