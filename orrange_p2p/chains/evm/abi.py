"""As much of the contract ABI's encoding as our calls need.

https://docs.soliditylang.org/en/latest/abi-spec.html. What a value is follows from its Python type:
an ``int`` or ``bytes`` is one word (address, uint, bytes32), a ``bytearray`` is ``bytes`` or
``string``, a list is an array, a tuple is a struct.
"""

from __future__ import annotations

from typing import Any

from orrange_p2p.crypto.eip712 import word


def encode(*values: Any) -> bytes:
    """The arguments of a call, or the fields of a struct."""
    heads: list[bytes | None] = []
    tails: list[bytes] = []
    for value in values:
        dynamic = _is_dynamic(value)
        heads.append(None if dynamic else _body(value))
        tails.append(_body(value) if dynamic else b"")
    offset = sum(32 if head is None else len(head) for head in heads)
    out = b""
    for head, tail in zip(heads, tails, strict=True):
        out += word(offset) if head is None else head
        offset += len(tail)
    return out + b"".join(tails)


def _is_dynamic(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_dynamic, value))
    return isinstance(value, bytearray | list)


def _body(value: Any) -> bytes:
    if isinstance(value, tuple):
        return encode(*value)
    if isinstance(value, list):
        return word(len(value)) + encode(*value)
    if isinstance(value, bytearray):
        return word(len(value)) + bytes(value) + bytes(-len(value) % 32)
    return word(value)
