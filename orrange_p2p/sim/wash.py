"""What a ring that trades with itself pays for score, beside what bonding costs
(protocol/11-reputation.md, Wash trades).

Everything is a history of the home chain, scored by production's functions day by day. A cost is
what one micro-unit of score, held for a year, costs in micro-units: burned fees are gone, bonded
capital costs interest for as long as it is tied up. A ring's score is what it has more than its
bonds alone give; that it needs these bonds as well, as much as it wants to wash, is not charged to
it. Gas is not counted either, so washing is at least as dear as is said here.
"""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from itertools import accumulate
from typing import Any, Final

import attrs

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.histories import day_of, histories
from orrange_p2p.core.reputation import FULL_AGE_DAYS, FULL_LOCK_DAYS, History, score
from orrange_p2p.sim.homechain import (
    DAY_MS,
    LONGEST_LOCK_DAYS,
    WAY_OUT_DAYS,
    HomeChain,
    named,
)
from orrange_p2p.sim.reckoning import TRADED, elected_genesis, rounded

__all__ = ["Wash", "wash"]

YEAR: Final = 365
START_DAY: Final = 20_000
"""On which the horizon begins."""
BOND: Final = 10**12
"""Of each identity, micro-units: a million."""
BURNED: Final = 10**10
"""By one burning of the ring: so little that no cap is met."""
STEADY_DAYS: Final = 30
"""How often a ring burns that wants its score to last."""


@attrs.frozen
class Wash:
    """What is reckoned."""

    capital_percent: int = 5
    """What capital costs a year."""
    ring: int = 2
    """Identities, each of which sells to the next."""
    horizons: tuple[int, ...] = (90, 180, 365, 730, 1095)
    """Days that score is wanted for; later it is worth nothing."""
    ages: tuple[int, ...] = (0, 30, 90, 180)
    """Days since the identities registered, at the beginning."""
    step_days: int = 5
    """Between the days that are tried for burning."""

    def __attrs_post_init__(self) -> None:
        if self.ring < 2:
            raise ConfigError("a ring has at least two identities: nobody trades with one key")
        if not self.horizons or min(self.horizons) < 1 or self.capital_percent < 1:
            raise ConfigError("a horizon is at least one day, and capital costs something")


def wash(wanted: Wash) -> dict[str, Any]:
    """The figures."""
    horizons = sorted(wanted.horizons)
    rate = Fraction(wanted.capital_percent, 100)
    stays = {horizon: _bonding(horizon, None, rate) for horizon in horizons}
    leaves = {horizon: _leaving(horizon, rate) for horizon in horizons}
    rows = []
    for age in wanted.ages:
        best = _best(wanted, age)
        steady = _steady(wanted, age)
        for horizon in horizons:
            day, cost = best[horizon]
            rows.append(
                {
                    "horizon_days": horizon,
                    "age_days": age,
                    "best_burning_day": day,
                    "wash_best": rounded(cost),
                    "wash_steady": rounded(steady[horizon]),
                    "bond_stays": rounded(stays[horizon]),
                    "bond_leaves": rounded(leaves[horizon][1]),
                    "times_bond_stays": rounded(cost / stays[horizon]),
                    "times_bond_leaves": rounded(cost / leaves[horizon][1]),
                }
            )
    return {
        "wanted": attrs.asdict(wanted),
        "rows": rows,
        "lock_days_if_leaving": {str(horizon): leaves[horizon][0] for horizon in horizons},
        "most_washed_of_bonded": rounded(_most(wanted)),
    }


# --- bonding ---


def _bonding(horizon: int, lock_days: int | None, rate: Fraction) -> Fraction:
    """Of a bond that is locked anew each day: to the end of the longest lock, so that it goes on
    after the horizon and is charged until then; or until ``lock_days``, and then taken out."""
    chain = _chain()
    owner = named("bonder")
    at_ms = START_DAY * DAY_MS
    end = horizon + LONGEST_LOCK_DAYS if lock_days is None else lock_days
    for day in range(min(horizon, max(1, end - LONGEST_LOCK_DAYS + 1))):
        until = START_DAY + min(day + LONGEST_LOCK_DAYS, end)
        # What is there is locked anew by adding something.
        chain.bond(at_ms + day * DAY_MS, owner, 1 if day else BOND, until * DAY_MS)
    held = sum(
        score(histories(GENESIS, _until(chain, START_DAY + day))[owner], START_DAY + day).total
        for day in range(horizon)
    )
    tied_days = horizon if lock_days is None else end + WAY_OUT_DAYS
    return BOND * rate * tied_days / held


