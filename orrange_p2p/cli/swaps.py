"""``orrange swaps``: what the running node swaps over two chains, and the files that end a swap
without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.markets import ChosenMarket, choose, market_option, markets_of, raw_option
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.daemon.bundles import read_bundle
from orrange_p2p.daemon.files import write_whole

SHOWN: Final = 40
OPEN: Final = ("ready", "locking", "cancelling", "locked", "claiming", "refunding")


@click.group("swaps")
def command() -> None:
    """List, show, export and resume swaps over two chains.

    \b
    ready        our turn to lock has not come
    locking      our lock is on its way
    cancelling   it came too late, or the other's is gone: it is withdrawn
    locked       our lock is in a block
    claiming     the secret is out: we take what is ours by it
    refunding    our lock's time has passed: we take it back
    swapped      what was for us is ours, for good
    refunded     what we gave is ours again, for good
    unlocked     we never locked anything
    lost         the other has both
    """


@command.command("list")
@market_option
@click.option("--open", "only_open", is_flag=True, help="Only those that have not ended.")
@click.option(
    "--since", type=click.IntRange(0), default=0, metavar="POSITION", help="Only later ones."
)
@click.option("--all", "everything", is_flag=True, help=f"On a terminal more than {SHOWN}.")
@raw_option
@data_dir_option
@json_option
def list_(
    market: str | None,
    only_open: bool,
    since: int,
    everything: bool,
    raw: bool,
    data_dir: Path,
    as_json: bool,
) -> None:
    """List this node's swaps, oldest first."""
    markets = markets_of(data_dir, raw) if market is None else [choose(data_dir, market, raw)]
    rows = [
        {**row, "name": one.name}
        for one in markets
        for row in _swaps(data_dir, one, since)
        if not only_open or row["state"] in OPEN
    ]
    if wants_json(as_json):
        echo_json(rows)
        return
    _show(rows if everything else rows[-SHOWN:])
    if not everything and len(rows) > SHOWN:
        click.echo(f"{len(rows) - SHOWN} earlier ones: --all shows them.")


@command.command("show")
@click.argument("trade")
@data_dir_option
@json_option
def show(trade: str, data_dir: Path, as_json: bool) -> None:
    """Show one swap with both of its locks, as the chains have them now.

    TRADE is a trade's id, or how it begins.
    """
    row = ask(data_dir, "swap", {"trade": trade})
    if wants_json(as_json):
        echo_json(row)
        return
    click.echo(f"trade     {row['trade']}")
    click.echo(f"state     {row['state']}" + (f": {row['problem']}" if row["problem"] else ""))
    click.echo(f"role      {row['role'] or '-'}")
    click.echo(f"hashlock  {row['hashlock'] or '-'}")
    click.echo(f"preimage  {row['preimage'] or 'not shown yet'}")
    for name, view in (("gives", row["own_view"]), ("gets", row["other_view"])):
        if row[name] is not None:
            _show_leg(name, row[name], view)


@command.command("export")
@click.argument("trade")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_dir_option
@json_option
def export(trade: str, file: Path, data_dir: Path, as_json: bool) -> None:
    """Write the recovery bundle of TRADE to FILE.

    With it and the node's seed the swap can be ended on an empty machine: `orrange swaps resume`.
    It holds no keys and no secret, so a watchtower may have it.
    """
    if file.exists():
        raise ConfigError(f"{file} is there already; it is not overwritten: name another file")
    text = ask(data_dir, "swap_bundle", {"trade": trade})
    write_whole(file, text)
    if wants_json(as_json):
        echo_json({"file": str(file)})
    else:
        click.echo(f"Written to {file}.")


@command.command("resume")
@click.argument("files", type=click.Path(path_type=Path, dir_okay=False), nargs=-1, required=True)
@data_dir_option
@json_option
def resume(files: Sequence[Path], data_dir: Path, as_json: bool) -> None:
    """Go on with the swaps of bundles that this node does not know.

    The node needs the seed of the one that made them. Nothing is locked anew: what there is, is
    taken or taken back.
    """
    bundles = [read_bundle(file) for file in files]
    done = [ask(data_dir, "swap_resume", {"bundle": one.encode()}) for one in bundles]
    if wants_json(as_json):
        echo_json(done)
        return
    for one in done:
        click.echo(f"{one['trade']}  {'taken up' if one['is_new'] else 'known here already'}")


def _swaps(data_dir: Path, chosen: ChosenMarket, since: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := ask(data_dir, "swaps", {"market": chosen.id, "since": since}):
        found += page
        since = page[-1]["position"]
    return found


def _show_leg(name: str, leg: Mapping[str, Any], view: Mapping[str, Any] | None) -> None:
    until = datetime.fromtimestamp(leg["timelock_s"], UTC)
    click.echo(f"{name:<9} {leg['amount']} of {leg['asset']}")
    click.echo(f"          locked until {until:%Y-%m-%d %H:%M:%SZ} by the chain's own time")
    if view is None:
        click.echo("          the chain cannot be asked now")
    elif view["state"] == "absent":
        click.echo(
            "          nothing is locked" + (f": {view['problem']}" if view["problem"] else "")
        )
    else:
        deep = f"in block {view['block']}" if view["block"] else "in no block yet"
        click.echo(f"          lock {leg['lock']}, {deep}")
        if leg["end"]:
            ended = f"in block {view['end_block']}" if view["end_block"] else "in no block yet"
            click.echo(f"          {view['state']} by {leg['end']}, {ended}")


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for name in dict.fromkeys(row["name"] for row in rows):
        table = Table(title=Text(name), title_justify="left")
        for column in ("trade", "bound", "side", "role", "state", "locks", "ends"):
            table.add_column(column)
        for row in rows:
            if row["name"] == name:
                table.add_row(*_cells(row))
        Console().print(table)
    if not rows:
        click.echo("No swaps.")


def _cells(row: Mapping[str, Any]) -> list[str]:
    bound = datetime.fromtimestamp(row["bound_ms"] / 1000, UTC)
    legs = [leg for leg in (row["gives"], row["gets"]) if leg is not None]
    return [
        row["trade"][:12],
        bound.strftime("%m-%d %H:%M:%SZ"),
        row["side"],
        row["role"] or "",
        row["state"] + (f": {row['problem']}" if row["problem"] else ""),
        " ".join(leg["lock"][:10] if leg["lock"] else "-" for leg in legs),
        " ".join(leg["end"][:10] if leg["end"] else "-" for leg in legs),
    ]
