"""Vouchers: who stands for a state root, shown without whole ticks (protocol/01-records.md).

A tick names the latest state root that its witness applied, and its body hash is a tree over the
body's fields. So this one field can be shown with three hashes and the signature. Vouchers of a
quorum make a root certain for anyone who knows the witnesses' addresses and weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.errors import InvalidError, SignatureError
from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, Round
from orrange_p2p.core.merkle import list_proof, root_by_path
from orrange_p2p.core.ticks import Applied, Tick, TickBody, TickHeader
from orrange_p2p.core.witnesses import MAX_WITNESSES, WitnessTable
from orrange_p2p.crypto import secp256k1

_LEAVES: Final = len(TickBody._fields)
_APPLIED: Final = TickBody._fields.index("applied")
_PATH: Final = 3
"""Hashes on the way from leaf 3 of 5 to the root."""


class Voucher(NamedTuple):
    """A witness's signed word that ``applied`` is the state it computed."""

    era: Era
    round: Round
    witness: Address
    applied: Applied
    path: tuple[bytes, ...]
    """From the leaf ``applied`` of the tick's body upwards."""
    signature: bytes

    def digest(self, separator: bytes, market: MarketId) -> Digest:
        """The digest of the tick that it is taken from. Raises ``InvalidError`` for a bad path."""
        leaf = codec.encode(self.applied)
        body_hash = root_by_path(leaf, _APPLIED, _LEAVES, self.path)
        header = TickHeader(market, self.era, self.round, self.witness, body_hash)
        return header.digest(separator)


def voucher_of(tick: Tick) -> Voucher:
    """What a verified tick vouches for."""
    path = tuple(list_proof(tick.body.leaves(), _APPLIED))
    header = tick.header
    return Voucher(header.era, header.round, header.witness, tick.applied, path, tick.signature)


def verify_vouchers(
    vouchers: Sequence[Voucher],
    table: WitnessTable,
    separator: bytes,
    market: MarketId,
    applied: Applied,
) -> None:
    """Raises ``InvalidError`` unless vouchers of a quorum, and only good ones, stand for
    ``applied``."""
    seen: set[Address] = set()
    for voucher in vouchers:
        if voucher.applied != applied:
            raise InvalidError("a voucher stands for another root")
        if voucher.witness in seen:
            raise InvalidError("two vouchers of one witness")
        if voucher.witness not in table:
            raise InvalidError(f"0x{voucher.witness.hex()} vouches and is no witness")
        seen.add(voucher.witness)
    if table.weight_of_set(seen) < table.quorum:
        raise InvalidError("vouchers of less than a quorum")
    for voucher in vouchers:
        digest = voucher.digest(separator, market)
        if not secp256k1.is_signed_by(voucher.witness, digest, voucher.signature):
            raise SignatureError(f"a voucher is not signed by 0x{voucher.witness.hex()}")


def from_items(value: codec.Value) -> tuple[Voucher, ...]:
    """Raises ``MalformedError`` or, for another order, ``InvalidError``."""
    vouchers = tuple([_voucher(item) for item in codec.items(value, MAX_WITNESSES, "vouchers")])
    witnesses = [voucher.witness for voucher in vouchers]
    if witnesses != sorted(set(witnesses)):
        raise InvalidError("vouchers are not in ascending order of witnesses, each once")
    return vouchers


def _voucher(value: codec.Value) -> Voucher:
    record = codec.array(value, 6, "voucher")
    applied = codec.array(record[3], 2, "applied of voucher")
    path = codec.array(record[4], _PATH, "path of voucher")
    return Voucher(
        Era(codec.uint(record[0], "era of voucher")),
        Round(codec.uint(record[1], "round of voucher")),
        Address(codec.octets(record[2], 20, "witness of voucher")),
        Applied(
            Epoch(codec.uint(applied[0], "applied epoch")),
            codec.octets(applied[1], 32, "applied root"),
        ),
        tuple([codec.octets(step, 32, "step of path") for step in path]),
        codec.octets(record[5], secp256k1.SIGNATURE_BYTES, "signature of voucher"),
    )
