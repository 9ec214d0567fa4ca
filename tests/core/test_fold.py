"""The fold: each phase by its shortest example, then random histories against the naive fold."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from operator import itemgetter

import pytest
from fold_history import (
    ANNA,
    BERT,
    CARL,
    DORA,
    EMIL,
    EPOCH_MS,
    KEYS,
    START,
    History,
    buy,
    sell,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from network import Key
from reference_fold import ReferenceFold

from orrange_p2p.core import book
from orrange_p2p.core.errors import IllegalTransitionError
from orrange_p2p.core.fold import EpochOutcome, Refusal
from orrange_p2p.core.ids import ZERO32, Digest, Lots, MatchId, OrderId, Seq
from orrange_p2p.core.matches import Match, MatchState
from orrange_p2p.core.operations import (
    Accept,
    Accepted,
    Amend,
    Announce,
    Cancel,
    CancelAll,
    Delegate,
    Evidence,
    Operation,
    Place,
    SelfTrade,
    Side,
    TimeInForce,
)

GTT, GTE, IOC, FOK = TimeInForce.GTT, TimeInForce.GTE, TimeInForce.IOC, TimeInForce.FOK


def cancel(order_id: OrderId) -> Cancel:
    return Cancel(order_id.seq, order_id.position)


def matched(lots: int = 5, maker_lots: int = 5, **parameters: int) -> tuple[History, Match]:
    """Anna's resting sale at 100, met by Bert's purchase of ``lots``."""
    history = History(**parameters)
    history.place(ANNA, sell(100, maker_lots))
    history.place(BERT, buy(100, lots))
    (match,) = history.outcomes[-1].matches
    return history, match


def lapse(history: History) -> EpochOutcome:
    """Let the deadline pass."""
    history.see()
    history.skip(history.fold.parameters.accept_deadline_epochs)
    return history.close()


# --- from place to trade ---


def test_two_orders_meet_both_sides_accept_and_a_trade_is_bound() -> None:
    history = History()
    maker = history.place(ANNA, sell(100, 5))
    taker = history.place(BERT, buy(103, 2))
    (match,) = history.outcomes[-1].matches
    assert (match.maker, match.taker, match.price, match.quantity) == (maker, taker, 100, 2)
    assert (match.buyer, match.seller) == (BERT.address, ANNA.address)
    history.write(ANNA, history.accept(ANNA, match))
    assert history.close().trades == ()
    history.write(BERT, history.accept(BERT, match, b"pay me here"))
    assert history.close().trades == (match,)
    assert match.state == MatchState.BOUND
    assert match.terms == {ANNA.address: b"", BERT.address: b"pay me here"}
    assert history.fold.matches == {}
    assert history.order(taker) is None
    order = history.order(maker)
    assert order is not None
    assert (order.open, order.reserved, order.filled) == (3, 0, 2)


def test_both_accepts_may_come_in_one_epoch() -> None:
    history, match = matched()
    history.write(ANNA, history.accept(ANNA, match))
    history.write(BERT, history.accept(BERT, match))
    assert history.close().trades == (match,)


def test_an_accept_counts_once_and_of_the_two_sides_alone() -> None:
    history, match = matched()
    history.write(CARL, history.accept(CARL, match))  # a stranger
    history.write(ANNA, no_such_match(history.accept(ANNA, match)))
    history.close()
    assert match.state == MatchState.PENDING
    for terms in (b"first", b"second"):
        history.write(ANNA, history.accept(ANNA, match, terms))
    history.close()
    assert match.state == MatchState.MAKER_ACCEPTED
    assert match.terms == {ANNA.address: b"first"}


def no_such_match(accept: Accept) -> Accept:
    ((match_id, terms),) = accept.matches
    return accept._replace(matches=(Accepted(match_id[:-1] + b"\0", terms),))  # type: ignore[arg-type]


def test_one_accept_may_name_many_matches() -> None:
    history = History()
    for _ in range(3):
        history.place(ANNA, sell(100, 2))
        history.place(BERT, buy(100, 2))
    matches = list(history.fold.matches.values())
    accepted = [history.accept(ANNA, match).matches[0] for match in matches]
    unknown = Accepted(MatchId(ZERO32), b"")  # it spoils none of the others
    history.write(ANNA, Accept(tuple(sorted([unknown, *accepted])), bytes(65)))
    history.close()
    assert [match.state for match in matches] == [MatchState.MAKER_ACCEPTED] * 3


def test_a_fill_is_at_the_price_of_the_resting_order() -> None:
    history = History()
    history.place(ANNA, sell(100, 1))
    history.place(BERT, buy(107, 1))
    assert history.outcomes[-1].matches[0].price == 100


def test_price_comes_before_epoch_and_epoch_before_everything_else() -> None:
    history = History()
    late_and_dear = history.place(ANNA, sell(101, 1))
    early = history.place(BERT, sell(100, 1))
    late = history.place(CARL, sell(100, 1))
    history.place(DORA, buy(101, 3))
    assert [m.maker for m in history.outcomes[-1].matches] == [early, late, late_and_dear]


def test_inside_an_epoch_the_order_is_drawn_from_a_seed_known_later() -> None:
    def winners(number: int) -> set[bytes]:
        history = History()
        history.skip(number)  # another epoch, another draw
        for key in (ANNA, BERT, CARL):
            history.write(key, sell(100, 1))
        history.close()
        history.place(DORA, buy(100, 1))
        return {match.maker.author for match in history.outcomes[-1].matches}

    assert set.union(*map(winners, range(12))) == {ANNA.address, BERT.address, CARL.address}


# --- deadlines and lapses ---


def test_the_deadline_starts_only_when_a_quorum_has_applied_the_match() -> None:
    history, match = matched(accept_deadline_epochs=2)
    history.close(reports=[(0, match.epoch), (1, match.epoch)])  # two of four are none
    history.close(reports=[(2, match.epoch - 1)])  # older
    history.close(reports=[(3, 10_000)])  # not committed yet: no report at all
    history.skip(20)
    assert match.deadline_epoch == 0
    history.close(reports=[(2, match.epoch)])
    assert match.deadline_epoch == history.fold.epoch + 2
    history.skip(2)
    assert match.state == MatchState.PENDING
    assert [row.match for row in history.close().lapses] == [match]


def test_an_accept_counts_in_the_last_epoch_of_the_deadline_and_not_after() -> None:
    for late in (0, 1):
        history, match = matched(accept_deadline_epochs=2)
        history.write(ANNA, history.accept(ANNA, match))
        history.see()
        history.skip(1 + late)
        history.write(BERT, history.accept(BERT, match))
        outcome = history.close()
        assert (len(outcome.trades), len(outcome.lapses)) == ((1, 0), (0, 1))[late]


def test_the_silent_side_loses_its_order_and_half_its_limits() -> None:
    history = History(accept_deadline_epochs=2, open_orders=4, penalty_epochs=5)
    maker = history.place(ANNA, sell(100, 8))
    other = history.place(ANNA, sell(120, 1))
    taker = history.place(BERT, buy(100, 5))
    match = history.outcomes[-1].matches[0]
    history.write(BERT, history.accept(BERT, match))
    outcome = lapse(history)
    assert outcome.lapses[0].silent == (ANNA.address,)
    assert history.order(maker) is None
    assert [order.id for order in outcome.ended] == [maker]
    assert (outcome.ended[0].cancelled, outcome.ended[0].reason) == (8, book.UNSETTLED)
    assert history.open(other) == 1
    assert history.open(taker) == 5
    history.write(ANNA, sell(120, 1), sell(120, 1))
    assert [why for _, why in history.close().refusals] == [Refusal.OPEN_ORDERS]
    history.skip(5)
    history.write(ANNA, sell(120, 1))
    assert history.close().refusals == ()


def test_returned_quantity_has_its_old_priority() -> None:
    history = History(accept_deadline_epochs=2)
    first = history.place(ANNA, sell(100, 5))
    history.place(BERT, buy(100, 5))
    history.place(CARL, sell(100, 5))
    history.write(ANNA, history.accept(ANNA, history.outcomes[1].matches[0]))
    lapse(history)
    assert history.open(first) == 5
    history.place(DORA, buy(100, 1))
    assert history.outcomes[-1].matches[0].maker == first


def test_returned_quantity_matches_again() -> None:
    history = History(accept_deadline_epochs=2)
    history.place(ANNA, sell(100, 5))
    taker = history.place(BERT, buy(100, 5))
    newcomer = history.place(CARL, sell(99, 2))
    history.write(BERT, history.accept(BERT, history.outcomes[1].matches[0]))
    outcome = lapse(history)
    assert [(m.maker, m.taker, m.price, m.quantity) for m in outcome.matches] == [
        (newcomer, taker, 99, 2)
    ]
    assert history.open(taker) == 3


@pytest.mark.parametrize(
    "terms", [{"time_in_force": IOC}, {"time_in_force": FOK}, {"max_slippage": 3}]
)
def test_quantity_that_must_not_rest_does_not_return(terms: dict[str, int]) -> None:
    history = History(accept_deadline_epochs=2)
    history.place(ANNA, sell(100, 5))
    taker = history.place(BERT, buy(100, 5, **terms))
    history.write(BERT, history.accept(BERT, history.outcomes[1].matches[0]))
    outcome = lapse(history)
    assert history.order(taker) is None
    assert {order.id: order.cancelled for order in outcome.ended}[taker] == 5


@pytest.mark.parametrize("lots", [5, 8], ids=["filled on arrival", "rested"])
@pytest.mark.parametrize("kind", ["GTT", "GTE", "lifetime", "cancelled"])
def test_quantity_whose_time_is_over_does_not_return(kind: str, lots: int) -> None:
    history = History(accept_deadline_epochs=2, order_lifetime_ms=10 * EPOCH_MS)
    history.place(ANNA, sell(100, 5))
    place = {
        "GTT": buy(100, lots, GTT, expiry=START + 3 * EPOCH_MS),
        "GTE": buy(100, lots, GTE, expiry=3),
    }.get(kind, buy(100, lots))
    taker = history.place(BERT, place)
    history.write(BERT, history.accept(BERT, history.outcomes[1].matches[0]))
    if kind == "cancelled":
        history.write(BERT, cancel(taker))
    if kind == "lifetime":
        history.close(time_ms=START + 12 * EPOCH_MS)
    outcome = lapse(history)
    assert len(outcome.lapses) == 1
    assert history.order(taker) is None, "the rest of it came back after its end"
    assert history.book(Side.BUY) == []


# --- cancels, amends ---


def test_a_cancel_beats_a_fill_of_the_same_epoch() -> None:
    history = History()
    maker = history.place(ANNA, sell(100, 5))
    history.write(ANNA, cancel(maker))
    taker = history.place(BERT, buy(100, 5))
    assert history.outcomes[-1].matches == ()
    assert history.order(maker) is None
    assert history.open(taker) == 5


def test_a_cancel_takes_back_open_quantity_and_leaves_what_is_reserved() -> None:
    history, match = matched(lots=2)
    maker = match.maker
    history.write(ANNA, cancel(maker))
    assert history.close().ended == ()
    order = history.order(maker)
    assert order is not None
    assert (order.open, order.reserved, order.cancelled) == (0, 2, 3)
    history.write(ANNA, history.accept(ANNA, match))
    history.write(BERT, history.accept(BERT, match))
    outcome = history.close()
    assert outcome.trades == (match,)
    assert outcome.ended[0].reason == book.USER


def test_a_cancel_kills_earlier_places_of_its_epoch_and_never_later_ones() -> None:
    history = History()
    entry = history.write(
        ANNA,
        Cancel(Seq(0), 2),  # later: no effect
        sell(100, 1),
        sell(101, 1),
        Cancel(Seq(0), 1),
        sell(100, 7),
        Cancel(Seq(1), 0),  # later, in the next entry
    )
    history.write(ANNA, sell(102, 1))
    outcome = history.close()
    assert outcome.refusals == ((OrderId(ANNA.address, entry.seq, 1), Refusal.CANCELLED),)
    assert history.book(Side.SELL) == [(100, 7), (101, 1), (102, 1)]


def test_cancel_all_takes_back_what_stands_before_it() -> None:
    history = History()
    history.place(ANNA, sell(100, 1))
    history.write(ANNA, sell(101, 1), CancelAll(), sell(102, 1))
    history.write(BERT, sell(103, 1))
    history.close()
    assert history.book(Side.SELL) == [(102, 1), (103, 1)]


def test_a_cancel_names_only_orders_of_its_own_log() -> None:
    history = History()
    history.place(ANNA, sell(100, 1))
    history.write(BERT, cancel(OrderId(ANNA.address, Seq(0), 0)), CancelAll())
    history.close()
    assert history.book(Side.SELL) == [(100, 1)]


def test_an_amended_order_has_new_priority() -> None:
    history = History()
    first = history.place(ANNA, sell(100, 1))
    second = history.place(BERT, sell(100, 1))
    history.write(ANNA, Amend(first.seq, first.position, sell(100, 1)))
    history.close()
    history.place(CARL, buy(100, 1))
    assert history.outcomes[-1].matches[0].maker == second
    history.place(CARL, buy(100, 1))
    assert history.outcomes[-1].matches[0].maker == OrderId(ANNA.address, Seq(1), 0)


# --- times ---


def test_gtt_ends_when_epoch_time_reaches_its_expiry() -> None:
    history = History()
    order = history.place(ANNA, sell(100, 1, GTT, expiry=START + 1000))
    history.close(time_ms=START + 999)
    assert history.open(order) == 1
    outcome = history.close(time_ms=START + 1000)
    assert [(o.id, o.reason) for o in outcome.ended] == [(order, book.EXPIRED)]
    history.write(ANNA, sell(100, 1, GTT, expiry=START + 1000))
    assert history.close(time_ms=START + 1000).refusals[0][1] == Refusal.EXPIRED


def test_gte_is_good_till_the_end_of_its_epoch() -> None:
    history = History()
    order = history.place(ANNA, sell(100, 1, GTE, expiry=2))
    history.place(BERT, buy(90, 1, GTE, expiry=2))
    assert history.open(order) == 1
    history.place(CARL, buy(100, 1, GTE, expiry=2))
    assert history.outcomes[-1].matches == ()
    assert history.outcomes[-1].refusals[0][1] == Refusal.EXPIRED
    assert history.order(order) is None


def test_every_order_ends_with_the_lifetime() -> None:
    history = History(order_lifetime_ms=1000)
    order = history.place(ANNA, sell(100, 1))
    long = history.place(ANNA, sell(100, 1, GTT, expiry=START + 1_000_000))
    history.close(time_ms=START + EPOCH_MS + 999)
    assert (history.open(order), history.open(long)) == (1, 1)
    history.close(time_ms=START + EPOCH_MS + 1000)
    assert (history.open(order), history.open(long)) == (0, 1)
    history.close(time_ms=START + 2 * EPOCH_MS + 1000)
    assert history.open(long) == 0


# --- limits ---


def test_places_cost_tokens_which_come_back_by_the_round() -> None:
    history = History(operations_burst=3, operations_per_round=2)
    history.write(ANNA, *[sell(100 + i, 1) for i in range(5)])
    assert Counter(why for _, why in history.close().refusals) == {Refusal.RATE: 2}
    history.write(ANNA, CancelAll(), sell(100, 1), sell(100, 1), sell(100, 1))
    assert Counter(why for _, why in history.close().refusals) == {Refusal.RATE: 1}
    history.close(rounds=50)
    history.write(ANNA, *[Amend(Seq(1), i, sell(100, 1)) for i in range(1, 5)])
    assert Counter(why for _, why in history.close().refusals) == {Refusal.RATE: 1}


def test_cancels_and_accepts_cost_nothing() -> None:
    history, match = matched(operations_burst=1, operations_per_round=1)
    history.write(ANNA, history.accept(ANNA, match), CancelAll(), Cancel(Seq(0), 0), sell(90, 1))
    outcome = history.close()
    assert outcome.refusals == ()
    assert outcome.placed == 1


def test_rounds_go_on_counting_in_the_next_era() -> None:
    history = History(operations_burst=8, operations_per_round=1, rounds_per_era=4)
    history.write(ANNA, *[sell(100, 1) for _ in range(8)])
    history.close(rounds=3)
    history.write(ANNA, *[sell(100, 1) for _ in range(8)])
    outcome = history.close(era=1, rounds=2)  # 1 * 4 + 2 - 3 rounds later
    assert outcome.placed == 3


def test_an_author_has_so_many_live_orders_and_no_more() -> None:
    history = History(open_orders=2)
    history.write(ANNA, *[sell(100, 2) for _ in range(3)])
    outcome = history.close()
    assert [why for _, why in outcome.refusals] == [Refusal.OPEN_ORDERS]
    history.place(BERT, buy(100, 4))  # reserved ones are as live as open ones
    history.write(ANNA, sell(100, 2))
    assert history.close().refusals[0][1] == Refusal.OPEN_ORDERS


# --- delegation ---


def test_a_session_key_trades_for_its_owner_from_the_next_epoch_on() -> None:
    history = History([(ANNA, 7)])
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
    history.write(DORA, sell(100, 1))
    assert history.close().refusals[0][1] == Refusal.SESSION
    history.place(BERT, buy(100, 1, min_reputation=7))
    history.place(DORA, sell(100, 1))
    assert len(history.outcomes[-1].matches) == 1, "the owner's reputation is the session's"
    history.place(DORA, sell(101, 1))
    history.place(ANNA, buy(101, 1))
    assert history.outcomes[-1].matches == (), "owner and session are one: no trade with oneself"


def test_nobody_is_bound_without_consent() -> None:
    history = History([(BERT, 1)])
    stolen = history.delegate(CARL, DORA, 10, START + 60_000)
    altered = history.delegate(ANNA, DORA, 10, START + 60_000)._replace(cap=Lots(11))
    listed = history.delegate(ANNA, BERT, 10, START + 60_000)
    history.write(ANNA, stolen, altered, listed)
    history.close()
    for key in (BERT, DORA):
        account = history.fold.accounts.get(key.address)
        assert account is None or account.binding is None


def test_a_bound_key_stays_its_owners_and_binds_no_other() -> None:
    history = History()
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
    history.close()
    history.write(BERT, history.delegate(BERT, DORA, 10, START + 60_000))
    history.write(DORA, history.delegate(DORA, EMIL, 10, START + 60_000))
    history.close()
    account = history.fold.accounts[DORA.address]
    assert account.binding is not None
    assert account.binding.owner == ANNA.address
    assert EMIL.address not in history.fold.accounts


def test_revoking_ends_the_sessions_orders_in_the_next_epoch() -> None:
    history = History()
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
    history.close()
    history.place(DORA, sell(100, 1))
    history.write(BERT, Delegate(DORA.address, Lots(0), 0, b""))  # not his to revoke
    history.write(ANNA, Delegate(DORA.address, Lots(0), 0, b""))
    history.write(DORA, sell(101, 1))
    history.close()
    assert history.book(Side.SELL) == [(100, 1), (101, 1)]
    history.write(DORA, sell(102, 1))
    assert history.close().refusals[0][1] == Refusal.SESSION
    assert history.book(Side.SELL) == []


def test_revoking_twice_revokes_once() -> None:
    history = History()
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
    history.close()
    history.write(ANNA, Delegate(DORA.address, Lots(0), 0, b""))
    history.skip(3)
    history.write(ANNA, Delegate(DORA.address, Lots(0), 0, b""))
    history.write(DORA, sell(100, 1))
    assert history.close().refusals[0][1] == Refusal.SESSION


def test_renewing_a_delegation_does_not_interrupt_it() -> None:
    history = History()
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 2000))
    history.close()
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
    history.write(DORA, sell(100, 1))
    assert history.close().refusals == ()
    history.write(DORA, sell(100, 1))
    assert history.close(time_ms=START + 3000).refusals == ()


def test_a_key_bound_again_in_the_epoch_of_its_revocation_keeps_its_orders() -> None:
    history = History()
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
    history.close()
    history.place(DORA, sell(100, 1))
    history.write(
        ANNA,
        Delegate(DORA.address, Lots(0), 0, b""),
        history.delegate(ANNA, DORA, 20, START + 60_000),
    )
    history.skip(2)
    # The state says bound and says nothing of a revocation; what follows must follow from it.
    assert history.book(Side.SELL) == [(100, 1)]


def test_a_delegation_ends_with_its_time_and_the_sessions_orders_with_it() -> None:
    history = History()
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 2000))
    history.close()
    history.place(DORA, sell(100, 1))
    history.write(DORA, sell(100, 1))
    outcome = history.close(time_ms=START + 2000)
    assert outcome.refusals[0][1] == Refusal.SESSION
    assert history.book(Side.SELL) == []


def test_a_session_has_at_most_its_cap_open_and_unsettled() -> None:
    history = History()
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
    history.close()
    history.place(DORA, sell(100, 6))
    history.place(BERT, buy(100, 6))  # reserved lots count
    history.write(DORA, sell(100, 5))
    assert history.close().refusals[0][1] == Refusal.SESSION
    history.place(DORA, sell(100, 4))
    assert history.open(OrderId(DORA.address, Seq(2), 0)) == 4


def test_a_refused_place_takes_no_room_under_the_cap() -> None:
    reasons = set()
    for epochs in range(4):  # four draws of which place comes first
        history = History()
        history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
        history.close()
        history.skip(epochs)
        history.write(DORA, *[sell(100, 10, GTE, expiry=1) for _ in range(8)], sell(100, 10))
        outcome = history.close()
        assert outcome.placed == 1
        reasons |= {why for _, why in outcome.refusals}
    assert Refusal.EXPIRED in reasons


# --- forks ---


def test_a_fork_shown_in_evidence_freezes_its_author_at_once() -> None:
    history = History(accept_deadline_epochs=2)
    history.place(ANNA, sell(100, 5))
    order = history.place(ANNA, sell(101, 5))
    bound_taker = history.place(BERT, buy(100, 1))
    bound = history.outcomes[-1].matches[0]
    history.write(ANNA, history.accept(ANNA, bound))
    history.write(BERT, history.accept(BERT, bound))
    history.close()
    taker = history.place(BERT, buy(100, 2))
    match = history.outcomes[-1].matches[0]
    history.write(CARL, history.fork(ANNA))
    history.write(ANNA, sell(90, 1), history.accept(ANNA, match))
    history.write(BERT, history.accept(BERT, match))
    outcome = history.close()
    assert outcome.frozen == (ANNA.address,)
    assert [(row.match, row.silent) for row in outcome.lapses] == [(match, (ANNA.address,))]
    assert history.book(Side.SELL) == []
    assert history.open(taker) == 2
    assert history.order(order) is None
    assert history.order(bound_taker) is None, "trades stand"
    assert history.fold.accounts[ANNA.address].next_seq == 3, "the frozen entry is dropped"


def test_a_fork_committed_by_the_clock_freezes_even_an_unknown_author() -> None:
    history = History()
    outcome = history.close(forked=[EMIL])
    assert outcome.frozen == (EMIL.address,)
    assert history.fold.is_frozen(EMIL.address)
    assert history.close(forked=[EMIL]).frozen == ()


def test_evidence_that_shows_nothing_does_nothing() -> None:
    history = History()
    good = history.fork(ANNA)
    history.write(
        BERT,
        Evidence(good.kind, good.first, good.first),
        Evidence(1, good.first, good.second),
        Evidence(good.kind, b"", b"\xff"),
        Evidence(good.kind, good.first, good.second[:-1] + b"\x1d"),
    )
    assert history.close().frozen == ()


# --- the rest ---


def test_announcements_replace_each_other() -> None:
    history = History()
    history.write(ANNA, Announce(("eip155:1:0xab",)), Announce(("solana:x:y", "bip122:z:w")))
    history.close()
    assert history.fold.accounts[ANNA.address].announced == ("solana:x:y", "bip122:z:w")


def test_who_is_eligible() -> None:
    history = History([(ANNA, 0)], is_open=False)
    fold = history.fold
    assert fold.is_eligible(ANNA.address)
    assert not fold.is_eligible(DORA.address)
    history.write(ANNA, history.delegate(ANNA, DORA, 1, START + 60_000))
    history.close()
    assert fold.is_eligible(DORA.address)
    assert History().fold.is_eligible(DORA.address)


def test_the_root_names_orders_matches_and_accounts() -> None:
    def roots(place: Place, **how: int) -> bytes:
        history = History()
        history.write(ANNA, place)
        return history.close(**how).root

    variants = [
        roots(sell(100, 1)),
        roots(sell(100, 2)),
        roots(buy(100, 1)),
        roots(sell(100, 1), time_ms=START + 1),
        roots(sell(100, 1), rounds=2),
    ]
    assert len(set(variants)) == len(variants)
    assert roots(sell(100, 1)) == variants[0]


def test_facts_that_do_not_follow_raise_and_change_nothing() -> None:
    history = History()
    first = history.place(ANNA, sell(100, 3))
    history.place(BERT, buy(100, 1))
    good = history.next_facts()
    stranger = history.entry(CARL, 1, Digest(bytes(31) + b"\1"), buy(1, 1))
    again = history.entry(ANNA, 0, Digest(ZERO32), sell(100, 3))
    gap = history.entry(ANNA, 2, Digest(bytes(31) + b"\1"), sell(100, 3))
    side = history.entry(ANNA, 1, Digest(bytes(31) + b"\1"), sell(100, 3))
    fresh = [history.entry(key, 0, Digest(ZERO32), buy(1, 1)) for key in (CARL, DORA)]
    for facts in (
        good._replace(epoch=good.epoch + 1),
        good._replace(epoch=good.epoch - 1),
        good._replace(time_ms=history.fold.time_ms - 1),
        good._replace(entries=(stranger,)),
        good._replace(entries=(again,)),
        good._replace(entries=(gap,)),
        good._replace(entries=(side,)),
        good._replace(entries=(fresh[1], fresh[0])),
        good._replace(entries=(fresh[0], fresh[0])),
    ):
        with pytest.raises(IllegalTransitionError):
            history.fold.apply(facts)
        assert_equal_to_reference(history)
    assert history.open(first) == 2
    history.close()
    assert_equal_to_reference(history)


# --- any history at all ---


def assert_equal_to_reference(history: History) -> None:
    """Everything observable of the fold against a computation from scratch."""
    fold, outcome = history.fold, history.outcomes[-1]
    reference = ReferenceFold(history.genesis, history.market_id, history.facts, history.rosters)
    assert [(m.id, m.maker, m.taker, m.price, m.quantity) for m in outcome.matches] == [
        (m.id, m.maker.id, m.taker.id, m.price, m.quantity) for m in reference.matched
    ]
    assert [m.id for m in outcome.trades] == [m.id for m in reference.traded]
    assert [(row.match.id, sorted(set(row.silent))) for row in outcome.lapses] == [
        (match.id, sorted(set(silent))) for match, silent in reference.lapsed
    ]
    assert sorted(outcome.refusals) == sorted(reference.refused)
    assert outcome.frozen == reference.frozen
    assert outcome.placed == reference.placed
    assert {o.id: accounts_of(o) for o in fold.live_orders()} == {
        o.id: accounts_of(o) for o in reference.live()
    }
    assert fold.live_order_count == len(reference.live())
    was_live = {order.id for order in reference.alive_before}
    arrived = {order.id for order in reference.orders if order.epoch == fold.epoch}
    now_live = {order.id for order in reference.live()}
    assert Counter(o.id for o in outcome.ended) == Counter((was_live | arrived) - now_live)
    for side in Side:
        assert [o.id for o in fold.book.orders(side)] == [o.id for o in reference.resting(side)]
    assert outcome.root == fold.root == reference.root


def accounts_of(order: object) -> tuple[object, ...]:
    names = ("open", "reserved", "filled", "cancelled", "ended", "owner", "epoch", "rank")
    return tuple(getattr(order, name) for name in names)


class Ledger:
    """I3 and I4, from what the fold says it did and nothing else."""

    def __init__(self) -> None:
        self.placed: dict[OrderId, Place] = {}
        self.filled: Counter[OrderId] = Counter()
        self.pending: dict[bytes, Match] = {}
        self.positions: defaultdict[str, int] = defaultdict(int)
        self.resting: dict[OrderId, int] = {}

    def check(self, history: History) -> None:
        fold, facts, outcome = history.fold, history.facts[-1], history.outcomes[-1]
        for entry in facts.entries:
            for position, operation in enumerate(entry.operations):
                order_id = OrderId(entry.author, entry.seq, position)
                if isinstance(operation, Place):
                    self.placed[order_id] = operation
                elif isinstance(operation, Amend):
                    self.placed[order_id] = operation.order
        for match in outcome.matches:
            self.pending[match.id] = match
        for match in outcome.trades:
            del self.pending[match.id]
            for order_id in (match.maker, match.taker):
                side = "bought" if self.placed[order_id].side == Side.BUY else "sold"
                self.positions[side] += match.quantity
                self.filled[order_id] += match.quantity
        for row in outcome.lapses:
            del self.pending[row.match.id]
        self._check_conservation(history, outcome)
        self._check_priority(history, outcome)
        self.resting = {o.id: o.open for o in fold.live_orders() if o.open > 0}

    def _check_conservation(self, history: History, outcome: EpochOutcome) -> None:
        assert self.positions["bought"] == self.positions["sold"]
        reserved: Counter[OrderId] = Counter()
        for match in self.pending.values():
            reserved[match.maker] += match.quantity
            reserved[match.taker] += match.quantity
        live = {order.id: order for order in history.fold.live_orders()}
        for order in [*live.values(), *outcome.ended]:
            place = self.placed[order.id]
            parts = (order.open, order.reserved, order.filled, order.cancelled)
            assert min(parts) >= 0
            assert sum(parts) == place.quantity
            assert order.filled == self.filled[order.id]
            assert order.reserved == reserved[order.id]
        for order_id in list(reserved) + list(self.filled):
            in_all = reserved[order_id] + self.filled[order_id]
            assert in_all <= self.placed[order_id].quantity
            assert order_id in live or not reserved[order_id]
        resting = {order.id for side in Side for order in history.fold.book.orders(side)}
        assert resting == {order.id for order in live.values() if order.open > 0}

    def _check_priority(self, history: History, outcome: EpochOutcome) -> None:
        """No fill passed over an order that was on the book before and after, and was better."""
        for match in outcome.matches:
            maker, taker = self.placed[match.maker], self.placed[match.taker]
            assert maker.side != taker.side
            assert match.price == maker.price
            sign = 1 if maker.side == Side.SELL else -1
            assert sign * taker.price >= sign * match.price
            maker_epoch = epoch_of(history, match.maker)
            for other in history.fold.book.orders(maker.side):
                if other.id not in self.resting or other.owner == owner_of(history, match.taker):
                    continue
                if other.min_score > score_of(history, match.taker):
                    continue
                if other.score < taker.min_reputation:
                    continue
                better = (sign * other.price, other.epoch) < (sign * match.price, maker_epoch)
                assert not better, f"{match} passed over {other.id}"


def epoch_of(history: History, order_id: OrderId) -> int:
    for facts in history.facts:
        for entry in facts.entries:
            if (entry.author, entry.seq) == (order_id.author, order_id.seq):
                return facts.epoch
    raise AssertionError("an order that nobody placed")


def owner_of(history: History, order_id: OrderId) -> bytes:
    account = history.fold.accounts[order_id.author]
    return order_id.author if account.binding is None else account.binding.owner


def score_of(history: History, order_id: OrderId) -> int:
    return history.fold.accounts[order_id.author].reputation


# A move says what somebody does, with small numbers that are looked up in the present state.
SMALL = st.integers(0, 7)
PLACES = st.builds(
    lambda side, price, lots, flavour, self_trade, amount: (
        "place", side, price, lots, flavour, self_trade, amount,
    ),
    st.integers(0, 1),
    st.integers(98, 102),
    st.integers(1, 9),
    st.sampled_from(
        ["", "", "", "", "", "gtt", "gte", "ioc", "fok", "post", "least", "slip", "score"]
    ),
    st.integers(0, 2),
    SMALL,
)  # fmt: skip
OPERATIONS = st.one_of(
    PLACES,
    PLACES,
    PLACES,
    PLACES,
    st.tuples(st.just("cancel"), SMALL),
    st.tuples(st.just("amend"), SMALL, PLACES),
    st.sampled_from([("cancel_all",), ("announce",), ("revoke", 3), ("revoke", 4)]),
    st.tuples(st.just("delegate"), st.sampled_from([1, 2, 3, 3, 3, 4]), SMALL, st.booleans()),
)
ACCEPTS = st.tuples(SMALL, st.sampled_from(["both", "both", "maker", "taker", "bad", "stranger"]))
EPOCHS = st.fixed_dictionaries(
    {
        "entries": st.lists(
            st.tuples(st.integers(0, 4), st.lists(OPERATIONS, min_size=1, max_size=6)), max_size=4
        ),
        "accepts": st.lists(ACCEPTS, max_size=4),
        "evidence": st.sampled_from([None] * 30 + [0, 1, 2, 3, 4]),
        "forked": st.sampled_from([None] * 30 + [0, 1, 2, 3, 4]),
        "reports": st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), max_size=4),
        "passes_ms": st.sampled_from([0, 250, 250, 250, 250, 2000, 9000]),
        "rounds": st.integers(1, 3),
        "standings": st.one_of(
            st.none(),
            st.none(),
            st.lists(
                st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 3000)),
                max_size=4,
                unique_by=itemgetter(0),
            ),
        ),
    }
)
HISTORIES = st.tuples(
    st.sampled_from(["wide", "tight", "elected"]), st.lists(EPOCHS, min_size=2, max_size=9)
)


LIMITS: dict[str, dict[str, int]] = {
    "wide": {},
    "tight": dict(operations_burst=6, operations_per_round=2, open_orders=4),
    # A trade is at risk with all that it is worth: what may be at stake is the bond.
    "elected": dict(
        elected_witnesses=4,
        era_ms=8000,
        pin_ms=6000,
        handover_ms=2000,
        trade_lifetime_ms=4000,
        volatility_ppm=293_938_769,
        market_operations_per_round=6,
        market_operations_burst=24,
        market_open_orders=12,
        lane_operations_per_round=1,
        lane_operations_burst=4,
        lane_open_orders=3,
        lane_order_notional=700,
    ),
}


class Play:
    """Turns moves into operations that mean something in the present state."""

    def __init__(self, kind: str) -> None:
        self.history = History(
            [(ANNA, 2500), (BERT, 1500)] if kind == "elected" else [(ANNA, 5), (BERT, 3)],
            accept_deadline_epochs=2,
            penalty_epochs=4,
            order_lifetime_ms=15_000,
            **LIMITS[kind],
        )
        self.placed: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
        self.written: defaultdict[Key, list[Operation]] = defaultdict(list)

    def play(self, moves: dict) -> None:
        history = self.history
        if history.rosters and history.facts and moves["standings"] is not None:
            history.begin_era((KEYS[who], *worth) for who, *worth in moves["standings"])
        for number, operations in moves["entries"]:
            self._operations(KEYS[number], operations)
        pending = list(history.fold.matches.values())
        for number, who in moves["accepts"]:
            if pending:
                self._accept(pending[number % len(pending)], who)
        if moves["evidence"] is not None:
            self.written[CARL].append(history.fork(KEYS[moves["evidence"]]))
        for key, operations in self.written.items():
            if not history.fold.is_frozen(key.address):
                operations = merged(operations)
                half = len(operations) // 2 if len(operations) > 4 else 0
                for part in (operations[:half], operations[half:]):
                    if part:
                        history.write(key, *part)
        self.written.clear()
        epoch = history.fold.epoch
        history.close(
            time_ms=history.fold.time_ms + moves["passes_ms"],
            rounds=moves["rounds"],
            forked=[] if moves["forked"] is None else [KEYS[moves["forked"]]],
            reports=[(number, max(0, epoch - back)) for number, back in moves["reports"]],
        )

    def _operations(self, key: Key, moves: list[tuple]) -> None:
        history = self.history
        seq = history.heads.get(key.address, (0, b""))[0]
        placed = self.placed[key.address]
        for move in moves:
            position = len(self.written[key])
            operation: Operation
            if move[0] == "place":
                operation = self._place(*move[1:])
                placed.append((seq, position))
            elif move[0] in ("cancel", "amend"):
                target = placed[-1 - move[1] % len(placed)] if placed else (0, move[1])
                operation = Cancel(Seq(target[0]), target[1])
                if move[0] == "amend":
                    place = self._place(*move[2][1:])
                    operation = Amend(Seq(target[0]), target[1], place)
                    placed.append((seq, position))
            elif move[0] == "cancel_all":
                operation = CancelAll()
            elif move[0] == "announce":
                operation = Announce((f"eip155:1:{seq}",))
            elif move[0] == "revoke":
                operation = Delegate(KEYS[move[1]].address, Lots(0), 0, b"")
            else:
                expiry_ms = history.fold.time_ms + 1000 * move[2]
                session = KEYS[move[1]]
                operation = history.delegate(key, session, 4 * move[2], expiry_ms)
                if not move[3]:
                    operation = operation._replace(cap=Lots(operation.cap + 1))
            self.written[key].append(operation)

    def _place(
        self, side: int, price: int, lots: int, flavour: str, self_trade: int, amount: int
    ) -> Place:
        fold = self.history.fold
        terms: dict[str, int] = {
            "gtt": dict(time_in_force=GTT, expiry=fold.time_ms + 500 * amount + 1),
            "gte": dict(time_in_force=GTE, expiry=fold.epoch + amount),
            "ioc": dict(time_in_force=IOC),
            "fok": dict(time_in_force=FOK),
            "post": dict(post_only=1),
            "least": dict(min_quantity=min(amount, lots)),
            "slip": dict(max_slippage=amount // 2),
            "score": dict(min_reputation=amount),
        }.get(flavour, {})
        if terms.get("expiry") == 0:
            terms = {}
        return Place(
            side,
            price,  # type: ignore[arg-type]
            lots,  # type: ignore[arg-type]
            self_trade=SelfTrade(self_trade),
            **terms,  # type: ignore[arg-type]
        )

    def _accept(self, match: Match, who: str) -> None:
        history = self.history
        parties = {key.address: key for key in KEYS}
        maker, taker = parties[match.maker.author], parties[match.taker.author]
        if who in ("both", "maker"):
            self.written[maker].append(history.accept(maker, match, b"m"))
        if who in ("both", "taker"):
            self.written[taker].append(history.accept(taker, match, b"t"))
        if who == "bad":
            self.written[maker].append(no_such_match(history.accept(maker, match)))
        if who == "stranger":
            self.written[EMIL].append(history.accept(EMIL, match))


def merged(operations: list[Operation]) -> list[Operation]:
    """The same with one accept for all matches, at the end: an entry has but one. Unsigned."""
    named = {
        accepted.match_id: accepted
        for operation in operations
        if isinstance(operation, Accept)
        for accepted in reversed(operation.matches)
    }
    rest = [operation for operation in operations if not isinstance(operation, Accept)]
    return [*rest, Accept(tuple(sorted(named.values())), bytes(65))] if named else rest


def random_moves(dice: random.Random) -> dict:
    """An epoch of an ordinary day, where the strategies above like the extreme."""

    def place() -> tuple:
        flavour = dice.choice([""] * 8 + ["gtt", "gte", "ioc", "fok", "post", "least", "slip"])
        flavour = "score" if dice.random() < 0.03 else flavour
        side, price = dice.randint(0, 1), dice.randint(98, 102)
        return ("place", side, price, dice.randint(1, 9), flavour, dice.randint(0, 2), number())

    def number() -> int:
        return dice.randint(0, 7)

    def operation() -> tuple:
        draw = dice.random()
        if draw < 0.8:
            return place()
        if draw < 0.94:
            return dice.choice([("cancel", number()), ("amend", number(), place())])
        if draw < 0.96:
            return dice.choice([("cancel_all",), ("announce",), ("revoke", dice.randint(3, 4))])
        return ("delegate", dice.randint(3, 4), dice.randint(2, 7), dice.random() < 0.9)

    def sometimes(chance: float) -> int | None:
        return dice.randint(0, 4) if dice.random() < chance else None

    return {
        "entries": [
            (dice.randint(0, 4), [operation() for _ in range(dice.randint(1, 5))])
            for _ in range(dice.randint(0, 4))
        ],
        "accepts": [
            (number(), dice.choice(["both"] * 5 + ["maker", "taker", "bad", "stranger"]))
            for _ in range(dice.randint(0, 4))
        ],
        "evidence": sometimes(0.01),
        "forked": sometimes(0.01),
        "reports": [(n, dice.randint(-1, 3)) for n in range(4) if dice.random() < 0.7],
        "passes_ms": dice.choice([0, 250, 250, 250, 250, 2000, 5000]),
        "rounds": dice.randint(1, 3),
        "standings": [
            (who, dice.randint(0, 9), dice.randint(0, 3000))
            for who in dice.sample(range(5), dice.randint(0, 4))
        ]
        if dice.random() < 0.2
        else None,
    }


COVERED: Counter[str] = Counter()


def run_and_compare(kind: str, epochs: Iterable[dict], is_restored: bool = False) -> None:
    play, ledger = Play(kind), Ledger()
    for moves in epochs:
        play.play(moves)
        if is_restored:
            play.history.restore()
        ledger.check(play.history)
        assert_equal_to_reference(play.history)
    for outcome in play.history.outcomes:
        COVERED["matches"] += len(outcome.matches)
        COVERED["trades"] += len(outcome.trades)
        COVERED["lapses"] += len(outcome.lapses)
        COVERED["freezes"] += len(outcome.frozen)
        for order in outcome.ended:
            COVERED[book.REASON_NAMES[order.reason]] += 1
        for _, why in outcome.refusals:
            COVERED[why.name] += 1


@settings(
    max_examples=80,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(HISTORIES)
def test_any_history_gives_what_the_naive_fold_gives(history: tuple[str, list[dict]]) -> None:
    run_and_compare(*history)


@settings(
    max_examples=40,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(HISTORIES)
def test_a_fold_restored_from_its_leaves_goes_on_as_if_nothing_had_been(
    history: tuple[str, list[dict]],
) -> None:
    run_and_compare(*history, is_restored=True)


def test_ordinary_days_give_what_the_naive_fold_gives_and_reach_everything() -> None:
    COVERED.clear()
    for seed in range(60):
        dice = random.Random(seed)
        kind = ("tight", "wide", "elected")[seed % 3]
        moves = [random_moves(dice) for _ in range(14)]
        run_and_compare(kind, moves, is_restored=seed % 2 == 1)
    reached = ("matches", "trades", "lapses", "freezes", *Refusal.__members__, *book.REASON_NAMES)
    missed = [what for what in reached if COVERED[what] < 5]
    assert not missed, f"the days hardly reach {missed}: {COVERED}"


def test_a_key_with_live_orders_of_its_own_is_nobodys_session_key() -> None:
    history = History([(ANNA, 7)])
    history.write(DORA, sell(100, 1))
    history.close()
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
    history.close()
    history.write(DORA, buy(100, 1))
    outcome = history.close()
    # It still is itself, so its own order is not a stranger's.
    assert not outcome.matches
    assert outcome.ended[0].reason == book.STP
