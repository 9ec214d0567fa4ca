"""The HTTP door of a node: the same table of methods that its socket serves, described by OpenAPI.

Nothing happens here that the table does not do. Here is only how a request becomes parameters, who
may make it, and how an error is told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import structlog
import trio
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response, WebSocket
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from orrange_p2p.core import siwe
from orrange_p2p.core.errors import (
    CallerError,
    DeadlineError,
    OrrangeError,
    PeerError,
    UnreachableError,
)
from orrange_p2p.rpc import models
from orrange_p2p.rpc.access import ADMIN, READ, TRADE, Access, Caller, LoginError
from orrange_p2p.rpc.feeds import Feeds, Subscriber
from orrange_p2p.rpc.gate import Gate
from orrange_p2p.rpc.server import Method

__all__ = ["Audit", "make_app"]

COOKIE: Final = "orrange_session"
STATIC: Final = Path(__file__).with_name("static")
MAX_KEYS: Final = 1024
"""Idempotency keys remembered; the oldest give way."""
MAX_CHANNELS: Final = 32
WRITE_S: Final = 5.0
"""A subscriber that takes nothing for so long is gone."""

Audit = Callable[[str, str, str, int], None]
"""Told (who, method, path, status) of everything that may change something."""

log = structlog.get_logger()

MarketName = Annotated[
    str | None,
    Query(pattern=r"^0x[0-9a-f]{64}$", description="Need not be named where there is only one."),
]
Since = Annotated[int, Query(ge=0, le=2**63 - 1)]
Author = Annotated[str, InPath(pattern=r"^0x[0-9a-f]{40}$")]
EntryNumber = Annotated[int, InPath(ge=0, le=2**63 - 1)]
Position = Annotated[int, InPath(ge=0, le=1023)]
TradePath = Annotated[str, InPath(pattern=r"^0x[0-9a-f]{2,64}$")]

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        description="The same request under the same key is done once, as long as the node "
        "runs, and answered alike.",
    ),
]

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": models.Problem, "description": text}
    for status, text in {
        400: "The request asks for what is not there, or contradicts itself.",
        401: "No token, or one that is unknown or expired.",
        403: "The token may not do this.",
        409: "The node cannot do this now; `message` says why.",
        413: "The request is too large.",
        422: "The request is not of this shape.",
        424: "A chain or peer did not answer.",
        429: "Too many requests: wait as `Retry-After` says.",
    }.items()
}


class _Calls:
    """Calls of the table, for one application."""

    def __init__(self, methods: Mapping[str, Method], access: Access, *, is_public: bool) -> None:
        self.methods = methods
        self.access = access
        self.is_public = is_public
        self._answered: dict[tuple[str, str], tuple[bytes, Any]] = {}
        self._asking: dict[tuple[str, str], trio.Event] = {}

    async def call(self, method: str, **params: Any) -> Any:
        return await self.methods[method]({k: v for k, v in params.items() if v is not None})

    async def once(
        self, who: str, key: str | None, body: Any, do: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Do it, or say what came of it before under the same key."""
        if key is None:
            return await do()
        name, digest = (who, key), hashlib.sha256(json.dumps(body).encode()).digest()
        while (asking := self._asking.get(name)) is not None:
            await asking.wait()
        if name in self._answered:
            before, answer = self._answered[name]
            if before != digest:
                raise HTTPException(409, "this Idempotency-Key was used for another request")
            return answer
        self._asking[name] = done = trio.Event()
        try:
            answer = await do()
            while len(self._answered) >= MAX_KEYS:
                del self._answered[next(iter(self._answered))]
            self._answered[name] = digest, answer
            return answer
        finally:
            del self._asking[name]
            done.set()


