"""A bot to start from: it keeps one quote on each side of a market, and moves them with the price.

    python -m orrange_p2p.client.maker_bot --data-dir DIR --price 236.5 --amount 0.1

It quotes around the middle of the best prices of others, or around ``--price`` while there is
none, only ever rests in the book, and takes its quotes back when it ends. It has no opinion and no
limits: give it what you can lose.
"""

from __future__ import annotations

import signal
from decimal import Decimal
from pathlib import Path
from typing import Final

import click
import trio

from orrange_p2p.client.exchange import Exchange, Row
from orrange_p2p.core.errors import OrrangeError

EVERY_S: Final = 1.0


class Maker:
    """Two quotes."""

    def __init__(self, exchange: Exchange, symbol: str, price: Decimal, away: Decimal, amount: str):
        self._exchange = exchange
        self._symbol = symbol
        self._price = price
        self._away = away
        self._amount = amount
        self._tick = Decimal(exchange.load_markets()[symbol]["precision"]["price"])
        self._quotes: dict[str, Row] = {}

    def look(self) -> None:
        """Quote anew where the price has moved, or a quote is gone."""
        middle = self._middle()
        live = {row["id"] for row in self._exchange.fetch_open_orders(self._symbol)}
        for side, sign in (("buy", -1), ("sell", 1)):
            ticks = max(1, round((middle + sign * self._away) / self._tick))
            wanted = format(ticks * self._tick, "f")
            held = self._quotes.get(side)
            if held is not None and held["id"] in live:
                if held["price"] == wanted:
                    continue
                self._exchange.cancel_order(held["id"], self._symbol)
            self._quotes[side] = self._exchange.create_order(
                self._symbol, "limit", side, self._amount, wanted, {"postOnly": True}
            )

    def _middle(self) -> Decimal:
        """Of the best prices that are not ours."""
        own = {row["price"] for row in self._quotes.values()}
        book = self._exchange.fetch_order_book(self._symbol)
        best = [
            next((Decimal(price) for price, _ in book[side] if price not in own), None)
            for side in ("bids", "asks")
        ]
        if best[0] is not None and best[1] is not None:
            self._price = (best[0] + best[1]) / 2
        return self._price

    def leave(self) -> None:
        """Take the quotes back."""
        for quote in self._quotes.values():
            self._exchange.cancel_order(quote["id"], self._symbol)


async def quote(maker: Maker) -> None:
    """Until SIGINT or SIGTERM; a refusal is told, and the next second tries again."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_look_again, maker)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break
        await trio.to_thread.run_sync(maker.leave)


async def _look_again(maker: Maker) -> None:
    while True:
        try:
            await trio.to_thread.run_sync(maker.look)
        except OrrangeError as error:
            click.echo(f"not quoted: {error}", err=True)
        await trio.sleep(EVERY_S)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), required=True)
@click.option("--url", default="http://127.0.0.1:9772", show_default=True)
@click.option("--market", "symbol", help="Such as GOLD/USD; needed if there are several.")
@click.option("--price", required=True, help="To begin with.")
@click.option("--away", default="1", show_default=True, help="Of each quote from the middle.")
@click.option("--amount", required=True)
def main(data_dir: Path, url: str, symbol: str | None, price: str, away: str, amount: str) -> None:
    """Quote both sides of a market until Ctrl-C."""
    with Exchange.of_node(data_dir, url) as exchange:
        symbols = list(exchange.load_markets())
        if symbol is None and len(symbols) > 1:
            raise click.UsageError(f"which market? --market {' or '.join(symbols)}")
        maker = Maker(exchange, symbol or symbols[0], Decimal(price), Decimal(away), amount)
        click.echo(f"quoting {symbol or symbols[0]}; Ctrl-C takes the quotes back")
        trio.run(quote, maker)
        click.echo("quotes taken back")


if __name__ == "__main__":
    main()
