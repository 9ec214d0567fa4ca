"""``orrange restore``: a data directory made from a backup."""

from __future__ import annotations

from pathlib import Path

import click

from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, run_line, wants_json
from orrange_p2p.daemon import backup
from orrange_p2p.daemon.config import DataDir


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_dir_option
@json_option
def command(file: Path, data_dir: Path, as_json: bool) -> None:
    """Make a data directory, which must be new or empty, from FILE of `orrange backup`.

    A backup is older than what its keys have signed. So the node first signs nothing: as a trader
    until a quorum of witnesses has told what its log holds, which takes some seconds; as a witness
    until the next era. Where the other witnesses are no quorum without this one, that is, in a
    network of two or three, nobody can tell.

    Never run both the restored node and the one the backup was made of.
    """
    names = backup.restore(file, DataDir(data_dir))
    if wants_json(as_json):
        echo_json({"data_dir": str(data_dir), "made": names, "next": run_line(data_dir)})
        return
    for name in names:
        click.echo(f"made     {data_dir / name}")
    click.echo("It signs nothing before other witnesses have told what its keys signed since.")
    click.echo(f"Next: {run_line(data_dir)}")
