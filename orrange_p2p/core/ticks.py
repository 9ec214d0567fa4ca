"""Ticks: what witnesses sign, round after round (protocol/01-records.md, section Tick)."""

from __future__ import annotations

from typing import Final, NamedTuple

import attrs

from orrange_p2p.core import codec
from orrange_p2p.core.errors import ForeignError, InvalidError, SignatureError
from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, Round, Seq, TimeMs
from orrange_p2p.core.merkle import list_root
from orrange_p2p.crypto import secp256k1
from orrange_p2p.crypto.eip712 import StructType

MAX_TICK_BYTES: Final = 256 * 1024
MAX_WITNESSES: Final = 32
MAX_HEADS: Final = 4096
MAX_LISTED: Final = 4096
"""Entry digests in all heads of one tick together; 4,096 of 32 bytes leave room for the rest."""

_TICK: Final = StructType(
    "Tick(bytes32 market,uint64 era,uint64 round,address witness,bytes32 bodyHash)"
)


class HeadItem(NamedTuple):
    """A run of successive entries of one author that the witness holds."""

    author: Address
    first_seq: Seq
    digests: tuple[Digest, ...]
    """Entry digests for ``first_seq``, ``first_seq`` + 1, ...; at least one."""


class Applied(NamedTuple):
    """A state root a witness vouches for; epoch 0 with a zero root: none yet."""

    epoch: Epoch
    root: bytes


class TickHeader(NamedTuple):
    """What a tick's signature covers."""

    market: MarketId
    era: Era
    round: Round
    witness: Address
    body_hash: bytes
    """Root of the list tree over the body's fields, so that one of them can be shown alone."""

    def digest(self, separator: bytes) -> Digest:
        """The tick's identity, and what its witness signs."""
        return Digest(_TICK.digest(separator, self))


class TickBody(NamedTuple):
    """What a witness says in a round."""

    parents: tuple[Digest, ...]
    """Digests of ticks of the previous round, ascending; empty in round 0 only."""
    heads: tuple[HeadItem, ...]
    """Newly held entries, ascending by author, at most one run per author."""
    time_ms: TimeMs
    applied: Applied
    reveal: bytes
    """32 bytes: this round's preimage of the witness's hash chain."""

    def leaves(self) -> list[bytes]:
        """The encoded fields in wire order: what ``body_hash`` is the list root of."""
        return [codec.encode(field) for field in self]


@attrs.frozen(slots=True)
class Tick:
    """A signed, decoded tick. ``encoded`` is its one canonical form."""

    header: TickHeader
    digest: Digest
    body: TickBody
    signature: bytes
    encoded: bytes = attrs.field(repr=False)

    @property
    def market(self) -> MarketId:
        return self.header.market

    @property
    def era(self) -> Era:
        return self.header.era

    @property
    def round(self) -> Round:
        return self.header.round

    @property
    def witness(self) -> Address:
        return self.header.witness

    @property
    def parents(self) -> tuple[Digest, ...]:
        return self.body.parents

    @property
    def heads(self) -> tuple[HeadItem, ...]:
        return self.body.heads

    @property
    def time_ms(self) -> TimeMs:
        return self.body.time_ms

    @property
    def applied(self) -> Applied:
        return self.body.applied

    @property
    def reveal(self) -> bytes:
        return self.body.reveal

    @property
    def claims(self) -> tuple[tuple[bytes, bytes, bytes], ...]:
        """Address, digest and signature: what has to be true of it."""
        return ((self.header.witness, self.digest, self.signature),)

    def verify(self) -> None:
        """Raises ``SignatureError`` unless the witness signed it."""
        if not secp256k1.is_signed_by(self.witness, self.digest, self.signature):
            raise SignatureError(f"tick of round {self.round} is not signed by its witness")


