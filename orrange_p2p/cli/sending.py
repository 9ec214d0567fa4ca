"""What all commands that send something share: their options, and waiting until it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.confirm import dry_run_option, told, yes_option
from orrange_p2p.cli.options import data_dir_option, json_option
from orrange_p2p.core.errors import DeadlineError
from orrange_p2p.core.units import show_amount

ASK_S: Final = 30.0
LOOK_S: Final = 0.5
FOR_EVER: Final = ("final", "failed", "dropped", "reverted")
FAILURES: Final = ("failed", "dropped", "reverted")

trader_option = click.option("--trader", type=click.IntRange(1), default=1, show_default=True)
_options: Final[list[Callable[[Any], Any]]] = [
    trader_option,
    click.option("--id", "name", help="Of an earlier call, to be sure that it is done once."),
    click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(0, 3600),
        default=120.0,
        show_default=True,
        help="Seconds to wait until it is final; 0: none.",
    ),
    yes_option,
    dry_run_option,
    data_dir_option,
    json_option,
]


def sending(function: Callable[..., None]) -> Callable[..., None]:
    """Options of a command that spends."""
    for option in reversed(_options):
        function = option(function)
    return function


def wait(
    data_dir: Path,
    params: Mapping[str, Any],
    status: dict[str, Any],
    wait_s: float,
    as_json: bool,
    until: tuple[str, ...] = FOR_EVER,
) -> dict[str, Any]:
    """How something that was sent stands in the end. ``params``: its chain and id. Raises
    ``DeadlineError`` if it takes longer than ``wait_s`` seconds; 0 waits for nothing."""
    deadline = time.monotonic() + wait_s
    seen = ""
    while status["state"] not in until:
        if time.monotonic() >= deadline:
            if not wait_s:
                return status
            raise DeadlineError(
                f"it is not final after {wait_s:g} s, and goes on: "
                f"`orrange wallet sent {params['id']}` tells how far it is"
            )
        time.sleep(LOOK_S)
        status = ask(data_dir, "wallet_sent", params, timeout_s=ASK_S)
        now = f"{status['state']}, {status['note'] or ''}".rstrip(", ")
        if now != seen:
            told(f"  {now}", as_json)
            seen = now
    return status


def tell(status: Mapping[str, Any]) -> None:
    """For people."""
    where = f" in block {status['block']}" if status["block"] else ""
    fee = f", fee {show_amount(int(status['fee']), 18)} coins" if status["block"] else ""
    click.echo(f"{status['state']}{where}{fee}  {status['tx_hash']}")
