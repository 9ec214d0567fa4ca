"""From events of the home chain to the roster of an era."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from network import make_genesis

from orrange_p2p.core.bitcoin_bonds import MARGIN_S, BitcoinBond
from orrange_p2p.core.election import Election
from orrange_p2p.core.histories import ChainEvent, EventKind, standings
from orrange_p2p.core.ids import Address, Era, MarketId
from orrange_p2p.core.reputation import Place
from orrange_p2p.core.reveals import CHAIN_LENGTH
from orrange_p2p.core.roster import Pin, Roster, Standing, of_genesis
from orrange_p2p.crypto.bitcoin import OutPoint

CHAIN = "eip155:31337"
BITCOIN = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"
YEAR_S = 365 * 86_400
NOW_S = 20_000 * 86_400
_PLAIN = make_genesis(4, registry=Address(b"\x0e" * 20), elected_witnesses=6, bond_unit=10)
_OTHER = attrs.evolve(_PLAIN.markets[0], tick_size=7)
GENESIS = attrs.evolve(
    _PLAIN,
    markets=(*_PLAIN.markets, _OTHER),
    witnesses=tuple(attrs.evolve(w, anchors=w.anchors * 2) for w in _PLAIN.witnesses),
)
MARKET, ELSEWHERE = GENESIS.markets[0].id, _OTHER.id
PIN = Pin(1000, b"\x01" * 32)


def owner(number: int) -> Address:
    return Address(bytes([0xA0, number]) * 10)


def key(number: int) -> Address:
    return Address(bytes([0xB0, number]) * 10)


class Story:
    """Events in the order in which they are told, one a block."""

    def __init__(self) -> None:
        self.events: list[ChainEvent] = []

    def tell(self, kind: EventKind, subject: Address, **more: Any) -> Story:
        place = Place(CHAIN, 1 + len(self.events), 0)
        self.events.append(ChainEvent(place, kind, NOW_S, subject, **more))
        return self

    def bond(self, number: int, amount: int) -> Story:
        return self.tell(
            EventKind.BONDED, owner(number), amount=amount, until_s=NOW_S + YEAR_S
        ).tell(EventKind.BOUND, owner(number), other=key(number))

    def allocate(self, number: int, amount: int, market: bytes = MARKET) -> Story:
        return self.tell(
            EventKind.ALLOCATED, owner(number), other=key(number), market=market, amount=amount
        )

    def stand(self, number: int, since: int = 0, anchor: bytes = b"\x09" * 32) -> Story:
        return self.tell(
            EventKind.STOOD,
            owner(number),
            other=key(number),
            market=MARKET,
            anchor=anchor,
            since=since,
        )

    def slash(self, number: int) -> Story:
        return self.tell(EventKind.SLASHED, owner(number), other=key(number))

    def roster(self, era: int = 1, market: MarketId = MARKET, block: int = PIN.block) -> Roster:
        pin = PIN._replace(block=block)
        return Election(GENESIS, pin, NOW_S, self.events).roster(market, Era(era))


def five() -> Story:
    story = Story()
    for number in range(5):
        story.bond(number, 1000).allocate(number, 1000).stand(number)
    return story


def test_whoever_bonds_allocates_and_stands_is_elected() -> None:
    roster = five().roster()
    assert [seat.witness for seat in roster.seats] == [key(n) for n in range(5)]
    assert len({seat.weight for seat in roster.seats}) == 1
    worth = {one.author: (one.reputation, one.bond) for one in roster.standings}
    assert worth == {
        **{owner(n): (0, 0) for n in range(5)},  # registered, with nothing allocated
        **{key(n): (100, 100) for n in range(5)},
    }
    assert roster.era == 1 and roster.pin == PIN


def test_a_bond_on_bitcoin_gives_reputation_and_backs_nothing() -> None:
    genesis = attrs.evolve(GENESIS, bitcoin_bonds=BITCOIN)
    story = five().tell(EventKind.BOUND, owner(0), other=key(0), bitcoin_key=b"\2" * 33)
    place, outpoint = Place(BITCOIN, 9, 0), OutPoint(b"t" * 32, 0)
    bond = BitcoinBond(place, NOW_S - 1, b"\2" * 33, outpoint, 200, NOW_S + 2 * YEAR_S)
    young = bond._replace(place=place._replace(log=1), time_s=NOW_S + 100)
    election = Election(genesis, PIN, NOW_S + MARGIN_S, story.events, [young, bond])
    worth = {one.author: one for one in election.roster(MARKET, Era(1)).standings}
    # 100 on the home chain, of which a day has gone, and half of 200 on Bitcoin.
    assert worth[key(0)] == Standing(key(0), 99 + 100, 100)
    assert worth[key(1)] == Standing(key(1), 99, 100)


def test_with_too_few_candidates_the_witnesses_of_genesis_go_on() -> None:
    story = Story()
    for number in range(3):
        story.bond(number, 1000).allocate(number, 1000).stand(number)
    assert story.roster().seats == of_genesis(GENESIS, MARKET).seats
    story.bond(3, 10).allocate(3, 10).stand(3)
    assert len(story.roster().seats) == 4


def test_whoever_steps_back_unbonds_or_is_slashed_is_not_elected_again() -> None:
    story = five().bond(5, 1000).allocate(5, 1000).stand(5)
    story.stand(0, anchor=bytes(32))
    story.tell(EventKind.UNBONDING, owner(1), amount=1000)
    assert [seat.witness for seat in story.roster().seats] == [key(n) for n in (2, 3, 4, 5)]
    story.bond(6, 1000).allocate(6, 1000).stand(6).slash(2)
    roster = story.roster()
    assert [seat.witness for seat in roster.seats] == [key(n) for n in (3, 4, 5, 6)]
    worth = {one.author: one for one in roster.standings}
    assert key(2) not in worth, "a convicted key may not trade"
    assert worth[owner(2)] == Standing(owner(2), 0, 0)


def test_a_bond_backs_no_more_than_it_is_and_earlier_allocations_first() -> None:
    story = five().tell(EventKind.BOUND, owner(0), other=key(9))
    story.tell(EventKind.ALLOCATED, owner(0), other=key(9), market=MARKET, amount=500)
    assert {one.author: one.bond for one in story.roster().standings}[key(9)] == 0
    story.allocate(0, 700)  # said anew: it comes after the other one now
    bonds = {one.author: one.bond for one in story.roster().standings}
    assert (bonds[key(9)], bonds[key(0)]) == (50, 50)


def test_an_owner_is_shown_what_it_said_and_what_of_it_counts() -> None:
    story = Story().bond(0, 1000).allocate(0, 700).allocate(0, 700, ELSEWHERE).stand(0, since=2)
    record = Election(GENESIS, PIN, NOW_S, story.events).owner(owner(0))
    assert record is not None
    assert (record.keys, record.convicted) == ((key(0),), ())
    assert [(one.market, one.said, one.counted) for one in record.allocations] == [
        (MARKET, 700, 700),
        (ELSEWHERE, 700, 300),
    ]
    assert record.stands[MARKET][::2] == (key(0), 2)
    slashed = Election(GENESIS, PIN, NOW_S, story.slash(0).events).owner(owner(0))
    assert slashed is not None and slashed.convicted == (key(0),)
    assert [one.counted for one in slashed.allocations] == [0, 0]
    assert Election(GENESIS, PIN, NOW_S, story.events).owner(owner(7)) is None


def test_a_market_sees_what_is_allocated_to_it() -> None:
    story = Story().bond(0, 1000).allocate(0, 300).allocate(0, 600, ELSEWHERE)
    assert Standing(key(0), 30, 30) in story.roster().standings
    assert Standing(key(0), 60, 60) in story.roster(market=ELSEWHERE).standings


def test_a_candidate_needs_a_chain_that_reaches_over_the_era() -> None:
    story = five().stand(0, since=3)
    assert key(0) not in story.roster(2).table
    assert story.roster(3).seat_of(key(0)) is not None
    eras = CHAIN_LENGTH // GENESIS.parameters.rounds_per_era
    for number in range(1, 5):
        story.stand(number, since=eras)
    assert key(0) in story.roster(3 + eras - 1).table
    assert key(0) not in story.roster(3 + eras).table


def test_what_comes_after_the_pin_changes_nothing() -> None:
    story = five()
    before = story.roster(block=len(story.events))
    story.slash(0).bond(7, 5000).allocate(7, 5000).stand(7)
    assert story.roster(block=15 + 5) == before
    assert story.roster() != before


def test_those_who_are_worth_nothing_stand_behind_those_known_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = Story().bond(200, 1)  # for long
    for number in range(5):  # many names, later
        story.bond(number, 1)
    monkeypatch.setattr("orrange_p2p.core.election.MAX_STANDINGS", 2)
    assert {one.author for one in story.roster().standings} == {owner(200), key(200)}


NUMBERS = st.integers(0, 7)


@st.composite
def stories(draw: st.DrawFn) -> list[ChainEvent]:
    story = Story()
    for number in range(8):
        story.bond(number, draw(st.integers(1, 10_000)))
    for _ in range(draw(st.integers(0, 30))):
        number = draw(NUMBERS)
        what = draw(st.integers(0, 4))
        if what == 0:
            story.allocate(
                number, draw(st.integers(0, 12_000)), draw(st.sampled_from((MARKET, ELSEWHERE)))
            )
        elif what == 1:
            story.stand(number, anchor=draw(st.sampled_from((bytes(32), b"\x08" * 32))))
        elif what == 2:
            taken = sum(
                event.amount * (1 if event.kind is EventKind.BONDED else -1)
                for event in story.events
                if event.subject == owner(number)
                and event.kind in (EventKind.BONDED, EventKind.UNBONDING)
            )
            story.tell(EventKind.UNBONDING, owner(number), amount=draw(st.integers(0, taken)))
        elif what == 3 and draw(st.integers(0, 5)) == 0:
            story.slash(number)
        else:
            story.bond(number, draw(st.integers(1, 10_000)))
    return story.events


@given(stories(), st.randoms(use_true_random=False))
def test_rosters_do_not_depend_on_the_order_of_reading(
    events: list[ChainEvent], dice: random.Random
) -> None:
    whole = Election(GENESIS, PIN, NOW_S, events).roster(MARKET, Era(3))
    dice.shuffle(events)
    assert Election(GENESIS, PIN, NOW_S, events).roster(MARKET, Era(3)).digest == whole.digest


@given(stories())
def test_over_markets_and_keys_nobody_is_worth_more_than_his_score(
    events: list[ChainEvent],
) -> None:
    scores = {
        one.account: one.total
        for one in standings(GENESIS, CHAIN, PIN.block, PIN.hash, NOW_S, events).scores
    }
    election = Election(GENESIS, PIN, NOW_S, events)
    rosters = [election.roster(market, Era(3)) for market in (MARKET, ELSEWHERE)]
    for number in range(8):
        shares = [
            one.reputation
            for roster in rosters
            for one in roster.standings
            if one.author == key(number)
        ]
        assert sum(shares) <= scores[owner(number)]
