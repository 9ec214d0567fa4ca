"""The commit rule: its cases by hand, then against the whole-DAG reference, then under attack."""

from __future__ import annotations

import random

import pytest
import reference_clock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_witnesses import (
    ERA,
    SEED,
    Network,
    Node,
    address,
    full_rounds,
    make_tick,
    table_of,
    weak_table_of,
)

from orrange_p2p.core.clock import Clock, CommitPoint, Decided, epoch_time, weighted_median
from orrange_p2p.core.dag import (
    MAX_AHEAD_ROUNDS,
    ORPHANS_PER_WITNESS,
    SURPLUS_PER_WITNESS,
    WINDOW_ROUNDS,
    Outcome,
)
from orrange_p2p.core.ids import Address, Digest, Round, TimeMs, Weight
from orrange_p2p.core.ticks import Tick
from orrange_p2p.core.witnesses import WitnessTable

FOUR = table_of(1, 1, 1, 1)


def fill(clock: Clock, ticks: list[Tick]) -> list[Decided]:
    return [decided for tick in ticks for decided in clock.add(tick).decided]


def as_slots(decided: list[Decided]) -> list[reference_clock.Slot]:
    return [
        reference_clock.Slot(
            d.round, d.leader and d.leader.digest, tuple(t.digest for t in d.history)
        )
        for d in decided
    ]


# By hand.


def test_a_leader_commits_two_rounds_later() -> None:
    clock = Clock(FOUR, ERA, SEED)
    rounds = full_rounds(FOUR, 3)
    assert fill(clock, rounds[:-2]) == []
    last = clock.add(rounds[-2])  # the third certificate
    (decided,) = last.decided
    assert decided.leader is not None
    assert decided.leader.witness == FOUR.leader(SEED, Round(0))
    assert decided.history == (decided.leader,)
    assert clock.last_committed == CommitPoint(Round(0), decided.leader.digest)
    assert (clock.next_round, clock.highest_quorum_round, clock.undecided_rounds) == (1, 2, 2)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 16, 32])
def test_every_round_commits_when_nothing_is_wrong(n: int) -> None:
    table = table_of(*[1] * n)
    decided = fill(Clock(table, ERA, SEED), full_rounds(table, 12))
    assert [d.round for d in decided] == list(range(10))
    assert all(d.leader is not None for d in decided)
    covered = [t.digest for d in decided for t in d.history]
    assert len(set(covered)) == len(covered) == 9 * n + 1


def test_a_history_is_ordered_by_round_witness_digest() -> None:
    decided = fill(Clock(FOUR, ERA, SEED), full_rounds(FOUR, 8))
    for each in decided:
        keys = [(t.round, t.witness, t.digest) for t in each.history]
        assert keys == sorted(keys)
        assert each.history[-1] == each.leader


def without_leader(rounds: int, absent: int) -> list[Tick]:
    """Full rounds but for the leader's tick of one of them."""
    ticks: list[Tick] = []
    previous: list[Tick] = []
    for round in range(rounds):
        present = [
            w
            for w in FOUR.addresses
            if round != absent or w != FOUR.leader(SEED, Round(round))
        ]  # fmt: skip
        previous = [make_tick(w, round, previous) for w in present]
        ticks += previous
    return ticks


def test_a_slot_without_its_tick_is_skipped_by_a_quorum_of_the_next_round() -> None:
    clock = Clock(FOUR, ERA, SEED)
    decided = fill(clock, without_leader(4, absent=0))
    assert [(d.round, d.leader is None) for d in decided] == [(0, True), (1, False)]
    assert decided[0].history == ()


def split_dag() -> tuple[list[Tick], Tick, Tick]:
    """Round 0's leader equivocates; one twin has two supports, the other one; no direct decision.

    Then everything is regular, so round 3 or a later one becomes the anchor.
    """
    leader = FOUR.leader(SEED, Round(0))
    others = [w for w in FOUR.addresses if w != leader]
    one, two = make_tick(leader, 0), make_tick(leader, 0, twin=1)
    round0 = [make_tick(w, 0) for w in others]
    round1 = [make_tick(others[0], 1, [one, *round0]), make_tick(others[1], 1, [one, *round0])]
    round1.append(make_tick(others[2], 1, [two, *round0]))
    round1.append(make_tick(leader, 1, [one, *round0]))
    return [one, two, *round0, *round1], one, two


