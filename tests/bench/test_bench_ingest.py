"""The ingest bench, shortened: its figures add up and its root is always the same. No timing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from orrange_p2p.bench import ingest
from orrange_p2p.cli.bench import command
from orrange_p2p.core.entries import decode_entry
from orrange_p2p.core.operations import Cancel, Place

# Changes with every change of genesis, records or state: then, and only then, write the new one.
ROOT_OF_1500 = "0x5dcd071b04cb9101ea9ac8042e45771293f225c4140c6f7ac6206a1d113b0f17"


@pytest.fixture(scope="module")
def workload() -> ingest.Workload:
    return ingest.generate(1_500, ingest.SEED)


def test_the_whole_path(workload: ingest.Workload, tmp_path: Path) -> None:
    figures = ingest.measure(workload, tmp_path)
    assert figures["root"] == ROOT_OF_1500
    assert (figures["operations"], figures["entries"], figures["epochs"]) == (1_500, 15, 1)
    assert figures["matches"] > 0
    assert set(figures["stages"]) == {"decode", "verify", "apply", "append"}
    assert figures["build"] in ("pure", "mypyc")


def test_what_the_workload_is_made_of(workload: ingest.Workload) -> None:
    genesis = workload.genesis
    operations = [
        operation
        for encoded in workload.epochs[0]
        for operation in decode_entry(encoded, genesis.separator, genesis.markets[0].id).operations
    ]
    cancels = sum(type(operation) is Cancel for operation in operations)
    assert 0.25 < cancels / len(operations) < 0.35
    assert all(type(operation) in (Cancel, Place) for operation in operations)


def test_another_root_than_the_makers_is_an_error(
    workload: ingest.Workload, tmp_path: Path
) -> None:
    broken = ingest.Workload(workload.genesis, workload.warm, workload.epochs[:0], workload.root)
    with pytest.raises(RuntimeError, match="root differs"):
        ingest.measure(broken, tmp_path)


def test_command() -> None:
    result = CliRunner().invoke(command, ["ingest", "--orders", "300", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["orders_per_s"] > 0
    assert figures["operations"] == 300
    assert len(figures["runs"]) == 5


def test_the_same_root_whatever_the_hash_seed() -> None:
    program = (
        "from orrange_p2p.bench.ingest import SEED, generate;"
        "print('0x' + generate(1_500, SEED).root.hex())"
    )
    for seed in ("1", "4242"):
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert run.stdout.strip() == ROOT_OF_1500
