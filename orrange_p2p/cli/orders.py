"""``orrange orders``: place, cancel, amend and list the running node's orders."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.confirm import confirm, dry_run_option, told, yes_option
from orrange_p2p.cli.markets import ChosenMarket, choose, market_option, markets_of, raw_option
from orrange_p2p.cli.options import (
    data_dir_option,
    echo_json,
    json_option,
    wants_json,
)
from orrange_p2p.cli.order_table import WHY, for_json, in_words, show
from orrange_p2p.cli.order_terms import terms_options, wished
from orrange_p2p.core.errors import ConfigError, DeadlineError, InvalidError, WorldError

LOOK_S: Final = 0.1
trader_option = click.option(
    "--trader", metavar="N|ADDRESS", help="Whose orders; needed if the node has several traders."
)
wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 600),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the epoch that has it; 0: none.",
)


@click.group("orders")
def command() -> None:
    """Place, cancel, amend and list orders of the running node.

    Quantities are in coins of the market's base, prices in coins of its quote for one of these.

    Exit status: 0 done; 1 the book refused it, or nothing of it was filled or is left; 2 the call
    is wrong, and nothing was done; 3 no node is running, or no epoch came in time: then it may
    still happen, and `orrange orders list` tells.
    """


@command.command("place")
@click.option("--buy", metavar="AMOUNT", help="How much of the base to buy.")
@click.option("--sell", metavar="AMOUNT", help="How much of the base to sell.")
@click.option("--price", metavar="PRICE", required=True, help="The worst that is acceptable.")
@market_option
@trader_option
@terms_options
@raw_option
@wait_option
@yes_option
@dry_run_option
@data_dir_option
@json_option
def place(
    buy: str | None,
    sell: str | None,
    price: str,
    market: str | None,
    trader: str | None,
    raw: bool,
    wait_s: float,
    yes: bool,
    dry_run: bool,
    data_dir: Path,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Place an order: `orrange orders place --buy 0.5 --price 236.47 --market GOLD/USD`.

    A market order is one with --tif ioc and a price that is bad enough, or with --max-slippage.
    """
    if (buy is None) == (sell is None):
        raise ConfigError("say --buy AMOUNT or --sell AMOUNT, one of the two")
    chosen = choose(data_dir, market, raw)
    author = chosen.author(trader)
    terms = {
        "side": "buy" if buy is not None else "sell",
        "quantity": str(chosen.lots(buy or sell or "")),
        "price": str(chosen.price(price)),
        **wished(chosen, wishes),
    }
    _submit(data_dir, chosen, author, {"op": "place", **terms}, wait_s, yes, dry_run, as_json)


