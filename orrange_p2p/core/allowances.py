"""What an author's entries may take of everybody's lines, disks and processors
(protocol/05-gossip.md, Validation).

The book's limits make operations void; the entries that carry them are signed, sent and kept all
the same. So a node lets an author bring only so many bytes, where each entry costs some more than
it has. In a network that elects its witnesses the whole is divided by reputation, as the limits
are. Beside it there is a smaller common part, for whoever has no reputation or has used its own up:
a name gets a sixteenth of it at most, and all names together no more than there is.

Nodes need not agree on any of this, and time is an argument: microseconds of any clock that does
not run backwards.
"""

from __future__ import annotations

from typing import Final

from orrange_p2p.core.ids import Address
from orrange_p2p.core.roster import Roster

__all__ = ["ENTRY_COST_BYTES", "Allowances"]

WHOLE_PER_S: Final = 1 << 20
"""Bytes a second, sustained. An author that alone brings 10,000 orders a second, 32 to an entry,
with their accepts, needs two thirds of it."""
WHOLE_BURST: Final = 8 << 20
"""At once: what a node that was cut off for some seconds has to hand in later."""
ENTRY_COST_BYTES: Final = 1024
"""What an entry costs besides its bytes: a signature check, a row, a look at every neighbour."""
COMMON_PER_S: Final = WHOLE_PER_S // 16
COMMON_BURST: Final = 64 << 10
NAME_PER_S: Final = COMMON_PER_S // 16
NAME_BURST: Final = 16 << 10
"""Of the common part, for one name."""
SECOND_US: Final = 1_000_000
MAX_BUCKETS: Final = 8192
"""The one least lately used gives way: who comes back starts with a full one."""


class _Bucket:
    """What is left, in millionths of a byte."""

    __slots__ = ("left", "since_us")

    def __init__(self, left: int, since_us: int) -> None:
        self.left = left
        self.since_us = since_us

    def fill(self, per_s: int, burst: int, now_us: int) -> None:
        passed_us = max(0, now_us - self.since_us)
        self.left = min(burst * SECOND_US, self.left + passed_us * per_s)
        self.since_us = now_us


class Allowances:
    """A bucket for each owner, session keys included, and the common one."""

    def __init__(self, whole_per_s: int = WHOLE_PER_S, whole_burst: int = WHOLE_BURST) -> None:
        self._per_s = whole_per_s
        self._burst = whole_burst
        self._roster: Roster | None = None
        self._worths: dict[Address, int] = {}
        self._sum = 0
        self._own: dict[Address, _Bucket] = {}
        self._names: dict[Address, _Bucket] = {}
        self._common = _Bucket(COMMON_BURST * SECOND_US, 0)

    def take_roster(self, roster: Roster) -> None:
        """Divide by what this roster says from now on. Never told any, everybody has the whole."""
        if roster is not self._roster:
            self._roster = roster
            self._worths = {one.author: one.reputation for one in roster.standings}
            self._sum = sum(self._worths.values())

    def spend(self, owner: Address, size: int, now_us: int) -> bool:
        """Take an entry of ``size`` bytes out of its owner's bucket, or else out of the common one;
        False if both are empty. What is taken beyond what is there is a debt, which is paid off
        first: else an entry larger than a bucket would be the end of its log."""
        cost = (ENTRY_COST_BYTES + size) * SECOND_US
        per_s, burst = self._per_s, self._burst
        if self._roster is not None:
            worth, whole = self._worths.get(owner, 0), max(1, self._sum)
            per_s, burst = per_s * worth // whole, burst * worth // whole
        own = _bucket(self._own, owner, per_s, burst, now_us)
        if own.left > 0:
            own.left -= cost
            return True
        if self._roster is None:
            return False
        name = _bucket(self._names, owner, NAME_PER_S, NAME_BURST, now_us)
        self._common.fill(COMMON_PER_S, COMMON_BURST, now_us)
        if min(name.left, self._common.left) <= 0:
            return False
        name.left -= cost
        self._common.left -= cost
        return True


def _bucket(
    buckets: dict[Address, _Bucket], owner: Address, per_s: int, burst: int, now_us: int
) -> _Bucket:
    """The bucket of an owner, filled up to now."""
    found = buckets.pop(owner, None)
    while len(buckets) >= MAX_BUCKETS:
        del buckets[next(iter(buckets))]
    if found is None:
        found = _Bucket(burst * SECOND_US, now_us)
    buckets[owner] = found
    found.fill(per_s, burst, now_us)
    return found
