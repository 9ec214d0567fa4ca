"""What an owner may do, where everybody has the same and where reputation divides it."""

from __future__ import annotations

from fold_history import ANNA, BERT, CARL, DORA, EMIL, START, History, buy, sell
from hypothesis import given
from hypothesis import strategies as st
from network import Key, make_genesis

from orrange_p2p.core import book, limits
from orrange_p2p.core.fold import Refusal
from orrange_p2p.core.genesis import Market, Parameters
from orrange_p2p.core.ids import Address, Era
from orrange_p2p.core.limits import LANE, UNIT, Share, shares_of
from orrange_p2p.core.matches import Match
from orrange_p2p.core.operations import Cancel
from orrange_p2p.core.roster import Pin, Roster, Standing, of_genesis

MARKET = make_genesis(1).markets[0]
ALL_AT_RISK = 293_938_769
"""Volatility by which a trade of four seconds may lose all that it is worth."""


def elected(**parameters: int) -> History:
    """Anna has three quarters of the reputation, Bert one; each may have 1,000 at stake."""
    chosen = dict(
        elected_witnesses=4,
        era_ms=8000,
        pin_ms=6000,
        handover_ms=2000,
        trade_lifetime_ms=4000,
        volatility_ppm=ALL_AT_RISK,
        market_operations_per_round=8,
        market_operations_burst=40,
        market_open_orders=16,
        lane_operations_per_round=1,
        lane_operations_burst=2,
        lane_open_orders=2,
        lane_order_notional=500,
    )
    history = History([(ANNA, 3000), (BERT, 1000)], **(chosen | parameters))
    history.close()
    history.begin_era([(ANNA, 3000, 1000), (BERT, 1000, 1000)])
    history.close()
    return history


def refusals(history: History) -> list[Refusal]:
    return [why for _, why in history.outcomes[-1].refusals]


# --- shares ---


def test_reputation_divides_what_the_market_bears() -> None:
    history = elected()
    account = history.fold.accounts
    history.write(ANNA, *(buy(1, 1) for _ in range(14)))
    history.write(BERT, *(buy(1, 1) for _ in range(5)))
    history.close()
    assert refusals(history) == [Refusal.OPEN_ORDERS] * 3
    assert (account[ANNA.address].live_orders, account[BERT.address].live_orders) == (12, 4)
    assert account[ANNA.address].tokens == (30 - 14) * UNIT
    history.close(rounds=2)
    history.write(ANNA, Cancel(history.heads[ANNA.address][0] - 1, 0))  # type: ignore[arg-type]
    history.close()
    assert account[ANNA.address].tokens == min(30, 30 - 14 + 3 * 6) * UNIT


def test_a_share_of_less_than_an_operation_each_round_adds_up() -> None:
    history = elected(market_operations_per_round=1, market_operations_burst=4)
    history.write(BERT, buy(1, 1), buy(1, 1))
    history.close()
    assert refusals(history) == [Refusal.RATE]
    history.close(rounds=2)
    history.write(BERT, buy(1, 1))
    history.close()
    assert refusals(history) == [Refusal.RATE]
    history.write(BERT, buy(1, 1))
    history.close()
    assert refusals(history) == []


def test_session_keys_draw_on_what_their_owner_has() -> None:
    history = History([(ANNA, 7)], open_orders=2, operations_burst=3, operations_per_round=1)
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000), buy(1, 1))
    history.close()
    history.write(DORA, buy(1, 1), buy(1, 1))
    history.close()
    assert refusals(history) == [Refusal.OPEN_ORDERS]
    history.write(DORA, buy(1, 1), buy(1, 1), buy(1, 1))
    history.close()
    assert refusals(history) == [Refusal.RATE, Refusal.OPEN_ORDERS, Refusal.OPEN_ORDERS]


def test_a_silent_session_key_halves_its_owner() -> None:
    history = History([(ANNA, 7)], open_orders=2, accept_deadline_epochs=1)
    history.write(ANNA, history.delegate(ANNA, DORA, 10, START + 60_000))
    history.close()
    history.write(DORA, sell(5, 1))
    history.write(BERT, buy(5, 1))
    history.close()
    history.see()
    history.skip(2)
    assert history.fold.accounts[ANNA.address].halved_until > history.fold.epoch
    history.write(ANNA, buy(1, 1), buy(1, 1))
    history.close()
    assert refusals(history) == [Refusal.OPEN_ORDERS]


