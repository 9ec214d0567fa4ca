"""``orrange sim``: networks of the production core in virtual time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

import orrange_p2p
from orrange_p2p.cli.options import echo_json, json_option, wants_json
from orrange_p2p.core.errors import ConfigError

if TYPE_CHECKING:
    from orrange_p2p.sim.run import Result
    from orrange_p2p.sim.scenario import Scenario


@click.group("sim")
def command() -> None:
    """Simulate networks: the very code that nodes run, in virtual time, from one seed."""
    missing = [name for name in ("matplotlib", "numpy", "polars") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{missing[0]} is not installed: pip install 'orrange-p2p[sim]', or in a checkout "
            "`make setup`"
        )


@command.command("run")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--seed", type=click.IntRange(0), help="Instead of the scenario's.")
@click.option("--seconds", type=click.IntRange(1), help="Simulated; instead of the scenario's.")
@click.option("--nodes", type=click.IntRange(1), help="Instead of the scenario's.")
@click.option("--seeds", type=click.IntRange(1, 100_000), default=1, help="So many, from that one.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder for figures and tables (Parquet). What it has already is not run again.",
)
@click.option("--jobs", type=click.IntRange(1, 256), default=1, help="So many runs at once.")
@click.option("--ray", is_flag=True, help="Spread the runs over a Ray cluster.")
@click.option("--ray-address", help="Of the cluster, such as ray://head:10001; implies --ray.")
@json_option
def run(
    file: Path,
    seed: int | None,
    seconds: int | None,
    nodes: int | None,
    seeds: int,
    out: Path | None,
    jobs: int,
    ray: bool,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Run the scenario FILE, such as simulations/baseline.toml, and print its figures.

    The same scenario and seed give the same figures, and the same `hash` of them, on every machine.
    Of several seeds one line is printed each. Status 1 if nodes disagree in one of them.
    """
    from orrange_p2p.sim import results, sweep
    from orrange_p2p.sim.scenario import load_scenario

    scenario = load_scenario(file)
    wished = {"seed": seed, "seconds": seconds, "nodes": nodes}
    changes = {name: value for name, value in wished.items() if value is not None}
    try:
        scenario = scenario.evolved(**changes)
    except ConfigError as error:
        raise ConfigError(f"{file}, changed by options: {error}") from None
    wanted = sweep.seeds_of(scenario, seeds)
    if out is not None:
        todo = [one for one in wanted if not results.is_done(out, one)]
        if len(todo) < len(wanted):
            click.echo(f"{len(wanted) - len(todo)} of {len(wanted)} are in {out}", err=True)
        wanted = todo
    agree = True
    made_by = _made_by()
    for one, result in _with_progress(wanted, jobs, ray or ray_address is not None, ray_address):
        result.figures["made_by"] = made_by
        agree = agree and result.figures.get("agree", True)
        if out is not None:
            results.write_result(out, one, result)
        if wants_json(as_json):
            echo_json(result.figures)
        else:
            _show(result.figures)
    if not agree:
        sys.exit(1)


def _with_progress(
    wanted: list[Scenario], jobs: int, is_ray: bool, ray_address: str | None
) -> Iterator[tuple[Scenario, Result]]:
    from orrange_p2p.sim import sweep

    if not wanted:
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} s"),
        TimeRemainingColumn(),
    )
    first = wanted[0]
    title = f"{first.name}: {first.nodes} nodes"
    with Progress(*columns, console=_console(), transient=True) as progress:
        whole: TaskID = progress.add_task(title, total=sum(one.seconds for one in wanted))
        done: dict[tuple[int, str], int] = {}

        def tell(scenario: Scenario, second: int) -> None:
            done[scenario.seed, scenario.digest] = second
            progress.update(whole, completed=sum(done.values()))

        if is_ray:
            yield from sweep.on_ray(wanted, tell, ray_address)
        elif jobs > 1 and len(wanted) > 1:
            yield from sweep.in_processes(wanted, tell, jobs)
        else:
            yield from sweep.in_turn(wanted, tell)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _made_by() -> dict[str, str | None]:
    """With what: not part of the hash."""
    folder = Path(orrange_p2p.__file__).parent
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, and where we are
            ["git", "-C", str(folder), "rev-parse", "HEAD"],  # noqa: S607 - the one on PATH
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
        commit: str | None = done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = None
    return {"version": orrange_p2p.__version__, "commit": commit}


def _show(figures: dict[str, Any]) -> None:
    scenario = figures["scenario"]
    click.echo(f"{scenario['name']}, seed {scenario['seed']}: {scenario['seconds']} s simulated")
    for name, value in figures.items():
        if name in ("scenario", "machine", "made_by") or value in ({}, [], None):
            continue
        if isinstance(value, dict):
            value = "  ".join(f"{key} {one}" for key, one in value.items())
        elif isinstance(value, list):
            value = "; ".join(map(str, value))
        click.echo(f"  {name.replace('_', ' '):<24} {value}")
    machine = figures["machine"]
    click.echo(f"  took {machine['wall_s']} s, {machine['deliveries_per_s']:,} deliveries/s")


