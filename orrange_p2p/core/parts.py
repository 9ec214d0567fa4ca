"""Maps in pieces that travel alone: parts, and the skeleton above them (protocol/02-merkle.md).

A part is a subtree of a state's map, named by its root, so whoever sends it, its receiver sees by
itself whether it is the right one. The skeleton is the tree above the parts, and its root is the
map's. A joining node therefore asks many peers for different parts at once, keeps what it has over
a restart, and never learns only at the end that somebody lied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Final

from orrange_p2p.core import codec
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.merkle import EMPTY_ROOT, MAX_KEY_BYTES, MapView, SparseMerkleMap

PART_BYTES: Final = 128 * 1024
"""Keys and values of a part take this much at most, unless it has but one leaf."""
MAX_PART_BYTES: Final = 256 * 1024
"""Of an encoded part: small leaves cost a few bytes each on top."""
MAX_LEAF_BYTES: Final = 128 * 1024
MAX_LEAVES: Final = 16_384
MAX_SKELETON: Final = 16_384
"""Items of a skeleton: 8,192 parts, hence maps of some 500 MiB."""

Skeleton = tuple[int | bytes, ...]
"""Parents before children, left before right: bits of inner nodes, names of parts."""


def split(view: MapView) -> tuple[Skeleton, dict[bytes, MapView]]:
    """A map's skeleton, and its parts by name."""
    above, parts = view.split(PART_BYTES)
    return tuple(above), {part.root(): part for part in parts}


def encode_part(part: MapView) -> bytes:
    return codec.encode(tuple(part.items()))


def decode_part(data: bytes, name: bytes, key_bytes: int) -> tuple[tuple[bytes, bytes], ...]:
    """The leaves of the part of that name, ascending by key.

    Raises ``OversizedError``, ``MalformedError``, or ``InvalidError`` if it is another part.
    """
    rows = codec.items(codec.decode_canonical(data, MAX_PART_BYTES), MAX_LEAVES, "part")
    leaves = tuple([_leaf(row, key_bytes) for row in rows])
    if any(a[0] >= b[0] for a, b in pairwise(leaves)):
        raise InvalidError("keys of a part are not in ascending order, each once")
    if not leaves or map_of([leaves], key_bytes).root() != name:
        raise InvalidError("this is not the part of that name")
    return leaves


def _leaf(row: codec.Value, key_bytes: int) -> tuple[bytes, bytes]:
    leaf = codec.array(row, 2, "leaf")
    key = codec.octets(leaf[0], key_bytes, "key of leaf")
    return key, codec.octets_upto(leaf[1], MAX_LEAF_BYTES, "value of leaf")


def map_of(parts: Iterable[Iterable[tuple[bytes, bytes]]], key_bytes: int) -> SparseMerkleMap:
    """The map that holds these leaves."""
    tree = SparseMerkleMap(key_bytes)
    for leaves in parts:
        for key, value in leaves:
            tree.set(key, value)
    return tree


def skeleton_from_items(value: codec.Value) -> Skeleton:
    """Raises ``MalformedError``; whether it is a tree shows when its root is asked for."""
    items = codec.items(value, MAX_SKELETON, "skeleton")
    return tuple([_item(item) for item in items])


def _item(value: codec.Value) -> int | bytes:
    if type(value) is int:
        return codec.uint(value, "bit of skeleton", 8 * MAX_KEY_BYTES - 1)
    return codec.octets(value, 32, "name in skeleton")


def names(skeleton: Skeleton) -> tuple[bytes, ...]:
    """The names of the parts, ascending by their keys."""
    return tuple([item for item in skeleton if isinstance(item, bytes)])


def skeleton_root(skeleton: Skeleton) -> bytes:
    """The root of the map whose skeleton this is. Raises ``InvalidError`` if it is no tree."""
    if not skeleton:
        return EMPTY_ROOT
    done: list[bytes] = []  # roots of the subtrees to the right of what is read, nearest last
    for item in reversed(skeleton):
        if isinstance(item, bytes):
            done.append(item)
        elif len(done) < 2:
            raise InvalidError("a node of the skeleton lacks children")
        else:
            children = done.pop() + done.pop()
            done.append(sha256(b"\x01" + item.to_bytes(2, "big") + children).digest())
    if len(done) != 1:
        raise InvalidError("the skeleton is more than one tree")
    return done[0]


def leaves_of(
    skeleton: Skeleton, parts: Mapping[bytes, bytes], key_bytes: int
) -> Sequence[tuple[bytes, bytes]]:
    """All leaves of a map, ascending, out of its encoded parts.

    Raises ``PeerError`` for a part that is not what its name says, ``KeyError`` for a missing one.
    """
    return [leaf for name in names(skeleton) for leaf in decode_part(parts[name], name, key_bytes)]
