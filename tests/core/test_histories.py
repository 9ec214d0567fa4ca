"""Events of chains become histories, whatever the order and the pages they come in."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from network import make_genesis

from orrange_p2p.core.bitcoin_bonds import BIND_WITHIN_S, BitcoinBond
from orrange_p2p.core.histories import (
    ChainEvent,
    EventKind,
    Standings,
    day_of,
    histories,
    standings,
)
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Bond, Default, Kind, Place, Settled
from orrange_p2p.crypto.bitcoin import OutPoint

CHAIN = "eip155:31337"
ALICE, BOB, KEY = (Address(bytes([n]) * 20) for n in (1, 2, 3))
QUOTE = Address(b"\x11" * 20)
BASE = Address(b"\x12" * 20)
DAY_S = 86_400
NOW_S = 20_000 * DAY_S
_PLAIN = make_genesis(4, bond_unit=10)
MARKET = attrs.evolve(
    _PLAIN.markets[0],
    base=f"{CHAIN}/erc20:0x{BASE.hex()}",
    rate_numerator=1,
    rate_denominator=2,
)
GENESIS = attrs.evolve(_PLAIN, markets=(MARKET,))


def event(number: int, kind: EventKind, subject: Address, **more: Any) -> ChainEvent:
    place = Place(CHAIN, 100 + number, number)
    return ChainEvent(place, kind, NOW_S + number * DAY_S, subject, **more)


STORY = (
    event(0, EventKind.BONDED, ALICE, amount=1000, until_s=NOW_S + 100 * DAY_S),
    event(1, EventKind.BOUND, ALICE, other=KEY),
    event(2, EventKind.SETTLED, KEY, other=BOB, amount=40, market=MARKET.id, paid=3000, lots=10),
    event(3, EventKind.BONDED, ALICE, amount=505, until_s=NOW_S + 200 * DAY_S),
    event(4, EventKind.UNBONDING, ALICE, amount=1200),
    event(5, EventKind.DEFAULTED, BOB, other=BASE, amount=4),
    event(6, EventKind.DEFAULTED, BOB, other=QUOTE, amount=100),
)


def test_a_story_of_two() -> None:
    found = histories(GENESIS, STORY)
    assert set(found) == {ALICE, BOB}, "what a key did counts for whom it is bound to"
    alice, bob = found[ALICE], found[BOB]
    assert alice.registered_day == day_of(NOW_S) == 20_000
    # 1,200 of 1,505 are out, the oldest first; 305 are 30 units, all locked as long as the last.
    assert alice.bonds == (Bond(STORY[3].place, 30, 20_200),)
    assert alice.settled == (Settled(STORY[2].place, 20, 20_002),)
    assert not alice.defaults and not alice.is_forked
    # 4 of base at 3000 for 10 are 1200 of quote, 600 units; the rate of quote is one half.
    assert [one.amount for one in bob.defaults] == [600, 50]
    assert bob.settled == alice.settled and bob.bonds == ()


def test_whoever_is_convicted_has_nothing_left() -> None:
    slashed = event(7, EventKind.SLASHED, ALICE, other=KEY)
    found = histories(GENESIS, (*STORY, slashed))[ALICE]
    assert found.is_forked and found.bonds == ()


def test_tokens_and_markets_of_others_are_worth_nothing() -> None:
    strange = event(8, EventKind.SETTLED, BOB, other=ALICE, amount=9, market=b"\x05" * 32)
    unknown = event(9, EventKind.DEFAULTED, ALICE, other=Address(b"\x77" * 20), amount=9)
    found = histories(GENESIS, (strange, unknown))
    assert BOB not in found
    assert found[ALICE].defaults == (Default(unknown.place, 0, 20_009),)
    early = histories(GENESIS, STORY[5:6])[BOB]
    assert early.defaults[0].amount == 0, "no trade was settled before: base has no price"


# --- bonds on Bitcoin ---

BITCOIN = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"
COUNTING = attrs.evolve(
    GENESIS,
    registry=Address(b"\x21" * 20),
    bitcoin_bonds=BITCOIN,
    bitcoin_rate_numerator=7,
    bitcoin_rate_denominator=2,
)
ON_BITCOIN, OTHERS = b"\2" * 33, b"\3" * 33
BINDING = event(0, EventKind.BOUND, ALICE, other=KEY, bitcoin_key=ON_BITCOIN)


def paid(time_s: int, key: bytes = ON_BITCOIN, sats: int = 101, number: int = 0) -> BitcoinBond:
    place, outpoint = Place(BITCOIN, 9, number), OutPoint(b"t" * 32, number)
    return BitcoinBond(place, time_s, key, outpoint, sats, NOW_S + 70 * DAY_S)


def test_a_bond_on_bitcoin_is_whose_its_key_is() -> None:
    bonds = [paid(NOW_S + 1), paid(NOW_S + 2, OTHERS), paid(NOW_S + 3, sats=200, number=1)]
    found = histories(COUNTING, [BINDING], bonds)
    assert set(found) == {ALICE}
    assert found[ALICE].bonds == (
        Bond(bonds[0].place, 353, 20_070, True),
        Bond(bonds[2].place, 700, 20_070, True),
    )
    assert found[ALICE].registered_day == 20_000
    slashed = event(1, EventKind.SLASHED, ALICE, other=KEY)
    assert histories(COUNTING, [BINDING, slashed], bonds)[ALICE].is_forked


def test_a_key_bound_twice_is_the_first_owners_and_a_late_one_nobodys() -> None:
    again = event(1, EventKind.BOUND, BOB, other=BOB, bitcoin_key=ON_BITCOIN)
    early, late = paid(NOW_S - BIND_WITHIN_S), paid(NOW_S - BIND_WITHIN_S + 1, number=1)
    found = histories(COUNTING, [again, BINDING], [early, late, paid(NOW_S + 5 * DAY_S, number=2)])
    assert [bond.place.log for bond in found[ALICE].bonds] == [1, 2]
    assert found[BOB].bonds == ()


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.randoms(use_true_random=False))
def test_a_bond_in_two_outputs_is_worth_no_more(one: int, other: int, dice: random.Random) -> None:
    def score_of(*sats: int) -> int:
        bonds = [paid(NOW_S, sats=amount, number=n) for n, amount in enumerate(sats)]
        dice.shuffle(bonds)
        found = standings(COUNTING, CHAIN, 9, bytes(32), NOW_S + DAY_S, [early], bonds)
        return found.scores[0].total

    early = BINDING._replace(place=Place(CHAIN, 1, 0))
    together, apart = score_of(one + other), score_of(one, other)
    assert together - 2 <= apart <= together


def test_young_bonds_are_neither_in_scores_nor_in_the_digest() -> None:
    def at(time_s: int, bonds: list[BitcoinBond]) -> Standings:
        return standings(COUNTING, CHAIN, 10_000, bytes(32), time_s, [BINDING], bonds)

    bond, noon_s = paid(NOW_S + 100, sats=10**6), NOW_S + DAY_S
    assert at(noon_s, [bond]).digest == at(noon_s, []).digest
    later = at(noon_s + 100, [bond])
    assert later.digest != at(noon_s + 100, []).digest
    # 3,500,000 micro-units, locked for 69 more days: half of 69 / 365 of it.
    (alice,) = later.scores
    assert alice.total == alice.bonds == 3_500_000 * 69 // 730
    (term,) = later.terms(ALICE)
    assert (term.kind, term.place) == (Kind.BITCOIN_BOND, bond.place)


KINDS = st.sampled_from([kind for kind in EventKind if kind is not EventKind.BOUND])
ACCOUNTS = st.sampled_from([ALICE, BOB, KEY])


@st.composite
def stories(draw: st.DrawFn) -> list[ChainEvent]:
    count = draw(st.integers(0, 25))
    events = [
        event(
            n,
            draw(KINDS),
            draw(ACCOUNTS),
            other=draw(ACCOUNTS),
            amount=draw(st.integers(0, 10_000)),
            until_s=NOW_S + draw(st.integers(0, 400)) * DAY_S,
            market=MARKET.id,
            paid=draw(st.integers(1, 1000)),
            lots=draw(st.integers(1, 1000)),
        )
        for n in range(count)
    ]
    if draw(st.booleans()):
        events.append(event(count, EventKind.BOUND, ALICE, other=KEY))
    return events


@given(stories(), st.randoms(use_true_random=False))
def test_the_order_in_which_events_are_read_changes_nothing(
    events: list[ChainEvent], dice: random.Random
) -> None:
    whole = standings(GENESIS, CHAIN, 10_000, bytes(32), NOW_S, events)
    shuffled = list(events)
    dice.shuffle(shuffled)
    assert standings(GENESIS, CHAIN, 10_000, bytes(32), NOW_S, shuffled) == whole
    assert len(whole.digest) == 32


@st.composite
def bonds_of(draw: st.DrawFn) -> list[BitcoinBond]:
    return [
        paid(
            NOW_S + draw(st.integers(-2, 30)) * DAY_S,
            draw(st.sampled_from([ON_BITCOIN, OTHERS])),
            draw(st.integers(0, 10**9)),
            number,
        )
        for number in range(draw(st.integers(0, 6)))
    ]


@st.composite
def bindings(draw: st.DrawFn) -> list[ChainEvent]:
    """Keys bound in any order, by several owners."""
    keys = st.sampled_from([b"", ON_BITCOIN, OTHERS])
    return [
        event(n, EventKind.BOUND, draw(ACCOUNTS), other=KEY, bitcoin_key=draw(keys))
        for n in range(draw(st.integers(0, 6)))
    ]


@given(bindings(), bonds_of(), st.randoms(use_true_random=False))
def test_however_they_are_read_a_coin_on_bitcoin_counts_once_for_its_keys_first_owner(
    bound: list[ChainEvent], bonds: list[BitcoinBond], dice: random.Random
) -> None:
    at = (COUNTING, CHAIN, 10_000, bytes(32), NOW_S + 20 * DAY_S)
    whole = standings(*at, bound, bonds)
    for read in (bound, bonds):
        dice.shuffle(read)
    assert standings(*at, bound, bonds) == whole
    first: dict[bytes, ChainEvent] = {}
    for one in sorted(bound):
        first.setdefault(one.bitcoin_key, one)
    expected = {
        (first[bond.key].subject, bond.place)
        for bond in bonds
        if bond.key in first
        and bond.time_s <= NOW_S + 19 * DAY_S
        and first[bond.key].time_s < bond.time_s + BIND_WITHIN_S
    }
    found = [(who, one.place) for who, made in whole.histories.items() for one in made.bonds]
    assert len(found) == len(set(found)) and set(found) == expected


@given(stories(), st.integers(95, 130))
def test_what_comes_after_the_pin_changes_nothing(events: list[ChainEvent], block: int) -> None:
    before = [one for one in events if one.place.block <= block]
    one, other = (standings(GENESIS, CHAIN, block, bytes(32), NOW_S, e) for e in (events, before))
    assert one.digest == other.digest


@pytest.mark.parametrize("field", ["amount", "time_s"])
def test_another_event_is_another_digest(field: str) -> None:
    changed = (STORY[0]._replace(**{field: getattr(STORY[0], field) + 10 * DAY_S}), *STORY[1:])
    at = (GENESIS, CHAIN, 10_000, bytes(32), NOW_S + 10 * DAY_S)
    assert standings(*at, STORY).digest != standings(*at, changed).digest


def test_digests_differ_where_any_event_or_score_differs() -> None:
    def digest(day_s: int, events: tuple[ChainEvent, ...]) -> bytes:
        return standings(GENESIS, CHAIN, 10_000, bytes(32), day_s, events).digest

    found = {digest(NOW_S, STORY), digest(NOW_S + DAY_S, STORY), digest(NOW_S, STORY[:-1])}
    for number, told in enumerate(STORY):
        for change in (
            {"amount": told.amount + 1},
            {"time_s": told.time_s + 1},
            {"subject": KEY if told.subject != KEY else BOB},
            {"since": 1},
            {"anchor": b"\x01" * 32},
            {"bitcoin_key": b"\x02" * 33},
            {"place": told.place._replace(block=told.place.block + 500)},
        ):
            other = told._replace(**change)
            found.add(digest(NOW_S, (*STORY[:number], other, *STORY[number + 1 :])))
    assert len(found) == 3 + 7 * len(STORY)
