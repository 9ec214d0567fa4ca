"""Sweeps, their files, and what is drawn of them, as one types it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from orrange_p2p.cli import main as cli
from orrange_p2p.sim import sweep
from orrange_p2p.sim.run import simulate
from orrange_p2p.sim.scenario import Scenario, load_scenario

SMALL = """
name = "small"
seconds = 4
nodes = 8
degree = 4
"""
PNG = b"\x89PNG\r\n"


def orrange(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["sim", *map(str, arguments)])


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return file


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_sweep_leaves_figures_and_tables_and_goes_on_where_it_was(
    scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = lines(orrange("run", scenario, "--seeds", 2, "--out", out, "--json"))
    assert [one["scenario"]["seed"] for one in first] == [1, 2]
    assert first[0]["made_by"]["version"]
    again = orrange("run", scenario, "--seeds", 3, "--out", out, "--json")
    assert [one["scenario"]["seed"] for one in lines(again)] == [3]
    assert "2 of 3 are in" in again.stderr
    kept = json.loads((out / "small-1.json").read_text())
    assert kept == first[0]
    epochs = pl.read_parquet(out / "small-1.epochs.parquet")
    assert epochs.height == kept["epochs"]["most"]
    assert epochs["trades"].sum() == kept["trades"]
    delays = pl.read_parquet(out / "small-1.delays.parquet")
    arrivals = delays.filter(pl.col("what") == "propagation")["count"].sum()
    assert 0 < arrivals < kept["deliveries"]


def test_another_scenario_of_that_name_is_run_again(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines(orrange("run", scenario, "--out", out, "--json"))
    scenario.write_text(SMALL + "loss_ppm = 1000\n")
    assert len(lines(orrange("run", scenario, "--out", out, "--json"))) == 1


def test_runs_are_drawn_on_one_page(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines(orrange("run", scenario, "--seeds", 2, "--out", out, "--json"))
    rows = [{"identities": 1000, "score_most": None}]
    (out / "attack-some.json").write_text(json.dumps({"attack": "some", "rows": rows}))
    done = orrange("report", out)
    assert done.exit_code == 0 and "2 runs" in done.stdout
    page = (out / "report.html").read_text()
    assert "small, seed 1" in page and "small, seed 2" in page
    assert "some, reckoned" in page and "<td>1,000</td><td>–</td>" in page
    assert not re.search(r'(src|href)="(?!data:)', page), "the page needs nothing else"
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == [
        "commit.png",
        "depth.png",
        "divergence.png",
        "propagation.png",
        "spread.png",
    ]
    assert all((out / name).read_bytes().startswith(PNG) for name in pictures)


def test_a_run_of_the_wire_is_drawn_too(tmp_path: Path) -> None:
    file, out = tmp_path / "wire.toml", tmp_path / "out"
    file.write_text('name = "wire"\nfidelity = "wire"\nseconds = 3\nnodes = 40\n')
    lines(orrange("run", file, "--out", out, "--json"))
    assert orrange("report", out).exit_code == 0


def test_runs_are_set_side_by_side(scenario: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    lines(orrange("run", scenario, "--out", out, "--json"))
    lines(orrange("run", scenario, "--nodes", 16, "--out", other, "--json"))
    rows = {row["figure"]: row for row in lines(orrange("compare", out, other, "--json"))[0]}
    assert (rows["nodes"]["first"], rows["nodes"]["second"], rows["nodes"]["ratio"]) == (8, 16, 2)
    same = lines(orrange("compare", out, out / "small-1.json", "--json"))[0]
    assert all(row["ratio"] in (1, None) for row in same)
    assert "propagation, p50, ms" in orrange("compare", out, other).stdout


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no"),
        ("", "no run in"),
        ("{}", "is not the result of a run"),
        ("[", "is not the result of a run"),
    ],
)
def test_what_is_no_result_is_told(tmp_path: Path, content: str | None, told: str) -> None:
    folder = tmp_path / "out"
    if content is not None:
        folder.mkdir()
        if content:
            (folder / "some.json").write_text(content)
    done = orrange("report", folder)
    assert done.exit_code == 2 and told in done.stderr


def test_where_a_run_was_made_cannot_be_seen_in_it(scenario: Path) -> None:
    scenarios = sweep.seeds_of(load_scenario(scenario), 3)
    expected = {one.seed: simulate(one).figures["hash"] for one in scenarios}
    told: list[Scenario] = []

    def tell(one: Scenario, second: int) -> None:
        told.append(one)

    for found in (
        sweep.in_turn(scenarios, tell),
        sweep.in_processes(scenarios, tell, 2),
        sweep.on_ray(scenarios, tell, None),
    ):
        assert {one.seed: result.figures["hash"] for one, result in found} == expected
    assert {one.seed for one in told} == {1, 2, 3}


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1"),
        ("ray://127.0.0.1:1", "no Ray cluster at ray://127.0.0.1:1"),
        ("auto", "HOST:PORT or ray://HOST:PORT, not 'auto'"),
        ("here:there", "no Ray cluster at here:there"),
    ],
)
def test_a_cluster_that_is_not_there_is_told(scenario: Path, address: str, told: str) -> None:
    done = orrange("run", scenario, "--ray-address", address)
    assert done.exit_code == 2 and told in done.stderr
