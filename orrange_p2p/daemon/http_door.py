"""The HTTP door of a running node, put together: table, tokens, feeds, audit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
import trio

import orrange_p2p
from orrange_p2p.daemon.api_config import ApiConfig
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.daemon.live import Live
from orrange_p2p.daemon.node import Node
from orrange_p2p.daemon.public_api import public_methods
from orrange_p2p.rpc.access import Access
from orrange_p2p.rpc.feeds import Feeds
from orrange_p2p.rpc.http_api import make_app
from orrange_p2p.rpc.http_server import http_listening
from orrange_p2p.rpc.server import Method, Params

__all__ = ["http_door"]

MAX_AUDIT_BYTES: Final = 16 * 1024 * 1024
"""Then the file is put aside as ``.old``, over the one before."""

log = structlog.get_logger()


@asynccontextmanager
async def http_door(
    node: Node, methods: Mapping[str, Method], config: ApiConfig, directory: DataDir
) -> AsyncIterator[Mapping[str, Method]]:
    """Serve for the length of the block. Yields what the socket serves beside the table: the way to
    this door. Raises ``PortInUseError``, ``ConfigError``."""
    access = Access(node.clock, config.wallets)
    feeds = Feeds(node.counters)
    genesis_text = directory.network.read_text("utf-8")
    table: dict[str, Method] = {**methods, **public_methods(node, genesis_text)}
    live = Live(node, table, feeds)
    table["tape"] = live.tape
    audit = _Audit(directory)
    app = make_app(
        table,
        access,
        feeds,
        audit.note,
        version=orrange_p2p.__version__,
        is_public=config.public,
        hosts=config.hosts,
    )
    async with http_listening(app, config.host, config.port) as url, trio.open_nursery() as nursery:
        await trio.to_thread.run_sync(access.write_cookie, directory.api_cookie)
        nursery.start_soon(live.run)
        log.info("api listening", url=url, public=config.public)

        async def api(params: Params) -> Any:
            """Where the HTTP API is, and a code that opens its page once."""
            return {"url": url, "code": access.new_code()}

        yield {"api": api}
        nursery.cancel_scope.cancel()


class _Audit:
    """A line for each request that may have changed something."""

    def __init__(self, directory: DataDir) -> None:
        self._path = directory.api_audit

    def note(self, who: str, method: str, path: str, status: int) -> None:
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "who": who,
            "method": method,
            "path": path,
            "status": status,
        }
        try:
            self._write(json.dumps(row) + "\n")
        except OSError as error:  # a full disk stops nobody from halting the node
            log.warning("audit not written", path=str(self._path), reason=error.strerror)

    def _write(self, line: str) -> None:
        if self._path.exists() and self._path.stat().st_size > MAX_AUDIT_BYTES:
            self._path.replace(self._path.with_suffix(".jsonl.old"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, 0o600), "a") as file:
            file.write(line)
