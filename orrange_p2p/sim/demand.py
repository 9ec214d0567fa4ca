"""What traders are told to do, and when: the random crowd, and traders that mean ill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from orrange_p2p.core.ids import Address
from orrange_p2p.sim.engine import Dice
from orrange_p2p.sim.scenario import OF_TRADERS, Attack, AttackKind, Scenario
from orrange_p2p.sim.traders import Desk, RandomTrader

__all__ = ["Demand"]

FORK_EVERY_US: Final = 1_000_000


class Demand:
    """Drives the random traders of a scenario; the last of them are its attackers."""

    def __init__(
        self,
        scenario: Scenario,
        traders: Sequence[RandomTrader],
        quota_ppm: Mapping[Address, int],
    ) -> None:
        """``quota_ppm``: millionths of an order that the book lets each of them place a second,
        where reputation says it."""
        self._quota_ppm = quota_ppm
        self._per_s = scenario.traders.orders_per_s
        honest = list(traders)
        self._apart: list[tuple[RandomTrader, Attack]] = []
        self.attackers: list[RandomTrader] = []
        for attack in scenario.attack:
            if attack.kind in OF_TRADERS:
                for _ in range(attack.count):
                    trader = honest.pop()
                    self.attackers.append(trader)
                    self._apart.append((trader, attack))
        self.defaulters = [t for t, a in self._apart if a.kind is AttackKind.DEFAULT]
        refusing = [trader for trader, a in self._apart if a.kind is AttackKind.REFUSE]
        for trader in refusing:
            trader.refuses = True
        self._crowd = honest + refusing + self.defaulters

    def begin(self, desk: Desk) -> None:
        """Set everybody going."""
        if self._per_s and self._crowd:
            every_us = 1_000_000 // self._per_s
            dice = desk.engine.dice(0, "orders")
            desk.engine.after(every_us, self._order, desk, dice, every_us)
        for trader, attack in self._apart:
            if attack.kind is AttackKind.SPAM:
                desk.engine.at(attack.from_s * 1_000_000, self._spam, desk, trader, attack)
            elif attack.kind is AttackKind.FORK:
                desk.engine.after(FORK_EVERY_US, self._fork, desk, trader)

    def _order(self, desk: Desk, dice: Dice, every_us: int) -> None:
        trader = self._crowd[dice.below(len(self._crowd))]
        desk.write(trader, [trader.order()])
        desk.engine.after(every_us, self._order, desk, dice, every_us)

    def _spam(self, desk: Desk, trader: RandomTrader, attack: Attack) -> None:
        if desk.engine.now_us >= attack.until_s * 1_000_000:
            return
        per_s_ppm = attack.per_s * 1_000_000
        if attack.times:
            per_s_ppm = max(1, attack.times * self._quota_ppm[trader.address])
        desk.write(trader, [trader.order() for _ in range(attack.batch)])
        every_us = max(1, attack.batch * 10**12 // per_s_ppm)
        desk.engine.after(every_us, self._spam, desk, trader, attack)

    def _fork(self, desk: Desk, trader: RandomTrader) -> None:
        desk.fork(trader, trader.order(), trader.order())
        desk.engine.after(FORK_EVERY_US, self._fork, desk, trader)
