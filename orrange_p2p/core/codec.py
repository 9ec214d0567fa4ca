"""Strict deterministic CBOR: the one way bytes become records (protocol/01-records.md).

RFC 8949 section 4.2 restricted to unsigned integers, byte strings, text strings, null and
definite-length arrays. The library accepts more than that (non-minimal integers, floats, maps), so
a record is decoded, its types and ranges checked, re-encoded and compared: any difference rejects.
"""

from __future__ import annotations

from typing import Final

import cbor2

from orrange_p2p.core.errors import MalformedError, OversizedError
from orrange_p2p.core.ids import MAX_UINT63

MAX_DEPTH: Final = 8
"""Arrays nested deeper than any record of the protocol are refused while decoding."""

_LIBRARY_TAGS: Final = (*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799)
"""Tags the library would decode by itself (dates, regular expressions, shared references ...)."""

Value = object
"""What decoding yields: int, bytes, str, None or tuples of these. The checkers below narrow it."""


def _refuse_tag(*_: object) -> Value:
    raise ValueError("tags are not part of this protocol")


_REFUSED_TAGS: Final = dict.fromkeys(_LIBRARY_TAGS, _refuse_tag)


def encode(value: Value) -> bytes:
    """Deterministic CBOR of integers, bytes, text, None and (nested) tuples or lists."""
    return cbor2.dumps(value)


def array_header(length: int) -> bytes:
    """The head of a definite-length array, for records assembled from encoded parts."""
    if length < 24:
        return bytes((0x80 + length,))
    if length < 256:
        return bytes((0x98, length))
    return b"\x99" + length.to_bytes(2, "big")


def decode(data: bytes, limit: int) -> Value:
    """Decode one item of at most ``limit`` bytes. The caller still checks and re-encodes it.

    Raises ``OversizedError`` before decoding, ``MalformedError`` for anything the library refuses.
    """
    if len(data) > limit:
        raise OversizedError(f"{len(data)} bytes where at most {limit} are allowed")
    try:
        return cbor2.loads(
            data,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            strict_hashable_types=True,
            immutable=True,
            semantic_decoders=_REFUSED_TAGS,
            tag_hook=_refuse_tag,
        )
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise MalformedError(f"not CBOR of this protocol: {error}") from None


def decode_canonical(data: bytes, limit: int) -> Value:
    """Decode a small record and insist that re-encoding gives the same bytes."""
    value = decode(data, limit)
    require_canonical(encode(value), data)
    return value


def require_canonical(encoded: bytes, data: bytes) -> None:
    """Raises ``MalformedError`` if ``data`` is another encoding of the same record."""
    if encoded != data:
        raise MalformedError("not the deterministic encoding of this record")


def array(value: Value, length: int, what: str) -> tuple[Value, ...]:
    """``value`` as an array of exactly ``length`` items."""
    if type(value) is not tuple or len(value) != length:
        raise MalformedError(f"{what} is not an array of {length} items")
    return value


def items(value: Value, most: int, what: str) -> tuple[Value, ...]:
    """``value`` as an array of at most ``most`` items."""
    if type(value) is not tuple:
        raise MalformedError(f"{what} is not an array")
    if len(value) > most:
        raise MalformedError(f"{what} has {len(value)} items where at most {most} are allowed")
    return value


def uint(value: Value, what: str, most: int = MAX_UINT63) -> int:
    """``value`` as an integer in 0 .. ``most``. ``True`` is not an integer here."""
    if type(value) is not int or not 0 <= value <= most:
        raise MalformedError(f"{what} is not an integer in 0 .. {most}")
    return value


def octets(value: Value, length: int, what: str) -> bytes:
    """``value`` as a byte string of exactly ``length`` bytes."""
    if type(value) is not bytes or len(value) != length:
        raise MalformedError(f"{what} is not a byte string of {length} bytes")
    return value


def octets_upto(value: Value, most: int, what: str) -> bytes:
    """``value`` as a byte string of at most ``most`` bytes."""
    if type(value) is not bytes or len(value) > most:
        raise MalformedError(f"{what} is not a byte string of at most {most} bytes")
    return value


def text(value: Value, most: int, what: str) -> str:
    """``value`` as a text string of at most ``most`` UTF-8 bytes."""
    if type(value) is not str or len(value.encode()) > most:
        raise MalformedError(f"{what} is not a text of at most {most} bytes")
    return value
