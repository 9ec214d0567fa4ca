"""Which market is meant, and its amounts as people write them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import MarketId, OrderId
from orrange_p2p.core.operations import MAX_QUANTITY
from orrange_p2p.core.units import Units
from orrange_p2p.daemon.config import DataDir

market_option = click.option(
    "--market",
    metavar="NAME|ID",
    help="Such as GOLD/USD, or 0x and 64 digits; needed if the node has several.",
)
raw_option = click.option(
    "--raw",
    is_flag=True,
    help="Quantities are lots and prices are ticks, as the protocol has them.",
)


@attrs.frozen(eq=False)
class ChosenMarket:
    """A market of the running node."""

    id: str
    name: str
    """Of its tokens; its id where these are not known."""
    authors: Sequence[str]
    """Whose orders the node writes."""
    units: Units | None
    """None: quantities are lots, prices are ticks."""
    why_raw: str = ""

    def lots(self, text: str) -> int:
        return _whole(text, self.why_raw) if self.units is None else self.units.lots(text)

    def price(self, text: str) -> int:
        return _whole(text, self.why_raw) if self.units is None else self.units.price(text)

    def show_lots(self, lots: int | str) -> str:
        return str(lots) if self.units is None else self.units.show_lots(int(lots))

    def show_price(self, price: int | str) -> str:
        return str(price) if self.units is None else self.units.show_price(int(price))

    def show_total(self, lots: int, price: int) -> str:
        return str(lots * price) if self.units is None else self.units.show_total(lots, price)

    @property
    def base(self) -> str:
        """What to write behind a quantity."""
        return "lots" if self.units is None else self.name.partition("/")[0]

    @property
    def quote(self) -> str:
        """What to write behind a price."""
        return "ticks" if self.units is None else self.name.partition("/")[2]

    def handle(self, order: str) -> str:
        """An order by the number of its trader: short enough for a table, and to be typed."""
        author, _, rest = order.partition("/")
        return f"{self.authors.index(author) + 1}/{rest}" if author in self.authors else order

    def order(self, text: str) -> OrderId:
        """The order of such a handle, or of its full name. Raises ``ConfigError``."""
        trader, _, rest = text.partition("/")
        full = text if trader.startswith("0x") else f"{self.author(trader)}/{rest}"
        try:
            return OrderId.parse(full)
        except ValueError:
            raise ConfigError(
                f"{text!r} is no order: <trader>/<entry>/<position>, the trader by number or "
                "address"
            ) from None

    def author(self, named: str | None) -> str:
        """The author that ``--trader`` means: a number, counted from 1, or an address."""
        if named is None and len(self.authors) == 1:
            return self.authors[0]
        if named is not None:
            if named.lower() in self.authors:
                return named.lower()
            if named.isascii() and named.isdecimal() and 1 <= int(named) <= len(self.authors):
                return self.authors[int(named) - 1]
        if not self.authors:
            raise ConfigError("this node has no trader: it writes no orders")
        known = ", ".join(f"{n} {address}" for n, address in enumerate(self.authors, 1))
        raise ConfigError(f"--trader {named or 'is missing'}: one of {known}")


def markets_of(data_dir: Path, raw: bool) -> list[ChosenMarket]:
    """All markets of the running node."""
    genesis = DataDir(data_dir).load_genesis()
    return [_market(row, genesis, raw) for row in ask(data_dir, "markets")]


def choose(data_dir: Path, named: str | None, raw: bool) -> ChosenMarket:
    """The market that ``--market`` means. Raises ``ConfigError`` if it means none, or several."""
    markets = markets_of(data_dir, raw)
    if named is None:
        if len(markets) == 1:
            return markets[0]
        raise ConfigError(f"--market is missing; one of: {_listed(markets)}")
    wanted = named.lower()
    found = [one for one in markets if wanted in (one.id, one.name.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(one.id for one in found)
        raise ConfigError(f"{named} is the name of {len(found)} markets; name one by its id: {ids}")
    close = difflib.get_close_matches(wanted, [one.name.lower() for one in markets], n=1)
    meant = "".join(f" Did you mean {one.name}?" for one in markets if one.name.lower() in close)
    raise ConfigError(f"there is no market {named!r};{meant} One of: {_listed(markets)}")


def _market(row: Mapping[str, Any], genesis: Genesis, raw: bool) -> ChosenMarket:
    market = genesis.market(MarketId(bytes.fromhex(row["market"].removeprefix("0x"))))
    decimals = (row["base_decimals"], row["quote_decimals"])
    name, authors = row["name"] or row["market"], row["authors"]
    if raw:
        return ChosenMarket(row["market"], name, authors, None)
    if None in decimals:
        why = (
            "the decimals of this market's tokens are not known, since their chain is not in "
            "node.toml or does not answer: add --raw, and count in lots and ticks"
        )
        return ChosenMarket(row["market"], name, authors, None, why)
    return ChosenMarket(row["market"], name, authors, Units(market, *decimals))


def _listed(markets: Sequence[ChosenMarket]) -> str:
    return ", ".join(one.id if one.name == one.id else f"{one.name} ({one.id})" for one in markets)


def _whole(text: str, why_raw: str) -> int:
    if why_raw:
        raise ConfigError(why_raw)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_QUANTITY):
        raise ConfigError(f"{text!r} is no number of lots or ticks: 1 or more, and whole")
    return int(text)
