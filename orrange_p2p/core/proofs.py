"""Order proofs: what became of an order, shown to someone who knows only the witnesses.

A proof is a certificate and the walk through the map of live orders (protocol/02-merkle.md, Order
proofs). It shows the order as it stood after the epoch of the certificate, or that it was not live
then: filled, ended, or never placed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core import certificates, codec
from orrange_p2p.core.accounts import (
    MAX_ORDER_LEAF_BYTES,
    ORDER_KEY_BYTES,
    Account,
    LiveOrder,
    order_key,
)
from orrange_p2p.core.certificates import Certificate
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import MarketId, OrderId
from orrange_p2p.core.merkle import MapProof, MapView, Step, verify_map_proof

MAX_PROOF_BYTES: Final = 64 * 1024
_MAX_STEPS: Final = 8 * ORDER_KEY_BYTES


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
    genesis: Genesis, market: MarketId, order_id: OrderId, proof: OrderProof
) -> LiveOrder | None:
    """The order as a quorum of the network's witnesses knows it; None if it was not live.

    ``genesis`` is only asked for its witnesses and its separator. The order's ``owner`` is taken to
    be its author: whose session key that is, the proof does not say. Raises ``PeerError`` for a
    proof that shows nothing.
    """
    proof.certificate.verify(genesis, market)
    leaf = verify_map_proof(proof.certificate.header.orders, order_key(order_id), proof.path)
    if leaf is None:
        return None
    author, seq, position = order_id
    group = Account(author, 0, 0, 0).group_for(seq, position)
    group.load(leaf, author)
    return group.account.order(seq, position)


def decode_proof(data: bytes) -> OrderProof:
    """Raises ``OversizedError``, ``MalformedError`` or ``InvalidError``."""
    record = codec.array(codec.decode_canonical(data, MAX_PROOF_BYTES), 2, "order proof")
    return OrderProof(certificates.from_item(record[0]), _path(record[1]))


def _path(value: codec.Value) -> MapProof | None:
    if value is None:
        return None
    path = codec.array(value, 3, "path")
    key = codec.octets(path[0], ORDER_KEY_BYTES, "leaf_key of path")
    leaf = codec.octets_upto(path[1], MAX_ORDER_LEAF_BYTES, "leaf_value of path")
    if not leaf:
        raise MalformedError("a group without orders has no leaf")
    steps = tuple([_step(item) for item in codec.items(path[2], _MAX_STEPS, "steps")])
    return MapProof(key, leaf, steps)


def _step(value: codec.Value) -> Step:
    step = codec.array(value, 2, "step")
    bit = codec.uint(step[0], "bit of step", 8 * ORDER_KEY_BYTES - 1)
    return Step(bit, codec.octets(step[1], 32, "sibling of step"))
