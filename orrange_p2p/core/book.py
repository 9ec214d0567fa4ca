"""The price-time matcher: one market's resting orders, and what happens when a new one arrives.

Everything that moves quantity between an order's accounts is in this file, save what settlement
does to ``reserved`` and ``filled``: those belong to the caller. Prices are in price ticks,
quantities in lots, both 1 .. 2^62, so that no difference of two leaves a signed 64-bit integer.
Integers only; the same source runs as plain Python and compiled by mypyc, with equal results.

Layout. Each side maps a price to a level: a queue of orders by (epoch, rank). The levels of a side
are linked from best to worst; a sorted index of prices, in chunks of bounded size, finds where a
new level goes. A spent order is dropped from its queue when it comes to the head, or once the spent
outnumber the live; so memory follows the live orders, and an order refers to nothing in the book.

Cost. Opening or closing a level costs O(log P + P / 512) for the index of P prices, moving at most
8 KiB twice. Everything else an operation does is one step for each order it meets. An order met is
filled, or cancelled by self-trade prevention, or spent: its own placing has paid for that. Or it is
skipped: a crossing order that may not trade with this one stays, and the next one skips it again.
So skipping is bounded only by how many orders with a minimum reputation the caller lets rest, and
looking ahead (fill-or-kill, minimum quantity) by how many orders an author may have: limit both.
Quantity that returns from a failed match searches its queue by halves, and may move it by one.

The file is longer than most here: the whole matcher is compiled as one unit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator
from typing import Final

from mypy_extensions import i64, mypyc_attr

from orrange_p2p.core.errors import IllegalTransitionError

# Sides.
BUY: Final = 0
SELL: Final = 1

# Time in force. The book tells IOC and FOK from the rest; expiry is the caller's business.
GTC: Final = 0
GTT: Final = 1
GTE: Final = 2
IOC: Final = 3
FOK: Final = 4

# Self-trade prevention: what gives way when an order meets a resting one of the same owner.
CANCEL_NEWEST: Final = 0
CANCEL_OLDEST: Final = 1
DECREMENT: Final = 2

# Why quantity was cancelled. The book itself uses all but USER, EXPIRED, FROZEN, UNSETTLED and
# EVICTED.
NONE: Final = 0
USER: Final = 1
STP: Final = 2
IOC_REMAINDER: Final = 3
FOK_UNFILLED: Final = 4
POST_ONLY_WOULD_CROSS: Final = 5
MIN_QUANTITY: Final = 6
SLIPPAGE: Final = 7
EXPIRED: Final = 8
FROZEN: Final = 9
UNSETTLED: Final = 10
EVICTED: Final = 11

REASON_NAMES: Final = (
    "none",
    "user",
    "stp",
    "ioc_remainder",
    "fok_unfilled",
    "post_only_would_cross",
    "min_quantity",
    "slippage",
    "expired",
    "frozen",
    "unsettled",
    "evicted",
)
"""What to show for a reason, by its number."""

UNBOUNDED: Final = -1
"""``max_slippage`` of an order that has no slippage bound."""

CHUNK_MAX: Final = 1024
CHUNK_MIN: Final = 128
SPENT_MIN: Final = 16


@mypyc_attr(acyclic=True, allow_interpreted_subclasses=True)
class Order:
    """One order and its running account: the only copy of its state.

    The terms never change. ``open + reserved + filled + cancelled == quantity`` always holds:
    a fill moves quantity from open to reserved; the caller moves reserved to filled when the
    trade settles, and hands it to ``Book.reenter`` when it does not. ``owner`` is the principal
    on whom self-trade is judged. ``expiry`` is an epoch time in ms (GTT) or an epoch (GTE).
    Scores, expiry, epoch and rank are 0 .. 2^63-1. No ranges are checked here: what parsing lets
    through beyond them raises OverflowError in the compiled build, and goes unnoticed in the other.
    Priority at one price is (epoch, rank), lowest first; equal ones stand in order of arrival.

    Compiled, an order is invisible to the garbage collector (half the time of making orders that
    stay went there): it refers to nothing that refers to it. A subclass in plain Python may.
    """

    __slots__ = (
        "id",
        "owner",
        "side",
        "price",
        "quantity",
        "tif",
        "expiry",
        "post_only",
        "stp",
        "min_quantity",
        "max_slippage",
        "score",
        "min_score",
        "epoch",
        "rank",
        "open",
        "reserved",
        "filled",
        "cancelled",
        "reason",
    )

    id: Hashable
    owner: bytes
    side: i64
    price: i64
    quantity: i64
    tif: i64
    expiry: i64
    post_only: bool
    stp: i64
    min_quantity: i64
    max_slippage: i64
    score: i64
    min_score: i64
    epoch: i64
    rank: i64
    open: i64
    reserved: i64
    filled: i64
    cancelled: i64
    reason: i64

    def __init__(
        self,
        id: Hashable,
        owner: bytes,
        side: i64,
        price: i64,
        quantity: i64,
        tif: i64 = GTC,
        expiry: i64 = 0,
        post_only: bool = False,
        stp: i64 = CANCEL_NEWEST,
        min_quantity: i64 = 0,
        max_slippage: i64 = UNBOUNDED,
        score: i64 = 0,
        min_score: i64 = 0,
        epoch: i64 = 0,
        rank: i64 = 0,
    ) -> None:
        self.id = id
        self.owner = owner
        self.side = side
        self.price = price
        self.quantity = quantity
        self.tif = tif
        self.expiry = expiry
        self.post_only = post_only
        self.stp = stp
        self.min_quantity = min_quantity
        self.max_slippage = max_slippage
        self.score = score
        self.min_score = min_score
        self.epoch = epoch
        self.rank = rank
        self.open = quantity
        self.reserved = 0
        self.filled = 0
        self.cancelled = 0
        self.reason = NONE


@mypyc_attr(acyclic=True)
class Fill:
    """``quantity`` lots pass between two orders at ``price``, which is the maker's."""

    __slots__ = ("maker", "taker", "price", "quantity")

    maker: Order
    taker: Order
    price: i64
    quantity: i64

    def __init__(self, maker: Order, taker: Order, price: i64, quantity: i64) -> None:
        self.maker = maker
        self.taker = taker
        self.price = price
        self.quantity = quantity


