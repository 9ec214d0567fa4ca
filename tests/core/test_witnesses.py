"""Weights, quorums and the draw of leaders."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_witnesses import SEED, address, table_of

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Round, Weight
from orrange_p2p.core.witnesses import WitnessTable

LEADERS = [3, 4, 2, 3, 2, 2, 2, 3, 2, 3, 4, 1, 2, 1, 4, 3]

weights = st.lists(st.integers(1, (1 << 32) - 1), min_size=1, max_size=32)


def test_four_equal_witnesses_tolerate_one() -> None:
    table = table_of(1, 1, 1, 1)
    assert (table.total, table.quorum) == (4, 3)
    assert not table.more_than_third(1)
    assert table.more_than_third(2)
    assert table.weight_of_set([address(1), address(1), address(9)]) == 1


@pytest.mark.parametrize(
    ("n", "quorum"), [(1, 1), (2, 2), (3, 3), (4, 3), (7, 5), (16, 11), (32, 22)]
)
def test_quorums_of_equal_witnesses(n: int, quorum: int) -> None:
    assert table_of(*[1] * n).quorum == quorum


@given(weights)
def test_the_quorum_is_the_smallest_weight_above_two_thirds(parts: list[int]) -> None:
    table = table_of(*parts)
    assert 3 * table.quorum > 2 * table.total
    assert 3 * (table.quorum - 1) <= 2 * table.total
    assert table.more_than_third(2 * table.quorum - table.total), "the overlap of two quorums"


@given(weights, st.data())
def test_masks_weigh_what_their_members_weigh(parts: list[int], data: st.DataObject) -> None:
    table = table_of(*parts)
    chosen = data.draw(st.lists(st.sampled_from(table.addresses), max_size=40))
    mask = table.mask_of(chosen)
    assert table.members(mask) == tuple(sorted(set(chosen)))
    assert table.weigh(mask) == sum(table.weight_of(a) for a in set(chosen))
    assert table.is_quorum(mask) == (table.weigh(mask) >= table.quorum)


def test_strangers_weigh_nothing() -> None:
    table = table_of(5)
    assert table.index_of(address(2)) == -1
    assert table.weight_of(address(2)) == 0
    assert address(2) not in table
    assert table.mask_of([address(2)]) == 0


@pytest.mark.parametrize("bad", [{}, {1: 0}, {1: 1 << 32}, dict.fromkeys(range(33), 1)])
def test_unusable_tables_are_refused(bad: dict[int, int]) -> None:
    with pytest.raises(ConfigError):
        WitnessTable({address(n): Weight(w) for n, w in bad.items()})


def test_leaders_are_drawn_by_weight() -> None:
    table = table_of(1, 2, 5)
    drawn = Counter(table.leader(SEED, Round(round)) for round in range(8000))
    for number, share in ((1, 1000), (2, 2000), (3, 5000)):
        assert abs(drawn[address(number)] - share) < 150


def test_leaders_depend_on_seed_and_round_only() -> None:
    """A vector: whoever implements the draw differently disagrees about everything after."""
    table = table_of(1, 1, 1, 1)
    leaders = [table.leader(SEED, Round(round))[0] for round in range(16)]
    assert leaders == LEADERS
    assert leaders == [table.leader(SEED, Round(round))[0] for round in range(16)]
    assert leaders != [table.leader(bytes(32), Round(round))[0] for round in range(16)]


def test_a_draw_above_the_largest_multiple_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([b"\xff" * 8, b"\xff" * 7 + b"\xfe", bytes(7) + b"\x04"])
    table = table_of(1, 1, 1)
    monkeypatch.setattr("orrange_p2p.core.witnesses.sha256", lambda data: next(draws).ljust(32))
    # 2^64 mod 3 = 1, so exactly the draw 2^64 - 1 is rejected.
    assert table.leader(SEED, Round(0)) == address(1 + (2**64 - 2) % 3)
    assert next(draws)[7] == 4


def test_no_two_small_sets_make_disjoint_quorums() -> None:
    table = table_of(3, 1, 4, 1, 5)
    subsets = [set(c) for n in range(6) for c in combinations(table.addresses, n)]
    quorums = [s for s in subsets if table.weight_of_set(s) >= table.quorum]
    assert all(table.more_than_third(table.weight_of_set(a & b)) for a in quorums for b in quorums)
