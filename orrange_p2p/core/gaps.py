"""Which records to ask peers for, and when (protocol/05-gossip.md): gossip loses some of them.

Pure: told what the replica lacks and the time, it says what is due. Asking is its owner's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from orrange_p2p.core.ids import Address, Digest, Era
from orrange_p2p.core.replica import Replica

PATIENCE_MS: Final = 300
"""A listed entry is given this long to arrive by gossip before we ask for it."""
MAX_TRIES: Final = 8
MAX_ASKED: Final = 256
"""Digests in one request: a page of frames holds about as many."""
LAG_ROUNDS: Final = 3
"""Others may be this many rounds further without our asking: their ticks are on their way."""


class Gaps:
    """What a replica has been lacking, and how often it was asked for."""

    __slots__ = ("_first_missed",)

    def __init__(self) -> None:
        self._first_missed: dict[Digest, tuple[int, int]] = {}
        """When we first missed a record, and how often we asked."""

    def note_missing(self, replica: Replica, now_ms: int) -> tuple[Digest, ...]:
        """What has been missing for long enough to ask for it now."""
        lacked: Iterable[Digest] = (
            *replica.wanted_ticks(),
            *replica.wanted_entries(4 * MAX_ASKED),
        )
        known = self._first_missed
        self._first_missed = missed = {d: known.get(d, (now_ms, 0)) for d in lacked}
        due = [d for d, (since, _) in missed.items() if now_ms - since >= PATIENCE_MS]
        return tuple(due[:MAX_ASKED])

    def note_asked(
        self, replica: Replica, due: Iterable[Digest], now_ms: int, peer_count: int
    ) -> None:
        """A peer is asked for these. What nobody could serve is given up, unless the cut needs it.

        Somebody who has it gets two chances to say so, however many they are.
        """
        blocking = {entry.digest for entry in replica.blocking()}
        most_tries = max(MAX_TRIES, 2 * peer_count)
        hopeless = []
        for digest in due:
            tries = self._first_missed[digest][1] + 1
            self._first_missed[digest] = (now_ms, tries)
            if tries > most_tries and digest not in blocking:
                hopeless.append(digest)
        replica.forget_wanted(hopeless)


def is_behind(replica: Replica, heard: Mapping[Address, tuple[int, int]]) -> bool:
    """Whether witnesses of more than a third, so an honest one, are some rounds further.

    ``heard``: per witness the latest (era, round) of which a tick was seen.
    """
    here: tuple[Era, int] = (replica.era, replica.clock.highest_quorum_round + LAG_ROUNDS)
    table = replica.table
    further = {witness for witness, latest in heard.items() if latest > here}
    return table.more_than_third(table.weight_of_set(further))
