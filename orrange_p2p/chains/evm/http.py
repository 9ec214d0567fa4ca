"""One endpoint over HTTP: one request, one answer. For endpoints that offer no WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import trio

from orrange_p2p.chains.evm import answers
from orrange_p2p.chains.evm.answers import MAX_ANSWER_BYTES
from orrange_p2p.core.errors import (
    DeadlineError,
    MalformedError,
    OversizedError,
    RefusedError,
    UnreachableError,
)

__all__ = ["HttpEndpoint", "open_http_endpoint"]

_LIMITS: Final = httpx.Limits(max_connections=8, max_keepalive_connections=4)
_TOO_MANY: Final = 429


class HttpEndpoint:
    """Made by ``open_http_endpoint``."""

    def __init__(self, url: str, timeout_s: float, client: httpx.AsyncClient) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._client = client

    async def request(self, method: str, params: list[Any]) -> Any:
        """The result as JSON. Raises ``UnreachableError``, ``DeadlineError``, ``RefusedError``,
        ``MalformedError``."""
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            with trio.fail_after(self._timeout_s):
                body = await self._post(call)
        except trio.TooSlowError:
            raise DeadlineError(f"no answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"no connection: {type(error).__name__}") from None
        message = answers.parse(body)
        if not isinstance(message, dict) or message.get("id") not in (1, None):
            raise MalformedError("the endpoint's answer is no answer to the request")
        return answers.result(message)

    async def _post(self, call: dict[str, Any]) -> bytes:
        async with self._client.stream("POST", self.url, json=call) as response:
            if response.status_code == _TOO_MANY:
                raise RefusedError("too many requests", _TOO_MANY)
            if "content-encoding" in response.headers:
                # Not asked for; a few kilobytes could unpack to gigabytes.
                raise MalformedError("the endpoint's answer is packed")
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise OversizedError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            return bytes(body)


@asynccontextmanager
async def open_http_endpoint(url: str, timeout_s: float) -> AsyncIterator[HttpEndpoint]:
    """An endpoint for as long as the block lasts. Proxies of the environment are not used."""
    async with httpx.AsyncClient(
        headers={"accept-encoding": "identity"}, limits=_LIMITS, timeout=timeout_s, trust_env=False
    ) as client:
        yield HttpEndpoint(url, timeout_s, client)