# --- attacks that are reckoned ---


@command.group("attack")
def attack() -> None:
    """What an attack on reputation brings.

    `wash` and `split` follow from histories of the home chain alone: no network is simulated, the
    production functions score and elect. `spam` runs networks. The same options give the same
    figures, and the same `hash` of them, on every machine.
    """


out_option = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="A folder for attack-NAME.json."
)


@attack.command("wash")
@click.option(
    "--capital-percent",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    help="What capital costs a year.",
)
@click.option(
    "--ring", type=click.IntRange(2, 1000), default=2, show_default=True, help="Identities."
)
@out_option
@json_option
def attack_wash(capital_percent: int, ring: int, out: Path | None, as_json: bool) -> None:
    """A ring trades with itself: what its score costs, beside what bonding costs.

    A cost is of one unit of score, held for a year. `stays` is a bond that goes on after the
    horizon; of one that `leaves`, all the time it is tied up is charged to the horizon.
    """
    from orrange_p2p.sim.wash import Wash, wash

    _reckon("wash", wash(Wash(capital_percent=capital_percent, ring=ring)), out, as_json)


@attack.command("split")
@click.option(
    "--percent",
    type=click.IntRange(1, 99),
    default=30,
    show_default=True,
    help="Of all score that stands for seats, the owner's.",
)
@click.option(
    "--seats", type=click.IntRange(1, 32), default=32, show_default=True, help="Of an era."
)
@out_option
@json_option
def attack_split(percent: int, seats: int, out: Path | None, as_json: bool) -> None:
    """One bond is dealt out to 1 .. 1,000 identities: score, seats and weight.

    Beside each figure stands what floors, seats and the share cap allow.
    """
    from orrange_p2p.sim.split import Split, split

    _reckon("split", split(Split(percent=percent, seats=seats)), out, as_json)


@attack.command("spam")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--seeds", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option("--seconds", type=click.IntRange(1), help="Simulated; instead of the scenario's.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, help="So many runs at once.")
@out_option
@json_option
def attack_spam(
    file: Path, seeds: int, seconds: int | None, jobs: int, out: Path | None, as_json: bool
) -> None:
    """Do others wait longer while FILE's spammers write, such as those of simulations/spam.toml?

    Each seed is run twice, once with the spammers silent. Rises are in percent.
    """
    from orrange_p2p.sim.scenario import load_scenario
    from orrange_p2p.sim.spam import compared, pairs_of

    scenario = load_scenario(file)
    if seconds is not None:
        scenario = scenario.evolved(seconds=seconds)
    runs = _with_progress(pairs_of(scenario, seeds), jobs, False, None)
    _reckon("spam", compared(scenario, runs), out, as_json)


def _reckon(name: str, found: dict[str, Any], out: Path | None, as_json: bool) -> None:
    from orrange_p2p.sim import results
    from orrange_p2p.sim.reckoning import reckoned

    figures = {**reckoned(name, found), "made_by": _made_by()}
    if out is not None:
        results.write_reckoning(out, figures)
    if wants_json(as_json):
        echo_json(figures)
        return
    rows: list[dict[str, object]] = figures["rows"]
    names = list(rows[0])
    widths = [max(len(one), *(len(str(row[one])) for row in rows)) for one in names]
    lines: list[list[str]] = [names, *([str(row[one]) for one in names] for row in rows)]
    for line in lines:
        click.echo("  ".join(f"{text:>{width}}" for text, width in zip(line, widths, strict=True)))
    for key, value in figures.items():
        if key not in ("attack", "wanted", "rows", "made_by"):
            click.echo(f"{key.replace('_', ' ')}: {value}")


@command.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Draw the runs in FOLDER, as `orrange sim run --out` leaves them: report.html and PNGs."""
    from orrange_p2p.sim.report import write_report
    from orrange_p2p.sim.results import load_reckonings, load_runs

    runs = load_runs(folder)
    path = write_report(runs, folder if folder.is_dir() else folder.parent, load_reckonings(folder))
    click.echo(f"{path}: {len(runs)} runs")


@command.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@json_option
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Set the runs of two folders, or two runs, side by side: medians, and the second's ratio."""
    from orrange_p2p.sim.report import compared
    from orrange_p2p.sim.results import load_runs

    rows = compared(load_runs(first), load_runs(second))
    if wants_json(as_json):
        names = ("figure", "first", "second", "ratio")
        echo_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    for name, here, there, ratio in rows:
        click.echo(f"{name:<44} {here!s:>18} {there!s:>18} {'' if ratio is None else ratio:>8}")
