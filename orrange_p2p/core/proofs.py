"""Proofs of one order or one account, for someone who knows only the witnesses.

A proof is a certificate and the walk through a map of the state (protocol/02-merkle.md, Order
proofs). It shows the order as it stood after the epoch of the certificate, or that it was not live
then: filled, ended, or never placed; likewise how far an author's log was cut.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core import certificates, codec
from orrange_p2p.core.accounts import (
    MAX_ACCOUNT_BYTES,
    MAX_ORDER_LEAF_BYTES,
    ORDER_KEY_BYTES,
    Account,
    LiveOrder,
    order_key,
)
from orrange_p2p.core.certificates import Certificate
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, MarketId, OrderId
from orrange_p2p.core.merkle import MapProof, MapView, Step, verify_map_proof
from orrange_p2p.core.roster import Roster

MAX_PROOF_BYTES: Final = 64 * 1024
ACCOUNT_KEY_BYTES: Final = 20


class OrderProof(NamedTuple):
    """How one order stood after the epoch of the certificate."""

    certificate: Certificate
    path: MapProof | None
    """None if no order at all was live."""

    def encode(self) -> bytes:
        return codec.encode(self)


def prove_order(certificate: Certificate, orders: MapView, order_id: OrderId) -> OrderProof:
    """``orders``: the map whose root the certified header holds."""
    return OrderProof(certificate, orders.prove(order_key(order_id)))


def verify_order(
    genesis: Genesis,
    market: MarketId,
    order_id: OrderId,
    proof: OrderProof,
    roster: Roster | None = None,
) -> LiveOrder | None:
    """The order as a quorum of the network's witnesses knows it; None if it was not live.

    ``genesis`` is only asked for its witnesses and its separator. The order's ``owner`` is taken to
    be its author: whose session key that is, the proof does not say. ``roster``: as of
    ``Certificate.verify``. Raises ``PeerError`` for a proof that shows nothing.
    """
    proof.certificate.verify(genesis, market, roster)
    leaf = verify_map_proof(proof.certificate.header.orders, order_key(order_id), proof.path)
    if leaf is None:
        return None
    author, seq, position = order_id
    group = Account(author, 0, 0, 0).group_for(seq, position)
    group.load(leaf, author)
    return group.account.order(seq, position)


def decode_proof(data: bytes) -> OrderProof:
    """Raises ``OversizedError``, ``MalformedError`` or ``InvalidError``."""
    return OrderProof(*_decoded(data, ORDER_KEY_BYTES, MAX_ORDER_LEAF_BYTES))


class AccountProof(NamedTuple):
    """How one author stood after the epoch of the certificate."""

    certificate: Certificate
    path: MapProof | None
    """None if there was no account at all."""

    def encode(self) -> bytes:
        return codec.encode(self)


def prove_account(certificate: Certificate, accounts: MapView, author: Address) -> AccountProof:
    """``accounts``: the map whose root the certified header holds."""
    return AccountProof(certificate, accounts.prove(author))


def verify_account(
    genesis: Genesis,
    market: MarketId,
    author: Address,
    proof: AccountProof,
    roster: Roster | None = None,
) -> Account | None:
    """The author's account without its orders; None if it had none. Else as ``verify_order``."""
    proof.certificate.verify(genesis, market, roster)
    leaf = verify_map_proof(proof.certificate.header.accounts, author, proof.path)
    return None if leaf is None else Account.of_leaf(author, leaf)


def decode_account_proof(data: bytes) -> AccountProof:
    """Raises ``OversizedError``, ``MalformedError`` or ``InvalidError``."""
    return AccountProof(*_decoded(data, ACCOUNT_KEY_BYTES, MAX_ACCOUNT_BYTES))


def _decoded(data: bytes, key_bytes: int, leaf_bytes: int) -> tuple[Certificate, MapProof | None]:
    record = codec.array(codec.decode_canonical(data, MAX_PROOF_BYTES), 2, "proof")
    return certificates.from_item(record[0]), _path(record[1], key_bytes, leaf_bytes)


def _path(value: codec.Value, key_bytes: int, leaf_bytes: int) -> MapProof | None:
    if value is None:
        return None
    path = codec.array(value, 3, "path")
    key = codec.octets(path[0], key_bytes, "leaf_key of path")
    leaf = codec.octets_upto(path[1], leaf_bytes, "leaf_value of path")
    if not leaf:
        raise MalformedError("an empty leaf is none")
    most = 8 * key_bytes
    steps = tuple([_step(item, most) for item in codec.items(path[2], most, "steps")])
    return MapProof(key, leaf, steps)


def _step(value: codec.Value, bits: int) -> Step:
    step = codec.array(value, 2, "step")
    bit = codec.uint(step[0], "bit of step", bits - 1)
    return Step(bit, codec.octets(step[1], 32, "sibling of step"))
