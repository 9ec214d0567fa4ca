"""The terms of an order as options of the command line, and as the node wants them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from orrange_p2p.cli.markets import ChosenMarket
from orrange_p2p.core.errors import ConfigError

_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})(ms|s|m|h|d)")
_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SELF_TRADE: Final = {
    "newest": "cancel_newest",
    "oldest": "cancel_oldest",
    "decrement": "decrement",
}


def terms_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that ``wished`` reads."""
    options = (
        click.option(
            "--tif",
            type=click.Choice(("gtc", "gtt", "gte", "ioc", "fok")),
            help="Until cancelled, a time, an epoch; now or never, in part or whole.",
        ),
        click.option(
            "--expires", metavar="1h|TIME", help="With gtt: 90s, 15m, 1h, 1d, or ISO 8601."
        ),
        click.option("--expiry-epoch", type=click.IntRange(1), help="With gte."),
        click.option("--post-only", is_flag=True, default=None, help="Cancelled rather than take."),
        click.option(
            "--stp",
            type=click.Choice(tuple(_SELF_TRADE)),
            help="What gives way when it meets an own order.  [default: newest]",
        ),
        click.option(
            "--min-quantity", metavar="AMOUNT", help="All cancelled if less fills at once."
        ),
        click.option(
            "--max-slippage", metavar="PRICE", help="From the best price; it never rests."
        ),
        click.option("--min-reputation", type=click.IntRange(0), help="Of who may meet it."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def wished(chosen: ChosenMarket, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an operation that options ask for; ``ConfigError`` if they contradict."""
    terms: dict[str, Any] = {}
    tif, expires, epoch = (wishes[name] for name in ("tif", "expires", "expiry_epoch"))
    if expires is not None and epoch is not None:
        raise ConfigError("--expires and --expiry-epoch are two ends of one order")
    meant = "gtt" if expires is not None else "gte" if epoch is not None else tif
    if tif not in (None, meant):
        raise ConfigError(f"--tif {tif} has no time of its own: leave --expires and the like out")
    if meant in ("gtt", "gte") and expires is None and epoch is None:
        raise ConfigError("gtt needs --expires, and gte needs --expiry-epoch")
    if meant is not None:
        terms["time_in_force"] = meant
    if expires is not None:
        terms["expiry"] = _until_ms(expires)
    if epoch is not None:
        terms["expiry"] = epoch
    if wishes["post_only"]:
        terms["post_only"] = True
    if wishes["stp"] is not None:
        terms["self_trade"] = _SELF_TRADE[wishes["stp"]]
    if wishes["min_quantity"] is not None:
        terms["min_quantity"] = str(chosen.lots(wishes["min_quantity"]))
    if wishes["max_slippage"] is not None:
        terms["max_slippage"] = str(chosen.price(wishes["max_slippage"]))
    if wishes["min_reputation"] is not None:
        terms["min_reputation"] = wishes["min_reputation"]
    return terms


def _until_ms(text: str) -> int:
    """A duration from now, or a moment, in ms since the epoch."""
    now_ms = time.time_ns() // 1_000_000
    if match := _DURATION.fullmatch(text):
        return now_ms + int(match[1]) * _MS[match[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--expires {text!r}: such as 90s, 15m, 1h, 1d or 2030-01-31T18:00Z"
        ) from None
    if moment.tzinfo is None:
        raise ConfigError(f"--expires {text!r} says no time zone: add Z for UTC, or +02:00")
    if (end_ms := int(moment.astimezone(UTC).timestamp() * 1000)) <= now_ms:
        raise ConfigError(f"--expires {text!r} is over")
    return end_ms
