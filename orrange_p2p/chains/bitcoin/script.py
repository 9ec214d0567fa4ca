"""The script of a lock: to the recipient by the secret, or back to the sender after a time.

    IF SIZE 32 EQUALVERIFY SHA256 <hashlock> EQUALVERIFY <recipient>
    ELSE <timelock> CHECKLOCKTIMEVERIFY DROP <sender>
    ENDIF CHECKSIG

Paid to by its hash (P2WSH). Without SIZE a secret of another length than the other chain's contract
takes could open this lock and not that one.

A bond is a lock that nobody can claim: without a recipient and a hashlock, its script is that of
protocol/13-bitcoin-bonds.md.
"""

from __future__ import annotations

import hashlib
from typing import Final

from coincurve import PublicKey

from orrange_p2p.core.bitcoin_bonds import bond_script
from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.swaps.legs import Lock
from orrange_p2p.crypto.bitcoin import Tx, p2wsh

__all__ = ["DUST_SATS", "MIN_LOCK_SATS", "is_bond", "lock_output", "lock_script", "preimage_of"]

SECRET_BYTES: Final = 32
DUST_SATS: Final = 330
"""What nodes forward at least in an output of a witness program (P2WSH; less for P2WPKH)."""
MIN_LOCK_SATS: Final = 10_000
"""Less would not pay for its claim when blocks are full: 149 vbytes at 60 sat each."""
FIRST_TIME: Final = 500_000_000
"""Lower locktimes are heights."""
_IF, _ELSE, _ENDIF = b"\x63", b"\x67", b"\x68"
_SIZE, _EQUALVERIFY, _SHA256 = b"\x82", b"\x88", b"\xa8"
_CHECKLOCKTIMEVERIFY, _DROP, _CHECKSIG = b"\xb1", b"\x75", b"\xac"


def lock_script(lock: Lock) -> bytes:
    """Raises ``CallerError`` if its terms fit no such script."""
    if is_bond(lock):
        return bond_script(lock.sender, lock.timelock_s)
    for key in (lock.sender, lock.recipient):
        try:
            if len(key) != 33:
                raise ValueError
            PublicKey(key)
        except ValueError:
            raise CallerError("a party on Bitcoin is a compressed public key of 33 bytes") from None
    if len(lock.hashlock) != SECRET_BYTES:
        raise CallerError("a hashlock is 32 bytes")
    if not FIRST_TIME <= lock.timelock_s < 1 << 31:
        raise CallerError(f"a timelock is {FIRST_TIME} to 2^31-1 seconds since 1970")
    time = lock.timelock_s.to_bytes(4, "little")
    return b"".join(
        (
            *(_IF, _SIZE, b"\x01\x20", _EQUALVERIFY, _SHA256, b"\x20", lock.hashlock),
            *(_EQUALVERIFY, b"\x21", lock.recipient),
            *(_ELSE, b"\x04", time, _CHECKLOCKTIMEVERIFY, _DROP, b"\x21", lock.sender),
            *(_ENDIF, _CHECKSIG),
        )
    )


def is_bond(lock: Lock) -> bool:
    return not lock.recipient


def lock_output(lock: Lock) -> bytes:
    """The output's script, by which a lock is found on the chain."""
    return p2wsh(lock_script(lock))


def preimage_of(tx: Tx, script: bytes, hashlock: bytes) -> bytes:
    """The secret that a transaction shows by claiming ``script``; empty if it shows none."""
    for one in tx.inputs:
        if len(one.witness) == 4 and one.witness[3] == script:
            secret = one.witness[1]
            if len(secret) == SECRET_BYTES and hashlib.sha256(secret).digest() == hashlock:
                return secret
    return b""
