"""EIP-1559 transactions: their bytes, and their signature through the ``Signer`` port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from orrange_p2p.chains.evm.fees import Offer
from orrange_p2p.core.ids import Address, Digest
from orrange_p2p.crypto.hashes import keccak256
from orrange_p2p.ports import Signer

_Item: TypeAlias = int | bytes | Sequence["_Item"]
"""What RLP encodes: an integer, bytes, a list of such."""

__all__ = ["Transaction", "rlp", "sign"]

_TYPE: Final = b"\x02"


class Transaction(NamedTuple):
    """A transaction before it is signed. Its access list is empty."""

    chain_id: int
    nonce: int
    offer: Offer
    gas_limit: int
    to: Address | None
    value: int
    data: bytes

    def fields(self) -> list[_Item]:
        """In the order in which they are signed."""
        return [
            self.chain_id,
            self.nonce,
            self.offer.priority_fee_wei,
            self.offer.max_fee_wei,
            self.gas_limit,
            self.to or b"",
            self.value,
            self.data,
            [],
        ]


def sign(transaction: Transaction, signer: Signer) -> tuple[bytes, bytes]:
    """The hash and the bytes of the signed transaction."""
    fields = transaction.fields()
    signature = signer.sign(Digest(keccak256(_TYPE + rlp(fields))))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    raw = _TYPE + rlp([*fields, signature[64] - 27, r, s])
    return keccak256(raw), raw


def rlp(item: _Item) -> bytes:
    """Recursive Length Prefix, as the Yellow Paper's appendix B has it."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(0x80, len(item)) + item
    content = b"".join(map(rlp, item))
    return _prefix(0xC0, len(content)) + content


def _prefix(kind: int, length: int) -> bytes:
    if length < 56:
        return bytes((kind + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((kind + 55 + len(size),)) + size
