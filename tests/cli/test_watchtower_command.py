"""``orrange watchtower`` as it is typed; what it does on chains is in ``tests/swaps``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "daemon"))

from test_bundles import bundle

from orrange_p2p.cli import main as cli
from orrange_p2p.daemon import datadir
from orrange_p2p.daemon.bundles import Bundles
from orrange_p2p.daemon.config import DataDir, NodeConfig


def orrange(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(one) for one in arguments])


def home(path: Path) -> Path:
    directory = DataDir(path)
    datadir.make_directory(directory)
    datadir.make_keys(directory, is_witness=False, traders=1)
    datadir.write_config(NodeConfig(directory, roles=("trader",)))
    return path


def test_a_folder_of_bundles_is_looked_at_once(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path / "swaps")
    bundles.write(bundle())
    done = orrange(
        "watchtower", tmp_path / "swaps", "--once", "--json", "--data-dir", home(tmp_path / "tower")
    )
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert row["trade"] == "0x" + bundle().name.hex()
    assert row["state"] == "cancelling"
    assert row["problem"] == "node.toml names no way to eip155:1, eip155:2"


def test_what_is_wrong_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    tower = home(tmp_path / "tower")
    (tmp_path / "half.json").write_text("{")
    for arguments, told in (
        ((), "name bundles, or a folder of them"),
        ((tmp_path / "none.json",), "none.json cannot be read: No such file"),
        ((tmp_path / "half.json",), "half.json: it is not JSON"),
    ):
        done = orrange("watchtower", *arguments, "--data-dir", tower)
        assert (done.exit_code, told in done.stderr) == (2, True), done.output
    assert not (tower / "chains").exists()
