"""``orrange init`` and ``status``, the table of commands, and what errors look like."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import trio
from click.testing import CliRunner, Result

import orrange_p2p
from orrange_p2p.cli import main as cli
from orrange_p2p.core.errors import (
    CallerError,
    ConfigError,
    FeedError,
    InvalidError,
    StoreError,
    UnreachableError,
)
from orrange_p2p.daemon.config import DataDir, load_config
from orrange_p2p.rpc.server import RpcServer, listening


@pytest.fixture(autouse=True)
def _quick_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash chains of the full length take a second each."""
    monkeypatch.setattr("orrange_p2p.core.reveals.RevealChain.__init__.__defaults__", (2048,))
    monkeypatch.setattr("orrange_p2p.signers.keystore.SCRYPT_N", 1 << 4)


def orrange(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args])


def made(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def everything(directory: Path) -> dict[Path, tuple[int, bytes]]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture
def passphrase(tmp_path: Path) -> list[str | Path]:
    """What makes a node that is none of --dev encrypt its keys; quickly."""
    file = tmp_path / "passphrase"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    return ["--passphrase-file", file]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "node"


def test_a_development_node(home: Path) -> None:
    report = made(orrange("init", "--dev", "--data-dir", home, "--traders", "2"))
    assert report["next"] == f"orrange run --data-dir {home}"
    assert report["roles"] == ["witness", "trader"]
    assert len(report["traders"]) == 2
    config = load_config(home)
    genesis = config.data_dir.load_genesis()
    assert genesis.open
    assert [f"0x{w.address.hex()}" for w in genesis.witnesses] == [report["witness"]]
    assert report["network_id"] == f"0x{genesis.network_id.hex()}"


def test_nobody_else_can_look_inside(home: Path) -> None:
    mask = os.umask(0)
    try:
        made(orrange("init", "--dev", "--data-dir", home))
    finally:
        os.umask(mask)
    for path in [home, *home.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_second_time_changes_nothing(home: Path) -> None:
    first = made(orrange("init", "--dev", "--data-dir", home))
    before = everything(home)
    second = made(orrange("init", "--dev", "--data-dir", home))
    assert second["made"] == []
    assert {**second, "made": first["made"]} == first
    assert everything(home) == before


def test_an_interrupted_one_is_finished(home: Path) -> None:
    first = made(orrange("init", "--dev", "--data-dir", home))
    for path in (home / "network.toml", home / "node.toml", home / "keys/trader-1.key"):
        path.unlink()
    second = made(orrange("init", "--dev", "--data-dir", home))
    assert second["witness"] == first["witness"]
    assert second["traders"] != first["traders"]
    assert len(second["made"]) == 3


def test_more_traders_can_be_added(home: Path) -> None:
    first = made(orrange("init", "--dev", "--data-dir", home))
    second = made(orrange("init", "--dev", "--data-dir", home, "--traders", "3"))
    assert second["traders"][:1] == first["traders"]
    assert [Path(path).name for path in second["made"]] == ["trader-2.key", "trader-3.key"]


def test_joining_a_network(home: Path, tmp_path: Path, passphrase: list[str | Path]) -> None:
    made(orrange("init", "--dev", "--data-dir", home))
    other = tmp_path / "other"
    peer = "/ip4/127.0.0.1/tcp/9771/p2p/12D3KooWGatU3xJJ6oZ3KvkSRuXv4kTDHyYEVdGgd7BXnX7dfnSj"
    args = ["--network", home / "network.toml", "--listen", "/ip4/0.0.0.0/tcp/9772", *passphrase]
    report = made(orrange("init", "--data-dir", other, *args, "--bootstrap", peer))
    assert report["roles"] == ["trader"]
    assert report["witness"] is None
    assert DataDir(other).load_genesis() == DataDir(home).load_genesis()
    config = load_config(other)
    assert (config.listen, config.bootstrap) == (("/ip4/0.0.0.0/tcp/9772",), (peer,))
    assert [path.name for path in (other / "keys").iterdir()] == ["seed.json"]


def test_a_witness_the_network_does_not_know_is_told_what_to_hand_over(
    home: Path, tmp_path: Path, passphrase: list[str | Path]
) -> None:
    made(orrange("init", "--dev", "--data-dir", home))
    network = home / "network.toml"
    other = tmp_path / "other"
    args = ["--network", network, "--role", "witness", *passphrase]
    report = made(orrange("init", "--data-dir", other, *args))
    (note,) = report["notes"]
    both = network.read_text() + "\n" + note.partition("\n")[2] + "\n"
    joined = tmp_path / "joined.toml"
    joined.write_text(both)
    third = tmp_path / "third"
    made(orrange("init", "--data-dir", third, "--network", joined, *passphrase))
    addresses = {w.address.hex() for w in DataDir(third).load_genesis().witnesses}
    assert report["witness"][2:] in addresses


def test_changed_wishes_do_not_change_the_file(home: Path) -> None:
    made(orrange("init", "--dev", "--data-dir", home))
    before = everything(home)
    report = made(orrange("init", "--dev", "--data-dir", home, "--listen", "/ip4/0.0.0.0/tcp/1"))
    assert "stays as it is" in report["notes"][0]
    assert everything(home) == before


def one_line(result: Result, status: int) -> str:
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("orrange: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_wrong_calls_are_told_and_make_nothing(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    init = ["init", "--data-dir", home]
    assert "--dev" in one_line(orrange(*init), 2)
    assert "--dev" in one_line(orrange(*init, "--dev", "--network", broken), 2)
    assert "not TOML" in one_line(orrange(*init, "--network", broken), 2)
    assert "no mnemonic" in one_line(orrange(*init, "--dev", "--restore-mnemonic"), 2)
    assert "missing" in one_line(orrange(*init, "--network", tmp_path / "none.toml"), 2)
    assert "multiaddr" in one_line(orrange(*init, "--dev", "--listen", "localhost:1"), 2)
    assert "multiaddr" in one_line(
        orrange(*init, "--dev", "--bootstrap", "/ip4/127.0.0.1/tcp/1"), 2
    )
    assert "--role witness" in one_line(orrange(*init, "--dev", "--role", "trader"), 2)
    assert not home.exists()


def test_another_network_is_not_mixed_in(home: Path, tmp_path: Path) -> None:
    made(orrange("init", "--dev", "--data-dir", home))
    other = tmp_path / "other"
    made(orrange("init", "--dev", "--data-dir", other))
    before = everything(home)
    result = orrange("init", "--data-dir", home, "--network", other / "network.toml")
    assert "another network" in one_line(result, 2)
    assert everything(home) == before


def test_a_garbled_key_is_never_replaced(home: Path) -> None:
    made(orrange("init", "--dev", "--data-dir", home))
    key = home / "keys" / "witness.key"
    key.write_text("garbage")
    assert "witness.key" in one_line(orrange("init", "--dev", "--data-dir", home), 2)
    assert key.read_text() == "garbage"


def test_a_place_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one_line(orrange("init", "--dev", "--data-dir", tmp_path / "file" / "node"), 1)
    assert "file" in orrange("init", "--dev", "--data-dir", tmp_path / "file").stderr


# --- status ---


def test_status_without_a_node(home: Path) -> None:
    assert "orrange init" in one_line(orrange("status", "--data-dir", home), 2)
    made(orrange("init", "--dev", "--data-dir", home))
    message = one_line(orrange("status", "--data-dir", home), 3)
    assert f"no node is running for {home}: start it with orrange run" in message


async def test_status_of_a_node(home: Path) -> None:
    made(orrange("init", "--dev", "--data-dir", home))
    answer = {"network": "development", "markets": [{"epoch": 7}], "counters": {}}

    async def status(params: object) -> object:
        return answer

    async with listening(home / "rpc.sock", RpcServer({"status": status})):
        result = await trio.to_thread.run_sync(lambda: orrange("status", "--data-dir", home))
    assert made(result) == answer


async def test_status_is_asked_again_until_the_node_is_gone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orrange_p2p.cli.status.WATCH_S", 0.0)
    made(orrange("init", "--dev", "--data-dir", home))
    asked = 0

    async def status(params: object) -> object:
        nonlocal asked
        asked += 1
        if asked == 3:
            nursery.cancel_scope.cancel()
        return {"uptime_s": asked}

    async with trio.open_nursery() as outer:
        result: list[Result] = []

        async def watch() -> None:
            arguments = ["status", "--watch", "--data-dir", home]
            result.append(await trio.to_thread.run_sync(lambda: orrange(*arguments)))

        async with (
            listening(home / "rpc.sock", RpcServer({"status": status})),
            trio.open_nursery() as nursery,
        ):
            outer.start_soon(watch)
            await trio.sleep_forever()
    assert result[0].exit_code == 3
    lines = [json.loads(line) for line in result[0].stdout.splitlines()]
    assert [line["uptime_s"] for line in lines][:2] == [1, 2]


# --- the table of commands ---


def test_help_names_every_command_and_imports_none() -> None:
    result = orrange("--help")
    assert result.exit_code == 0
    assert all(
        name in result.output and text in result.output for name, text in cli.COMMANDS.items()
    )
    probe = "import sys, orrange_p2p.cli.main; print({'libp2p', 'trio', 'rich'} & {*sys.modules})"
    found = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"
    assert orrange("--version").output.strip().endswith(orrange_p2p.__version__)


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help(name: str) -> None:
    result = orrange(name, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_unknown_and_missing_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert orrange("dance").exit_code == 2
    monkeypatch.setitem(cli.COMMANDS, "dance", "Dance.")  # type: ignore[misc]
    result = orrange("dance")
    assert result.exit_code == 2
    assert "no command 'dance'" in result.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CallerError("mend it"), 2),
        (ConfigError("mend it"), 2),
        (FeedError(3, "mend it"), 2),
        (InvalidError("mend it"), 1),
        (StoreError("mend it"), 1),
        (UnreachableError("mend it"), 3),
        (ExceptionGroup("", [ExceptionGroup("", [ConfigError("mend it")])]), 2),
        (ExceptionGroup("", [StoreError("mend it"), UnreachableError("mend it")]), 3),
    ],
)
def test_expected_errors_are_one_line(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command("status")
    def failing() -> None:
        raise error

    monkeypatch.setattr("orrange_p2p.cli.status.command", failing)
    assert "mend it" in one_line(orrange("status"), status)


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), 130), (BaseExceptionGroup("", [KeyboardInterrupt()]), 130)],
)
def test_an_interruption_is_silent(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command("status")
    def failing() -> None:
        raise error

    monkeypatch.setattr("orrange_p2p.cli.status.command", failing)
    result = orrange("status")
    assert (result.exit_code, result.output) == (status, "")


def test_what_was_not_expected_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("status")
    def failing() -> None:
        raise ExceptionGroup("", [ZeroDivisionError(), ConfigError("mend it")])

    monkeypatch.setattr("orrange_p2p.cli.status.command", failing)
    assert isinstance(orrange("status").exception, ExceptionGroup)
