"""How an order of ours stands: in words, as JSON, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from orrange_p2p.cli.markets import ChosenMarket

WHY: Final = {
    "rate": "too many operations at once: the allowance refills every round",
    "open_orders": "as many orders are open as an author may have",
    "exposure": "more would be at stake than the bond answers for (`orrange status`)",
    "expired": "its time was over",
    "cancelled": "a later operation of the same epoch took it back",
    "session": "the session key is not delegated to, or its cap is reached",
    "user": "cancelled",
    "stp": "it would have met an order of the same owner",
    "ioc_remainder": "nothing more was there to fill it at once",
    "fok_unfilled": "it could not be filled all at once",
    "post_only_would_cross": "it would have taken, and is post-only",
    "min_quantity": "less than its least quantity was there",
    "slippage": "nothing more within its slippage",
    "frozen": "the author is frozen: its key signed two entries of one number",
    "unsettled": "a match of it was not accepted by both sides",
    "evicted": "no room was left for it: in the lane of those without reputation, or in a new era",
}


def in_words(row: Mapping[str, Any]) -> str:
    """Where an order stands, in words."""
    if row["reason"]:
        return f"{row['state']}: {WHY.get(row['reason'], row['reason'])}"
    return "filled" if row["state"] == "ended" else str(row["state"])


_IN_LOTS: Final = ("quantity", "open", "reserved", "filled", "min_quantity")


def for_json(chosen: ChosenMarket, row: Mapping[str, Any]) -> dict[str, Any]:
    """The node's row in lots and ticks, and the same in coins where decimals are known."""
    coins = None
    if chosen.units is not None:
        coins = {name: chosen.show_lots(row[name]) for name in _IN_LOTS}
        coins["price"] = chosen.show_price(row["price"])
    return {**row, "market": chosen.id, "name": chosen.name, "coins": coins}


def show(rows: Sequence[tuple[ChosenMarket, Mapping[str, Any]]]) -> None:
    """A table for each market."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for chosen in dict.fromkeys(one for one, _ in rows):
        table = Table(title=Text(chosen.name), title_justify="left")
        table.add_column("order")
        table.add_column("side")
        for name in ("price", "quantity", "open", "matched", "filled"):
            table.add_column(name, justify="right")
        table.add_column("state")
        table.add_column("until")
        for one, row in rows:
            if one is chosen:
                table.add_row(
                    one.handle(row["order"]),
                    row["side"],
                    one.show_price(row["price"]),
                    *(one.show_lots(row[n]) for n in ("quantity", "open", "reserved", "filled")),
                    _state(row),
                    _end(row),
                )
        Console().print(table)
    if not rows:
        click.echo("No orders.")


def _state(row: Mapping[str, Any]) -> str:
    """In one word; the JSON has state and reason apart."""
    if row["state"] == "ended" and not row["reason"]:
        return "filled"
    return "cancelled" if row["reason"] == "user" else str(row["reason"] or row["state"])


def _end(row: Mapping[str, Any]) -> str:
    if row["time_in_force"] == "gtt":
        end = datetime.fromtimestamp(row["expiry"] / 1000, UTC)
        return end.strftime("%m-%d %H:%MZ")
    if row["time_in_force"] == "gte":
        return f"epoch {row['expiry']}"
    return str(row["time_in_force"])
