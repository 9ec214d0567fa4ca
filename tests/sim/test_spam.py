"""Spam at many times its quota: what others pay for it, and that the model would show it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orrange_p2p.core.allowances import Allowances
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.p2p.limits import DEFAULT_LIMITS
from orrange_p2p.sim import links as links_module
from orrange_p2p.sim.links import Links
from orrange_p2p.sim.run import simulate
from orrange_p2p.sim.scenario import Attack, AttackKind, Eras, Scenario, Traders
from orrange_p2p.sim.spam import compared, pairs_of

SPAMMED = Scenario(
    name="spammed",
    seconds=5,
    nodes=16,
    witnesses=4,
    degree=4,
    copy_us=450,
    eras=Eras(era_s=3600),
    traders=Traders(random=10, orders_per_s=10),
    attack=(Attack(kind=AttackKind.SPAM, count=3, times=100, bond=4, from_s=1),),
)


def rises_of(scenario: Scenario) -> dict[str, Any]:
    runs = [(one, simulate(one)) for one in pairs_of(scenario, 1)]
    return compared(scenario, runs)


def test_a_hundred_times_the_quota_costs_others_next_to_nothing() -> None:
    figures = rises_of(SPAMMED)
    (row,) = figures["rows"]
    assert row["agree"] and row["orders"] > 100 * row["orders_of_others"]
    assert row["entries_not_let_through"] > 1000
    assert -5 < figures["rise_percent"]["p50"]["median"] < 10
    assert figures["rise_percent"]["mean"]["most"] < 10


def test_without_allowances_it_would_stop_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Allowances, "spend", lambda self, owner, size, now_us: True)
    figures = simulate(SPAMMED.evolved(seconds=3)).figures
    assert figures["agree"] and figures["over_allowance"] == 0
    assert figures["propagation_ms"]["p50"] > 1_000


def test_what_a_copy_costs_delays_what_comes_after_it() -> None:
    links = Links(SPAMMED, [0] * 16, list(range(16)))
    first = links.spread(0, 0, 200)
    for _ in range(200):
        second = links.spread(0, 0, 200)
    reached = np.arange(16) != 0
    late_us = (second.arrives_us - first.arrives_us)[reached]
    assert (late_us > 200 * 450 / 2).all(), "each node gets at least one copy of each"
    calm = links.spread(5_000_000, 0, 200)
    assert abs(int(calm.arrives_us.max()) - int(first.arrives_us.max())) < 100_000


def test_what_is_only_looked_at_takes_half_of_a_neighbours_processor() -> None:
    links = Links(SPAMMED, [0] * 16, list(range(16)))
    neighbour = links.mesh[0][0]
    for _ in range(5000):
        links.burden(0, 0)
    assert links._flood_us[neighbour] == 450 * DEFAULT_LIMITS.inbound_peer_messages
    links._busy_us[:] = 10_000
    links._drain(10_000)
    assert links._busy_us[neighbour] == 5_000
    far = next(n for n in range(1, 16) if n not in links.mesh[0])
    assert links._busy_us[far] == 0
    assert DEFAULT_LIMITS.inbound_peer_messages == links_module.HELD_BACK


def test_a_quota_needs_reputation_and_a_pair_needs_spammers() -> None:
    with pytest.raises(ConfigError, match="needs \\[eras\\]"):
        SPAMMED.evolved(eras=None)
    with pytest.raises(ConfigError, match="no attack of kind spam"):
        pairs_of(SPAMMED.evolved(attack=()), 1)
