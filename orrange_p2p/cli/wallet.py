"""``orrange wallet``: what the running node's traders hold on chains, and sending it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import click

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.confirm import confirm, told
from orrange_p2p.cli.options import (
    ask_passphrase,
    data_dir_option,
    echo_json,
    json_option,
    passphrase_option,
    wants_json,
)
from orrange_p2p.cli.sending import ASK_S, FAILURES, sending, tell, wait
from orrange_p2p.core.addresses import parse_address, show_address
from orrange_p2p.core.errors import ConfigError, WorldError
from orrange_p2p.core.ids import Address
from orrange_p2p.core.units import parse_amount, show_amount
from orrange_p2p.daemon.config import load_config
from orrange_p2p.daemon.traders import add_trader, import_trader

UNLIMITED: Final = (1 << 256) - 1


@click.group("wallet")
def command() -> None:
    """Show what this node's traders hold on chains; approve, wrap, unwrap and send it; make one
    more trader.

    Exit status: 0 done; 1 the chain refused it, or it failed in a block; 2 the call is wrong, and
    nothing was sent; 3 no node or chain answers, or it was not final in time: then it goes on, and
    `orrange wallet sent ID` tells.
    """


def _spending(function: Callable[..., None]) -> Callable[..., None]:
    chain = click.option(
        "--chain", metavar="CHAIN", help="Such as eip155:1; needed if there are several."
    )
    return chain(sending(function))


@command.command("new")
@data_dir_option
@passphrase_option
@json_option
def new(data_dir: Path, passphrase_file: Path | None, as_json: bool) -> None:
    """Make one more trader, of the node's seed; it trades from the node's next start on."""
    number, address = add_trader(load_config(data_dir), lambda: ask_passphrase(passphrase_file))
    _tell_trader(number, address, as_json)


@command.command("import")
@click.argument("keystore", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--keystore-passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its first line opens KEYSTORE; else it is asked on the terminal.",
)
@data_dir_option
@passphrase_option
@json_option
def import_(
    keystore: Path,
    keystore_passphrase_file: Path | None,
    data_dir: Path,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Make a key of another wallet one more trader, while the node does not run.

    KEYSTORE is a file of Web3 Secret Storage, version 3, as geth, Clef and ethers write it. The 24
    words do not hold the key: `orrange backup` does.
    """
    config = load_config(data_dir)
    told(f"Of {keystore}:", True)
    opening = ask_passphrase(keystore_passphrase_file)
    number, address = import_trader(
        config, keystore, opening, _once(lambda: ask_passphrase(passphrase_file))
    )
    _tell_trader(number, address, as_json)


def _once(ask_it: Callable[[], str]) -> Callable[[], str]:
    """So that a person is asked once for one passphrase."""
    return cache(ask_it)


def _tell_trader(number: int, address: Address, as_json: bool) -> None:
    if wants_json(as_json):
        echo_json({"trader": number, "address": show_address(address)})
    else:
        click.echo(f"trader {number}  {show_address(address)}  from the next start on")


@command.command("balance")
@data_dir_option
@json_option
def balance(data_dir: Path, as_json: bool) -> None:
    """Show coins and tokens, and what the contracts may move of these."""
    rows = ask(data_dir, "wallet", timeout_s=ASK_S)
    if wants_json(as_json):
        echo_json(rows)
    else:
        _show(rows)


@command.command("approve")
@click.argument("token")
@click.argument("amount", required=False)
@click.option("--unlimited", is_flag=True, help="Without a limit: convenient, and as trusting.")
@click.option(
    "--contract",
    type=click.Choice(["Settlement", "HashTimelock"]),
    help="Which may move it; needed if both are in node.toml.",
)
@_spending
def approve(
    token: str, amount: str | None, unlimited: bool, contract: str | None, **how: Any
) -> None:
    """Let a contract move up to AMOUNT of TOKEN; 0 takes it back.

    TOKEN is a symbol, as `orrange wallet balance` shows it, or 0x and 40 digits. Trades settle and
    swaps lock out of what is approved.
    """
    if (amount is None) == (not unlimited):
        raise ConfigError("say AMOUNT or --unlimited, one of the two")
    row = _row(how, token)
    spenders = {one["contract"]: one for one in row["allowances"]}
    if contract is None and len(spenders) == 1:
        contract = next(iter(spenders))
    if contract is None or contract not in spenders:
        known = ", ".join(spenders) or "none in node.toml"
        raise ConfigError(f"--contract {contract or 'is missing'}; of this chain: {known}")
    units = UNLIMITED if unlimited else parse_amount(str(amount), _decimals(row))
    shown = "any amount" if unlimited else f"up to {amount}"
    words = f"let {contract} {spenders[contract]['address']} move {shown} {row['symbol']}"
    _send(how, row, "approve", units, words, spenders[contract]["address"])


@command.command("send")
@click.argument("asset")
@click.argument("amount")
@click.argument("to")
@_spending
def send(asset: str, amount: str, to: str, **how: Any) -> None:
    """Send AMOUNT of ASSET to the address TO.

    ASSET is a symbol, as `orrange wallet balance` shows it, or 0x and 40 digits of a token.
    """
    row = _row(how, asset)
    address = "0x" + parse_address(to).hex()
    units = parse_amount(amount, _decimals(row))
    if not units:
        raise ConfigError("nothing is nothing to send")
    _send(how, row, "send", units, f"send {amount} {row['symbol']} to {to}", address)


