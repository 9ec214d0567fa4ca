"""The life of a trade that settles in one transaction: the table, and who sends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core.errors import IllegalTransitionError
from orrange_p2p.core.ids import Address, Amount, Epoch, MarketId, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.swaps.atomic import (
    TRANSITIONS,
    Effect,
    Event,
    Fact,
    Progress,
    TradeState,
    advance,
    may_send,
)
from orrange_p2p.core.swaps.binding import BoundTrade, Consent

MAKER, TAKER, STRANGER = (Address(name * 20) for name in (b"m", b"t", b"s"))
DUE = Progress()
EXPIRY = TimeMs(3_601_000)


def after(*facts: Fact, start: Progress = DUE) -> Progress:
    for fact in facts:
        start, _ = advance(start, fact)
    return start


def test_a_trade_is_sent_mined_and_final() -> None:
    progress, effects = advance(DUE, Fact(Event.BATCHED, intent="settle 1"))
    assert progress == Progress(TradeState.PUBLISHING, "settle 1", 1)
    assert effects == (Effect.PUBLISH,)
    progress, effects = advance(progress, Fact(Event.KEPT))
    assert (progress.state, effects) == (TradeState.SENT, ())
    progress, effects = advance(progress, Fact(Event.SHOWN_SETTLED, block=7, tx_hash=b"t"))
    assert progress == Progress(TradeState.MINED, "settle 1", 1, block=7, tx_hash=b"t")
    progress, effects = advance(progress, Fact(Event.FINALIZED))
    assert (progress.state, effects) == (TradeState.SETTLED, (Effect.TELL_SETTLED,))


def test_what_the_other_party_sent_counts_as_well() -> None:
    progress = after(Fact(Event.SHOWN_SETTLED, block=7), Fact(Event.FINALIZED))
    assert progress == Progress(TradeState.SETTLED, block=7)


def test_a_default_names_who_did_not_pay_once_it_is_final() -> None:
    shown = after(Fact(Event.SHOWN_DEFAULT, block=7, blamed=TAKER))
    assert (shown.state, shown.blamed) == (TradeState.DENIED, TAKER)
    progress, effects = advance(shown, Fact(Event.FINALIZED))
    assert (progress.state, progress.blamed) == (TradeState.DEFAULTED, TAKER)
    assert effects == (Effect.TELL_DEFAULT,)
    assert after(Fact(Event.TAKEN_BACK), start=shown) == Progress(TradeState.SENT)


def test_a_replaced_block_takes_back_what_it_showed() -> None:
    sent = after(Fact(Event.BATCHED, intent="settle 1"), Fact(Event.KEPT))
    shown = Fact(Event.SHOWN_SETTLED, block=7, tx_hash=b"t")
    progress = after(shown, Fact(Event.TAKEN_BACK), start=sent)
    assert progress == sent
    assert after(Fact(Event.LOST), start=progress) == Progress(attempts=1, failures=1)


def test_only_what_was_sent_can_fail() -> None:
    batched = after(Fact(Event.BATCHED, intent="settle 1"))
    assert after(Fact(Event.LOST), start=batched) == Progress(attempts=1)
    failure = Fact(Event.SHOWN_FAILURE, block=7)
    assert after(failure) == DUE
    assert after(Fact(Event.KEPT), failure, start=batched) == Progress(attempts=1, failures=1)


def test_what_no_block_settled_in_time_expires() -> None:
    sent = after(Fact(Event.BATCHED, intent="settle 1"), Fact(Event.KEPT))
    for start in (DUE, sent):
        progress, effects = advance(start, Fact(Event.OVERDUE))
        assert (progress.state, effects) == (TradeState.EXPIRED, (Effect.TELL_EXPIRED,))
    shown = after(Fact(Event.SHOWN_SETTLED, block=7), start=sent)
    with pytest.raises(IllegalTransitionError):
        advance(shown, Fact(Event.OVERDUE))


def test_the_other_party_may_settle_what_was_given_up() -> None:
    for given_up in (
        after(Fact(Event.SHOWN_DEFAULT, block=7, blamed=TAKER), Fact(Event.FINALIZED)),
        after(Fact(Event.GIVEN_UP)),
    ):
        progress = after(Fact(Event.SHOWN_SETTLED, block=9), start=given_up)
        assert progress == Progress(TradeState.MINED, block=9)


@given(
    st.builds(Progress, st.sampled_from(TradeState), st.sampled_from(["", "a"]), st.integers(0, 9)),
    st.sampled_from(Event),
)
def test_what_the_table_does_not_list_raises(progress: Progress, event: Event) -> None:
    fact = Fact(event, "b", 8, TAKER)
    if (progress.state, event) in TRANSITIONS:
        moved, _ = advance(progress, fact)
        assert moved.state is TRANSITIONS[progress.state, event][0]
    else:
        with pytest.raises(IllegalTransitionError):
            advance(progress, fact)


def test_every_state_is_reached_and_only_ends_stay() -> None:
    reached = {TradeState.DUE}
    for _ in TradeState:
        reached |= {target for (state, _), (target, _) in TRANSITIONS.items() if state in reached}
    assert reached == set(TradeState)
    left = {state for (state, _), (target, _) in TRANSITIONS.items() if target is not state}
    assert set(TradeState) - left == {TradeState.SETTLED}


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_settled_is_for_ever_and_told_once(events: list[Event]) -> None:
    progress, told = DUE, 0
    for event in events:
        try:
            moved, effects = advance(progress, Fact(event, "a", 3, TAKER))
        except IllegalTransitionError:
            continue
        told += Effect.TELL_SETTLED in effects
        if progress.state is TradeState.SETTLED:
            assert moved == progress
        assert (moved.block > 0) == (
            moved.state in (TradeState.MINED, TradeState.DENIED)
            or moved.state in (TradeState.SETTLED, TradeState.DEFAULTED)
        )
        # Whatever is published has a name, and keeps it as long as it may be mined.
        if moved.state is TradeState.PUBLISHING:
            assert moved.intent
        progress = moved
    assert told == (progress.state is TradeState.SETTLED)


@pytest.mark.parametrize(
    ("own", "from_ms"),
    [({MAKER}, 0), ({TAKER}, 61_000), ({MAKER, TAKER}, 0), ({STRANGER}, None), (set(), None)],
)
def test_the_maker_sends_and_after_a_while_the_taker_too(
    own: set[Address], from_ms: int | None
) -> None:
    market = MarketId(b"m" * 32)
    consent = Consent(Address(bytes(20)), (), bytes(65))
    trade = Trade(market, b"f" * 32, TAKER, MAKER, Amount(1), Amount(2), Epoch(3), EXPIRY)
    bound = BoundTrade(trade, MAKER, TimeMs(1_000), consent, consent)
    for now_ms in (0, 1_000, 60_999, 61_000, EXPIRY - 1, EXPIRY, 1 << 60):
        expected = from_ms is not None and from_ms <= now_ms < EXPIRY
        assert may_send(bound, own, now_ms, fallback_ms=60_000) is expected


def test_the_chapter_has_the_same_table() -> None:
    text = (Path(__file__).parents[2] / "protocol" / "08-settlement.md").read_text()
    rows = re.findall(r"^\| `([A-Z]+)` \|(.*)\|$", text, re.MULTILINE)
    columns = (
        Event.BATCHED,
        Event.KEPT,
        Event.LOST,
        Event.SHOWN_SETTLED,
        Event.SHOWN_DEFAULT,
        Event.SHOWN_FAILURE,
        Event.TAKEN_BACK,
        Event.FINALIZED,
        Event.GIVEN_UP,
        Event.OVERDUE,
    )
    written = {
        (TradeState[state], event): TradeState[cell.strip("` ")]
        for state, cells in rows
        for event, cell in zip(columns, cells.split("|"), strict=True)
        if cell.strip()
    }
    assert written == {pair: target for pair, (target, _) in TRANSITIONS.items()}
