"""I2: the same facts give the same roots, whatever the process, the hash seed or the build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from compile_core import compiled_modules

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

# A network with liars, losses, a fork, a crash and several eras; then the fold alone with all kinds
# of operations. Everything it prints is a state root.
PROGRAM = """
import random
import orrange_p2p.core.book, orrange_p2p.core.fold
from network import Network
from test_fold import Play, random_moves

network = Network(77, liars=1, loss=0.1, era_ms=2500)
network.run(3000)
network.fork(network.authors[1])
network.nodes[2].crash()
network.run(4500)
network.nodes[2].start()
network.run(12_000)
network.settle()
for node in network.honest:
    print(*[root.hex() for root in node.roots])
for seed in range(6):
    dice, play = random.Random(seed), Play("elected" if seed % 2 else "wide")
    for _ in range(10):
        play.play(random_moves(dice))
    print(*[outcome.root.hex() for outcome in play.history.outcomes])
modules = (orrange_p2p.core.book, orrange_p2p.core.fold)
print([not module.__file__.endswith(".py") for module in modules])
"""


def roots(hash_seed: str, root: Path = ROOT) -> tuple[list[str], list[bool]]:
    """The roots as another process computes them, and whether book and fold were compiled there."""
    paths = os.pathsep.join(map(str, (root, HERE, ROOT / "tools")))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": hash_seed}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=root,  # which comes first of all paths
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    *lines, built = finished.stdout.splitlines()
    return lines, [word == "True" for word in built.strip("[]").split(", ")]


@pytest.fixture(scope="module")
def expected() -> list[str]:
    lines, _ = roots("0")
    assert len(lines) == 3 + 6
    assert lines[0] == lines[1] == lines[2], "three honest nodes"
    assert all(len(line.split()) >= 10 for line in lines)
    return lines


@pytest.mark.parametrize("hash_seed", ["1", "4242", "random"])
def test_roots_do_not_depend_on_the_hash_seed(expected: list[str], hash_seed: str) -> None:
    assert roots(hash_seed)[0] == expected


def test_compiled_and_interpreted_code_give_the_same_roots(
    expected: list[str], tmp_path: Path
) -> None:
    shutil.copytree(
        ROOT / "orrange_p2p",
        tmp_path / "orrange_p2p",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    lines, built = roots("3", tmp_path)
    assert built == [False, False], "the copy must run as plain Python"
    assert lines == expected
    if not compiled_modules():
        pytest.skip("no compiled core here: both runs were plain Python")
    assert all(roots("3")[1]), "there is a compiled core, and it was not what ran"