def test_an_anchor_commits_what_has_a_certificate_in_its_history() -> None:
    ticks, one, _ = split_dag()
    round1 = ticks[-4:]
    full, partial = round1, [round1[0], round1[2], round1[3]]
    # One certificate for `one` in round 2, and everybody builds on it.
    round2 = [make_tick(w, 2, full if i == 0 else partial) for i, w in enumerate(FOUR.addresses)]
    previous, ticks = round2, [*ticks, *round2]
    for round in range(3, 8):
        previous = [make_tick(w, round, previous) for w in FOUR.addresses]
        ticks += previous
    clock = Clock(FOUR, ERA, SEED)
    decided = fill(clock, ticks)
    assert decided[0].leader == one
    assert as_slots(decided) == reference_clock.sequence(ticks, FOUR, SEED)


def test_an_anchor_skips_what_has_no_certificate_in_its_history() -> None:
    ticks, *_ = split_dag()
    round1 = ticks[-4:]
    partial = [round1[0], round1[2], round1[3]]
    previous = [make_tick(w, 2, partial) for w in FOUR.addresses]
    ticks += previous
    clock = Clock(FOUR, ERA, SEED)
    assert fill(clock, ticks) == []
    assert clock.undecided_rounds == 3
    for round in range(3, 8):
        previous = [make_tick(w, round, previous) for w in FOUR.addresses]
        ticks += previous
    decided = fill(clock, ticks[len(ticks) - 20 :])
    assert decided[0].leader is None
    assert as_slots(decided) == reference_clock.sequence(ticks, FOUR, SEED)


def test_the_epoch_time_is_the_weighted_median_and_never_runs_back() -> None:
    def median(*pairs: tuple[int, int]) -> int:
        return weighted_median([(TimeMs(t), Weight(w)) for t, w in pairs])

    assert median((7, 1)) == 7
    assert median((1, 1), (9, 1)) == 1
    assert median((30, 1), (10, 1), (20, 1)) == 20
    assert median((10, 1), (20, 1), (30, 3)) == 30
    assert median((0, 1), (100, 2), (10**15, 1)) == 100
    decided = fill(Clock(FOUR, ERA, SEED), full_rounds(FOUR, 6))
    assert [d.median_ms for d in decided] == [0, 0, 250, 500]
    assert epoch_time(TimeMs(300), decided[2]) == 300
    assert epoch_time(TimeMs(300), decided[3]) == 500


# Invalid and unwanted ticks.


def round_zero() -> list[Tick]:
    return [make_tick(w, 0) for w in FOUR.addresses]


def test_ticks_that_break_a_rule_are_rejected_with_the_reason() -> None:
    zero = round_zero()
    one = [make_tick(w, 1, zero) for w in FOUR.addresses]
    twin = make_tick(1, 0, twin=1)
    bad = {
        "era 7": make_tick(1, 0, era=7),
        "witness": make_tick(9, 0),
        "round 0 has parents": make_tick(2, 0, zero),
        "below a quorum": make_tick(1, 1, zero[:2]),
        "of round 0 in round 2": make_tick(1, 2, [*one[:3], zero[3]]),
        "two parents of one witness": make_tick(2, 1, [*zero, twin]),
    }
    clock = Clock(FOUR, ERA, SEED)
    fill(clock, [*zero, *one, twin])
    held = len(clock)
    for reason, tick in bad.items():
        added = clock.add(tick)
        assert added.outcome is Outcome.REJECTED, reason
        assert [r.tick for r in added.rejected] == [tick]
        assert reason in str(added.rejected[0].error)
        assert clock.add(tick).outcome is Outcome.REJECTED, "again"
    assert len(clock) == held


