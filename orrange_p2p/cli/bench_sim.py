"""``orrange bench sim``: how fast the simulator is on one core."""

from __future__ import annotations

import json
import resource
from typing import Any, Final

import click

from orrange_p2p.sim.run import simulate
from orrange_p2p.sim.scenario import Fidelity, Scenario, Traders

__all__ = ["main", "measure"]

FULL: Final = Scenario(
    name="bench full",
    seconds=20,
    nodes=1_000,
    witnesses=16,
    min_round_ms=500,
    leader_timeout_ms=2_000,
    traders=Traders(random=100, orders_per_s=50),
)
WIRE: Final = FULL.evolved(
    name="bench wire", fidelity=Fidelity.WIRE, nodes=10_000, seconds=20, traders=Traders(random=100)
)


def measure(full: Scenario = FULL, wire: Scenario = WIRE) -> dict[str, Any]:
    """The figures; the wire first, so that its memory is its own."""
    on_wire = simulate(wire).figures
    wire_mb = _resident_mb()
    in_full = simulate(full).figures
    return {
        "full_facts_per_s": in_full["machine"]["deliveries_per_s"],
        "full_nodes": full.nodes,
        "full_wall_s": in_full["machine"]["wall_s"],
        "full_rss_mb": _resident_mb(),
        "agree": in_full["agree"],
        "wire_deliveries_per_s": on_wire["machine"]["deliveries_per_s"],
        "wire_nodes": wire.nodes,
        "wire_wall_s": on_wire["machine"]["wall_s"],
        "wire_rss_mb": wire_mb,
    }


def _resident_mb() -> int:
    """The most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main(as_json: bool) -> int:
    figures = measure()
    if as_json:
        click.echo(json.dumps(figures, separators=(",", ":")))
    else:
        for name, value in figures.items():
            click.echo(f"{name.replace('_', ' '):<24} {value:>12,}")
    return 0
