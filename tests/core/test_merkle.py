"""The trees: the list tree by small examples, the sparse map against a plain dict."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orrange_p2p.core import merkle
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.merkle import (
    EMPTY_ROOT,
    MapProof,
    MapView,
    SparseMerkleMap,
    Step,
    verify_map_proof,
)


def test_a_list_of_three() -> None:
    a, b, c = (merkle.leaf_hash(leaf) for leaf in (b"a", b"b", b"c"))
    left = sha256(b"\x01" + a + b).digest()
    root = sha256(b"\x01" + left + c).digest()
    assert merkle.list_root([b"a", b"b", b"c"]) == root
    assert merkle.list_proof([b"a", b"b", b"c"], 2) == [left]
    merkle.verify_list_proof(root, b"c", 2, 3, [left])
    with pytest.raises(InvalidError):
        merkle.verify_list_proof(root, b"c", 1, 3, [left])


@given(leaves=st.lists(st.binary(max_size=8), min_size=1, max_size=70), data=st.data())
def test_every_leaf_is_proven_and_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    root = merkle.list_root(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.list_proof(leaves, index)
    merkle.verify_list_proof(root, leaves[index], index, len(leaves), path)
    with pytest.raises(InvalidError):
        merkle.verify_list_proof(root, leaves[index] + b"x", index, len(leaves), path)
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        forged = [*path[:at], sha256(path[at]).digest(), *path[at + 1 :]]
        with pytest.raises(InvalidError):
            merkle.verify_list_proof(root, leaves[index], index, len(leaves), forged)
        with pytest.raises(InvalidError):
            merkle.verify_list_proof(root, leaves[index], index, len(leaves), path[:-1])
    with pytest.raises(InvalidError):
        merkle.verify_list_proof(root, leaves[index], index, len(leaves), [*path, root])
    with pytest.raises(IndexError):
        merkle.list_proof(leaves, len(leaves))


# --- the sparse map -------------------------------------------------------------------------------

keys = st.one_of(
    st.binary(min_size=2, max_size=2),
    st.sampled_from([b"\0\0", b"\0\x01", b"\x80\0", b"\xff\xff", b"\xff\xfe"]),
)
values = st.binary(max_size=3)


def built(content: dict[bytes, bytes]) -> SparseMerkleMap:
    tree = SparseMerkleMap(2)
    for key, value in content.items():
        tree.set(key, value)
    return tree


def test_a_map_of_two() -> None:
    tree = SparseMerkleMap(1)
    assert tree.root() == EMPTY_ROOT and tree.prove(b"\0") is None
    tree.set(b"\x05", b"five")
    leaf = sha256(b"\x00\x05five").digest()
    assert tree.root() == leaf
    tree.set(b"\x07", b"seven")  # 0b101 and 0b111 differ in bit 6 of 0 .. 7
    other = sha256(b"\x00\x07seven").digest()
    assert tree.root() == sha256(b"\x01\x00\x06" + leaf + other).digest()
    assert tree.prove(b"\x07") == MapProof(b"\x07", b"seven", (Step(6, leaf),))
    tree.delete(b"\x07")
    assert tree.root() == leaf and len(tree) == 1


def test_keys_have_one_length() -> None:
    tree = SparseMerkleMap(2)
    with pytest.raises(ValueError, match="3 bytes"):
        tree.set(b"abc", b"")


class MapAgainstDict(RuleBasedStateMachine):
    """Any sequence of updates; the root must be that of a map built from the content alone."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = SparseMerkleMap(2)
        self.content: dict[bytes, bytes] = {}
        self.views: list[tuple[MapView, dict[bytes, bytes]]] = []

    @rule()
    def keep_a_view(self) -> None:
        self.views.append((self.tree.snapshot(), dict(self.content)))

    @rule(key=keys, value=values)
    def set(self, key: bytes, value: bytes) -> None:
        self.tree.set(key, value)
        self.content[key] = value

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        self.tree.delete(key)
        self.content.pop(key, None)

    @rule(data=st.data())
    def delete_present(self, data: st.DataObject) -> None:
        if self.content:
            self.delete(data.draw(st.sampled_from(sorted(self.content))))

    @rule(key=keys)
    def prove(self, key: bytes) -> None:
        # Asking for hashes in between must not leave stale ones behind.
        proof = self.tree.prove(key)
        assert verify_map_proof(self.tree.root(), key, proof) == self.content.get(key)

    @rule()
    def ask_for_the_root(self) -> None:
        assert self.tree.root() == built(self.content).root()

    @invariant()
    def same_content(self) -> None:
        assert len(self.tree) == len(self.content)
        assert list(self.tree.items()) == sorted(self.content.items())

    @invariant()
    def views_stay_as_they_are(self) -> None:
        for view, content in self.views:
            assert len(view) == len(content)
            assert list(view.items()) == sorted(content.items())

    def teardown(self) -> None:
        for view, content in self.views:
            assert view.root() == built(content).root()


