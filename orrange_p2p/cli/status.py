"""``orrange status``: what the running node says of itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json
from orrange_p2p.client.plain import call
from orrange_p2p.core.errors import UnreachableError
from orrange_p2p.daemon.config import load_config


@click.command("status")
@data_dir_option
@json_option
def command(data_dir: Path, as_json: bool) -> None:
    """Ask the running node: peers, round, epoch, root, queues, drops.

    A table on a terminal, JSON when piped. Exit status 3 if no node is running.
    """
    config = load_config(data_dir)
    try:
        status = call(config.rpc_socket, "status")
    except UnreachableError:
        start = f"orrange run --data-dir {shlex.quote(str(data_dir))}"
        raise UnreachableError(
            f"no node is running for {data_dir}: start it with {start}"
        ) from None
    if wants_json(as_json):
        echo_json(status)
    else:
        _show(status)


def _show(status: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    about = Table.grid(padding=(0, 2))
    for name in ("network", "peer_id", "roles", "uptime_s", "addresses", "peers"):
        about.add_row(name, Text(_text(status.get(name))))
    console.print(about)
    markets = status.get("markets", [])
    for market in markets:
        table = Table(
            title=Text(f"{market.get('base')} / {market.get('quote')}"), show_header=False
        )
        for name, value in market.items():
            if name not in ("base", "quote"):
                table.add_row(name, Text(_text(value)))
        console.print(table)
    counters = Table(title="counters", show_header=False)
    for name, value in status.get("counters", {}).items():
        counters.add_row(name, Text(_text(value)))
    if counters.row_count:
        console.print(counters)


def _text(value: Any) -> str:
    """Values of any shape; what peers chose is shown as plain text."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return "  ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "\n".join(map(_text, value)) or "-"
    return str(value)
