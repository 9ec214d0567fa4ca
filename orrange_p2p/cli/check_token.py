"""``orrange check-token``: whether a market may list a token."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import trio

from orrange_p2p.cli.options import ADDRESS, data_dir_option, echo_json, json_option, wants_json
from orrange_p2p.core.ids import Address
from orrange_p2p.daemon.config import load_config
from orrange_p2p.daemon.token_check import look_at_token


@click.command("check-token")
@click.argument("asset")
@click.option(
    "--holder",
    type=ADDRESS,
    default="0x" + "00" * 20,
    help="Somebody who holds some: a transfer of theirs is simulated.",
)
@data_dir_option
@json_option
def command(asset: str, holder: Address, data_dir: Path, as_json: bool) -> None:
    """Ask the contract of ASSET, such as eip155:1/erc20:0x..., whether a market may list it.

    Amounts in a market are exact. So a token that keeps a part of what is sent, or whose balances
    move by themselves, is not to be listed; that somebody can stop or change it is told. What a
    contract hides nobody can see: this finds what is plain. Nothing is sent. Status 1 if it is not
    to be listed, or if that could not be tried.
    """
    report = trio.run(look_at_token, load_config(data_dir), asset, holder)
    if wants_json(as_json):
        echo_json(
            {
                "asset": report.asset,
                "listable": report.is_listable,
                "findings": [
                    {"what": one.what, "verdict": one.verdict.value, "why": one.why}
                    for one in report.findings
                ],
            }
        )
    else:
        for one in report.findings:
            click.echo(f"{one.verdict.value:<8} {one.what:<9} {one.why}")
        click.echo("A market may list it." if report.is_listable else "Not to be listed.")
    if not report.is_listable:
        sys.exit(1)
