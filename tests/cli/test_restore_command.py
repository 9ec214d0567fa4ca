"""``orrange restore``: what it tells of the network that the node comes back to."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from orrange_p2p.cli import main as cli
from orrange_p2p.core.ids import Address, TimeMs
from orrange_p2p.daemon import backup, datadir
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.daemon.keys import PlainKeys


@pytest.mark.parametrize(("witnesses", "is_over"), [(1, False), (2, True), (3, True), (4, False)])
def test_a_network_too_small_to_go_on_without_this_witness_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, witnesses: int, is_over: bool
) -> None:
    monkeypatch.setattr("orrange_p2p.core.reveals.RevealChain.__init__.__defaults__", (64,))
    directory = DataDir(tmp_path / "node")
    datadir.make_directory(directory)
    datadir.make_keys(directory, is_witness=True, traders=1)
    own = datadir.witness_of(PlainKeys(directory), [datadir.DEVELOPMENT_MARKET])
    others = [attrs.evolve(own, address=Address(bytes([n]) * 20)) for n in range(1, witnesses)]
    genesis = datadir.development_genesis([own, *others], TimeMs(0))
    datadir.write_network(directory, genesis)
    datadir.write_config(NodeConfig(directory))
    archive = tmp_path / "backup"
    backup.back_up(directory, archive, partial(backup.copy_stopped_stores, directory))
    arguments = ["restore", str(archive), "--data-dir", str(tmp_path / "again")]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 0, result.stderr
    assert ("never signs again" in json.loads(result.stdout).get("witness", "")) is is_over