class _Level:
    """The resting orders of one price, and for a while what is left of those that rest no more.

    ``queue`` is sorted by (epoch, rank). An order in it without open quantity is spent: it is
    passed over, and dropped once such entries outnumber the live ones. Orders hold no links to
    each other and no level, so an order cannot be part of a reference cycle.
    """

    __slots__ = ("key", "price", "queue", "head", "live", "better", "worse")

    key: i64  # larger is better: the price of a bid, the negated price of an ask
    price: i64
    queue: list[Order]
    head: i64  # everything before it is spent
    live: i64  # orders with open quantity; at least one between two operations of the book
    better: _Level | None
    worse: _Level | None

    def __init__(self, key: i64, price: i64) -> None:
        self.key = key
        self.price = price
        self.queue = []
        self.head = 0
        self.live = 0
        self.better = None
        self.worse = None

    def insert(self, order: Order) -> None:
        """Put an order in its place. Its own spent entry, if still there, comes back to life."""
        queue = self.queue
        self.live += 1
        if not queue:
            queue.append(order)
            return
        last = queue[-1]
        if last.epoch < order.epoch or (last.epoch == order.epoch and last.rank < order.rank):
            queue.append(order)
            return
        low: i64 = 0
        high: i64 = len(queue)
        while low < high:
            middle = (low + high) // 2
            other = queue[middle]
            if other.epoch < order.epoch or (
                other.epoch == order.epoch and other.rank < order.rank
            ):
                low = middle + 1
            else:
                high = middle
        high = len(queue)
        while low < high:
            other = queue[low]
            if other is order:
                break
            if other.epoch != order.epoch or other.rank != order.rank:
                break
            low += 1
        if low == high or queue[low] is not order:
            queue.insert(low, order)
        if low < self.head:
            self.head = low

    def tidy(self) -> None:
        """Drop spent entries if they outnumber the live ones; each is paid for by its order."""
        queue = self.queue
        if len(queue) > 2 * self.live + SPENT_MIN:
            self.queue = [order for order in queue if order.open > 0]
            self.head = 0


