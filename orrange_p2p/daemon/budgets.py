"""What one peer, or one author, may cost: a token bucket each (protocol/05-gossip.md, Validation
and Bounds)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

MAX_BUCKETS: Final = 4096
"""The one least lately used gives way: who comes back starts with a full one. Connections are
limited per address, and authors by the network's rules."""

Payer = TypeVar("Payer", bound=Hashable)


class Budgets(Generic[Payer]):
    """One bucket per payer, of the same size and refill. Time is an argument."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left: dict[Payer, tuple[float, float]] = {}
        """What is left, and when that was."""

    def spend(self, payer: Payer, cost: float, now_s: float) -> bool:
        """Take ``cost`` from the payer's bucket; False, and nothing is taken, if it is not there.

        ``cost`` may be at most the bucket's size, or it is never granted.
        """
        left = self._now(payer, now_s)
        is_granted = cost <= left
        self._left[payer] = (left - cost if is_granted else left, now_s)
        return is_granted

    def charge(self, payer: Payer, cost: float, now_s: float) -> float:
        """Take ``cost`` even if it is not there; in how many seconds the debt will be paid off.

        The debt is at most as large as the bucket.
        """
        left = max(self._now(payer, now_s) - cost, -self._burst)
        self._left[payer] = (left, now_s)
        return max(0.0, -left / self._per_s)

    def _now(self, payer: Payer, now_s: float) -> float:
        left, since = self._left.pop(payer, (self._burst, now_s))
        while len(self._left) >= MAX_BUCKETS:
            del self._left[next(iter(self._left))]
        return min(self._burst, left + (now_s - since) * self._per_s)
