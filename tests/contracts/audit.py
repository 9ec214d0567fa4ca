"""`make audit`: what slither finds and what halmos proves about the EVM contracts.

Every finding of slither has its answer in contracts/evm/AUDIT.md, and every answer its finding.
Every property in contracts/evm/proofs holds for all inputs; and each of the mutants below, which
breaks one rule of a contract, is refuted by halmos with a counterexample: the proofs can fail.
Ends with one line of JSON, and with status 1 if anything is open.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

EVM: Final = Path(__file__).parents[2] / "contracts" / "evm"
ANSWERS: Final = EVM / "AUDIT.md"
HALMOS: Final = Path(__file__).with_name("halmos_repaired.py")
SECONDS: Final = 600
"""Limit of one program; each takes less than one minute."""
# halmos' model of Solidity's storage does not know slots that are computed, as HashTimelock's are.
PROOFS: Final[Mapping[str, tuple[str, ...]]] = {
    "HashTimelockProofs": ("--storage-layout", "generic"),
    "SettlementProofs": (),
}


class Mutant(NamedTuple):
    """A contract with one rule taken out, and the properties that must not survive it."""

    rule: str
    source: str
    old: str
    new: str
    proofs: str
    refuted: frozenset[str]


MUTANTS: Final = (
    Mutant(
        "a lock that was paid out is ended",
        "src/HashTimelock.sol",
        "sstore(name, 0)",
        "pop(name)",
        "HashTimelockProofs",
        frozenset({"check_coin_claim_xor_refund", "check_token_claim_xor_refund"}),
    ),
    Mutant(
        "a lock is named by its hashlock",
        "src/HashTimelock.sol",
        "mstore(0, hashlock)\n            mstore(32, from)\n            name := keccak256(0, 64)",
        "mstore(0, 0)\n            mstore(32, from)\n            name := keccak256(0, 64)",
        "HashTimelockProofs",
        frozenset({"check_coin_no_claim_without_preimage"}),
    ),
    Mutant(
        "no refund before the timelock",
        "src/HashTimelock.sol",
        "if (block.timestamp < uint96(uint256(from))) revert TooEarly();",
        "from;",
        "HashTimelockProofs",
        frozenset({"check_coin_claim_xor_refund", "check_token_claim_xor_refund"}),
    ),
    Mutant(
        "both authors have signed",
        "src/Settlement.sol",
        "_requireSigned(trade.seller, id, settling.seller);",
        "",
        "SettlementProofs",
        frozenset({"check_signature_needed"}),
    ),
)


class AuditError(Exception):
    """A program of the audit could not do its work."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__)
    parser.parse_args()
    try:
        build(EVM)
        open_findings, stale_answers, findings = compare_findings()
        proved, failed = prove(EVM, PROOFS)
        surviving = [mutant.rule for mutant in MUTANTS if not is_refuted(mutant)]
    except AuditError as error:
        print(f"make audit: {error}", file=sys.stderr)
        return 1
    for name in open_findings:
        print(f"slither: no answer in {ANSWERS.name}: {name}", file=sys.stderr)
    for name in stale_answers:
        print(f"{ANSWERS.name} answers what slither does not find: {name}", file=sys.stderr)
    passed = not (open_findings or stale_answers or failed or surviving) and bool(proved)
    figures = {
        "findings": findings,
        "unanswered": len(open_findings),
        "stale_answers": len(stale_answers),
        "proved": sorted(proved),
        "not_proved": sorted(failed),
        "mutants": len(MUTANTS),
        "surviving_mutants": surviving,
        "passed": passed,
    }
    print(json.dumps(figures))
    return 0 if passed else 1