class _Side:
    """The levels of one side, best first through ``best`` and ``worse``."""

    __slots__ = ("sign", "levels", "best", "_chunks", "_maxima")

    sign: i64
    levels: dict[int, _Level]
    best: _Level | None
    _chunks: list[list[int]]  # keys, ascending through all chunks; the best is the very last
    _maxima: list[int]  # the last key of each chunk

    def __init__(self, sign: i64) -> None:
        self.sign = sign
        self.levels = {}
        self.best = None
        self._chunks = []
        self._maxima = []

    def add(self, price: i64) -> _Level:
        """Open a level at a price that has none."""
        level = _Level(price * self.sign, price)
        key: int = level.key
        self.levels[price] = level
        chunks = self._chunks
        if not chunks:
            chunks.append([key])
            self._maxima.append(key)
            self.best = level
            return level
        number = bisect_left(self._maxima, key)
        if number == len(chunks):
            number -= 1
            self._maxima[number] = key
        chunk = chunks[number]
        place = bisect_left(chunk, key)
        worse: _Level | None = None
        better: _Level | None = None
        if place > 0:
            worse = self.levels[chunk[place - 1] * self.sign]
            better = worse.better
        elif number > 0:
            worse = self.levels[self._maxima[number - 1] * self.sign]
            better = worse.better
        else:
            better = self.levels[chunk[0] * self.sign]
        chunk.insert(place, key)
        if len(chunk) > CHUNK_MAX:
            self._split(number)
        level.worse = worse
        level.better = better
        if worse is not None:
            worse.better = level
        if better is not None:
            better.worse = level
        else:
            self.best = level
        return level

    def remove(self, level: _Level) -> None:
        """Close an empty level. It keeps its own links until the caller lets go of it."""
        worse = level.worse
        better = level.better
        if worse is not None:
            worse.better = better
        if better is not None:
            better.worse = worse
        else:
            self.best = worse
        del self.levels[level.price]
        key: int = level.key
        number = bisect_left(self._maxima, key)
        chunk = self._chunks[number]
        del chunk[bisect_left(chunk, key)]
        if not chunk:  # only ever the last chunk left: others are merged before
            del self._chunks[number]
            del self._maxima[number]
            return
        self._maxima[number] = chunk[-1]
        if len(chunk) < CHUNK_MIN and len(self._chunks) > 1:
            if number == 0:
                number = 1
            tail = self._chunks.pop(number)
            self._chunks[number - 1].extend(tail)
            del self._maxima[number - 1]
            if len(self._chunks[number - 1]) > CHUNK_MAX:
                self._split(number - 1)

    def _split(self, number: int) -> None:
        chunk = self._chunks[number]
        half = len(chunk) // 2
        self._chunks.insert(number + 1, chunk[half:])
        del chunk[half:]
        self._maxima.insert(number, chunk[-1])


