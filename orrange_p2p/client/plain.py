"""A blocking client of a node's local API, for the command line and for scripts."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orrange_p2p.client.socket_path import short
from orrange_p2p.core import jsonrpc
from orrange_p2p.core.errors import DeadlineError, MalformedError, UnreachableError
from orrange_p2p.core.jsonrpc import Reply, Request

__all__ = ["call"]


def call(
    path: Path, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0
) -> Any:
    """One call on a connection of its own; its result.

    Raises what the method raised, ``UnreachableError`` if no node listens at ``path``,
    ``DeadlineError`` if it is silent for ``timeout_s`` seconds.
    """
    line = jsonrpc.encode_request(Request(1, method, params or {}))
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            with short(path) as name:
                connection.connect(name)
            with suppress(BrokenPipeError):  # it may have said why before it closed
                connection.sendall(line)
            with connection.makefile("rb") as file:
                answer = file.readline(jsonrpc.MAX_REPLY_BYTES + 1)
    except TimeoutError:
        raise DeadlineError(f"the node at {path} did not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise UnreachableError(f"no node answers at {path}: {error.strerror or error}") from None
    if not answer.endswith(b"\n"):
        raise UnreachableError(f"the node at {path} closed the connection")
    reply = jsonrpc.decode_answer(answer)
    if not isinstance(reply, Reply):
        raise MalformedError(f"{method!r} is a stream")
    if reply.error is not None:
        raise reply.error
    return reply.result
