"""Signatures: sign, recover, and the forms that must not pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from orrange_p2p.core.errors import SignatureError
from orrange_p2p.crypto import secp256k1
from orrange_p2p.crypto.hashes import keccak256

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY = PrivateKey(b"\x01" * 32)
ADDRESS = secp256k1.address_of(KEY.public_key)
DIGEST = sha256(b"digest").digest()


def test_a_signature_names_its_signer() -> None:
    signature = secp256k1.sign(KEY, DIGEST)
    assert len(signature) == 65 and signature[64] in (27, 28)
    assert secp256k1.recover(DIGEST, signature) == ADDRESS
    assert secp256k1.is_signed_by(ADDRESS, DIGEST, signature)
    assert not secp256k1.is_signed_by(bytes(20), DIGEST, signature)


def test_the_address_of_key_one_is_the_well_known_one() -> None:
    one = PrivateKey((1).to_bytes(32, "big"))
    expected = "7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    assert secp256k1.address_of(one.public_key).hex() == expected


def test_keccak_is_not_sha3() -> None:
    expected = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"").hex() == expected


@given(secret=st.integers(1, ORDER - 1), digest=st.binary(min_size=32, max_size=32))
@settings(max_examples=50)
def test_any_key_and_digest(secret: int, digest: bytes) -> None:
    key = PrivateKey(secret.to_bytes(32, "big"))
    signature = secp256k1.sign(key, digest)
    s = int.from_bytes(signature[32:64], "big")
    assert 0 < s <= ORDER // 2
    assert signature == secp256k1.sign(key, digest)  # nothing random in it
    assert secp256k1.recover(digest, signature) == secp256k1.address_of(key.public_key)
    second = signature[:32] + (ORDER - s).to_bytes(32, "big") + bytes((55 - signature[64],))
    with pytest.raises(SignatureError, match="high s"):
        secp256k1.recover(digest, second)


@given(data=st.binary(max_size=70))
def test_arbitrary_bytes_are_no_signature(data: bytes) -> None:
    assert not secp256k1.is_signed_by(ADDRESS, DIGEST, data)


@given(data=st.binary(min_size=64, max_size=64), v=st.integers(0, 255))
def test_arbitrary_numbers_raise_signature_errors_only(data: bytes, v: int) -> None:
    try:
        address = secp256k1.recover(DIGEST, data + bytes((v,)))
    except SignatureError:
        return
    assert v in (27, 28) and len(address) == 20


def test_a_batch_judges_each_alone() -> None:
    good = secp256k1.sign(KEY, DIGEST)
    claims = [
        (ADDRESS, DIGEST, good),
        (bytes(20), DIGEST, good),
        (ADDRESS, bytes(32), good),
        (ADDRESS, DIGEST, good[:-1]),
        (ADDRESS, DIGEST, good),
    ]
    expected = [True, False, False, False, True]
    assert secp256k1.verify_batch(claims) == expected
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(secp256k1.verify_batch, [claims] * 8)) == [expected] * 8
    assert secp256k1.verify_batch([]) == []
