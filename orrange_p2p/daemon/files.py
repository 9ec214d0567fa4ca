"""Small files that are there as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from orrange_p2p.core.errors import StoreError

__all__ = ["write_whole"]


def write_whole(path: Path, text: str) -> None:
    """Write or replace a file of mode 0600, durable on return, also if the machine stops in
    between. Raises ``StoreError``."""
    draft = path.with_name(path.name + ".new")
    try:
        with open(draft, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
