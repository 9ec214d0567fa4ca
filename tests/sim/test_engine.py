"""The engine: order of events, dice, and the table of latencies."""

from __future__ import annotations

import pytest

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.sim.engine import Dice, Engine
from orrange_p2p.sim.latency import PLACES, one_way_us


def test_events_happen_in_order_of_time_then_of_scheduling() -> None:
    engine = Engine(1)
    seen: list[tuple[str, int]] = []

    def note(name: str) -> None:
        seen.append((name, engine.now_us))
        if name == "b":
            engine.at(0, note, "past")
            engine.after(5, note, "d")

    engine.at(10, note, "b")
    engine.at(10, note, "c")
    engine.at(3, note, "a")
    engine.run(14)
    assert seen == [("a", 3), ("b", 10), ("c", 10), ("past", 10)]
    engine.run(20)
    assert seen[-1] == ("d", 15)
    assert engine.now_us == 20


def test_dice_are_the_same_for_ever() -> None:
    """Published results name seeds: these numbers may never change."""
    dice = Dice(7, 3, "delay")
    assert [dice.below(1000) for _ in range(5)] == [905, 451, 314, 797, 452]


def test_what_one_draws_does_not_move_another() -> None:
    alone = Dice(1, 1, "x")
    expected = [alone.bits() for _ in range(4)]
    first, second = Dice(1, 1, "x"), Dice(1, 2, "x")
    mixed = []
    for _ in range(4):
        second.bits()
        mixed.append(first.bits())
    assert mixed == expected


def test_dice_are_fair_enough() -> None:
    dice = Dice(2, 0, "fair")
    counts = [0] * 10
    for _ in range(10_000):
        counts[dice.below(10)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150
    assert sum(dice.chance(250_000) for _ in range(4000)) in range(900, 1100)
    assert not dice.chance(0)
    items = list(range(50))
    dice.shuffle(items)
    assert sorted(items) == list(range(50)) != items


def test_latencies_are_real_ones_both_ways() -> None:
    matrix = one_way_us(["DE", "US", "AU"])
    assert matrix[0][1] == matrix[1][0] == 113_629 // 2
    assert matrix[0][0] < matrix[0][1] < matrix[0][2]
    assert len(PLACES) == 16
    everywhere = one_way_us(PLACES)
    assert all(0 < one < 400_000 for row in everywhere for one in row)


def test_an_unknown_place_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown place 'XX'; known: AU, BR"):
        one_way_us(["DE", "XX"])
