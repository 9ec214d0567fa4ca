"""Shared machines against machines of one's own: the same results, whoever is first, last or off
the path."""

from __future__ import annotations

from typing import Any

import pytest

from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.replica import Replica
from orrange_p2p.sim.run import MARKET, simulate
from orrange_p2p.sim.scenario import Attack, AttackKind, Partition, Scenario, Traders

SMALL = Scenario(
    seconds=10, nodes=10, witnesses=4, degree=4, traders=Traders(random=6, orders_per_s=20)
)


def plain(genesis: Genesis) -> Replica:
    return Replica(genesis, MARKET.id)


def figures(scenario: Scenario, *, is_shared: bool) -> dict[str, Any]:
    found = simulate(scenario, replica=None if is_shared else plain).figures
    del found["machine"]
    return found


@pytest.mark.parametrize(
    "scenario",
    [
        SMALL,
        SMALL.evolved(seed=2, loss_ppm=300_000),
        SMALL.evolved(partition=(Partition(from_s=2, until_s=6),)),
        SMALL.evolved(attack=(Attack(kind=AttackKind.FORK),)),
        SMALL.evolved(
            partition=(Partition(from_s=2, until_s=8),),
            attack=(Attack(kind=AttackKind.TWINS, count=2),),
        ),
    ],
    ids=["calm", "lossy", "partition", "fork", "broken"],
)
def test_sharing_changes_nothing(scenario: Scenario) -> None:
    assert figures(scenario, is_shared=True) == figures(scenario, is_shared=False)
