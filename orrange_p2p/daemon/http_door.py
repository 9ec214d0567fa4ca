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
from orrange_p2p.core import codec
from orrange_p2p.core.errors import WorldError
from orrange_p2p.daemon.api import market_named
from orrange_p2p.daemon.api_config import ApiConfig
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.daemon.live import Live
from orrange_p2p.daemon.node import Node
from orrange_p2p.rpc.access import Access
from orrange_p2p.rpc.feeds import Feeds
from orrange_p2p.rpc.http_api import make_app
from orrange_p2p.rpc.http_server import http_listening
from orrange_p2p.rpc.server import Method, Params

__all__ = ["http_door"]

MAX_AUDIT_BYTES: Final = 16 * 1024 * 1024
"""Then the file is put aside as ``.old``, over the one before."""
MAX_LEAVES: Final = 100_000

log = structlog.get_logger()


@asynccontextmanager
async def http_door(
    node: Node, methods: Mapping[str, Method], config: ApiConfig, directory: DataDir
) -> AsyncIterator[Mapping[str, Method]]:
    """Serve for the length of the block. Yields what the socket serves beside the table: the way to
    this door. Raises ``PortInUseError``, ``ConfigError``."""
    access = Access(node.clock, config.wallets)
    feeds = Feeds(node.counters)
    public = _Public(node, directory)
    table: dict[str, Method] = {
        **methods,
        "network": public.network,
        "certified": public.certified,
    }
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


class _Public:
    """What light clients ask of any node."""

    def __init__(self, node: Node, directory: DataDir) -> None:
        self._node = node
        self._genesis = directory.network.read_text("utf-8")

    async def network(self, params: Params) -> Any:
        genesis = self._node.genesis
        return {
            "name": genesis.name,
            "network_id": "0x" + genesis.network_id.hex(),
            "genesis": self._genesis,
        }

    async def certified(self, params: Params) -> Any:
        market = market_named(self._node, params)
        state = market.replica.certified
        if state is None:
            raise WorldError("no state is certified here yet: ask again in a few seconds")
        leaves = await trio.to_thread.run_sync(lambda: list(state.view.orders.items()))
        if len(leaves) > MAX_LEAVES:
            raise WorldError(f"the book has more than {MAX_LEAVES} groups of orders")
        return {
            "market": "0x" + market.market_id.hex(),
            "epoch": state.header.epoch,
            "certificate": "0x" + codec.encode(state.certificate).hex(),
            "orders": [[key.hex(), leaf.hex()] for key, leaf in leaves],
        }


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
