"""Before anything is spent: what would happen, and a question."""

from __future__ import annotations

import sys

import click

from orrange_p2p.core.errors import ConfigError

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask: needed in scripts.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def confirm(yes: bool) -> None:
    """Ask. Raises ``ConfigError`` where nobody can answer, ``click.Abort`` for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to confirm this: add --yes, or --dry-run to only look")
    click.confirm("Go ahead?", abort=True, err=True)


def told(text: str, as_json: bool) -> None:
    """Words for people; beside JSON they go to standard error."""
    click.echo(text, err=as_json)
