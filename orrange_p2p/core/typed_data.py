"""EIP-712 messages as wallets want them: JSON for ``eth_signTypedData_v4``.

A wallet of somebody else's computes the digest by itself from this, and shows what it signs.
"""

from __future__ import annotations

from typing import Any, Final

from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.entries import EntryHeader
from orrange_p2p.core.genesis import DOMAIN_NAME, PROTOCOL_VERSION, Genesis

__all__ = ["entry_typed_data"]

_DOMAIN: Final = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
    {"name": "salt", "type": "bytes32"},
]
_ENTRY: Final = [
    {"name": "market", "type": "bytes32"},
    {"name": "author", "type": "address"},
    {"name": "seq", "type": "uint64"},
    {"name": "prev", "type": "bytes32"},
    {"name": "opsRoot", "type": "bytes32"},
]


def entry_typed_data(genesis: Genesis, header: EntryHeader) -> dict[str, Any]:
    """What an entry's author signs. Its digest is ``header.digest(genesis.separator)``."""
    return {
        "types": {"EIP712Domain": _DOMAIN, "Entry": _ENTRY},
        "primaryType": "Entry",
        "domain": {
            "name": DOMAIN_NAME,
            "version": PROTOCOL_VERSION,
            "chainId": evm_chain_id(genesis.home_chain),
            "verifyingContract": "0x" + genesis.registry.hex(),
            "salt": "0x" + genesis.network_id.hex(),
        },
        "message": {
            "market": "0x" + header.market.hex(),
            "author": "0x" + header.author.hex(),
            "seq": str(header.seq),
            "prev": "0x" + header.prev.hex(),
            "opsRoot": "0x" + header.ops_root.hex(),
        },
    }
