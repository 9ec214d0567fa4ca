"""Options that several commands share."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from orrange_p2p.core.addresses import parse_address
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address, OrderId
from orrange_p2p.daemon.config import default_data_dir

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_data_dir,
    help="Made by `orrange init`; by default $ORRANGE_DATA_DIR or ~/.local/share/orrange.",
)

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Its first line is the passphrase of the keys; else it is asked on the terminal.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, as is done anyway when piped."
)


class _OrderIdType(click.ParamType[OrderId]):
    name = "order"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> OrderId:
        try:
            return OrderId.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


ORDER_ID = _OrderIdType()


class _AddressType(click.ParamType[Address]):
    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        try:
            return parse_address(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


ADDRESS = _AddressType()


def ask_passphrase(file: Path | None, *, new: bool = False) -> str:
    """The passphrase, from a file or the terminal: never an argument or a variable, which other
    processes can read. Raises ``ConfigError`` without either."""
    from orrange_p2p.daemon.keys import MIN_PASSPHRASE, read_passphrase

    if file is not None:
        entered = read_passphrase(file)
    elif not sys.stdin.isatty():
        raise ConfigError("the keys have a passphrase: name its file with --passphrase-file")
    else:
        text = "New passphrase for the keys" if new else "Passphrase of the keys"
        entered = str(click.prompt(text, hide_input=True, confirmation_prompt=new, err=True))
    if new and len(entered) < MIN_PASSPHRASE:
        raise ConfigError(f"a passphrase has {MIN_PASSPHRASE} characters or more")
    return entered


def run_line(data_dir: Path) -> str:
    """What to type to run a node there."""
    if data_dir == default_data_dir():
        return "orrange run"
    return f"orrange run --data-dir {shlex.quote(str(data_dir))}"


def wants_json(as_json: bool) -> bool:
    """Tables are for people: JSON where it is asked for, and wherever output is no terminal."""
    return as_json or not sys.stdout.isatty()


def echo_json(value: Any) -> None:
    """One line on standard output."""
    click.echo(json.dumps(value, separators=(",", ":")))
