"""Maps in pieces: each piece shows by itself that it belongs, and together they are the map."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core import codec, parts
from orrange_p2p.core.errors import InvalidError, MalformedError, PeerError
from orrange_p2p.core.merkle import EMPTY_ROOT, SparseMerkleMap

KEY_BYTES = 4


def tree_of(content: dict[bytes, bytes]) -> SparseMerkleMap:
    return parts.map_of([content.items()], KEY_BYTES)


contents = st.dictionaries(st.binary(min_size=4, max_size=4), st.binary(max_size=20), max_size=60)


@given(content=contents, most=st.integers(1, 200))
def test_the_pieces_are_the_whole(content: dict[bytes, bytes], most: int) -> None:
    tree = tree_of(content)
    above, pieces = tree.split(most)
    assert parts.skeleton_root(tuple(above)) == tree.root()
    assert [piece.root() for piece in pieces] == list(parts.names(tuple(above)))
    assert [leaf for piece in pieces for leaf in piece.items()] == sorted(content.items())
    sizes = [sum(len(k) + len(v) for k, v in piece.items()) for piece in pieces]
    assert [len(piece) for piece in pieces] == [len(list(piece.items())) for piece in pieces]
    for size, piece in zip(sizes, pieces, strict=True):
        assert size <= most or len(piece) == 1
    # As large as they can be: what an inner node joins would be too large for one.
    assert len(pieces) < 2 or sum(sizes) > most


@given(content=contents)
def test_a_part_is_read_back_and_no_other(content: dict[bytes, bytes]) -> None:
    tree = tree_of(content)
    skeleton, pieces = parts.split(tree.snapshot())
    encoded = {name: parts.encode_part(piece) for name, piece in pieces.items()}
    assert list(parts.leaves_of(skeleton, encoded, KEY_BYTES)) == sorted(content.items())
    for name, data in encoded.items():
        with pytest.raises(InvalidError, match="not the part"):
            parts.decode_part(data, sha256(name).digest(), KEY_BYTES)
        with pytest.raises(MalformedError):
            parts.decode_part(data, name, KEY_BYTES + 1)
        with pytest.raises(PeerError):
            parts.decode_part(data[:-1], name, KEY_BYTES)


def test_leaves_have_one_order() -> None:
    rows = ((b"\0" * 4, b"a"), (b"\1" * 4, b"b"))
    name = tree_of(dict(rows)).root()
    assert parts.decode_part(codec.encode(rows), name, KEY_BYTES) == rows
    for wrong in (rows[::-1], (*rows, rows[1]), ()):
        with pytest.raises(InvalidError):
            parts.decode_part(codec.encode(wrong), name, KEY_BYTES)


def test_the_empty_map_has_no_parts() -> None:
    skeleton, pieces = parts.split(tree_of({}).snapshot())
    assert (skeleton, pieces) == ((), {})
    assert parts.skeleton_root(()) == EMPTY_ROOT


@pytest.mark.parametrize(
    "broken", [(5,), (5, bytes(32)), (bytes(32), bytes(32)), (5, bytes(32), bytes(32), 6)]
)
def test_what_is_no_tree_has_no_root(broken: parts.Skeleton) -> None:
    with pytest.raises(InvalidError):
        parts.skeleton_root(broken)


@pytest.mark.parametrize("item", [-1, 256, bytes(31), None, "a", ()])
def test_what_is_no_item_of_a_skeleton(item: object) -> None:
    with pytest.raises(MalformedError):
        parts.skeleton_from_items((item,))


@given(content=contents.filter(lambda content: len(content) > 3), data=st.data())
def test_any_change_of_the_skeleton_changes_the_root(
    content: dict[bytes, bytes], data: st.DataObject
) -> None:
    tree = tree_of(content)
    above, _ = tree.split(1)
    at = data.draw(st.integers(0, len(above) - 1))
    item = above[at]
    above[at] = (item + 1) % 256 if isinstance(item, int) else sha256(item).digest()
    assert parts.skeleton_root(tuple(above)) != tree.root()
