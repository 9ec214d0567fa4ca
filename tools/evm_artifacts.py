"""Take the compiled contracts from forge's output: ``write`` them into the package, or ``check``
that what the package has is what the sources compile to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
BUILT: Final = ROOT / "build" / "evm" / "out"
PACKAGED: Final = ROOT / "orrange_p2p" / "chains" / "evm" / "artifacts"
SETTINGS: Final = ("evmVersion", "optimizer", "viaIR", "metadata")


def artifact(contract: str) -> str:
    """The text of a contract's artifact, from what forge built last."""
    built = json.loads((BUILT / f"{contract}.sol" / f"{contract}.json").read_text())
    metadata = built["metadata"]
    document = {
        "contract": contract,
        "compiler": metadata["compiler"]["version"],
        "settings": {name: metadata["settings"].get(name) for name in SETTINGS},
        "selectors": built["methodIdentifiers"],
        "abi": built["abi"],
        "bytecode": built["bytecode"]["object"],
        "deployed_bytecode": built["deployedBytecode"]["object"],
    }
    return json.dumps(document, indent=1) + "\n"


def differing(contracts: tuple[str, ...]) -> list[str]:
    """The contracts whose committed artifact is not what their sources compile to."""
    return [
        contract
        for contract in contracts
        if not (file := PACKAGED / f"{contract}.json").exists()
        or file.read_text() != artifact(contract)
    ]


def main(command: str) -> int:
    from orrange_p2p.chains.evm.artifacts import CONTRACTS

    if command == "write":
        for contract in differing(CONTRACTS):
            (PACKAGED / f"{contract}.json").write_text(artifact(contract))
            print(f"wrote the artifact of {contract}")
        return 0
    stale = differing(CONTRACTS)
    for contract in stale:
        print(f"the artifact of {contract} is not what its source compiles to: run make contracts")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
