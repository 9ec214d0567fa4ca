"""EIP-712 digests for structs of static types, so that a contract can recompute them.

https://eips.ethereum.org/EIPS/eip-712: digest = keccak256(0x1901 || domainSeparator || hashStruct).
Only the static types the protocol signs are supported: each encodes to one 32-byte word.
"""

from __future__ import annotations

from collections.abc import Sequence

from orrange_p2p.crypto.hashes import keccak256

_DOMAIN_TYPE = (
    b"EIP712Domain(string name,string version,uint256 chainId,"
    b"address verifyingContract,bytes32 salt)"
)


def domain_separator(
    name: str, version: str, chain_id: int, verifying_contract: bytes, salt: bytes
) -> bytes:
    """The 32-byte separator of a domain with all five fields present."""
    return keccak256(
        keccak256(_DOMAIN_TYPE)
        + keccak256(name.encode())
        + keccak256(version.encode())
        + word(chain_id)
        + word(verifying_contract)
        + word(salt)
    )


def word(value: int | bytes) -> bytes:
    """One ABI word: integers and addresses padded on the left, ``bytes32`` as it is."""
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    return value.rjust(32, b"\0")


def signing_digest(separator: bytes, struct_hash: bytes) -> bytes:
    """What is signed for a struct in the domain of that separator."""
    return keccak256(b"\x19\x01" + separator + struct_hash)


class StructType:
    """One EIP-712 struct type; ``digest`` names and is signed for one value of it."""

    __slots__ = ("type_hash", "type_name")

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        self.type_hash = keccak256(type_name.encode())

    def digest(self, separator: bytes, fields: Sequence[int | bytes]) -> bytes:
        """The signing digest for ``fields`` in declaration order."""
        return signing_digest(separator, self.hash(fields))

    def hash(self, fields: Sequence[int | bytes]) -> bytes:
        """``hashStruct``: the value's name in any domain."""
        return keccak256(self.type_hash + b"".join(map(word, fields)))
