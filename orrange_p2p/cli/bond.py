"""``orrange bond``: coins locked on Bitcoin for a reputation, and proofs of them."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.confirm import confirm, dry_run_option, told, yes_option
from orrange_p2p.cli.options import data_dir_option, echo_json, json_option, wants_json
from orrange_p2p.core.bitcoin_bonds import parse_month, show_month
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.units import parse_amount, show_amount

DECIMALS: Final = 8
ASK_S: Final = 60.0
MAX_FILE_BYTES: Final = 65_536


@click.group("bond")
def command() -> None:
    """Lock bitcoin until a month begins: it counts half of a bond that can be slashed.

    The key is of the node's seed, one for each trader, and has to be bound in the registry before
    anything is locked. Nobody can take the coins before their time, this node included.

    Exit status: 0 done; 1 the proof is not true, or the chain refused it; 2 the call is wrong, and
    nothing was sent; 3 no node or chain answers.
    """


@command.command("list")
@data_dir_option
@json_option
def list_(data_dir: Path, as_json: bool) -> None:
    """Show the traders' keys, whose they are by the registry, and what is locked by them."""
    said = ask(data_dir, "bonds", timeout_s=ASK_S)
    if wants_json(as_json):
        echo_json(said)
        return
    for key in said["keys"]:
        bound = f"bound to {key['bound_to']}" if key["bound_to"] else "not bound: nothing counts"
        click.echo(f"trader {key['trader']}  {key['account']}  key {key['key']}  {bound}")
    if said["why_not"]:
        click.echo(f"{said['chain']} is not read: {said['why_not']}")
    if not said["counts"]:
        click.echo(f"This network counts no bonds on {said['chain']}.")
    if not said["bonds"]:
        click.echo("No bonds.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("output", "trader", "bitcoin", "locked until", "state")
    for bond in said["bonds"]:
        table.add_row(
            bond["outpoint"],
            str(bond["trader"]),
            show_amount(bond["sats"], DECIMALS),
            show_month(bond["locked_until_s"]) + "-01",
            _state(bond),
        )
    Console().print(table)


@command.command("create")
@click.argument("amount")
@click.option("--until", "month", required=True, metavar="YYYY-MM", help="Locked until it begins.")
@click.option("--trader", type=click.IntRange(1), default=1, show_default=True)
@click.option("--id", "name", help="Of an earlier call, to be sure that it is done once.")
@yes_option
@dry_run_option
@data_dir_option
@json_option
def create(
    amount: str,
    month: str,
    trader: int,
    name: str | None,
    yes: bool,
    dry_run: bool,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Lock AMOUNT bitcoin of the node's wallet until the month begins.

    It counts a day after it was paid, and less from day to day during its last year.
    """
    as_json = wants_json(as_json)
    sats, until_s = parse_amount(amount, DECIMALS), parse_month(month)
    name = name or secrets.token_hex(8)
    params = {"id": name, "trader": trader, "sats": sats, "until_s": until_s}
    plan = ask(data_dir, "bond_plan", params, timeout_s=ASK_S)
    told(
        f"On {plan['chain']}: lock {show_amount(sats, DECIMALS)} bitcoin at {plan['address']} for "
        f"{plan['account']}, until {month}-01, 00:00 UTC.\n"
        "NOBODY can move them before, you included, whatever happens.\n"
        f"Fee: about {show_amount(plan['fee'], DECIMALS)}. They count for up to "
        f"{int(plan['worth']) // 2:,} micro-units of the bond asset.",
        as_json,
    )
    if dry_run:
        if as_json:
            echo_json({**params, **plan, "sent": False})
        return
    confirm(yes)
    sent = ask(data_dir, "bond_create", params, timeout_s=ASK_S)
    if as_json:
        echo_json({**params, **plan, **sent, "sent": True})
    else:
        click.echo(f"Sent as {sent['txid']} (id {name}); `orrange bond list` shows it.")


@command.command("prove")
@click.argument("outpoint", metavar="OUTPUT")
@data_dir_option
def prove(outpoint: str, data_dir: Path) -> None:
    """Print a proof, as JSON, that OUTPUT is a bond of this node's trader.

    OUTPUT is a transaction's id, a colon and a number, as `orrange bond list` shows it. Reputation
    needs no proof: nodes find bonds by themselves.
    """
    echo_json(ask(data_dir, "bond_prove", {"outpoint": outpoint}, timeout_s=ASK_S))


@command.command("verify")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@data_dir_option
@json_option
def verify(file: Any, data_dir: Path, as_json: bool) -> None:
    """Check a proof of FILE, or of - for what is piped in, against the node's Bitcoin chain."""
    shown = _proof_of(file)
    said = ask(data_dir, "bond_verify", {"record": shown.get("record")}, timeout_s=ASK_S)
    if said["valid"] and said["proof"] != shown:
        said = {**said, "valid": False, "why": "the file says something else than its record"}
    if wants_json(as_json):
        echo_json(said)
    elif said["valid"]:
        _tell(said)
    else:
        click.echo(f"NOT TRUE: {said['why']}")
    if not said["valid"]:
        sys.exit(1)


@command.command("spend")
@click.argument("outpoint", metavar="OUTPUT")
@yes_option
@data_dir_option
@json_option
def spend(outpoint: str, yes: bool, data_dir: Path, as_json: bool) -> None:
    """Take a bond whose time has come back into the node's wallet."""
    as_json = wants_json(as_json)
    told(f"Take {outpoint} home; the fee is taken from it.", as_json)
    confirm(yes)
    sent = ask(data_dir, "bond_spend", {"outpoint": outpoint}, timeout_s=ASK_S)
    if as_json:
        echo_json(sent)
    else:
        click.echo(f"Sent as {sent['txid']}; `orrange bond list` shows when it is in a block.")


def _proof_of(file: Any) -> dict[str, Any]:
    try:
        shown = json.loads(file.read(MAX_FILE_BYTES))
    except (ValueError, RecursionError):
        shown = None
    if not isinstance(shown, dict) or "record" not in shown:
        raise ConfigError(f"{file.name} has no proof: `orrange bond prove` prints one")
    return shown


def _state(bond: Mapping[str, Any]) -> str:
    if bond["spent_by"]:
        return "came home" if bond["spent_depth"] else "on its way home"
    if not bond["depth"]:
        return "waits for a block"
    if bond["free"]:
        return "can be spent"
    return f"locked, {bond['depth']} blocks deep"


def _tell(said: Mapping[str, Any]) -> None:
    proof = said["proof"]
    click.echo(
        f"TRUE: {show_amount(proof['sats'], DECIMALS)} bitcoin at {proof['outpoint']}, locked "
        f"until {show_month(proof['locked_until_s'])}-01 for {proof['account']}, "
        f"{said['depth']} blocks deep"
    )
    if said["bound_to"] is None:
        click.echo("The registry does not show its key: it gives nobody a reputation.")
    elif said["bound_to"] != proof["account"]:
        click.echo(f"The registry shows its key as that of {said['bound_to']}: it counts there.")
