"""``orrange keys``: what a node signs with."""

from __future__ import annotations

from pathlib import Path

import click

from orrange_p2p.cli.options import (
    ask_passphrase,
    data_dir_option,
    echo_json,
    json_option,
    passphrase_option,
    wants_json,
)
from orrange_p2p.daemon import keys
from orrange_p2p.daemon.config import DataDir, load_config


@click.group("keys")
def command() -> None:
    """Show a node's addresses and mnemonic; change the passphrase.

    All keys of a node come from one seed, which lies encrypted in keys/seed.json and can be written
    down as 24 words: `orrange init --restore-mnemonic` makes them of the words again.
    """


@command.command("list")
@data_dir_option
@passphrase_option
@json_option
def list_(data_dir: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """List the addresses that this node signs for."""
    config = load_config(data_dir)
    opened = keys.open_keys(config, lambda: ask_passphrase(passphrase_file))
    rows = []
    if config.is_witness:
        rows.append(("witness", "0x" + opened.witness().address.hex()))
    if config.is_trader:
        traders = opened.traders()
        rows += [(f"trader {n}", "0x" + key.address.hex()) for n, key in enumerate(traders, 1)]
    if wants_json(as_json):
        echo_json([{"key": name, "address": address} for name, address in rows])
    else:
        for name, address in rows:
            click.echo(f"{name:<12} {address}")


@command.command("mnemonic")
@data_dir_option
@passphrase_option
@json_option
def mnemonic(data_dir: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Show the 24 words. Whoever reads them can sign in your name: write them on paper."""
    words = keys.mnemonic(DataDir(data_dir), ask_passphrase(passphrase_file))
    if wants_json(as_json):
        echo_json({"mnemonic": words})
        return
    split = words.split()
    for row in range(6):
        cells = (f"{n + 1:>2} {split[n]:<10}" for n in range(row, 24, 6))
        click.echo("  ".join(cells).rstrip())


@command.command("passphrase")
@data_dir_option
@passphrase_option
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its first line is the new one; else it is asked on the terminal.",
)
@json_option
def passphrase(
    data_dir: Path, passphrase_file: Path | None, new_passphrase_file: Path | None, as_json: bool
) -> None:
    """Change the passphrase. Backups and copies made before keep the old one."""
    directory = DataDir(data_dir)
    old = ask_passphrase(passphrase_file)
    keys.mnemonic(directory, old)  # a wrong one is told before a new one is asked for
    keys.change_passphrase(directory, old, ask_passphrase(new_passphrase_file, new=True))
    if wants_json(as_json):
        echo_json({"changed": str(directory.seed)})
    else:
        click.echo(f"The passphrase of {directory.seed} is changed.")