TestMapAgainstDict = MapAgainstDict.TestCase
TestMapAgainstDict.settings = settings(max_examples=60, stateful_step_count=40)

contents = st.dictionaries(keys, values, max_size=30)


@given(content=contents, data=st.data())
def test_the_root_does_not_depend_on_the_order(
    content: dict[bytes, bytes], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(list(content.items())))
    tree = built(dict(shuffled))
    assert tree.root() == built(content).root()
    for key in data.draw(st.permutations(list(content))):
        tree.delete(key)
    assert tree.root() == EMPTY_ROOT and len(tree) == 0


@given(one=contents, other=contents)
def test_other_content_has_another_root(one: dict[bytes, bytes], other: dict[bytes, bytes]) -> None:
    assert (built(one).root() == built(other).root()) == (one == other)


@given(content=contents, key=keys)
def test_presence_and_absence_are_proven(content: dict[bytes, bytes], key: bytes) -> None:
    tree = built(content)
    for asked in (key, *content):
        assert verify_map_proof(tree.root(), asked, tree.prove(asked)) == content.get(asked)


def truthful_or_refused(
    root: bytes, key: bytes, proof: MapProof | None, truth: bytes | None
) -> None:
    try:
        said = verify_map_proof(root, key, proof)
    except InvalidError:
        return
    assert said == truth


@given(content=contents.filter(bool), asked=keys, other=keys, data=st.data())
@settings(max_examples=200)
def test_no_forged_proof_says_anything_untrue(
    content: dict[bytes, bytes], asked: bytes, other: bytes, data: st.DataObject
) -> None:
    tree = built(content)
    root, truth = tree.root(), content.get(asked)
    proof = tree.prove(other)  # a genuine proof, perhaps of another key
    assert proof is not None
    steps = proof.steps
    forgeries = [
        None,
        proof,
        proof._replace(leaf_key=asked),
        proof._replace(leaf_value=b"forged"),
        proof._replace(leaf_key=asked, leaf_value=b"forged"),
        MapProof(asked, b"forged", ()),
        proof._replace(steps=steps[1:]),
        proof._replace(steps=steps[:-1]),
        proof._replace(steps=steps[::-1]),
    ]
    if steps:
        at = data.draw(st.integers(0, len(steps) - 1))
        for changed in (
            Step(data.draw(st.integers(-1, 16)), steps[at].sibling),
            Step(steps[at].bit, data.draw(st.binary(min_size=31, max_size=33))),
        ):
            forgeries.append(proof._replace(steps=(*steps[:at], changed, *steps[at + 1 :])))
        # An inner node shown as if it were a leaf: its hash starts with another byte.
        forgeries.append(MapProof(steps[-1].sibling[:2], steps[-1].sibling[2:], steps[:-1]))
    for forged in forgeries:
        truthful_or_refused(root, asked, forged, truth)


def test_a_long_common_prefix_costs_depth_and_no_more() -> None:
    tree = SparseMerkleMap(32)
    for bit in range(256):
        tree.set((1 << bit).to_bytes(32, "big"), b"x")
    deepest = tree.prove(bytes(31) + b"\x01")
    assert deepest is not None and len(deepest.steps) == 255
    assert verify_map_proof(tree.root(), bytes(31) + b"\x01", deepest) == b"x"
    assert verify_map_proof(tree.root(), bytes(32), tree.prove(bytes(32))) is None
