"""From what the home chain shows up to a pin to the roster of an era (protocol/12-eras.md).

A pure function of the events up to the pinned block: every node that read them makes the same
rosters, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from orrange_p2p.core import reputation
from orrange_p2p.core.bitcoin_bonds import BitcoinBond, known_at
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.histories import ChainEvent, EventKind, day_of, histories
from orrange_p2p.core.ids import MAX_UINT63, ZERO32, Address, Era, MarketId
from orrange_p2p.core.reputation import Place
from orrange_p2p.core.roster import (
    CAP_FROM,
    MAX_STANDINGS,
    Candidate,
    Pin,
    Roster,
    Standing,
    elect,
    of_genesis,
)

__all__ = ["Allocation", "Candidacy", "Election", "OwnerRecord"]


class Candidacy(NamedTuple):
    """A key that its owner named for a market."""

    key: Address
    anchor: bytes
    since: int


class Allocation(NamedTuple):
    """What an owner said of its bond for a key in a market."""

    market: bytes
    key: Address
    said: int
    """Smallest units."""
    counted: int
    """As much of it as the bond, after the allocations before it, still reaches; 0 for a convicted
    key."""


class OwnerRecord(NamedTuple):
    """An owner as a pinned block shows it."""

    keys: tuple[Address, ...]
    """Bound to it, in that order."""
    convicted: tuple[Address, ...]
    allocations: tuple[Allocation, ...]
    """In the order in which they count."""
    stands: dict[bytes, Candidacy]
    """By market."""


class _Owner:
    """What an owner said of its bond and its keys."""

    __slots__ = ("allocated", "bonded", "convicted", "keys", "stands")

    def __init__(self) -> None:
        self.bonded = 0
        """Smallest units that can be slashed, what is on its way out not included."""
        self.allocated: dict[tuple[bytes, Address], int] = {}
        """By market and key, in the order in which it was last said."""
        self.stands: dict[bytes, Candidacy] = {}
        """By market: one key in each, the one named last."""
        self.keys: dict[Address, None] = {}
        self.convicted: dict[Address, None] = {}


class Election:
    """Everything that rosters are made of, at a pinned block."""

    def __init__(
        self,
        genesis: Genesis,
        pin: Pin,
        time_s: int,
        events: Iterable[ChainEvent],
        bonds: Iterable[BitcoinBond] = (),
    ) -> None:
        """``time_s``: of the pinned block. Events of later blocks do not count, nor do ``bonds`` on
        Bitcoin that are too young then."""
        self._genesis = genesis
        self._pin = pin
        self.time_s = time_s
        known = sorted([event for event in events if event.place.block <= pin.block])
        day = day_of(time_s)
        self._scores = {
            account: reputation.score(history, day).total
            for account, history in histories(genesis, known, known_at(bonds, time_s)).items()
        }
        self._owners: dict[Address, _Owner] = {}
        self._registered: dict[Address, Place] = {}
        """Owners and their keys, since when."""
        self._convicted: set[Address] = set()
        for event in known:
            self._note(event)

    def _note(self, event: ChainEvent) -> None:
        kind, subject, key = event.kind, event.subject, event.other
        if kind is EventKind.SETTLED or kind is EventKind.DEFAULTED:
            return
        owner = self._owners.get(subject)
        if owner is None:
            owner = self._owners[subject] = _Owner()
        if kind is EventKind.BONDED:
            self._registered.setdefault(subject, event.place)
            owner.bonded += event.amount
        elif kind is EventKind.UNBONDING:
            owner.bonded -= event.amount
        elif kind is EventKind.BOUND:
            self._registered.setdefault(subject, event.place)
            self._registered.setdefault(key, event.place)
            owner.keys[key] = None
        elif kind is EventKind.SLASHED:
            owner.bonded = 0
            owner.convicted[key] = None
            self._convicted.add(key)
        elif kind is EventKind.ALLOCATED:
            owner.allocated.pop((event.market, key), None)
            if event.amount:
                owner.allocated[event.market, key] = event.amount
        elif kind is EventKind.STOOD:
            if any(event.anchor):
                owner.stands[event.market] = Candidacy(key, event.anchor, event.since)
            elif owner.stands.get(event.market, _NOBODY).key == key:
                del owner.stands[event.market]

    def owner(self, address: Address) -> OwnerRecord | None:
        """None for somebody who is no owner."""
        owner = self._owners.get(address)
        if owner is None:
            return None
        rows = [
            Allocation(
                market, key, owner.allocated[market, key], 0 if key in self._convicted else amount
            )
            for market, key, amount in _counted(owner)
        ]
        return OwnerRecord(
            tuple(owner.keys), tuple(owner.convicted), tuple(rows), dict(owner.stands)
        )

    def roster(self, market: MarketId, era: Era) -> Roster:
        """Of an era in a market. Genesis' witnesses keep the clock while there are fewer candidates
        than it takes to survive the loss of one."""
        backed = self._backed(market)
        least = min(CAP_FROM, self._genesis.parameters.elected_witnesses)
        seats = elect(
            self._candidates(market, era, backed), self._genesis.parameters.elected_witnesses
        )
        if len(seats) < least:
            seats = of_genesis(self._genesis, market, era).seats
        return Roster(era, self._pin, seats, self._standings(backed))

    def _backed(self, market: MarketId) -> dict[Address, Standing]:
        """By key, what its owner allocated to it in a market, as far as the bond goes."""
        unit = self._genesis.parameters.bond_unit
        backed = {}
        for address, owner in self._owners.items():
            score = self._scores.get(address, 0)
            for where, key, amount in _counted(owner):
                if where == market and amount and key not in self._convicted:
                    share = score * amount // owner.bonded
                    backed[key] = Standing(
                        key, min(share, MAX_UINT63), min(amount // unit, MAX_UINT63)
                    )
        return backed

    def _candidates(
        self, market: MarketId, era: Era, backed: dict[Address, Standing]
    ) -> list[Candidate]:
        found = []
        lasts = self._genesis.parameters.chain_eras
        for owner in self._owners.values():
            stands = owner.stands.get(market)
            if stands is None or stands.key not in backed or stands.since > era:
                continue
            if era >= stands.since + lasts:
                continue  # its chain has no reveals for all of the era
            worth = backed[stands.key].reputation
            found.append(Candidate(stands.key, worth, stands.anchor, Era(stands.since)))
        return found

    def _standings(self, backed: dict[Address, Standing]) -> tuple[Standing, ...]:
        rows = []
        for address, since in self._registered.items():
            if address not in self._convicted:
                one = backed.get(address, Standing(address, 0, 0))
                rows.append((-one.reputation, -one.bond, since, one))
        # Those who are worth the same by how long they are known: names that come in masses later
        # push nobody out.
        rows.sort()
        return tuple(sorted([row[3] for row in rows[:MAX_STANDINGS]]))


def _counted(owner: _Owner) -> list[tuple[bytes, Address, int]]:
    """(market, key, amount): of each allocation as much as the bond still reaches."""
    left, rows = owner.bonded, []
    for (market, key), said in owner.allocated.items():
        amount = min(said, left)
        left -= amount
        rows.append((market, key, amount))
    return rows


_NOBODY: Final = Candidacy(Address(ZERO32[:20]), ZERO32, 0)
