"""How much of our pending matches may stand with one counterparty."""

from __future__ import annotations

from collections.abc import Container

from orrange_p2p.core.ids import Address, MatchId
from orrange_p2p.core.matches import Match


class Exposure:
    """Lots we have accepted in pending matches, by counterparty; a market and an author of its own.

    A match that is pending on the other side's accept is a promise of ours that it may let lapse,
    so this is what one counterparty can make us reserve for nothing. ``most_lots`` 0 is no limit.
    """

    def __init__(self, own: Address, most_lots: int) -> None:
        self._own = own
        self._most_lots = most_lots
        self._accepted: dict[Address, dict[MatchId, int]] = {}

    def note(self, match: Match) -> None:
        """We accepted it."""
        if self._most_lots:
            self._accepted.setdefault(self._counterparty(match), {})[match.id] = match.quantity

    def admits(self, match: Match, pending: Container[MatchId]) -> bool:
        """Whether accepting it keeps within the limit; those no longer pending are let go of."""
        if not self._most_lots:
            return True
        counterparty = self._counterparty(match)
        accepted = {
            id: lots
            for id, lots in self._accepted.get(counterparty, {}).items()
            if id in pending and id != match.id
        }
        if accepted:
            self._accepted[counterparty] = accepted
        else:
            self._accepted.pop(counterparty, None)
        return sum(accepted.values()) + match.quantity <= self._most_lots

    def _counterparty(self, match: Match) -> Address:
        maker = match.maker.author
        return maker if maker != self._own else match.taker.author
