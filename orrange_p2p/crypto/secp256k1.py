"""Recoverable ECDSA over secp256k1 as EVM contracts check it: 65 bytes ``r || s || v``.

Low-s only (EIP-2), v in {27, 28}. Signing is deterministic (RFC 6979). The library releases the
interpreter lock while it computes, so batches scale over threads; one by one they do not:
hand a worker 64 to 256 signatures at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from coincurve import PrivateKey, PublicKey

from orrange_p2p.core.errors import SignatureError
from orrange_p2p.crypto.hashes import keccak256

SIGNATURE_BYTES: Final = 65
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def address_of(public_key: PublicKey) -> bytes:
    """The 20-byte EVM address of a public key."""
    return keccak256(public_key.format(compressed=False)[1:])[12:]


def is_public_key(octets: bytes) -> bool:
    """Whether it encodes a point of the curve, compressed or not."""
    try:
        PublicKey(octets)
    except ValueError:
        return False
    return True


def address_of_key(octets: bytes) -> bytes:
    """The address of an encoded public key; raises ``SignatureError`` if it is none."""
    try:
        return address_of(PublicKey(octets))
    except ValueError:
        raise SignatureError("not a public key of the curve") from None


def sign(key: PrivateKey, digest: bytes) -> bytes:
    """Sign a 32-byte digest. The library already normalises to low s."""
    signature = key.sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes((signature[64] + 27,))


def recover(digest: bytes, signature: bytes) -> bytes:
    """The address that signed ``digest``; raises ``SignatureError`` for a malformed signature."""
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        raise SignatureError("signature is not 65 bytes r || s || v with v 27 or 28")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise SignatureError("signature has a high s: a second form of the same signature")
    compact = signature[:64] + bytes((signature[64] - 27,))
    try:
        return address_of(PublicKey.from_signature_and_message(compact, digest, hasher=None))
    except ValueError as error:
        raise SignatureError(f"signature recovers to no key: {error}") from None


def is_signed_by(address: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``digest`` is ``address``'s; never raises."""
    try:
        return recover(digest, signature) == address
    except SignatureError:
        return False


def verify_batch(claims: Iterable[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """One verdict per ``(address, digest, signature)``; made to be run in a worker thread."""
    return [is_signed_by(address, digest, signature) for address, digest, signature in claims]
