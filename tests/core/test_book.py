"""The price-time matcher: each kind of order by a small example, then against the naive book."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from reference_book import ReferenceBook, ReferenceOrder, Trade, eligible

from orrange_p2p.core import book as b
from orrange_p2p.core.book import BUY, SELL, Book, Fill, Order
from orrange_p2p.core.errors import IllegalTransitionError

TOP = 1 << 62
"""The largest price and quantity there is."""


def order(id: int, side: int, price: int, quantity: int, **terms: Any) -> Order:
    """An order of its own owner, ranked by its id."""
    terms.setdefault("owner", b"owner %d" % id)
    terms.setdefault("rank", id)
    return Order(id=id, side=side, price=price, quantity=quantity, **terms)


def id_of(o: Order) -> int:
    assert isinstance(o.id, int)
    return o.id


def trades(fills: list[Fill]) -> list[Trade]:
    return [(id_of(fill.maker), id_of(fill.taker), fill.price, fill.quantity) for fill in fills]


def account(o: Order | ReferenceOrder) -> tuple[int, int, int, int, int]:
    return o.open, o.reserved, o.filled, o.cancelled, o.reason


def filled_book(*orders: Order) -> Book:
    book = Book()
    for each in orders:
        assert book.place(each) == []
    return book


def test_a_buy_meets_a_sell() -> None:
    book = Book()
    sell = order(1, SELL, 100, 5)
    buy = order(2, BUY, 101, 8)
    assert book.place(sell) == []
    assert trades(book.place(buy)) == [(1, 2, 100, 5)]  # at the resting order's price
    assert account(sell) == (0, 5, 0, 0, b.NONE)
    assert account(buy) == (3, 5, 0, 0, b.NONE)
    assert book.best(BUY) == 101 and book.best(SELL) is None
    assert book.resting == {2: buy}


def test_best_price_first_then_epoch_then_rank() -> None:
    book = filled_book(
        order(1, SELL, 101, 1, epoch=1, rank=0),
        order(2, SELL, 100, 1, epoch=2, rank=7),
        order(3, SELL, 100, 1, epoch=2, rank=8),
        order(4, SELL, 100, 1, epoch=1, rank=9),
        order(5, SELL, 102, 1, epoch=1, rank=1),
    )
    assert [o.id for o in book.orders(SELL)] == [4, 2, 3, 1, 5]
    assert book.depth(SELL, 2) == [(100, 3, 3), (101, 1, 1)]
    taken = trades(book.place(order(6, BUY, 101, 9, epoch=3)))
    assert taken == [(4, 6, 100, 1), (2, 6, 100, 1), (3, 6, 100, 1), (1, 6, 101, 1)]


def test_cancel_takes_only_what_is_open() -> None:
    sell = order(1, SELL, 100, 5)
    book = filled_book(sell)
    book.place(order(2, BUY, 100, 2))
    assert book.cancel(1, b.USER) is sell
    assert account(sell) == (0, 2, 0, 3, b.USER)
    assert book.cancel(1, b.USER) is None
    assert book.best(SELL) is None and book.resting == {}


def test_immediate_or_cancel_never_rests() -> None:
    book = filled_book(order(1, SELL, 100, 5))
    taker = order(2, BUY, 100, 8, tif=b.IOC)
    assert trades(book.place(taker)) == [(1, 2, 100, 5)]
    assert account(taker) == (0, 5, 0, 3, b.IOC_REMAINDER)


@pytest.mark.parametrize(("quantity", "fills"), [(6, [(1, 3, 100, 5), (2, 3, 101, 1)]), (11, [])])
def test_fill_or_kill_is_all_or_nothing(
    quantity: int, fills: list[tuple[int, int, int, int]]
) -> None:
    book = filled_book(order(1, SELL, 100, 5), order(2, SELL, 101, 5))
    taker = order(3, BUY, 101, quantity, tif=b.FOK)
    assert trades(book.place(taker)) == fills
    if not fills:
        assert account(taker) == (0, 0, 0, 11, b.FOK_UNFILLED)
        assert book.depth(SELL, 9) == [(100, 5, 1), (101, 5, 1)]


def test_fill_or_kill_counts_what_self_trade_prevention_takes() -> None:
    for stp in (b.CANCEL_NEWEST, b.DECREMENT):
        book = filled_book(order(1, SELL, 100, 1, owner=b"me"), order(2, SELL, 101, 9))
        assert book.place(order(3, BUY, 101, 5, owner=b"me", tif=b.FOK, stp=stp)) == []
        assert book.depth(SELL, 9) == [(100, 1, 1), (101, 9, 1)] and book.removed == []


def test_minimum_quantity_is_asked_on_entry_only() -> None:
    book = filled_book(order(1, SELL, 100, 5))
    refused = order(2, BUY, 100, 9, min_quantity=6)
    assert book.place(refused) == []
    assert account(refused) == (0, 0, 0, 9, b.MIN_QUANTITY)
    taken = order(3, BUY, 100, 9, min_quantity=5)
    assert trades(book.place(taken)) == [(1, 3, 100, 5)]
    assert book.depth(BUY, 9) == [(100, 4, 1)]  # the remainder rests and takes any quantity
    assert trades(book.place(order(4, SELL, 100, 1))) == [(3, 4, 100, 1)]


def test_post_only_rests_or_goes() -> None:
    book = filled_book(order(1, SELL, 100, 5, owner=b"me"))
    crossing = order(2, BUY, 100, 5, post_only=True)
    assert book.place(crossing) == []
    assert account(crossing) == (0, 0, 0, 5, b.POST_ONLY_WOULD_CROSS)
    own = order(3, BUY, 100, 5, owner=b"me", post_only=True, stp=b.CANCEL_OLDEST)
    assert book.place(own) == [] and own.reason == b.POST_ONLY_WOULD_CROSS
    assert book.place(order(4, BUY, 99, 5, post_only=True)) == []
    assert book.best(BUY) == 99 and book.best(SELL) == 100


def test_post_only_rests_across_orders_it_may_not_trade_with() -> None:
    book = filled_book(order(1, SELL, 100, 5, min_score=9))
    assert book.place(order(2, BUY, 100, 5, post_only=True)) == []
    assert book.best(BUY) == book.best(SELL) == 100


def test_self_trade_prevention() -> None:
    def after(stp: int, lots: int) -> tuple[Book, Order, Order, list[tuple[Any, ...]]]:
        mine = order(1, SELL, 100, 5, owner=b"me", stp=b.CANCEL_NEWEST)
        book = filled_book(mine, order(2, SELL, 101, 5))
        taker = order(3, BUY, 101, lots, owner=b"me", stp=stp)  # the incoming order's mode counts
        return book, mine, taker, list(trades(book.place(taker)))

    book, mine, taker, fills = after(b.CANCEL_NEWEST, 8)
    assert fills == [] and account(taker) == (0, 0, 0, 8, b.STP) and mine.open == 5
    assert book.removed == []
    book, mine, taker, fills = after(b.CANCEL_OLDEST, 8)
    assert fills == [(2, 3, 101, 5)] and account(mine) == (0, 0, 0, 5, b.STP) and taker.open == 3
    assert book.removed == [mine]
    book, mine, taker, fills = after(b.DECREMENT, 8)
    assert fills == [(2, 3, 101, 3)] and account(mine) == (0, 0, 0, 5, b.STP)
    assert account(taker) == (0, 3, 0, 5, b.STP)
    book, mine, taker, fills = after(b.DECREMENT, 2)
    assert fills == [] and account(mine) == (3, 0, 0, 2, b.STP) and book.removed == [mine]
    assert account(taker) == (0, 0, 0, 2, b.STP) and mine.id in book.resting


def test_reputation_is_asked_on_both_sides_and_the_ineligible_are_skipped() -> None:
    book = filled_book(
        order(1, SELL, 99, 1, min_score=5),
        order(2, SELL, 100, 1, score=1),
        order(3, SELL, 101, 1, score=2, min_score=3),
    )
    taker = order(4, BUY, 101, 5, score=4, min_score=2)
    assert trades(book.place(taker)) == [(3, 4, 101, 1)]
    assert book.best(BUY) == 101 and book.best(SELL) == 99  # crossed, and neither may trade
    late = order(5, SELL, 100, 9, score=5)
    assert trades(book.place(late)) == [(4, 5, 101, 4)]


def test_slippage_is_measured_from_the_best_eligible_price() -> None:
    book = filled_book(
        order(1, SELL, 90, 1, min_score=9),
        order(2, SELL, 95, 1, owner=b"me"),
        order(3, SELL, 100, 1),
        order(4, SELL, 102, 1),
        order(5, SELL, 103, 1),
    )
    taker = order(6, BUY, TOP, 9, owner=b"me", max_slippage=2, stp=b.CANCEL_OLDEST)
    assert trades(book.place(taker)) == [(3, 6, 100, 1), (4, 6, 102, 1)]
    assert account(taker) == (0, 2, 0, 7, b.SLIPPAGE)
    alone = order(7, SELL, 1, 5, max_slippage=0)
    assert book.place(alone) == [] and alone.reason == b.SLIPPAGE


def test_slippage_of_the_largest_numbers() -> None:
    book = filled_book(order(1, SELL, TOP, TOP), order(2, BUY, 1, TOP))
    buy = order(3, BUY, TOP, 1, max_slippage=TOP)
    assert trades(book.place(buy)) == [(1, 3, TOP, 1)]
    sell = order(4, SELL, 1, TOP, max_slippage=TOP)
    assert trades(book.place(sell)) == [(2, 4, 1, TOP)]
    assert book.place(order(5, SELL, TOP, TOP)) == []
    assert book.depth(SELL, 1) == [(TOP, 2 * TOP - 1, 2)]
    assert sum(fill.quantity for fill in book.place(order(6, BUY, TOP, TOP, tif=b.FOK))) == TOP


def test_returned_quantity_keeps_its_old_priority() -> None:
    first, second, third = (order(i, SELL, 100, 4, epoch=i, rank=9 - i) for i in (1, 2, 3))
    book = filled_book(first, second, third)
    book.place(order(4, BUY, 100, 6, epoch=4))
    assert account(first) == (0, 4, 0, 0, b.NONE) and account(second) == (2, 2, 0, 0, b.NONE)
    assert book.reenter(first, 3) == []
    assert book.reenter(second, 2) == []  # still resting: grows in place
    assert [(o.id, o.open) for o in book.orders(SELL)] == [(1, 3), (2, 4), (3, 4)]
    assert account(first) == (3, 1, 0, 0, b.NONE)
    assert trades(book.place(order(5, BUY, 100, 8, epoch=5))) == [
        (1, 5, 100, 3),
        (2, 5, 100, 4),
        (3, 5, 100, 1),
    ]


def test_returned_quantity_trades_if_it_crosses_by_now() -> None:
    sell = order(1, SELL, 100, 4, min_quantity=0)
    post = order(2, SELL, 100, 4, post_only=True)
    bounded = order(3, SELL, 100, 4, max_slippage=0)
    book = filled_book(sell)
    book.place(post)
    book.place(order(4, BUY, 100, 8))
    book.place(order(5, BUY, 101, 3))
    assert trades(book.reenter(sell, 4)) == [(5, 1, 101, 3)]
    assert book.best(SELL) == 100 and sell.open == 1
    book.place(order(6, BUY, 100, 2))
    assert trades(book.place(bounded)) == [(6, 3, 100, 1)]
    book.place(order(7, BUY, 100, 1))
    assert book.reenter(post, 4) == [] and account(post) == (0, 0, 0, 4, b.POST_ONLY_WOULD_CROSS)
    assert book.reenter(bounded, 1) == [] and account(bounded) == (0, 0, 0, 4, b.SLIPPAGE)


@pytest.mark.parametrize("book", [Book(), ReferenceBook()])
def test_what_once_gave_way_to_an_own_order_rests_again(book: Book | ReferenceBook) -> None:
    make: Any = Order if isinstance(book, Book) else ReferenceOrder
    post = make(1, b"me", SELL, 100, 3, post_only=True)
    book.place(post)
    book.place(make(2, b"other", BUY, 100, 1))
    book.place(make(3, b"me", BUY, 100, 1, stp=b.CANCEL_OLDEST))
    book.cancel(3, b.USER)
    assert account(post) == (0, 1, 0, 2, b.STP)
    assert book.reenter(post, 1) == [] and account(post) == (1, 0, 0, 2, b.STP)


def test_wrong_calls_change_nothing() -> None:
    sell = order(1, SELL, 100, 4)
    book = filled_book(sell)
    for again in (sell, order(1, BUY, 100, 4), order(2, BUY, 100, 0)):
        with pytest.raises(IllegalTransitionError):
            book.place(again)
    for lots in (-1, 0, 1):
        with pytest.raises(IllegalTransitionError):
            book.reenter(sell, lots)
    with pytest.raises(IllegalTransitionError):
        book.restore(sell)
    assert account(sell) == (4, 0, 0, 0, b.NONE) and book.depth(SELL, 9) == [(100, 4, 1)]


def test_a_restored_book_is_the_same_whatever_the_order_of_restoring() -> None:
    book = Book()
    rng = random.Random(5)
    for number in range(200):
        book.place(order(number, rng.randrange(2), rng.randrange(90, 110), 5, min_score=1))
    shuffled = list(book.resting.values())
    rng.shuffle(shuffled)
    restored = Book()
    for o in shuffled:
        terms = {"epoch": o.epoch, "rank": o.rank, "min_score": 1}
        restored.restore(order(id_of(o), o.side, o.price, o.quantity, **terms))
    for side in (BUY, SELL):
        assert [o.id for o in restored.orders(side)] == [o.id for o in book.orders(side)]


def test_every_reason_has_a_name() -> None:
    assert len(b.REASON_NAMES) == b.EVICTED + 1
    assert b.REASON_NAMES[b.POST_ONLY_WOULD_CROSS] == "post_only_would_cross"


# --- sizes an attacker would choose: these finish at once, or the test command does not ---

MANY = 50_000


@pytest.mark.parametrize("pattern", ["rising", "falling", "shuffled"])
def test_many_prices_come_and_go(pattern: str) -> None:
    prices = list(range(1, MANY + 1))
    if pattern == "falling":
        prices.reverse()
    if pattern == "shuffled":
        random.Random(1).shuffle(prices)
    book = Book()
    for side in (BUY, SELL):
        for price in prices:
            book.place(order(price, side, price, 1, owner=b"me"))
        best_first = sorted(prices, reverse=side == BUY)
        assert [o.price for o in book.orders(side)] == best_first
        for price in prices[: MANY - 100]:
            assert book.cancel(price, b.USER) is not None
        kept = set(prices[MANY - 100 :])
        left = [price for price in best_first if price in kept]
        assert [level[0] for level in book.depth(side, MANY)] == left
        for price in left:
            book.cancel(price, b.USER)
        assert book.best(side) is None and book.resting == {}


def test_one_price_that_flaps_leaves_nothing_behind() -> None:
    book = filled_book(order(-1, SELL, 2 * MANY, 1))
    for price in range(1, MANY):
        book.place(order(price, SELL, price, 1))
        book.cancel(price, b.USER)
    assert book.depth(SELL, 9) == [(2 * MANY, 1, 1)] and len(book.resting) == 1


def test_many_own_orders_are_paid_for_once() -> None:
    book = filled_book(*(order(i, SELL, 1 + i % 1000, 1, owner=b"me") for i in range(MANY)))
    taker = order(MANY, BUY, 1000, 7, owner=b"me", stp=b.CANCEL_OLDEST)
    assert book.place(taker) == []
    assert len(book.removed) == MANY and book.best(SELL) is None and book.best(BUY) == 1000


def test_many_ineligible_orders_are_skipped() -> None:
    book = filled_book(*(order(i, SELL, 1 + i % 1000, 1, min_score=9) for i in range(MANY)))
    book.place(order(MANY, SELL, 1001, 5))
    assert trades(book.place(order(MANY + 1, BUY, 1001, 2))) == [(MANY, MANY + 1, 1001, 2)]
    assert len(book.resting) == MANY + 1


def test_a_queue_with_holes_keeps_its_order() -> None:
    makers = [order(i, SELL, 100, 2) for i in range(200)]
    book = filled_book(*makers)
    standing = set(range(200))
    rng = random.Random(3)
    for taker in range(200, 350):
        victim = rng.choice(sorted(standing))
        book.cancel(victim, b.USER)
        standing.remove(victim)
        if taker % 3 == 0 and standing:
            first = min(standing)
            assert trades(book.place(order(taker, BUY, 100, 2))) == [(first, taker, 100, 2)]
            standing.remove(first)
            if taker % 2:
                assert book.reenter(makers[first], 2) == []
                standing.add(first)
        assert [o.id for o in book.orders(SELL)] == sorted(standing)
        assert book.depth(SELL, 2)[0][1:] == (2 * len(standing), len(standing))


def test_returning_into_a_long_level() -> None:
    makers = [order(i, SELL, 100, 1) for i in range(MANY)]
    book = filled_book(*makers)
    book.place(order(MANY, BUY, 100, MANY // 2))
    back = makers[: MANY // 2]
    random.Random(2).shuffle(back)
    for maker in back[:1000]:
        book.reenter(maker, 1)
    ranks = [o.rank for o in book.orders(SELL)]
    assert ranks == sorted(ranks) and len(ranks) == MANY - MANY // 2 + 1000


# --- against the naive book ---

plain_terms = {
    "owner": st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"]),
    "side": st.sampled_from([BUY, SELL]),
    "price": st.integers(1, 4),
    "quantity": st.integers(1, 6),
}
# Half the orders are plain: with every condition on every order, few would trade.
new_terms = st.fixed_dictionaries(plain_terms) | st.fixed_dictionaries(
    {
        **plain_terms,
        "tif": st.sampled_from([b.GTC, b.GTC, b.GTC, b.GTT, b.GTE, b.IOC, b.FOK]),
        "stp": st.sampled_from([b.CANCEL_NEWEST, b.CANCEL_OLDEST, b.DECREMENT]),
    },
    optional={
        "post_only": st.booleans(),
        "min_quantity": st.integers(0, 7),
        "max_slippage": st.integers(-1, 3),
        "score": st.integers(0, 3),
        "min_score": st.integers(0, 3),
    },
)


def snapshot(o: Order | ReferenceOrder) -> tuple[object, ...]:
    return o.id, o.open, o.reserved, o.filled, o.cancelled, o.reason


class BookMachine(RuleBasedStateMachine):
    """Any sequence of operations: the same fills, accounts and order of the book as the naive."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.naive = ReferenceBook()
        self.orders: list[Order] = []
        self.twins: list[ReferenceOrder] = []
        self.epoch = 1
        self.rank = 0

    def check_priority(
        self, before: list[ReferenceOrder], taker: ReferenceOrder, fills: list[Trade]
    ) -> None:
        """I4: whoever could have traded and stood before the last maker is exhausted."""
        standing = {o.id: place for place, o in enumerate(before)}
        places = [standing[fill[0]] for fill in fills]
        assert places == sorted(set(places))
        for o in before[: places[-1]] if places else []:
            if o.owner != taker.owner and eligible(o, taker):
                assert self.orders[o.id].open == 0

    @rule(terms=new_terms)
    def place(self, terms: dict[str, Any]) -> None:
        number = len(self.orders)
        terms = {"epoch": self.epoch, "rank": self.rank, **terms}
        self.rank += 1
        self.orders.append(Order(id=number, **terms))
        self.twins.append(ReferenceOrder(id=number, **terms))
        before = self.naive.side(1 - terms["side"])
        fills = trades(self.book.place(self.orders[-1]))
        assert fills == self.naive.place(self.twins[-1])
        self.check_priority(before, self.twins[-1], fills)

    @rule()
    def next_epoch(self) -> None:
        self.epoch += 1
        self.rank = 0

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.orders)))
        cancelled = self.book.cancel(number, b.USER)
        twin = self.naive.cancel(number, b.USER)
        assert (cancelled is None) == (twin is None)

    @precondition(lambda self: any(o.reserved for o in self.orders))
    @rule(data=st.data())
    def settle_or_return(self, data: st.DataObject) -> None:
        # Of the latest few: what comes back while its level still stands is the hard case.
        reserved = [i for i, o in enumerate(self.orders) if o.reserved]
        number = data.draw(st.sampled_from(reserved[-5:]))
        o, twin = self.orders[number], self.twins[number]
        lots = data.draw(st.integers(1, o.reserved))
        if o.tif in (b.IOC, b.FOK) or data.draw(st.integers(0, 3)) == 0:
            for party in (o, twin):
                party.reserved -= lots
                party.filled += lots
            return
        before = self.naive.side(1 - o.side)
        fills = trades(self.book.reenter(o, lots))
        assert fills == self.naive.reenter(twin, lots)
        self.check_priority(before, twin, fills)

    @rule()
    def clear_removed(self) -> None:
        self.book.removed.clear()
        self.naive.removed.clear()

    @invariant()
    def accounts_agree(self) -> None:
        assert [snapshot(o) for o in self.orders] == [snapshot(twin) for twin in self.twins]
        assert [o.id for o in self.book.removed] == self.naive.removed

    @invariant()
    def books_agree(self) -> None:
        for side in (BUY, SELL):
            mine = list(self.book.orders(side))
            naive = self.naive.side(side)
            assert [o.id for o in mine] == [o.id for o in naive]
            assert self.book.best(side) == (naive[0].price if naive else None)
            prices = list(dict.fromkeys(o.price for o in naive))
            lots = {p: [o.open for o in naive if o.price == p] for p in prices}
            expected = [(p, sum(lots[p]), len(lots[p])) for p in prices]
            assert self.book.depth(side, 3) == expected[:3]
        assert self.book.resting == {o.id: o for o in self.orders if o.open}

    @invariant()
    def quantity_is_conserved(self) -> None:
        """I3."""
        for o in self.orders:
            assert o.open + o.reserved + o.filled + o.cancelled == o.quantity
            assert min(o.open, o.reserved, o.filled, o.cancelled) >= 0

    @invariant()
    def who_may_trade_does_not_rest_crossed(self) -> None:
        for buy in self.naive.side(BUY):
            for sell in self.naive.side(SELL):
                if buy.price >= sell.price:
                    assert buy.owner != sell.owner and not eligible(buy, sell)


TestBook = BookMachine.TestCase
TestBook.settings = settings(max_examples=150, stateful_step_count=50)
