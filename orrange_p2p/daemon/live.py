"""What subscribers of a running node hear: books, tapes, and what is ours.

A book's subscriber gets the best levels, then one change for each epoch that moved the state here
(several that came at once are one). Each names the epoch it follows, so that a gap shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import trio

from orrange_p2p.core.errors import OrrangeError
from orrange_p2p.core.ids import MarketId
from orrange_p2p.core.operations import Side
from orrange_p2p.core.replica import AppliedEpoch
from orrange_p2p.daemon.api import market_named
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.node import Node
from orrange_p2p.rpc.access import READ
from orrange_p2p.rpc.feeds import Feeds
from orrange_p2p.rpc.server import Method, Params

__all__ = ["Live"]

LEVELS: Final = 200
"""Best prices of each side that a stream tells of."""
TAPE: Final = 1000
"""Matches remembered of each market."""
LOOK_EVERY_S: Final = 1.0
OWN: Final = {"status": "status", "orders": "orders", "trades": "trades", "swaps": "swaps"}
"""Channels of what is ours, and the method whose answer they follow."""

_Levels = dict[int, tuple[int, int]]


class _Book:
    """The levels that subscribers were told last."""

    def __init__(self, market: MarketNode) -> None:
        self._market = market
        self.epoch = -1
        self._sides: tuple[_Levels, _Levels] = ({}, {})

    def look(self) -> None:
        """Begin anew with what there is."""
        self.epoch, self._sides = self._market.replica.epoch, self._levels()

    def _levels(self) -> tuple[_Levels, _Levels]:
        book = self._market.replica.fold.book
        buys, sells = (
            {price: (lots, count) for price, lots, count in book.depth(side, LEVELS)}
            for side in Side
        )
        return buys, sells

    def snapshot(self) -> dict[str, Any]:
        bids, asks = ([_row(p, level) for p, level in side.items()] for side in self._sides)
        return {"epoch": self.epoch, "bids": bids, "asks": asks}

    def change(self) -> dict[str, Any]:
        """What is other than it was; of a level that is gone, zero lots."""
        after, before = self.epoch, self._sides
        self.look()
        bids, asks = (_changes(*sides) for sides in zip(before, self._sides, strict=True))
        replica = self._market.replica
        return {
            "epoch": self.epoch,
            "after": after,
            "root": "0x" + replica.root.hex(),
            "time_ms": replica.fold.time_ms,
            "told_ms": self._market.clock.monotonic_ms(),
            "bids": bids,
            "asks": asks,
        }


def _row(price: int, level: tuple[int, int]) -> list[str]:
    return [str(price), str(level[0]), str(level[1])]


def _changes(before: _Levels, now: _Levels) -> list[list[str]]:
    rows = [_row(price, level) for price, level in now.items() if before.get(price) != level]
    return rows + [_row(price, (0, 0)) for price in before if price not in now]


class Live:
    """Feeds of one node. ``run`` keeps them going."""

    def __init__(self, node: Node, methods: Mapping[str, Method], feeds: Feeds) -> None:
        self._node = node
        self._methods = methods
        self._feeds = feeds
        self._tapes: dict[MarketId, deque[dict[str, Any]]] = {}
        self._books: dict[MarketId, _Book] = {}
        self._own: dict[str, Any] = {}
        for market_id, market in node.markets.items():
            self._tapes[market_id] = deque(maxlen=TAPE)
            self._books[market_id] = _Book(market)
            name = "0x" + market_id.hex()
            feeds.open(f"book:{name}", READ, self._snapshot_of(market_id))
            feeds.open(f"tape:{name}", READ, self._tape_of(market_id))
            market.on_epochs.append(self._taker_of(market_id))
        for channel in self._own_channels():
            feeds.open(channel, READ, partial(self._own.get, channel))

    def _own_channels(self) -> list[str]:
        names = ["0x" + market_id.hex() for market_id in self._node.markets]
        return ["status"] + [f"{kind}:{name}" for kind in list(OWN)[1:] for name in names]

    def _snapshot_of(self, market_id: MarketId) -> Any:
        def snapshot() -> Any:
            book = self._books[market_id]
            if not self._feeds.is_heard(f"book:0x{market_id.hex()}"):
                book.look()  # nobody listened, so nobody looked
            return book.snapshot()

        return snapshot

    def _tape_of(self, market_id: MarketId) -> Any:
        return lambda: list(self._tapes[market_id])[-100:]

    def _taker_of(self, market_id: MarketId) -> Any:
        return lambda epochs: self._take(market_id, epochs)

    def _take(self, market_id: MarketId, epochs: Sequence[AppliedEpoch]) -> None:
        rows = [
            {
                "epoch": outcome.epoch,
                "time_ms": outcome.time_ms,
                "side": "sell" if match.maker_side is Side.BUY else "buy",
                "price": str(match.price),
                "lots": str(match.quantity),
            }
            for _, outcome in epochs
            for match in outcome.matches
        ]
        if rows:
            self._tapes[market_id] += rows
            self._feeds.publish(f"tape:0x{market_id.hex()}", rows)

    async def tape(self, params: Params) -> Any:
        """The latest matches of a market, oldest first, at most 1,000."""
        return list(self._tapes[market_named(self._node, params).market_id])

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for market_id, market in self._node.markets.items():
                nursery.start_soon(self._follow, market_id, market)
            nursery.start_soon(self._look)

    async def _follow(self, market_id: MarketId, market: MarketNode) -> None:
        channel, book = f"book:0x{market_id.hex()}", self._books[market_id]
        while True:
            if self._feeds.is_heard(channel) and market.replica.epoch != book.epoch:
                self._feeds.publish(channel, book.change())
            await market.changed.wait()

    async def _look(self) -> None:
        """What is ours moves by many hands; whoever listens hears of it within a second."""
        while True:
            for channel in self._own_channels():
                if self._feeds.is_heard(channel):
                    kind, _, market = channel.partition(":")
                    params: dict[str, Any] = {"market": market} if market else {}
                    if kind == "orders":
                        params["ended"] = True
                    try:
                        now = await self._methods[OWN[kind]](params)
                    except OrrangeError as error:
                        now = {"problem": str(error)}
                    if now != self._own.get(channel):
                        self._own[channel] = now
                        self._feeds.publish(channel, now)
            with trio.move_on_after(LOOK_EVERY_S):
                await self._feeds.joined.wait()
