"""Entries: the links of an author's log (protocol/01-records.md, section Entry).

An entry is a batch of operations under one signature. Its identity is the EIP-712 digest of its
header, so signing it again is not a fork and a contract can judge a fork from two headers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import attrs

from orrange_p2p.core import codec, merkle
from orrange_p2p.core.errors import ForeignError, InvalidError, MalformedError, SignatureError
from orrange_p2p.core.ids import ZERO32, Address, Digest, MarketId, Seq
from orrange_p2p.core.operations import Accept, Delegate, Evidence, Operation, parse, to_items
from orrange_p2p.crypto import secp256k1
from orrange_p2p.crypto.eip712 import StructType

MAX_ENTRY_BYTES: Final = 64 * 1024
MAX_ENTRY_OPERATIONS: Final = 1024
GROUP: Final = 16
"""Operations to a leaf of the operations tree: a sixteenth of the hashes, a proof shows 15 more."""

MAX_PROOFS: Final = 8
"""Evidence and delegations in one entry: each costs every node up to two signature checks."""
Claim = tuple[bytes, bytes, bytes]
"""Address, digest and signature: that the one signed the other."""

_ENTRY: Final = StructType(
    "Entry(bytes32 market,address author,uint64 seq,bytes32 prev,bytes32 opsRoot)"
)


class EntryHeader(NamedTuple):
    """What an entry's signature covers."""

    market: MarketId
    author: Address
    seq: Seq
    prev: Digest
    """Digest of entry ``seq`` - 1; 32 zero bytes for the first."""
    ops_root: bytes

    def digest(self, separator: bytes) -> Digest:
        """The entry's identity, and what its author signs."""
        return Digest(_ENTRY.digest(separator, self))


