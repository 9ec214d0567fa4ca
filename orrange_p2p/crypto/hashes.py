"""The two hash functions of the protocol, and the one keyed by a secret."""

from __future__ import annotations

import hashlib
import hmac

import sha3


def sha256(data: bytes) -> bytes:
    """SHA-256 (FIPS 180-4): everything that no EVM contract has to recompute as EIP-712."""
    return hashlib.sha256(data).digest()


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not FIPS 202 SHA3-256): EIP-712 digests and addresses."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC with SHA-256 (RFC 2104)."""
    return hmac.new(key, data, hashlib.sha256).digest()