def test_descendants_of_an_invalid_tick_are_rejected_with_it() -> None:
    zero = round_zero()
    bad = make_tick(1, 1, zero[:2])
    good = [make_tick(w, 1, zero) for w in (2, 3, 4)]
    child = make_tick(1, 2, [bad, *good])
    grandchild = make_tick(1, 3, [child])
    clock = Clock(FOUR, ERA, SEED)
    fill(clock, [*zero, *good])
    assert clock.add(grandchild).missing == (child.digest,)
    assert clock.add(child).missing == (bad.digest,)
    assert clock.missing == (bad.digest,)
    assert [r.tick for r in clock.add(bad).rejected] == [bad, child, grandchild]
    assert (clock.orphan_count, clock.missing) == (0, ())
    assert clock.add(make_tick(2, 3, [child])).outcome is Outcome.REJECTED


def test_an_orphan_waits_and_comes_in_with_its_last_ancestor() -> None:
    ticks = full_rounds(FOUR, 4)
    clock = Clock(FOUR, ERA, SEED)
    for tick in reversed(ticks[1:]):
        added = clock.add(tick)
        assert (added.held, added.decided) == (() if tick.round else (tick,), ())
    assert clock.get(ticks[-1].digest) is None, "orphans are not served"
    last = clock.add(ticks[0])
    assert len(last.held) == 13
    assert [d.round for d in last.decided] == [0, 1]
    assert clock.add(ticks[5]).outcome is Outcome.DUPLICATE


def test_equivocation_is_reported_once_with_both_ticks() -> None:
    """I6: the two signatures are the evidence, whether or not the second tick can be held."""
    clock = Clock(FOUR, ERA, SEED)
    one, two, three = (make_tick(1, 0, twin=twin) for twin in range(3))
    assert clock.add(one).equivocations == ()
    assert clock.add(two).equivocations == ((one, two),)
    assert clock.equivocators == (address(1),)
    added = clock.add(three)
    assert (added.outcome, added.equivocations) == (Outcome.SURPLUS, ())
    assert clock.adoptable(Round(0)) == {}


def test_an_equivocation_among_orphans_counts() -> None:
    clock = Clock(FOUR, ERA, SEED)
    unknown = Digest(b"?" * 32)
    one, two = (make_tick(1, 1, [unknown], twin=twin) for twin in range(2))
    clock.add(one)
    assert clock.add(two).equivocations == ((one, two),)


def test_a_third_twin_comes_in_as_an_ancestor_of_an_honest_tick() -> None:
    clock = Clock(FOUR, ERA, SEED)
    twins = [make_tick(1, 0, twin=twin) for twin in range(3)]
    others = round_zero()[1:]
    fill(clock, [*others, *twins])
    assert twins[2].digest not in clock
    child = make_tick(2, 1, [twins[2], *others])
    assert clock.add(child).missing == (twins[2].digest,)
    assert clock.add(twins[2]).held == (twins[2], child)


def test_what_an_equivocator_lists_is_bounded() -> None:
    """Two false witnesses cannot fill our memory with each other's twins."""
    table = table_of(*[1] * 7)
    clock = Clock(table, ERA, SEED)
    zero = [make_tick(w, 0) for w in table.addresses]
    one = [make_tick(w, 1, zero) for w in table.addresses]
    fill(clock, [*zero, *one])
    for liar in (1, 2):
        clock.add(make_tick(liar, 1, zero, twin=1))
    taken = 0
    for number in range(2, 2 + 3 * SURPLUS_PER_WITNESS):
        twin = make_tick(1, 1, zero, twin=number)
        clock.add(make_tick(2, 2 + number % 60, [twin, *one[2:]], twin=number))
        taken += clock.add(twin).outcome is Outcome.HELD
    assert taken <= SURPLUS_PER_WITNESS
    honest = make_tick(3, 2, [twin, *one[2:]])
    assert clock.add(twin).outcome is Outcome.SURPLUS
    clock.add(honest)
    assert clock.add(twin).outcome is Outcome.HELD
    assert honest.digest in clock


def test_ticks_far_ahead_are_left_for_later() -> None:
    clock = Clock(FOUR, ERA, SEED)
    unknown = [Digest(bytes([i]) * 32) for i in range(3)]
    assert clock.add(make_tick(1, MAX_AHEAD_ROUNDS, unknown)).outcome is Outcome.WAITING
    assert clock.add(make_tick(1, MAX_AHEAD_ROUNDS + 1, unknown)).outcome is Outcome.AHEAD


