"""``orrange light``: a market by the word of its witnesses, from nodes one does not trust."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from orrange_p2p.cli.options import ORDER_ID, echo_json, json_option, wants_json
from orrange_p2p.client.light import Found, Verdict, book_now, order_now
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import MarketId, OrderId
from orrange_p2p.core.operations import Side
from orrange_p2p.daemon.config import load_genesis
from orrange_p2p.daemon.system import SystemClock

network_option = click.option(
    "--network",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The network.toml of the network: all that is trusted.",
)
nodes_option = click.option(
    "--node", "urls", multiple=True, required=True, metavar="URL", help="A public node; repeat it."
)
market_option = click.option(
    "--market", metavar="ID", help="0x and 64 digits; needed if the network has several."
)


@click.group("light")
def command() -> None:
    """Ask public nodes without trusting one: what counts is what the witnesses vouch for.

    Exit status 1 if a node lies or holds back, 3 if no node shows a state that holds.
    """


@command.command("book")
@network_option
@nodes_option
@market_option
@click.option("--levels", type=click.IntRange(1, 10_000), default=20, show_default=True)
@json_option
def book(
    network: Path, urls: tuple[str, ...], market: str | None, levels: int, as_json: bool
) -> None:
    """Show a market's book, and what each node's word is worth. Prices in ticks, sizes in lots."""
    genesis = load_genesis(network)
    market_id = _market(genesis, market)
    found = book_now(genesis, urls, market_id)
    assert found.book is not None
    sides = {side: found.book.depth(side, levels) for side in Side}
    if wants_json(as_json):
        echo_json(
            {
                **_about(found),
                "orders": len(found.book.orders),
                "bids": [list(map(str, row)) for row in sides[Side.BUY]],
                "asks": [list(map(str, row)) for row in sides[Side.SELL]],
                "nodes": _words(found),
            }
        )
    else:
        _tell(found)
        for price, lots, orders in reversed(sides[Side.SELL]):
            click.echo(f"  sell {lots:>16} at {price:>12}   {orders} orders")
        for price, lots, orders in sides[Side.BUY]:
            click.echo(f"  buy  {lots:>16} at {price:>12}   {orders} orders")
    _leave(found)


@command.command("order")
@click.argument("order", type=ORDER_ID)
@network_option
@nodes_option
@market_option
@json_option
def order(
    order: OrderId, network: Path, urls: tuple[str, ...], market: str | None, as_json: bool
) -> None:
    """Show how ORDER stands, or that it is not live: 0x<author>/<entry>/<position>."""
    genesis = load_genesis(network)
    found = order_now(genesis, urls, _market(genesis, market), order)
    live = found.order
    shown: dict[str, Any] = {"order": str(order), "live": live is not None}
    if live is not None:
        shown |= {
            "side": Side(live.side).name.lower(),
            "price": str(live.price),
            "quantity": str(live.quantity),
            "open": str(live.open),
            "reserved": str(live.reserved),
            "filled": str(live.filled),
        }
    if wants_json(as_json):
        echo_json({**_about(found), **shown, "nodes": _words(found)})
    else:
        _tell(found)
        for name, value in shown.items():
            click.echo(f"  {name:<10} {value}")
    _leave(found)


def _market(genesis: Genesis, named: str | None) -> MarketId:
    if named is None and len(genesis.markets) == 1:
        return genesis.markets[0].id
    for market in genesis.markets:
        if named == "0x" + market.id.hex():
            return market.id
    known = ", ".join("0x" + market.id.hex() for market in genesis.markets)
    raise ConfigError(f"no market {named!r} in this network; --market is one of: {known}")


def _about(found: Found) -> dict[str, Any]:
    age_s = max(0, (SystemClock().wall_ms() - found.time_ms) // 1000)
    return {"epoch": found.epoch, "age_s": age_s}


def _words(found: Found) -> list[dict[str, Any]]:
    return [
        {"url": w.url, "verdict": w.verdict.value, "reason": w.reason or None, "epoch": w.epoch}
        for w in found.words
    ]


def _tell(found: Found) -> None:
    about = _about(found)
    click.echo(f"epoch {about['epoch']}, {about['age_s']} s old, by a quorum of the witnesses")
    for word in found.words:
        click.echo(f"  {word.verdict.value:<7} {word.url}  {word.reason}")


def _leave(found: Found) -> None:
    if any(word.verdict in (Verdict.LIES, Verdict.STALE) for word in found.words):
        sys.exit(1)
