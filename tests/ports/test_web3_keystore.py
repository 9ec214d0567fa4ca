"""Keystore files of other wallets are read, and what is wrong with one is told."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Digest
from orrange_p2p.crypto import secp256k1
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.signers.web3_keystore import read_web3_keystore

# The test vectors of the Web3 Secret Storage definition.
SECRET = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
ADDRESS = "008aeeda4d805471df9b2a5b0f38a0c3bcba786b"
PBKDF2: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "UTC--2016--key"


def written(path: Path, **changes: Any) -> Path:
    """The file above with members of ``crypto`` replaced."""
    document = copy.deepcopy(PBKDF2)
    document["crypto"].update(changes)
    path.write_text(json.dumps(document))
    return path


def test_the_published_vector_is_read(path: Path) -> None:
    signer = MemorySigner(read_web3_keystore(written(path), "testpassword"))
    assert signer.address.hex() == ADDRESS
    digest = Digest(b"\x07" * 32)
    assert secp256k1.is_signed_by(signer.address, digest, signer.sign(digest))


@pytest.mark.parametrize(("kdf", "work"), [("scrypt", 2**12), ("pbkdf2", 1000)])
def test_what_another_program_wrote_is_read(path: Path, kdf: Any, work: int) -> None:
    document = Account.encrypt("0x" + SECRET, "pässword", kdf=kdf, iterations=work)
    path.write_text(json.dumps(document))
    assert MemorySigner(read_web3_keystore(path, "pässword")).address.hex() == ADDRESS
    with pytest.raises(ConfigError, match="wrong passphrase"):
        read_web3_keystore(path, "password")
    path.write_text(json.dumps({**document, "address": "00" * 20}))
    with pytest.raises(ConfigError, match="another address than it says"):
        read_web3_keystore(path, "pässword")


SCRYPT = {"n": 4096, "r": 8, "p": 1, "dklen": 32, "salt": "00" * 32}


@pytest.mark.parametrize(
    "changes",
    [
        {"kdf": "argon2"},
        {"kdfparams": {}},
        {"kdfparams": {**PBKDF2["crypto"]["kdfparams"], "c": 10**12}},
        {"kdfparams": {**PBKDF2["crypto"]["kdfparams"], "c": 0}},
        {"kdf": "scrypt", "kdfparams": {**SCRYPT, "n": 2**40}},
        {"kdf": "scrypt", "kdfparams": {**SCRYPT, "p": 2**20}},
        {"kdf": "scrypt", "kdfparams": {**SCRYPT, "n": 3}},
        {"kdf": "scrypt", "kdfparams": {**SCRYPT, "dklen": 10**9}},
        {"kdf": "scrypt", "kdfparams": {**SCRYPT, "n": "many"}},
        {"ciphertext": "zz"},
        {"mac": 7},
    ],
)
def test_what_is_garbled_or_takes_too_much_is_told(path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no Web3 Secret Storage file"):
        read_web3_keystore(written(path, **changes), "testpassword")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"1" * 70_000, b'{"version": 1}'])
def test_what_is_no_keystore_is_told(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="keystore"):
        read_web3_keystore(path, "x")


def test_what_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_web3_keystore(path, "x")
