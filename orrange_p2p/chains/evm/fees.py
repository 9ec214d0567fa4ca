"""What a transaction offers, and what its replacement offers. Pure; all in wei per unit of gas.

The rule and its reasons: protocol/decisions, "Fees, nonces and finality on EVM chains".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.chains.evm.answers import FeeHistory
from orrange_p2p.ports.chain import Fees

__all__ = ["Offer", "replacement", "suggested"]

_BUMP_DIVISOR: Final = 8
"""A replacement offers an eighth more, 12.5 %: every known node asks for 10 %, some for 12.5 %."""


class Offer(NamedTuple):
    """The two fees of a transaction."""

    max_fee_wei: int
    priority_fee_wei: int


def suggested(history: FeeHistory, *, floor_wei: int, cap_wei: int) -> Fees:
    """Room for the base fee to double, which it cannot in fewer than six blocks."""
    rewards = sorted(history.rewards_wei)
    median = rewards[len(rewards) // 2] if rewards else 0
    priority = max(floor_wei, median)
    limit = min(cap_wei, 2 * history.next_base_fee_wei + priority)
    return Fees(history.next_base_fee_wei, min(priority, limit), limit)


def replacement(last: Offer, fees: Fees, *, cap_wei: int) -> Offer | None:
    """What replaces ``last``: an eighth more of both, or today's fees if these are higher.

    None if the cap is in the way: nodes would refuse anything smaller.
    """
    least = Offer(_bumped(last.max_fee_wei), _bumped(last.priority_fee_wei))
    if least.max_fee_wei > cap_wei:
        return None
    max_fee = max(least.max_fee_wei, min(fees.max_fee_wei, cap_wei))
    return Offer(max_fee, min(max_fee, max(least.priority_fee_wei, fees.priority_fee_wei)))


def _bumped(fee: int) -> int:
    """Rounds up, so that also 1 wei becomes more."""
    return fee + -(-fee // _BUMP_DIVISOR)
