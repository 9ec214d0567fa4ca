"""``orrange init``: a data directory with keys, a network file and a configuration."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, run_line, wants_json
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import TimeMs
from orrange_p2p.daemon import datadir
from orrange_p2p.daemon.config import (
    DEFAULT_LISTEN,
    ROLES,
    DataDir,
    NodeConfig,
    load_config,
    load_genesis,
    parse_bootstrap,
    parse_listen,
)

DEVELOPMENT = "development"


@click.command("init")
@data_dir_option
@click.option(
    "--network",
    "network_file",
    type=click.Path(path_type=Path),
    help="The network.toml of the network to join.",
)
@click.option("--dev", is_flag=True, help="A network of its own: one open market, one witness.")
@click.option(
    "--role",
    "roles",
    type=click.Choice(ROLES),
    multiple=True,
    help="May be given twice.  [default: trader; with --dev both]",
)
@click.option(
    "--traders",
    type=click.IntRange(0, 1000),
    default=1,
    show_default=True,
    help="Trading keys to make, if it is a trader.",
)
@click.option("--listen", multiple=True, metavar="MULTIADDR", help=f"[default: {DEFAULT_LISTEN}]")
@click.option(
    "--bootstrap", multiple=True, metavar="MULTIADDR", help="A peer to stay connected with."
)
@json_option
def command(
    data_dir: Path,
    network_file: Path | None,
    dev: bool,
    roles: tuple[str, ...],
    traders: int,
    listen: tuple[str, ...],
    bootstrap: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a data directory: keys (0600), network.toml and node.toml.

    What is there already is kept, never overwritten: a second call changes nothing.
    """
    directory = DataDir(data_dir)
    if (network_file is None) == (not dev):
        raise ConfigError(
            "name the network to join with --network FILE, or make one of your own with --dev"
        )
    # Everything that can be wrong is looked at before anything is made.
    wanted = NodeConfig(
        directory,
        roles=roles or (ROLES if dev else ("trader",)),
        listen=tuple(map(parse_listen, listen)) or (DEFAULT_LISTEN,),
        bootstrap=tuple(map(parse_bootstrap, bootstrap)),
    )
    if dev and not wanted.is_witness:
        raise ConfigError("a network of its own needs its witness: add --role witness")
    network = None if network_file is None else load_genesis(network_file)
    there = directory.load_genesis() if directory.network.exists() else None
    if there is not None and there != network and not (dev and there.name == DEVELOPMENT):
        raise ConfigError(
            f"{directory.network} describes another network: choose another --data-dir"
        )
    config = load_config(data_dir) if directory.config.exists() else wanted

    made = [directory.keys] if datadir.make_directory(directory) else []
    made += datadir.make_keys(
        directory, is_witness=config.is_witness, traders=traders if config.is_trader else 0
    )
    network = network or there or _development(directory)
    if datadir.write_network(directory, network):
        made.append(directory.network)
    if datadir.write_config(config):
        made.append(directory.config)
    report = _report(config, network, made)
    if config != wanted:
        report["notes"].append(f"{directory.config} was there and stays as it is; edit it")
    if wants_json(as_json):
        echo_json(report)
    else:
        _show(report)


def _development(directory: DataDir) -> Genesis:
    witness = datadir.witness_of(directory, [datadir.DEVELOPMENT_MARKET])
    return datadir.development_genesis([witness], TimeMs(time.time_ns() // 1_000_000))


def _report(config: NodeConfig, network: Genesis, made: list[Path]) -> dict[str, Any]:
    """What there is now, in the words of JSON."""
    directory = config.data_dir
    notes = []
    witness = None
    if config.is_witness:
        witness = datadir.witness_of(directory, network.markets)
        if witness not in network.witnesses:
            anchors = ", ".join(f'"0x{anchor.hex()}"' for anchor in witness.anchors)
            notes.append(
                "this witness is not one of the network; whoever keeps its network file may add:\n"
                f'[[witnesses]]\naddress = "0x{witness.address.hex()}"\n'
                f"weight = {witness.weight}\nanchors = [{anchors}]"
            )
    traders = datadir.trader_addresses(directory) if config.is_trader else []
    return {
        "data_dir": str(directory.path),
        "made": [str(path) for path in made],
        "network": network.name,
        "network_id": f"0x{network.network_id.hex()}",
        "markets": [f"0x{market.id.hex()}" for market in network.markets],
        "roles": list(config.roles),
        "witness": None if witness is None else f"0x{witness.address.hex()}",
        "traders": [f"0x{address.hex()}" for address in traders],
        "listen": list(config.listen),
        "notes": notes,
        "next": run_line(directory.path),
    }


def _show(report: dict[str, Any]) -> None:
    for path in report["made"]:
        click.echo(f"made     {path}")
    if not report["made"]:
        click.echo(f"nothing to make, all is there in {report['data_dir']}")
    click.echo(f"network  {report['network']} {report['network_id']}")
    if report["witness"]:
        click.echo(f"witness  {report['witness']}")
    for trader in report["traders"]:
        click.echo(f"trader   {trader}")
    for note in report["notes"]:
        click.echo(f"note     {note}")
    click.echo("Keep a copy of the keys where nobody else can read it.")
    click.echo(f"Next: {report['next']}")
