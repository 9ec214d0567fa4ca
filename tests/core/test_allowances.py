"""What an author may bring: parts of one whole by reputation, and a small common part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core.allowances import (
    COMMON_BURST,
    COMMON_PER_S,
    ENTRY_COST_BYTES,
    NAME_BURST,
    WHOLE_BURST,
    WHOLE_PER_S,
    Allowances,
)
from orrange_p2p.core.entries import MAX_ENTRY_BYTES
from orrange_p2p.core.ids import Address, Era, Weight
from orrange_p2p.core.roster import Pin, Roster, Seat, Standing

SECOND_US = 1_000_000
SIZE = 256
COST = SIZE + ENTRY_COST_BYTES


def name(number: int) -> Address:
    return Address(number.to_bytes(20, "big"))


def roster(*worths: int) -> Roster:
    seat = Seat(name(1), Weight(1), bytes(32), Era(0))
    standings = tuple(Standing(name(n), worth, worth) for n, worth in enumerate(worths))
    return Roster(Era(0), Pin(0, bytes(32)), (seat,), standings)


def brought(allowances: Allowances, owners: list[Address], seconds: int, per_s: int) -> int:
    """Bytes that pass when each tries so many entries a second, evenly."""
    passed = 0
    for step in range(seconds * per_s):
        for owner in owners:
            passed += allowances.spend(owner, SIZE, step * SECOND_US // per_s)
    return passed * COST


def test_where_nobody_is_elected_everybody_has_the_whole() -> None:
    allowances = Allowances(COST, 3 * COST)
    assert [allowances.spend(name(1), SIZE, 0) for _ in range(4)] == [True, True, True, False]
    assert allowances.spend(name(2), SIZE, 0)
    assert allowances.spend(name(1), SIZE, SECOND_US)
    assert not allowances.spend(name(1), SIZE, SECOND_US)


def test_reputation_divides_the_whole() -> None:
    allowances = Allowances()
    allowances.take_roster(roster(0, 3, 1))
    for owner, part in ((name(1), 3), (name(2), 1)):
        found = brought(allowances, [owner], 20, 1000)
        most = (20 * WHOLE_PER_S + WHOLE_BURST) * part // 4 + 20 * COMMON_PER_S + COMMON_BURST
        assert 0.9 * (20 * WHOLE_PER_S + WHOLE_BURST) * part / 4 < found < most


@pytest.mark.parametrize("count", [1, 16, 400])
def test_names_without_reputation_have_a_part_of_the_common_each_and_no_more_together(
    count: int,
) -> None:
    allowances = Allowances()
    allowances.take_roster(roster(0, 1000))
    names = [name(100 + number) for number in range(count)]
    found = brought(allowances, names, 10, 20)
    together = 10 * COMMON_PER_S + COMMON_BURST + COST
    each = 10 * COMMON_PER_S // 16 + NAME_BURST + COST
    assert 0 < found <= min(together, count * each)
    assert allowances.spend(name(1), SIZE, 10 * SECOND_US), "reputation is not concerned"


def test_the_largest_entry_always_passes_some_time() -> None:
    allowances = Allowances()
    allowances.take_roster(roster(0, 1, 10**12))
    for owner in (name(0), name(1)):
        times = [t for t in range(60) if allowances.spend(owner, MAX_ENTRY_BYTES, t * SECOND_US)]
        assert len(times) >= 3, "its debt is paid off, and it passes again"
        assert times[1] - times[0] >= (MAX_ENTRY_BYTES - NAME_BURST) * 16 // COMMON_PER_S


@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, MAX_ENTRY_BYTES), st.integers(0, 10**6))),
)
def test_all_together_never_have_more_than_the_whole_and_the_common_part(
    worths: list[int], tries: list[tuple[int, int, int]]
) -> None:
    allowances = Allowances()
    allowances.take_roster(roster(*worths))
    now_us = passed = 0
    for number, size, later_us in tries:
        now_us += later_us
        if allowances.spend(name(number), size, now_us):
            passed += size + ENTRY_COST_BYTES
    debts = 10 * 2 * (MAX_ENTRY_BYTES + ENTRY_COST_BYTES)
    flow = (WHOLE_PER_S + COMMON_PER_S) * now_us // SECOND_US
    assert passed <= flow + WHOLE_BURST + COMMON_BURST + debts
