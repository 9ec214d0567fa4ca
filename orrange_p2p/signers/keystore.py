"""All keys of a node from one seed, on disk under a passphrase.

The seed is the entropy of 24 words (BIP-39, English, no passphrase of its own). Keys are BIP-32
private keys of its 64-byte seed:

    m/44'/60'/0'/0/n   trader n + 1: where an Ethereum wallet finds it too
    m/44'/60'/1'/0/0   witness
    m/44'/60'/2'/0/0   secret of the peer's Ed25519 key
    m/44'/60'/3'/0/0   secret behind the witness's hash chains
    m/44'/60'/4'/0/0   what the secrets of swaps come from
    m/84'/0'/0'        the Bitcoin wallet (chains/bitcoin/wallet.py)

The file is JSON: scrypt's parameters, and the entropy under AES-256-GCM with all the rest of the
file as associated data, so that nothing in it can be changed unnoticed.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from mnemonic import Mnemonic

from orrange_p2p.core.errors import ConfigError, StoreError
from orrange_p2p.crypto.bip32 import HARDENED, derive
from orrange_p2p.signers.keyfile import check_private
from orrange_p2p.signers.memory import MemorySigner

__all__ = ["Seed", "open_key", "open_seed", "write_key", "write_seed"]

FORMAT: Final = "orrange seed 1"
KEY_FORMAT: Final = "orrange key 1"
ENTROPY_BYTES: Final = 32
SCRYPT_N: Final = 1 << 17
"""With r = 8: 128 MiB and a third of a second for us, and for each guess of a thief."""
_MAX_N: Final = 1 << 20
_MAX_FILE_BYTES: Final = 4096
_TRADERS, _WITNESS, _PEER, _REVEAL, _SWAPS = range(5)


class Seed:
    """What all keys come from."""

    def __init__(self, entropy: bytes) -> None:
        self._entropy = entropy
        self._seed = Mnemonic.to_seed(self.mnemonic)

    @classmethod
    def new(cls) -> Seed:
        return cls(secrets.token_bytes(ENTROPY_BYTES))

    @classmethod
    def of_mnemonic(cls, words: str) -> Seed:
        """Raises ``ConfigError``; the words are never quoted."""
        split = words.lower().split()
        if len(split) != 24:
            raise ConfigError(f"a mnemonic has 24 words, not {len(split)}")
        try:
            return cls(bytes(Mnemonic("english").to_entropy(split)))
        except (ValueError, LookupError):
            raise ConfigError(
                "these words are no mnemonic: one is misspelt, missing or in another place"
            ) from None

    @property
    def mnemonic(self) -> str:
        """24 words that are the seed: whoever has them has all keys."""
        return str(Mnemonic("english").to_mnemonic(self._entropy))

    def trader(self, number: int) -> MemorySigner:
        """Traders are counted from 1."""
        return MemorySigner(self._key(_TRADERS, number - 1))

    def witness(self) -> MemorySigner:
        return MemorySigner(self._key(_WITNESS))

    def peer_secret(self) -> bytes:
        return self._key(_PEER)

    def reveal_secret(self) -> bytes:
        return self._key(_REVEAL)

    def swap_root(self) -> bytes:
        return self._key(_SWAPS)

    def bitcoin_key(self, path: tuple[int, ...]) -> bytes:
        return derive(self._seed, path)

    def _key(self, account: int, index: int = 0) -> bytes:
        path = (HARDENED + 44, HARDENED + 60, HARDENED + account, 0, index)
        return derive(self._seed, path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


def write_seed(path: Path, seed: Seed, passphrase: str, *, replace: bool = False) -> None:
    """Write the encrypted seed, durable on return, all of it or nothing.

    Raises ``ConfigError`` if the file is there and is not to be replaced.
    """
    _write(path, FORMAT, seed._entropy, passphrase, replace)


def open_seed(path: Path, passphrase: str) -> Seed:
    """Raises ``ConfigError`` for a wrong passphrase and for a file that cannot be used."""
    return Seed(_open(path, FORMAT, passphrase))


def write_key(path: Path, secret: bytes, passphrase: str, *, replace: bool = False) -> None:
    """Write one key that is not of the seed, as ``write_seed`` writes that."""
    _write(path, KEY_FORMAT, secret, passphrase, replace)


def open_key(path: Path, passphrase: str) -> bytes:
    """The secret of a file of ``write_key``. Raises as ``open_seed``."""
    return _open(path, KEY_FORMAT, passphrase)


def _write(path: Path, kind: str, content: bytes, passphrase: str, replace: bool) -> None:
    if os.path.lexists(path) and not replace:
        raise ConfigError(f"{path} is there already; it is not overwritten")
    header = {
        "format": kind,
        "scrypt": {"n": SCRYPT_N, "r": 8, "p": 1, "salt": secrets.token_hex(32)},
        "nonce": secrets.token_hex(12),
    }
    sealed = _cipher(header, passphrase).encrypt(
        bytes.fromhex(str(header["nonce"])), content, _associated(header)
    )
    document = json.dumps({**header, "sealed": sealed.hex()}, indent=1) + "\n"
    draft = path.with_name(path.name + ".new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(document)
            file.flush()
            os.fsync(descriptor)
        os.replace(draft, path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None


def _open(path: Path, kind: str, passphrase: str) -> bytes:
    try:
        with path.open("rb") as file:
            check_private(path, os.fstat(file.fileno()).st_mode)
            content = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    try:
        document = json.loads(content)
        sealed = bytes.fromhex(document.pop("sealed"))
        nonce = bytes.fromhex(document["nonce"])
        if document["format"] != kind:
            raise ConfigError(f"{path} is of format {document['format']!r}, not {kind!r}")
        cipher = _cipher(document, passphrase)
        return cipher.decrypt(nonce, sealed, _associated(document))
    except InvalidTag:
        raise ConfigError(f"wrong passphrase for {path} (or the file was changed)") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"{path} is damaged: put a copy of it back, or the mnemonic") from None


def _cipher(header: dict[str, Any], passphrase: str) -> AESGCM:
    parameters = header["scrypt"]
    n, r, p = (int(parameters[name]) for name in ("n", "r", "p"))
    if not (1 < n <= _MAX_N and 1 <= r <= 8 and p == 1):
        raise ValueError("these parameters are none of ours")
    kdf = Scrypt(salt=bytes.fromhex(parameters["salt"]), length=32, n=n, r=r, p=p)
    return AESGCM(kdf.derive(passphrase.encode()))


def _associated(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
