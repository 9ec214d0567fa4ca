"""Making transactions: the only importer of bitcoinlib, which never sees a private key.

It puts transactions together and hashes what is to be signed (BIP-143); coincurve signs. Importing
it takes 0.3 s, writes into the home directory and opens a log there, so it is imported when it is
first needed, with a directory of its own that is gone afterwards.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock as ThreadLock
from types import ModuleType
from typing import Any, Final, NamedTuple

from coincurve import PrivateKey

from orrange_p2p.core.errors import CallerError, ConfigError, MalformedError
from orrange_p2p.crypto.bitcoin import OutPoint, TxOut, decode_tx, p2wpkh

__all__ = [
    "Coin",
    "address_of",
    "pay",
    "public_key",
    "script_of",
    "spend_bond",
    "spend_lock",
    "with_preimage",
]

RBF: Final = 0xFFFFFFFD
"""Replaceable (BIP-125), and locktimes count."""
_SIGHASH_ALL: Final = b"\x01"
_IMPORTING: Final = ThreadLock()


class Coin(NamedTuple):
    """An output of ours and the key that spends it."""

    outpoint: OutPoint
    value: int
    secret: bytes


def public_key(secret: bytes) -> bytes:
    """Compressed."""
    return PrivateKey(secret).public_key.format(compressed=True)


def pay(coins: Sequence[Coin], outputs: Sequence[TxOut]) -> bytes:
    """A signed transaction from P2WPKH coins."""
    bitcoinlib = _bitcoinlib()
    inputs = [
        bitcoinlib.Input(
            *(coin.outpoint.txid[::-1], coin.outpoint.vout),
            keys=public_key(coin.secret),
            value=coin.value,
            sequence=RBF,
            witness_type="segwit",
        )
        for coin in coins
    ]
    made = _transaction(bitcoinlib, inputs, outputs, 0)
    for place, coin in enumerate(coins):
        signature = _signature(made, place, coin.secret)
        made.inputs[place].witnesses = [signature, public_key(coin.secret)]
    return bytes(made.raw())


def spend_lock(
    coin: Coin, script: bytes, output: TxOut, *, preimage: bytes | None, timelock_s: int
) -> bytes:
    """A signed claim with ``preimage``, or a refund if there is none.

    The signature does not cover the preimage: a claim made with another one can be mended.
    """
    branch = (b"",) if preimage is None else (preimage, b"\x01")
    return _spend(coin, script, output, branch, timelock_s if preimage is None else 0)


def spend_bond(coin: Coin, script: bytes, output: TxOut, *, locked_until_s: int) -> bytes:
    """A signed transaction that takes a bond home: good from then on."""
    return _spend(coin, script, output, (), locked_until_s)


def _spend(
    coin: Coin, script: bytes, output: TxOut, branch: Sequence[bytes], locktime: int
) -> bytes:
    bitcoinlib = _bitcoinlib()
    one = bitcoinlib.Input(
        *(coin.outpoint.txid[::-1], coin.outpoint.vout),
        redeemscript=script,
        value=coin.value,
        sequence=RBF,
        witness_type="segwit",
        script_type="p2sh_multisig",  # its name for: hash the script that is given
        strict=False,
    )
    made = _transaction(bitcoinlib, [one], [output], locktime)
    signature = _signature(made, 0, coin.secret)
    made.inputs[0].witnesses = [signature, *branch, script]
    return bytes(made.raw())


def with_preimage(claim: bytes, preimage: bytes) -> bytes:
    """A claim of ``spend_lock`` that was made without the secret, with it. Raises
    ``MalformedError`` for what is none."""
    tx = decode_tx(claim)
    if len(tx.inputs) != 1 or len(tx.inputs[0].witness) != 4:
        raise MalformedError("this is no claim of a lock")
    signature, _, branch, script = tx.inputs[0].witness
    mended = tx.inputs[0]._replace(witness=(signature, preimage, branch, script))
    return tx._replace(inputs=(mended,)).encoded()


def address_of(script: bytes, prefix: str) -> str:
    """The address (BIP-173) of a witness program; ``prefix`` says of which network."""
    return str(
        _encoding().pubkeyhash_to_addr_bech32(script[2:].hex(), prefix=prefix, witver=script[0])
    )


def script_of(address: str, prefix: str) -> bytes:
    """The script of an address; raises ``CallerError`` if it is none of version 0 or 1."""
    encoding = _encoding()
    try:
        if address.partition("1")[0].lower() != prefix:
            raise ValueError
        script = bytes(encoding.addr_bech32_to_pubkeyhash(address, include_witver=True))
        version = script[0] - 0x50 if script[0] else 0
        if version not in (0, 1) or len(script) not in (22, 34) or script[1] != len(script) - 2:
            raise ValueError
        canonical = encoding.pubkeyhash_to_addr_bech32(
            script[2:].hex(), prefix=prefix, witver=version
        )
        if canonical != address.lower():
            raise ValueError
    except (ValueError, TypeError, LookupError, AttributeError, encoding.EncodingError):
        raise CallerError(f"{address!r} is no address of this network ({prefix}1...)") from None
    return script


def _transaction(
    bitcoinlib: ModuleType, inputs: list[Any], outputs: Sequence[TxOut], locktime: int
) -> Any:
    made = [
        bitcoinlib.Output(output.value, lock_script=output.script, strict=False)
        for output in outputs
    ]
    return bitcoinlib.Transaction(inputs, made, locktime=locktime, version=2, witness_type="segwit")


def _signature(made: Any, place: int, secret: bytes) -> bytes:
    made.inputs[place].index_n = place
    digest = made.signature_hash(place)
    return PrivateKey(secret).sign(digest, hasher=None) + _SIGHASH_ALL


def _encoding() -> Any:
    _bitcoinlib()
    import bitcoinlib.encoding

    return bitcoinlib.encoding


@cache
def _bitcoinlib() -> ModuleType:
    with (
        _IMPORTING,
        tempfile.TemporaryDirectory() as directory,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of its databases, which are not used
        settings = "[logs]\nenable_bitcoinlib_logging=False\n"
        Path(directory, "config.ini").write_text(settings, "ascii")
        before = os.environ.get("BCL_DATA_DIR")
        os.environ["BCL_DATA_DIR"] = directory
        try:
            import bitcoinlib.transactions
        except ImportError as error:
            raise ConfigError(f"bitcoinlib cannot be used: {error}") from None
        finally:
            if before is None:
                del os.environ["BCL_DATA_DIR"]
            else:
                os.environ["BCL_DATA_DIR"] = before
        module: ModuleType = bitcoinlib.transactions
        return module


def wallet_script(secret: bytes) -> bytes:
    """What pays to a key of the wallet."""
    return p2wpkh(public_key(secret))
