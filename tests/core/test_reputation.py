"""Reputation: the formula, and what nobody can gain by."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core.decay import ONE, decay, decayed
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import (
    Bond,
    Default,
    History,
    Place,
    Settled,
    score,
    terms,
)

ME = Address(b"\x01" * 20)
DAY = 20_000
MILLION = 1_000_000


def place(number: int) -> Place:
    return Place("eip155:1", 100 + number // 7, number % 7)


# --- the shortest example ---


def test_a_bond_some_trades_and_a_default() -> None:
    history = History(
        ME,
        DAY - 90,
        (Bond(place(0), 1000 * MILLION, DAY + 365), Bond(place(1), 730 * MILLION, DAY + 73, True)),
        (Settled(place(2), 4 * MILLION, DAY), Settled(place(3), 4 * MILLION, DAY - 90)),
        (Default(place(4), 50 * MILLION, DAY - 180), Default(place(5), 10 * MILLION, DAY, True)),
    )
    found = score(history, DAY)
    assert found.bonds == 1000 * MILLION + 73 * MILLION  # 730 * 73 / 365 / 2
    assert found.trades == 2 * MILLION + 1 * MILLION
    assert found.defaults == 2_500_000 + 2 * MILLION  # 10 % halved, 20 % fresh
    assert found.age_days == 90
    assert found.total == found.bonds + 8 * found.trades // 2 - found.defaults
    shown = terms(history, DAY)
    assert [term.kind for term in shown] == sorted(term.kind for term in shown)
    assert sum(term.value for term in shown) == (found.bonds + found.trades + found.defaults)


def test_earned_is_capped_by_bonded_and_a_fork_ends_it() -> None:
    rich = History(
        ME, DAY - 400, (Bond(place(0), 100, DAY + 365),), (Settled(place(1), 10**9, DAY),)
    )
    assert score(rich, DAY).total == 200
    assert score(rich._replace(bonds=()), DAY).total == 0, "trades alone are worth nothing"
    assert score(rich._replace(is_forked=True), DAY).total == 0
    owing = rich._replace(defaults=(Default(place(2), 10**6, DAY),))
    assert score(owing, DAY).total == 0, "never below nothing"


# --- the table ---


@pytest.mark.parametrize("half_life", [90, 180])
def test_every_entry_of_the_table_is_the_floor_of_the_power(half_life: int) -> None:
    """Exactly: dec <= 2^32 * 2^(-i/h) < dec + 1, both sides to the power of h."""
    for days in range(half_life):
        entry = decay(days, half_life)
        exact = 1 << (32 * half_life - days)
        assert entry**half_life <= exact < (entry + 1) ** half_life
    assert decay(0, half_life) == ONE and decay(half_life, half_life) == ONE // 2
    assert decay(40 * half_life, half_life) == 0


@given(st.integers(0, 2**80), st.integers(0, 4000), st.sampled_from([90, 180]))
def test_decay_never_grows_and_is_close_to_the_power(amount: int, age: int, half_life: int) -> None:
    left = decayed(amount, age, half_life)
    assert 0 <= decayed(amount, age + 1, half_life) <= left <= amount
    if age % half_life == 0 and age // half_life <= 32:
        assert left == amount // 2 ** (age // half_life)


# --- what nobody can gain by ---

days = st.integers(DAY - 500, DAY)
amounts = st.integers(0, 10**15)


@st.composite
def histories(draw: st.DrawFn) -> History:
    count = draw(st.integers(0, 5))
    bonds = [
        Bond(place(n), draw(amounts), draw(st.integers(DAY - 30, DAY + 600)), draw(st.booleans()))
        for n in range(count)
    ]
    settled = [Settled(place(n), draw(amounts), draw(days)) for n in range(draw(st.integers(0, 5)))]
    defaults = [
        Default(place(n), draw(amounts), draw(days), draw(st.booleans()))
        for n in range(draw(st.integers(0, 3)))
    ]
    return History(ME, draw(days), tuple(bonds), tuple(settled), tuple(defaults))


@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_events_changes_nothing(history: History, rng: random.Random) -> None:
    def mixed(events: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(rng.sample(events, len(events)))

    other = History(
        history.account,
        history.registered_day,
        mixed(history.bonds),  # type: ignore[arg-type]
        mixed(history.settled),  # type: ignore[arg-type]
        mixed(history.defaults),  # type: ignore[arg-type]
    )
    assert score(other, DAY) == score(history, DAY)
    assert terms(other, DAY) == terms(history, DAY)
    sums = [0, 0, 0]
    for term in terms(history, DAY):
        sums[(0, 0, 1, 2, 2)[term.kind]] += term.value
    assert sums == list(score(history, DAY)[2:5]), "the sums are those of the terms"


@given(histories(), st.data())
def test_splitting_over_identities_never_gains(history: History, data: st.DataObject) -> None:
    """Bonds and trades dealt out to several identities, even one bond in pieces: before defaults
    the sum is never more than one identity has."""
    whole = history._replace(defaults=())
    count = data.draw(st.integers(2, 5))
    parts: list[list[list[object]]] = [[[], []] for _ in range(count)]
    for kind, events in enumerate((whole.bonds, whole.settled)):
        for event in events:
            cut = data.draw(st.integers(0, event[1]))
            field = "amount" if isinstance(event, Bond) else "fee_burned"
            for piece in (cut, event[1] - cut):
                who = data.draw(st.integers(0, count - 1))
                parts[who][kind].append(event._replace(**{field: piece}))
    total = sum(
        score(
            History(ME, whole.registered_day, tuple(bonds), tuple(settled)),  # type: ignore[arg-type]
            DAY,
        ).total
        for bonds, settled in parts
    )
    assert total <= score(whole, DAY).total


@given(histories(), amounts, days)
def test_more_of_anything_good_never_hurts_and_a_default_never_helps(
    history: History, amount: int, day: int
) -> None:
    before = score(history, DAY).total
    bond = Bond(place(90), amount, DAY + 100)
    trade = Settled(place(91), amount, day)
    default = Default(place(92), amount, day)
    assert score(history._replace(bonds=(*history.bonds, bond)), DAY).total >= before
    assert score(history._replace(settled=(*history.settled, trade)), DAY).total >= before
    assert score(history._replace(defaults=(*history.defaults, default)), DAY).total <= before


@given(histories())
def test_it_is_at_most_twice_what_is_bonded(history: History) -> None:
    found = score(history, DAY)
    bonded = sum(
        Fraction(bond.amount, 2 if bond.on_bitcoin else 1)
        for bond in history.bonds
        if bond.locked_until_day > DAY
    )
    assert found.total <= 2 * found.bonds <= 2 * bonded


@pytest.mark.parametrize(("horizon_days", "least_ratio"), [(365, 5), (91, 10)])
def test_wash_trades_cost_several_times_what_a_bond_costs(
    horizon_days: int, least_ratio: int
) -> None:
    """Per unit of score and year, at a cost of capital of 5 %: protocol/11-reputation.md."""
    fee, bond = 10**12, 10**14
    washer = History(
        ME, DAY - 180, (Bond(place(0), bond, DAY + 3650),), (Settled(place(1), fee, DAY),)
    )
    held = sum(
        score(washer, DAY + day).total - score(washer._replace(settled=()), DAY + day).total
        for day in range(horizon_days)
    )
    both_sides = 2 * Fraction(held, 365)  # in units of score held for a year
    assert Fraction(fee) / both_sides >= least_ratio * Fraction(5, 100)
