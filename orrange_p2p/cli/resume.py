"""``orrange resume``: the end of a halt."""

from __future__ import annotations

from pathlib import Path

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json

RESUME_S = 30.0
"""A halt under way is waited for."""


@click.command("resume")
@data_dir_option
@json_option
def command(data_dir: Path, as_json: bool) -> None:
    """Let the running node sign again after `orrange halt`. Cancelled orders stay cancelled.

    Also after the node stopped because one of its keys signed in another place: end that one first.
    """
    report = ask(data_dir, "resume", timeout_s=RESUME_S)
    if wants_json(as_json):
        echo_json(report)
    elif report["signs_nothing"] is None:
        click.echo("The node signs again.")
    else:
        click.echo(f"Still signs nothing: {report['signs_nothing']}")