def run(arguments: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of an environment's or of npm's in a folder with the contracts."""
    forge = next(EVM.glob("node_modules/@foundry-rs/forge-*/bin"), None)
    if forge is None:
        raise AuditError("the packages of contracts/evm are not installed: see `make setup`")
    path = os.pathsep.join([str(forge), str(Path(sys.executable).parent), os.environ["PATH"]])
    try:
        return subprocess.run(
            arguments,
            cwd=folder,
            env={**os.environ, "PATH": path, "FOUNDRY_PROFILE": "audit"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AuditError(f"{arguments[0]} took more than {SECONDS} s") from None


def build(folder: Path) -> None:
    built = run(["forge", "build", "--offline", "--force", "--quiet"], folder)
    if built.returncode:
        raise AuditError(f"forge build: {built.stdout[-2000:]}{built.stderr[-2000:]}")


# --- slither ------------------------------------------------------------------------------------


def compare_findings() -> tuple[list[str], list[str], int]:
    """Findings without an answer, answers without a finding, and how many findings there are."""
    found = slither()
    answered = set(read_answers(ANSWERS.read_text(encoding="utf-8")))
    return sorted(set(found) - answered), sorted(answered - set(found)), len(found)


def slither() -> list[str]:
    """Each finding as `detector Contract.function`; the first place that it names counts."""
    with tempfile.TemporaryDirectory(prefix="orrange-audit-") as base:
        report = Path(base, "slither.json")
        out = "../../build/evm/audit"
        ran = run(
            [
                "slither",
                ".",
                "--ignore-compile",
                "--foundry-out-directory",
                out,
                "--filter-paths",
                "node_modules|proofs",
                "--json",
                str(report),
            ],
            EVM,
        )
        if not report.exists():
            raise AuditError(f"slither wrote no report: {ran.stderr[-2000:]}")
        read = json.loads(report.read_text(encoding="utf-8"))
    if not read["success"]:
        raise AuditError(f"slither: {read['error']}")
    return [
        f"{finding['check']} {place(finding['elements'][0])}"
        for finding in read["results"].get("detectors", [])
    ]


def place(element: Mapping[str, object]) -> str:
    """`Contract.function` or `Contract.variable` of an element of slither's report."""
    names = [str(element["name"]).split("(")[0]]
    fields = element.get("type_specific_fields")
    parent = fields.get("parent") if isinstance(fields, dict) else None
    while parent:
        if parent["type"] in ("contract", "function"):
            names.insert(0, str(parent["name"]).split("(")[0])
        parent = parent.get("type_specific_fields", {}).get("parent")
    return ".".join(names[:2])


def read_answers(text: str) -> list[str]:
    """The rows of the table of findings: `| detector | place, place | answer |`."""
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \| .+ \|$", text, re.MULTILINE)
    return [f"{row[0]} {name}" for row in rows for name in re.findall(r"`([^`]+)`", row[1])]


# --- halmos -------------------------------------------------------------------------------------


def prove(
    folder: Path, contracts: Mapping[str, tuple[str, ...]]
) -> tuple[frozenset[str], frozenset[str]]:
    """Which properties hold for all inputs, and which do not or could not be decided."""
    proved: set[str] = set()
    failed: set[str] = set()
    for contract, options in contracts.items():
        with tempfile.TemporaryDirectory(prefix="orrange-audit-") as base:
            report = Path(base, "halmos.json")
            ran = run(
                [
                    sys.executable,
                    HALMOS,
                    "--contract",
                    contract,
                    *options,
                    "--no-status",
                    "--forge-build-out",
                    "../../build/evm/audit",
                    "--json-output",
                    str(report),
                ],
                folder,
            )
            if not report.exists():
                raise AuditError(f"halmos wrote no report: {ran.stdout[-3000:]}")
            read = json.loads(report.read_text(encoding="utf-8"))
        results = [result for rows in read["test_results"].values() for result in rows]
        if not results:
            raise AuditError(f"halmos found no property in {contract}")
        for result in results:
            name = result["name"].split("(")[0]
            (failed if result["exitcode"] else proved).add(name)
    return frozenset(proved), frozenset(failed)


def is_refuted(mutant: Mutant) -> bool:
    """Whether halmos has a counterexample to what the mutant breaks."""
    text = (EVM / mutant.source).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise AuditError(f"{mutant.source} has not exactly one {mutant.old!r}: mend the mutant")
    with tempfile.TemporaryDirectory(prefix="orrange-mutant-") as base:
        folder = Path(base, "contracts", "evm")
        shutil.copytree(EVM, folder, ignore=shutil.ignore_patterns("node_modules"))
        (folder / "node_modules").symlink_to(EVM / "node_modules")
        (folder / mutant.source).write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        build(folder)
        _, failed = prove(folder, {mutant.proofs: PROOFS[mutant.proofs]})
    return mutant.refuted <= failed


if __name__ == "__main__":
    sys.exit(main())
