"""``orrange backup``: all of a node in one file."""

from __future__ import annotations

from pathlib import Path

import click

from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json
from orrange_p2p.client.plain import call
from orrange_p2p.core.errors import UnreachableError
from orrange_p2p.daemon import backup
from orrange_p2p.daemon.config import load_config

COPY_S = 90.0
"""A running node gives up earlier, and says so."""


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_dir_option
@json_option
def command(file: Path, data_dir: Path, as_json: bool) -> None:
    """Write all of a node to FILE: configuration, network, keys, store, transactions sent.

    The node may run or not. FILE is never overwritten, and only you can read it: it holds the keys
    as they lie in the data directory, so keep it as safe as them. `orrange restore` makes a node
    from it.
    """
    config = load_config(data_dir)
    directory = config.data_dir

    def copy_stores(folder: Path) -> None:
        try:
            call(config.rpc_socket, "copy_stores", {"folder": str(folder)}, timeout_s=COPY_S)
        except UnreachableError:
            backup.copy_stopped_stores(directory, folder)

    size = backup.back_up(directory, file.absolute(), copy_stores)
    report = {"file": str(file.absolute()), "bytes": size}
    if wants_json(as_json):
        echo_json(report)
    else:
        click.echo(f"wrote    {report['file']} ({report['bytes']:,} bytes)")
        click.echo("It holds this node's keys: keep it where nobody else can read it.")
