"""Whole networks in virtual time: the same from one seed everywhere; a checker that can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from orrange_p2p.cli import main as cli
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Weight
from orrange_p2p.core.replica import Effects, Replica
from orrange_p2p.core.ticks import Tick
from orrange_p2p.daemon.market import corrupt
from orrange_p2p.sim.run import MARKET, simulate
from orrange_p2p.sim.scenario import (
    Attack,
    AttackKind,
    Churn,
    Fidelity,
    Growth,
    Partition,
    Scenario,
    Traders,
    load_scenario,
)

SIMULATIONS = Path(__file__).parents[2] / "simulations"
SMALL = Scenario(
    seconds=8, nodes=8, witnesses=4, degree=4, traders=Traders(random=4, orders_per_s=20)
)
SEVEN = Scenario(
    seconds=20, nodes=20, witnesses=7, degree=4, traders=Traders(random=8, orders_per_s=20)
)


def figures_of(scenario: Scenario, **options: Any) -> dict[str, Any]:
    return simulate(scenario, **options).figures


def attacked(kind: AttackKind, **changes: Any) -> Scenario:
    return SEVEN.evolved(attack=(Attack(kind=kind, **changes),))


def test_a_network_without_faults_agrees_and_commits() -> None:
    figures = figures_of(SMALL)
    assert figures["agree"] and figures["epochs"]["least"] > 10
    assert figures["orders"] == 20 * 8 - 1
    assert figures["deliveries"] >= 8 * (figures["facts"] - 20)
    # From Germany to Japan and back takes a quarter of a second.
    assert 50 < figures["propagation_ms"]["p50"] < 250
    assert figures["propagation_ms"]["max"] < figures["commit_ms"]["p50"] < 4_000
    assert figures["trades"] > 0 and figures["lapses"] == 0


def test_the_same_seed_gives_the_same_figures_in_any_process(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text("seconds = 3\nnodes = 12\ndegree = 4\nloss_ppm = 20000\n")
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
    hashes.add(figures_of(load_scenario(file))["hash"])
    assert len(hashes) == 1
    assert figures_of(load_scenario(file).evolved(seed=2))["hash"] not in hashes


def test_what_links_lose_is_brought_by_heartbeats_or_asked_for() -> None:
    figures = figures_of(SMALL.evolved(loss_ppm=500_000, seconds=15))
    assert figures["lost"] > 100 and figures["repaired"] > 10
    assert figures["agree"] and figures["epochs"]["least"] > 5


# --- faults of witnesses ---


def test_without_a_quorum_nothing_is_committed_and_nobody_disagrees() -> None:
    silent = Attack(kind=AttackKind.SILENT, count=2)
    figures = figures_of(SMALL.evolved(attack=(silent,), seconds=4))
    assert figures["agree"] and figures["epochs"]["most"] == 0


@pytest.mark.parametrize(
    "kind", [AttackKind.SILENT, AttackKind.DELAY, AttackKind.WITHHOLD, AttackKind.TWINS]
)
def test_as_many_faulty_witnesses_as_are_borne_stop_and_split_nobody(kind: AttackKind) -> None:
    figures = figures_of(attacked(kind, count=2, delay_ms=1500))
    assert figures["faulty_witnesses"] == {"there": 2, "borne": 2}
    assert figures["agree"] and figures["epochs"]["least"] > 10
    guilty = {"witness 5", "witness 6"} if kind is AttackKind.TWINS else set()
    assert set(figures["convicted"]) == guilty


def test_a_partition_in_which_nobody_has_a_quorum_stands_still_and_heals() -> None:
    figures = figures_of(SEVEN.evolved(partition=(Partition(from_s=5, until_s=12),)))
    assert figures["agree"] and figures["repaired"] > 100
    assert figures["commit_ms"]["max"] > 7_000
    assert figures["epochs"]["least"] > 30


@pytest.mark.parametrize("count", [2, 3])
def test_twins_split_a_divided_network_only_beyond_the_bound_and_are_convicted(count: int) -> None:
    """Two of seven are borne. With three each half has a quorum, and commits for itself."""
    divided = SEVEN.evolved(
        partition=(Partition(from_s=5, until_s=12),),
        attack=(Attack(kind=AttackKind.TWINS, count=count, from_s=6),),
    )
    figures = figures_of(divided)
    assert figures["agree"] is (count == 2)
    assert len(figures["convicted"]) == count
    assert set(figures["convicted"].values()) == {"equivocation"}
    assert bool(figures["disagreements"]) is (count == 3)


class Weakened(Replica):
    """Two witnesses of four are a quorum: two of them and the other two each commit."""

    def __init__(self, genesis: Genesis) -> None:
        super().__init__(genesis, MARKET.id)
        self.table.quorum = Weight(2)


def test_a_weakened_quorum_is_caught() -> None:
    divided = SMALL.evolved(seconds=20, partition=(Partition(from_s=4, until_s=14),))
    runs = [divided.evolved(seed=seed) for seed in range(1, 4)]
    assert all(figures_of(run)["agree"] for run in runs)
    assert not all(figures_of(run, replica=Weakened)["agree"] for run in runs)


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

    figures = figures_of(SMALL, replica=replica)
    assert not figures["agree"]
    assert figures["disagreements"][0].startswith("node 5 in epoch ")


# --- other ill will ---


def test_who_forks_is_frozen_and_named() -> None:
    figures = figures_of(attacked(AttackKind.FORK))
    assert figures["agree"] and figures["convicted"] == {"trader 7": "fork"}


def test_who_writes_more_than_it_may_is_refused_alone() -> None:
    figures = figures_of(attacked(AttackKind.SPAM, per_s=100).evolved(operations_per_round=4))
    assert figures["agree"] and set(figures["refused"]) == {"of attackers"}
    assert figures["refused"]["of attackers"] > 1000


def test_who_never_accepts_lets_matches_lapse_alone() -> None:
    figures = figures_of(attacked(AttackKind.REFUSE, count=2))
    assert figures["agree"] and figures["lapses"] == figures["lapsed_by_attackers"] > 0


def test_nodes_that_forward_nothing_are_gone_around() -> None:
    figures = figures_of(attacked(AttackKind.SYBIL, percent=60))
    assert figures["agree"] and figures["epochs"]["least"] > 50


@pytest.mark.parametrize(("delay_ms", "is_blind"), [(0, True), (3_000, False)])
def test_an_eclipsed_node_falls_behind_and_is_not_misled(delay_ms: int, is_blind: bool) -> None:
    figures = figures_of(attacked(AttackKind.ECLIPSE, delay_ms=delay_ms))
    epochs = figures["epochs"]
    assert figures["agree"] and (epochs["least"] == 0) is is_blind
    assert epochs["most"] - epochs["least"] > 5


# --- who comes and goes, who trades ---


def test_nodes_that_come_back_or_come_late_catch_up() -> None:
    for changes in (
        {"churn": (Churn(from_s=2, until_s=15, percent=30, away_s=4),)},
        {"growth": Growth(start=8, until_s=12)},
    ):
        figures = figures_of(SEVEN.evolved(**changes))
        assert figures["agree"] and figures["repaired"] > 1000
        assert figures["epochs"]["most"] - figures["epochs"]["least"] <= 2


def test_makers_takers_and_racers_trade() -> None:
    traders = Traders(random=8, orders_per_s=20, makers=2, takers=2, racers=2)
    figures = figures_of(SEVEN.evolved(traders=traders))
    assert figures["agree"] and figures["trades"] > figures_of(SEVEN)["trades"]
    assert figures["race_won"] < 0.5, "who answers is later than what it answers"


def test_a_recorded_session_is_replayed() -> None:
    traders = Traders(random=0, feed="sample", feed_speed=20)
    figures = figures_of(SEVEN.evolved(traders=traders))
    assert figures["agree"] and figures["orders"] > 300 and figures["trades"] > 0


def test_the_wire_alone_spreads_as_it_does_under_the_core() -> None:
    full = SEVEN.evolved(nodes=200, degree=6, seconds=5)
    wire = figures_of(full.evolved(fidelity=Fidelity.WIRE))
    core = figures_of(full)
    for name in ("p50", "p90"):
        here, there = wire["propagation_ms"][name], core["propagation_ms"][name]
        assert abs(here - there) < 0.1 * there
    assert wire["unreached"] == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed = 1\nnodse = 3", "line 2: unknown key 'nodse'; known: name, seed"),
        ("nodes = 0", "line 1: nodes must be an integer from 1 to 20000, not 0"),
        ('nodes = "many"', "line 1: nodes must be an integer"),
        ("# why\n\nnodes = 4\nwitnesses = 5", "line 4: witnesses: 5 of only 4 nodes"),
        ("nodes = 4\ndegree = 4", "line 2: degree: 4 neighbours among 4 nodes"),
        ('places = ["XX"]', "line 1: places: 'XX' is none of AU"),
        ("places = []", "line 1: places must name a country"),
        (
            "nodes = 6000",
            'line 1: nodes: 6000 with the whole core; up to 5000, or fidelity = "wire"',
        ),
        ('fidelity = "some"', "line 1: fidelity must be one of full, wire"),
        ('[traders]\nrandom = 1\nfeed = "no.log"', "line 3: feed: there is no file"),
        ("[traders]\nfeed = 3", "line 2: feed must be the name of a file"),
        ("[traders]\nrandom = -1", "line 2: random must be an integer from 0 to 10000, not -1"),
        ("seed = 2\n\n[trader]", "line 3: unknown key 'trader'; known: name, seed"),
        ("traders = 3", "line 1: write it as [traders]"),
        ("[attack]\nkind = 'silent'", "line 1: write it as [[attack]]"),
        ("[[attack]]\nkind = 'rude'", "line 2: kind must be one of silent, delay"),
        ("seed = 3\n[[attack]]\ncount = 1", "line 2: an attack needs a kind: silent, delay"),
        (
            "[[attack]]\nkind = 'silent'\n[[attack]]\nkind = 'delay'\ncount = 0",
            "line 5: count must be an integer from 1",
        ),
        ("[[attack]]\nkind = 'silent'\ncount = 5", "line 1: attack: 5 of 4 witnesses"),
        ("[[attack]]\nkind = 'spam'\ncount = 9", "line 1: attack: 9 of 8 random traders"),
        ("[[partition]]\nfrom_s = 9\nuntil_s = 9", "line 3: until_s must be later than from_s"),
        ("[growth]\nstart = 3", "line 1: growth: it starts with 3 nodes; that must be all 4"),
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


# --- the scenarios that ship ---


@pytest.mark.parametrize("path", sorted(SIMULATIONS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_scenarios_that_ship_are_sound(path: Path) -> None:
    scenario = load_scenario(path)
    assert scenario.name == path.stem
    figures = figures_of(smaller(scenario))
    assert figures.get("agree", True) is (scenario.faulty_witnesses <= scenario.faults_borne)
    assert figures["deliveries"] > 100


def smaller(scenario: Scenario) -> Scenario:
    """As few nodes and seconds as show what it is about."""
    nodes = min(scenario.nodes, 40)
    growth = scenario.growth
    if growth is not None:
        growth = attrs.evolve(growth, start=max(scenario.witnesses, 10))
    spams = any(attack.times for attack in scenario.attack)  # thousands of orders a second
    seconds = 6 if spams else min(scenario.seconds, 30)
    return scenario.evolved(nodes=nodes, seconds=seconds, growth=growth)