class Book:
    """The resting orders of one market and the rule by which they trade.

    ``resting`` holds exactly the orders with open quantity on the book: read it, never write it.
    ``removed`` collects resting orders that lost open quantity to another order's self-trade
    prevention, once for each time; the caller reads and clears it.
    """

    __slots__ = ("resting", "removed", "_bids", "_asks")

    resting: dict[Hashable, Order]
    removed: list[Order]
    _bids: _Side
    _asks: _Side

    def __init__(self) -> None:
        self.resting = {}
        self.removed = []
        self._bids = _Side(1)
        self._asks = _Side(-1)

    def place(self, order: Order) -> list[Fill]:
        """Match a new order, then let its remainder rest or cancel it, as its terms say.

        Fills come in the order in which they happened. What did not fill and does not rest is in
        ``order.cancelled``, with ``order.reason``.

        IllegalTransitionError: the order was placed before, or its id is resting; nothing changed.
        """
        if order.open != order.quantity or order.open <= 0 or order.id in self.resting:
            raise IllegalTransitionError(f"order {order.id} was placed before")
        opposing = self._asks if order.side == BUY else self._bids
        bound = order.price * opposing.sign
        if order.max_slippage >= 0:
            bound = self._slippage_bound(order, opposing, bound)
        fills: list[Fill] = []
        best = opposing.best
        if best is not None and best.key >= bound:
            if order.post_only and self._meets(order, opposing, bound):
                _cancel_open(order, POST_ONLY_WOULD_CROSS)
                return fills
        if order.tif == FOK:
            if not self._would_fill(order, opposing, bound, order.quantity):
                _cancel_open(order, FOK_UNFILLED)
                return fills
        if order.min_quantity > 0:
            if not self._would_fill(order, opposing, bound, order.min_quantity):
                _cancel_open(order, MIN_QUANTITY)
                return fills
        if best is not None and best.key >= bound:
            self._match(order, opposing, bound, fills)
        if order.open > 0:
            if order.tif == IOC or order.tif == FOK:
                _cancel_open(order, IOC_REMAINDER)
            elif order.max_slippage >= 0:
                _cancel_open(order, SLIPPAGE)
            else:
                self._rest(order)
        return fills

    def cancel(self, order_id: Hashable, reason: i64) -> Order | None:
        """Cancel the open quantity of a resting order and take it off the book.

        Reserved quantity is not touched: it belongs to matches under way. None: not resting.
        """
        order = self.resting.pop(order_id, None)
        if order is None:
            return None
        _cancel_open(order, reason)
        own = self._bids if order.side == BUY else self._asks
        level = own.levels[order.price]
        level.live -= 1
        if level.live == 0:
            own.remove(level)
        else:
            level.tidy()
        return order

    def reenter(self, order: Order, quantity: i64) -> list[Fill]:
        """Return ``quantity`` lots of a failed match from reserved to the book.

        If the order still rests, it grows and keeps its place: it crosses nothing it may trade
        with. Otherwise the quantity matches as a new order's would and the remainder rests at the
        order's old priority. Minimum quantity is not applied again. A post-only order that would
        cross loses the quantity (POST_ONLY_WOULD_CROSS). So does an order with a slippage bound
        (SLIPPAGE), crossing or not: it may not rest, and the best price its bound was measured
        from is gone. The caller drops IOC, FOK and expired quantity itself, never through here.

        IllegalTransitionError: the order does not have that much reserved; nothing changed.
        """
        if quantity <= 0 or quantity > order.reserved:
            raise IllegalTransitionError(f"order {order.id} has {order.reserved} lots reserved")
        rests = order.open > 0
        order.reserved -= quantity
        order.open += quantity
        fills: list[Fill] = []
        if rests:
            return fills
        if order.max_slippage >= 0:
            _cancel_open(order, SLIPPAGE)
            return fills
        opposing = self._asks if order.side == BUY else self._bids
        bound = order.price * opposing.sign
        if order.post_only and self._meets(order, opposing, bound):
            _cancel_open(order, POST_ONLY_WOULD_CROSS)
            return fills
        self._match(order, opposing, bound, fills)
        if order.open > 0:
            self._rest(order)
        return fills

    def restore(self, order: Order) -> None:
        """Put an order with open quantity back on the book as it stood, from a checkpoint.

        Nothing is matched. Any sequence of calls gives the same book if priorities are distinct.
        IllegalTransitionError: it rests already, or has nothing open.
        """
        if order.open <= 0 or order.id in self.resting:
            raise IllegalTransitionError(f"order {order.id} cannot be restored")
        self._rest(order)

    def best(self, side: i64) -> int | None:
        """The best price of a side, eligible or not; None if it is empty."""
        level = self._bids.best if side == BUY else self._asks.best
        return None if level is None else level.price

    def depth(self, side: i64, levels: int) -> list[tuple[int, int, int]]:
        """(price, lots, orders) of the best levels. Lots may exceed 64 bits; O(orders counted)."""
        result: list[tuple[int, int, int]] = []
        level = self._bids.best if side == BUY else self._asks.best
        while level is not None and len(result) < levels:
            lots = 0
            for order in level.queue:
                lots += order.open
            result.append((level.price, lots, level.live))
            level = level.worse
        return result

    def orders(self, side: i64) -> Iterator[Order]:
        """The resting orders of a side in priority order. Do not change the book meanwhile."""
        level = self._bids.best if side == BUY else self._asks.best
        while level is not None:
            for order in level.queue:
                if order.open > 0:
                    yield order
            level = level.worse

    def _match(self, taker: Order, opposing: _Side, bound: i64, fills: list[Fill]) -> None:
        """Trade the taker's open quantity against levels whose key reaches the bound."""
        level = opposing.best
        owner = taker.owner
        while level is not None and level.key >= bound and taker.open > 0:
            queue = level.queue
            size: i64 = len(queue)
            place = level.head
            while place < size and taker.open > 0:
                maker = queue[place]
                lots = maker.open
                if lots == 0:
                    pass
                elif maker.owner == owner:
                    if taker.stp == CANCEL_NEWEST:
                        _cancel_open(taker, STP)
                        break
                    if taker.stp == DECREMENT:
                        if taker.open < lots:
                            lots = taker.open
                        taker.open -= lots
                        taker.cancelled += lots
                        taker.reason = STP
                    maker.open -= lots
                    maker.cancelled += lots
                    maker.reason = STP
                    self.removed.append(maker)
                    if maker.open == 0:
                        del self.resting[maker.id]
                        level.live -= 1
                elif taker.score >= maker.min_score and maker.score >= taker.min_score:
                    if lots > taker.open:
                        lots = taker.open
                    maker.open -= lots
                    maker.reserved += lots
                    taker.open -= lots
                    taker.reserved += lots
                    fills.append(Fill(maker, taker, level.price, lots))
                    if maker.open == 0:
                        del self.resting[maker.id]
                        level.live -= 1
                if maker.open == 0 and place == level.head:
                    level.head = place + 1
                place += 1
            worse = level.worse
            if level.live == 0:
                opposing.remove(level)
            else:
                level.tidy()
            level = worse

    def _would_fill(self, taker: Order, opposing: _Side, bound: i64, needed: i64) -> bool:
        """Whether matching now would fill at least so much: ``_match`` without its effects."""
        remaining = taker.open
        filled: i64 = 0
        level = opposing.best
        while level is not None and level.key >= bound:
            for maker in level.queue:
                lots = maker.open if maker.open < remaining else remaining
                if lots == 0:
                    continue
                if maker.owner == taker.owner:
                    if taker.stp == CANCEL_NEWEST:
                        return False
                    if taker.stp == DECREMENT:
                        remaining -= lots
                elif taker.score >= maker.min_score and maker.score >= taker.min_score:
                    remaining -= lots
                    filled += lots
                    if filled >= needed:
                        return True
                if filled + remaining < needed:
                    return False
            level = level.worse
        return False

    def _meets(self, taker: Order, opposing: _Side, bound: i64) -> bool:
        """Whether matching now would trade with any order or meet an own one."""
        level = opposing.best
        while level is not None and level.key >= bound:
            for maker in level.queue:
                if maker.open > 0 and (maker.owner == taker.owner or _eligible(maker, taker)):
                    return True
            level = level.worse
        return False

    def _slippage_bound(self, taker: Order, opposing: _Side, bound: i64) -> i64:
        """The bound, narrowed to max_slippage from the best order that may trade with this one.

        Own orders do not set the best price. Differences of keys are compared, never sums of
        prices and slippage, which could leave 64 bits.
        """
        level = opposing.best
        while level is not None and level.key >= bound:
            for maker in level.queue:
                if maker.open > 0 and maker.owner != taker.owner and _eligible(maker, taker):
                    if level.key - bound > taker.max_slippage:
                        return level.key - taker.max_slippage
                    return bound
            level = level.worse
        return bound

    def _rest(self, order: Order) -> None:
        own = self._bids if order.side == BUY else self._asks
        level = own.levels.get(order.price)
        if level is None:
            level = own.add(order.price)
        level.insert(order)
        self.resting[order.id] = order


def _eligible(one: Order, other: Order) -> bool:
    return one.score >= other.min_score and other.score >= one.min_score


def _cancel_open(order: Order, reason: i64) -> None:
    order.cancelled += order.open
    order.open = 0
    order.reason = reason
