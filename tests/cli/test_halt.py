"""``orrange halt`` and ``resume``: what the operator is told of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from orrange_p2p.cli import main as cli
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.rpc.server import RpcServer, listening


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = DataDir(tmp_path)
    directory.config.write_text(NodeConfig(directory).to_toml())
    return tmp_path


async def said(home: Path, method: str, answer: Mapping[str, object], *options: str) -> Result:
    async def reply(params: object) -> object:
        return answer

    arguments = [method, "--data-dir", str(home), *options]
    async with listening(home / "rpc.sock", RpcServer({method: reply})):
        return await trio.to_thread.run_sync(lambda: CliRunner().invoke(cli.main, arguments))


@pytest.mark.parametrize(
    ("signed", "committed", "status"), [(True, True, 0), (True, False, 1), (False, False, 1)]
)
async def test_a_halt_says_how_far_it_got(
    home: Path, signed: bool, committed: bool, status: int
) -> None:
    answer = {"cancels_signed": signed, "cancels_committed": committed}
    result = await said(home, "halt", answer)
    assert (result.exit_code, json.loads(result.stdout)) == (status, answer)


async def test_resume_says_what_still_stands_in_the_way(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orrange_p2p.cli.resume.wants_json", bool)
    assert (await said(home, "resume", {"signs_nothing": None})).stdout == "The node signs again.\n"
    assert "was restored" in (await said(home, "resume", {"signs_nothing": "was restored"})).stdout


def test_without_a_node_there_is_nothing_to_halt(home: Path) -> None:
    for method in ("halt", "resume"):
        result = CliRunner().invoke(cli.main, [method, "--data-dir", str(home)])
        assert result.exit_code == 3
        assert "no node is running" in result.stderr
