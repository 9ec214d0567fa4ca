"""One process per key."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address
from orrange_p2p.signers.key_lock import lock_directory, locked

ALICE, BOB = Address(b"a" * 20), Address(b"b" * 20)
HOLDER = """
import pathlib, sys
from orrange_p2p.core.ids import Address
from orrange_p2p.signers.key_lock import locked
with locked([Address(b"a" * 20)], "/the/first", pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_key_has_one_holder_and_is_free_when_it_is_gone(tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    command = [sys.executable, "-c", HOLDER, str(locks)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with locked([BOB], "/the/second", locks):
            pass
        with pytest.raises(ConfigError, match="/the/first"), locked([BOB, ALICE], "x", locks):
            pass
        holder.kill()
    with locked([ALICE, BOB], "/the/second", locks):
        assert stat.S_IMODE(locks.stat().st_mode) == 0o700
        with pytest.raises(ConfigError, match="/the/second"), locked([BOB], "x", locks):
            pass


def test_a_directory_under_a_false_name_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "locks").symlink_to(tmp_path)
    with (
        pytest.raises(ConfigError, match="another user"),
        locked([ALICE], "x", tmp_path / "locks"),
    ):
        pass


def test_it_lies_where_all_of_a_users_processes_look() -> None:
    assert lock_directory({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/orrange-keys")
    assert lock_directory({}).name.startswith("orrange-keys-")
