"""``orrange status``: what the running node says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json

if TYPE_CHECKING:
    from rich.table import Table


@click.command("status")
@data_dir_option
@json_option
def command(data_dir: Path, as_json: bool) -> None:
    """Ask the running node: peers, round, epoch, root, queues, drops.

    A table on a terminal, JSON when piped. Exit status 3 if no node is running.
    """
    status = ask(data_dir, "status")
    if wants_json(as_json):
        echo_json(status)
    else:
        _show(status)


def _show(status: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    names = ("network", "peer_id", "roles", "uptime_s", "addresses", "peers")
    console.print(_table("node", {name: status.get(name) for name in names}))
    for market in status.get("markets", []):
        title = f"{market.pop('base', '?')} / {market.pop('quote', '?')}"
        console.print(_table(title, market))
    if counters := status.get("counters"):
        console.print(_table("counters", counters))


def _table(title: str, rows: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), show_header=False)
    table.add_column()
    # Folded, never cut short: roots and addresses are there to be copied.
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(_text(value)))
    return table


def _text(value: Any) -> str:
    """Values of any shape; what peers chose is shown as plain text."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return "  ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "\n".join(map(_text, value)) or "-"
    return str(value)
