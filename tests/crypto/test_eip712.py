"""EIP-712 digests; the numbers themselves are held against independent code by the vectors."""

from __future__ import annotations

import pytest

from orrange_p2p.crypto.eip712 import StructType, domain_separator, word
from orrange_p2p.crypto.hashes import keccak256

PAIR = StructType("Pair(address who,uint64 number)")
SEPARATOR = domain_separator("Orrange", "1", 1, bytes(20), bytes(32))


def test_a_digest_by_hand() -> None:
    who, number = b"\x11" * 20, 258
    struct = keccak256(
        keccak256(b"Pair(address who,uint64 number)")
        + bytes(12) + who
        + bytes(30) + b"\x01\x02"
    )  # fmt: skip
    assert PAIR.digest(SEPARATOR, (who, number)) == keccak256(b"\x19\x01" + SEPARATOR + struct)


def test_every_part_of_the_domain_counts() -> None:
    separators = {
        domain_separator(*parts)
        for parts in [
            ("Orrange", "1", 1, bytes(20), bytes(32)),
            ("Orange", "1", 1, bytes(20), bytes(32)),
            ("Orrange", "2", 1, bytes(20), bytes(32)),
            ("Orrange", "1", 2, bytes(20), bytes(32)),
            ("Orrange", "1", 1, b"\x01" * 20, bytes(32)),
            ("Orrange", "1", 1, bytes(20), b"\x01" * 32),
        ]
    }
    assert len(separators) == 6


def test_every_part_of_the_struct_counts() -> None:
    other = StructType("Pair(address who,uint64 count)")
    digests = {
        PAIR.digest(SEPARATOR, (bytes(20), 1)),
        PAIR.digest(SEPARATOR, (b"\x01" * 20, 1)),
        PAIR.digest(SEPARATOR, (bytes(20), 2)),
        PAIR.digest(bytes(32), (bytes(20), 1)),
        other.digest(SEPARATOR, (bytes(20), 1)),
    }
    assert len(digests) == 5


def test_words_are_padded_on_the_left_and_never_cut() -> None:
    assert word(1) == bytes(31) + b"\x01"
    assert word((1 << 256) - 1) == b"\xff" * 32
    assert word(b"\x11" * 20) == bytes(12) + b"\x11" * 20
    for bad in (-1, 1 << 256):
        with pytest.raises(OverflowError):
            word(bad)
