"""``orrange book``: the best prices of a market, as the running node has them."""

from __future__ import annotations

from pathlib import Path

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.markets import choose, market_option, raw_option
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json


@click.command("book")
@market_option
@click.option("--levels", type=click.IntRange(1, 1000), default=10, show_default=True)
@raw_option
@data_dir_option
@json_option
def command(market: str | None, levels: int, raw: bool, data_dir: Path, as_json: bool) -> None:
    """Show the order book: asks above, bids below, the best in the middle.

    JSON when piped: rows of price, quantity and number of orders, the best first.
    """
    chosen = choose(data_dir, market, raw)
    answer = ask(data_dir, "book", {"market": chosen.id, "levels": levels})
    sides = {
        side: [
            (chosen.show_price(price), chosen.show_lots(lots), int(orders))
            for price, lots, orders in answer[side]
        ]
        for side in ("bids", "asks")
    }
    if wants_json(as_json):
        echo_json({"market": chosen.id, "name": chosen.name, "epoch": answer["epoch"], **sides})
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{chosen.name}, epoch {answer['epoch']}"))
    table.add_column("")
    for name in (f"price ({chosen.quote})", f"quantity ({chosen.base})", "orders"):
        table.add_column(Text(name), justify="right")
    for price, lots, orders in reversed(sides["asks"]):
        table.add_row("ask", price, lots, str(orders))
    table.add_section()
    for price, lots, orders in sides["bids"]:
        table.add_row("bid", price, lots, str(orders))
    Console().print(table)
