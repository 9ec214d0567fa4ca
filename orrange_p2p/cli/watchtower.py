"""``orrange watchtower``: ends swaps whose parties are away, by the bundles they handed over."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import trio

from orrange_p2p.cli.options import (
    ask_passphrase,
    data_dir_option,
    echo_json,
    json_option,
    passphrase_option,
    wants_json,
)
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.daemon.bundles import Bundle, read_bundle
from orrange_p2p.daemon.chains import open_chains
from orrange_p2p.daemon.config import NodeConfig, load_config
from orrange_p2p.daemon.keys import Keys, open_keys
from orrange_p2p.daemon.legs import open_legs
from orrange_p2p.daemon.watchtower import Watched, Watchtower

LOOK_S: Final = 15.0


@click.command("watchtower")
@click.argument("places", metavar="FILE|FOLDER...", type=click.Path(path_type=Path), nargs=-1)
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.1, 3600),
    default=LOOK_S,
    show_default=True,
    help="Seconds from look to look.",
)
@click.option("--once", is_flag=True, help="Look once, tell, and end.")
@data_dir_option
@passphrase_option
@json_option
def command(
    places: tuple[Path, ...],
    every_s: float,
    once: bool,
    data_dir: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Watch over swaps: claim what is theirs, take back what goes back.

    A bundle is what `orrange swaps export` writes, and lies in the folder `swaps` of a node's data
    directory while a swap is open; of a FOLDER all are watched, and looked for again at each look.
    It holds no keys, so a tower cannot steal: the worst it can do is nothing.

    The tower needs a data directory of its own (`orrange init`), whose node.toml names the chains
    as a node's does. On EVM chains its own account pays the fees; on Bitcoin the fee was signed
    with the bundle. No node needs to run there. Ends once all swaps have: status 1 if one was lost.
    """
    if not places:
        raise ConfigError("name bundles, or a folder of them")
    config = load_config(data_dir)
    keys = open_keys(config, lambda: ask_passphrase(passphrase_file))
    _bundles(places)  # what is wrong with them is told before anything is opened
    as_json = wants_json(as_json)
    watched = trio.run(_watch, config, keys, places, every_s, once, as_json)
    if as_json:
        echo_json([_row(one) for one in watched])
    if any(one.progress.state.name == "LOST" for one in watched):
        sys.exit(1)


async def _watch(
    config: NodeConfig,
    keys: Keys,
    places: Sequence[Path],
    every_s: float,
    once: bool,
    as_json: bool,
) -> list[Watched]:
    traders = keys.traders()
    told: dict[str, str] = {}
    async with (
        open_chains(config, traders) as chains,
        open_legs(config, keys, traders, chains) as legs,
        trio.open_nursery() as nursery,
    ):
        tower = Watchtower(legs)
        nursery.start_soon(_until_signal, nursery.cancel_scope)
        while True:
            tower.take(await trio.to_thread.run_sync(_bundles, places))
            await tower.look()
            for one in tower.watched:
                _tell(one, told, as_json)
            if once or (tower.watched and all(one.has_ended for one in tower.watched)):
                break
            await trio.sleep(every_s)
        nursery.cancel_scope.cancel()
    return tower.watched


async def _until_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await anext(signals)
    scope.cancel()


def _bundles(places: Sequence[Path]) -> list[Bundle]:
    found = []
    for place in places:
        found += sorted(place.glob("*.json")) if place.is_dir() else [place]
    return [read_bundle(path) for path in found]


def _tell(one: Watched, told: dict[str, str], as_json: bool) -> None:
    """A line for each change; beside JSON on standard error."""
    name = "0x" + one.bundle.name.hex()
    text = one.progress.state.name.lower() + (f": {one.problem}" if one.problem else "")
    if told.get(name) != text:
        told[name] = text
        click.echo(f"{name[:18]}…  {text}", err=as_json)


def _row(one: Watched) -> dict[str, str | None]:
    return {
        "trade": "0x" + one.bundle.name.hex(),
        "state": one.progress.state.name.lower(),
        "problem": one.problem or None,
    }
