"""A signer over a key in memory."""

from __future__ import annotations

from coincurve import PrivateKey

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address, Digest
from orrange_p2p.crypto import secp256k1

__all__ = ["MemorySigner"]


class MemorySigner:
    """Signs with the key of a 32-byte secret. Raises ``ConfigError`` if it is no secp256k1 key."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ConfigError("a secp256k1 key is 32 bytes")
        try:
            self._key = PrivateKey(secret)
        except ValueError:
            raise ConfigError("not a secp256k1 key: zero, or not below the order") from None
        self._address = Address(secp256k1.address_of(self._key.public_key))

    @property
    def address(self) -> Address:
        return self._address

    def sign(self, digest: Digest) -> bytes:
        return secp256k1.sign(self._key, digest)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(0x{self._address.hex()})"
