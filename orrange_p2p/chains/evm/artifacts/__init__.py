"""The compiled contracts, and the proxy that the registry stands behind.

`make contracts` writes them from ``contracts/evm/src``. They are committed, so a node
needs no compiler; a test builds them again and compares.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

import attrs

CONTRACTS: Final = ("ERC1967Proxy", "HashTimelock", "Registry", "Settlement", "TestToken")


@attrs.frozen(slots=True)
class Artifact:
    """One compiled contract."""

    abi: list[dict[str, Any]]
    bytecode: bytes
    """What deploys it; the constructor's arguments follow it, ABI-encoded."""
    selectors: dict[str, bytes]
    """Of each function, by its signature such as ``refund(bytes32,address,uint64)``."""


def load(name: str) -> Artifact:
    """The artifact of one of ``CONTRACTS``."""
    text = resources.files(__name__).joinpath(f"{name}.json").read_text()
    document = json.loads(text)
    return Artifact(
        document["abi"],
        bytes.fromhex(document["bytecode"].removeprefix("0x")),
        {name: bytes.fromhex(selector) for name, selector in document["selectors"].items()},
    )
