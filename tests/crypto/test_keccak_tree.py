"""The tree whose proofs OpenZeppelin's MerkleProof walks."""

from __future__ import annotations

import pytest
import sha3
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.crypto.keccak_tree import proofs, root, root_by_proof


def pair(one: bytes, other: bytes) -> bytes:
    digest: bytes = sha3.keccak_256(min(one, other) + max(one, other)).digest()
    return digest


A, B, C, D, E = (bytes([n]) * 32 for n in (5, 1, 4, 2, 3))


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        ([A], A),
        ([A, B], pair(A, B)),
        ([B, A], pair(A, B)),
        ([A, B, C], pair(pair(A, B), C)),
        ([A, B, C, D, E], pair(pair(pair(A, B), pair(C, D)), E)),
    ],
)
def test_by_hand(leaves: list[bytes], expected: bytes) -> None:
    assert root(leaves) == expected


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40))
def test_every_leaf_is_shown(leaves: list[bytes]) -> None:
    paths = proofs(leaves)
    assert len(paths) == len(leaves)
    for leaf, shown in zip(leaves, paths, strict=True):
        assert root_by_proof(leaf, shown) == root(leaves)
        assert len(shown) <= 6


def test_another_leaf_leads_elsewhere() -> None:
    leaves = [A, B, C]
    assert root_by_proof(D, proofs(leaves)[0]) != root(leaves)
    assert root_by_proof(A, proofs(leaves)[1]) != root(leaves)
