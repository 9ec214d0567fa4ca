"""What an identity is worth, from what finalized chains show (protocol/11-reputation.md).

    B = sum of bonds        amount * min(lock days left, 365) / 365; half of that on Bitcoin
    S = sum of settled      fee burned / 2, decayed with a half-life of 90 days
    D = sum of defaults     10 % of a timeout, 20 % of a lost dispute, half-life 180 days
    a = min(days since registration, 180)
    R = max(0, B + min(8 * S * a / 180, B) - D); nothing after a proven fork

Amounts are micro-units of the bond asset. Each event is rounded down on its own, so the order in
which events come and how they are paged changes nothing, and an event split in two never gains. A
score is computed at a day and carries its terms: who doubts it can look each of them up.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from orrange_p2p.core import codec
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
    "table_digest",
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
    """A score and where it comes from."""

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
    terms: tuple[Term, ...]
    """Ascending by kind, then by place; those that are worth nothing are left out."""


def score(history: History, day: int) -> Score:
    """The score at a day, counted from 1970-01-01 as the pinned block's time tells it."""
    backed, traded, failed = _bonds(history, day), _trades(history, day), _defaults(history, day)
    bonds, trades, defaults = (
        sum([one.value for one in part]) for part in (backed, traded, failed)
    )
    terms = [*backed, *traded, *failed]
    terms.sort()
    age = min(max(0, day - history.registered_day), FULL_AGE_DAYS)
    earned = min(TRADE_FACTOR * trades * age // FULL_AGE_DAYS, bonds)
    total = 0 if history.is_forked else max(0, bonds + earned - defaults)
    return Score(history.account, total, bonds, trades, defaults, age, tuple(terms))


def _bonds(history: History, day: int) -> list[Term]:
    terms = []
    for place, amount, until_day, on_bitcoin in history.bonds:
        left = min(max(0, until_day - day), FULL_LOCK_DAYS)
        share = 2 * FULL_LOCK_DAYS if on_bitcoin else FULL_LOCK_DAYS
        if value := amount * left // share:
            terms.append(Term(Kind.BITCOIN_BOND if on_bitcoin else Kind.BOND, place, value))
    return terms


def _trades(history: History, day: int) -> list[Term]:
    # Most of a busy account's history: the days are few, so what is left of each is looked up.
    left: dict[int, int] = {}
    terms: list[Term] = []
    settled = Kind.SETTLED
    for place, fee_burned, made in history.settled:
        share = left.get(made)
        if share is None:
            share = left[made] = decay(max(0, day - made), TRADE_HALF_LIFE_DAYS)
        if value := (fee_burned >> 1) * share >> 32:
            terms.append(tuple.__new__(Term, (settled, place, value)))  # a third of the call's cost
    return terms


def _defaults(history: History, day: int) -> list[Term]:
    terms = []
    for place, amount, made, is_dispute in history.defaults:
        kind = Kind.DISPUTE if is_dispute else Kind.TIMEOUT
        age = max(0, day - made)
        if value := decayed(amount * _PERCENT[kind] // 100, age, DEFAULT_HALF_LIFE_DAYS):
            terms.append(Term(kind, place, value))
    return terms


def table_digest(scores: Iterable[Score]) -> bytes:
    """The SHA-256 of all scores with their terms: equal tables, equal digests, whatever the order
    in which they were made."""
    rows = sorted(scores)
    return sha256(codec.encode([_items(row) for row in rows])).digest()


def _items(row: Score) -> codec.Value:
    terms: list[codec.Value] = [
        (int(term.kind), term.place.chain, term.place.block, term.place.log, term.value)
        for term in row.terms
    ]
    return (row.account, row.total, row.bonds, row.trades, row.defaults, row.age_days, terms)
