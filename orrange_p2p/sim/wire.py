"""Networks of which only the wire is simulated: how ticks and entries spread, with sizes as they
are on the wire. Nothing is computed from them, so very large networks fit."""

from __future__ import annotations

from typing import Final

import numpy as np

from orrange_p2p.sim.conditions import Conditions
from orrange_p2p.sim.engine import Dice, Engine
from orrange_p2p.sim.links import NEVER, Links
from orrange_p2p.sim.measures import Counts, Measures
from orrange_p2p.sim.scenario import Scenario

__all__ = ["Wire"]

ENTRY_BYTES: Final = 260
"""An entry of one order."""
TICK_BYTES: Final = 300
"""A tick, beside its parents and what it lists."""
DIGEST_BYTES: Final = 34


class Wire:
    """The wire of a scenario's network."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.engine = Engine(scenario.seed)
        numbers = range(scenario.nodes)
        places = [number % len(scenario.places) for number in numbers]
        self.links = Links(scenario, places, numbers)
        self.measures = Measures()
        self.propagation: Counts = np.zeros(1, np.int64)
        self.unreached = 0
        """Nodes, over all messages, that were there and got it neither by mesh nor by heartbeat."""
        Conditions(scenario, self.engine, self.links).begin()
        per_s = scenario.traders.orders_per_s
        if per_s and scenario.traders.random:
            dice = self.engine.dice(0, "orders")
            self.engine.after(1_000_000 // per_s, self._order, dice, 1_000_000 // per_s)
        for number in range(scenario.witnesses):
            self.engine.at(self.engine.dice(number, "wire").below(1000), self._tick, number)

    def run_to(self, second: int) -> None:
        """Let simulated time pass up to there."""
        self.engine.run(second * 1_000_000)

    def _order(self, dice: Dice, every_us: int) -> None:
        self.engine.after(every_us, self._order, dice, every_us)
        home = dice.below(min(self.scenario.nodes, self.scenario.traders.random))
        self.measures.counts["orders"] += 1
        self._publish(home, ENTRY_BYTES, self.scenario.flush_ms * 1000)

    def _tick(self, witness: int) -> None:
        scenario = self.scenario
        every_us = scenario.min_round_ms * 1000
        self.engine.after(every_us, self._tick, witness)
        listed = scenario.traders.orders_per_s * scenario.min_round_ms // 1000
        self.measures.counts["ticks"] += 1
        self._publish(witness, TICK_BYTES + DIGEST_BYTES * (scenario.witnesses + listed))

    def _publish(self, origin: int, size: int, waits_us: int = 0) -> None:
        links, counts = self.links, self.measures.counts
        if not links.online[origin]:
            return
        spread = links.spread(self.engine.now_us, origin, size)
        came = spread.arrives_us[spread.arrives_us < NEVER]
        counts["facts"] += 1
        counts["taken"] += len(came)
        self.unreached += int(np.count_nonzero(links.online)) - len(came)
        self.measures.note_spread(spread, size)
        found = np.bincount((came[came > 0] + waits_us) // 1000)
        if len(found) > len(self.propagation):
            found[: len(self.propagation)] += self.propagation
            self.propagation = found
        else:
            self.propagation[: len(found)] += found
