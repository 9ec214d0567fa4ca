"""``orrange replay``: a recorded feed through the whole path in one process.

Every order of the feed is placed, and cancelled when the feed deletes it, by an operation that goes
through drafting, signature, encoding, decoding, verification and the fold, alone in its epoch: so
the feed's order is the market's, and price-time priority can be held against the exchange's trades.
Buyers' orders are written by one author and sellers' by another, who therefore never meets itself.

The market. Base: bitcoin, 8 decimals, one satoshi to the lot. Quote: a dollar of 18 decimals. The
price tick is a cent per bitcoin, 10^16 smallest units per 10^8 lots: ``tick_size`` is 10^8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import attrs

from orrange_p2p.bench.one_market import LogWriter, new_fold, next_epoch, one_market
from orrange_p2p.core.entries import decode_entry
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Lots, OrderId, Price
from orrange_p2p.core.operations import Cancel, Operation, Place, Side
from orrange_p2p.feeds.bitstamp import Event, FeedTrade, OrderCreated, OrderDeleted

_START_MS: Final = 0

MARKET: Final = Market(
    base="bip122:000000000019d6689c085ae165831e93/slip44:0",
    quote="eip155:31337/erc20:0x0000000000000000000000000000000000000001",
    tick_size=10**8,
    lot_size=1,
    settlement="htlc",
    timing="btc-evm",
    rate_numerator=1,
    rate_denominator=10**12,
    volatility_ppm=40_000,
)


class ReplayTrade(NamedTuple):
    """A fill of the replay, between two orders of the feed."""

    price_cents: int
    amount_satoshi: int
    maker: int
    """Id in the feed, as is ``taker``."""
    taker: int


@attrs.define
class Summary:
    """How the replay compares with the feed's own trades."""

    trades: int = 0
    in_feed: int = 0
    """Trades that the feed published."""
    equal: int = 0
    """Trades with price and amount of a published one, each of which counts for one trade."""
    orders: int = 0
    cancels: int = 0
    """Of orders with open quantity."""
    finished: int = 0
    """Deletions of orders that had been matched in full."""
    unknown: int = 0
    """Deletions of orders that the feed never created: they are older than the file."""
    duplicates: int = 0
    """Orders created a second time, which are passed over."""
    epochs: int = 0
    root: str = ""
    """State root after the last epoch."""


class Replay:
    """Iterate ``trades`` to its end; then ``summary`` is complete."""

    def __init__(self) -> None:
        genesis = one_market(MARKET, _START_MS)
        self.summary = Summary()
        self._separator = genesis.separator
        self._market = genesis.markets[0].id
        self._fold = new_fold(genesis)
        self._authors = (LogWriter(genesis, "buyers"), LogWriter(genesis, "sellers"))
        self._placed: dict[int, OrderId] = {}
        self._feed_ids: dict[OrderId, int] = {}

    def trades(self, events: Iterable[Event]) -> Iterator[ReplayTrade]:
        """The trades that the feed's orders make, as they come about."""
        summary = self.summary
        published: Counter[tuple[int, int]] = Counter()
        made: Counter[tuple[int, int]] = Counter()
        for event in events:
            if type(event) is FeedTrade:
                published[event.price_cents, event.amount_satoshi] += 1
            elif type(event) is OrderCreated:
                for trade in self._create(event):
                    made[trade.price_cents, trade.amount_satoshi] += 1
                    yield trade
            elif type(event) is OrderDeleted:
                self._delete(event)
        summary.trades = made.total()
        summary.in_feed = published.total()
        summary.equal = (made & published).total()
        summary.epochs = self._fold.epoch
        summary.root = f"0x{self._fold.root.hex()}"

    def _create(self, event: OrderCreated) -> list[ReplayTrade]:
        if event.id in self._placed:
            self.summary.duplicates += 1
            return []
        self.summary.orders += 1
        author = self._authors[event.side]
        name = OrderId(author.address, author.next_seq, 0)
        self._placed[event.id] = name
        self._feed_ids[name] = event.id
        place = Place(int(event.side), Price(event.price_cents), Lots(event.amount_satoshi))
        return self._apply(event.side, place, event.time_ms)

    def _delete(self, event: OrderDeleted) -> None:
        name = self._placed.get(event.id)
        if name is None:
            self.summary.unknown += 1
            return
        order = self._fold.order(name)
        if order is None or order.open == 0:
            self.summary.finished += 1
            return
        self.summary.cancels += 1
        side = Side(order.side)
        self._apply(side, Cancel(name.seq, name.position), event.time_ms)

    def _apply(self, side: Side, operation: Operation, time_ms: int) -> list[ReplayTrade]:
        encoded = self._authors[side].write([operation]).encoded
        entry = decode_entry(encoded, self._separator, self._market)
        entry.verify()
        outcome = self._fold.apply(next_epoch(self._fold, [entry], time_ms))
        return [
            ReplayTrade(
                match.price,
                match.quantity,
                self._feed_ids[match.maker],
                self._feed_ids[match.taker],
            )
            for match in outcome.matches
        ]