def test_orphans_per_witness_are_bounded() -> None:
    clock = Clock(FOUR, ERA, SEED)
    outcomes = [
        clock.add(make_tick(1, 1 + n % 60, [Digest(bytes([n]) * 32)], twin=n)).outcome
        for n in range(ORPHANS_PER_WITNESS + 20)
    ]
    assert outcomes.count(Outcome.WAITING) == ORPHANS_PER_WITNESS == clock.orphan_count
    assert clock.add(make_tick(2, 1, [Digest(bytes(32))])).outcome is Outcome.WAITING


# Long runs.


def test_memory_is_bounded_and_the_window_kept() -> None:
    clock = Clock(FOUR, ERA, SEED)
    ticks = full_rounds(FOUR, 400)
    liar = address(1)
    for tick in ticks:
        clock.add(tick)
        if tick.round and tick.witness == liar:  # orphans that never complete, and bad ticks
            clock.add(make_tick(liar, tick.round, [tick.digest]))
    assert clock.last_committed is not None
    assert clock.first_round_kept == clock.last_committed.round - WINDOW_ROUNDS
    assert len(clock) <= 4 * (WINDOW_ROUNDS + 4)
    assert len(clock._dag.slots) <= WINDOW_ROUNDS + 4
    assert len(clock._dag._rejected) <= WINDOW_ROUNDS + 4
    assert clock.orphan_count <= WINDOW_ROUNDS + 4
    assert len(clock._dag.waiting) <= WINDOW_ROUNDS + 4
    assert clock.add(ticks[0]).outcome is Outcome.OLD
    lowest = clock.ticks_of_round(clock.first_round_kept)
    assert len(lowest) == 4
    assert all(not clock._dag.index[t.digest].parents for t in lowest), "the past is let go"


def test_a_late_joiner_with_the_window_goes_on_like_everyone() -> None:
    ticks = full_rounds(FOUR, 150)
    veteran = Clock(FOUR, ERA, SEED)
    decided = fill(veteran, ticks[: 4 * 100])
    point = veteran.last_committed
    assert point is not None
    window = [
        t
        for round in range(veteran.first_round_kept, veteran.highest_round + 1)
        for t in veteran.ticks_of_round(Round(round))
    ]
    random.Random(1).shuffle(window)
    joiner = Clock(FOUR, ERA, SEED, resume_at=point)
    while any(t.digest not in joiner for t in window):
        decided_by_joiner = fill(joiner, window)
        assert decided_by_joiner == []
    assert joiner.covered_ticks() == veteran.covered_ticks()
    rest = ticks[4 * 100 :]
    assert as_slots(fill(joiner, rest)) == as_slots(fill(veteran, rest))
    assert len(decided) == point.round + 1
    assert joiner.adoptable(Round(149)) == veteran.adoptable(Round(149)) != {}


def test_a_joiner_decides_nothing_before_it_holds_its_checkpoints_leader() -> None:
    """Without that leader's history nobody knows what the next one newly covers."""
    clock = Clock(FOUR, ERA, SEED, resume_at=CommitPoint(Round(2), Digest(bytes(32))))
    assert fill(clock, full_rounds(FOUR, 20)) == []
    assert (clock.next_round, clock.covered_ticks()) == (0, ())


