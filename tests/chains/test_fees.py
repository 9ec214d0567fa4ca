"""What transactions offer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.chains.evm.answers import FeeHistory
from orrange_p2p.chains.evm.fees import Offer, replacement, suggested
from orrange_p2p.ports.chain import Fees

fee = st.integers(0, 10**13)


def test_an_offer_has_room_for_the_base_fee_to_double() -> None:
    fees = suggested(FeeHistory(100, (3, 9, 5)), floor_wei=1, cap_wei=1000)
    assert fees == Fees(base_fee_wei=100, priority_fee_wei=5, max_fee_wei=205)
    assert replacement(Offer(205, 5), fees, cap_wei=1000) == Offer(231, 6)
    assert replacement(Offer(205, 5), fees, cap_wei=230) is None


@given(fee, st.lists(fee, max_size=5), fee, fee)
def test_no_offer_passes_the_cap(base: int, rewards: list[int], floor: int, cap: int) -> None:
    fees = suggested(FeeHistory(base, tuple(rewards)), floor_wei=floor, cap_wei=cap)
    assert fees.priority_fee_wei <= fees.max_fee_wei <= cap


@given(fee, fee, fee, fee, fee)
def test_a_replacement_offers_an_eighth_more_of_both_or_is_none(
    max_fee: int, priority: int, base: int, now: int, cap: int
) -> None:
    last = Offer(max(max_fee, priority), priority)
    fees = Fees(base, min(now, cap), cap)
    offer = replacement(last, fees, cap_wei=cap)
    if offer is None:
        assert 9 * last.max_fee_wei > 8 * (cap - 1)
    else:
        assert 8 * offer.max_fee_wei >= 9 * last.max_fee_wei
        assert 8 * offer.priority_fee_wei >= 9 * last.priority_fee_wei
        assert offer.priority_fee_wei <= offer.max_fee_wei <= cap
