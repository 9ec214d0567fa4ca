"""What dealing one bond out to many identities changes (protocol/11-reputation.md, Splitting).

One owner bonds, traded for a year, and stands for the seats of a market beside honest candidates.
Then the same bond and the same fees are dealt out to more and more owners, each with a key of its
own. All of them are on the home chain, and production's election reads them there.

Beside what is found stands what may be found. A score is additive but for its floors, so a split
only loses, and never more than the floors take. A share of weight is reckoned once more in exact
fractions, from the scores, the number of seats and the cap alone. Limits are shares of one whole:
they only lose, at most one smallest unit for each identity, which is 1/65,536 of an operation, an
order, a micro-unit at stake.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import attrs

from orrange_p2p.core import limits
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address, Era
from orrange_p2p.core.roster import CAP_FROM, Candidate, Roster, elect
from orrange_p2p.sim.homechain import DAY_MS, LONGEST_LOCK_DAYS, HomeChain, named
from orrange_p2p.sim.reckoning import TRADED, elected_genesis

__all__ = ["Field", "Split", "split"]

NOW_DAY: Final = 20_000
BOND: Final = 10**12
"""Of the owner, micro-units: a million."""
TRADES: Final = 12
"""In the year before, one a month."""
MONTH_DAYS: Final = 30
FEES: Final = 2 * 10**11
"""Burned by the owner's trades: a fifth of the bond."""
ANCHOR: Final = b"\x01" * 32
FLOORS: Final = 1 + 1 + 12 * TRADES
"""The most that the floors of one more identity take, micro-units: one of the bond's, one of what
trades earned, and for each trade three halves, of the fee and its half and its decay, eight times
of which count."""
SEARCHED: Final = 64
"""Up to so many identities are tried for what suffices."""


@attrs.frozen
class Field:
    """Honest candidates, by what they bonded beside each other."""

    name: str
    parts: tuple[int, ...]


