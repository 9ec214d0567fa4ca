"""A node as bots know exchanges: methods and shapes of the CCXT library's unified API.

``Exchange`` speaks the node's HTTP API. Names, arguments and dictionaries are CCXT's, so a bot
written for it needs a few lines changed; but prices and amounts are exact decimals as text, never
binary fractions, and so must be those that are handed in. Under trio, ``watch_order_book`` follows
the node's stream.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import attrs
import httpx
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from orrange_p2p.core import genesis
from orrange_p2p.core.errors import (
    ConfigError,
    DeadlineError,
    OrrangeError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.units import Units

__all__ = ["Exchange"]

TIMEOUT_S: Final = 30.0
_STATUS: Final = {
    "pending": "open",
    "open": "open",
    "matched": "open",
    "ended": "closed",
    "refused": "rejected",
}
_IN_FORCE: Final = {"GTC": "gtc", "IOC": "ioc", "FOK": "fok", "PO": "gtc"}

Row = dict[str, Any]


@attrs.frozen
class _Symbol:
    """A market, and what its lots and ticks are in coins; in themselves where nobody knows."""

    name: str
    row: Row
    units: Units | None

    def lots(self, amount: str) -> str:
        return str(_whole(amount) if self.units is None else self.units.lots(amount))

    def ticks(self, price: str) -> str:
        return str(_whole(price) if self.units is None else self.units.price(price))

    def amount(self, lots: str) -> str:
        return lots if self.units is None else self.units.show_lots(int(lots))

    def price(self, ticks: str) -> str:
        return ticks if self.units is None else self.units.show_price(int(ticks))


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) == 0:
        raise ConfigError(
            f"{text!r} is no whole number: this market's coins have no known decimals"
        )
    return int(text)


class Exchange:
    """One node. Use it as a context, or ``close`` it."""

    id = "orrange"

    def __init__(self, url: str, token: str) -> None:
        """``token``: the content of ``api.cookie``, or a session's."""
        self._url = url.rstrip("/")
        self._token = token
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=TIMEOUT_S)
        self._symbols: dict[str, _Symbol] = {}

    @classmethod
    def of_node(cls, data_dir: Path, url: str = "http://127.0.0.1:9772") -> Exchange:
        """The node of a data directory on this machine. Raises ``ConfigError`` if it has no API."""
        try:
            return cls(url, (data_dir / "api.cookie").read_text().strip())
        except OSError as error:
            raise ConfigError(f"{data_dir}/api.cookie: {error.strerror}: does it run?") from None

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --- markets ---

    def load_markets(self) -> dict[str, Row]:
        """By symbol."""
        network = genesis.parse_toml(self._ask("GET", "/v1/network")["genesis"])
        known = {"0x" + market.id.hex(): market for market in network.markets}
        self._symbols = {}
        for row in self._ask("GET", "/v1/markets"):
            name = row["name"] or row["market"]
            self._symbols[name] = _Symbol(name, row, _units(known[row["market"]], row))
        return {name: self._market(symbol) for name, symbol in self._symbols.items()}

    def fetch_markets(self) -> list[Row]:
        return list(self.load_markets().values())

    def _market(self, symbol: _Symbol) -> Row:
        base, _, quote = symbol.name.partition("/")
        return {
            "id": symbol.row["market"],
            "symbol": symbol.name,
            "base": base,
            "quote": quote or None,
            "active": True,
            "spot": True,
            "type": "spot",
            "precision": {"amount": symbol.amount("1"), "price": symbol.price("1")},
            "limits": {"amount": {"min": symbol.amount("1")}, "price": {"min": symbol.price("1")}},
            "info": symbol.row,
        }

    def _symbol(self, name: str) -> _Symbol:
        if not self._symbols:
            self.load_markets()
        symbol = self._symbols.get(name)
        if symbol is None:
            raise ConfigError(f"no market {name!r} here; there are {', '.join(self._symbols)}")
        return symbol

    # --- what everybody sees ---

    def fetch_order_book(self, symbol: str, limit: int = 20) -> Row:
        """``bids`` and ``asks``, best first, as [price, amount]; ``nonce`` is the epoch."""
        market = self._symbol(symbol)
        params = {"market": market.row["market"], "levels": limit}
        said = self._ask("GET", "/v1/book", params=params)
        return _book(market, said["bids"], said["asks"], said["epoch"])

    def fetch_trades(self, symbol: str, since: int | None = None, limit: int = 100) -> list[Row]:
        """The latest matches, oldest first. ``since``: milliseconds."""
        market = self._symbol(symbol)
        rows = self._ask("GET", "/v1/tape", params={"market": market.row["market"]})
        found = [row for row in rows if since is None or row["time_ms"] >= since]
        return [
            {
                "symbol": symbol,
                "timestamp": row["time_ms"],
                "side": row["side"],
                "price": market.price(row["price"]),
                "amount": market.amount(row["lots"]),
                "info": row,
            }
            for row in found[-limit:]
        ]

    async def watch_order_book(self, symbol: str, limit: int = 20) -> AsyncIterator[Row]:
        """The book, and again after every epoch that moved it, until the node cuts us off. Close it
        (``contextlib.aclosing``) when leaving before. Under trio."""
        market = self._symbol(symbol)
        channel = f"book:{market.row['market']}"
        url = f"{self._url.replace('http', 'ws', 1)}/v1/stream?channels={channel}"
        headers = [(b"Authorization", f"Bearer {self._token}".encode())]
        sides: dict[str, dict[int, str]] = {"bids": {}, "asks": {}}
        try:
            async with open_websocket_url(url, extra_headers=headers) as stream:
                while True:
                    data = json.loads(await stream.get_message())["data"]
                    for name, levels in sides.items():
                        for price, lots, _ in data[name]:
                            levels.pop(int(price), None)
                            if lots != "0":
                                levels[int(price)] = lots
                    bids, asks = (
                        [(str(p), levels[p]) for p in sorted(levels, reverse=name == "bids")]
                        for name, levels in sides.items()
                    )
                    yield _book(market, bids[:limit], asks[:limit], data["epoch"])
        except (ConnectionClosed, HandshakeError) as error:
            raise UnreachableError(f"the node ended the stream: {error}") from None

    # --- what is ours ---

    def create_order(
        self,
        symbol: str,
        type: str,
        side: str,
        amount: str,
        price: str | None = None,
        params: Row | None = None,
    ) -> Row:
        """Place an order. ``type``: ``limit``, or ``market`` with ``price`` as the worst one.

        ``params``: ``timeInForce`` (GTC, IOC, FOK, PO), ``postOnly``, ``clientOrderId`` (the same
        again is the same order), ``author``. Raises ``ConfigError`` before anything is sent.
        """
        market, wish = self._symbol(symbol), dict(params or {})
        if type not in ("limit", "market") or price is None:
            raise ConfigError("an order is 'limit', or 'market'; each with a price as its bound")
        in_force = str(wish.pop("timeInForce", "GTC"))
        if in_force not in _IN_FORCE:
            raise ConfigError(f"timeInForce is {in_force!r}; one of {', '.join(_IN_FORCE)}")
        key = str(wish.pop("clientOrderId", secrets.token_hex(16)))
        body = {
            "market": market.row["market"],
            "side": side,
            "price": market.ticks(price),
            "quantity": market.lots(amount),
            "time_in_force": "ioc" if type == "market" else _IN_FORCE[in_force],
            "post_only": bool(wish.pop("postOnly", False)) or in_force == "PO",
            "author": wish.pop("author", market.row["authors"][0]),
        }
        if wish:
            raise ConfigError(f"params: unknown {', '.join(wish)}")
        said = self._ask("POST", "/v1/orders", json=body, headers={"Idempotency-Key": key})
        return {
            "id": said["order"],
            "clientOrderId": key,
            "symbol": symbol,
            "type": type,
            "side": side,
            "price": price,
            "amount": amount,
            "status": "open",
            "info": said,
        }

    def cancel_order(self, id: str, symbol: str) -> Row:
        """Take back what is open of an order."""
        params = {"market": self._symbol(symbol).row["market"]}
        said = self._ask("DELETE", f"/v1/orders/{id}", params=params)
        return {"id": id, "symbol": symbol, "status": "canceled", "info": said}

    def cancel_all_orders(self, symbol: str) -> list[Row]:
        """Take back all open orders of every author of this node."""
        row = self._symbol(symbol).row
        return [
            {"symbol": symbol, "info": self._ask("DELETE", "/v1/orders", params=params)}
            for author in row["authors"]
            for params in [{"market": row["market"], "author": author}]
        ]

    def fetch_orders(self, symbol: str) -> list[Row]:
        """Open ones, and those that ended lately."""
        return self._orders(symbol, ended=True)

    def fetch_open_orders(self, symbol: str) -> list[Row]:
        return [row for row in self._orders(symbol, ended=False) if row["status"] == "open"]

    def fetch_order(self, id: str, symbol: str) -> Row:
        """Raises ``ConfigError`` for one that nobody remembers."""
        for row in self.fetch_orders(symbol):
            if row["id"] == id:
                return row
        raise ConfigError(f"nothing is known of order {id}")

    def _orders(self, symbol: str, *, ended: bool) -> list[Row]:
        market = self._symbol(symbol)
        params = {"market": market.row["market"], "ended": ended}
        return [
            {
                "id": row["order"],
                "symbol": symbol,
                "type": "limit",
                "side": row["side"],
                "price": market.price(row["price"]),
                "amount": market.amount(row["quantity"]),
                "filled": market.amount(row["filled"]),
                "remaining": market.amount(row["open"]),
                "status": "canceled"
                if row["state"] == "ended" and row["filled"] != row["quantity"]
                else _STATUS[row["state"]],
                "info": row,
            }
            for row in self._ask("GET", "/v1/orders", params=params)
        ]

    def fetch_my_trades(self, symbol: str, since: int | None = None) -> list[Row]:
        """Own trades, oldest first, and how far each is settled (``info``)."""
        market = self._symbol(symbol)
        rows = self._ask("GET", "/v1/trades", params={"market": market.row["market"]})
        return [
            {
                "id": row["id"],
                "symbol": symbol,
                "timestamp": row["bound_ms"],
                "side": "buy" if row["buyer"] in market.row["authors"] else "sell",
                "price": market.price(row["price"]),
                "amount": market.amount(row["lots"]),
                "takerOrMaker": "maker" if row["maker"] in market.row["authors"] else "taker",
                "info": row,
            }
            for row in rows
            if since is None or row["bound_ms"] >= since
        ]

    # --- the wire ---

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TimeoutException:
            raise DeadlineError(f"{self._url} did not answer within {TIMEOUT_S:g} s") from None
        except httpx.HTTPError as error:
            raise UnreachableError(f"{self._url}: {error}") from None
        if answer.is_success:
            return answer.json()
        raise _refusal(answer)


def _refusal(answer: httpx.Response) -> OrrangeError:
    try:
        said = answer.json()
        message = f"{said['message']} ({said['code']})"
    except (ValueError, KeyError, TypeError):
        message = f"the node answers {answer.status_code}"
    is_ours = answer.status_code in (400, 401, 403, 404, 413, 422)
    return ConfigError(message) if is_ours else WorldError(message)


def _units(market: Market, row: Row) -> Units | None:
    base, quote = row["base_decimals"], row["quote_decimals"]
    return None if base is None or quote is None else Units(market, base, quote)


def _book(market: _Symbol, bids: Any, asks: Any, epoch: int) -> Row:
    return {
        "symbol": market.name,
        "bids": [[market.price(row[0]), market.amount(row[1])] for row in bids],
        "asks": [[market.price(row[0]), market.amount(row[1])] for row in asks],
        "nonce": epoch,
    }
