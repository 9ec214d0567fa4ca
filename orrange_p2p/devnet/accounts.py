"""The accounts that hold coins on every development chain, whatever program runs it."""

from __future__ import annotations

from functools import cache
from hashlib import pbkdf2_hmac
from typing import Final, NamedTuple

from coincurve import PrivateKey

from orrange_p2p.core.ids import Address
from orrange_p2p.crypto.bip32 import HARDENED, derive
from orrange_p2p.crypto.secp256k1 import address_of

__all__ = ["HD_PATH", "MNEMONIC", "Account", "accounts"]

MNEMONIC: Final = "test test test test test test test test test test test junk"
"""Anvil's: whoever reads this can take everything that its accounts hold, on any chain."""
HD_PATH: Final = "m/44'/60'/0'/0"
COUNT: Final = 10
_PATH: Final = (44 + HARDENED, 60 + HARDENED, HARDENED, 0)


class Account(NamedTuple):
    """A key that everybody knows."""

    address: Address
    secret: bytes


@cache
def accounts() -> tuple[Account, ...]:
    """In the order in which every program lists them."""
    seed = pbkdf2_hmac("sha512", MNEMONIC.encode(), b"mnemonic", 2048)
    secrets = [derive(seed, (*_PATH, number)) for number in range(COUNT)]
    keys = [PrivateKey(secret) for secret in secrets]
    return tuple(
        Account(Address(address_of(key.public_key)), secret)
        for key, secret in zip(keys, secrets, strict=True)
    )
