"""One question to the running node of a data directory."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orrange_p2p.client.plain import call
from orrange_p2p.core.errors import UnreachableError
from orrange_p2p.daemon.config import load_config


def ask(
    data_dir: Path,
    method: str,
    params: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 10.0,
) -> Any:
    """What the node answers. Raises what it raised, and ``UnreachableError`` if none is running."""
    config = load_config(data_dir)
    try:
        return call(config.rpc_socket, method, params, timeout_s=timeout_s)
    except UnreachableError:
        start = f"orrange run --data-dir {shlex.quote(str(data_dir))}"
        raise UnreachableError(
            f"no node is running for {data_dir}: start it with {start}"
        ) from None
