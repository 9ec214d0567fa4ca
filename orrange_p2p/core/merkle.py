"""Merkle trees: a list tree for operations, a sparse map for the state of a market.

Both hash with SHA-256 and separate leaves (0x00) from inner nodes (0x01), so that no leaf can
pass for a node (protocol/02-merkle.md). The list tree is RFC 6962's, section 2.1. The map is a
crit-bit tree: only the bits at which live keys differ make a node, so its depth follows the
logarithm of the number of keys, and an update costs the hashes on the changed paths alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from mypy_extensions import i64

from orrange_p2p.core.errors import InvalidError

EMPTY_ROOT: Final = bytes(32)
"""Root of a map without keys."""
MAX_KEY_BYTES: Final = 32
"""Longest keys of a map."""


# --- the list tree (RFC 6962) -------------------------------------------------------------


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf of the list tree."""
    return sha256(b"\x00" + data).digest()


def list_root(leaves: Sequence[bytes]) -> bytes:
    """Root over the leaves' data in order. The empty list has the hash of the empty string."""
    if not leaves:
        return sha256(b"").digest()
    return _fold([leaf_hash(leaf) for leaf in leaves])


def _fold(hashes: list[bytes]) -> bytes:
    # Pairing from the left with an odd last one carried up gives RFC 6962's split at the largest
    # power of two smaller than n.
    while len(hashes) > 1:
        carried = hashes[-1:] if len(hashes) % 2 else []
        hashes = [
            sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest()
            for at in range(0, len(hashes) - 1, 2)
        ] + carried
    return hashes[0]


def list_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf ``index``, from the leaf's sibling upwards."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    path = []
    hashes = [leaf_hash(leaf) for leaf in leaves]
    while len(hashes) > 1:
        sibling = index ^ 1
        if sibling < len(hashes):
            path.append(hashes[sibling])
        carried = hashes[-1:] if len(hashes) % 2 else []
        hashes = [
            sha256(b"\x01" + hashes[at] + hashes[at + 1]).digest()
            for at in range(0, len(hashes) - 1, 2)
        ] + carried
        index //= 2
    return path


def verify_list_proof(
    root: bytes, leaf: bytes, index: int, count: int, path: Sequence[bytes]
) -> None:
    """Raises ``InvalidError`` unless ``leaf`` is number ``index`` of ``count`` under ``root``."""
    if root_by_path(leaf, index, count, path) != root:
        raise InvalidError("audit path leads to another root")


