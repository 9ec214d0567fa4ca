"""Private keys from a seed along a path (BIP-32), for the paths of BIP-44."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from coincurve import PrivateKey

HARDENED = 1 << 31


def derive(seed: bytes, path: Sequence[int]) -> bytes:
    """The 32-byte private key at ``path``; steps from ``HARDENED`` on are hardened.

    Raises ``ValueError`` where there is no key, which happens once in 2**127.
    """
    secret, chain = _halves(b"Bitcoin seed", seed)
    key = PrivateKey(secret)
    for step in path:
        if step >= HARDENED:
            data = b"\0" + key.secret
        else:
            data = key.public_key.format(compressed=True)
        tweak, chain = _halves(chain, data + step.to_bytes(4, "big"))
        key = key.add(tweak)
    return bytes(key.secret)


def _halves(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    digest = hmac.new(key, data, hashlib.sha512).digest()
    return digest[:32], digest[32:]
