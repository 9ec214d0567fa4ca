"""A node as bots know exchanges: CCXT's names and shapes, exact decimals, a bot that runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from api_node import ApiNode, api_node, until

from orrange_p2p.bench.replay import MARKET
from orrange_p2p.client.exchange import Exchange, _Symbol
from orrange_p2p.core.errors import ConfigError, UnreachableError
from orrange_p2p.core.units import Units


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiNode]:
    with api_node(tmp_path_factory.mktemp("exchange") / "node") as one:
        yield one


@pytest.fixture
def exchange(node: ApiNode) -> Iterator[Exchange]:
    with Exchange.of_node(node.home, node.url) as one:
        yield one
        for symbol in one.load_markets():
            one.cancel_all_orders(symbol)


def test_an_order_from_its_placing_to_its_end(exchange: Exchange) -> None:
    [market] = exchange.fetch_markets()
    symbol = market["symbol"]
    assert market["precision"] == {"amount": "1", "price": "1"}, "coins nobody knows: lots, ticks"
    placed = exchange.create_order(symbol, "limit", "buy", "5", "100", {"clientOrderId": "one"})
    again = exchange.create_order(symbol, "limit", "buy", "5", "100", {"clientOrderId": "one"})
    assert placed["id"] == again["id"] and placed["status"] == "open"
    until(lambda: exchange.fetch_order_book(symbol)["bids"] == [["100", "5"]])
    [row] = exchange.fetch_open_orders(symbol)
    assert (row["id"], row["remaining"], row["filled"]) == (placed["id"], "5", "0")
    assert exchange.cancel_order(placed["id"], symbol)["status"] == "canceled"
    until(lambda: exchange.fetch_order(placed["id"], symbol)["status"] == "canceled")
    assert exchange.fetch_order_book(symbol)["bids"] == []
    assert exchange.fetch_trades(symbol) == exchange.fetch_my_trades(symbol) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("market", "buy", "5"), "each with a price"),
        (("stop", "buy", "5", "1"), "'limit', or 'market'"),
        (("limit", "buy", "0.5", "1"), "no whole number"),
        (("limit", "buy", "5", "1", {"timeInForce": "DAY"}), "one of GTC, IOC, FOK, PO"),
        (("limit", "buy", "5", "1", {"leverage": 3}), "unknown leverage"),
        (("limit", "up", "5", "1"), "misshapen"),
    ],
)
def test_what_cannot_be_is_told(exchange: Exchange, arguments: tuple[Any, ...], said: str) -> None:
    [symbol] = exchange.load_markets()
    with pytest.raises(ConfigError, match=said):
        exchange.create_order(symbol, *arguments)


def test_unknown_markets_nodes_and_keys_are_told(exchange: Exchange, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no market 'A/B' here"):
        exchange.fetch_order_book("A/B")
    with pytest.raises(UnreachableError):
        Exchange("http://127.0.0.1:1", "x").load_markets()
    with pytest.raises(ConfigError, match="does it run"):
        Exchange.of_node(tmp_path)


def test_amounts_are_exact_decimals() -> None:
    symbol = _Symbol("tBTC/tUSD", {}, Units(MARKET, 8, 6))
    for lots, ticks in ((1, 1), (12_345_678, 23_647), (10**15, 10**9)):
        assert symbol.lots(symbol.amount(str(lots))) == str(lots)
        assert symbol.ticks(symbol.price(str(ticks))) == str(ticks)


async def test_a_book_is_watched(node: ApiNode) -> None:
    with Exchange.of_node(node.home, node.url) as exchange:
        [symbol] = exchange.load_markets()
        placed = False
        with trio.fail_after(30):
            async with aclosing(exchange.watch_order_book(symbol)) as books:  # type: ignore[type-var]
                async for book in books:
                    if not placed:
                        placed = True
                        exchange.create_order(symbol, "limit", "sell", "7", "120")
                    if book["asks"] == [["120", "7"]]:
                        break
        exchange.cancel_all_orders(symbol)


def test_the_bot_quotes_both_sides_and_leaves_nothing_behind(
    node: ApiNode, exchange: Exchange
) -> None:
    [symbol] = exchange.load_markets()
    until(lambda: exchange.fetch_open_orders(symbol) == [])
    command = [sys.executable, "-m", "orrange_p2p.client.maker_bot", "--data-dir", str(node.home)]
    options = ["--url", node.url, "--price", "100", "--away", "2", "--amount", "3"]
    bot = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:

        def book() -> Any:
            said = exchange.fetch_order_book(symbol)
            return said["bids"], said["asks"]

        until(lambda: book() == ([["98", "3"]], [["102", "3"]]))
        # Somebody else moves the middle to 110.
        exchange.create_order(symbol, "limit", "buy", "1", "90", {"postOnly": True})
        exchange.create_order(symbol, "limit", "sell", "1", "130", {"postOnly": True})
        until(lambda: ["108", "3"] in book()[0] and ["112", "3"] in book()[1], 30)
    finally:
        bot.send_signal(signal.SIGINT)
        out, _ = bot.communicate(timeout=20)
    assert bot.returncode == 0 and "quotes taken back" in out
    until(lambda: all(row["amount"] != "3" for row in exchange.fetch_open_orders(symbol)))
