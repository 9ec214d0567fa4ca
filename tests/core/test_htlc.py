"""A swap from one party's side: its table, what is read off two heads, and invariant I7."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from swap_world import CLASS, LOSS, SECRET, World, fault, swap_of, times

from orrange_p2p.core.errors import IllegalTransitionError
from orrange_p2p.core.swaps.htlc import (
    ENDED,
    TRANSITIONS,
    Duty,
    Role,
    Sight,
    Swap,
    SwapEvent,
    SwapProgress,
    SwapState,
    advance,
    duty,
    observe,
)
from orrange_p2p.core.swaps.legs import LockState, LockView

ABSENT = LockView()
LOCKED = LockView(LockState.LOCKED, 9)
CLAIMED = LockView(LockState.CLAIMED, 9, 9, SECRET)
REFUNDED = LockView(LockState.REFUNDED, 9, 9)
INITIATOR, RESPONDER = (swap_of(role, times()) for role in Role)


def seen(own: LockView, other: LockView, time_s: int = 1, can_lock: bool = True) -> Sight:
    return Sight(own, other, time_s, time_s, can_lock)


def test_a_swap_from_the_initiators_side() -> None:
    progress = SwapProgress()
    told = []
    for sight in (
        seen(ABSENT, ABSENT),
        seen(LOCKED, ABSENT),
        seen(LOCKED, LOCKED),
        seen(LOCKED, CLAIMED),
    ):
        event = observe(INITIATOR, progress, sight)
        assert event is not None
        progress = advance(progress, event, sight)
        told.append((event.name, progress.state.name, duty(INITIATOR, progress, sight)))
    assert told == [
        ("MAY_LOCK", "LOCKING", Duty.LOCK),
        ("OWN_LOCKED", "LOCKED", None),
        ("MAY_CLAIM", "CLAIMING", Duty.CLAIM),
        ("CLAIM_DEEP", "SWAPPED", None),
    ]


def test_the_responder_locks_after_the_initiator_and_learns_the_secret_from_its_chain() -> None:
    assert observe(RESPONDER, SwapProgress(), seen(ABSENT, ABSENT)) is None
    shallow = LOCKED._replace(confirmations=1)
    assert observe(RESPONDER, SwapProgress(), seen(ABSENT, shallow)) is None
    assert observe(RESPONDER, SwapProgress(), seen(ABSENT, LOCKED)) is SwapEvent.MAY_LOCK
    locked, sight = SwapProgress(SwapState.LOCKED), seen(CLAIMED, LOCKED)
    assert observe(RESPONDER, locked, sight) is SwapEvent.MAY_CLAIM
    claiming = advance(locked, SwapEvent.MAY_CLAIM, sight)
    assert claiming == SwapProgress(SwapState.CLAIMING, SECRET)


def test_nothing_is_locked_against_other_terms_or_too_late() -> None:
    wrong = LOCKED._replace(problem="another amount")
    assert observe(RESPONDER, SwapProgress(), seen(ABSENT, wrong)) is None
    assert observe(RESPONDER, SwapProgress(), seen(ABSENT, LOCKED, can_lock=False)) is None
    for swap, last_s in (
        (INITIATOR, times().lock_long_by_s),
        (RESPONDER, times().lock_short_by_s),
    ):
        assert observe(swap, SwapProgress(), seen(ABSENT, LOCKED, last_s)) is SwapEvent.MAY_LOCK
        late = seen(ABSENT, LOCKED, last_s + 1)
        assert observe(swap, SwapProgress(), late) is SwapEvent.CALLED_OFF


def test_the_secret_is_not_shown_late_and_the_lock_goes_back() -> None:
    locked = SwapProgress(SwapState.LOCKED)
    late_s = times().reveal_by_s + 1
    assert observe(INITIATOR, locked, seen(LOCKED, LOCKED, late_s - 1)) is SwapEvent.MAY_CLAIM
    assert observe(INITIATOR, locked, seen(LOCKED, LOCKED, late_s)) is None
    end = seen(LOCKED, LOCKED, times().long_timelock_s)
    assert observe(INITIATOR, locked, end) is SwapEvent.OWN_EXPIRED
    refunding = advance(locked, SwapEvent.OWN_EXPIRED, end)
    assert duty(INITIATOR, refunding, end) is Duty.REFUND
    assert observe(INITIATOR, refunding, seen(REFUNDED, LOCKED, 10**6)) is SwapEvent.REFUND_DEEP


def test_a_secret_that_is_not_out_is_not_shown_when_its_time_is_over() -> None:
    """As after an outage that began just when the claim was about to be sent."""
    claiming = SwapProgress(SwapState.CLAIMING)
    last_s = INITIATOR.other.timelock_s - CLASS.confirm_s
    assert duty(INITIATOR, claiming, seen(LOCKED, LOCKED, last_s)) is Duty.CLAIM
    assert duty(INITIATOR, claiming, seen(LOCKED, LOCKED, last_s + 1)) is None
    # Once it is out there is nothing to keep back.
    for sight in (
        seen(CLAIMED, LOCKED, last_s + 1),
        seen(LOCKED, LOCKED._replace(preimage=SECRET), last_s + 1),
    ):
        assert duty(INITIATOR, claiming, sight) is Duty.CLAIM
    known = SwapProgress(SwapState.CLAIMING, SECRET)
    assert duty(RESPONDER, known, seen(LOCKED, LOCKED, 10**6)) is Duty.CLAIM


def test_before_a_refund_the_counterpartys_claim_is_looked_for() -> None:
    expired_s = times().short_timelock_s
    in_mempool = LockView(LockState.LOCKED, 9, 0, SECRET)
    for state in (SwapState.LOCKED, SwapState.REFUNDING):
        sight = seen(in_mempool, LOCKED, expired_s)
        assert observe(RESPONDER, SwapProgress(state), sight) is SwapEvent.MAY_CLAIM


def test_what_has_ended_is_not_locked_a_second_time() -> None:
    locking = SwapProgress(SwapState.LOCKING)
    assert duty(INITIATOR, locking, seen(ABSENT, ABSENT)) is Duty.LOCK
    assert duty(INITIATOR, locking, seen(REFUNDED, ABSENT)) is None


@given(st.sampled_from(SwapState), st.sampled_from(SwapEvent))
def test_an_event_that_the_table_does_not_list_raises(state: SwapState, event: SwapEvent) -> None:
    sight = seen(LOCKED, LOCKED)
    if (state, event) in TRANSITIONS:
        assert advance(SwapProgress(state), event, sight).state is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransitionError):
            advance(SwapProgress(state), event, sight)


VIEWS = st.builds(
    LockView,
    st.sampled_from(LockState),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([b"", SECRET]),
    problem=st.sampled_from(["", "another amount"]),
)
TIMES_S = st.integers(0, times().long_timelock_s + 40)


@given(
    st.sampled_from([INITIATOR, RESPONDER]),
    st.sampled_from(SwapState),
    st.builds(Sight, VIEWS, VIEWS, TIMES_S, TIMES_S, st.booleans()),
)
def test_whatever_chains_show_the_table_lists_it_and_it_comes_to_rest(
    swap: Swap, state: SwapState, sight: Sight
) -> None:
    progress = SwapProgress(state)
    for _ in SwapState:
        event = observe(swap, progress, sight)
        if event is None:
            return
        progress = advance(progress, event, sight)
    raise AssertionError("one sight moves a swap in a circle")


def test_the_chapter_has_the_table() -> None:
    chapter = Path(__file__).resolve().parents[2] / "protocol" / "09-swaps.md"
    rows = re.findall(r"^\| `([A-Z]+)` \| `([A-Z_]+)` \| `([A-Z]+)` \|$", chapter.read_text(), re.M)
    shown = {
        (SwapState[state], SwapEvent[event]): SwapState[target] for state, event, target in rows
    }
    assert shown == TRANSITIONS


# --- I7 in every course of a small world ---------------------------------------------------------


def faults(world: World) -> set[str]:
    return {fault(outcome) for outcome in world.outcomes()} - {""}


BEYOND_BOUNDS = {
    # We claimed too late: the other's lock had gone back.
    (SwapState.CLAIMING, SwapEvent.CLAIM_FAILED),
    (SwapState.CLAIMING, SwapEvent.TAKEN),
    # The block of our lock was replaced although it was deep.
    (SwapState.REFUNDING, SwapEvent.NEVER_LOCKED),
    # Taken back, but not by this node as it remembers: a watchtower did, or a store that was lost.
    (SwapState.LOCKING, SwapEvent.REFUND_DEEP),
    (SwapState.CANCELLING, SwapEvent.REFUND_DEEP),
    (SwapState.LOCKED, SwapEvent.REFUND_DEEP),
}
"""Transitions that no course within the chains' bounds and the node's margins makes."""


def test_every_course_ends_with_ones_own_coins_or_the_others() -> None:
    visited = set()
    for role in Role:
        world = World(swap_of(role, times()))
        outcomes = world.outcomes()
        assert {fault(outcome) for outcome in outcomes} == {""}
        assert {outcome.memory.state for outcome in outcomes} == ENDED - {SwapState.LOST}
        visited |= world.visited
    assert visited == set(TRANSITIONS) - BEYOND_BOUNDS


@pytest.mark.parametrize(
    ("role", "state"),
    [
        (Role.INITIATOR, SwapState.LOCKING),
        (Role.INITIATOR, SwapState.CLAIMING),
        (Role.RESPONDER, SwapState.LOCKING),
    ],
)
def test_a_node_that_acts_before_it_keeps_its_state_can_lose(role: Role, state: SwapState) -> None:
    assert LOSS in faults(World(swap_of(role, times()), unkept=[state]))


@pytest.mark.parametrize(
    ("role", "changes"),
    [
        (Role.INITIATOR, {"reveal_by_s": times().short_timelock_s}),
        (Role.INITIATOR, {"short_timelock_s": times().reveal_by_s + 1}),
        (Role.RESPONDER, {"long_timelock_s": times().short_timelock_s}),
    ],
)
def test_without_one_of_the_margins_a_party_can_lose(role: Role, changes: dict[str, int]) -> None:
    assert LOSS in faults(World(swap_of(role, times()._replace(**changes))))


@pytest.mark.parametrize("role", Role)
def test_without_waiting_for_depth_a_party_can_lose(role: Role) -> None:
    assert LOSS in faults(World(swap_of(role, times(), CLASS._replace(confirmations=1))))


def test_a_refund_by_the_clock_alone_loses() -> None:
    def blind(swap: Swap, progress: SwapProgress, sight: Sight) -> SwapEvent | None:
        own = sight.own._replace(preimage=b"")
        if progress.state is SwapState.REFUNDING and own.state is LockState.CLAIMED:
            return None
        return observe(swap, progress, sight._replace(own=own))

    assert LOSS in faults(World(RESPONDER, look=blind))
