"""The encoder against the library's, and the checkers at their edges."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core import codec
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.ids import MAX_UINT63

EDGES = [n + d for n in (0, 24, 256, 1 << 16, 1 << 32, 1 << 63) for d in (-1, 0, 1) if n + d >= 0]
leaves = st.none() | st.sampled_from(EDGES) | st.integers(0, MAX_UINT63) | st.binary() | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=30).map(tuple), max_leaves=60)


@given(values)
def test_encodes_as_the_library_does(value: Any) -> None:
    assert codec.encode(value) == cbor2.dumps(value, canonical=True)


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
def test_lengths_are_minimal(size: int) -> None:
    for value in (bytes(size), "x" * size, (0,) * size):
        assert codec.encode(value) == cbor2.dumps(value, canonical=True)
    if size < 1 << 16:  # no array of the protocol is longer
        assert codec.encode((0,) * size) == codec.array_header(size) + bytes(size)


def test_checkers_at_their_edges() -> None:
    assert codec.uint(0, "n") == 0 and codec.uint(MAX_UINT63, "n") == MAX_UINT63
    assert codec.octets(b"ab", 2, "b") == b"ab" and codec.octets_upto(b"", 0, "b") == b""
    assert codec.text("é", 2, "t") == "é"
    assert codec.array((1, 2), 2, "a") == (1, 2) and codec.items((), 0, "i") == ()
    wrong: list[Any] = [
        lambda: codec.uint(-1, "n"),
        lambda: codec.uint(MAX_UINT63 + 1, "n"),
        lambda: codec.uint(True, "n"),
        lambda: codec.uint(1.0, "n"),
        lambda: codec.uint(None, "n"),
        lambda: codec.octets(b"abc", 2, "b"),
        lambda: codec.octets("ab", 2, "b"),
        lambda: codec.octets_upto(b"a", 0, "b"),
        lambda: codec.text("éx", 2, "t"),
        lambda: codec.text(b"x", 2, "t"),
        lambda: codec.array((1,), 2, "a"),
        lambda: codec.array([1, 2], 2, "a"),
        lambda: codec.items((1,), 0, "i"),
        lambda: codec.items(b"", 1, "i"),
    ]
    for attempt in wrong:
        with pytest.raises(MalformedError):
            attempt()
