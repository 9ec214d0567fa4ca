"""What a peer has earned: gossipsub 1.1's score with the parameters of this network.

The numbers are derived in protocol/decisions/0008-peer-scores.md. Time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from attrs import define
from libp2p.peer.id import ID

from orrange_p2p.p2p.limits import KIB, Limits

__all__ = ["Scores"]

MAX_SCORED: Final = 4096
"""Peers remembered, connected or not: who reconnects finds its score again."""
HALF_LIFE_S: Final = 60.0
INVALID_UNIT_BYTES: Final = 256 * KIB
"""What is invalid counts one, and one more for this many bytes: size is what it cost us."""
BEHAVIOUR_TOLERATED: Final = 10.0
"""An honest peer's GRAFT may cross our PRUNE, once per topic and heartbeat at most."""
DELIVERIES_CAP: Final = 100.0
DELIVERY_WEIGHT: Final = 0.005
STANDING_WEIGHT: Final = 0.5
"""Being useful and having something to lose are worth 1 at most together, so that neither pays for
a single invalid message."""


@define
class _Record:
    since: float
    invalid: float = 0.0
    behaviour: float = 0.0
    delivered: float = 0.0


class Scores:
    """Scores of peers; all counters halve every ``HALF_LIFE_S``.

    ``score = 0.005 min(delivered, 100) + 0.5 standing - invalid^2 - max(0, behaviour - 10)^2``.
    Below zero a peer is in no mesh; at ``-rejects^2`` it is graylisted: nothing is read from it,
    and it is banned.
    """

    def __init__(self, limits: Limits) -> None:
        self._graylist = -(float(limits.rejects) ** 2)
        self._records: OrderedDict[ID, _Record] = OrderedDict()
        self._standings: Mapping[ID, float] = {}

    def favour(self, standings: Mapping[ID, float]) -> None:
        """What owners of peers are worth, 0 .. 1, instead of what was said before (P5)."""
        self._standings = {peer: min(1.0, max(0.0, one)) for peer, one in standings.items()}

    def invalid(self, peer: ID, size: int, now_s: float) -> None:
        """It handed on what is objectively invalid (P4)."""
        self._record(peer, now_s).invalid += 1 + size / INVALID_UNIT_BYTES

    def misbehaved(self, peer: ID, now_s: float) -> None:
        """It did what an honest peer does at most by accident (P7)."""
        self._record(peer, now_s).behaviour += 1

    def delivered(self, peer: ID, now_s: float) -> None:
        """It was the first to bring a valid message (P2)."""
        record = self._record(peer, now_s)
        record.delivered = min(record.delivered + 1, DELIVERIES_CAP)

    def of(self, peer: ID, now_s: float) -> float:
        """0 for a peer we know nothing of."""
        standing = STANDING_WEIGHT * self._standings.get(peer, 0.0)
        if peer not in self._records:
            return standing
        record = self._record(peer, now_s)
        excess = max(0.0, record.behaviour - BEHAVIOUR_TOLERATED)
        useful = DELIVERY_WEIGHT * record.delivered + standing
        return useful - record.invalid**2 - excess**2

    def is_graylisted(self, peer: ID, now_s: float) -> bool:
        return self.of(peer, now_s) <= self._graylist

    def forgive(self, peer: ID) -> None:
        """Its ban says it now; when that ends it starts anew."""
        self._records.pop(peer, None)

    def _record(self, peer: ID, now_s: float) -> _Record:
        record = self._records.pop(peer, None) or _Record(now_s)
        while len(self._records) >= MAX_SCORED:
            self._records.popitem(last=False)
        self._records[peer] = record
        left = 0.5 ** ((now_s - record.since) / HALF_LIFE_S)
        record.since = now_s
        record.invalid *= left
        record.behaviour *= left
        record.delivered *= left
        return record
