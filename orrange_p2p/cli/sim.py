"""``orrange sim``: networks of the production core in virtual time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from orrange_p2p.cli.options import echo_json, json_option, wants_json
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.sim.run import simulate
from orrange_p2p.sim.scenario import Scenario, load_scenario


@click.group("sim")
def command() -> None:
    """Simulate networks: the very code that nodes run, in virtual time, from one seed."""


@command.command("run")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--seed", type=click.IntRange(0), help="Instead of the scenario's.")
@click.option("--seconds", type=click.IntRange(1), help="Simulated; instead of the scenario's.")
@click.option("--nodes", type=click.IntRange(1), help="Instead of the scenario's.")
@json_option
def run(
    file: Path, seed: int | None, seconds: int | None, nodes: int | None, as_json: bool
) -> None:
    """Run the scenario FILE, such as simulations/baseline.toml, and print its figures.

    The same scenario and seed give the same figures, and the same `hash` of them, on every machine.
    Status 1 if nodes disagree.
    """
    scenario = load_scenario(file)
    wished = {"seed": seed, "seconds": seconds, "nodes": nodes}
    changes = {name: value for name, value in wished.items() if value is not None}
    try:
        scenario = scenario.evolved(**changes)
    except ConfigError as error:
        raise ConfigError(f"{file}, changed by options: {error}") from None
    figures = _with_progress(scenario)
    if wants_json(as_json):
        echo_json(figures)
    else:
        _show(figures)
    if not figures["agree"]:
        sys.exit(1)


def _with_progress(scenario: Scenario) -> dict[str, Any]:
    with click.progressbar(
        length=scenario.seconds,
        label=f"{scenario.name}: {scenario.nodes} nodes",
        file=sys.stderr,
        show_eta=True,
    ) as bar:
        return simulate(scenario, lambda second: bar.update(1))


def _show(figures: dict[str, Any]) -> None:
    scenario = figures["scenario"]
    click.echo(f"{scenario['name']}, seed {scenario['seed']}: {scenario['seconds']} s simulated")
    for name, value in figures.items():
        if name in ("scenario", "machine"):
            continue
        if isinstance(value, dict):
            value = "  ".join(f"{key} {one}" for key, one in value.items())
        click.echo(f"  {name:<24} {value}")
    machine = figures["machine"]
    click.echo(f"  took {machine['wall_s']} s, {machine['facts_per_s']} first-time facts/s")
