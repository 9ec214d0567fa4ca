"""What the local socket answers about our own orders, and about the markets they are in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orrange_p2p.core.entries import Entry
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import OrderId, Seq
from orrange_p2p.core.operations import SelfTrade, Side, TimeInForce
from orrange_p2p.daemon.api import MAX_ROWS, market_named
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.node import Node
from orrange_p2p.daemon.own_orders import OwnOrder, pending
from orrange_p2p.daemon.tokens import Tokens
from orrange_p2p.rpc.server import Method, Params

__all__ = ["methods"]

MAX_ASKED: Final = 512
"""Orders asked for by name at once: as many as can be placed at once."""


def methods(node: Node, tokens: Tokens) -> Mapping[str, Method]:
    """``markets`` and ``orders``."""
    api = _OrderApi(node, tokens)
    return {"markets": api.markets, "orders": api.orders}


class _OrderApi:
    def __init__(self, node: Node, tokens: Tokens) -> None:
        self._node = node
        self._tokens = tokens

    async def markets(self, params: Params) -> Any:
        """The markets this node carries, in smallest units; names and decimals of their tokens as
        the chains tell them, null where they cannot be told."""
        return [await self._market(market) for market in self._node.markets.values()]

    async def _market(self, node: MarketNode) -> dict[str, Any]:
        market = node.market
        base, quote = [await self._tokens.get(asset) for asset in (market.base, market.quote)]
        return {
            "market": "0x" + node.market_id.hex(),
            "name": f"{base.symbol}/{quote.symbol}" if base and quote else None,
            "base": market.base,
            "quote": market.quote,
            "base_decimals": None if base is None else base.decimals,
            "quote_decimals": None if quote is None else quote.decimals,
            "tick_size": str(market.tick_size),
            "lot_size": str(market.lot_size),
            "settlement": market.settlement,
            "timing": market.timing,
            "authors": ["0x" + author.hex() for author in self._node.authors],
        }

    async def orders(self, params: Params) -> Any:
        """Our orders in a market: those not yet committed, those in the book, and with ``ended``
        those that ended or were refused lately, the latest first; at most 1,000 of each.

        ``orders``: only these, ended or not; of one that is not among the rows nothing is known.
        """
        market = market_named(self._node, params)
        wanted = _wanted(params)
        waiting = {row.id: row for row in await self._pending(market)}
        own = self._node.own_orders[market.market_id]
        past = {row.id: row for row in own.past()}
        # What was read first may have moved on since.
        live = waiting | {row.id: row for row in own.live(market.replica.fold)}
        if wanted is not None:
            rows = [row for name, row in (live | past).items() if name in wanted]
        else:
            rows = [row for name, row in live.items() if name not in past][:MAX_ROWS]
            if params.get("ended", False) is True:
                rows += list(past.values())[:MAX_ROWS]
        return [_row(row) for row in rows]

    async def _pending(self, market: MarketNode) -> list[OwnOrder]:
        found = []
        for author, log in self._node.logs_of(market).items():
            first = market.replica.logs.first_uncut(author)
            if first < log.next_seq:
                records = await market.store.log(market.market_id, author, Seq(first))
                # It may have been cut while the store was read.
                first = market.replica.logs.first_uncut(author)
                entries = [market.decode(record) for record in records if record.number >= first]
                found += pending(entry for entry in entries if isinstance(entry, Entry))
        return found


def _wanted(params: Params) -> set[OrderId] | None:
    names = params.get("orders")
    if names is None:
        return None
    if not isinstance(names, list) or len(names) > MAX_ASKED:
        raise ConfigError(f"'orders' must be a list of at most {MAX_ASKED} orders")
    try:
        return {OrderId.parse(str(name)) for name in names}
    except ValueError as error:
        raise ConfigError(f"'orders': {error}") from None


def _row(order: OwnOrder) -> dict[str, Any]:
    terms = order.terms
    return {
        "order": str(order.id),
        "state": order.state.value,
        "side": Side(terms.side).name.lower(),
        "price": str(terms.price),
        "quantity": str(terms.quantity),
        "open": str(order.open),
        "reserved": str(order.reserved),
        "filled": str(order.filled),
        "reason": order.reason or None,
        "epoch": order.epoch or None,
        "time_in_force": TimeInForce(terms.time_in_force).name.lower(),
        "expiry": terms.expiry or None,
        "post_only": bool(terms.post_only),
        "self_trade": SelfTrade(terms.self_trade).name.lower(),
        "min_quantity": str(terms.min_quantity),
        "max_slippage": None if terms.max_slippage is None else str(terms.max_slippage),
        "min_reputation": terms.min_reputation,
    }