@command.command("amend")
@click.argument("order")
@click.option("--quantity", metavar="AMOUNT", help="[default: what is open of it]")
@click.option("--price", metavar="PRICE", help="[default: its price]")
@market_option
@terms_options
@raw_option
@wait_option
@yes_option
@dry_run_option
@data_dir_option
@json_option
def amend(
    order: str,
    quantity: str | None,
    price: str | None,
    market: str | None,
    raw: bool,
    wait_s: float,
    yes: bool,
    dry_run: bool,
    data_dir: Path,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Take ORDER back and place another in one step, with a new place in the queue.

    ORDER is as `orrange orders list` names it, or 0x<author>/<entry>/<position>.

    What is not said stays as it is. What of ORDER is matched already stays matched.
    """
    chosen, row = _find(data_dir, order, market, raw)
    if row["state"] not in ("open", "pending"):
        raise InvalidError(f"{order} is {in_words(row)}: there is nothing to amend")
    kept = {
        name: row[name]
        for name in ("side", "time_in_force", "expiry", "post_only", "self_trade")
        if row[name] is not None
    }
    terms = {
        **kept,
        "min_reputation": row["min_reputation"],
        "quantity": row["open"] if quantity is None else str(chosen.lots(quantity)),
        "price": row["price"] if price is None else str(chosen.price(price)),
        **wished(chosen, wishes),
    }
    if terms["time_in_force"] not in ("gtt", "gte"):
        terms.pop("expiry", None)
    author, target = _target(chosen, row)
    amended = {"op": "amend", **target, **terms}
    _submit(data_dir, chosen, author, amended, wait_s, yes, dry_run, as_json)


@command.command("cancel")
@click.argument("which", metavar="ORDER...|all", nargs=-1, required=True)
@market_option
@trader_option
@wait_option
@data_dir_option
@json_option
def cancel(
    which: tuple[str, ...],
    market: str | None,
    trader: str | None,
    wait_s: float,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Take orders back: by name, or all of them (of a market, of a trader, if one is named).

    Each as `orrange orders list` names it. What is matched already is not undone.
    """
    waited: list[tuple[ChosenMarket, list[str]]] = []
    if which == ("all",):
        markets = markets_of(data_dir, True)
        if market is not None:
            markets = [choose(data_dir, market, True)]
        for one in markets:
            wanted = None if trader is None else one.author(trader)
            live = [row["order"] for row in _orders(data_dir, one) if row["state"] != "matched"]
            authors = dict.fromkeys(name.partition("/")[0] for name in live)
            for author in authors:
                if wanted in (None, author):
                    _call(data_dir, one, author, [{"op": "cancel_all"}])
            waited.append(
                (one, [name for name in live if wanted in (None, name.partition("/")[0])])
            )
    else:
        for name in which:
            chosen, row = _find(data_dir, name, market, True)
            if row["state"] in ("ended", "refused", "matched"):
                raise InvalidError(f"{name} is {in_words(row)}: there is nothing to cancel")
            author, target = _target(chosen, row)
            _call(data_dir, chosen, author, [{"op": "cancel", **target}])
            waited.append((chosen, [row["order"]]))
    done = [
        (one, row)
        for one, names in waited
        for row in _await(data_dir, one, names, wait_s, ("pending", "open"))
    ]
    if wants_json(as_json):
        echo_json([for_json(one, row) for one, row in done])
    elif done:
        for one, row in done:
            click.echo(f"{one.handle(row['order'])}  {in_words(row)}")
    else:
        click.echo("There was nothing to cancel.")


@command.command("list")
@market_option
@trader_option
@click.option("--all", "ended", is_flag=True, help="Also those that ended or were refused lately.")
@raw_option
@data_dir_option
@json_option
def list_(
    market: str | None,
    trader: str | None,
    ended: bool,
    raw: bool,
    data_dir: Path,
    as_json: bool,
) -> None:
    """List this node's orders: a table on a terminal, JSON when piped.

    \b
    pending   signed here, in no epoch yet
    open      in the book
    matched   all that is left of it waits until both sides have accepted
    ended     filled or cancelled       refused   it never came into the book
    """
    markets = markets_of(data_dir, raw) if market is None else [choose(data_dir, market, raw)]
    rows = []
    for one in markets:
        author = None if trader is None else one.author(trader)
        for row in _orders(data_dir, one, ended=ended):
            if author in (None, row["order"].partition("/")[0]):
                rows.append((one, row))
    if wants_json(as_json):
        echo_json([for_json(one, row) for one, row in rows])
    else:
        show(rows)


def _submit(
    data_dir: Path,
    chosen: ChosenMarket,
    author: str,
    operation: Mapping[str, Any],
    wait_s: float,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Show it, ask, place it, and tell what became of it."""
    is_json = wants_json(as_json)
    lots, price = int(operation["quantity"]), int(operation["price"])
    summary = (
        f"{operation['side']} {chosen.show_lots(lots)} {chosen.base} at"
        f" {chosen.show_price(price)} {chosen.quote} or better"
    )
    if chosen.units is not None:
        summary += f": {chosen.show_total(lots, price)} {chosen.quote} in all"
    told(f"{summary}\nmarket {chosen.name}, trader {author}", is_json)
    if dry_run:
        if is_json:
            echo_json({"market": chosen.id, "author": author, "operation": dict(operation)})
        return
    confirm(yes)
    (name,) = _call(data_dir, chosen, author, [operation])
    rows = _await(data_dir, chosen, [name], wait_s, ("pending",))
    if not rows:
        raise WorldError(f"{name} was committed, and this node remembers no more of it")
    row = rows[0]
    if is_json:
        echo_json(for_json(chosen, row))
    else:
        click.echo(f"{chosen.handle(name)}  {in_words(row)}")
    left = int(row["filled"]) + int(row["open"]) + int(row["reserved"])
    if row["state"] in ("refused", "ended") and not left:
        raise InvalidError(f"nothing of it was filled: {WHY.get(row['reason'], row['reason'])}")


def _call(
    data_dir: Path, chosen: ChosenMarket, author: str, operations: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The names that operations got in the author's log."""
    params = {"market": chosen.id, "author": author, "operations": list(operations)}
    names = ask(data_dir, "submit", params, timeout_s=30.0)
    return [f"{name['author']}/{name['seq']}/{name['position']}" for name in names]


def _orders(
    data_dir: Path,
    chosen: ChosenMarket,
    names: Collection[str] | None = None,
    *,
    ended: bool = False,
) -> list[dict[str, Any]]:
    params: dict[str, Any] = {"market": chosen.id, "ended": ended}
    if names is not None:
        params["orders"] = list(names)
    rows: list[dict[str, Any]] = ask(data_dir, "orders", params)
    return rows


def _await(
    data_dir: Path,
    chosen: ChosenMarket,
    names: Sequence[str],
    wait_s: float,
    waits_in: Collection[str],
) -> list[dict[str, Any]]:
    """How orders stand once none of them is in a state of ``waits_in``."""
    deadline = time.monotonic() + wait_s
    while names:
        rows = [
            row
            for at in range(0, len(names), 500)
            for row in _orders(data_dir, chosen, names[at : at + 500])
        ]
        if not any(row["state"] in waits_in for row in rows) or not wait_s:
            return rows
        if time.monotonic() > deadline:
            raise DeadlineError(
                f"signed, and in no epoch after {wait_s:g} s: `orrange orders list` tells what "
                "becomes of it, `orrange status` whether enough witnesses are reachable"
            )
        time.sleep(LOOK_S)
    return []


def _find(
    data_dir: Path, named: str, market: str | None, raw: bool
) -> tuple[ChosenMarket, dict[str, Any]]:
    """An order of ours, and the market that it is in."""
    markets = markets_of(data_dir, raw) if market is None else [choose(data_dir, market, raw)]
    found = [
        (one, row) for one in markets for row in _orders(data_dir, one, [str(one.order(named))])
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"there is a {named} in {len(found)} markets: add --market")
    raise ConfigError(f"{named} is no order of this node, or ended long ago")


def _target(chosen: ChosenMarket, row: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
    """Whose order it is, and how its own log calls it."""
    order = chosen.order(row["order"])
    return "0x" + order.author.hex(), {"seq": order.seq, "position": order.position}