STANDINGS = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 10**9)), min_size=1, max_size=12
)


def roster_of(worth: list[tuple[int, int]]) -> Roster:
    seats = of_genesis(make_genesis(1), MARKET.id).seats
    names = sorted(Address(bytes(16) + (i + 1).to_bytes(4, "big")) for i in range(len(worth)))
    standings = [Standing(name, *one) for name, one in zip(names, worth, strict=True)]
    return Roster(Era(0), Pin(0, bytes(32)), seats, tuple(standings))


def total(worth: list[tuple[int, int]], names: range, parameters: Parameters) -> Share:
    """What some of them have together."""
    roster = roster_of(worth)
    shares = shares_of(roster, parameters, MARKET)
    mine = [shares.get(roster.standings[i].author, Share(0, 0, 0, 0)) for i in names]
    return Share(*(sum(column) for column in zip(*mine, strict=True)))


@given(STANDINGS, st.integers(1, 1000), st.integers(1, 10**6), st.integers(0, 10**9))
def test_whoever_splits_gains_nothing_and_loses_less_than_one_of_each(
    others: list[tuple[int, int]], parts: int, reputation: int, bond: int
) -> None:
    parameters = Parameters(elected_witnesses=4)
    pieces = [(reputation // parts, bond // parts)] * (parts - 1)
    pieces.append((reputation - sum(r for r, _ in pieces), bond - sum(b for _, b in pieces)))
    whole = total([(reputation, bond), *others], range(1), parameters)
    split = total([*pieces, *others], range(parts), parameters)
    assert all(few <= one for few, one in zip(split, whole, strict=True))
    shares = shares_of(roster_of([*pieces, *others]), parameters, MARKET)
    if len(shares) == parts + len(others):  # nobody fell into the lane
        assert all(one - few < parts for few, one in zip(split, whole, strict=True))


@given(STANDINGS)
def test_all_shares_together_are_what_the_market_bears_or_less(
    worth: list[tuple[int, int]],
) -> None:
    parameters = Parameters(elected_witnesses=4)
    everybody = total(worth, range(len(worth)), parameters)
    assert everybody.refill <= parameters.market_operations_per_round * UNIT
    assert everybody.burst <= parameters.market_operations_burst * UNIT
    assert everybody.orders <= parameters.market_open_orders


def test_what_is_left_is_told() -> None:
    history = elected()
    history.place(ANNA, buy(100, 9))
    history.place(CARL, buy(1, 1))
    left = {key: history.fold.headroom(key.address) for key in (ANNA, BERT, CARL, DORA)}
    assert [one.operations for one in left.values()] == [30, 10, 1, 1]
    assert [one.orders for one in left.values()] == [1, 0, 1, 0]
    assert [one.stake for one in left.values()] == [900, 0, 1, 0]
    assert [one.in_lane for one in left.values()] == [False, False, True, True]
    assert left[ANNA].share.stake == 1000
    flat = History(operations_burst=3)
    flat.write(ANNA, buy(1, 1))
    flat.close()
    assert flat.fold.headroom(ANNA.address)[3:6] == (2, 1, None)


# --- the lane ---


def test_those_without_reputation_share_one_lane() -> None:
    history = elected()
    for key in (CARL, DORA, EMIL):
        history.write(key, buy(1, 1), buy(2, 1))
    outcome = history.close()
    # Two tokens for three first places: nobody gets a second before everybody had one.
    assert refusals(history) == [Refusal.RATE] * 4
    assert outcome.placed == 2
    assert len({order.id.author for order in history.fold.live_orders()}) == 2
    assert history.fold.accounts[LANE].tokens == 0
    history.close()
    history.write(CARL, buy(1, 1))
    history.close()
    assert history.fold.accounts[LANE].tokens == UNIT


def test_a_flood_takes_the_lane_from_nobody_for_good() -> None:
    """A crowd of 40 names writes 20 places each in every epoch, one honest author writes one: it
    gets its turn about once in as many epochs as there are first places for a token."""
    history = elected()
    crowd = [Key(500 + i) for i in range(40)]
    got = 0
    for _ in range(400):
        for key in crowd:
            history.write(key, *(buy(1, 1) for _ in range(20)))
        entry = history.write(EMIL, buy(1, 1))
        history.close()
        got += all(name[:2] != (EMIL.address, entry.seq) for name, _ in
                   history.outcomes[-1].refusals)  # fmt: skip
    assert 2 <= got <= 25, "about 400 / 41"


def test_when_the_lane_is_full_its_oldest_order_goes() -> None:
    history = elected()
    first = history.place(CARL, buy(1, 1))
    second = history.place(DORA, buy(1, 1))
    assert history.open(first) == 1
    third = history.place(EMIL, buy(1, 1))
    assert [history.open(name) for name in (first, second, third)] == [0, 1, 1]
    assert [order.reason for order in history.outcomes[-1].ended] == [book.EVICTED]
    history.restore()
    history.place(CARL, buy(1, 1))
    assert history.open(second) == 0


def test_an_order_of_the_lane_is_small() -> None:
    history = elected()
    history.place(CARL, buy(100, 6))
    assert refusals(history) == [Refusal.EXPOSURE]
    history.place(CARL, buy(100, 5))
    assert refusals(history) == []


def test_a_seller_of_the_lane_cannot_hide_behind_a_low_price() -> None:
    history = elected()
    history.place(ANNA, buy(100, 6))
    history.place(CARL, sell(1, 6))
    assert refusals(history) == [Refusal.EXPOSURE]


def test_who_leaves_a_match_of_the_lane_waits_out_the_penalty() -> None:
    history = elected(accept_deadline_epochs=1, penalty_epochs=3)
    history.place(ANNA, buy(5, 1))
    history.place(CARL, sell(5, 1))
    history.see()
    history.skip(2)
    history.place(CARL, buy(1, 1))
    assert refusals(history) == [Refusal.RATE]
    history.skip(3)
    history.place(CARL, buy(1, 1))
    assert refusals(history) == []


# --- what is at stake ---


def test_open_orders_and_trades_stay_within_the_bond() -> None:
    history = elected(accept_deadline_epochs=9)
    history.place(ANNA, buy(100, 6))
    history.place(ANNA, buy(100, 5))
    assert refusals(history) == [Refusal.EXPOSURE]
    history.place(BERT, sell(100, 6))
    (match,) = history.outcomes[-1].matches
    history.place(ANNA, buy(100, 5))
    assert refusals(history) == [Refusal.EXPOSURE], "reserved quantity is at stake, too"
    bind(history, match)
    history.place(ANNA, buy(100, 5))
    assert refusals(history) == [Refusal.EXPOSURE], "and so is a trade until it is settled"
    history.place(ANNA, buy(100, 4))
    assert refusals(history) == []


def bind(history: History, match: Match) -> None:
    history.write(ANNA, history.accept(ANNA, match))
    history.write(BERT, history.accept(BERT, match))
    assert history.close().trades


def test_a_trade_is_let_go_when_a_rosters_block_shows_its_end() -> None:
    history = elected(accept_deadline_epochs=9, trade_lifetime_ms=12_000)
    history.place(ANNA, buy(100, 5))
    history.place(BERT, sell(100, 5))
    bind(history, history.outcomes[-1].matches[0])
    bound = ((START + 16_000, 500),)  # twelve seconds, up to a full era
    assert history.fold.accounts[ANNA.address].bound == bound
    worth = [(ANNA, 3000, 1000), (BERT, 1000, 1000)]
    history.begin_era(worth)  # read at the last block stamped six seconds before the second end
    history.close()
    assert history.fold.accounts[ANNA.address].bound == bound
    history.place(ANNA, buy(100, 5))
    assert refusals(history) == [Refusal.EXPOSURE]
    history.begin_era(worth)  # 18 seconds
    history.close()
    assert history.fold.accounts[ANNA.address].bound == ()
    history.place(ANNA, buy(100, 5))
    assert refusals(history) == []


def test_a_sellers_stake_is_what_it_may_get() -> None:
    history = elected(accept_deadline_epochs=9)
    history.place(BERT, buy(100, 10))
    history.place(ANNA, sell(1, 10, time_in_force=3))
    assert refusals(history) == []
    assert limits.stake_of(history.fold.accounts[ANNA.address]) == 1000
    history.place(ANNA, sell(1, 1))
    assert refusals(history) == [Refusal.EXPOSURE]


def test_quantity_that_returns_where_it_no_longer_fits_is_evicted() -> None:
    history = elected(accept_deadline_epochs=1)
    kept = history.place(ANNA, sell(100, 10))
    history.place(BERT, buy(100, 10))
    history.see()
    history.write(ANNA, history.accept(ANNA, history.outcomes[-2].matches[0]))
    history.close()
    history.begin_era([(ANNA, 3000, 500), (BERT, 1000, 1000)])
    outcome = history.close()
    assert outcome.lapses
    assert history.order(kept) is None
    assert book.EVICTED in [order.reason for order in outcome.ended]


# --- another era ---


def test_whoever_is_above_its_new_share_loses_its_newest_orders() -> None:
    history = elected()
    names = [history.place(ANNA, buy(1, 1)) for _ in range(6)]
    history.begin_era([(ANNA, 1000, 1000), (BERT, 3000, 1000)])
    outcome = history.close()
    assert [history.open(name) for name in names] == [1, 1, 1, 1, 0, 0]
    assert [order.reason for order in outcome.ended] == [book.EVICTED] * 2


def test_whoever_is_above_its_new_bond_loses_its_newest_orders() -> None:
    history = elected()
    names = [history.place(ANNA, buy(100, 3)) for _ in range(3)]
    history.begin_era([(ANNA, 3000, 700), (BERT, 1000, 1000)])
    history.close()
    assert [history.open(name) for name in names] == [3, 3, 0]


def test_whoever_loses_its_bond_falls_to_the_lane_with_its_small_orders() -> None:
    history = elected()
    small = [history.place(ANNA, buy(10, 1)) for _ in range(3)]
    large = history.place(ANNA, buy(100, 6))
    history.begin_era([(BERT, 1000, 1000)])
    history.close()
    assert history.open(large) == 0
    assert [history.open(name) for name in small] == [0, 1, 1], "the lane holds two, oldest go"


def test_orders_of_whom_nobody_hears_any_more_end() -> None:
    history = History(
        [(ANNA, 3000), (BERT, 1000)],
        is_open=False,
        elected_witnesses=4,
        era_ms=8000,
        pin_ms=6000,
        handover_ms=2000,
        trade_lifetime_ms=4000,
        volatility_ppm=ALL_AT_RISK,
    )
    name = history.place(ANNA, buy(1, 1))
    history.begin_era([(BERT, 1000, 1000)])
    history.close()
    assert history.open(name) == 0
    assert history.outcomes[-1].ended[0].reason == book.EVICTED


# --- the option that a trade gives away ---


def test_the_value_of_the_option_by_hand() -> None:
    # 4 % a day over an hour: 1.25 * 0.4 * 0.04 * sqrt(1 / 24) = 0.004082...
    assert limits.option_ppm(40_000, 3_600_000) == 4083
    assert limits.option_ppm(40_000, 86_400_000) == 20_000
    assert limits.option_ppm(0, 3_600_000) == 1


@given(st.integers(0, 10**7), st.integers(1, 10**9))
def test_the_option_is_rounded_up_to_the_next_millionth(volatility: int, time_ms: int) -> None:
    ppm = limits.option_ppm(volatility, time_ms)
    square = volatility * volatility * time_ms
    assert ppm * ppm * 4 * limits.DAY_MS >= square
    assert ppm == 1 or (ppm - 1) ** 2 * 4 * limits.DAY_MS < square


def test_a_swap_between_chains_counts_until_its_longest_timelock() -> None:
    swapped = Market("bip122:000000000019d6689c085ae165831e93/slip44:0", "eip155:1/slip44:60",
                     1, 1, "htlc", "btc-evm", 1, 1, 40_000)  # fmt: skip
    within = limits.settled_within_ms(swapped, Parameters())
    assert 12 * 3_600_000 < within < 24 * 3_600_000
    assert limits.settled_within_ms(MARKET, Parameters()) == Parameters().trade_lifetime_ms
