"""Eras of a simulated network: who stands for seats, who is convicted, and what nodes read of it.

Everybody has been bonded for long when the network starts. A roster is what production's election
makes of the home chain at a pin; nodes that ask for the same pin get the same one, made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import attrs

from orrange_p2p.core.genesis import CLOSING_ROUNDS, Genesis, Parameters
from orrange_p2p.core.ids import Address, Era, TimeMs, Weight
from orrange_p2p.core.roster import Roster, RosterRequest
from orrange_p2p.sim.engine import Engine
from orrange_p2p.sim.homechain import DAY_MS, LONGEST_LOCK_DAYS, MARKET, HomeChain, named
from orrange_p2p.sim.scenario import Eras, Scenario

__all__ = [
    "REGISTRY",
    "TRADER_BOND",
    "WHOLE",
    "Elections",
    "Stander",
    "elected_parameters",
    "rounds_needed",
]

REGISTRY: Final = Address(b"\x0e" * 20)
BONDED_DAYS: Final = 200
"""Before the start: everybody is of full age."""
WHOLE: Final = 1_000_000
"""Micro-units of a whole one, in which scenarios tell bonds."""
TRADER_BOND: Final = 1_000
"""Of each trader, whole ones."""
FEE_PERMILLE: Final = 1
"""Of what a trade is paid with, burned when it settles."""
NO_ANCHOR: Final = bytes(32)


class Stander(NamedTuple):
    """Somebody who may stand for the seats, in the order of witnesses."""

    key: Address
    anchor: bytes


def rounds_needed(scenario: Scenario, eras: Eras) -> int:
    """Of an era: what its time has room for, and twice what closing takes."""
    return eras.era_s * 1000 // scenario.min_round_ms + 2 * CLOSING_ROUNDS


def elected_parameters(scenario: Scenario, parameters: Parameters) -> Parameters:
    """The same with eras, if the scenario has any."""
    eras = scenario.eras
    if eras is None:
        return parameters
    return attrs.evolve(
        parameters,
        era_ms=eras.era_s * 1000,
        pin_ms=eras.pin_s * 1000,
        handover_ms=eras.handover_s * 1000,
        elected_witnesses=eras.seats,
        rounds_per_era=rounds_needed(scenario, eras),
    )


class Elections:
    """The home chain of a run."""

    def __init__(
        self,
        scenario: Scenario,
        eras: Eras,
        engine: Engine,
        genesis: Genesis,
        standers: Sequence[Stander],
        traders: Mapping[Address, int],
    ) -> None:
        """``traders``: what each has bonded, whole ones."""
        self._scenario = scenario
        self._eras = eras
        self._engine = engine
        self._genesis = genesis
        self._standers = standers
        first_ms = genesis.start_ms - 2 * BONDED_DAYS * DAY_MS
        self.chain = HomeChain(genesis.home_chain, first_ms, eras.block_ms)
        self._owners: dict[Address, Address] = {}
        self._slashed: set[Address] = set()
        self._rosters: dict[RosterRequest, Roster] = {}
        self.present_era = Era(0)
        """The latest that a node began."""
        bonded_ms = genesis.start_ms - BONDED_DAYS * DAY_MS
        bonds = {one.witness: one.bond for one in scenario.candidate}
        for number, stander in enumerate(standers):
            self._bond(bonded_ms, stander.key, bonds.get(number, Eras.BOND) * WHOLE)
        for key, bond in traders.items():
            self._bond(bonded_ms, key, bond * WHOLE)
        for number, stander in enumerate(standers):
            if scenario.candidacy(number).from_s == 0:
                self._stand(bonded_ms, stander, 0)

    def _bond(self, time_ms: int, key: Address, amount: int) -> None:
        owner = self._owners[key] = named(f"owner of 0x{key.hex()}")
        until_ms = self._genesis.start_ms + LONGEST_LOCK_DAYS * DAY_MS
        if amount:
            self.chain.bond(time_ms, owner, amount, until_ms)
        self.chain.bind(time_ms, owner, key)
        if amount:
            self.chain.allocate(time_ms, owner, key, MARKET.id, amount)

    def _stand(self, time_ms: int, stander: Stander, since: int, anchor: bytes = b"") -> None:
        owner = self._owners[stander.key]
        anchor = anchor or stander.anchor
        self.chain.stand(time_ms, owner, stander.key, MARKET.id, anchor, since)

    def begin(self) -> None:
        """Set going what is to happen on the chain."""
        for number, stander in enumerate(self._standers):
            one = self._scenario.candidacy(number)
            if one.from_s:
                self._engine.at(one.from_s * 1_000_000, self._join, stander)
            if one.until_s < self._scenario.seconds:
                self._engine.at(one.until_s * 1_000_000, self._leave, stander)

    def _now_ms(self) -> TimeMs:
        return TimeMs(self._genesis.start_ms + self._engine.now_us // 1000)

    def _join(self, stander: Stander) -> None:
        self._stand(self._now_ms(), stander, self.present_era + 1)

    def _leave(self, stander: Stander) -> None:
        self._stand(self._now_ms(), stander, 0, NO_ANCHOR)

    # --- what the network shows the chain ---

    def note_guilty(self, key: Address) -> None:
        """Somebody has a proof against that key, and shows it to the registry."""
        if key not in self._slashed:
            self._slashed.add(key)
            self._engine.after(self._eras.slash_after_s * 1_000_000, self._slash, key)

    def _slash(self, key: Address) -> None:
        self.chain.slash(self._now_ms(), self._owners[key], key)

    def note_settled(self, buyer: Address, seller: Address, paid: int) -> None:
        """A trade is final."""
        burned = paid * FEE_PERMILLE // 1000
        self.chain.settle(self._now_ms(), buyer, seller, MARKET.id, burned)

    # --- what nodes read ---

    @property
    def read_within_us(self) -> int:
        return self._eras.read_within_ms * 1000

    def roster(self, request: RosterRequest) -> Roster:
        """What a node reads."""
        found = self._rosters.get(request)
        if found is None:
            election = self.chain.election(self._genesis, request.pin_ms)
            found = self._rosters[request] = election.roster(MARKET.id, request.era)
        return found

    def another(self, request: RosterRequest) -> Roster:
        """What somebody reads who is misled: its first seat weighs half of what it does."""
        roster = self.roster(request)
        first = roster.seats[0]
        half = first._replace(weight=Weight(max(1, first.weight // 2)))
        return attrs.evolve(roster, seats=(half, *roster.seats[1:]))

    def figures(self, names: Mapping[Address, str]) -> list[dict[str, object]]:
        """Each era's roster, as it was read."""
        return [
            {
                "era": int(request.era),
                "pin": roster.pin.block,
                "witnesses": {names[seat.witness]: int(seat.weight) for seat in roster.seats},
                "digest": roster.digest.hex()[:16],
            }
            for request, roster in sorted(self._rosters.items(), key=lambda one: one[0])
        ]
