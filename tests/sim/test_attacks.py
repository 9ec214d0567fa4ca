"""Attacks on reputation that are reckoned: what washing costs, and what splitting changes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.cli import main as cli
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.histories import EventKind, histories
from orrange_p2p.core.ids import Address, Era
from orrange_p2p.core.reputation import score
from orrange_p2p.core.roster import Candidate, elect
from orrange_p2p.sim import split as split_module
from orrange_p2p.sim import wash as wash_module
from orrange_p2p.sim.homechain import DAY_MS, HomeChain, named
from orrange_p2p.sim.reckoning import TRADED, reckoned
from orrange_p2p.sim.results import load_reckonings
from orrange_p2p.sim.split import Split, split
from orrange_p2p.sim.wash import BURNED, START_DAY, Wash, wash

SHORT = Wash(horizons=(90, 365), ages=(180,), step_days=90)
SEAT_FLOORS_PPM = 32
"""Weights are 20 bits: each of 32 seats may lose one unit to its floor."""


def by(figures: dict[str, Any], **wanted: object) -> dict[str, Any]:
    (row,) = [r for r in figures["rows"] if all(r[key] == value for key, value in wanted.items())]
    found: dict[str, Any] = row
    return found


# --- the home chain ---


def test_a_block_shows_what_was_sent_before_it_and_a_pin_is_the_last_block() -> None:
    chain = HomeChain("eip155:1", 1000, 2000)
    chain.bond(1500, named("a"), 5, 9_000_000)
    chain.bind(2999, named("a"), named("key"))
    chain.slash(3000, named("a"), named("key"))
    assert [(e.place.block, e.place.log, e.time_s) for e in chain.events] == [
        (1, 0, 3),
        (1, 1, 3),
        (2, 0, 5),
    ]
    assert chain.pin_at(2999).block == 0 and chain.pin_at(3000).block == 1
    assert chain.pin_at(4999) == chain.pin_at(3000) != chain.pin_at(5000)
    with pytest.raises(ConfigError, match="no block as old"):
        chain.pin_at(999)
    with pytest.raises(ConfigError, match="comes after"):
        chain.show(EventKind.BONDED, 2000, named("b"))


# --- wash ---


def test_washed_score_costs_several_times_bonded_score() -> None:
    figures = wash(SHORT)
    year = by(figures, horizon_days=365)
    # By hand: eight times what is burned, 0.336 of it on average over a year.
    assert year["wash_best"] == pytest.approx(1 / (8 * 0.336), rel=0.01)
    assert year["bond_stays"] == 0.05
    assert year["times_bond_stays"] >= 5
    # Whoever leaves pays for the time that the bond is locked and no more wanted, too.
    assert year["times_bond_stays"] > year["times_bond_leaves"] > 4
    assert by(figures, horizon_days=90)["wash_best"] > year["wash_best"]
    assert figures["most_washed_of_bonded"] == 1.0
    for row in figures["rows"]:
        assert row["wash_steady"] >= row["wash_best"]


def test_young_identities_pay_more_and_a_longer_ring_gains_nothing() -> None:
    short = attrs.evolve(SHORT, horizons=(90,), step_days=30)
    figures = wash(attrs.evolve(short, ages=(0, 90, 180)))
    costs = [row["wash_best"] for row in figures["rows"]]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) == 3
    longer = wash(attrs.evolve(short, ring=9))["rows"][0]["wash_best"]
    assert longer >= costs[2] and longer == pytest.approx(costs[2], rel=1e-6)


def test_a_history_cut_at_a_day_is_that_of_the_events_up_to_it() -> None:
    chain = wash_module._chain()
    for day in (0, 20, 40):
        chain.bond((START_DAY + day) * DAY_MS, named("a"), 1000, (START_DAY + 400) * DAY_MS)
        chain.settle((START_DAY + day) * DAY_MS, named("a"), named("b"), TRADED.id, BURNED)
    whole = histories(wash_module.GENESIS, chain.events)[named("a")]
    for day in (0, 19, 20, 60):
        known = histories(wash_module.GENESIS, wash_module._until(chain, START_DAY + day))
        there = score(known[named("a")], START_DAY + day)
        cut = whole._replace(bonds=known[named("a")].bonds)
        assert wash_module._washed(cut, START_DAY + day) == there.total - there.bonds


# --- split ---


@pytest.fixture(scope="module")
def dealt() -> dict[str, Any]:
    return split(Split(counts=(1, 2, 10, 100, 1000)))


def test_a_split_never_gains_score_and_loses_floors_alone(dealt: dict[str, Any]) -> None:
    alone = by(dealt, field="skewed", identities=1)["score"]
    assert alone > 10**12, "trades count, too"
    for row in dealt["rows"]:
        assert row["score_least"] <= row["score"] <= row["score_most"] == alone


def test_weight_is_what_seats_and_cap_allow_and_no_more(dealt: dict[str, Any]) -> None:
    for row in dealt["rows"]:
        assert abs(row["weight_ppm"] - row["weight_most_ppm"]) <= SEAT_FLOORS_PPM
        if row["identities"] == 1:
            assert row["weight_ppm"] <= 250_000
    few = [row for row in dealt["rows"] if row["field"] == "few equal"]
    assert all(row["weight_ppm"] <= row["score_of_all_ppm"] for row in few), "all have seats"
    assert by(dealt, field="many equal", identities=10)["weight_ppm"] > 333_333, "some have none"
    assert by(dealt, field="many equal", identities=1000)["seats"] == 0


def test_limits_of_all_together_are_what_one_has_less_a_smallest_unit_each(
    dealt: dict[str, Any],
) -> None:
    for row in dealt["rows"]:
        for name in ("refill", "orders", "stake"):
            lost = row[f"{name}_most"] - row[name]
            assert 0 <= lost <= row["identities"] - (row["identities"] == 1)
        assert row["in_lane"] == 0 and row["orders_most"] == 65_536 * 30 // 100
    assert dealt["lane"]["operations_per_round"] < 2048 // 30


def test_what_suffices_to_stop_the_clock_is_less_where_honest_ones_have_no_seat(
    dealt: dict[str, Any],
) -> None:
    found = dealt["percent_that_suffices_for_a_third"]
    assert all(one["of one identity"] is None for one in found.values())
    assert found["few equal"]["of the best split"] == 34
    assert 15 < found["many equal"]["of the best split"] < found["skewed"]["of the best split"] < 34


@given(
    st.lists(st.integers(10**6, 10**9), max_size=40),
    st.integers(10**8, 10**9),
    st.integers(1, 50),
)
def test_the_fractions_are_the_elections_but_for_floors(
    honest: list[int], whole: int, count: int
) -> None:
    anchor = bytes(32)
    mine = [Address(b"\0" * 16 + n.to_bytes(4, "big")) for n in range(count)]
    candidates = [Candidate(key, whole // count, anchor, Era(0)) for key in mine]
    candidates += [
        Candidate(Address(b"\1" * 16 + n.to_bytes(4, "big")), worth, anchor, Era(0))
        for n, worth in enumerate(honest)
    ]
    seats = elect(candidates, 32)
    found = Fraction(
        sum(s.weight for s in seats if s.witness in mine), sum(s.weight for s in seats)
    )
    exact = split_module._allowed([Fraction(whole // count)] * count, honest, 32)
    assert abs(found - exact) <= Fraction(1, 500), "a thousandth of the worthiest weighs 2^10"


# --- as one types it ---


def test_a_reckoning_is_the_same_each_time_and_is_kept(
    tmp_path: Path, dealt: dict[str, Any]
) -> None:
    def orrange(*arguments: object) -> Result:
        return CliRunner().invoke(cli.main, ["sim", *map(str, arguments)])

    done = orrange("attack", "split", "--percent", 30, "--out", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    once = json.loads(done.stdout)
    assert json.loads((tmp_path / "attack-split.json").read_text()) == once
    assert once["made_by"]["version"]
    named_alike = {key: once[key] for key in once if key not in ("attack", "hash", "made_by")}
    assert reckoned("split", named_alike)["hash"] == once["hash"]
    there = {(row["field"], row["identities"]): row for row in once["rows"]}
    assert all(there[row["field"], row["identities"]] == row for row in dealt["rows"])
    (tmp_path / "attack-split.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not a reckoned attack"):
        load_reckonings(tmp_path)


def test_what_cannot_be_reckoned_is_told() -> None:
    with pytest.raises(ConfigError, match="at least two"):
        Wash(ring=1)
    with pytest.raises(ConfigError, match="horizon"):
        Wash(horizons=())
    with pytest.raises(ConfigError, match="percent"):
        Split(percent=100)
