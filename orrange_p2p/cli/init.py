"""``orrange init``: a data directory with keys, a network file and a configuration."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from orrange_p2p.cli.options import (
    ask_passphrase,
    data_dir_option,
    echo_json,
    json_option,
    passphrase_option,
    run_line,
    wants_json,
)
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Genesis, Parameters, Witness
from orrange_p2p.core.ids import Era, TimeMs
from orrange_p2p.daemon import datadir
from orrange_p2p.daemon.api_config import LISTEN_EXAMPLE, parse_api
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
from orrange_p2p.daemon.keys import Keys, check_mnemonic, make_seed, open_keys

DEVELOPMENT = "development"
DEFAULT_CHAINS = 16
"""Six weeks of eras of an hour."""


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
@click.option(
    "--chains",
    type=click.IntRange(1, 4096),
    help="Chains of reveals that a witness not yet of the network offers for each market. A chain "
    "lasts for a number of eras, and takes a second to make.  [default: 16; with --dev 1]",
)
@click.option("--listen", multiple=True, metavar="MULTIADDR", help=f"[default: {DEFAULT_LISTEN}]")
@click.option(
    "--bootstrap", multiple=True, metavar="MULTIADDR", help="A peer to stay connected with."
)
@click.option(
    "--api",
    metavar="ADDRESS:PORT",
    default=LISTEN_EXAMPLE,
    show_default=True,
    help="Of the HTTP API and the page; none: only the socket.",
)
@passphrase_option
@click.option("--restore-mnemonic", is_flag=True, help="Make the keys of 24 words, asked for.")
@json_option
def command(
    data_dir: Path,
    network_file: Path | None,
    dev: bool,
    roles: tuple[str, ...],
    traders: int,
    chains: int | None,
    listen: tuple[str, ...],
    bootstrap: tuple[str, ...],
    api: str,
    passphrase_file: Path | None,
    restore_mnemonic: bool,
    as_json: bool,
) -> None:
    """Make a data directory: keys, network.toml and node.toml.

    All keys come from one seed, kept under a passphrase and worth 24 words: `orrange keys mnemonic`
    shows them, write them down. Keys of --dev are plain files.

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
        traders=traders,
        listen=tuple(map(parse_listen, listen)) or (DEFAULT_LISTEN,),
        bootstrap=tuple(map(parse_bootstrap, bootstrap)),
        api=None if api == "none" else parse_api({"listen": api}),
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

    def passphrase() -> str:
        return ask_passphrase(passphrase_file, new=not directory.seed.exists())

    has_plain = directory.peer_key.exists()
    is_sealed = directory.seed.exists() or not (dev or has_plain)
    words = None
    if restore_mnemonic:
        if dev:
            raise ConfigError("keys of --dev have no mnemonic")
        words = click.prompt("The 24 words", hide_input=sys.stdin.isatty(), err=True)
        check_mnemonic(words)
    entered = passphrase() if is_sealed else ""
    made = [directory.keys] if datadir.make_directory(directory) else []
    if not is_sealed:
        made += datadir.make_keys(
            directory, is_witness=config.is_witness, traders=traders if config.is_trader else 0
        )
    elif words is not None or not directory.seed.exists():
        make_seed(directory, entered, words)
        made.append(directory.seed)
    keys = open_keys(config, lambda: entered)
    network = network or there
    markets = (datadir.DEVELOPMENT_MARKET,) if network is None else network.markets
    # Once for the network and for the report: it takes a while.
    witness = None
    if config.is_witness:
        parameters = Parameters() if network is None else network.parameters
        listed = (
            ()
            if network is None
            else network.anchors(markets[0].id).get(keys.witness().address, ())
        )
        count = len(listed) or chains or (1 if dev else DEFAULT_CHAINS)
        begins = [Era(number * parameters.chain_eras) for number in range(count)]
        witness = datadir.witness_of(keys, markets, begins)
    if network is None:
        if witness is None:
            raise ConfigError(f"{directory.config} has no role witness, which --dev needs: add it")
        network = datadir.development_genesis([witness], TimeMs(time.time_ns() // 1_000_000))
    if datadir.write_network(directory, network):
        made.append(directory.network)
    if datadir.write_config(config):
        made.append(directory.config)
    report = _report(config, keys, network, witness, made)
    if config != wanted:
        report["notes"].append(f"{directory.config} was there and stays as it is; edit it")
    if wants_json(as_json):
        echo_json(report)
    else:
        _show(report)


def _report(
    config: NodeConfig, keys: Keys, network: Genesis, witness: Witness | None, made: list[Path]
) -> dict[str, Any]:
    """What there is now, in the words of JSON."""
    directory = config.data_dir
    notes = []
    if witness is not None and witness not in network.witnesses:
        anchors = ", ".join(f'"0x{anchor.hex()}"' for anchor in witness.anchors)
        eras = len(witness.anchors) // len(network.markets) * network.parameters.chain_eras
        days = eras * network.parameters.era_ms / 86_400_000
        notes.append(
            "this witness is not one of the network; whoever keeps its network file may add, for "
            f"the network's first {eras} eras, about {days:.0f} days (--chains for more):\n"
            f'[[witnesses]]\naddress = "0x{witness.address.hex()}"\n'
            f"weight = {witness.weight}\nanchors = [{anchors}]"
        )
    traders = [signer.address for signer in keys.traders()] if config.is_trader else []
    keep = "`orrange keys mnemonic` shows the 24 words that are all of the keys: write them down."
    if not directory.seed.exists():
        keep = "The keys are plain files: keep a copy of them where nobody else can read it."
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
        "keep": keep,
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
    click.echo(report["keep"])
    click.echo(f"Next: {report['next']}")
