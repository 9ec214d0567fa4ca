"""The ``orrange`` command: a table of subcommands and what errors become.

Exit status: 0 all is well; 1 it failed, or a check found a difference; 2 the call, a file or a
key has to be mended first; 3 no node or peer answers; 130 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

import orrange_p2p
from orrange_p2p.core.errors import CallerError, DeadlineError, OrrangeError, UnreachableError

COMMANDS: Final = {
    "init": "Make a data directory: keys, network, configuration.",
    "keys": "Show the addresses, the mnemonic; change the passphrase.",
    "run": "Run the node of a data directory.",
    "status": "Ask the running node how it is.",
    "dashboard": "Print the address of the running node's page.",
    "book": "Show the order book of a market.",
    "orders": "Place, cancel, amend and list orders.",
    "trades": "List own trades, and how far each is settled.",
    "swaps": "List, show, export and resume swaps over two chains.",
    "watchtower": "End swaps of parties that are away, by their bundles.",
    "wallet": "Show coins on chains; approve, wrap, unwrap and send them.",
    "bond": "Lock bitcoin for a reputation; prove, verify, take it home.",
    "registry": "Bond, bind keys, back them, stand for witness; take bonds out.",
    "check-token": "May a market list this token? Ask its contract.",
    "proof": "Show one order by the word of the witnesses.",
    "light": "Show a market by its witnesses' word, whoever tells it.",
    "reputation": "Show what accounts are worth by the chain, and check it.",
    "peers": "List the running node's peers, connected and remembered.",
    "halt": "Kill switch: cancel all orders, sign nothing more.",
    "resume": "Let a halted node sign again.",
    "backup": "Write all of a node to one file.",
    "restore": "Make a data directory from a backup.",
    "check": "Read all of a stopped node's files: are they sound?",
    "devnet": "Run development chains on this machine.",
    "demo": "Watch nodes on this machine build one book and settle its trades.",
    "replay": "Hold the matcher against a recorded exchange session.",
    "sim": "Simulate networks of the production core in virtual time.",
    "bench": "Measure the matcher, the ingest path and whole networks.",
    "completion": "Print what lets a shell complete all this.",
}
"""Name to line of help. ``orrange_p2p.cli.<name>`` holds ``command`` and is imported on use."""

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130


class _Commands(click.Group):
    """Looks commands up in the table: one that is broken or slow to import costs no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            if close and not ctx.resilient_parsing:
                ctx.fail(f"No such command '{cmd_name}'. Did you mean '{close[0]}'?")
            return None
        module = f"orrange_p2p.cli.{cmd_name.replace('-', '_')}"
        try:
            command = import_module(module).command
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise click.UsageError(f"this build has no command {cmd_name!r}") from None
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names are completed from the table as well, or each TAB would import every command."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        return [CompletionItem(name, help=COMMANDS[name]) for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (OrrangeError, KeyboardInterrupt, BaseExceptionGroup) as error:
            _fail(ctx, error)


def _fail(ctx: click.Context, error: BaseException) -> NoReturn:
    """One line for what was expected; anything else keeps its traceback."""
    causes = _leaves(error)
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
        ctx.exit(INTERRUPTED)
    expected = [cause for cause in causes if isinstance(cause, OrrangeError)]
    if len(expected) < len(causes):
        raise error
    for message in dict.fromkeys(str(cause) or type(cause).__name__ for cause in expected):
        click.echo(f"orrange: {message}", err=True)
    ctx.exit(max(map(exit_status, expected)))


def _leaves(error: BaseException) -> Sequence[BaseException]:
    """What nurseries have gathered."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]


def exit_status(error: OrrangeError) -> int:
    """What a script can tell errors apart by."""
    if isinstance(error, CallerError):
        return USAGE
    return UNREACHABLE if isinstance(error, UnreachableError | DeadlineError) else FAILED


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(orrange_p2p.__version__, prog_name="orrange")
def main() -> None:
    """An order book that every node computes for itself, and trades between the two parties.

    Begin with `orrange demo`; for a node of your own: `orrange init --dev`, then `orrange run`.

    Exit status: 0 all is well; 1 it failed, or a check found a difference; 2 the call, a file or
    a key has to be mended first; 3 no node or peer answers.
    """


if __name__ == "__main__":
    main()