@command.command("deposit")
@click.argument("token")
@click.argument("amount")
@_spending
def deposit(token: str, amount: str, **how: Any) -> None:
    """Wrap AMOUNT of the chain's coin into TOKEN, such as WETH, which markets can trade."""
    row = _row(how, token)
    units = parse_amount(amount, _decimals(row))
    _send(how, row, "deposit", units, f"wrap {amount} coins into {row['symbol']}", None)


@command.command("withdraw")
@click.argument("token")
@click.argument("amount")
@_spending
def withdraw(token: str, amount: str, **how: Any) -> None:
    """Unwrap AMOUNT of TOKEN, such as WETH, into the chain's coin."""
    row = _row(how, token)
    units = parse_amount(amount, _decimals(row))
    _send(how, row, "withdraw", units, f"unwrap {amount} {row['symbol']} into coins", None)


@command.command("sent")
@click.argument("name", metavar="ID")
@click.option("--chain", metavar="CHAIN", help="Needed if there are several.")
@data_dir_option
@json_option
def sent(name: str, chain: str | None, data_dir: Path, as_json: bool) -> None:
    """Tell how far something is that an earlier call sent."""
    params = {"id": name} | ({} if chain is None else {"chain": chain})
    status = ask(data_dir, "wallet_sent", params, timeout_s=ASK_S)
    if status is None:
        raise ConfigError(f"nothing was sent under the id {name}")
    if wants_json(as_json):
        echo_json({"id": name, **status})
    else:
        tell(status)


def _row(how: Mapping[str, Any], named: str) -> dict[str, Any]:
    """The row of the wallet that an asset's name means."""
    rows = [
        row
        for row in ask(how["data_dir"], "wallet", timeout_s=ASK_S)
        if row["trader"] == how["trader"] and how["chain"] in (None, row["chain"])
    ]
    wanted = named.lower()
    found = [
        row
        for row in rows
        if wanted in (str(row["symbol"]).lower(), row["asset"], row["asset"].rpartition(":")[2])
    ]
    if len(found) == 1:
        if found[0]["problem"]:
            raise WorldError(f"{found[0]['chain']}: {found[0]['problem']}")
        return dict(found[0])
    if found:
        places = ", ".join(row["asset"] for row in found)
        raise ConfigError(f"{named} is the name of several: {places}; add --chain, or its address")
    known = ", ".join(dict.fromkeys(str(row["symbol"] or row["asset"]) for row in rows)) or "none"
    raise ConfigError(f"no asset {named!r} of trader {how['trader']}; known: {known}")


def _decimals(row: Mapping[str, Any]) -> int:
    if row["decimals"] is None:
        raise WorldError(f"the chain does not tell how many decimals {row['asset']} has")
    return int(row["decimals"])


def _send(
    how: Mapping[str, Any],
    row: Mapping[str, Any],
    kind: str,
    units: int,
    words: str,
    to: str | None,
) -> None:
    as_json = wants_json(how["as_json"])
    data_dir, name = how["data_dir"], how["name"] or secrets.token_hex(8)
    params = {
        "chain": row["chain"],
        "trader": how["trader"],
        "kind": kind,
        "asset": row["asset"],
        "amount": str(units),
        **({} if to is None else {"to": to}),
    }
    plan = ask(data_dir, "wallet_plan", params, timeout_s=ASK_S)
    fee = show_amount(int(plan["fee_at_most"]), 18)
    told(f"On {row['chain']}, from {row['account']}: {words}. Fee: at most {fee} coins.", as_json)
    if how["dry_run"]:
        if as_json:
            echo_json({**params, **plan, "sent": False})
        return
    confirm(how["yes"])
    status = ask(data_dir, "wallet_send", {**params, "id": name}, timeout_s=ASK_S)
    told(f"Sent as {status['tx_hash']} (id {name}).", as_json)
    status = wait(data_dir, {"chain": row["chain"], "id": name}, status, how["wait_s"], as_json)
    if as_json:
        echo_json({"id": name, **status})
    else:
        tell(status)
    if status["state"] in FAILURES:
        raise SystemExit(1)


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    for place in dict.fromkeys((row["chain"], row["account"]) for row in rows):
        click.echo("  ".join(filter(None, place)))
        table = Table()
        table.add_column("asset")
        table.add_column("amount", justify="right")
        table.add_column("may be moved by")
        for row in rows:
            if (row["chain"], row["account"]) == place:
                table.add_row(*_cells(row))
        Console().print(table)
    if not rows:
        click.echo("No chains: node.toml names none.")


def _cells(row: Mapping[str, Any]) -> list[str]:
    def shown(units: str) -> str:
        if int(units) >= 1 << 255:
            return "any amount"
        return units if row["decimals"] is None else show_amount(int(units), row["decimals"])

    amount = row["problem"] if row["amount"] is None else shown(row["amount"])
    allowed = [f"{one['contract']}: {shown(one['amount'])}" for one in row["allowances"]]
    return [row["symbol"] or row["asset"], amount, "\n".join(allowed)]
