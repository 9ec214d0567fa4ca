"""Trees that contracts walk cheaply: keccak256 over sorted pairs, as OpenZeppelin's MerkleProof.

A parent is the hash of its two children, the smaller first, so a proof needs no sides; a node
without a sibling moves up as it is. Leaves are hashes themselves, of anything but 64 bytes, or else
a node could be shown as a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence

from orrange_p2p.crypto.hashes import keccak256


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over 32-byte leaves, at least one; that of a single one is the leaf itself."""
    level = list(leaves)
    while len(level) > 1:
        level = _level_above(level)
    return level[0]


def proofs(leaves: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """For each leaf the siblings on its way to the root; empty for a single one."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        levels.append(_level_above(levels[-1]))
    return [
        tuple(
            level[sibling]
            for depth, level in enumerate(levels)
            if (sibling := (index >> depth) ^ 1) < len(level)
        )
        for index in range(len(leaves))
    ]


def root_by_proof(leaf: bytes, siblings: Sequence[bytes]) -> bytes:
    """Where a proof leads to."""
    for sibling in siblings:
        leaf = _parent(leaf, sibling)
    return leaf


def _level_above(level: list[bytes]) -> list[bytes]:
    above = [_parent(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return above + level[len(level) & ~1 :]


def _parent(one: bytes, other: bytes) -> bytes:
    return keccak256(one + other if one < other else other + one)
