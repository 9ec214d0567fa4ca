"""I5: a node that starts from a checkpoint goes on exactly like one that has seen everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from network import Key, Network, Node, what_of

from orrange_p2p.core import codec
from orrange_p2p.core.certificates import Certificate
from orrange_p2p.core.checkpoints import (
    MAX_KEPT,
    CertifiedState,
    Checkpoint,
    check_terms,
    decode_checkpoint,
)
from orrange_p2p.core.dag import WINDOW_ROUNDS
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.errors import InvalidError, MalformedError, PeerError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import Epoch, MarketId, TimeMs
from orrange_p2p.core.operations import CancelAll
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.roster import RosterRequest
from orrange_p2p.core.ticks import Tick
from orrange_p2p.core.vouchers import Voucher

INTERVAL = 2


def replica_of_many_checkpoints(genesis: Genesis, market_id: MarketId) -> Replica:
    return Replica(genesis, market_id, checkpoint_epochs=INTERVAL)


class Recorded:
    """A network that keeps every checkpoint that its second node ever had."""

    def __init__(self, seed: int, **how: Any) -> None:
        self.network = Network(
            seed,
            replica_class=replica_of_many_checkpoints,
            applied_interval_epochs=INTERVAL,
            **how,
        )
        self.node = self.network.nodes[1]
        self.checkpoints: dict[int, CertifiedState] = {}

    def run(self, until_ms: int) -> None:
        while self.network.now < until_ms:
            self.network.run(self.network.now + 100)
            for state in self.node.replica.checkpoints:
                self.checkpoints.setdefault(state.header.epoch, state)


def blobs_of(state: CertifiedState) -> dict[bytes, bytes]:
    """Everything a joining node fetches, in the order in which it learns of it."""
    blobs = {name: part for name in state.checkpoint.part_names if (part := state.part(name))}
    for name in state.checkpoint.terms_named(blobs):
        terms = state.part(name)
        assert terms is not None
        blobs[name] = terms
    assert sorted(blobs) == sorted(state.names)
    return blobs


def join(network: Network, state: CertifiedState, facts: list[Entry | Tick]) -> Node:
    """A node that knows nothing but genesis, a checkpoint and what lies after it."""
    checkpoint = decode_checkpoint(state.checkpoint.encode())
    era = checkpoint.certificate.vouched_in
    is_elected = era > 0 and network.genesis.parameters.elected_witnesses > 0
    roster = network.elect(RosterRequest(era, TimeMs(0))) if is_elected else None
    checkpoint.verify(network.genesis, network.market_id, roster)
    joined = Node(network, 1)
    joined.replica = Replica.resume(
        network.genesis, network.market_id, checkpoint, blobs_of(state), INTERVAL
    )
    header = checkpoint.header
    heads = {a.address: a.next_seq for a in joined.replica.fold.accounts.values()}
    assert joined.replica.root == header.root
    rest = [fact for fact in facts if not lies_before(fact, state, heads)]
    network.dice.shuffle(rest)
    joined.catch_up(rest)
    return joined


def lies_before(fact: Entry | Tick, state: CertifiedState, heads: Mapping[bytes, int]) -> bool:
    if isinstance(fact, Entry):
        return fact.seq < heads.get(fact.author, 0)
    header = state.header
    if header.closes_era:
        return fact.era <= header.era
    first = header.round - WINDOW_ROUNDS
    return fact.era < header.era or (fact.era == header.era and fact.round < first)


def check_all(recorded: Recorded, at_least: int) -> None:
    network, node = recorded.network, recorded.node
    facts = list(node.durable.values())
    assert len(recorded.checkpoints) >= at_least
    for epoch, state in recorded.checkpoints.items():
        joined = join(network, state, facts)
        assert [*map(what_of, joined.epochs)] == [*map(what_of, node.epochs[epoch:])]
        assert joined.replica.checkpoint == node.replica.checkpoint
        later = [s.header for s in node.replica.checkpoints if s.header.epoch > epoch]
        assert [s.header for s in joined.replica.checkpoints][-len(later) :] == later or not later


@pytest.mark.parametrize("seed", range(3))
def test_whoever_joins_at_any_checkpoint_computes_the_same(seed: int) -> None:
    recorded = Recorded(seed, loss=0.1)
    recorded.run(4000)
    recorded.network.fork(recorded.network.authors[1])
    recorded.run(12_000)
    recorded.network.settle()
    check_all(recorded, 6)


def test_with_more_history_than_the_window_holds() -> None:
    recorded = Recorded(11, max_delay_ms=60)
    recorded.run(45_000)
    node = recorded.node
    assert node.replica.clock.next_round > 2 * WINDOW_ROUNDS
    recorded.checkpoints = dict(list(recorded.checkpoints.items())[::6])
    check_all(recorded, 6)


@pytest.mark.parametrize("seed", range(2))
def test_across_eras_and_at_the_very_end_of_one(seed: int) -> None:
    recorded = Recorded(20 + seed, era_ms=1500, max_delay_ms=200)
    recorded.run(12_000)
    headers = [state.header for state in recorded.checkpoints.values()]
    assert len({header.era for header in headers}) >= 3
    check_all(recorded, 8)
    if seed == 0:
        assert any(header.closes_era for header in headers)


def test_with_a_witness_that_lies() -> None:
    recorded = Recorded(31, witnesses=7, liars=2)
    recorded.node = recorded.network.nodes[3]
    recorded.run(10_000)
    recorded.network.settle()
    check_all(recorded, 2)


# --- what is certified ---


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    recorded = Recorded(1)
    recorded.run(8000)
    return recorded


def some_checkpoint(recorded: Recorded) -> tuple[Checkpoint, dict[bytes, bytes]]:
    state = next(s for s in recorded.checkpoints.values() if len(blobs_of(s)) > 3)
    return state.checkpoint, blobs_of(state)


def test_few_checkpoints_are_kept_and_all_nodes_keep_the_same(recorded: Recorded) -> None:
    replicas = [node.replica for node in recorded.network.nodes]
    assert all(len(replica.checkpoints) == MAX_KEPT for replica in replicas)
    by_epoch: dict[int, set[bytes]] = {}
    for replica in replicas:
        for state in replica.checkpoints:
            _, *skeletons = state.checkpoint
            by_epoch.setdefault(state.header.epoch, set()).add(codec.encode(skeletons))
    assert all(len(versions) == 1 for versions in by_epoch.values())


def test_a_kept_state_does_not_change_while_the_market_goes_on() -> None:
    recorded = Recorded(2)
    recorded.run(6000)
    state = recorded.node.replica.checkpoints[-1]
    for author in recorded.network.authors:
        recorded.network.publish(author, [CancelAll()])
    recorded.run(9000)
    state.checkpoint.verify(recorded.network.genesis, recorded.network.market_id)
    assert state.checkpoint.leaves(blobs_of(state)).orders


def test_what_no_quorum_stands_for_is_no_checkpoint(recorded: Recorded) -> None:
    checkpoint, _ = some_checkpoint(recorded)
    genesis, market = recorded.network.genesis, recorded.network.market_id
    checkpoint.verify(genesis, market)

    def certified(header: StateHeader, said: tuple[Voucher, ...]) -> Checkpoint:
        return checkpoint._replace(certificate=Certificate(header, said))

    header, said = checkpoint.certificate
    for bad, reason in (
        (certified(header, said[:2]), "less than a quorum"),
        (certified(header._replace(time_ms=TimeMs(0)), said), "another root"),
        (certified(header._replace(epoch=Epoch(header.epoch + 1)), said), "no witness reports"),
        (checkpoint._replace(orders=()), "skeleton of the orders"),
        (checkpoint._replace(accounts=checkpoint.orders), "skeleton of the accounts"),
    ):
        with pytest.raises(InvalidError, match=reason):
            bad.verify(genesis, market)
    with pytest.raises(InvalidError, match="another market"):
        checkpoint.verify(genesis, MarketId(bytes(32)))


def test_parts_and_terms_are_what_their_names_say(recorded: Recorded) -> None:
    checkpoint, blobs = some_checkpoint(recorded)
    assert set(checkpoint.terms_named(blobs)) == set(blobs) - set(checkpoint.part_names) != set()
    for name, blob in blobs.items():
        damaged = bytes([blob[0], blob[1], blob[2], blob[3] ^ 1]) + blob[4:]
        if name in checkpoint.part_names:
            checkpoint.check_part(name, blob)
            with pytest.raises(PeerError):
                checkpoint.check_part(name, damaged)
        else:
            check_terms(name, blob)
            with pytest.raises(InvalidError):
                check_terms(name, damaged)
        with pytest.raises(PeerError):
            checkpoint.leaves(blobs | {name: damaged})
        with pytest.raises(KeyError):
            checkpoint.leaves({n: b for n, b in blobs.items() if n != name})
    with pytest.raises(InvalidError, match="not a part"):
        checkpoint.check_part(bytes(32), b"")


def test_decoding_takes_what_was_encoded_and_nothing_else(recorded: Recorded) -> None:
    checkpoint, _ = some_checkpoint(recorded)
    data = checkpoint.encode()
    assert decode_checkpoint(data) == checkpoint
    for bad in (b"", data[:-1], data + b"\0", b"\x80"):
        with pytest.raises(MalformedError):
            decode_checkpoint(bad)


def test_an_empty_market_has_a_checkpoint_too() -> None:
    recorded = Recorded(5)
    while recorded.network.now < 5000:
        recorded.network.run(recorded.network.now + 100, write_every_ms=0)
    (*_, state) = recorded.node.replica.checkpoints
    assert blobs_of(state) == {}
    joined = join(recorded.network, state, list(recorded.node.durable.values()))
    assert joined.replica.root == recorded.node.replica.root
    recorded.network.nodes[1] = joined
    assert Key(1).address not in joined.replica.fold.accounts