FIELDS: Final = (
    Field("few equal", (1,) * 12),
    Field("many equal", (1,) * 40),
    Field("skewed", tuple(2520 // (rank + 1) for rank in range(40))),
)


@attrs.frozen
class Split:
    """What is reckoned."""

    counts: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    """Identities that the bond is dealt out to."""
    percent: int = 30
    """Of all score that stands for seats, the owner's."""
    seats: int = 32
    fields: tuple[Field, ...] = FIELDS

    def __attrs_post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1 or not 1 <= self.percent <= 99:
            raise ConfigError("one identity at least, and 1 .. 99 percent of the score")


def split(wanted: Split) -> dict[str, Any]:
    """The figures."""
    lane = limits.lane_share(elected_genesis().parameters, TRADED)
    return {
        "wanted": attrs.asdict(wanted),
        "lane": {
            "operations_per_round": lane.refill // limits.UNIT,
            "orders": lane.orders,
            "stake_of_an_order": lane.stake,
        },
        "rows": [row for field in wanted.fields for row in _rows(wanted, field, _alone(wanted))],
        "percent_that_suffices_for_a_third": {
            field.name: {
                "of one identity": _sufficient(wanted, field, (1,)),
                "of the best split": _sufficient(wanted, field, range(1, SEARCHED + 1)),
            }
            for field in wanted.fields
        },
    }


def _alone(wanted: Split) -> int:
    """The owner's score when it is one identity."""
    keys = _keys(1)
    roster = _roster(wanted, (), 1)
    return _score(roster, keys)


def _rows(wanted: Split, field: Field, alone: int) -> list[dict[str, Any]]:
    rows = []
    honest = _honest(wanted, field, alone)
    one = _limits(_roster(wanted, honest, 1), _keys(1))
    for count in wanted.counts:
        keys = _keys(count)
        roster = _roster(wanted, honest, count)
        found = _score(roster, keys)
        standings = {one.author: one.reputation for one in roster.standings}
        others = [standings[named(f"honest key {number}")] for number in range(len(honest))]
        weight = roster.table.weight_of_set(keys)
        allowed = _allowed([Fraction(alone, count)] * count, others, wanted.seats)
        rows.append(
            {
                "field": field.name,
                "identities": count,
                "score": found,
                "score_most": alone,
                "score_least": alone - count * FLOORS,
                "score_of_all_ppm": _ppm(Fraction(alone, alone + sum(others))),
                "seats": sum(key in roster.table for key in keys),
                "weight_ppm": _ppm(Fraction(weight, roster.table.total)),
                "weight_most_ppm": _ppm(allowed),
                **_limits(roster, keys),
                "refill_most": one["refill"],
                "orders_most": one["orders"],
                "stake_most": one["stake"],
            }
        )
    return rows


def _ppm(share: Fraction) -> int:
    return round(share * 1_000_000)


# --- on the chain ---


def _honest(wanted: Split, field: Field, alone: int) -> tuple[int, ...]:
    """What each honest candidate bonds, so that the owner's score is so much of all."""
    others = alone * (100 - wanted.percent) // wanted.percent
    whole = sum(field.parts)
    return tuple(others * part // whole for part in field.parts)


def _keys(count: int) -> list[Address]:
    return [named(f"sybil key {number}") for number in range(count)]


def _dealt(whole: int, count: int) -> list[int]:
    """In parts as equal as they can be."""
    part, rest = divmod(whole, count)
    return [part + (number < rest) for number in range(count)]


def _roster(wanted: Split, honest: Sequence[int], count: int) -> Roster:
    """Of the next era, when the owner is so many identities."""
    genesis = elected_genesis(wanted.seats)
    chain = HomeChain(genesis.home_chain, (NOW_DAY - 500) * DAY_MS, 1000)
    began_ms = (NOW_DAY - 365) * DAY_MS
    now_ms = NOW_DAY * DAY_MS
    # Everybody locks for as long as it can today: a bond counts in full.
    until_ms = now_ms + LONGEST_LOCK_DAYS * DAY_MS
    bonds = _dealt(BOND, count)
    who = [(named(f"sybil {n}"), key, bonds[n]) for n, key in enumerate(_keys(count))]
    who += [(named(f"honest {n}"), named(f"honest key {n}"), bond) for n, bond in enumerate(honest)]
    for owner, key, bond in who:
        chain.bond(began_ms, owner, bond, until_ms)
        chain.bind(began_ms, owner, key)
        chain.allocate(began_ms, owner, key, TRADED.id, bond)
        chain.stand(began_ms, owner, key, TRADED.id, ANCHOR)
    for month in range(TRADES):
        at_ms = now_ms - (TRADES - month) * MONTH_DAYS * DAY_MS
        for number, fee in enumerate(_dealt(FEES // TRADES, count)):
            chain.settle(at_ms, who[number][1], named("passer-by"), TRADED.id, fee)
    return chain.election(genesis, now_ms).roster(TRADED.id, Era(1))


def _score(roster: Roster, keys: Sequence[Address]) -> int:
    mine = set(keys)
    return sum(one.reputation for one in roster.standings if one.author in mine)


def _limits(roster: Roster, keys: Sequence[Address]) -> dict[str, int]:
    """What all of them together may do: parts of an operation for each round and in the buckets,
    live orders, micro-units at stake; and how many of them have no share of their own."""
    shares = limits.shares_of(roster, elected_genesis().parameters, TRADED)
    mine = [shares[key] for key in keys if key in shares]
    return {
        "refill": sum(share.refill for share in mine),
        "burst": sum(share.burst for share in mine),
        "orders": sum(share.orders for share in mine),
        "stake": sum(share.stake for share in mine),
        "in_lane": len(keys) - len(mine),
    }


# --- what is allowed ---


def _allowed(mine: Sequence[Fraction], others: Sequence[int], seats: int) -> Fraction:
    """The share of weight that the worthiest ``seats`` give to ``mine``, in exact fractions; of
    equals ours first."""
    every = sorted([(-worth, 0) for worth in mine] + [(Fraction(-worth), 1) for worth in others])
    taken = [(-worth, whose) for worth, whose in every[:seats] if worth]
    cap = _cap([worth for worth, _ in taken])
    weights = [(min(worth, cap), whose) for worth, whose in taken]
    return sum([w for w, whose in weights if whose == 0], Fraction()) / sum(w for w, _ in weights)


def _cap(worths: Sequence[Fraction]) -> Fraction:
    """The largest ``c`` with ``CAP_FROM * c <= sum(min(worth, c))``; ``worths`` descend."""
    if len(worths) < CAP_FROM:
        return worths[0]
    for cut in range(CAP_FROM):
        cap = sum(worths[cut:], Fraction()) / (CAP_FROM - cut)
        if worths[cut] <= cap:
            return cap
    raise AssertionError("of four parts one is not above a fourth")


def _sufficient(wanted: Split, field: Field, counts: Sequence[int]) -> int | None:
    """The least percentage of score with which one of these splits has more than a third of the
    weight: enough to stop the clock. None if none has. Whoever has more of the score, dealt out to
    as many, has no less of the weight, so it is looked for by halving."""
    found = bisect_left(
        range(1, 100),
        True,
        key=lambda percent: any(_is_third(wanted, field, percent, count) for count in counts),
    )
    return None if found == 99 else found + 1


def _is_third(wanted: Split, field: Field, percent: int, count: int) -> bool:
    honest = _honest(attrs.evolve(wanted, percent=percent), field, BOND)
    keys = _keys(count)
    candidates = [
        Candidate(named(f"honest key {number}"), worth, ANCHOR, Era(0))
        for number, worth in enumerate(honest)
    ]
    candidates += [
        Candidate(key, worth, ANCHOR, Era(0))
        for key, worth in zip(keys, _dealt(BOND, count), strict=True)
    ]
    seats = elect(candidates, wanted.seats)
    weight = sum(seat.weight for seat in seats if seat.witness in set(keys))
    return 3 * weight > sum(seat.weight for seat in seats)
