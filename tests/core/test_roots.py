"""Checkpoints and the alarm, first by themselves, then in a network with broken folds."""

from __future__ import annotations

from typing import Any

import pytest
from network import Network

from orrange_p2p.core.fold import EpochFacts, EpochOutcome, Fold
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, Epoch, Era, MarketId, Round, TimeMs, Weight
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.roots import REMEMBERED, HaltReason, RootReports
from orrange_p2p.core.ticks import Applied, Tick, TickBody, draft
from orrange_p2p.core.witnesses import WitnessTable

W = [Address(bytes([n]) * 20) for n in range(1, 5)]
MARKET = MarketId(bytes(32))
GOOD, BAD = b"g" * 32, b"b" * 32


def reports_of(weights: list[int] | None = None) -> RootReports:
    table = {w: Weight(n) for w, n in zip(W, weights or [1, 1, 1, 1], strict=True)}
    return RootReports(WitnessTable(table))


def said(witness: int | Address, epoch: int, root: bytes) -> Tick:
    address = W[witness] if isinstance(witness, int) else witness
    body = TickBody((), (), TimeMs(0), Applied(Epoch(epoch), root), bytes(32))
    return draft(bytes(32), MARKET, Era(0), Round(0), address, body).signed(bytes(65))


def test_a_quorum_of_equal_roots_is_a_checkpoint() -> None:
    roots = reports_of()
    roots.note_own(Epoch(8), GOOD)
    assert roots.absorb([said(0, 8, GOOD), said(1, 8, GOOD)], Epoch(9)) is None
    assert roots.checkpoint.epoch == 0
    assert roots.absorb([said(1, 8, GOOD)], Epoch(9)) is None, "one witness counts once"
    assert roots.checkpoint.epoch == 0
    assert roots.absorb([said(2, 8, GOOD)], Epoch(9)) is None
    assert roots.checkpoint == Applied(Epoch(8), GOOD)
    assert [voucher.witness for voucher in roots.vouchers] == W[:3]
    assert {voucher.applied for voucher in roots.vouchers} == {roots.checkpoint}


def test_one_liar_changes_nothing() -> None:
    roots = reports_of()
    roots.note_own(Epoch(8), GOOD)
    ticks = [said(3, 8, BAD), *(said(n, 8, GOOD) for n in range(3)), said(3, 8, b"c" * 32)]
    assert roots.absorb(ticks, Epoch(9)) is None
    assert roots.checkpoint == Applied(Epoch(8), GOOD)


def test_two_against_two_is_a_divergence_with_its_evidence() -> None:
    roots = reports_of()
    roots.note_own(Epoch(8), GOOD)
    halt = roots.absorb([said(0, 8, GOOD), said(1, 8, BAD), said(2, 8, GOOD)], Epoch(9))
    assert halt is None
    halt = roots.absorb([said(3, 8, BAD)], Epoch(9))
    assert halt is not None
    assert (halt.reason, halt.epoch, halt.own_root) == (HaltReason.DIVERGED, 8, GOOD)
    assert [(r.root, r.witnesses) for r in halt.reports] == [
        (BAD, (W[1], W[3])),
        (GOOD, (W[0], W[2])),
    ]
    assert all(len(report.ticks) == 2 for report in halt.reports)


def test_weight_counts_and_not_heads() -> None:
    roots = reports_of([5, 1, 1, 1])
    roots.note_own(Epoch(8), GOOD)
    assert roots.absorb([said(n, 8, BAD) for n in (1, 2)], Epoch(9)) is None
    assert roots.absorb([said(0, 8, GOOD)], Epoch(9)) is None
    halt = roots.absorb([said(3, 8, BAD)], Epoch(9))
    assert halt is not None
    assert halt.reason is HaltReason.DIVERGED


def test_a_quorum_against_us() -> None:
    roots = reports_of()
    roots.note_own(Epoch(8), BAD)
    assert roots.absorb([said(0, 8, GOOD), said(1, 8, GOOD)], Epoch(9)) is None
    halt = roots.absorb([said(2, 8, GOOD)], Epoch(9))
    assert halt is not None
    assert (halt.reason, halt.own_root) == (HaltReason.CONTRADICTED, BAD)


def test_reports_of_the_future_and_of_strangers_do_not_count() -> None:
    roots = reports_of()
    roots.note_own(Epoch(8), GOOD)
    stranger = said(Address(bytes(20)), 8, BAD)
    assert roots.absorb([stranger, *(said(n, 16, BAD) for n in range(4))], Epoch(9)) is None
    assert roots.checkpoint.epoch == 0


def test_what_is_remembered_is_bounded() -> None:
    roots = reports_of()
    for epoch in range(1, 10 * REMEMBERED):
        roots.note_own(Epoch(epoch), GOOD)
        roots.absorb([said(0, epoch, bytes([epoch % 251]) * 32)], Epoch(epoch))
    assert len(roots._reports) <= REMEMBERED
    assert len(roots._own) <= REMEMBERED
    assert roots.absorb([said(1, 1, BAD)], Epoch(10 * REMEMBERED)) is None


# --- in a network ---


class _BrokenFold:
    """A fold that goes wrong after each epoch. No subclass: the class may be compiled."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fold, name)

    def apply(self, facts: EpochFacts) -> EpochOutcome:
        outcome = self._fold.apply(facts)
        for order in self._fold.live_orders():
            if order.open > 0:
                order.open += 1
                order.quantity += 1
                self._fold.note_changed(order)
                break
        return outcome


def breaking(broken: int) -> Any:
    """Replicas of which the first ``broken`` that are made have a broken fold."""
    made = 0

    def make(genesis: Genesis, market_id: MarketId) -> Replica:
        nonlocal made
        replica = Replica(genesis, market_id)
        if made < broken:
            replica.fold = _BrokenFold(replica.fold)  # type: ignore[assignment]
        made += 1
        return replica

    return make


@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_is_contradicted_stops_and_the_others_go_on(seed: int) -> None:
    network = Network(seed, replica_class=breaking(1))
    network.run(20_000)
    halts = [node.replica.halt for node in network.nodes]
    assert halts[0] is not None
    assert halts[0].reason is HaltReason.CONTRADICTED
    assert halts[1:] == [None, None, None]
    epochs = [node.replica.epoch for node in network.nodes]
    assert epochs[0] < min(epochs[1:])
    assert all(node.replica.checkpoint.epoch > epochs[0] for node in network.nodes[1:])
    before = epochs[1]
    network.run(26_000)
    assert network.nodes[1].replica.epoch > before


@pytest.mark.parametrize("seed", range(3))
def test_two_states_of_a_third_each_stop_the_market_everywhere_alike(seed: int) -> None:
    network = Network(seed, replica_class=breaking(2))
    network.run(20_000)
    halts = [node.replica.halt for node in network.nodes]
    assert all(halt is not None and halt.reason is HaltReason.DIVERGED for halt in halts)
    assert len({halt.epoch for halt in halts if halt is not None}) == 1
    assert len({node.replica.epoch for node in network.nodes}) == 1
    before = network.nodes[0].replica.epoch
    network.run(24_000)
    assert network.nodes[0].replica.epoch == before


@pytest.mark.parametrize("seed", range(3))
def test_sound_nodes_get_checkpoints_and_no_alarm(seed: int) -> None:
    network = Network(seed, liars=1)
    network.run(20_000)
    for node in network.honest:
        assert node.replica.halt is None
        assert node.replica.checkpoint.epoch > 0
