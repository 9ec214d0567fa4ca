"""Trades on a simulated chain: each ends once, whatever the chain does."""

from __future__ import annotations

from typing import Any

from orrange_p2p.sim.run import simulate
from orrange_p2p.sim.scenario import Attack, AttackKind, Chain, Scenario, Traders

CALM = Scenario(
    seconds=60,
    nodes=8,
    witnesses=4,
    degree=4,
    chain=Chain(block_ms=1_000, confirmations=3),
    traders=Traders(random=8, orders_per_s=20),
)


def figures_of(scenario: Scenario) -> dict[str, Any]:
    figures = simulate(scenario).figures
    ends = figures["settlement"]
    # Bound in the last moments, a trade may have been seen at one party alone, or at none.
    seen = sum(ends[name] for name in ("settled", "defaulted", "expired", "open"))
    assert 0 <= figures["trades"] - seen <= 3
    assert figures["agree"]
    return figures


def attacked(kind: AttackKind, **changes: Any) -> Scenario:
    return CALM.evolved(attack=(Attack(kind=kind, **changes),))


def test_what_binds_settles_a_few_blocks_later() -> None:
    figures = figures_of(CALM)
    ends = figures["settlement"]
    assert ends["settled"] > 100 and ends["defaulted"] == ends["expired"] == 0
    assert ends["open"] < 40, "those of the last blocks"
    assert 3_000 < figures["settlement_ms"]["p50"] < 7_000
    assert ends["taken_back"] == ends["final_undone"] == 0


def test_blocks_that_are_replaced_before_they_are_final_cost_time_alone() -> None:
    calm, figures = (
        figures_of(CALM),
        figures_of(attacked(AttackKind.REORGANISE, depth=3, every_s=10)),
    )
    assert figures["settlement"]["taken_back"] > 20
    assert figures["settlement"]["final_undone"] == 0
    assert figures["settlement_ms"]["max"] > calm["settlement_ms"]["max"]
    assert figures["settlement"]["settled"] > 0.8 * calm["settlement"]["settled"]


def test_deeper_than_its_confirmations_a_chain_undoes_what_was_final_and_that_is_seen() -> None:
    figures = figures_of(attacked(AttackKind.REORGANISE, depth=6, every_s=20))
    assert figures["settlement"]["final_undone"] > 0


def test_a_full_chain_makes_trades_wait_and_pay() -> None:
    calm = figures_of(CALM)
    spike = attacked(AttackKind.FEE_SPIKE, from_s=10, until_s=30, percent=1)
    figures = figures_of(spike.evolved(chain=Chain(block_ms=1_000, trades_per_block=100)))
    assert figures["settlement_ms"]["p99"] > 2 * calm["settlement_ms"]["p99"]
    assert figures["settlement"]["fees"] > 2 * figures["settlement"]["settled"]


def test_who_does_not_pay_is_named_by_the_chain_and_keeps_what_it_did_not_lose() -> None:
    ends = figures_of(attacked(AttackKind.DEFAULT, count=2))["settlement"]
    assert ends["defaulted"] > 5 and ends["kept_by_defaulters"] > 0
    assert ends["settled"] > ends["defaulted"]


def test_a_chain_with_too_little_room_lets_trades_expire_with_nobody_to_blame() -> None:
    chain = Chain(block_ms=5_000, confirmations=1, trades_per_block=2, lifetime_s=20)
    ends = figures_of(CALM.evolved(seconds=90, chain=chain))["settlement"]
    assert ends["settled"] > 5 and ends["expired"] > 10 and ends["defaulted"] == 0
