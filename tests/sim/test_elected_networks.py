"""Networks whose witnesses are elected out of a simulated home chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.replica import Replica
from orrange_p2p.sim import network as network_module
from orrange_p2p.sim.homechain import MARKET
from orrange_p2p.sim.measures import Measures
from orrange_p2p.sim.run import simulate
from orrange_p2p.sim.scenario import (
    Attack,
    AttackKind,
    Candidate,
    Churn,
    Eras,
    Scenario,
    Traders,
    load_scenario,
)

SIMULATIONS = Path(__file__).parents[2] / "simulations"
QUICK = Eras(era_s=16, pin_s=12, handover_s=9, block_ms=500, read_within_ms=3000, slash_after_s=1)
ELECTED = Scenario(
    seconds=56,
    nodes=9,
    witnesses=7,
    degree=4,
    min_round_ms=400,
    loss_ppm=10_000,
    traders=Traders(random=3, orders_per_s=4),
    eras=QUICK,
)


def rosters_of(figures: dict[str, Any]) -> dict[int, set[int]]:
    """By era the numbers of its witnesses."""
    return {
        one["era"]: {int(name.removeprefix("witness ")) for name in one["witnesses"]}
        for one in figures["rosters"]
    }


def test_witnesses_join_leave_and_are_slashed_and_everybody_agrees() -> None:
    scenario = ELECTED.evolved(
        candidate=(
            Candidate(witness=5, from_s=2, bond=2000),
            Candidate(witness=4, from_s=20),
            Candidate(witness=0, until_s=20),
        ),
        attack=(Attack(kind=AttackKind.TWINS, from_s=17),),
        churn=(Churn(from_s=3, until_s=40, percent=50, away_s=6),),
    )
    figures = simulate(scenario).figures
    assert figures["agree"] and figures["convicted"] == {"witness 6": "equivocation"}
    assert figures["eras"]["least"] >= 3
    assert figures["epochs"]["most"] - figures["epochs"]["least"] <= 2
    rosters = rosters_of(figures)
    assert rosters[1] == {0, 1, 2, 3, 5, 6}
    assert rosters[2] == {1, 2, 3, 4, 5}
    # Twice as worthy, and cut down to a fourth of all weight.
    weights = figures["rosters"][0]["witnesses"]
    assert weights["witness 1"] < weights["witness 5"] == sum(weights.values()) // 4
    assert figures["settlement"]["settled"] > 0


def test_nodes_that_read_after_the_era_has_ended_are_late_and_no_less_right() -> None:
    late = attrs.evolve(QUICK, read_within_ms=16_000)
    figures = simulate(ELECTED.evolved(eras=late)).figures
    assert figures["agree"] and figures["eras"]["least"] >= 2
    assert figures["divergence_ms"]["max"] > 2_000


MISLED = ELECTED.evolved(attack=(Attack(kind=AttackKind.MISLED),), seconds=26)


def test_who_reads_another_roster_stops_alone() -> None:
    figures = simulate(MISLED).figures
    assert figures["misled"] == {"contradicted in era 0": 1}
    assert figures["agree"] and figures["halted"] == {} and figures["eras"]["least"] >= 1


def test_that_another_roster_is_another_history_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trusting(Measures):
        """Takes all nodes for honest."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, frozenset() if name == "misled" else value)

    monkeypatch.setattr(network_module, "Measures", Trusting)
    figures = simulate(MISLED).figures
    assert not figures["agree"] and figures["disagreements"]


def test_what_is_shared_is_what_each_would_compute() -> None:
    short = ELECTED.evolved(seconds=18)
    alone = simulate(short, replica=lambda genesis: Replica(genesis, MARKET.id))
    assert alone.figures["hash"] == simulate(short).figures["hash"]
    assert alone.figures["eras"]["least"] == 1


def test_the_scenario_that_ships_has_five_eras_and_two_of_whom_join() -> None:
    scenario = load_scenario(SIMULATIONS / "eras.toml")
    assert scenario.eras is not None and scenario.seconds > 6 * scenario.eras.era_s
    assert sum(one.from_s > 0 for one in scenario.candidate) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"eras": None, "candidate": (Candidate(witness=1, from_s=3),)}, "without \\[eras\\]"),
        ({"eras": None, "attack": MISLED.attack}, "nobody reads rosters"),
        ({"eras": attrs.evolve(QUICK, pin_s=16)}, "handover_s < pin_s < era_s"),
        ({"candidate": (Candidate(witness=7),)}, "witness 7 of only 7"),
        ({"candidate": tuple(Candidate(witness=n, from_s=1) for n in range(7))}, "first era"),
    ],
)
def test_eras_that_do_not_fit_are_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ELECTED.evolved(**changes)
