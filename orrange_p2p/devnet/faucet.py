"""Paying from the devnet's own coins, signed by hand: one P2WPKH input (BIP-143)."""

from __future__ import annotations

import struct

from coincurve import PrivateKey

from orrange_p2p.crypto.bitcoin import (
    OutPoint,
    Tx,
    TxIn,
    TxOut,
    double_sha256,
    hash160,
    var_bytes,
)

__all__ = ["funding"]

_FEE_SATS = 1_000
_SEQUENCE = 0xFFFFFFFD


def funding(place: OutPoint, spent: TxOut, secret: bytes, output: TxOut) -> Tx:
    """``output`` out of the coin at ``place``; the rest goes back to where it was."""
    key = PrivateKey(secret)
    public = key.public_key.format(compressed=True)
    outputs = (output, TxOut(spent.value - output.value - _FEE_SATS, spent.script))
    outpoint = place.txid + struct.pack("<I", place.vout)
    sequence = struct.pack("<I", _SEQUENCE)
    made = b"".join(struct.pack("<q", one.value) + var_bytes(one.script) for one in outputs)
    code = b"\x76\xa9\x14" + hash160(public) + b"\x88\xac"
    digest = double_sha256(
        struct.pack("<i", 2)
        + double_sha256(outpoint)
        + double_sha256(sequence)
        + outpoint
        + var_bytes(code)
        + struct.pack("<q", spent.value)
        + sequence
        + double_sha256(made)
        + struct.pack("<II", 0, 1)
    )
    witness = (key.sign(digest, hasher=None) + b"\x01", public)
    return Tx(2, (TxIn(place, b"", _SEQUENCE, witness),), outputs, 0)
