"""How much an owner may do: operations, orders, and value that it could walk away from.

Part of the book's state, so that every node says the same of the same operation
(protocol/04-book.md, Limits). Where nobody is elected, everybody has the same. Where witnesses are
elected, reputation divides what the market bears: everything is in proportion to it, so whoever
splits a bond over many names has no more with all of them than with one, and all shares together
never exceed the whole.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import isqrt
from typing import Final, NamedTuple

from orrange_p2p.core.accounts import Account, LiveOrder
from orrange_p2p.core.genesis import Market, Parameters
from orrange_p2p.core.ids import MAX_UINT63, Address, TimeMs
from orrange_p2p.core.roster import Roster
from orrange_p2p.core.swaps.schedule import chain_classes, is_base_long, schedule

__all__ = [
    "LANE",
    "UNIT",
    "Headroom",
    "Lane",
    "Share",
    "flat_share",
    "lane_share",
    "option_ppm",
    "released_at",
    "settled_within_ms",
    "shares_of",
    "stake_of",
]

UNIT: Final = 1 << 16
"""Parts of an operation in a bucket: a small share of a rate is less than one in a round."""
LANE: Final = Address(bytes(20))
"""Under this name the accounts have the bucket of those who share the lane."""
DAY_MS: Final = 86_400_000
PPM: Final = 1_000_000
UNTIDY: Final = 64
"""A lane keeps so many entries beyond twice its resting orders before those that are gone go."""
STEPS: Final = 8
"""Into how many steps of time the bound trades of an owner are put together, at most."""


class Share(NamedTuple):
    """What one owner may do."""

    refill: int
    """Parts of an operation, each round."""
    burst: int
    """Parts of an operation: size of the bucket."""
    orders: int
    """Most live orders; of the lane, most that rest."""
    stake: int
    """Most lots times price in ticks, of its open quantity, pending matches and bound trades; of
    the lane, of one order."""

    def refilled(self, tokens: int, rounds: int, halved: bool) -> int:
        """Parts in the bucket after ``rounds`` rounds."""
        part = 2 if halved else 1
        return min(self.burst // part, tokens + rounds * self.refill // part)

    def most_orders(self, halved: bool) -> int:
        """Most live orders; all of an owner's limits on orders halve together."""
        return self.orders // 2 if halved else self.orders


class Headroom(NamedTuple):
    """What is left to an owner after an epoch."""

    owner: Address
    in_lane: bool
    """It has no share of its own: ``operations`` and ``share`` are those of the lane."""
    halved: bool
    operations: int
    """Places and amends that the bucket has tokens for."""
    orders: int
    """Live ones."""
    stake: int | None
    """Lots times ticks; None where nobody is elected."""
    share: Share


def flat_share(parameters: Parameters) -> Share:
    """Everybody's, where nobody is elected; ``stake`` is not looked at there."""
    return Share(
        parameters.operations_per_round * UNIT,
        min(MAX_UINT63, parameters.operations_burst * UNIT),
        parameters.open_orders,
        0,
    )


def shares_of(roster: Roster, parameters: Parameters, market: Market) -> dict[Address, Share]:
    """Per author of the roster what its reputation and its bond give it; without those whose
    share is less than one operation or one order: they have the lane."""
    total = sum(one.reputation for one in roster.standings)
    risk = option_ppm(market.volatility_ppm, settled_within_ms(market, parameters))
    numerator, denominator = PPM * market.rate_denominator, risk * market.rate_numerator
    shares = {}
    for author, reputation, bond in roster.standings:
        share = Share(
            parameters.market_operations_per_round * UNIT * reputation // max(1, total),
            min(
                MAX_UINT63,
                parameters.market_operations_burst * UNIT * reputation // max(1, total),
            ),
            parameters.market_open_orders * reputation // max(1, total),
            min(MAX_UINT63, bond * numerator // (denominator * market.tick_size)),
        )
        if share.burst >= UNIT and share.orders >= 1:
            shares[author] = share
    return shares


def lane_share(parameters: Parameters, market: Market) -> Share:
    """That of all together who have no share of their own."""
    notional = parameters.lane_order_notional * market.rate_denominator
    return Share(
        parameters.lane_operations_per_round * UNIT,
        min(MAX_UINT63, parameters.lane_operations_burst * UNIT),
        parameters.lane_open_orders,
        min(MAX_UINT63, notional // (market.rate_numerator * market.tick_size)),
    )


def option_ppm(volatility_ppm: int, time_ms: int) -> int:
    """What the other side's choice to settle or to walk away is worth, in millionths of the trade.

    ``1.25 * 0.4 * sigma * sqrt(T)``: the option is at the money, whose value is near to 0.4 sigma
    sqrt(T) (Brenner and Subrahmanyam, 1988), and a quarter is added for what that leaves out.
    ``volatility_ppm``: sigma of a day, in millionths. Rounded up, at least 1.
    """
    square = volatility_ppm * volatility_ppm * time_ms
    return max(1, isqrt(max(0, -(-square // (4 * DAY_MS)) - 1)) + 1)


def settled_within_ms(market: Market, parameters: Parameters) -> int:
    """From when a trade is bound until nothing more can happen to it on a chain."""
    if market.settlement != "htlc":
        return parameters.trade_lifetime_ms
    base, quote = chain_classes(market.timing)
    long, short = (base, quote) if is_base_long(base, quote) else (quote, base)
    return 1000 * schedule(TimeMs(0), long, short).long_timelock_s


def released_at(bound_ms: int, market: Market, parameters: Parameters) -> int:
    """Epoch time up to which a trade bound at ``bound_ms`` counts: when it is settled or not, moved
    up to a full step, so that few numbers say it of any number of trades."""
    within = settled_within_ms(market, parameters)
    step = max(parameters.era_ms, -(-within // STEPS))
    return -(-(bound_ms + within) // step) * step


class Lane:
    """The resting orders of those who have no share of their own."""

    __slots__ = ("_by_age", "resting")

    def __init__(self) -> None:
        self.resting = 0
        self._by_age: list[tuple[int, int, LiveOrder]] = []

    def note(self, order: LiveOrder, rests: bool) -> None:
        """An order that came to rest, or rests no more."""
        if not rests:
            self.resting -= 1
            return
        self.resting += 1
        heappush(self._by_age, (order.epoch, order.rank, order))
        if len(self._by_age) > 2 * self.resting + UNTIDY:
            self._by_age = [one for one in self._by_age if one[2].open > 0]
            heapify(self._by_age)

    def take_oldest(self) -> LiveOrder:
        """The oldest that rests: to be ended. Only for a lane in which one rests."""
        while True:
            order = heappop(self._by_age)[2]
            if order.open > 0:
                return order


def stake_of(account: Account) -> int:
    """What an owner could walk away from now, in lots times ticks."""
    return account.at_stake + sum(one.amount for one in account.bound)
