"""Who keeps the clock of an era and what authors are worth in it (protocol/12-eras.md).

A roster is read off the home chain at a pinned block, by every node for itself, so it is a value
like any other: equal blocks, equal rosters, equal digests. The state commits to the digests of the
present era's and, from some time before the end on, of the next one's: who read another one is told
apart by its root, and who trusts one era's witnesses can follow them to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple

import attrs

from orrange_p2p.core import codec
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import ZERO32, Address, Era, MarketId, TimeMs, Weight
from orrange_p2p.core.witnesses import MAX_WEIGHT, MAX_WITNESSES, WitnessTable

__all__ = [
    "Candidate",
    "Pin",
    "Roster",
    "RosterRequest",
    "Seat",
    "Standing",
    "capped",
    "decode_roster",
    "elect",
    "of_genesis",
]

MAX_STANDINGS: Final = 8192
MAX_ROSTER_BYTES: Final = 256 * 1024
"""It travels like a part of a checkpoint."""
FIRST_ERA: Final = Era(0)
CAP_FROM: Final = 4
"""From so many witnesses on none has more than one part in so many of the weight."""
WEIGHT_UNIT: Final = 1 << 20
"""What the worthiest candidate weighs before the cap."""


class Pin(NamedTuple):
    """The block of the home chain that a roster was read at; zeros for that of genesis."""

    block: int
    hash: bytes


class Seat(NamedTuple):
    """One witness of the era."""

    witness: Address
    weight: Weight
    anchor: bytes
    """32 bytes: the hash of the reveal at position 0 of its chain for this market."""
    since: Era
    """Position 0 is round 0 of this era."""


class Standing(NamedTuple):
    """What an author is worth during the era."""

    author: Address
    reputation: int
    """In this market: R as far as the author's bond is allocated to it here, micro-units."""
    bond: int
    """Slashable and allocated to it here, micro-units: what bounds its exposure."""


class RosterRequest(NamedTuple):
    """Which roster a replica waits for."""

    era: Era
    pin_ms: TimeMs
    """It is read at the last block that is stamped no later."""


@attrs.frozen(slots=True)
class Roster:
    """Of one era in one market."""

    era: Era
    pin: Pin
    seats: tuple[Seat, ...]
    """Ascending by witness."""
    standings: tuple[Standing, ...]
    """Ascending by author; whoever is not here may not trade, unless the network is open."""

    def __attrs_post_init__(self) -> None:
        """Raises ``InvalidError`` for what is no roster."""
        if not 1 <= len(self.seats) <= MAX_WITNESSES:
            raise InvalidError("a roster of no or too many witnesses")
        for names in ([s.witness for s in self.seats], [s.author for s in self.standings]):
            if any(first >= second for first, second in pairwise(names)):
                raise InvalidError("a roster is not in ascending order of addresses, each once")
        if any(not 1 <= seat.weight <= MAX_WEIGHT or seat.since > self.era for seat in self.seats):
            raise InvalidError("a seat of no weight, or of a later era")

    @cached_property
    def table(self) -> WitnessTable:
        return WitnessTable({seat.witness: seat.weight for seat in self.seats})

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the encoded record: what the state commits to."""
        return sha256(self.encode()).digest()

    def seat_of(self, witness: Address) -> Seat | None:
        """The seat of a witness; None for somebody else."""
        place = self.table.index_of(witness)
        return None if place < 0 else self.seats[place]

    def encode(self) -> bytes:
        return codec.encode((self.era, self.pin, self.seats, self.standings))


def decode_roster(data: bytes) -> Roster:
    """Raises ``OversizedError``, ``MalformedError`` or ``InvalidError``."""
    record = codec.array(codec.decode_canonical(data, MAX_ROSTER_BYTES), 4, "roster")
    pin = codec.array(record[1], 2, "pin of roster")
    return Roster(
        Era(codec.uint(record[0], "era of roster")),
        Pin(codec.uint(pin[0], "block of pin"), codec.octets(pin[1], 32, "hash of pin")),
        tuple([_seat(item) for item in codec.items(record[2], MAX_WITNESSES, "seats")]),
        tuple([_standing(item) for item in codec.items(record[3], MAX_STANDINGS, "standings")]),
    )


def _seat(value: codec.Value) -> Seat:
    item = codec.array(value, 4, "seat")
    return Seat(
        Address(codec.octets(item[0], 20, "witness of seat")),
        Weight(codec.uint(item[1], "weight of seat")),
        codec.octets(item[2], 32, "anchor of seat"),
        Era(codec.uint(item[3], "since of seat")),
    )


def _standing(value: codec.Value) -> Standing:
    item = codec.array(value, 3, "standing")
    return Standing(
        Address(codec.octets(item[0], 20, "author of standing")),
        codec.uint(item[1], "reputation of standing"),
        codec.uint(item[2], "bond of standing"),
    )


def of_genesis(genesis: Genesis, market: MarketId, era: Era = FIRST_ERA) -> Roster:
    """That of era 0, and in a network that elects nobody, of every era. What genesis says an author
    is worth counts as its bond, too: nothing else can, before there is a registry to read.

    The first roster of those that are alike: a witness's next chain of reveals makes another one.
    """
    lasts = genesis.parameters.chain_eras
    seats, first = [], 0
    anchors = genesis.anchors(market)
    for witness in genesis.witnesses:
        chains = anchors[witness.address]
        number = min(era // lasts, len(chains) - 1)  # whose last chain is over has no more reveals
        first = max(first, number * lasts)
        since = Era(number * lasts)
        seats.append(Seat(witness.address, witness.weight, chains[number], since))
    standings = [Standing(a.address, a.reputation, a.reputation) for a in genesis.authors]
    return Roster(Era(first), Pin(0, ZERO32), tuple(seats), tuple(standings))


# --- election ---


class Candidate(NamedTuple):
    """Somebody who stands for the seats of a market."""

    witness: Address
    worth: int
    """Its reputation, as far as its bond is allocated to this market."""
    anchor: bytes
    since: Era


def elect(candidates: Iterable[Candidate], seats: int) -> tuple[Seat, ...]:
    """The worthiest candidates, at most ``seats`` of them, ascending by witness; whoever is worth
    nothing is not elected. Of two that are worth the same the lower address is taken."""
    chosen = sorted((c for c in candidates if c.worth > 0), key=lambda c: (-c.worth, c.witness))
    chosen = chosen[:seats]
    if not chosen:
        return ()
    most = chosen[0].worth
    weights = {c.witness: max(1, c.worth * WEIGHT_UNIT // most) for c in chosen}
    weights = capped(weights)
    taken = [Seat(c.witness, Weight(weights[c.witness]), c.anchor, c.since) for c in chosen]
    return tuple(sorted(taken))


def capped(weights: Mapping[Address, int]) -> dict[Address, int]:
    """The weights, none of them above a fourth of their sum; as they are for fewer than four.

    The cap is the largest ``c`` with ``CAP_FROM * c <= sum(min(weight, c))``: cutting the largest
    down lowers the sum, so it is looked for among the sums of what stays.
    """
    if len(weights) < CAP_FROM:
        return dict(weights)
    low, high = 1, max(weights.values())
    while low < high:
        middle = (low + high + 1) // 2
        if CAP_FROM * middle <= sum(min(weight, middle) for weight in weights.values()):
            low = middle
        else:
            high = middle - 1
    return {address: min(weight, low) for address, weight in weights.items()}
