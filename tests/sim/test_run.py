"""Whole networks in virtual time: the same from one seed everywhere; a checker that can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orrange_p2p.cli import main as cli
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.replica import Effects, Replica
from orrange_p2p.core.ticks import Tick
from orrange_p2p.daemon.market import corrupt
from orrange_p2p.sim.run import MARKET, simulate
from orrange_p2p.sim.scenario import Scenario, load_scenario

SIMULATIONS = Path(__file__).parents[2] / "simulations"
SMALL = Scenario(seconds=8, nodes=8, witnesses=4, degree=4, authors=4, orders_per_s=20)


def test_a_network_without_faults_agrees_and_commits() -> None:
    figures = simulate(SMALL)
    assert figures["agree"] and figures["epochs"]["least"] > 10
    assert figures["orders"] == 20 * 8
    assert figures["deliveries"] >= 8 * (figures["facts"] - 20)
    # From Germany to Japan and back takes a quarter of a second.
    assert 50 < figures["propagation_ms"]["p50"] < 250
    assert figures["propagation_ms"]["max"] < figures["commit_ms"]["p50"] < 4_000


def test_the_same_seed_gives_the_same_figures_in_any_process(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text("seconds = 3\nnodes = 8\ndegree = 4\nauthors = 4\nloss_ppm = 20000\n")
    hashes = set()
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-m", "orrange_p2p.cli.main", "sim", "run", file, "--json"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.add(json.loads(done.stdout)["hash"])
    hashes.add(simulate(load_scenario(file))["hash"])
    assert len(hashes) == 1
    assert simulate(load_scenario(file).evolved(seed=2))["hash"] not in hashes


def test_what_links_lose_is_asked_for_and_a_silent_witness_stops_nobody() -> None:
    figures = simulate(
        SMALL.evolved(loss_ppm=300_000, silent_witnesses=1, seconds=15, degree=4, orders_per_s=5)
    )
    assert figures["lost"] > 100 and figures["repaired"] > 10
    assert figures["agree"] and figures["epochs"]["least"] > 5


def test_without_a_quorum_nothing_is_committed_and_nobody_disagrees() -> None:
    figures = simulate(SMALL.evolved(silent_witnesses=2, seconds=4))
    assert figures["agree"] and figures["epochs"]["most"] == 0


class Broken(Replica):
    """Its memory is at fault after three epochs."""

    is_broken = False

    def add_tick(self, tick: Tick) -> Effects:
        effects = super().add_tick(tick)
        if not self.is_broken and self.epoch >= 3 and self.fold.live_order_count:
            self.is_broken = True
            corrupt(self.fold)
        return effects


def test_a_node_that_computes_something_else_is_named() -> None:
    made: list[Replica] = []

    def replica(genesis: Genesis) -> Replica:
        made.append((Broken if len(made) == 5 else Replica)(genesis, MARKET.id))
        return made[-1]

    figures = simulate(SMALL, replica=replica)
    assert not figures["agree"]
    assert figures["disagreements"][0].startswith("node 5 in epoch ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed = 1\nnodse = 3", "line 2: unknown key 'nodse'; known: name, seed"),
        ("nodes = 0", "line 1: nodes must be an integer from 1 to 10000, not 0"),
        ('nodes = "many"', "line 1: nodes must be an integer"),
        ("# why\n\nnodes = 4\nwitnesses = 5", "line 4: witnesses: 5 of only 4 nodes"),
        ("nodes = 4\ndegree = 4", "line 2: degree: 4 neighbours among 4 nodes"),
        ('places = ["XX"]', "line 1: places: 'XX' is none of AU"),
        ("places = []", "line 1: places must name a country"),
        ("silent_witnesses = 5", "line 1: silent_witnesses: 5 of 4"),
        ("nodes = ", "not TOML"),
    ],
)
def test_a_bad_scenario_is_told_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    done = CliRunner().invoke(cli.main, ["sim", "run", str(file)])
    assert done.exit_code == 2
    assert f"{file}: " in done.stderr and told in done.stderr


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff")
    for name, told in (("none", "cannot be read: No such file"), ("bytes", "is not UTF-8")):
        done = CliRunner().invoke(cli.main, ["sim", "run", str(tmp_path / name)])
        assert done.exit_code == 2 and told in done.stderr


@pytest.mark.parametrize("path", sorted(SIMULATIONS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_scenarios_that_ship_are_sound(path: Path) -> None:
    scenario = load_scenario(path)
    assert scenario.name == path.stem
    figures: dict[str, Any] = simulate(scenario.evolved(nodes=20, seconds=3))
    assert figures["agree"] and figures["epochs"]["most"] > 0