@attrs.frozen(slots=True)
class UnsignedTick:
    """A tick its witness is about to sign: sign ``digest``, then call ``signed``."""

    header: TickHeader
    digest: Digest
    body: TickBody

    def signed(self, signature: bytes) -> Tick:
        """The finished tick; the signature is trusted to be over ``digest``."""
        encoded = _encode(self.header, self.body, signature)
        if len(encoded) > MAX_TICK_BYTES:
            raise InvalidError(f"tick of {len(encoded)} bytes; at most {MAX_TICK_BYTES}")
        return Tick(self.header, self.digest, self.body, signature, encoded)


def draft(
    separator: bytes, market: MarketId, era: Era, round: Round, witness: Address, body: TickBody
) -> UnsignedTick:
    """Build a witness's tick of a round, still unsigned. Raises ``InvalidError`` if malformed."""
    _check_body(round, body)
    header = TickHeader(market, era, round, witness, list_root(body.leaves()))
    return UnsignedTick(header, header.digest(separator), body)


def decode_tick(data: bytes, separator: bytes, market: MarketId) -> Tick:
    """Bytes to tick; everything that the tick alone can show but the signature is checked.

    Raises ``OversizedError``, ``MalformedError``, ``InvalidError`` or, for another market's,
    ``ForeignError``.
    """
    record = codec.array(codec.decode(data, MAX_TICK_BYTES), 10, "tick")
    named = codec.octets(record[0], 32, "market of tick")
    era = Era(codec.uint(record[1], "era of tick"))
    round_ = Round(codec.uint(record[2], "round of tick"))
    witness = Address(codec.octets(record[3], 20, "witness of tick"))
    parents = codec.items(record[4], MAX_WITNESSES, "parents of tick")
    heads = codec.items(record[5], MAX_HEADS, "heads of tick")
    applied = codec.array(record[7], 2, "applied of tick")
    body = TickBody(
        tuple([Digest(codec.octets(parent, 32, "parent")) for parent in parents]),
        tuple([_head(item) for item in heads]),
        TimeMs(codec.uint(record[6], "time of tick")),
        Applied(
            Epoch(codec.uint(applied[0], "applied epoch")),
            codec.octets(applied[1], 32, "applied root"),
        ),
        codec.octets(record[8], 32, "reveal of tick"),
    )
    signature = codec.octets(record[9], secp256k1.SIGNATURE_BYTES, "signature of tick")
    if named != market:
        raise ForeignError(f"tick of market {named.hex()}")
    _check_body(round_, body)
    header = TickHeader(market, era, round_, witness, list_root(body.leaves()))
    codec.require_canonical(_encode(header, body, signature), data)
    return Tick(header, header.digest(separator), body, signature, data)


def _head(value: codec.Value) -> HeadItem:
    item = codec.array(value, 3, "head")
    digests = codec.items(item[2], MAX_LISTED, "digests of head")
    return HeadItem(
        Address(codec.octets(item[0], 20, "author of head")),
        Seq(codec.uint(item[1], "first_seq of head")),
        tuple([Digest(codec.octets(digest, 32, "digest of entry")) for digest in digests]),
    )


def _check_body(round: Round, body: TickBody) -> None:
    if (round == 0) != (not body.parents):
        raise InvalidError("ticks of round 0, and only these, have no parents")
    if any(a >= b for a, b in zip(body.parents, body.parents[1:], strict=False)):
        raise InvalidError("parents are not in ascending order without repetition")
    if any(a.author >= b.author for a, b in zip(body.heads, body.heads[1:], strict=False)):
        raise InvalidError("heads are not in ascending order of authors without repetition")
    if not all(head.digests for head in body.heads):
        raise InvalidError("a head lists no entries")
    if sum(len(head.digests) for head in body.heads) > MAX_LISTED:
        raise InvalidError(f"heads list more than {MAX_LISTED} entries")


def _encode(header: TickHeader, body: TickBody, signature: bytes) -> bytes:
    return codec.encode(
        (
            header.market,
            header.era,
            header.round,
            header.witness,
            body.parents,
            body.heads,
            body.time_ms,
            body.applied,
            body.reveal,
            signature,
        )
    )
