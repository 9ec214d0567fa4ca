"""``orrange bench``: how fast the matcher and the whole path of an order are on this machine."""

from __future__ import annotations

import sys
from typing import Any

import click


@click.group("bench")
def command() -> None:
    """Measure the matcher, the way of an order from bytes to disk, and networks on this machine."""


@command.command("book")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def book(as_json: bool) -> None:
    """The matcher, beside those one could pick instead, on one workload.

    The others run in an environment of their own, which `make bench` sets up; those that are not
    there are reported as missing.
    """
    from orrange_p2p.bench import book as bench

    sys.exit(bench.main(as_json))


@command.command("ingest")
@click.option(
    "--orders",
    "operations",
    type=click.IntRange(1, 10_000_000),
    default=200_000,
    show_default=True,
    help="Operations to take in.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def ingest(operations: int, as_json: bool) -> None:
    """Signed orders from bytes to disk on one core.

    Decode with the canonical check, verify, fold with one state root per epoch, and a durable
    append of every entry. The workload is made before the timer starts.
    """
    from orrange_p2p.bench import ingest as bench

    sys.exit(bench.main(as_json, operations=operations))


@command.command("reputation")
@click.option(
    "--events",
    type=click.IntRange(1, 100_000_000),
    default=1_000_000,
    show_default=True,
    help="Logs of the chain.",
)
@click.option("--accounts", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def reputation(events: int, accounts: int, as_json: bool) -> None:
    """The chain's logs from an endpoint's answer to disk, and to scores, on one core."""
    from orrange_p2p.bench import reputation as bench

    sys.exit(bench.main(as_json, events=events, accounts=accounts))


@command.command("net")
@click.option(
    "--nodes", type=click.IntRange(1, 16), default=4, show_default=True, help="Node processes."
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=20,
    show_default=True,
    help="How long orders arrive.",
)
@click.option(
    "--rate",
    type=click.IntRange(1, 1_000_000),
    default=10_500,
    show_default=True,
    help="Orders a second, however slowly they are taken.",
)
@click.option(
    "--authors",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Logs at each node.",
)
@click.option(
    "--operations",
    type=click.IntRange(1, 512),
    default=31,
    show_default=True,
    help="Operations in a submission; with the accept of matches that joins it, one more.",
)
@click.option(
    "--crossing",
    type=click.IntRange(0, 70),
    default=10,
    show_default=True,
    help="Percent that cross; 30 are cancels, the others limit orders.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def net(as_json: bool, **options: Any) -> None:
    """A whole network: node processes over libp2p, from submission to durable at every node.

    Exit status 1 if the nodes disagree or lost an order they had acknowledged.
    """
    from orrange_p2p.cli import bench_net

    sys.exit(bench_net.main(as_json, **options))


@command.command("gas")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def gas(as_json: bool) -> None:
    """What our contracts cost on an EVM chain, beside Boltz's in the same run.

    Needs the npm packages of contracts/evm, which `make setup` installs.
    """
    from orrange_p2p.bench import gas as bench

    sys.exit(bench.main(as_json))


@command.command("sync")
@click.option(
    "--orders",
    type=click.IntRange(1, 500_000),
    default=100_000,
    show_default=True,
    help="Open orders in the book.",
)
@click.option(
    "--checkpoint-epochs",
    type=click.IntRange(8, 4096),
    default=64,
    show_default=True,
    help="How often the nodes keep a checkpoint; theirs is 256 otherwise.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def sync(as_json: bool, **options: Any) -> None:
    """A fresh node joins a market with many open orders, over libp2p.

    From the start of its process until it is where the others are. Exit status 1 if its state
    root is not that of the others.
    """
    from orrange_p2p.cli import bench_sync

    sys.exit(bench_sync.main(as_json, **options))


@command.command("swaps")
@click.option(
    "--trades", type=click.IntRange(1, 1000), default=50, show_default=True, help="To be swapped."
)
@click.option(
    "--nodes", type=click.IntRange(2, 16), default=4, show_default=True, help="Node processes."
)
@click.option(
    "--lose",
    "lost_percent",
    type=click.IntRange(0, 99),
    default=5,
    show_default=True,
    help="Of the messages that gossip brings each node loses so many.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def swaps(as_json: bool, **options: Any) -> None:
    """Swaps of coins for a token, over libp2p that loses messages, on two development chains.

    How many of the matches that bind reach both locks, and how long a single swap takes without
    losses. Exit status 1 if one of a hundred does not, or if one fails.
    """
    from orrange_p2p.cli import bench_swaps

    sys.exit(bench_swaps.main(as_json, **options))


@command.command("sim")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def sim(as_json: bool) -> None:
    """How fast the simulator is on one core: the whole core, and the wire alone.

    Counted are first arrivals of records at nodes; duplicates are simulated and not counted.
    """
    from orrange_p2p.cli import bench_sim

    sys.exit(bench_sim.main(as_json))


@command.command("api")
@click.option("--subscribers", type=click.IntRange(1, 4000), default=1000, show_default=True)
@click.option("--seconds", type=click.IntRange(1, 3600), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def api(subscribers: int, seconds: int, as_json: bool) -> None:
    """One node's book, streamed to many subscribers at fifty orders a second.

    Exit status 1 if one of them missed a change or was cut off.
    """
    from orrange_p2p.cli import bench_api

    sys.exit(bench_api.main(as_json, subscribers, seconds))


@command.command("light")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def light(as_json: bool) -> None:
    """How long a light client takes to verify a book of 10,000 orders."""
    from orrange_p2p.bench import light as bench

    sys.exit(bench.main(as_json))