def test_what_cannot_be_checked_any_more_is_held_but_not_built_on() -> None:
    """A chain withheld since before the window: its base's parents are gone everywhere."""
    table = table_of(*[1] * 4)
    clock = Clock(table, ERA, SEED)
    honest = [address(n) for n in (2, 3, 4)]
    previous = [make_tick(w, 0) for w in honest]
    chain = [make_tick(1, 0)]
    rounds = [previous]
    for round in range(1, 120):
        chain.append(make_tick(1, round, [chain[-1], *previous]))
        previous = [make_tick(w, round, previous) for w in honest]
        rounds.append(previous)
    decided = [each for ticks in rounds for each in fill(clock, ticks)]
    base = clock.first_round_kept
    assert clock.add(chain[base - 1]).outcome is Outcome.OLD
    for tick in chain[base:]:
        assert clock.add(tick).outcome is Outcome.HELD
    top = Round(119)
    assert chain[-1] in clock.ticks_of_round(top)
    assert set(clock.adoptable(top)) == set(honest)
    # Once a committed leader covers the chain it is as good as any.
    previous = [*rounds[-1], chain[-1]]
    ticks = [*(tick for each in rounds for tick in each), *chain]
    for round in range(120, 130):
        previous = [make_tick(w, round, previous) for w in table.addresses]
        decided += fill(clock, previous)
        ticks += previous
    assert set(clock.adoptable(Round(129))) == set(table.addresses)
    # Of the chain it counts what is in the window, whether or not a node had the rest.
    assert as_slots(decided) == reference_clock.sequence(ticks, table, SEED)
    counted = {tick.round for each in decided for tick in each.history if tick in chain}
    assert 0 < min(counted) < 119


def test_an_orphan_comes_in_when_its_missing_parent_falls_out_of_the_window() -> None:
    clock = Clock(FOUR, ERA, SEED)
    honest = [address(n) for n in (2, 3, 4)]
    previous = [make_tick(w, 0) for w in honest]
    chain = [make_tick(1, 0)]
    for round in range(1, 40):
        fill(clock, previous)
        chain.append(make_tick(1, round, [chain[-1], *previous]))
        previous = [make_tick(w, round, previous) for w in honest]
    assert clock.add(chain[31]).outcome is Outcome.WAITING
    assert clock.add(chain[30]).missing == (chain[29].digest,)
    came_in: list[Digest] = []
    for round in range(40, 110):
        for tick in previous:
            came_in += [held.digest for held in clock.add(tick).held if held in chain]
        previous = [make_tick(w, round, previous) for w in honest]
    assert came_in == [chain[30].digest, chain[31].digest]
    assert (clock.missing, clock.orphan_count) == ((), 0)


def test_the_window_is_that_of_the_previous_leader_though_many_are_decided_at_once() -> None:
    """A joiner gets its checkpoint's leader last, and then everything follows from one tick."""
    honest = [address(n) for n in (2, 3, 4)]
    previous = [make_tick(w, 0) for w in honest]
    chain = [make_tick(1, 0)]
    ticks = [*previous, chain[0]]
    for round in range(1, 165):
        # Nobody takes up the chain of witness 1 until round 150.
        parents = [*previous, chain[-1]] if round == 150 else previous
        chain.append(make_tick(1, round, [chain[-1], *previous]))
        previous = [make_tick(w, round, parents) for w in honest]
        ticks += [*previous, chain[-1]]
    expected = reference_clock.sequence(ticks, FOUR, SEED)
    assert as_slots(fill(Clock(FOUR, ERA, SEED), ticks)) == expected
    point = next(slot for slot in expected[100:] if slot.leader is not None)
    assert point.leader is not None
    joiner = Clock(FOUR, ERA, SEED, resume_at=CommitPoint(Round(point.round), point.leader))
    late = [t for t in ticks if t.digest == point.leader]
    early = [t for t in ticks if t.digest != point.leader and t.round <= point.round + 64]
    assert fill(joiner, early) == []
    decided = fill(joiner, late)
    assert decided[-1].round > 152
    decided += fill(joiner, ticks)
    assert as_slots(decided) == expected[point.round + 1 :]


# Against the reference.


@st.composite
def dags(draw: st.DrawFn) -> tuple[WitnessTable, list[Tick]]:
    """A DAG of which less than a third of the weight equivocates and anyone may miss rounds."""
    n = draw(st.sampled_from((4, 7, 5, 6, 3, 2, 1)))
    weights = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    table = table_of(*weights) if draw(st.booleans()) else table_of(*[1] * n)
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    liars: set[Address] = set()
    for witness in chance.sample(table.addresses, n):
        if 3 * table.weight_of_set([*liars, witness]) < table.total:
            liars.add(witness)
    presence = chance.choice((0.8, 0.95, 1.0))
    ticks: list[Tick] = []
    previous: list[Tick] = []
    for round in range(chance.randint(4, 12)):
        current: list[Tick] = []
        for witness in table.addresses:
            twins = chance.choice((1, 2, 2)) if witness in liars else 1
            for twin in range(twins):
                if chance.random() > presence:
                    continue
                parents = choose_parents(table, previous, chance)
                if round and table.weight_of_set(p.witness for p in parents) < table.quorum:
                    continue
                current.append(make_tick(witness, round, parents, twin=twin))
        ticks += current
        previous = current
    return table, ticks


