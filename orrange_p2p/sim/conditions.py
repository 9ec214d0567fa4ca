"""What changes about a network while it runs: partitions, nodes that come and go, and neighbours
that mean it ill."""

from __future__ import annotations

from typing import Final

import numpy as np

from orrange_p2p.sim.engine import Engine
from orrange_p2p.sim.links import NEVER, Links
from orrange_p2p.sim.scenario import AttackKind, Churn, Growth, Partition, Scenario

__all__ = ["Conditions"]

SECOND_US: Final = 1_000_000


class Conditions:
    """Sets the links of a scenario's network as its time goes on."""

    def __init__(self, scenario: Scenario, engine: Engine, links: Links) -> None:
        self._scenario = scenario
        self._engine = engine
        self._links = links
        self._away = np.zeros(links.count, np.bool_)
        self._to_come = np.zeros(links.count, np.bool_)
        self._there = links.count
        order = list(range(scenario.witnesses, scenario.nodes))
        engine.dice(0, "conditions").shuffle(order)
        self._listeners = order
        """Nodes that are no witnesses, in an order that is drawn."""

    def begin(self) -> None:
        """Set up what holds from the start, and everything else going."""
        scenario, engine = self._scenario, self._engine
        for partition in scenario.partition:
            engine.at(partition.from_s * SECOND_US, self._divide, partition)
            engine.at(partition.until_s * SECOND_US, self._heal)
        for churn in scenario.churn:
            for number, second in enumerate(range(churn.from_s, churn.until_s, churn.away_s)):
                engine.at(second * SECOND_US, self._send_away, churn, number)
            engine.at(churn.until_s * SECOND_US, self._send_away, churn, None)
        if scenario.growth is not None:
            for second in range(scenario.growth.until_s + 1):
                engine.at(second * SECOND_US, self._grow, scenario.growth, second)
        self._misbehave()

    def _divide(self, partition: Partition) -> None:
        numbers = np.arange(self._links.count)
        side = numbers % partition.sides
        # The second life of a witness is elsewhere than the first.
        for twin, host in enumerate(self._links.hosts[self._scenario.nodes :]):
            side[self._scenario.nodes + twin] = (host + 1) % partition.sides
        self._links.side[:] = side
        self._links.note_changed()

    def _heal(self) -> None:
        self._links.side[:] = 0
        self._links.note_changed()

    def _send_away(self, churn: Churn, number: int | None) -> None:
        """The ``number``-th group of nodes goes, the one before comes back; None: all come back."""
        self._away[:] = False
        size = len(self._listeners) * churn.percent // 100
        if number is not None and size:
            first = number * size % len(self._listeners)
            around = self._listeners[first:] + self._listeners[:first]
            self._away[around[:size]] = True
        self._apply()

    def _grow(self, growth: Growth, second: int) -> None:
        last = max(1, growth.until_s - growth.from_s)
        passed = min(max(0, second - growth.from_s), last)
        factor = self._scenario.nodes / growth.start
        there = round(growth.start * factor ** (passed / last))
        if there == self._there:
            return
        self._there = there
        self._to_come[:] = False
        self._to_come[there : self._scenario.nodes] = True
        self._links.weave(there if there < self._scenario.nodes else self._links.count)
        self._apply()

    def _apply(self) -> None:
        self._links.online[:] = ~(self._away | self._to_come)
        self._links.note_changed()

    def _misbehave(self) -> None:
        links = self._links
        for attack in self._scenario.attack:
            if attack.kind is AttackKind.SYBIL:
                links.mute[self._listeners[: len(self._listeners) * attack.percent // 100]] = True
            elif attack.kind is AttackKind.ECLIPSE:
                hold_us = attack.delay_ms * 1000 if attack.delay_ms else NEVER
                links.hold_us[self._listeners[-attack.count :]] = hold_us
        links.note_changed()
