"""Keys on disk: one file, 64 hexadecimal digits, readable by its owner alone.

The same files carry the node's other 32-byte secrets (``daemon.datadir``).
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from orrange_p2p.core.errors import ConfigError, StoreError
from orrange_p2p.signers.memory import MemorySigner

__all__ = ["check_private", "create_secret", "open_signer", "read_secret", "write_secret"]

SECRET_BYTES: Final = 32
_MAX_FILE_BYTES: Final = 256


def open_signer(path: Path) -> MemorySigner:
    """The signer of a key file. Raises ``ConfigError`` that says what to do."""
    try:
        return MemorySigner(read_secret(path))
    except ConfigError as error:
        if str(path) in str(error):
            raise
        raise ConfigError(f"key file {path}: {error}") from None


def check_private(path: Path, mode: int) -> None:
    """Raises ``ConfigError`` if other users may open the file."""
    if mode & 0o077:
        raise ConfigError(
            f"key file {path} is open to other users (mode {mode & 0o777:04o}); "
            f"if none of them has touched it, run: chmod 600 {path}"
        )


def read_secret(path: Path) -> bytes:
    """The 32 bytes of a key file. Raises ``ConfigError``; what the file says is never quoted."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(f"key file {path} is missing: `orrange init` makes one") from None
    except OSError as error:
        raise ConfigError(f"key file {path} cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"key file {path} is not a file")
        check_private(path, status.st_mode)
        text = os.read(descriptor, _MAX_FILE_BYTES).strip().removeprefix(b"0x")
    except OSError as error:
        raise ConfigError(f"key file {path} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ConfigError(f"key file {path} must hold {2 * SECRET_BYTES} hexadecimal digits")
    return secret


def create_secret(path: Path) -> bytes:
    """Draw 32 random bytes into a new file of mode 0600, durable on return; never overwrites.

    Raises ``ConfigError`` if the file is there already, ``StoreError`` if it cannot be written.
    """
    secret = secrets.token_bytes(SECRET_BYTES)
    write_secret(path, secret)
    return secret


def write_secret(path: Path, secret: bytes) -> None:
    """Write 32 bytes into a new file, as ``create_secret``."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(secret.hex().encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        _sync_directory(path.parent)
    except FileExistsError:
        raise ConfigError(f"key file {path} is there already; it is not overwritten") from None
    except OSError as error:
        raise StoreError(f"key file {path} cannot be written: {error.strerror}") from None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
