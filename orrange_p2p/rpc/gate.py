"""What every HTTP request has to pass before anybody looks at it (pure ASGI).

A page of another site, or a name that was pointed at this machine (DNS rebinding), reaches a
loopback port as easily as we do. So the Host has to be one of ours, an Origin has to be the Host's
own, and nothing of the API is ever shared across origins. Requests have a size.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import urlsplit

import trio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Gate"]

MAX_BODY_BYTES: Final = 256 * 1024
MAX_DRAINED_BYTES: Final = 4 * 1024 * 1024
DRAIN_S: Final = 2.0
TOO_LARGE: Final = f"a request has at most {MAX_BODY_BYTES} bytes"
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
HEADERS: Final = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' data:; "
    b"style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; "
    b"form-action 'self'",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
_DOCS: Final = b"script-src 'self' 'unsafe-inline'"
"""The page that explains the API starts itself by a script of its own."""


class Gate:
    """Wraps an application. ``hosts``: names under which it may be asked, beside loopback's."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] = (), docs: str = "/docs") -> None:
        self._app = app
        self._hosts = frozenset(LOOPBACK) | frozenset(hosts)
        self._docs = docs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(headers)
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS.items()]
                if path.startswith(self._docs):
                    message["headers"] = [
                        (name, value + b"; " + _DOCS if b"security-policy" in name else value)
                        for name, value in message["headers"]
                    ]
            await send(message)

        body = _Body(receive)
        await self._app(scope, body.receive, say)

    def _refusal(self, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        if name not in self._hosts:
            said = f"this node does not answer as {host!r}; [api] hosts in node.toml adds a name"
            return 421, "foreign_host", said
        origin = headers.get(b"origin")
        if origin is not None:
            said = origin.decode("latin-1")
            if said not in (f"http://{host}", f"https://{host}"):
                return 403, "foreign_origin", f"a page of {said!r} may not use this node"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return 413, "too_large", TOO_LARGE
        return None


class _Body:
    """A request's body that ends once it is too long, whatever its header promised."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = MAX_BODY_BYTES

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                if message.get("more_body", False):
                    await _drain(self._receive)
                raise HTTPException(413, TOO_LARGE)
        return message


async def _drain(receive: Receive) -> None:
    """Let who is still sending finish, within reason: an answer that comes before that may be lost
    with the connection."""
    left = MAX_DRAINED_BYTES
    with trio.move_on_after(DRAIN_S):
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return


async def _refuse(
    scope: Scope, receive: Receive, send: Send, status: int, code: str, message: str
) -> None:
    if scope["type"] == "websocket":
        await receive()  # the handshake
        await send({"type": "websocket.close", "code": 1008, "reason": message[:120]})
        return
    await _drain(receive)
    body = json.dumps({"code": code, "message": message}).encode()
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *HEADERS.items(),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