def _leaving(horizon: int, rate: Fraction) -> tuple[int, Fraction]:
    """The cheapest lock for who needs score for the horizon alone, and what it costs."""
    best = min(
        range(1, horizon + FULL_LOCK_DAYS + 1),
        key=lambda end: Fraction(
            end + WAY_OUT_DAYS,
            sum(min(max(0, end - day), FULL_LOCK_DAYS) for day in range(horizon)),
        ),
    )
    return best, _bonding(horizon, best, rate)


# --- washing ---


def _best(wanted: Wash, age: int) -> dict[int, tuple[int, Fraction]]:
    """By horizon, on which day to burn and what it costs. Score is linear in what is burned while
    no cap is met, so no mixture of days is cheaper than the best of them."""
    longest = max(wanted.horizons)
    found: dict[int, tuple[int, Fraction]] = {}
    for burning in range(0, longest, wanted.step_days):
        held = _held(wanted, age, [burning], longest)
        for horizon in wanted.horizons:
            if held[horizon - 1] > 0:
                cost = Fraction(BURNED * YEAR, held[horizon - 1])
                if horizon not in found or cost < found[horizon][1]:
                    found[horizon] = burning, cost
    return found


def _steady(wanted: Wash, age: int) -> dict[int, Fraction]:
    """By horizon what it costs to burn every so many days."""
    longest = max(wanted.horizons)
    burnings = list(range(0, longest, STEADY_DAYS))
    held = _held(wanted, age, burnings, longest)
    return {
        horizon: Fraction(BURNED * YEAR * sum(day < horizon for day in burnings), held[horizon - 1])
        for horizon in wanted.horizons
    }


def _held(wanted: Wash, age: int, burnings: list[int], days: int) -> list[int]:
    """By day the sum, over the days so far, of what washing added to the ring's score."""
    ring = _ring(wanted, age, burnings, BURNED, days)
    added = [
        sum(_washed(history, START_DAY + day) for history in ring) if day >= burnings[0] else 0
        for day in range(days)
    ]
    return list(accumulate(added))


def _ring(wanted: Wash, age: int, burnings: list[int], burned: int, days: int) -> list[History]:
    """Histories of the whole time."""
    chain = _chain()
    members = [named(f"ring {number}") for number in range(wanted.ring)]
    registered_ms = (START_DAY - age) * DAY_MS
    until_ms = (START_DAY + days + LONGEST_LOCK_DAYS) * DAY_MS
    for member in members:
        chain.bond(registered_ms, member, BOND, until_ms)
    for day in burnings:
        for number, member in enumerate(members):
            other = members[(number + 1) % len(members)]
            at_ms = (START_DAY + day) * DAY_MS
            chain.settle(at_ms, member, other, TRADED.id, burned // len(members))
    made = histories(GENESIS, chain.events)
    return [made[member] for member in members]


def _washed(history: History, day: int) -> int:
    """What trades up to a day add to the score of that day."""
    until = bisect_right(history.settled, day, key=lambda one: one.day)
    then = history._replace(settled=history.settled[:until])
    return score(then, day).total - score(then._replace(settled=()), day).total


def _most(wanted: Wash) -> Fraction:
    """The most that a ring which burns as much as it has bonded adds, for each unit bonded."""
    ring = _ring(wanted, FULL_AGE_DAYS, [0], BOND * wanted.ring, 1)
    return Fraction(sum(_washed(history, START_DAY) for history in ring), BOND * wanted.ring)


# --- the chain ---

GENESIS: Final = elected_genesis()


def _chain() -> HomeChain:
    """A block each second, which is stamped with the second after what it shows was sent."""
    return HomeChain(GENESIS.home_chain, (START_DAY - 4 * YEAR) * DAY_MS, 1000)


def _until(chain: HomeChain, day: int) -> list[Any]:
    return [event for event in chain.events if day_of(event.time_s) <= day]
