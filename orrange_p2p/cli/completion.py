"""``orrange completion``: what lets a shell complete commands, options and their values."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands and options.

    \b
    bash, in ~/.bashrc:  eval "$(orrange completion bash)"
    zsh, in ~/.zshrc:    eval "$(orrange completion zsh)"
    fish:  orrange completion fish > ~/.config/fish/completions/orrange.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root().command
    click.echo(kind(root, {}, "orrange", "_ORRANGE_COMPLETE").source())
