"""``orrange restore``: a data directory made from a backup."""

from __future__ import annotations

from pathlib import Path

import click

from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, run_line, wants_json
from orrange_p2p.daemon import backup
from orrange_p2p.daemon.config import DataDir, load_config


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
    directory = DataDir(data_dir)
    names = backup.restore(file, directory)
    mute = _why_a_witness_stays_mute(directory)
    if wants_json(as_json):
        made = {"data_dir": str(data_dir), "made": names, "next": run_line(data_dir)}
        echo_json(made if mute is None else {**made, "witness": mute})
        return
    for name in names:
        click.echo(f"made     {data_dir / name}")
    click.echo("It signs nothing before other witnesses have told what its keys signed since.")
    if mute is not None:
        click.echo(mute)
    click.echo(f"Next: {run_line(data_dir)}")


def _why_a_witness_stays_mute(directory: DataDir) -> str | None:
    """In a network too small to go on without one of its witnesses; None in any other."""
    config, genesis = load_config(directory.path), directory.load_genesis()
    weights = [witness.weight for witness in genesis.witnesses]
    quorum = 2 * sum(weights) // 3 + 1
    if not config.is_witness or len(weights) < 2 or sum(weights) - min(weights) >= quorum:
        return None
    return (
        f"This network has {len(weights)} witnesses, and those left are no quorum: nobody can tell "
        "what this one has signed, so it never signs again and the market stands still for good. "
        "Open a new network, with four witnesses or "
        "more if it is to survive the loss of one."
    )