def root_by_path(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root of the list of ``count`` leaves in which ``path`` leads up from leaf ``index``.

    Raises ``InvalidError`` for a path that is too long or too short for its place.
    """
    if not 0 <= index < count:
        raise InvalidError(f"no leaf {index} among {count}")
    computed = leaf_hash(leaf)
    siblings = iter(path)
    try:
        while count > 1:
            if index % 2:
                computed = sha256(b"\x01" + next(siblings) + computed).digest()
            elif index + 1 < count:
                computed = sha256(b"\x01" + computed + next(siblings)).digest()
            index //= 2
            count = (count + 1) // 2
    except StopIteration:
        raise InvalidError("audit path is too short") from None
    if next(siblings, None) is not None:
        raise InvalidError("audit path is too long")
    return computed


# --- the sparse map -----------------------------------------------------------------------


class Step(NamedTuple):
    """One inner node on the way from the root to a leaf."""

    bit: int
    """The bit of the key at which the two subtrees differ, counted from the most significant."""
    sibling: bytes
    """Hash of the subtree not taken."""


class MapProof(NamedTuple):
    """Shows which leaf a walk by some key ends at; that leaf is the key's own or proves absence."""

    leaf_key: bytes
    leaf_value: bytes
    steps: tuple[Step, ...]
    """From the root downwards."""


class _Node:
    """A leaf (``bit`` -1, with key and value) or an inner node (with two children).

    ``version`` is that of the map when the node was made. Only a map of that very version may
    change it; for all others it is part of a view and stays as it is, but for the hash, which is
    filled in when somebody asks.
    """

    __slots__ = ("bit", "hash", "key", "left", "right", "value", "version")

    bit: i64
    key: bytes
    value: bytes
    left: _Node | None
    right: _Node | None
    version: i64
    hash: bytes | None

    def __init__(
        self,
        bit: i64,
        key: bytes,
        value: bytes,
        left: _Node | None,
        right: _Node | None,
        version: i64,
    ) -> None:
        self.bit = bit
        self.key = key
        self.value = value
        self.left = left
        self.right = right
        self.version = version
        self.hash = None


class MapView:
    """What a sparse map holds at one moment. Reading it is all one can do."""

    __slots__ = ("_count", "_key_bytes", "_root")

    _key_bytes: int
    _root: _Node | None
    _count: int

    def __init__(self, key_bytes: int) -> None:
        if not 1 <= key_bytes <= MAX_KEY_BYTES:
            raise ValueError(f"keys of {key_bytes} bytes: 1 .. {MAX_KEY_BYTES}")
        self._key_bytes = key_bytes
        self._root = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def key_bytes(self) -> int:
        """Length of every key."""
        return self._key_bytes

    def get(self, key: bytes) -> bytes | None:
        """The value under ``key``, or None."""
        node = self._root
        if node is None:
            return None
        node = _nearest(node, key)
        return node.value if node.key == key else None

    def root(self) -> bytes:
        """32 bytes that name the content; ``EMPTY_ROOT`` for an empty map."""
        node = self._root
        return EMPTY_ROOT if node is None else _hash(node)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All pairs in ascending order of keys."""
        waiting: list[_Node] = []
        if self._root is not None:
            waiting.append(self._root)
        while waiting:
            node = waiting.pop()
            if node.bit < 0:
                yield node.key, node.value
            else:
                waiting.append(_child(node, 1))
                waiting.append(_child(node, 0))

    def prove(self, key: bytes) -> MapProof | None:
        """Proof of what the map says of ``key``; None for the empty map, whose root says it all."""
        node = self._root
        if node is None:
            return None
        steps = []
        while node.bit >= 0:
            taken = _bit(key, node.bit)
            steps.append(Step(node.bit, _hash(_child(node, 1 - taken))))
            node = _child(node, taken)
        return MapProof(node.key, node.value, tuple(steps))

    def split(self, most_bytes: int) -> tuple[list[int | bytes], list[MapView]]:
        """The map as subtrees of at most ``most_bytes`` of keys and values each, or of one leaf,
        as large as they can be; and what stands above them.

        The second are the subtrees, ascending by keys. The first is the walk over the nodes above
        them, parents before children and left before right: the bit of an inner node, the root of
        a subtree. Nothing for the empty map.
        """
        above: list[int | bytes] = []
        parts: list[MapView] = []
        root = self._root
        if root is None:
            return above, parts
        sizes: dict[_Node, tuple[int, int]] = {}
        _measure(root, most_bytes, sizes)
        waiting = [root]
        while waiting:
            node = waiting.pop()
            known = sizes.get(node)
            if known is None:
                above.append(node.bit)
                waiting.append(_child(node, 1))
                waiting.append(_child(node, 0))
            else:
                part = MapView(self._key_bytes)
                part._root = node
                part._count = known[1]
                above.append(_hash(node))
                parts.append(part)
        return above, parts


class SparseMerkleMap(MapView):
    """A map from keys of one fixed length to values, with a root that names its whole content.

    The root depends on the content only, never on the order of updates. ``set`` and ``delete``
    cost one walk; hashing waits until ``root`` is asked for and then touches changed paths once
    each. Keys are chosen by their authors in part, so the depth is not bounded by the logarithm:
    a common prefix longer by d bits costs an attacker 2^d keys, and the key's bits bound it all.

    ``snapshot`` costs nothing by itself: from then on an update copies the nodes on its way that
    the snapshot has too, once.
    """

    __slots__ = ("_version",)

    _version: i64

    def __init__(self, key_bytes: int) -> None:
        super().__init__(key_bytes)
        self._version = 0

    def snapshot(self) -> MapView:
        """The present content, for as long as anyone keeps it."""
        view = MapView(self._key_bytes)
        view._root = self._root
        view._count = self._count
        self._version += 1
        return view

    def set(self, key: bytes, value: bytes) -> None:
        """Insert or replace."""
        if len(key) != self._key_bytes:
            raise ValueError(f"key of {len(key)} bytes in a map of {self._key_bytes}-byte keys")
        root = self._root
        if root is None:
            self._root = _Node(-1, key, value, None, None, self._version)
            self._count = 1
            return
        nearest = _nearest(root, key)
        if nearest.key == key:
            if nearest.value != value:
                parent = self._open_path(key, _LEAF_BIT)
                if nearest.version == self._version:
                    nearest.value = value
                    nearest.hash = None
                else:
                    self._link(parent, key, _Node(-1, key, value, None, None, self._version))
            return
        differing = _first_differing_bit(nearest.key, key)
        parent = self._open_path(key, differing)
        node = self._root if parent is None else _child(parent, _bit(key, parent.bit))
        leaf = _Node(-1, key, value, None, None, self._version)
        if _bit(key, differing):
            branch = _Node(differing, b"", b"", node, leaf, self._version)
        else:
            branch = _Node(differing, b"", b"", leaf, node, self._version)
        self._link(parent, key, branch)
        self._count += 1

    def delete(self, key: bytes) -> None:
        """Remove ``key``; absent keys are a no-op."""
        node = self._root
        if node is None:
            return
        parent: _Node | None = None
        while node.bit >= 0:
            parent = node
            node = _child(node, _bit(key, node.bit))
        if node.key != key:
            return
        self._count -= 1
        if parent is None:
            self._root = None
            return
        survivor = _child(parent, 1 - _bit(key, parent.bit))
        self._link(self._open_path(key, parent.bit), key, survivor)

    def _open_path(self, key: bytes, below: i64) -> _Node | None:
        """Make the inner nodes on the walk by ``key`` with bits smaller than ``below`` ones that
        may be changed, their hashes forgotten; the last of them, or None if there is none."""
        node = self._root
        assert node is not None
        parent: _Node | None = None
        while 0 <= node.bit < below:
            if node.version == self._version:
                node.hash = None
            else:
                node = _Node(node.bit, b"", b"", node.left, node.right, self._version)
                self._link(parent, key, node)
            parent = node
            node = _child(node, _bit(key, node.bit))
        return parent

    def _link(self, parent: _Node | None, key: bytes, child: _Node) -> None:
        if parent is None:
            self._root = child
        elif _bit(key, parent.bit):
            parent.right = child
        else:
            parent.left = child


def verify_map_proof(root: bytes, key: bytes, proof: MapProof | None) -> bytes | None:
    """The value that ``root`` holds under ``key``, or None if it holds none.

    Raises ``InvalidError`` if the proof does not lead to ``root`` or does not speak of ``key``.
    Absence: every tree with this root sends a walk by ``key`` to the one leaf shown. It is another
    key's, so ``key`` has none.
    """
    if proof is None:
        if root != EMPTY_ROOT:
            raise InvalidError("a proof is missing, and the map is not empty")
        return None
    if len(proof.leaf_key) != len(key):
        raise InvalidError("the proof is of a map with keys of another length")
    bits = [step.bit for step in proof.steps]
    if any(not 0 <= bit < 8 * len(key) for bit in bits) or sorted(set(bits)) != bits:
        raise InvalidError("the proof's steps do not descend")
    computed = sha256(b"\x00" + proof.leaf_key + proof.leaf_value).digest()
    for bit, sibling in reversed(proof.steps):
        if len(sibling) != 32:
            raise InvalidError("a sibling is not 32 bytes")
        if _bit(key, bit) != _bit(proof.leaf_key, bit):
            raise InvalidError("the proof walks by another key")
        pair = sibling + computed if _bit(key, bit) else computed + sibling
        computed = sha256(b"\x01" + bit.to_bytes(2, "big") + pair).digest()
    if computed != root:
        raise InvalidError("the proof leads to another root")
    return proof.leaf_value if proof.leaf_key == key else None


_LEAF_BIT: Final = 8 * MAX_KEY_BYTES
"""Above the bit of every inner node."""
_INNER: Final = tuple([b"\x01" + bit.to_bytes(2, "big") for bit in range(8 * MAX_KEY_BYTES)])
"""What an inner node's hash begins with, by its bit."""


def _bit(key: bytes, bit: i64) -> i64:
    octet: i64 = key[bit >> 3]
    return octet >> (7 - (bit & 7)) & 1


def _first_differing_bit(first: bytes, second: bytes) -> i64:
    at: i64 = 0
    while first[at] == second[at]:
        at += 1
    differing = first[at] ^ second[at]
    return 8 * at + 8 - differing.bit_length()


def _child(node: _Node, taken: i64) -> _Node:
    child = node.right if taken else node.left
    assert child is not None, "inner nodes have two children"
    return child


def _nearest(node: _Node, key: bytes) -> _Node:
    while node.bit >= 0:
        node = _child(node, _bit(key, node.bit))
    return node


def _hash(node: _Node) -> bytes:
    known = node.hash
    if known is not None:
        return known
    if node.bit < 0:
        computed = sha256(b"\x00" + node.key + node.value).digest()
    else:
        children = _hash(_child(node, 0)) + _hash(_child(node, 1))
        computed = sha256(_INNER[node.bit] + children).digest()
    node.hash = computed
    return computed


def _measure(node: _Node, most: int, sizes: dict[_Node, tuple[int, int]]) -> tuple[int, int]:
    """Bytes and number of a subtree's leaves; noted if it is a part, or may be within one."""
    if node.bit < 0:
        measured = (len(node.key) + len(node.value), 1)
        sizes[node] = measured
        return measured
    left, right = _child(node, 0), _child(node, 1)
    bytes_left, count_left = _measure(left, most, sizes)
    bytes_right, count_right = _measure(right, most, sizes)
    measured = (bytes_left + bytes_right, count_left + count_right)
    if measured[0] <= most:
        del sizes[left], sizes[right]
        sizes[node] = measured
    return measured
