"""Bitcoin's transactions and blocks as bytes (BIP-144), and the scripts that pay to a hash.

Reading is ours, since these bytes come from outside: whatever they are, they are decoded in one
pass over them or refused with ``MalformedError``. Making and signing transactions is not done here.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

from Crypto.Hash import RIPEMD160

from orrange_p2p.core.errors import MalformedError

__all__ = [
    "Block",
    "OutPoint",
    "Tx",
    "TxIn",
    "TxOut",
    "decode_block",
    "decode_tx",
    "double_sha256",
    "p2wpkh",
    "p2wsh",
    "var_bytes",
    "var_int",
]

HEADER_BYTES: Final = 80
_MAX_ITEMS: Final = 1 << 20
_WITNESS_FLAG: Final = b"\0\1"


class OutPoint(NamedTuple):
    """An output, by the transaction that made it."""

    txid: bytes
    """In the order of the bytes on the wire; people and JSON-RPC write it backwards."""
    vout: int

    def __str__(self) -> str:
        return f"{self.txid[::-1].hex()}:{self.vout}"


class TxIn(NamedTuple):
    spends: OutPoint
    script: bytes
    sequence: int
    witness: tuple[bytes, ...] = ()


class TxOut(NamedTuple):
    value: int
    """Satoshis."""
    script: bytes


class Tx(NamedTuple):
    """A transaction."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    locktime: int

    @property
    def txid(self) -> bytes:
        return double_sha256(self.encoded(witness=False))

    @property
    def weight(self) -> int:
        """BIP-141."""
        return 3 * len(self.encoded(witness=False)) + len(self.encoded())

    @property
    def vsize(self) -> int:
        """Virtual bytes, which fees are paid for."""
        return -(-self.weight // 4)

    @property
    def is_coinbase(self) -> bool:
        return self.inputs[0].spends.txid == bytes(32)

    def encoded(self, *, witness: bool = True) -> bytes:
        witness = witness and any(one.witness for one in self.inputs)
        parts = [struct.pack("<i", self.version), _WITNESS_FLAG if witness else b""]
        parts.append(var_int(len(self.inputs)))
        for one in self.inputs:
            parts += (one.spends.txid, struct.pack("<I", one.spends.vout), var_bytes(one.script))
            parts.append(struct.pack("<I", one.sequence))
        parts.append(var_int(len(self.outputs)))
        for output in self.outputs:
            parts += (struct.pack("<q", output.value), var_bytes(output.script))
        if witness:
            for one in self.inputs:
                parts += (var_int(len(one.witness)), *map(var_bytes, one.witness))
        parts.append(struct.pack("<I", self.locktime))
        return b"".join(parts)


class Block(NamedTuple):
    """A block without the context that makes it valid."""

    header: bytes
    transactions: tuple[Tx, ...]

    @property
    def hash(self) -> bytes:
        return double_sha256(self.header)

    @property
    def parent(self) -> bytes:
        return self.header[4:36]

    @property
    def time_s(self) -> int:
        return int.from_bytes(self.header[68:72], "little")


class _Reader:
    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._octets[self._at : self._at + count]
        if len(piece) < count:
            raise MalformedError("a Bitcoin record ends too early")
        self._at += count
        return piece

    def peek(self, count: int) -> bytes:
        return self._octets[self._at : self._at + count]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def var_int(self) -> int:
        first = self.number(1)
        if first < 0xFD:
            return first
        size = 1 << first - 0xFC
        value = self.number(size)
        if value < (0xFD, 0x10000, 0x100000000)[first - 0xFD]:
            raise MalformedError("a length in a Bitcoin record is written too long")
        return value

    def count(self) -> int:
        """Of items that take at least a byte each."""
        value = self.var_int()
        if value > min(_MAX_ITEMS, len(self._octets) - self._at):
            raise MalformedError("a Bitcoin record counts more than it holds")
        return value

    def var_bytes(self) -> bytes:
        return self.take(self.count())

    def tx(self) -> Tx:
        version = int.from_bytes(self.take(4), "little", signed=True)
        has_witness = self.peek(2) == _WITNESS_FLAG
        if has_witness:
            self.take(2)
        inputs = [
            TxIn(OutPoint(self.take(32), self.number(4)), self.var_bytes(), self.number(4))
            for _ in range(self.count())
        ]
        outputs = tuple(TxOut(self.number(8), self.var_bytes()) for _ in range(self.count()))
        if not inputs or not outputs or any(output.value >> 63 for output in outputs):
            raise MalformedError("a Bitcoin transaction without inputs, outputs or sense")
        if has_witness:
            for place, one in enumerate(inputs):
                items = tuple(self.var_bytes() for _ in range(self.count()))
                inputs[place] = one._replace(witness=items)
            if not any(one.witness for one in inputs):
                raise MalformedError("a Bitcoin transaction claims a witness and has none")
        return Tx(version, tuple(inputs), outputs, self.number(4))

    def end(self) -> None:
        if self._at != len(self._octets):
            raise MalformedError("a Bitcoin record is longer than it says")


def decode_tx(octets: bytes) -> Tx:
    """Raises ``MalformedError`` unless ``octets`` are one transaction and nothing else."""
    reader = _Reader(octets)
    tx = reader.tx()
    reader.end()
    return tx


def decode_block(octets: bytes) -> Block:
    """Raises ``MalformedError``. That the transactions are the header's is checked."""
    reader = _Reader(octets)
    header = reader.take(HEADER_BYTES)
    transactions = tuple(reader.tx() for _ in range(reader.count()))
    reader.end()
    if not transactions or merkle_root([tx.txid for tx in transactions]) != header[36:68]:
        raise MalformedError("a Bitcoin block's transactions are not those of its header")
    return Block(header, transactions)


def merkle_root(hashes: list[bytes]) -> bytes:
    """Bitcoin's, which pairs the last with itself."""
    while len(hashes) > 1:
        if len(hashes) % 2:
            hashes = [*hashes, hashes[-1]]
        pairs = zip(hashes[::2], hashes[1::2], strict=True)
        hashes = [double_sha256(left + right) for left, right in pairs]
    return hashes[0]


def double_sha256(octets: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(octets).digest()).digest()


def hash160(octets: bytes) -> bytes:
    """OpenSSL 3 offers no RIPEMD-160 by default, so it is another library's."""
    return bytes(RIPEMD160.new(hashlib.sha256(octets).digest()).digest())


def p2wpkh(public_key: bytes) -> bytes:
    """The script that pays to a compressed public key (BIP-141)."""
    return b"\0\x14" + hash160(public_key)


def p2wsh(script: bytes) -> bytes:
    """The script that pays to a script."""
    return b"\0\x20" + hashlib.sha256(script).digest()


def var_int(value: int) -> bytes:
    if value < 0xFD:
        return bytes((value,))
    for prefix, size in ((0xFD, 2), (0xFE, 4)):
        if value < 1 << 8 * size:
            return bytes((prefix,)) + value.to_bytes(size, "little")
    return b"\xff" + value.to_bytes(8, "little")


def var_bytes(octets: bytes) -> bytes:
    return var_int(len(octets)) + octets
