"""Strict deterministic CBOR: the one way bytes become records (protocol/01-records.md).

RFC 8949 section 4.2 restricted to unsigned integers, byte strings, text strings, null and
definite-length arrays. The library accepts more than that (non-minimal integers, floats, maps), so
a record is decoded, its types and ranges checked, re-encoded and compared: any difference rejects.

Decoding is the library's, which has met more hostile bytes than we have. Encoding is ours: it is
forty lines, refuses what the protocol has no place for, and compiled it is three times as fast.
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
    """Deterministic CBOR of integers below 2^64, bytes, text, None, and tuples or lists of these.

    ``MalformedError`` for anything else: whether a peer sent it or we made it up, it is no record.
    """
    parts: list[bytes] = []
    _encode_into(parts, value)
    return b"".join(parts)


def array_header(length: int) -> bytes:
    """The head of a definite-length array, for records assembled from encoded parts."""
    return _head(_ARRAY, length)


_UINT: Final = 0x00
_BYTES: Final = 0x40
_TEXT: Final = 0x60
_ARRAY: Final = 0x80
_NULL: Final = b"\xf6"
_OCTETS: Final = tuple([bytes((octet,)) for octet in range(256)])


def _head(major: int, argument: int) -> bytes:
    """Major type and argument in as few bytes as can be (RFC 8949, sections 3 and 4.2.1)."""
    if argument < 24:
        return _OCTETS[major + argument]
    if argument < 1 << 8:
        return _OCTETS[major + 24] + _OCTETS[argument]
    if argument < 1 << 16:
        return _OCTETS[major + 25] + argument.to_bytes(2, "big")
    if argument < 1 << 32:
        return _OCTETS[major + 26] + argument.to_bytes(4, "big")
    if argument < 1 << 64:
        return _OCTETS[major + 27] + argument.to_bytes(8, "big")
    raise MalformedError("an integer that does not fit 64 bits")


_SMALL_UINTS: Final = tuple([_head(_UINT, value) for value in range(1 << 8)])


def _encode_into(parts: list[bytes], value: Value) -> None:
    # Most values of most records are small integers in an array: that path comes first.
    if isinstance(value, (tuple, list)):
        parts.append(_head(_ARRAY, len(value)))
        for item in value:
            if type(item) is int and 0 <= item < 256:
                parts.append(_SMALL_UINTS[item])
            else:
                _encode_into(parts, item)
    elif isinstance(value, bool):  # before int, of which it is a kind: compiled code forgets that
        raise MalformedError("no value of this protocol: bool")
    elif isinstance(value, int) and value >= 0:
        parts.append(_head(_UINT, value))
    elif isinstance(value, bytes):
        parts.append(_head(_BYTES, len(value)))
        parts.append(value)
    elif isinstance(value, str):
        octets = _utf8(value)
        parts.append(_head(_TEXT, len(octets)))
        parts.append(octets)
    elif value is None:
        parts.append(_NULL)
    else:
        raise MalformedError(f"no value of this protocol: {type(value).__name__}")


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise MalformedError("text that is not UTF-8") from None


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
