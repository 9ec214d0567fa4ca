"""``orrange dashboard``: the address of the running node's page, with a key to it."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json


@click.command("dashboard")
@data_dir_option
@click.option("--open", "is_opened", is_flag=True, help="Open it in this machine's browser.")
@json_option
def command(data_dir: Path, is_opened: bool, as_json: bool) -> None:
    """Print the address of the running node's page. It opens once, within a minute.

    The node serves the page if its node.toml has a table [api].
    """
    said = ask(data_dir, "api")
    address = f"{said['url']}/app/#{said['code']}"
    if is_opened:
        webbrowser.open(address)
    if wants_json(as_json):
        echo_json({"url": address})
    else:
        click.echo(address)
