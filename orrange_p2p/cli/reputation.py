"""``orrange reputation``: what accounts are worth, why, and whether the node has it right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import trio

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.options import (
    ADDRESS,
    data_dir_option,
    echo_json,
    json_option,
    wants_json,
)
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address

block_option = click.option(
    "--block", type=click.IntRange(0), help="Of the home chain.  [default: the last one read]"
)


@click.group("reputation")
def command() -> None:
    """What accounts are worth by the home chain, in micro-units of the bond asset.

    Bonds count by how long they are locked, settled trades by the fees they burned, defaults
    against whom they name. Every node computes the same from the same blocks.

    Exit status: 1 if a check finds a difference, 3 if no node is running or its home chain does
    not answer.
    """


@command.command("show")
@click.argument("account", type=ADDRESS, required=False)
@block_option
@data_dir_option
@json_option
def show(account: Address | None, block: int | None, data_dir: Path, as_json: bool) -> None:
    """Show the scores of all accounts, the best first, or of one."""
    said = _ask(data_dir, account, block)
    if wants_json(as_json):
        echo_json(said)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("account", "score", "bonds", "trades", "defaults", "days")
    for one in said["scores"]:
        table.add_row(
            one["account"],
            *(f"{int(one[name]):,}" for name in ("total", "bonds", "trades", "defaults")),
            str(one["age_days"]),
        )
    Console().print(table)
    click.echo(_where(said))


@command.command("explain")
@click.argument("account", type=ADDRESS)
@block_option
@data_dir_option
@json_option
def explain(account: Address, block: int | None, data_dir: Path, as_json: bool) -> None:
    """Show every event that ACCOUNT's score is made of, and what it counts."""
    said = _ask(data_dir, account, block)
    if wants_json(as_json):
        echo_json(said)
        return
    if not said["scores"]:
        click.echo(f"0x{account.hex()} has no history. {_where(said)}")
        return
    (one,) = said["scores"]
    bonds, trades, defaults = (int(one[name]) for name in ("bonds", "trades", "defaults"))
    for term in one["terms"]:
        sign = "-" if term["kind"] in ("timeout", "dispute") else "+"
        where = f"{term['chain']} block {term['block']} log {term['log']}"
        click.echo(f"  {sign}{int(term['value']):>24,}  {term['kind']:<13} {where}")
    earned = min(8 * trades * one["age_days"] // 180, bonds)
    click.echo(
        f"bonds {bonds:,} + trades min(8 x {trades:,} x {one['age_days']}/180, bonds) = "
        f"{earned:,} - defaults {defaults:,}"
    )
    total = int(one["total"])
    note = "  (a fork was proven)" if not total and bonds + earned > defaults else ""
    click.echo(f"score {total:,}{note}")
    click.echo(_where(said))


@command.command("verify")
@click.argument("account", type=ADDRESS, required=False)
@click.option("--all", "everybody", is_flag=True, help="Of all accounts.")
@block_option
@data_dir_option
@json_option
def verify(
    account: Address | None, everybody: bool, block: int | None, data_dir: Path, as_json: bool
) -> None:
    """Read the home chain anew and compare: has the node got ACCOUNT, or --all, right?

    Two nodes agree if they print the same digest for the same block.
    """
    from orrange_p2p.daemon.config import load_config
    from orrange_p2p.daemon.reputation_api import read_anew

    if (account is None) != everybody:
        raise ConfigError("name an ACCOUNT, or say --all")
    said = _ask(data_dir, None if everybody else account, block)
    config, pin = load_config(data_dir), said["block"]
    click.echo(f"reading {said['chain']} up to block {pin} ...", err=True)
    anew = trio.run(read_anew, config, pin)
    is_equal = anew["digest"] == said["digest"] and anew["hash"] == said["hash"]
    if wants_json(as_json):
        rows = {} if everybody else {"scores": said["scores"]}
        about = {name: said[name] for name in ("chain", "block", "hash", "accounts")}
        digests = {"digest": said["digest"], "read_anew": anew["digest"]}
        echo_json({**about, **digests, "equal": is_equal, **rows})
    else:
        click.echo(f"node       {said['digest']}")
        click.echo(f"read anew  {anew['digest']}")
        click.echo(f"{'equal' if is_equal else 'DIFFERENT'}: {_where(said)}")
    if not is_equal:
        sys.exit(1)


def _ask(data_dir: Path, account: Address | None, block: int | None) -> dict[str, Any]:
    params: dict[str, Any] = {} if block is None else {"block": block}
    if account is not None:
        params["account"] = "0x" + account.hex()
    said: dict[str, Any] = ask(data_dir, "reputation", params)
    return said


def _where(said: dict[str, Any]) -> str:
    text = f"{said['accounts']} accounts at block {said['block']} of {said['chain']}"
    return text + (f"; the chain is not followed: {said['why_not']}" if said["why_not"] else "")
