"""``orrange light``: a market by the word of its witnesses, over nodes one does not trust."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import trio

from orrange_p2p.cli.options import (
    ORDER_ID,
    ask_passphrase,
    data_dir_option,
    echo_json,
    json_option,
    passphrase_option,
    wants_json,
)
from orrange_p2p.client.light import Found, LightClient, Verdict, Word
from orrange_p2p.client.light_trader import LightTrader, Submitted
from orrange_p2p.client.rosters import Trusted, keep_trusted, read_trusted
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Era, Lots, MarketId, OrderId, Price, TimeMs
from orrange_p2p.core.operations import Cancel, CancelAll, Operation, Place, Side, TimeInForce
from orrange_p2p.daemon.config import load_config, load_genesis
from orrange_p2p.daemon.keys import open_keys
from orrange_p2p.daemon.light_trading import open_light_trader
from orrange_p2p.daemon.system import SystemClock

_T = TypeVar("_T")
SURE_DAYS: Final = 7
"""Half of the way out of a bond: whoever had a seat since can still lose it."""

network_option = click.option(
    "--network",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The network.toml of the network: all that is trusted.",
)
nodes_option = click.option(
    "--node", "urls", multiple=True, required=True, metavar="URL", help="A public node; repeat it."
)
market_option = click.option(
    "--market", metavar="ID", help="0x and 64 digits; needed if the network has several."
)
begin_option = click.option(
    "--roster",
    metavar="ERA:DIGEST",
    help="Of elected witnesses: begin with the roster that somebody you trust names.",
)
followed_option = click.option(
    "--followed",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of elected witnesses: a file that keeps how far they were followed, to begin there.",
)
trader_option = click.option(
    "--trader", type=click.IntRange(1), default=1, show_default=True, help="Whose order."
)


@click.group("light")
def command() -> None:
    """Read and trade over public nodes without trusting one: what counts is what the witnesses
    vouch for, and what you sign.

    To trade, make keys with `orrange init --network FILE`; a node may use them later. Quantities
    are in lots, prices in ticks. Matches are accepted while `orrange light run` runs.

    Exit status 1 if a node lies or holds back, 3 if no node shows a state that holds, or none
    takes an order.
    """


@command.command("book")
@network_option
@nodes_option
@market_option
@click.option("--levels", type=click.IntRange(1, 10_000), default=20, show_default=True)
@begin_option
@followed_option
@json_option
def book(
    network: Path,
    urls: tuple[str, ...],
    market: str | None,
    levels: int,
    roster: str | None,
    followed: Path | None,
    as_json: bool,
) -> None:
    """Show a market's book, and what each node's word is worth. Prices in ticks, sizes in lots."""
    genesis = load_genesis(network)
    market_id = _market(genesis, market)
    found = _look(genesis, urls, market_id, roster, followed, lambda light: light.book(market_id))
    assert found.book is not None
    sides = {side: found.book.depth(side, levels) for side in Side}
    if wants_json(as_json):
        echo_json(
            {
                **_about(found),
                "orders": len(found.book.orders),
                "bids": [list(map(str, row)) for row in sides[Side.BUY]],
                "asks": [list(map(str, row)) for row in sides[Side.SELL]],
                "nodes": _words(found.words),
            }
        )
    else:
        _tell(found)
        for price, lots, orders in reversed(sides[Side.SELL]):
            click.echo(f"  sell {lots:>16} at {price:>12}   {orders} orders")
        for price, lots, orders in sides[Side.BUY]:
            click.echo(f"  buy  {lots:>16} at {price:>12}   {orders} orders")
    _leave(found)


@command.command("order")
@click.argument("order", type=ORDER_ID)
@network_option
@nodes_option
@market_option
@begin_option
@followed_option
@json_option
def order(
    order: OrderId,
    network: Path,
    urls: tuple[str, ...],
    market: str | None,
    roster: str | None,
    followed: Path | None,
    as_json: bool,
) -> None:
    """Show how ORDER stands, or that it is not live: 0x<author>/<entry>/<position>."""
    genesis = load_genesis(network)
    market_id = _market(genesis, market)
    found = _look(
        genesis, urls, market_id, roster, followed, lambda light: light.order(market_id, order)
    )
    live = found.order
    shown: dict[str, Any] = {"order": str(order), "live": live is not None}
    if live is not None:
        shown |= {
            "side": Side(live.side).name.lower(),
            "price": str(live.price),
            "quantity": str(live.quantity),
            "open": str(live.open),
            "reserved": str(live.reserved),
            "filled": str(live.filled),
        }
    if wants_json(as_json):
        echo_json({**_about(found), **shown, "nodes": _words(found.words)})
    else:
        _tell(found)
        for name, value in shown.items():
            click.echo(f"  {name:<10} {value}")
    _leave(found)


@command.command("place")
@click.option("--buy", type=click.IntRange(1), metavar="LOTS", help="How much to buy.")
@click.option("--sell", type=click.IntRange(1), metavar="LOTS", help="How much to sell.")
@click.option("--price", type=click.IntRange(1), metavar="TICKS", required=True)
@click.option(
    "--tif",
    type=click.Choice(("gtc", "ioc", "fok")),
    default="gtc",
    show_default=True,
    help="Until cancelled, or now or never, in part or whole.",
)
@click.option("--post-only", is_flag=True, help="Cancelled rather than take.")
@nodes_option
@market_option
@trader_option
@passphrase_option
@data_dir_option
@json_option
def place(
    buy: int | None,
    sell: int | None,
    price: int,
    tif: str,
    post_only: bool,
    urls: tuple[str, ...],
    market: str | None,
    trader: int,
    passphrase_file: Path | None,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Sign an order and hand it to every --node: `orrange light place --buy 5 --price 23647`."""
    if (buy is None) == (sell is None):
        raise ConfigError("say --buy LOTS or --sell LOTS, one of the two")
    order = Place(
        Side.BUY if buy is not None else Side.SELL,
        Price(price),
        Lots(buy or sell or 0),
        TimeInForce[tif.upper()],
        post_only=int(post_only),
    )
    _say(_submit(data_dir, passphrase_file, market, urls, trader, order), as_json)


