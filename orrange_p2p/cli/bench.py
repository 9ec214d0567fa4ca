"""``orrange bench``: how fast the matcher and the whole path of an order are on this machine."""

from __future__ import annotations

import sys

import click


@click.group("bench")
def command() -> None:
    """Measure the matcher and the way of an order from bytes to disk, on this machine."""


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
