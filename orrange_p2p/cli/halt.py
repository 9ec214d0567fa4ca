"""``orrange halt``: the kill switch."""

from __future__ import annotations

from pathlib import Path

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json

HALT_S = 30.0
FAILED = 1


@click.command("halt")
@data_dir_option
@json_option
@click.pass_context
def command(ctx: click.Context, data_dir: Path, as_json: bool) -> None:
    """Cancel all of the running node's orders, then sign nothing until `orrange resume`.

    The halt survives restarts. Matches made before the cancels commit are not accepted: one that
    is still unaccepted at its deadline lapses, which costs its order, halves this trader's limits
    for 256 epochs and lowers its reputation. A halted witness does not tick.

    Exit status 1 if the cancels are not committed yet: until they are, orders may be matched.
    """
    report = ask(data_dir, "halt", timeout_s=HALT_S)
    if wants_json(as_json):
        echo_json(report)
    elif report["cancels_committed"]:
        click.echo(
            "Halted: all orders are cancelled, and nothing is signed until `orrange resume`."
        )
    elif report["cancels_signed"]:
        click.echo(
            "Halted, but the cancels are not committed yet: orders may still be matched. The node "
            "goes on offering them as long as it runs."
        )
    else:
        click.echo(
            "Halted, but the cancels cannot be signed yet; `orrange status` and the log say why. "
            "The node signs them as soon as it may, and nothing else."
        )
    if not report["cancels_committed"]:
        ctx.exit(FAILED)