@command.command("cancel")
@click.argument("which", metavar="ORDER|all")
@nodes_option
@market_option
@trader_option
@passphrase_option
@data_dir_option
@json_option
def cancel(
    which: str,
    urls: tuple[str, ...],
    market: str | None,
    trader: int,
    passphrase_file: Path | None,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Take back ORDER, or all orders of the trader. What is matched already stands."""
    operation: Operation = CancelAll()
    if which != "all":
        try:
            named = OrderId.parse(which)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        operation = Cancel(named.seq, named.position)
    _say(_submit(data_dir, passphrase_file, market, urls, trader, operation), as_json)


@command.command("run")
@nodes_option
@market_option
@trader_option
@passphrase_option
@data_dir_option
def run(
    urls: tuple[str, ...],
    market: str | None,
    trader: int,
    passphrase_file: Path | None,
    data_dir: Path,
) -> None:
    """Accept matches of your orders until Ctrl-C, and hand in again what nodes lost."""

    async def until_stopped(light: LightTrader) -> None:
        click.echo("Accepting matches. Ctrl-C ends it.", err=True)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(light.run)
                async for _ in signals:
                    nursery.cancel_scope.cancel()

    _with_trader(data_dir, passphrase_file, market, urls, trader, until_stopped)


def _submit(
    data_dir: Path,
    passphrase_file: Path | None,
    market: str | None,
    urls: tuple[str, ...],
    trader: int,
    operation: Operation,
) -> Submitted:
    async def submit(light: LightTrader) -> Submitted:
        return await light.submit([operation])

    return _with_trader(data_dir, passphrase_file, market, urls, trader, submit)


def _with_trader(
    data_dir: Path,
    passphrase_file: Path | None,
    market: str | None,
    urls: tuple[str, ...],
    trader: int,
    job: Callable[[LightTrader], Awaitable[_T]],
) -> _T:
    config = load_config(data_dir)
    market_id = _market(config.data_dir.load_genesis(), market)
    keys = open_keys(config, lambda: ask_passphrase(passphrase_file))

    async def do() -> _T:
        async with open_light_trader(config, keys, market_id, urls, trader) as light:
            return await job(light)

    return trio.run(do)


def _say(done: Submitted, as_json: bool) -> None:
    (name,) = done.names
    if wants_json(as_json):
        echo_json({"order": str(name), "nodes": _words(done.words)})
    else:
        click.echo(f"signed as {name}")
        _tell_words(done.words)
    if any(word.verdict is Verdict.LIES for word in done.words):
        sys.exit(1)


def _look(
    genesis: Genesis,
    urls: Sequence[str],
    market: MarketId,
    roster: str | None,
    followed: Path | None,
    job: Callable[[LightClient], Awaitable[Found]],
) -> Found:
    """Ask the nodes; where witnesses are elected, begin where it was left off, and keep how far it
    went."""
    trusted = {} if followed is None else read_trusted(followed, genesis)
    if roster is not None:
        trusted[market] = _trusted(roster)
    elif genesis.parameters.elected_witnesses:
        _warn(trusted[market].time_ms if market in trusted else genesis.start_ms)
    light = LightClient(genesis, urls, trusted=trusted)
    found = trio.run(job, light)
    if followed is not None:
        keep_trusted(followed, genesis, light.trusted)
    return found


def _trusted(text: str) -> Trusted:
    era, _, digest = text.partition(":")
    try:
        octets = bytes.fromhex(digest.removeprefix("0x"))
        if len(octets) == 32 and era.isascii() and era.isdecimal():
            return Trusted(Era(int(era[:18])), octets, TimeMs(0))
    except ValueError:
        pass
    raise ConfigError(f"--roster {text!r}: an era and a digest, such as 12:0x and 64 digits")


def _warn(sure_ms: int) -> None:
    """Of what begins so early that those who signed then may have nothing to lose any more."""
    days = (SystemClock().wall_ms() - sure_ms) // 86_400_000
    if days > SURE_DAYS:
        click.echo(
            f"The witnesses are followed from {days} days ago. Who left since can lose nothing by "
            "showing another chain: to be sure, begin with --roster and what somebody you trust "
            "says.",
            err=True,
        )


def _market(genesis: Genesis, named: str | None) -> MarketId:
    if named is None and len(genesis.markets) == 1:
        return genesis.markets[0].id
    for market in genesis.markets:
        if named == "0x" + market.id.hex():
            return market.id
    known = ", ".join("0x" + market.id.hex() for market in genesis.markets)
    raise ConfigError(f"no market {named!r} in this network; --market is one of: {known}")


def _about(found: Found) -> dict[str, Any]:
    age_s = max(0, (SystemClock().wall_ms() - found.time_ms) // 1000)
    return {"epoch": found.epoch, "age_s": age_s}


def _words(words: Sequence[Word]) -> list[dict[str, Any]]:
    return [
        {"url": w.url, "verdict": w.verdict.value, "reason": w.reason or None, "epoch": w.epoch}
        for w in words
    ]


def _tell(found: Found) -> None:
    about = _about(found)
    click.echo(f"epoch {about['epoch']}, {about['age_s']} s old, by a quorum of the witnesses")
    _tell_words(found.words)


def _tell_words(words: Sequence[Word]) -> None:
    for word in words:
        click.echo(f"  {word.verdict.value:<7} {word.url}  {word.reason}")


def _leave(found: Found) -> None:
    if any(word.verdict in (Verdict.LIES, Verdict.STALE) for word in found.words):
        sys.exit(1)
