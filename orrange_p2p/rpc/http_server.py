"""Serving the HTTP API: anycorn on trio, for the length of a block."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anycorn
import trio
from anycorn.config import Config, Sockets

from orrange_p2p.core.errors import ConfigError, PortInUseError

__all__ = ["http_listening"]

CLOSE_S: Final = 2.0
BACKLOG: Final = 2048
MAX_HEADER_BYTES: Final = 16 * 1024


@asynccontextmanager
async def http_listening(app: Any, host: str, port: int) -> AsyncIterator[str]:
    """Serve ``app`` at an address of this machine; the URL, with the port that was given if 0 was
    asked for.

    Raises ``PortInUseError`` if something listens there, ``ConfigError`` for no address of ours.
    """
    listener = _bind(host, port)
    number = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    config = Config()
    # A quiet logger of our own: anycorn's writes what strangers send to stderr.
    config.errorlog = logging.getLogger("orrange.api")
    config.accesslog = None
    config.h11_max_incomplete_size = MAX_HEADER_BYTES
    config.websocket_max_message_size = 4096
    config.graceful_timeout = CLOSE_S
    config.create_sockets = lambda: Sockets([], [listener], [])  # type: ignore[method-assign]
    stop = trio.Event()

    async def serve() -> None:
        # A bare cancel would raise out of its lifespan: it is asked to end.
        with trio.CancelScope(shield=True):
            await anycorn.serve(app, config, shutdown_trigger=stop.wait, mode="asgi")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            yield f"http://{shown}:{number}"
        finally:
            stop.set()
    listener.close()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"api: {host!r} is no address: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise PortInUseError(
            f"the API cannot listen on {host}:{port}: {error.strerror or error}"
        ) from None
    return listener
