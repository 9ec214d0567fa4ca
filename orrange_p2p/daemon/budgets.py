"""What one peer may cost: a token bucket each (protocol/05-gossip.md, Validation and Bounds)."""

from __future__ import annotations

from typing import Final

from orrange_p2p.core.ids import PeerId

MAX_PEERS: Final = 4096
"""Buckets kept. The one least lately used gives way: a peer that comes back starts with a full one,
and connections are limited per address."""


class Budgets:
    """One bucket per peer, of the same size and refill. Time is an argument."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left: dict[PeerId, tuple[float, float]] = {}
        """What is left, and when that was."""

    def spend(self, peer: PeerId, cost: float, now_s: float) -> bool:
        """Take ``cost`` from the peer's bucket; False, and nothing is taken, if it is not there.

        ``cost`` may be at most the bucket's size, or it is never granted.
        """
        left = self._now(peer, now_s)
        is_granted = cost <= left
        self._left[peer] = (left - cost if is_granted else left, now_s)
        return is_granted

    def charge(self, peer: PeerId, cost: float, now_s: float) -> float:
        """Take ``cost`` even if it is not there; in how many seconds the debt will be paid off.

        The debt is at most as large as the bucket.
        """
        left = max(self._now(peer, now_s) - cost, -self._burst)
        self._left[peer] = (left, now_s)
        return max(0.0, -left / self._per_s)

    def _now(self, peer: PeerId, now_s: float) -> float:
        left, since = self._left.pop(peer, (self._burst, now_s))
        while len(self._left) >= MAX_PEERS:
            del self._left[next(iter(self._left))]
        return min(self._burst, left + (now_s - since) * self._per_s)
