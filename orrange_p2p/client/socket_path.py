"""Socket addresses have room for 107 bytes; data directories may lie deeper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orrange_p2p.core.errors import ConfigError

SOCKET_PATH_BYTES: Final = 107


@contextmanager
def short(path: Path) -> Iterator[str]:
    """A name of ``path`` that fits. Raises ``ConfigError``, or ``OSError`` without the directory.

    ``rpc.server`` does the same on its side.
    """
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = f"/proc/self/fd/{descriptor}/{path.name}"
        if not os.path.isdir(os.path.dirname(name)) or len(name) > SOCKET_PATH_BYTES:
            raise ConfigError(f"{path} is too long for a socket: set rpc_socket in node.toml")
        yield name
    finally:
        os.close(descriptor)
