"""``orrange status``: what the running node says of itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json

WATCH_S = 2.0
_NODE = (
    "network",
    "peer_id",
    "roles",
    "halt",
    "signs_nothing",
    "uptime_s",
    "addresses",
    "peers",
)

if TYPE_CHECKING:
    from rich.table import Table


@click.command("status")
@data_dir_option
@click.option("--watch", is_flag=True, help="Ask again every two seconds, until Ctrl-C.")
@json_option
def command(data_dir: Path, watch: bool, as_json: bool) -> None:
    """Ask the running node how it is: a table on a terminal, JSON when piped.

    \b
    signs_nothing      why it signs no entries now: a halt, a restore, a key in use elsewhere
    no_ticks           the same for a witness's ticks
    lag_rounds         how many rounds other witnesses are further
    epoch_age_ms       how long ago the last epoch came; grows while too few witnesses are up
    intake_queue       frames of others that wait; outbox_bytes: what waits to be sent
    settlement         how many trades stand where; `orrange trades --state defaulted` says who
    no_settlement      why none can be settled now: the chain, the contract, coins for the fee
    no_roster          why the next era's witnesses are not known: the home chain
    seat               this witness's; last_era: the one with which its reveals end
    limits             what our traders may still do; in_lane: no reputation of their own backs them
    no_slashing        why the registry cannot be shown who cheated
    drops              what full queues and spent budgets have cost

    Exit status 3 if no node is running.
    """
    status = ask(data_dir, "status")
    is_json = wants_json(as_json)
    if not watch:
        if is_json:
            echo_json(status)
        else:
            _show(status)
        return
    while True:
        if is_json:
            echo_json(status)
        else:
            click.clear()
            _show({**status, "counters": None})
        time.sleep(WATCH_S)
        status = ask(data_dir, "status")


def _show(status: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    console.print(_table("node", {name: status.get(name) for name in _NODE}))
    for market in status.get("markets", []):
        title = f"{market.pop('base', '?')} / {market.pop('quote', '?')}"
        console.print(_table(title, market))
    for name in ("drops", "counters"):
        if counted := status.get(name):
            console.print(_table(name, counted))


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
