"""One process per key on this machine, whatever data directory the key lies in.

The store's lock keeps two nodes out of one directory; a copied directory has a store of its own.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from orrange_p2p.core.errors import ConfigError, StoreError
from orrange_p2p.core.ids import Address

__all__ = ["lock_directory", "locked"]


def lock_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where a user's processes find each other: gone with the session, or with the next boot."""
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "orrange-keys"
    return Path(tempfile.gettempdir()) / f"orrange-keys-{os.getuid()}"


@contextmanager
def locked(keys: Iterable[Address], owner: str, directory: Path) -> Iterator[None]:
    """Hold these keys for ``owner`` (what others are told) until the block or the process ends.

    Raises ``ConfigError`` if another process holds one.
    """
    with ExitStack() as stack:
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            status = directory.lstat()
            if status.st_uid != os.getuid() or directory.is_symlink():
                raise ConfigError(f"{directory} belongs to another user: remove it")
            for key in keys:
                path = directory / f"0x{key.hex()}"
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, descriptor)
                _lock(descriptor, key)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, os.fsencode(owner), 0)
        except OSError as error:
            raise StoreError(f"cannot lock keys in {directory}: {error.strerror}") from None
        yield


def _lock(descriptor: int, key: Address) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.fsdecode(os.pread(descriptor, 4096, 0))
        raise ConfigError(
            f"the key 0x{key.hex()} is in use by the node of {owner}: two nodes that sign with one "
            "key prove each other false; stop that one first"
        ) from None