@attrs.frozen(slots=True)
class Entry:
    """A signed, decoded entry. ``encoded`` is its one canonical form."""

    header: EntryHeader
    digest: Digest
    operations: tuple[Operation, ...]
    signature: bytes
    encoded: bytes = attrs.field(repr=False)
    accept_claim: Claim | None = None
    """That the author signed the trades it accepts; None if it accepts none."""

    @property
    def author(self) -> Address:
        return self.header.author

    @property
    def seq(self) -> Seq:
        return self.header.seq

    @property
    def prev(self) -> Digest:
        return self.header.prev

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What has to be true of its signatures, besides those that the fold looks at."""
        own = (self.header.author, self.digest, self.signature)
        return (own,) if self.accept_claim is None else (own, self.accept_claim)

    def verify(self) -> None:
        """Raises ``SignatureError`` unless the author signed it and the trades it accepts."""
        for claim in self.claims:
            if not secp256k1.is_signed_by(*claim):
                what = "entry" if claim[1] == self.digest else "accept of entry"
                raise SignatureError(f"{what} {self.seq} is not signed by 0x{self.author.hex()}")


@attrs.frozen(slots=True)
class UnsignedEntry:
    """An entry its author is about to sign: sign ``digest``, then call ``signed``."""

    header: EntryHeader
    digest: Digest
    operations: tuple[Operation, ...]
    _groups: tuple[bytes, ...] = attrs.field(repr=False, alias="groups")
    _accept_claim: Claim | None = attrs.field(repr=False, alias="accept_claim")

    def signed(self, signature: bytes) -> Entry:
        """The finished entry; the signature is trusted to be over ``digest``."""
        encoded = _assemble(self.header, len(self.operations), self._groups, signature)
        if len(encoded) > MAX_ENTRY_BYTES:
            raise InvalidError(f"entry of {len(encoded)} bytes; at most {MAX_ENTRY_BYTES}")
        return Entry(
            self.header, self.digest, self.operations, signature, encoded, self._accept_claim
        )


def draft(
    separator: bytes,
    market: MarketId,
    author: Address,
    seq: Seq,
    prev: Digest,
    operations: Sequence[Operation],
) -> UnsignedEntry:
    """Build the next entry of a log, still unsigned.

    Raises ``InvalidError`` for no or too many operations; the operations themselves are checked
    here as a peer would check them, so that nobody signs what others would refuse.
    """
    _check_chain(seq, prev)
    if not 1 <= len(operations) <= MAX_ENTRY_OPERATIONS:
        raise InvalidError(f"an entry holds 1 .. {MAX_ENTRY_OPERATIONS} operations")
    items = [to_items(operation) for operation in operations]
    groups = _encode_groups(items)
    parsed = tuple(parse(codec.decode(codec.encode(item), MAX_ENTRY_BYTES)) for item in items)
    claim = _check_costs(parsed, author, separator)
    header = EntryHeader(market, author, seq, prev, merkle.list_root(groups))
    return UnsignedEntry(header, header.digest(separator), parsed, tuple(groups), claim)


def decode_entry(data: bytes, separator: bytes, market: MarketId) -> Entry:
    """Bytes to entry; everything but the signature is checked (call ``Entry.verify`` for that).

    Raises ``OversizedError``, ``MalformedError``, ``InvalidError`` or, for another market's,
    ``ForeignError``.
    """
    record = codec.array(codec.decode(data, MAX_ENTRY_BYTES), 6, "entry")
    named = codec.octets(record[0], 32, "market of entry")
    author = Address(codec.octets(record[1], 20, "author of entry"))
    seq = Seq(codec.uint(record[2], "seq of entry"))
    prev = Digest(codec.octets(record[3], 32, "prev of entry"))
    items = codec.items(record[4], MAX_ENTRY_OPERATIONS, "operations of entry")
    signature = codec.octets(record[5], secp256k1.SIGNATURE_BYTES, "signature of entry")
    if named != market:
        raise ForeignError(f"entry of market {named.hex()}")
    if not items:
        raise MalformedError("entry without operations")
    _check_chain(seq, prev)
    operations = tuple([parse(item) for item in items])
    claim = _check_costs(operations, author, separator)
    groups = _encode_groups(items)
    header = EntryHeader(market, author, seq, prev, merkle.list_root(groups))
    codec.require_canonical(_assemble(header, len(items), groups, signature), data)
    return Entry(header, header.digest(separator), operations, signature, data, claim)


def _check_chain(seq: Seq, prev: Digest) -> None:
    if (seq == 0) != (prev == ZERO32):
        raise InvalidError("the first entry of a log, and only the first, has prev zero")


def _check_costs(
    operations: Sequence[Operation], author: Address, separator: bytes
) -> Claim | None:
    """Operations that cost others signature checks are few; what the accept claims, if any."""
    proofs = 0
    claim: Claim | None = None
    for operation in operations:
        kind = type(operation)
        if kind is Evidence or kind is Delegate:
            proofs += 1
        elif isinstance(operation, Accept):
            if claim is not None:
                raise InvalidError("an entry has at most one accept: it may name many matches")
            claim = (author, operation.digest(separator), operation.signature)
    if proofs > MAX_PROOFS:
        raise InvalidError(f"more than {MAX_PROOFS} pieces of evidence and delegations")
    return claim


def _encode_groups(items: Sequence[codec.Value]) -> list[bytes]:
    # An array's encoding is its head and its items' encodings in a row, so encoding sixteen at a
    # time and dropping the one-byte head gives the leaves and the canonical form in one go.
    return [codec.encode(items[at : at + GROUP])[1:] for at in range(0, len(items), GROUP)]


def _assemble(header: EntryHeader, count: int, groups: Sequence[bytes], signature: bytes) -> bytes:
    return b"".join(
        (
            codec.array_header(6),
            codec.encode(header.market),
            codec.encode(header.author),
            codec.encode(header.seq),
            codec.encode(header.prev),
            codec.array_header(count),
            *groups,
            codec.encode(signature),
        )
    )
