"""What a client that knows only the witnesses can be shown of orders and accounts, and what not."""

from __future__ import annotations

import pytest
from network import Network

from orrange_p2p.core.checkpoints import CertifiedState
from orrange_p2p.core.errors import PeerError
from orrange_p2p.core.ids import Address, Epoch, Lots, OrderId, Seq
from orrange_p2p.core.merkle import SparseMerkleMap
from orrange_p2p.core.proofs import (
    OrderProof,
    decode_account_proof,
    decode_proof,
    prove_account,
    prove_order,
    verify_account,
    verify_order,
)
from orrange_p2p.core.replica import Replica


class Shown:
    """A market that went on a while, and its latest certified state."""

    def __init__(self) -> None:
        self.network = Network(3, applied_interval_epochs=2)
        self.network.run(8000)
        replica: Replica = self.network.nodes[0].replica
        assert replica.certified is not None
        self.state: CertifiedState = replica.certified
        self.live = [
            OrderId(Address(key[:20]), Seq(int.from_bytes(key[20:28], "big")), position)
            for key, leaf in self.state.view.orders.items()
            for position in [int.from_bytes(leaf[:2], "big")]
        ]

    def prove(self, name: OrderId) -> OrderProof:
        return prove_order(self.state.certificate, self.state.view.orders, name)

    def verify(self, name: OrderId, proof: OrderProof) -> object:
        return verify_order(self.network.genesis, self.network.market_id, name, proof)


@pytest.fixture(scope="module")
def shown() -> Shown:
    return Shown()


def test_every_live_order_is_shown_as_it_stands(shown: Shown) -> None:
    assert len(shown.live) > 5
    placed = {
        (entry.author, entry.seq): entry
        for epoch in shown.network.nodes[0].epochs
        for entry in epoch.facts.entries
    }
    for name in shown.live:
        proof = decode_proof(shown.prove(name).encode())
        order = verify_order(shown.network.genesis, shown.network.market_id, name, proof)
        assert order is not None
        operation = placed[name.author, name.seq].operations[name.position]
        terms = getattr(operation, "order", operation)
        assert (order.id, order.side, order.price) == (name, terms.side, terms.price)
        assert 0 < order.open + order.reserved <= terms.quantity


def test_what_is_not_live_is_shown_not_to_be(shown: Shown) -> None:
    name = shown.live[0]
    for other in (
        name._replace(seq=Seq(name.seq + 1000)),
        name._replace(author=Address(bytes(20))),
        name._replace(position=1023),
        name._replace(position=name.position ^ 15),  # of the same group
    ):
        proof = decode_proof(shown.prove(other).encode())
        assert shown.verify(other, proof) is None


def test_in_an_empty_book_there_is_nothing() -> None:
    network = Network(4, applied_interval_epochs=2)
    network.run(5000, write_every_ms=0)
    state = network.nodes[0].replica.certified
    assert state is not None
    name = OrderId(Address(bytes(20)), Seq(0), 0)
    proof = decode_proof(prove_order(state.certificate, state.view.orders, name).encode())
    assert proof.path is None
    assert verify_order(network.genesis, network.market_id, name, proof) is None


def test_nobody_can_hide_an_order_or_make_one_up(shown: Shown) -> None:
    name, other = shown.live[0], shown.live[-1]
    proof = shown.prove(name)
    certificate, path = proof
    assert path is not None
    header = certificate.header
    made_up = SparseMerkleMap(30)
    made_up.set(path.leaf_key, path.leaf_value)
    more = path.leaf_value[:-25] + (1 << 40).to_bytes(8, "big") + path.leaf_value[-17:]
    lies = {
        "nothing is live": proof._replace(path=None),
        "another's walk": shown.prove(other),
        "more lots": proof._replace(path=path._replace(leaf_value=more)),
        "a map of its own": proof._replace(
            certificate=certificate._replace(header=header._replace(orders=made_up.root())),
            path=made_up.prove(path.leaf_key),
        ),
        "another epoch": proof._replace(
            certificate=certificate._replace(header=header._replace(epoch=Epoch(2)))
        ),
        "too few witnesses": proof._replace(
            certificate=certificate._replace(vouchers=certificate.vouchers[1:][:2])
        ),
        "no witnesses": proof._replace(certificate=certificate._replace(vouchers=())),
    }
    believed = [what for what, lie in lies.items() if is_believed(shown, name, lie)]
    assert not believed


def is_believed(shown: Shown, name: OrderId, proof: OrderProof) -> bool:
    try:
        shown.verify(name, proof)
    except PeerError:
        return False
    return True


@pytest.mark.parametrize("fewer", [1, 2, 3])
def test_a_proof_in_pieces_is_none(shown: Shown, fewer: int) -> None:
    data = shown.prove(shown.live[0]).encode()
    for bad in (data[:-fewer], data + bytes(fewer), data[fewer:]):
        with pytest.raises(PeerError):
            decode_proof(bad)


def test_the_states_of_later_epochs_leave_the_proof_alone(shown: Shown) -> None:
    name = shown.live[0]
    before = shown.prove(name)
    shown.network.run(shown.network.now + 3000)
    assert shown.prove(name) == before
    order = verify_order(shown.network.genesis, shown.network.market_id, name, before)
    assert order is not None and order.open <= Lots(20)


def test_an_account_is_shown_as_far_as_its_log_was_cut(shown: Shown) -> None:
    genesis, market, state = shown.network.genesis, shown.network.market_id, shown.state
    accounts = list(state.view.accounts.items())
    assert len(accounts) > 1
    for key, leaf in accounts:
        author = Address(key)
        proof = prove_account(state.certificate, state.view.accounts, author)
        account = verify_account(genesis, market, author, decode_account_proof(proof.encode()))
        assert account is not None and account.leaf() == leaf
    stranger = Address(b"\x07" * 20)
    nothing = prove_account(state.certificate, state.view.accounts, stranger)
    assert verify_account(genesis, market, stranger, nothing) is None
    assert nothing.path is not None
    other = next(Address(key) for key, _ in accounts if key != nothing.path.leaf_key)
    with pytest.raises(PeerError):
        verify_account(genesis, market, other, nothing)
