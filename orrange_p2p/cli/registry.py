"""``orrange registry``: bonds, the keys that they answer for, and who stands for witness."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.confirm import confirm, told
from orrange_p2p.cli.markets import choose
from orrange_p2p.cli.options import ADDRESS, data_dir_option, echo_json, json_option, wants_json
from orrange_p2p.cli.sending import (
    ASK_S,
    FAILURES,
    FOR_EVER,
    sending,
    tell,
    trader_option,
    wait,
)
from orrange_p2p.core.addresses import show_address
from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.ids import Address
from orrange_p2p.core.times import show_time
from orrange_p2p.core.units import parse_amount, show_amount

STEP_S: Final = 120.0
"""For a step that another one waits for, where nobody waits for the last."""


@click.group("registry")
def command() -> None:
    """Bond, and let the bond count for something.

    A trader's account of this node is the owner. On the way to a witness: `bond`, `bind witness`,
    `allocate MARKET witness AMOUNT`, `stand MARKET`; then it may be elected for the next era, or
    the one after. On the way out: `unstand`, then, once the lock has ended, `unbond`, and 14 days
    later `withdraw`. `status` tells how far you are.

    A key that signs two things for one place costs the whole bond.

    Exit status: 0 done; 1 the chain refused it, or it failed in a block; 2 the call is wrong, and
    nothing was sent; 3 no node or chain answers, or it was not final in time: then it goes on, and
    `orrange wallet sent ID` tells.
    """


@command.command("status")
@click.argument("account", type=ADDRESS, required=False)
@trader_option
@data_dir_option
@json_option
def status(account: Address | None, trader: int, data_dir: Path, as_json: bool) -> None:
    """Show a bond and what it does.

    Of a trader, or of ACCOUNT: when it can be had back, which keys it answers for, what backs them,
    and where they stand.
    """
    params: dict[str, Any] = {"trader": trader}
    if account is not None:
        params = {"account": show_address(account)}
    said = ask(data_dir, "registry", params, timeout_s=ASK_S)
    if wants_json(as_json):
        echo_json(said)
    else:
        _show(said)


@command.command("bond")
@click.argument("amount")
@click.option(
    "--days",
    type=click.IntRange(1, 366),
    required=True,
    help="All of the bond is locked for so long; a year counts in full.",
)
@sending
def bond(amount: str, days: int, **how: Any) -> None:
    """Bond AMOUNT more.

    In the bond's token; all of the bond is locked. The registry is allowed to take just that,
    first, unless it may already.
    """
    said = _status(how)
    until_s = said["time_s"] + days * 86_400
    params = {"kind": "bond", "amount": _units(amount, said), "until_s": until_s}
    words = f"bond {amount} {said['token']['symbol']}, all of it locked until {show_time(until_s)}"
    _take(how, params, words)


@command.command("unbond")
@click.argument("amount")
@sending
def unbond(amount: str, **how: Any) -> None:
    """Start to take out AMOUNT, or `all`.

    Once the lock has ended; 14 days later it can be withdrawn.
    """
    said = _status(how)
    units = _units(amount, said, said["bond"]["amount"])
    params = {"kind": "unbond", "amount": units}
    _take(how, params, f"start to take {_amount(units, said)} out of the bond")


@command.command("withdraw")
@sending
def withdraw(**how: Any) -> None:
    """Get what was on its way out for 14 days."""
    said = _status(how)
    words = f"withdraw {_amount(said['bond']['unbonding'], said)} from the registry"
    _take(how, {"kind": "withdraw"}, words)


@command.command("bind")
@click.argument("key")
@click.option("--bitcoin", is_flag=True, help="And the key of the trader's bonds on Bitcoin.")
@sending
def bind(key: str, bitcoin: bool, **how: Any) -> None:
    """Answer for a KEY, for ever.

    It is one of this node: `witness`, the number of a trader, or an address, and signs that it
    agrees. A trader's own account is a key like another: bind it to trade by it, backed by the
    bond. `orrange bond` locks bitcoin by the key that is bound with --bitcoin.
    """
    params = {"kind": "bind", "key": key, "bitcoin": bitcoin}
    also = " and for the key of the trader's bonds on Bitcoin" if bitcoin else ""
    _take(how, params, f"answer with the bond for the key {key}{also}")


@command.command("allocate")
@click.argument("market")
@click.argument("key")
@click.argument("amount")
@sending
def allocate(market: str, key: str, amount: str, **how: Any) -> None:
    """Let AMOUNT of the bond back KEY.

    Or `all` of it, in MARKET, instead of what backed the key there before. What an owner allocates
    beyond its bond counts nothing: of several allocations the one that was said first counts first.
    """
    chosen = choose(how["data_dir"], market, raw=True)
    said = _status(how)
    units = _units(amount, said, said["bond"]["amount"])
    params = {"kind": "allocate", "market": chosen.id, "key": key, "amount": units}
    words = f"let {_amount(units, said)} of the bond back the key {key} in {chosen.name}"
    _take(how, params, words)


@command.command("stand")
@click.argument("market")
@sending
def stand(market: str, **how: Any) -> None:
    """Stand for witness of MARKET.

    By this node's witness key, with reveals that begin with the next era, and end: `status` tells
    when. Stand again before.
    """
    chosen = choose(how["data_dir"], market, raw=True)
    params = {"kind": "stand", "market": chosen.id}
    _take(how, params, f"stand for witness of {chosen.name}")


@command.command("unstand")
@click.argument("market")
@sending
def unstand(market: str, **how: Any) -> None:
    """Stand for witness of MARKET no more."""
    chosen = choose(how["data_dir"], market, raw=True)
    params = {"kind": "unstand", "market": chosen.id}
    _take(how, params, f"stand no more for witness of {chosen.name}")


def _status(how: Mapping[str, Any]) -> dict[str, Any]:
    params = {"trader": how["trader"]}
    return dict(ask(how["data_dir"], "registry", params, timeout_s=ASK_S))


def _units(amount: str, said: Mapping[str, Any], everything: str = "") -> str:
    """In smallest units; ``everything``: what `all` means, if it means something."""
    if amount == "all" and everything:
        return everything
    return str(parse_amount(amount, said["token"]["decimals"]))


def _amount(units: str, said: Mapping[str, Any]) -> str:
    return f"{show_amount(int(units), said['token']['decimals'])} {said['token']['symbol']}"


def _take(how: Mapping[str, Any], params: dict[str, Any], words: str) -> None:
    """Say what would be done, ask, and do it: step by step, each once."""
    as_json, data_dir = wants_json(how["as_json"]), how["data_dir"]
    name = how["name"] or secrets.token_hex(8)
    params = {**params, "trader": how["trader"], "id": name}
    plan = ask(data_dir, "registry_plan", params, timeout_s=ASK_S)
    _tell_plan(plan, words, as_json)
    if how["dry_run"]:
        if as_json:
            echo_json({**params, **plan})
        return
    if not plan["sent"]:
        confirm(how["yes"])
    *before, last = plan["steps"]
    for kind in before:
        step = _send(data_dir, {**params, "kind": kind, "id": name + kind}, as_json)
        place = {"chain": plan["chain"], "id": name + kind}
        step = wait(data_dir, place, step, how["wait_s"] or STEP_S, as_json, ("mined", *FOR_EVER))
        if step["state"] in FAILURES:
            raise WorldError(f"{kind} is {step['state']}: nothing else was sent")
    done = _send(data_dir, {**params, "kind": last}, as_json)
    place = {"chain": plan["chain"], "id": name}
    done = wait(data_dir, place, done, how["wait_s"], as_json)
    if as_json:
        echo_json({"id": name, **done})
    else:
        tell(done)
    if done["state"] in FAILURES:
        raise SystemExit(1)


def _send(data_dir: Path, params: Mapping[str, Any], as_json: bool) -> dict[str, Any]:
    done: dict[str, Any] = ask(data_dir, "registry_send", params, timeout_s=ASK_S)
    told(f"{params['kind']}: sent as {done['tx_hash']} (id {params['id']}).", as_json)
    return done


def _tell_plan(plan: Mapping[str, Any], words: str, as_json: bool) -> None:
    if plan["sent"]:
        told(f"On {plan['chain']}, from {plan['account']}, sent before: {words}.", as_json)
        return
    first = "let the registry take just that, then " if len(plan["steps"]) > 1 else ""
    fee = show_amount(int(plan["fee_at_most"]), 18)
    told(
        f"On {plan['chain']}, from {plan['account']}: {first}{words}. Fee: at most {fee} coins.",
        as_json,
    )
    if "since" in plan:
        told(f"  Its reveals are for eras {plan['since']} to {plan['last_era']}.", as_json)
    for note in plan["notes"]:
        told(f"  Note: {note}.", as_json)


# --- status, for people ---


def _show(said: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    bond, now_s = said["bond"], said["time_s"]
    click.echo(f"{said['account']}  on {said['chain']}, registry {said['registry']}")
    if said["owner"]:
        click.echo(f"  a key that {said['owner']} answers for")
    locked = bond["locked_until_s"]
    lock = f"locked until {show_time(locked)}" if locked > now_s else "not locked"
    click.echo(f"  bond         {_amount(bond['amount'], said)}, {lock}")
    if bond["withdrawable_at_s"] is not None:
        at_s = bond["withdrawable_at_s"]
        when = f"from {show_time(at_s)} on" if at_s > now_s else "now"
        click.echo(f"  on its way   {_amount(bond['unbonding'], said)}, to be withdrawn {when}")
    click.echo(f"  beside it    {_amount(said['held'], said)}")
    if said["paused"] or said["upgrade_from_s"] is not None:
        why = (
            "paused"
            if said["paused"]
            else f"an upgrade comes from {show_time(said['upgrade_from_s'])}"
        )
        click.echo(f"  no new bonds: {why}")
    if said["block"] is None:
        click.echo(f"  keys, backing and candidacies are not known yet: {said['why_not']}")
        return
    click.echo(f"  reputation   {int(said['reputation']):,} micro-units")
    click.echo(f"  as of final block {said['block']}" + _why_late(said))
    if said["keys"]:
        table = Table("key", "of this node", "")
        for one in said["keys"]:
            table.add_row(one["key"], one["name"] or "", "convicted" if one["convicted"] else "")
        Console().print(table)
    if said["allocations"]:
        table = Table("market", "key", "backed by", "of it counts")
        for one in said["allocations"]:
            amounts = (_amount(one["amount"], said), _amount(one["counted"], said))
            table.add_row(_short(one["market"]), one["key"], *amounts)
        Console().print(table)
    if said["candidacies"]:
        table = Table("market", "stands", "reveals for eras", "weight now", "in the next era")
        for one in said["candidacies"]:
            table.add_row(
                _short(one["market"]),
                one["key"],
                f"{one['since']} to {one['last_era']}",
                _weight(one["weight"]),
                _weight(one["next_weight"]),
            )
        Console().print(table)


def _why_late(said: Mapping[str, Any]) -> str:
    return f"; the chain is not followed: {said['why_not']}" if said["why_not"] else ""


def _short(market: str) -> str:
    return market[:10]


def _weight(weight: int | None) -> str:
    return "-" if weight is None else f"{weight:,}"