def choose_parents(
    table: WitnessTable, previous: list[Tick], chance: random.Random
) -> list[Tick]:  # fmt: skip
    """At least a quorum where there is one; of an equivocator any twin."""
    shuffled = list(previous)
    chance.shuffle(shuffled)
    stop_early = chance.random() < 0.6
    chosen: dict[Address, Tick] = {}
    for tick in shuffled:
        if stop_early and table.weight_of_set(chosen) >= table.quorum:
            break
        chosen.setdefault(tick.witness, tick)
    return list(chosen.values())


@settings(max_examples=400, derandomize=True)
@given(dags(), st.randoms(use_true_random=False))
def test_the_clock_decides_as_the_whole_dag_reference(
    dag: tuple[WitnessTable, list[Tick]], chance: random.Random
) -> None:
    table, ticks = dag
    arrivals = ticks + chance.sample(ticks, len(ticks) // 3)
    chance.shuffle(arrivals)
    clock = Clock(table, ERA, SEED)
    decided = fill(clock, arrivals)
    assert as_slots(decided) == reference_clock.sequence(ticks, table, SEED)
    assert {t.digest for t in ticks if t.digest in clock} == set(
        reference_clock.valid_ticks(ticks, table)
    )


@settings(max_examples=150, derandomize=True)
@given(dags(), st.randoms(use_true_random=False))
def test_every_prefix_of_a_delivery_decides_a_prefix(
    dag: tuple[WitnessTable, list[Tick]], chance: random.Random
) -> None:
    """What a node has decided from part of the DAG, the whole DAG decides likewise."""
    table, ticks = dag
    whole = reference_clock.sequence(ticks, table, SEED)
    arrivals = list(ticks)
    chance.shuffle(arrivals)
    clock = Clock(table, ERA, SEED)
    so_far: list[Decided] = []
    seen: list[Tick] = []
    for tick in arrivals:
        seen.append(tick)
        so_far += clock.add(tick).decided
        if len(seen) % 9 == 0:
            assert as_slots(so_far) == reference_clock.sequence(seen, table, SEED)
    assert as_slots(so_far) == whole


@settings(max_examples=150, derandomize=True)
@given(st.integers(1, 7), st.integers(0, 1 << 32))
def test_no_ticks_whatever_crash_the_clock(n: int, seed: int) -> None:
    """Everyone lies: more twins than taken, wrong rounds and weights, parents that never come."""
    chance = random.Random(seed)
    table = table_of(*[1] * n)
    ticks: list[Tick] = []
    for number in range(80):
        pool = chance.sample(ticks, min(len(ticks), n))
        round = chance.randint(0, 6)
        near = [t for t in ticks if t.round == round - 1]
        parents = choose_parents(table, near, chance) if chance.random() < 0.8 else pool
        ticks.append(make_tick(chance.randint(1, n + 1), round, parents, twin=number))
    chance.shuffle(ticks)
    clock = Clock(table, ERA, SEED)
    for tick in ticks + ticks:
        clock.add(tick)
    assert {t.digest for t in ticks if t.digest in clock} <= set(
        reference_clock.valid_ticks(ticks, table)
    )


@settings(max_examples=150, derandomize=True)
@given(dags(), st.randoms(use_true_random=False))
def test_whoever_joins_at_any_commit_counts_the_same_history(
    dag: tuple[WitnessTable, list[Tick]], chance: random.Random
) -> None:
    """Also where a leader lacks those of the two slots before it among its ancestors."""
    table, ticks = dag
    slots = reference_clock.sequence(ticks, table, SEED)
    for point in slots:
        if point.leader is None:
            continue
        joiner = Clock(table, ERA, SEED, resume_at=CommitPoint(Round(point.round), point.leader))
        chance.shuffle(ticks)
        assert as_slots(fill(joiner, ticks)) == slots[point.round + 1 :]


# Agreement on an asynchronous network (I1).

SETTINGS = [(1, 0), (2, 0), (3, 0), (4, 1), (7, 2)]


@pytest.mark.parametrize(("n", "liars"), SETTINGS)
def test_honest_nodes_agree_and_go_on(n: int, liars: int) -> None:
    for seed in range(20):
        network = Network(table_of(*[1] * n), liars, seed)
        assert network.run_rounds(40), f"seed {seed} stalled"
        assert network.disagreement() is None, f"seed {seed}"
        for node in network.honest:
            commits = [slot for slot in node.slots if slot[1] is not None]
            assert len(commits) >= 10, f"seed {seed}"
            assert {e.first.witness for e in node.evidence} <= {
                who for who, other in network.nodes.items() if not isinstance(other, Node)
            }, "an honest witness was accused"


@pytest.mark.parametrize("weights", [(1, 1, 2, 3, 4), (5, 1, 1, 1, 1, 1, 6, 2)])
def test_honest_nodes_agree_with_unequal_weights(weights: tuple[int, ...]) -> None:
    for seed in range(10):
        network = Network(table_of(*weights), 0, seed, loss=0.3)
        assert network.run_rounds(30)
        assert network.disagreement() is None


@pytest.mark.parametrize(("n", "liars"), [(16, 5), (32, 10)])
def test_many_witnesses_agree(n: int, liars: int) -> None:
    network = Network(table_of(*[1] * n), liars, seed=n, delay_ms=600)
    assert network.run_rounds(12)
    assert network.disagreement() is None
    assert all(len(node.slots) >= 5 for node in network.honest)


def test_a_quorum_of_half_is_found_out() -> None:
    """The check above must be able to fail: with a weaker quorum it does, within some runs."""
    for seed in range(60):
        network = Network(weak_table_of(1, 1, 1, 1), 1, seed)
        network.run_rounds(40)
        if network.disagreement() is not None:
            return
    pytest.fail("60 runs with a quorum of half found no disagreement")


def test_every_equivocation_that_reached_a_node_left_evidence() -> None:
    """I6, under attack."""
    network = Network(table_of(*[1] * 7), 2, seed=3)
    network.run_rounds(30)
    liars = {who for who, node in network.nodes.items() if not isinstance(node, Node)}
    for node in network.honest:
        assert {e.first.witness for e in node.evidence} == liars
        for first, second in node.evidence:
            assert (first.witness, first.round) == (second.witness, second.round)
            assert first.digest != second.digest


@settings(
    max_examples=15,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.integers(0, 10**6))
def test_a_node_restarted_midway_decides_the_same_again(seed: int) -> None:
    network = Network(table_of(1, 1, 1, 1), 1, seed)
    network.run_rounds(20)
    node = network.chance.choice(network.honest)
    before = list(node.slots)
    node.restart(network.chance)
    assert node.slots[: len(before)] == before
    network.at(network.now, node.poll)
    assert network.run_rounds(35)
    assert network.disagreement() is None


def test_a_partition_halts_and_heals() -> None:
    """Two and two of four: nobody has a quorum, nothing commits, and it goes on by itself."""
    network = Network(table_of(1, 1, 1, 1), 0, seed=5)
    network.run_rounds(20)
    sides = {address(1): 0, address(2): 0, address(3): 1, address(4): 1}
    network.cut_off = lambda sender, receiver: sides[sender] != sides[receiver]
    network.run_for(10_000)  # what was under way arrives
    before = {node.who: len(node.slots) for node in network.honest}
    network.run_for(120_000)
    assert before == {node.who: len(node.slots) for node in network.honest}
    network.cut_off = lambda sender, receiver: False
    assert network.run_rounds(40)
    assert network.disagreement() is None
    assert all(len(node.slots) > before[node.who] + 10 for node in network.honest)
