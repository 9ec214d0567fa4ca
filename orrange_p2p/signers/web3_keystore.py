"""Keys of other wallets: Web3 Secret Storage, version 3, as geth, Clef and ethers write it.

Read only; our own keys lie under one seed (``keystore``). eth-keyfile is not used: its import
raises Python's recursion limit for the whole process (decision 0014).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.crypto.hashes import keccak256
from orrange_p2p.signers.memory import MemorySigner

__all__ = ["read_web3_keystore"]

MAX_FILE_BYTES: Final = 64 * 1024
MAX_SCRYPT_BYTES: Final = 1 << 30
"""A file must not take more memory than that: geth's take 256 MiB."""
MAX_SCRYPT_WORK: Final = 1 << 25
"""n * r * p; geth's have 2^21 (n 2^18, r 8, p 1)."""
MAX_ROUNDS: Final = 10_000_000


def read_web3_keystore(path: Path, passphrase: str) -> bytes:
    """The 32-byte secret of a keystore file. Raises ``ConfigError``: no such file, no such format,
    or a wrong passphrase. Takes a second or so of one core: call it from a thread."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"keystore {path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"keystore {path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        document = json.loads(content)
        if document["version"] != 3:
            raise ConfigError(f"keystore {path} is of version {document['version']}, not 3")
        # Old programs wrote the names with a capital.
        crypto = {name.lower(): value for name, value in document.items()}["crypto"]
        secret = _decrypt(crypto, passphrase.encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(
            f"keystore {path} is no Web3 Secret Storage file that can be read here"
        ) from None
    if secret is None:
        raise ConfigError(f"keystore {path}: wrong passphrase")
    signer = MemorySigner(secret)
    address = str(document.get("address", "")).lower().removeprefix("0x")
    if address and address != signer.address.hex():
        raise ConfigError(f"keystore {path} holds the key of another address than it says")
    return secret


def _decrypt(crypto: Mapping[str, Any], passphrase: bytes) -> bytes | None:
    """The secret; None if the passphrase is wrong. Raises ``ValueError`` and the like."""
    ciphertext = bytes.fromhex(crypto["ciphertext"])
    derived = _derived(crypto["kdf"], crypto["kdfparams"], passphrase)
    mac = keccak256(derived[16:32] + ciphertext)
    if not hmac.compare_digest(mac, bytes.fromhex(crypto["mac"])):
        return None
    if crypto["cipher"] != "aes-128-ctr" or len(ciphertext) != 32:
        raise ValueError("unknown cipher, or no key of 32 bytes")
    counter = CTR(bytes.fromhex(crypto["cipherparams"]["iv"]))
    decryptor = Cipher(AES(derived[:16]), counter).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()


def _derived(kdf: str, parameters: Mapping[str, Any], passphrase: bytes) -> bytes:
    salt, length = bytes.fromhex(parameters["salt"]), parameters["dklen"]
    if length != 32:
        raise ValueError("a derived key is 32 bytes")
    if kdf == "scrypt":
        n, r, p = (parameters[name] for name in "nrp")
        if min(n, r, p) < 1 or 128 * n * r > MAX_SCRYPT_BYTES or n * r * p > MAX_SCRYPT_WORK:
            raise ValueError("takes too much memory or time")
        room = 128 * r * (n + p + 2)
        return hashlib.scrypt(passphrase, salt=salt, n=n, r=r, p=p, maxmem=room, dklen=length)
    if kdf != "pbkdf2" or parameters["prf"] != "hmac-sha256" or parameters["c"] > MAX_ROUNDS:
        raise ValueError("unknown key derivation, or too much of it")
    return hashlib.pbkdf2_hmac("sha256", passphrase, salt, parameters["c"], length)