_bearer = HTTPBearer(
    auto_error=False,
    description="The content of `api.cookie` in the node's data directory, or a session's token.",
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _needs(calls: _Calls, scope: str, *, is_open: bool = False) -> Any:
    """A caller that may do this. ``is_open``: anybody may, at a public node."""

    async def depend(request: Request, bearer: Bearer) -> Caller:
        token = request.cookies.get(COOKIE) if bearer is None else bearer.credentials
        caller = None if token is None else calls.access.caller(token)
        address = "?" if request.client is None else request.client.host
        wait_s = calls.access.wait_s(address if caller is None else caller.name)
        if wait_s:
            raise HTTPException(429, "too many requests", {"Retry-After": str(round(wait_s + 1))})
        if caller is None and is_open and calls.is_public:
            return Caller(address, ())
        if caller is None:
            raise HTTPException(
                401,
                "send `Authorization: Bearer` with the content of api.cookie, or log in",
                {"WWW-Authenticate": "Bearer"},
            )
        if scope not in caller.scopes:
            raise HTTPException(403, f"{caller.name} may not {scope}")
        request.state.caller, request.state.token = caller, token
        return caller

    return Depends(depend)


def make_app(
    methods: Mapping[str, Method],
    access: Access,
    feeds: Feeds,
    audit: Audit,
    *,
    version: str,
    is_public: bool = False,
    hosts: tuple[str, ...] = (),
) -> Gate:
    """The application, behind its gate."""
    app: FastAPI = FastAPIOffline(
        title="Orrange node",
        version=version,
        description=__doc__,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        responses=_PROBLEMS,
    )
    calls = _Calls(methods, access, is_public=is_public)
    app.include_router(_reading(calls))
    app.include_router(_trading(calls))
    app.include_router(_running(calls))
    app.include_router(_sessions(calls))
    _stream(app, calls, feeds)
    _tell_errors(app)

    @app.get("/", include_in_schema=False)
    async def front() -> Response:
        return RedirectResponse("/app/")

    app.mount("/app", StaticFiles(directory=STATIC, html=True), name="dashboard")
    return Gate(_Noting(app, audit), hosts)


class _Noting:
    """Writes down what may have changed something, and keeps answers out of caches (pure ASGI)."""

    def __init__(self, app: ASGIApp, audit: Audit) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        is_api = scope["path"].startswith("/v1/")

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if is_api and not any(name.lower() == b"cache-control" for name, _ in headers):
                    message["headers"] = [*headers, (b"cache-control", b"no-store")]
                if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                    caller = scope["state"].get("caller")
                    who = "nobody" if caller is None else caller.name
                    self._audit(who, scope["method"], scope["path"], message["status"])
            await send(message)

        await self._app(scope, receive, say)


def _tell_errors(app: FastAPI) -> None:
    def problem(status: int, code: str, message: str, headers: Any = None) -> JSONResponse:
        return JSONResponse({"code": code, "message": message}, status, headers)

    @app.exception_handler(OrrangeError)
    async def ours(request: Request, error: OrrangeError) -> JSONResponse:
        status = 409
        if isinstance(error, LoginError):
            status = 401
        elif isinstance(error, CallerError | PeerError):
            status = 400
        elif isinstance(error, UnreachableError | DeadlineError):
            status = 424
        name = type(error).__name__.removesuffix("Error")
        code = "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")
        return problem(status, code, str(error))

    @app.exception_handler(RequestValidationError)
    async def misshapen(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem(422, "misshapen", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        codes = {401: "not_logged_in", 403: "not_allowed", 404: "not_found", 405: "no_such_method"}
        codes |= {409: "conflict", 413: "too_large", 429: "too_many_requests"}
        code = codes.get(error.status_code, "refused")
        headers = error.headers
        if error.status_code == 405:  # of a path with several methods it would name but one
            headers = {"Allow": ", ".join(sorted(_methods_at(app, request)))}
        return problem(error.status_code, code, str(error.detail), headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        log.error("api method failed", path=request.url.path, exc_info=error)
        return problem(500, "internal", "this failed inside the node; its log says more")


def _methods_at(app: FastAPI, request: Request) -> set[str]:
    known = app.openapi()["paths"]
    path = request.url.path.split("/")
    return {
        method.upper()
        for shape, methods in known.items()
        if len(shape.split("/")) == len(path)
        and all(
            part.startswith("{") or part == said
            for part, said in zip(shape.split("/"), path, strict=True)
        )
        for method in methods
    }


def _reading(calls: _Calls) -> APIRouter:
    router = APIRouter(prefix="/v1")
    reader, anybody = _needs(calls, READ), _needs(calls, READ, is_open=True)

    def keep(response: Response) -> None:
        """Answers that are the same for everybody may be kept for a second by a cache between."""
        if calls.is_public:
            response.headers["cache-control"] = "public, max-age=1"

    @router.get("/network", tags=["public"], dependencies=[anybody], response_model=models.Network)
    async def network(response: Response) -> Any:
        """The network this node belongs to."""
        keep(response)
        return await calls.call("network")

    @router.get(
        "/markets", tags=["public"], dependencies=[anybody], response_model=list[models.Market]
    )
    async def markets(response: Response) -> Any:
        """The markets this node carries, and how their units are meant."""
        keep(response)
        return await calls.call("markets")

    @router.get("/book", tags=["public"], dependencies=[anybody], response_model=models.Book)
    async def book(
        response: Response,
        market: MarketName = None,
        levels: Annotated[int, Query(ge=1, le=1000)] = 20,
    ) -> Any:
        """The best prices of both sides."""
        keep(response)
        return await calls.call("book", market=market, levels=levels)

    @router.get(
        "/tape", tags=["public"], dependencies=[anybody], response_model=list[models.TapeRow]
    )
    async def tape(response: Response, market: MarketName = None) -> Any:
        """The latest matches, oldest first."""
        keep(response)
        return await calls.call("tape", market=market)

    @router.get(
        "/epochs", tags=["public"], dependencies=[anybody], response_model=list[models.Epoch]
    )
    async def epochs(response: Response, market: MarketName = None, since: Since = 0) -> Any:
        """Epochs after `since`, oldest first, at most 1,000 of the latest."""
        keep(response)
        return await calls.call("epochs", market=market, since=since)

    @router.get(
        "/certified", tags=["public"], dependencies=[anybody], response_model=models.Certified
    )
    async def certified(response: Response, market: MarketName = None) -> Any:
        """The latest book that a quorum of witnesses vouches for, whole, for who trusts nobody."""
        keep(response)
        return await calls.call("certified", market=market)

    @router.get(
        "/proofs/{author}/{seq}/{position}",
        tags=["public"],
        dependencies=[anybody],
        response_model=models.OrderProof,
    )
    async def order_proof(
        response: Response,
        author: Author,
        seq: EntryNumber,
        position: Position,
        market: MarketName = None,
    ) -> Any:
        """How one order stood in the latest certified state, or that it was not live."""
        keep(response)
        return await calls.call("order_proof", market=market, order=f"{author}/{seq}/{position}")

    @router.get(
        "/certified/matches",
        tags=["public"],
        dependencies=[anybody],
        response_model=models.CertifiedMatches,
    )
    async def certified_matches(response: Response, market: MarketName = None) -> Any:
        """All matches that were pending in the latest certified state."""
        keep(response)
        return await calls.call("certified_matches", market=market)

    @router.get(
        "/handovers", tags=["public"], dependencies=[anybody], response_model=models.Handovers
    )
    async def handovers(
        response: Response,
        market: MarketName = None,
        since: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    ) -> Any:
        """How the witnesses of each era, from `since` on, name those of the next: for who follows
        an elected network's witnesses from genesis, or from an era whose roster it knows."""
        keep(response)
        return await calls.call("handovers", market=market, since=since)

    @router.get(
        "/logs/{author}", tags=["public"], dependencies=[anybody], response_model=models.Log
    )
    async def log_of(author: Author, market: MarketName = None) -> Any:
        """How far an author's log is known: proven as far as it was cut in the latest certified
        state, and the signed entries after that."""
        return await calls.call("log", market=market, author=author)

    @router.get(
        "/reputation", tags=["public"], dependencies=[anybody], response_model=models.Reputation
    )
    async def reputation(
        account: Annotated[str | None, Query(pattern=r"^0x[0-9a-fA-F]{40}$")] = None,
        block: Annotated[int | None, Query(ge=0, le=2**63 - 1)] = None,
    ) -> Any:
        """What accounts are worth by the home chain, in micro-units of the bond asset: the best
        1,000, or one with the events that its score is made of."""
        return await calls.call("reputation", account=account, block=block)

    @router.get("/status", tags=["node"], dependencies=[reader], response_model=models.Status)
    async def status() -> Any:
        """How the node is."""
        return await calls.call("status")

    @router.get("/peers", tags=["node"], dependencies=[reader], response_model=list[models.Peer])
    async def peers() -> Any:
        """Connected and remembered peers."""
        return await calls.call("peers")

    @router.get(
        "/orders", tags=["own"], dependencies=[reader], response_model=list[models.OrderRow]
    )
    async def orders(market: MarketName = None, ended: bool = False) -> Any:
        """Own orders: pending and open ones, and with `ended` those that ended lately."""
        return await calls.call("orders", market=market, ended=ended)

    @router.get(
        "/trades", tags=["own"], dependencies=[reader], response_model=list[models.TradeRow]
    )
    async def trades(market: MarketName = None, since: Since = 0) -> Any:
        """Own trades after position `since`, and how far each is settled; at most 1,000."""
        return await calls.call("trades", market=market, since=since)

    @router.get("/swaps", tags=["own"], dependencies=[reader], response_model=list[models.SwapRow])
    async def swaps(market: MarketName = None, since: Since = 0) -> Any:
        """Own swaps over two chains after position `since`; at most 1,000."""
        return await calls.call("swaps", market=market, since=since)

    @router.get(
        "/swaps/{trade}", tags=["own"], dependencies=[reader], response_model=models.SwapRow
    )
    async def swap(trade: TradePath) -> Any:
        """One swap, and what both chains show of it now."""
        return await calls.call("swap", trade=trade)

    @router.get(
        "/wallet", tags=["own"], dependencies=[reader], response_model=list[models.WalletRow]
    )
    async def wallet() -> Any:
        """What the traders hold on each chain."""
        return await calls.call("wallet")

    @router.get(
        "/wallet/sent/{id}",
        tags=["own"],
        dependencies=[reader],
        response_model=dict[str, Any] | None,
    )
    async def sent(
        id: Annotated[str, InPath(pattern=r"^[0-9A-Za-z]{1,64}$")],
        chain: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Any:
        """How what was sent under this id stands; null if nothing was."""
        return await calls.call("wallet_sent", id=id, chain=chain)

    return router


def _trading(calls: _Calls) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["own"])
    trader, owner = _needs(calls, TRADE), _needs(calls, ADMIN)

    @router.post("/orders", status_code=201, dependencies=[trader], response_model=models.Placed)
    async def place(request: Request, body: models.OrderBody, key: Key = None) -> Any:
        """Place an order. It is durable here when this answers, and in the book an epoch later."""
        wish = body.model_dump(exclude_none=True)
        market, author = wish.pop("market", None), wish.pop("author", None)
        operation = {"op": "place", **wish}

        async def do() -> Any:
            named = await calls.call("submit", market=market, author=author, operations=[operation])
            return {"order": _name(named[0])}

        return await calls.once(request.state.caller.name, key, body.model_dump(), do)

    @router.post(
        "/entries",
        status_code=201,
        tags=["public"],
        dependencies=[_needs(calls, TRADE, is_open=True)],
        response_model=models.Taken,
    )
    async def entry(body: models.EntryBody) -> Any:
        """Hand in an entry of a log that its author has signed elsewhere. It is durable here and
        on its way to others when this answers."""
        return await calls.call("entry", market=body.market, entry=body.entry)

    @router.delete(
        "/orders/{author}/{seq}/{position}",
        dependencies=[trader],
        response_model=models.Cancelled,
    )
    async def cancel(
        author: Author, seq: EntryNumber, position: Position, market: MarketName = None
    ) -> Any:
        """Take back what is open of an order. What is matched already stands."""
        operation = {"op": "cancel", "seq": seq, "position": position}
        named = await calls.call("submit", market=market, author=author, operations=[operation])
        return {"order": _name(named[0])}

    @router.delete("/orders", dependencies=[trader], response_model=models.Cancelled)
    async def cancel_all(
        market: MarketName = None,
        author: Annotated[str | None, Query(pattern=r"^0x[0-9a-f]{40}$")] = None,
    ) -> Any:
        """Take back all open orders of an author in a market."""
        operations = [{"op": "cancel_all"}]
        named = await calls.call("submit", market=market, author=author, operations=operations)
        return {"order": _name(named[0])}

    @router.get(
        "/delegations",
        dependencies=[_needs(calls, READ)],
        response_model=list[models.DelegationRow],
    )
    async def delegations(market: MarketName = None) -> Any:
        """Which trader keys of this node trade for which accounts."""
        return await calls.call("delegations", market=market)

    @router.post("/delegations/plan", dependencies=[trader], response_model=models.DelegationPlan)
    async def plan_delegation(body: models.DelegationWish) -> Any:
        """What a wallet has to sign and to send so that a trader key trades for its account."""
        return await calls.call("delegation_plan", **body.model_dump())

    @router.post(
        "/delegations", status_code=201, dependencies=[trader], response_model=models.Taken
    )
    async def delegate(body: models.SignedDelegation) -> Any:
        """Hand in what the wallet has signed. It is in force two epochs later."""
        return await calls.call("delegation", **body.model_dump())

    @router.get("/swaps/{trade}/bundle", dependencies=[owner], response_model=models.Bundle)
    async def bundle(trade: TradePath) -> Any:
        """The recovery bundle of a swap."""
        return {"bundle": await calls.call("swap_bundle", trade=trade)}

    @router.post("/swaps", dependencies=[owner], response_model=dict[str, Any])
    async def resume_swap(body: models.Bundle) -> Any:
        """Go on with the swap of a bundle."""
        return await calls.call("swap_resume", bundle=body.bundle)

    @router.post("/wallet/plan", dependencies=[trader], response_model=dict[str, Any])
    async def plan(body: models.WalletWish) -> Any:
        """What sending this would do and cost; nothing is sent."""
        return await calls.call("wallet_plan", **body.model_dump())

    @router.post("/wallet/send", dependencies=[owner], response_model=dict[str, Any])
    async def send(body: models.WalletWish) -> Any:
        """Send, approve, wrap or unwrap."""
        return await calls.call("wallet_send", **body.model_dump())

    return router


def _name(said: Mapping[str, Any]) -> str:
    return f"{said['author']}/{said['seq']}/{said['position']}"


def _running(calls: _Calls) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["node"])
    owner = _needs(calls, ADMIN)

    @router.post("/peers", dependencies=[owner], response_model=dict[Literal["peer_id"], str])
    async def connect(body: models.AddressBody) -> Any:
        """Dial a peer and stay connected."""
        return {"peer_id": await calls.call("connect", address=body.address)}

    @router.post("/halt", dependencies=[owner], response_model=models.Halted)
    async def halt() -> Any:
        """The kill switch: cancel all, then sign nothing until `resume`."""
        return await calls.call("halt")

    @router.post(
        "/resume", dependencies=[owner], response_model=dict[Literal["signs_nothing"], str | None]
    )
    async def resume() -> Any:
        """End a halt."""
        return await calls.call("resume")

    return router


def _sessions(calls: _Calls) -> APIRouter:
    router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
    access, reader = calls.access, _needs(calls, READ)

    def opened(response: Response, token: str, caller: Caller) -> dict[str, Any]:
        expires_s = access.expires_s(caller)
        response.set_cookie(
            COOKIE, token, max_age=expires_s, httponly=True, samesite="strict", path="/v1"
        )
        return {
            "name": caller.name,
            "scopes": list(caller.scopes),
            "expires_s": expires_s,
            "token": token,
        }

    def count(request: Request) -> None:
        address = "?" if request.client is None else request.client.host
        wait_s = access.wait_s(f"login {address}")
        if wait_s:
            raise HTTPException(429, "too many requests", {"Retry-After": str(round(wait_s + 1))})

    @router.post("", response_model=models.Session)
    async def by_code(request: Request, response: Response, body: models.Code) -> Any:
        """Open a session by the code that `orrange dashboard` prints."""
        count(request)
        return opened(response, *access.open_by_code(body.code))

    @router.post("/code", dependencies=[_needs(calls, ADMIN)], response_model=models.Code)
    async def code() -> Any:
        """A code that opens one session of all scopes, within a minute."""
        return {"code": access.new_code()}

    @router.get("/nonce", response_model=dict[Literal["nonce"], str])
    async def nonce(request: Request) -> Any:
        """What a wallet's message has to carry; good for five minutes."""
        count(request)
        return {"nonce": access.new_nonce()}

    @router.post("/wallet", response_model=models.Session)
    async def by_wallet(request: Request, response: Response, body: models.WalletLogin) -> Any:
        """Open a session that reads and trades, by a wallet that the node's configuration names
        (Sign-In with Ethereum, EIP-4361)."""
        count(request)
        message = siwe.parse_sign_in(body.message)
        message.check(request.headers["host"], datetime.now(UTC))
        signer = siwe.signer_of(body.message, bytes.fromhex(body.signature[2:]))
        if signer != message.address:
            raise LoginError("the signature is not of the account that the message names")
        return opened(response, *access.open_for_wallet(signer, message.nonce))

    @router.get("", dependencies=[reader], response_model=models.Session)
    async def me(request: Request) -> Any:
        """Who is asking."""
        caller: Caller = request.state.caller
        return {
            "name": caller.name,
            "scopes": list(caller.scopes),
            "expires_s": access.expires_s(caller),
        }

    @router.delete("", status_code=204, dependencies=[reader])
    async def leave(request: Request, response: Response) -> None:
        """Log out."""
        access.close(request.state.token)
        response.delete_cookie(COOKIE, path="/v1")

    return router


# --- the stream ---


def _stream(app: FastAPI, calls: _Calls, feeds: Feeds) -> None:
    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        wanted = socket.query_params.get("channels", "").split(",")
        refusal = _refusal(calls, feeds, socket, wanted)
        if refusal is not None:
            await socket.close(1008, refusal[:120])
            return
        await socket.accept()
        subscriber = Subscriber()
        feeds.join(subscriber, wanted)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_listen, socket, nursery.cancel_scope)
                await _speak(socket, subscriber)
                nursery.cancel_scope.cancel()
        finally:
            feeds.leave(subscriber)


def _refusal(calls: _Calls, feeds: Feeds, socket: WebSocket, wanted: list[str]) -> str | None:
    header = socket.headers.get("authorization", "")
    token = header.removeprefix("Bearer ") or socket.cookies.get(COOKIE)
    caller = None if token is None else calls.access.caller(token)
    if len(wanted) > MAX_CHANNELS or not all(name in feeds.channels for name in wanted):
        return "channels: a list of " + ", ".join(feeds.channels)
    is_open = calls.is_public and all(name.startswith(("book:", "tape:")) for name in wanted)
    if caller is None and not is_open:
        return "not logged in"
    if caller is not None and not all(feeds.channels[name] in caller.scopes for name in wanted):
        return f"{caller.name} may not hear this"
    if feeds.is_full:
        return "too many subscribers: try again later"
    return None


async def _listen(socket: WebSocket, scope: trio.CancelScope) -> None:
    """A subscriber has nothing to say; what it says is dropped, and its leaving is noticed."""
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                break
    except (WebSocketDisconnect, RuntimeError):
        pass
    scope.cancel()


async def _speak(socket: WebSocket, subscriber: Subscriber) -> None:
    while (text := await subscriber.next()) is not None:
        with trio.move_on_after(WRITE_S) as writing:
            await socket.send_text(text)
        if writing.cancelled_caught:
            return
    with trio.move_on_after(WRITE_S):
        await socket.close(1013, "too slow: come back for a snapshot")
