"""Unit and container file, as far as they can be checked where neither can be started."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from compile_core import ROOT

from orrange_p2p.cli import main as cli

UNIT = ROOT / "packaging/systemd/orrange.service"
CONTAINER = ROOT / "packaging/Containerfile"


def words_of(unit: str) -> list[str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit)
    return shlex.split(parser["Service"]["ExecStart"])


def test_the_unit_runs_a_command_that_there_is() -> None:
    program, *arguments = words_of(UNIT.read_text())
    assert program.endswith("/bin/orrange")
    assert CliRunner().invoke(cli.main, [*arguments, "--help"]).exit_code == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="SKIPPED: no systemd-analyze")
def test_systemd_takes_the_unit_and_finds_it_tight(tmp_path: Path) -> None:
    unit = tmp_path / "orrange.service"
    text = UNIT.read_text().replace("/opt/orrange/bin/orrange", "/bin/true")
    unit.write_text(text)
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    about = [line for line in verdict.stderr.splitlines() if "orrange.service" in line]
    assert about == []
    exposure = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert exposure.returncode == 0, exposure.stdout[-300:] + exposure.stderr


def test_a_node_tells_the_service_manager_when_it_is_up_and_when_it_leaves(tmp_path: Path) -> None:
    home, address = tmp_path / "node", tmp_path / "notify"
    assert CliRunner().invoke(cli.main, ["init", "--dev", "--data-dir", str(home)]).exit_code == 0
    config = home / "node.toml"
    config.write_text(config.read_text().replace("tcp/9771", "tcp/0"))
    command = [sys.executable, "-m", "orrange_p2p.cli.main", "run", "--data-dir", str(home)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(30)
        node = subprocess.Popen(command, env={"NOTIFY_SOCKET": str(address)})
        try:
            assert manager.recv(100) == b"READY=1"
            assert (home / "rpc.sock").exists()
            node.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert node.wait(timeout=10) == 0
        finally:
            node.kill()
            node.wait()


def test_the_container_file_copies_what_is_there_and_is_nobodys_root() -> None:
    text = CONTAINER.read_text()
    lines = re.sub(r"\\\n", " ", text).splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    kinds = [kind for kind, _ in steps]
    assert kinds[0] == "FROM" and kinds.count("FROM") == 2
    last = steps[len(kinds) - kinds[::-1].index("FROM") :]
    assert ["USER", "orrange"] in last and ["STOPSIGNAL", "SIGTERM"] in last
    (entry,) = [rest for kind, rest in last if kind == "ENTRYPOINT"]
    assert "orrange_p2p.cli.main" in entry
    for kind, rest in steps:
        if kind == "COPY" and "--from" not in rest:
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
    targets = re.findall(
        r"\bmake ([^&\n]+)", "\n".join(rest for kind, rest in steps if kind == "RUN")
    )
    assert targets[1:] == ["VENV=/opt/orrange /opt/orrange/.run ", "compile"]
    for target in targets[1:]:
        dry = ["make", "--dry-run", "--directory", str(ROOT), *shlex.split(target)]
        assert subprocess.run(dry, capture_output=True, check=False).returncode == 0, target
