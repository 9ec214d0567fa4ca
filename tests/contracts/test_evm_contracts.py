"""The EVM contracts: Foundry's own tests, what is committed of them, and what they cost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import evm_artifacts
import pytest

from orrange_p2p.bench import gas
from orrange_p2p.chains.evm.artifacts import CONTRACTS, load
from orrange_p2p.crypto.hashes import keccak256

EVM = Path(__file__).parents[2] / "contracts" / "evm"

installed = pytest.mark.skipif(
    not (EVM / "node_modules" / ".installed").exists(),
    reason="the packages of contracts/evm are not installed: run `make setup`",
)


def forge(*arguments: str) -> None:
    binary = next(EVM.glob("node_modules/@foundry-rs/forge-*/bin/forge"))
    ran = subprocess.run(
        [binary, *arguments, "--offline"], cwd=EVM, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]


@pytest.fixture(scope="module")
def built() -> None:
    """What forge's own tests need, too. It names its folders otherwise once they exist, and would
    then compile all of it a second time."""
    for folder in (evm_artifacts.BUILT, evm_artifacts.BUILT.parent / "cache"):
        folder.mkdir(parents=True, exist_ok=True)
    forge("build")


@installed
@pytest.mark.usefixtures("built")
def test_the_committed_artifacts_are_what_the_sources_compile_to() -> None:
    assert evm_artifacts.differing(CONTRACTS) == []


@installed
@pytest.mark.usefixtures("built")
def test_unit_fuzz_and_invariant_tests_of_the_contracts() -> None:
    forge("test", "--threads", "1")


@pytest.mark.parametrize("contract", CONTRACTS)
def test_selectors_are_those_of_their_signatures(contract: str) -> None:
    artifact = load(contract)
    assert artifact.bytecode
    for signature, selector in artifact.selectors.items():
        assert selector == keccak256(signature.encode())[:4]


@installed
def test_a_lock_costs_no_more_than_boltz() -> None:
    with gas.anvil() as chain:
        rows = gas.measure_locks(chain)
    assert len(rows) == 6
    assert all(row["ours"] <= row["boltz"] for row in rows.values()), rows


@installed
def test_what_nodes_sign_settles_and_a_batch_costs_less() -> None:
    with gas.anvil() as chain:
        per_trade = gas.measure_settlement(chain)
    assert per_trade["100"] < per_trade["10"] < per_trade["1"]
