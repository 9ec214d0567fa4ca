"""The conformance suite of the ``Signer`` port, and what key files are refused for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from orrange_p2p.core.errors import ConfigError, StoreError
from orrange_p2p.core.ids import Digest
from orrange_p2p.crypto import secp256k1
from orrange_p2p.ports import Signer
from orrange_p2p.signers.keyfile import create_secret, open_signer, read_secret
from orrange_p2p.signers.memory import MemorySigner

DIGEST = Digest(b"\x07" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "witness.key"


def write_key(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def from_file(path: Path) -> Signer:
    write_key(path, b"0x" + b"01" * 32 + b"\n")
    return open_signer(path)


@pytest.mark.parametrize("opened", [lambda path: MemorySigner(b"\x01" * 32), from_file])
def test_it_signs_for_its_address(opened: Callable[[Path], Signer], path: Path) -> None:
    signer = opened(path)
    assert signer.address.hex() == "1a642f0e3c3af545e7acbd38b07251b3990914f1"
    signature = signer.sign(DIGEST)
    assert signature == signer.sign(DIGEST)
    assert secp256k1.is_signed_by(signer.address, DIGEST, signature)
    assert "01" * 32 not in repr(signer)


@pytest.mark.parametrize("secret", [b"", b"\x01" * 31, bytes(32), b"\xff" * 32])
def test_what_is_no_key_is_refused(secret: bytes, path: Path) -> None:
    with pytest.raises(ConfigError):
        MemorySigner(secret)
    write_key(path, secret.hex().encode())
    with pytest.raises(ConfigError, match=r"witness\.key"):
        open_signer(path)


def test_a_new_key_is_private_and_never_overwritten(path: Path) -> None:
    secret = create_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_secret(path) == secret
    with pytest.raises(ConfigError, match="not overwritten"):
        create_secret(path)
    assert read_secret(path) == secret


def test_a_link_in_the_way_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="there already"):
        create_secret(path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
def test_a_key_others_may_touch_is_refused_with_the_remedy(path: Path, mode: int) -> None:
    create_secret(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        open_signer(path)
    path.chmod(0o600)
    open_signer(path)


@pytest.mark.parametrize(
    "content", [b"", b"zz" * 32, b"01" * 33, b"\xff\xfe", b"01" * 100_000, "é".encode() * 32]
)
def test_a_garbled_file_is_told_and_not_quoted(path: Path, content: bytes) -> None:
    write_key(path, content)
    with pytest.raises(ConfigError) as caught:
        read_secret(path)
    assert str(caught.value) == f"key file {path} must hold 64 hexadecimal digits"


def test_what_is_no_file_is_told(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="orrange init"):
        read_secret(path)
    with pytest.raises(ConfigError, match="not a file"):
        read_secret(tmp_path)
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="not a file"):
        read_secret(path)
    with pytest.raises(StoreError, match="No such file"):
        create_secret(tmp_path / "none" / "x.key")
