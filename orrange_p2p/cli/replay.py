"""``orrange replay``: hold the matcher against a real exchange's recorded session."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from orrange_p2p.bench.replay import Replay, ReplayTrade, Summary
from orrange_p2p.feeds.bitstamp import BitstampLog, Event

SHOWN_TRADES = 20
SHOWN_ERRORS = 10


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "feed_format",
    type=click.Choice(["bitstamp"]),
    required=True,
    help="What FILE is: Bitstamp's order feed as ob-analytics records it, plain, .xz or .gz.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON line per trade, a summary last.")
def command(file: Path, feed_format: str, as_json: bool) -> None:
    """Feed a recorded session through codec, signatures and matcher, one operation per epoch.

    The trades that result are compared with those the exchange published. Orders older than FILE
    are unknown, so trades with them cannot be reproduced; matches are not accepted, so they stay
    reserved. Lines that cannot be read are reported on standard error, counted, and passed over.
    """
    log = BitstampLog(file)
    replay = Replay()
    last: deque[ReplayTrade] = deque(maxlen=SHOWN_TRADES)
    with _progress() as progress:
        task = progress.add_task("replaying", total=1.0)

        def events() -> Iterator[Event]:
            for event in log:
                if log.line_count % 500 == 0:
                    progress.update(task, completed=log.fraction_read)
                yield event

        for trade in replay.trades(events()):
            if as_json:
                click.echo(_json_line(_published_form(trade)))
            last.append(trade)
        progress.update(task, completed=1.0)
    _report_errors(log)
    if as_json:
        counts = {"lines": log.line_count, "broken": log.error_count}
        click.echo(_json_line({**attrs.asdict(replay.summary), **counts}))
    else:
        _show(replay.summary, list(last), log)


def _progress() -> Progress:
    """On standard error, and only where somebody watches."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
        # Trades go to standard output as they are: other programs read them.
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _json_line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


def _published_form(trade: ReplayTrade) -> dict[str, Any]:
    return {
        "price": dollars(trade.price_cents),
        "amount": bitcoin(trade.amount_satoshi),
        "maker": trade.maker,
        "taker": trade.taker,
    }


def dollars(cents: int) -> str:
    """As the feed writes prices: ``236.47``."""
    return f"{cents // 100}.{cents % 100:02}"


def bitcoin(satoshi: int) -> str:
    """As the feed writes amounts: ``0.21144331``."""
    return f"{satoshi // 10**8}.{satoshi % 10**8:08}"


def _report_errors(log: BitstampLog) -> None:
    for error in log.errors[:SHOWN_ERRORS]:
        click.echo(f"{log.path}: {error}", err=True)
    if log.error_count > SHOWN_ERRORS:
        click.echo(f"{log.path}: {log.error_count} broken lines in all", err=True)


def _show(summary: Summary, last: list[ReplayTrade], log: BitstampLog) -> None:
    console = Console()
    if last:
        table = Table(title=f"The last {len(last)} of {summary.trades:,} trades")
        for name in ("price", "amount", "maker", "taker"):
            table.add_column(name, justify="right")
        for trade in last:
            table.add_row(
                dollars(trade.price_cents),
                bitcoin(trade.amount_satoshi),
                str(trade.maker),
                str(trade.taker),
            )
        console.print(table)
    share = f" ({summary.equal / summary.trades:.1%})" if summary.trades else ""
    console.print(
        f"{summary.orders:,} orders and {summary.cancels:,} cancels in {summary.epochs:,} epochs "
        f"made {summary.trades:,} trades. {summary.equal:,} of them{share} equal one of the "
        f"{summary.in_feed:,} that the exchange published, in price and amount.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"Passed over: {summary.unknown:,} deletions of orders older than the file, "
        f"{summary.finished:,} of orders already matched, {summary.duplicates:,} orders created "
        f"twice, {log.error_count:,} of {log.line_count:,} lines that cannot be read.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"State root after the last epoch: {summary.root}", highlight=False, soft_wrap=True
    )
