"""``orrange peers``: whom the running node is connected with, and whom it remembers."""

from __future__ import annotations

from pathlib import Path

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json


@click.command("peers")
@data_dir_option
@json_option
def command(data_dir: Path, as_json: bool) -> None:
    """List the running node's peers: connected ones first, then remembered ones.

    A table on a terminal, JSON when piped. Exit status 3 if no node is running.
    """
    peers = ask(data_dir, "peers")
    if wants_json(as_json):
        echo_json(peers)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "peer", "address", "wire", "program", "markets", "failed dials")
    for peer in peers:
        # What peers chose themselves is shown as plain text, folded and never cut short.
        table.add_row(
            ("up" if peer["is_connected"] else "") + (" kept" if peer["is_kept"] else ""),
            Text(peer["peer_id"], overflow="fold"),
            Text("\n".join(peer["addresses"]), overflow="fold"),
            Text(peer["versions"]),
            Text(peer["agent"]),
            str(peer["markets"]),
            str(peer["failures"]),
        )
    Console().print(table)
