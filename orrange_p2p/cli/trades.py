"""``orrange trades``: what the running node's traders have traded, and how far it is settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.markets import ChosenMarket, choose, market_option, markets_of, raw_option
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json

SHOWN = 40


@click.command("trades")
@market_option
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only these, as below.")
@click.option(
    "--since", type=click.IntRange(0), default=0, metavar="POSITION", help="Only later ones."
)
@click.option("--all", "everything", is_flag=True, help=f"On a terminal more than {SHOWN}.")
@raw_option
@data_dir_option
@json_option
def command(
    market: str | None,
    states: tuple[str, ...],
    since: int,
    everything: bool,
    raw: bool,
    data_dir: Path,
    as_json: bool,
) -> None:
    """List this node's trades, oldest first: a table on a terminal, JSON, with addresses and
    transactions in full, when piped.

    \b
    due, publishing, sent   on the way to the chain
    mined                   settled in a block that may still be replaced
    settled                 for good
    denied, defaulted       a party could not pay, or refused: `blamed`, by transaction `tx`
    abandoned               it kept failing, with nobody to blame

    Only a node that settles keeps its trades: [settlement."eip155:<number>"] in node.toml.
    """
    markets = markets_of(data_dir, raw) if market is None else [choose(data_dir, market, raw)]
    rows = [
        _row(one, trade)
        for one in markets
        for trade in _trades(data_dir, one, since)
        if not states or trade["state"] in states
    ]
    if wants_json(as_json):
        echo_json(rows)
        return
    _show(rows if everything else rows[-SHOWN:])
    if not everything and len(rows) > SHOWN:
        click.echo(f"{len(rows) - SHOWN} earlier ones: --all shows them.")


def _trades(data_dir: Path, chosen: ChosenMarket, since: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := ask(data_dir, "trades", {"market": chosen.id, "since": since}):
        found += page
        since = page[-1]["position"]
    return found


def _row(chosen: ChosenMarket, trade: Mapping[str, Any]) -> dict[str, Any]:
    """The node's row, and what it means for us."""
    sides = [side for side in ("buyer", "seller") if trade[side] in chosen.authors]
    other = trade["seller"] if "buyer" in sides else trade["buyer"]
    lots, price = int(trade["lots"]), int(trade["price"])
    coins = None
    if chosen.units is not None:
        coins = {
            "base": chosen.show_lots(lots),
            "quote": chosen.show_total(lots, price),
            "price": chosen.show_price(price),
        }
    return {
        **trade,
        "market": chosen.id,
        "name": chosen.name,
        "side": "both" if len(sides) == 2 else "buy" if "buyer" in sides else "sell",
        "counterparty": other,
        "coins": coins,
    }


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for name in dict.fromkeys(row["name"] for row in rows):
        table = Table(title=Text(name), title_justify="left")
        for column in ("bound", "side"):
            table.add_column(column)
        for column in ("quantity", "price", "total"):
            table.add_column(column, justify="right")
        for column in ("with", "state", "block", "tx"):
            table.add_column(column)
        for row in rows:
            if row["name"] == name:
                table.add_row(*_cells(row))
        Console().print(table)
    if not rows:
        click.echo("No trades that this node settles.")


def _cells(row: Mapping[str, Any]) -> list[str]:
    bound = datetime.fromtimestamp(row["bound_ms"] / 1000, UTC)
    coins = row["coins"] or {"base": row["lots"], "quote": "", "price": row["price"]}
    state = row["state"]
    if row["blamed"]:
        state += f" by {_short(row['blamed'])}"
    return [
        bound.strftime("%m-%d %H:%M:%SZ"),
        row["side"],
        coins["base"],
        coins["price"],
        coins["quote"],
        _short(row["counterparty"]),
        state,
        str(row["block"] or ""),
        _short(row["tx_hash"] or ""),
    ]


def _short(text: str) -> str:
    """Enough to tell one from another; the JSON has it in full."""
    return text if len(text) < 14 else f"{text[:8]}…{text[-4:]}"
