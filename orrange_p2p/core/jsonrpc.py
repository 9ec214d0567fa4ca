"""The local API's messages: JSON-RPC 2.0, one object per line, with streams added.

A request is answered by a result or an error under its id. A streaming method is answered by any
number of ``event`` notifications that carry the request's id, and by a result (null) or an error
when it ends by itself; closing the connection ends it from the other side. No batches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from orrange_p2p.core import errors
from orrange_p2p.core.errors import CallerError, MalformedError, OrrangeError, PeerError, WorldError
from orrange_p2p.core.nesting import is_deep

MAX_DEPTH: Final = 32
"""Arrays and objects inside one another."""
MAX_REQUEST_BYTES: Final = 1 << 20
"""Room for the operations of a full entry."""
MAX_REPLY_BYTES: Final = 16 << 20

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
PEER_ERROR: Final = -32001
WORLD_ERROR: Final = -32002

Id = int | str | None


class Request(NamedTuple):
    """A call. ``id`` is the caller's, never null."""

    id: Id
    method: str
    params: Mapping[str, Any]


class Reply(NamedTuple):
    """The end of a call: a result or an error."""

    id: Id
    result: Any
    error: OrrangeError | None


class Event(NamedTuple):
    """One item of a stream."""

    id: Id
    item: Any


class BadRequestError(MalformedError):
    """A line that is no request; carries the id, if it has one, and the JSON-RPC code."""

    def __init__(self, code: int, reason: str, id: Id = None) -> None:
        super().__init__(reason)
        self.code = code
        self.id = id


def encode_request(request: Request) -> bytes:
    """Raises ``CallerError`` if the parameters are not JSON."""
    try:
        line = _encode({"id": request.id, "method": request.method, "params": request.params})
    except (TypeError, ValueError, RecursionError) as error:
        raise CallerError(f"parameters of {request.method!r} are not JSON: {error}") from None
    if len(line) > MAX_REQUEST_BYTES:
        raise CallerError(f"a request of {len(line)} bytes; at most {MAX_REQUEST_BYTES}")
    return line


def decode_request(line: bytes) -> Request:
    """Raises ``BadRequestError``."""
    try:
        value = _decode(line)
    except MalformedError as error:
        raise BadRequestError(PARSE_ERROR, str(error)) from None
    if type(value) is not dict:
        raise BadRequestError(INVALID_REQUEST, "a request is an object; batches are not served")
    id_ = value.get("id")
    if type(id_) not in (int, str):
        raise BadRequestError(INVALID_REQUEST, "'id' must be an integer or a text")
    if value.get("jsonrpc") != "2.0":
        raise BadRequestError(INVALID_REQUEST, "'jsonrpc' must be \"2.0\"", id_)
    method, params = value.get("method"), value.get("params", {})
    if type(method) is not str:
        raise BadRequestError(INVALID_REQUEST, "'method' must be a text", id_)
    if type(params) is not dict:
        raise BadRequestError(INVALID_PARAMS, "'params' must be an object", id_)
    unknown = sorted(set(value) - {"jsonrpc", "id", "method", "params"})
    if unknown:
        raise BadRequestError(INVALID_REQUEST, f"unknown member {unknown[0]!r}", id_)
    return Request(id_, method, params)


def encode_result(id: Id, result: Any) -> bytes:
    """Raises ``TypeError`` or ``ValueError`` if the result is not JSON."""
    return _encode({"id": id, "result": result})


def encode_event(id: Id, item: Any) -> bytes:
    """Raises ``TypeError`` or ``ValueError`` if the item is not JSON."""
    return _encode({"method": "event", "params": {"id": id, "item": item}})


def encode_error(id: Id, code: int, message: str, kind: str = "") -> bytes:
    """``kind`` names a class of ``core.errors``, so that the other side raises the same."""
    error: dict[str, Any] = {"code": code, "message": message}
    if kind:
        error["data"] = {"kind": kind}
    return _encode({"id": id, "error": error})


def encode_failure(id: Id, error: OrrangeError) -> bytes:
    """The error of a method that raised."""
    if isinstance(error, BadRequestError):
        return encode_error(id, error.code, str(error))
    code = INVALID_PARAMS
    if isinstance(error, PeerError):
        code = PEER_ERROR
    elif isinstance(error, WorldError):
        code = WORLD_ERROR
    return encode_error(id, code, str(error), type(error).__name__)


def decode_answer(line: bytes) -> Reply | Event:
    """What a server sends. Raises ``MalformedError``."""
    value = _decode(line)
    if type(value) is not dict:
        raise MalformedError("an answer is an object")
    params = value.get("params")
    if value.get("method") == "event" and type(params) is dict and "item" in params:
        return Event(params.get("id"), params["item"])
    error = value.get("error")
    if type(error) is dict:
        return Reply(value.get("id"), None, _raised(error))
    if "result" in value:
        return Reply(value.get("id"), value["result"], None)
    raise MalformedError("an answer has neither result nor error")


def _raised(error: Mapping[str, Any]) -> OrrangeError:
    """The same class as the server's, as far as a message alone can make one."""
    message, data = str(error.get("message")), error.get("data")
    kind = getattr(errors, str(data.get("kind")), None) if type(data) is dict else None
    if isinstance(kind, type) and issubclass(kind, OrrangeError):
        try:
            return kind(message)
        except TypeError:  # one that carries more than a message
            return PeerError(message) if issubclass(kind, PeerError) else CallerError(message)
    return WorldError(message) if error.get("code") == INTERNAL_ERROR else CallerError(message)


def _encode(members: Mapping[str, Any]) -> bytes:
    text = json.dumps({"jsonrpc": "2.0", **members}, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii") + b"\n"


def _decode(line: bytes) -> Any:
    try:
        text = line.decode()
        if is_deep(text, MAX_DEPTH):
            raise ValueError("nested too deeply")
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise MalformedError(f"not JSON: {error}") from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
