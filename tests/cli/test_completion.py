"""Shell completion: the scripts, and what a real shell makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from orrange_p2p.cli import main as cli
from orrange_p2p.cli.completion import SHELLS


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_its_script(shell: str) -> None:
    done = CliRunner().invoke(cli.main, ["completion", shell])
    assert done.exit_code == 0, done.output
    assert f"_ORRANGE_COMPLETE={shell}_complete" in done.stdout


def test_a_shell_that_is_not_known_is_told() -> None:
    done = CliRunner().invoke(cli.main, ["completion", "csh"])
    assert done.exit_code == 2
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in done.stderr


def completed(*words: str) -> list[str]:
    """By a real bash that has read the script, with the last word unfinished."""
    script = """
        eval "$(orrange completion bash)"
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _orrange_completion orrange "${COMP_WORDS[COMP_CWORD]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    beside = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *words],
        env={**os.environ, "PATH": f"{beside}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(
    shutil.which("bash") is None or not Path(sys.executable).with_name("orrange").exists(),
    reason="no bash, or no `orrange` beside this Python",
)
def test_bash_completes_commands_options_and_values() -> None:
    assert completed("orrange", "rep") == ["reputation", "replay"]
    assert completed("orrange", "orders", "pl") == ["place"]
    assert completed("orrange", "orders", "place", "--po") == ["--post-only"]
    assert completed("orrange", "demo", "--scenario", "e") == ["eras"]
