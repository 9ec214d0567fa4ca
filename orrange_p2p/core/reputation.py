"""What an identity is worth, from what finalized chains show (protocol/11-reputation.md).

    B = sum of bonds        amount * min(lock days left, 365) / 365; half of that on Bitcoin
    S = sum of settled      fee burned / 2, decayed with a half-life of 90 days
    D = sum of defaults     10 % of a timeout, 20 % of a lost dispute, half-life 180 days
    a = min(days since registration, 180)
    R = max(0, B + min(8 * S * a / 180, B) - D); nothing after a proven fork

Amounts are micro-units of the bond asset. Each event is rounded down on its own, so the order in
which events come and how they are paged changes nothing, and an event split in two never gains. A
score is computed at a day; who doubts it asks for its terms, and can look each of them up.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from orrange_p2p.core.decay import decay, decayed
from orrange_p2p.core.ids import Address

__all__ = [
    "Bond",
    "Default",
    "History",
    "Kind",
    "Place",
    "Score",
    "Settled",
    "Term",
    "score",
    "terms",
]

FULL_LOCK_DAYS: Final = 365
TRADE_HALF_LIFE_DAYS: Final = 90
DEFAULT_HALF_LIFE_DAYS: Final = 180
FULL_AGE_DAYS: Final = 180
TRADE_FACTOR: Final = 8
"""How much of a burned fee's decayed half counts, up to as much as the bonds."""


class Kind(enum.IntEnum):
    """What an event is."""

    BOND = 0
    BITCOIN_BOND = 1
    """Timelocked and not slashable: half the weight."""
    SETTLED = 2
    TIMEOUT = 3
    """A trade that both accepted and this side did not pay, or a lock it never set."""
    DISPUTE = 4
    """One that it lost."""


_PERCENT: Final = {Kind.TIMEOUT: 10, Kind.DISPUTE: 20}


class Place(NamedTuple):
    """Where a chain shows an event."""

    chain: str
    """CAIP-2."""
    block: int
    log: int
    """Its number in the block; of a Bitcoin bond, that of its output."""


class Bond(NamedTuple):
    """Locked until a day; what was withdrawn or slashed is not in ``amount`` any more."""

    place: Place
    amount: int
    locked_until_day: int
    on_bitcoin: bool = False


class Settled(NamedTuple):
    """One side's share of a settled trade: half of the fee that was burned."""

    place: Place
    fee_burned: int
    day: int


class Default(NamedTuple):
    """A trade that this side did not keep."""

    place: Place
    amount: int
    day: int
    is_dispute: bool = False


class History(NamedTuple):
    """All that chains show of an identity up to the pinned blocks."""

    account: Address
    registered_day: int
    bonds: tuple[Bond, ...] = ()
    settled: tuple[Settled, ...] = ()
    defaults: tuple[Default, ...] = ()
    is_forked: bool = False
    """A fork or equivocation was proven."""


class Term(NamedTuple):
    """What one event adds, or for a default takes."""

    kind: Kind
    place: Place
    value: int


class Score(NamedTuple):
    """A score and the sums that it is made of."""

    account: Address
    total: int
    """R"""
    bonds: int
    """B"""
    trades: int
    """S, before it is capped"""
    defaults: int
    """D"""
    age_days: int
    """a"""


def score(history: History, day: int) -> Score:
    """The score at a day, counted from 1970-01-01 as the pinned block's time tells it."""
    bonds = sum([term.value for term in _bonds(history, day)])
    defaults = sum([term.value for term in _defaults(history, day)])
    trades = 0
    # Most of a busy account's history: in the order of blocks, whose days are few.
    share, last = 0, -1
    for _, fee_burned, made in history.settled:
        if made != last:
            share, last = _share(day, made), made
        trades += (fee_burned >> 1) * share >> 32
    age = min(max(0, day - history.registered_day), FULL_AGE_DAYS)
    earned = min(TRADE_FACTOR * trades * age // FULL_AGE_DAYS, bonds)
    total = 0 if history.is_forked else max(0, bonds + earned - defaults)
    return Score(history.account, total, bonds, trades, defaults, age)


def terms(history: History, day: int) -> tuple[Term, ...]:
    """What the sums of a score are made of: ascending by kind, then by place. Events that are worth
    nothing are left out."""
    found = [*_bonds(history, day), *_defaults(history, day)]
    for place, fee_burned, made in history.settled:
        if value := (fee_burned >> 1) * _share(day, made) >> 32:
            found.append(Term(Kind.SETTLED, place, value))
    found.sort()
    return tuple(found)


def _share(day: int, made: int) -> int:
    return decay(max(0, day - made), TRADE_HALF_LIFE_DAYS)


def _bonds(history: History, day: int) -> list[Term]:
    found = []
    for place, amount, until_day, on_bitcoin in history.bonds:
        left = min(max(0, until_day - day), FULL_LOCK_DAYS)
        share = 2 * FULL_LOCK_DAYS if on_bitcoin else FULL_LOCK_DAYS
        if value := amount * left // share:
            found.append(Term(Kind.BITCOIN_BOND if on_bitcoin else Kind.BOND, place, value))
    return found


def _defaults(history: History, day: int) -> list[Term]:
    found = []
    for place, amount, made, is_dispute in history.defaults:
        kind = Kind.DISPUTE if is_dispute else Kind.TIMEOUT
        age = max(0, day - made)
        if value := decayed(amount * _PERCENT[kind] // 100, age, DEFAULT_HALF_LIFE_DAYS):
            found.append(Term(kind, place, value))
    return found
