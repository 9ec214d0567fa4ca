"""When what has to happen in a swap (protocol/09-swaps.md, Times).

One pure function of the two chains and of when the trade bound, so both parties have the same
times without a word between them. All in whole seconds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import TimeMs

__all__ = ["CHAIN_CLASSES", "ChainClass", "Schedule", "chain_classes", "is_base_long", "schedule"]

START_S: Final = 600
"""From the epoch in which a trade binds until its first lock was sent, a restart included."""
REACT_S: Final = 120
"""From what a chain shows until a live node has acted on it."""


class ChainClass(NamedTuple):
    """What swaps need to know of a chain."""

    confirmations: int
    """Blocks after which what a chain shows is relied on; reorganisations are shallower."""
    confirm_s: int
    """From broadcast to so many blocks, but for one transaction in a thousand."""
    ahead_s: int
    """How far the time by which it judges timelocks may be before the true time."""
    behind_s: int
    """How far after."""
    claim_s: int
    """What a claimant gets beyond that: for an endpoint that is down, and for fees that soar."""


CHAIN_CLASSES: Final = {
    # Three blocks: 112 minutes at p99.9. Median time past: a stamp may be two hours early; and it
    # is of the sixth block before the head: 165 minutes at p99.9.
    "btc": ChainClass(3, 6_720, 7_200, 9_900, 32_400),
    # 64 slots are two finalised epochs; stamps are those of slots.
    "evm": ChainClass(64, 1_800, 60, 60, 7_200),
    # Development chains: a block with each transaction, or each few seconds.
    "dev": ChainClass(2, 120, 60, 60, 600),
}
"""By the names that ``Market.timing`` puts together."""


class Schedule(NamedTuple):
    """Seconds since the Unix epoch. All but ``long_timelock_s`` are by the short leg's chain."""

    lock_long_by_s: int
    """The initiator sends no lock later."""
    long_deep_by_s: int
    """Its lock is as deep as its chain needs, or is called off."""
    lock_short_by_s: int
    """The responder sends no lock later."""
    short_deep_by_s: int
    """Likewise of the responder's."""
    reveal_by_s: int
    """The initiator shows the secret up to then, or never."""
    short_timelock_s: int
    """The responder's lock can go back."""
    long_timelock_s: int
    """The initiator's lock can go back; by its own chain's time."""


def chain_classes(timing: str) -> tuple[ChainClass, ChainClass]:
    """Of base and quote, of a market with this timing, such as ``btc-evm``. Raises
    ``ConfigError``."""
    base, _, quote = timing.partition("-")
    if base not in CHAIN_CLASSES or quote not in CHAIN_CLASSES:
        known = ", ".join(CHAIN_CLASSES)
        raise ConfigError(f"timing {timing!r}: <base>-<quote> of {known}, such as btc-evm")
    return CHAIN_CLASSES[base], CHAIN_CLASSES[quote]


def is_base_long(base: ChainClass, quote: ChainClass) -> bool:
    """Whether the base leg is the long one: it is on the slower chain, or both are alike.

    Whoever gives what is on the slow chain holds the secret: waiting for that chain a second time,
    with the other's coins locked, would be the dearer way round.
    """
    return base.confirm_s >= quote.confirm_s


def schedule(bound_ms: TimeMs, long: ChainClass, short: ChainClass) -> Schedule:
    """The times of a swap whose trade bound at this epoch time."""
    lock_long_by = -(-bound_ms // 1000) + START_S
    long_deep_by = lock_long_by + long.confirm_s
    lock_short_by = long_deep_by + REACT_S
    short_deep_by = lock_short_by + short.confirm_s
    reveal_by = short_deep_by + REACT_S
    # A claim sent at the last moment gets its blocks before the chain thinks that it is time.
    short_timelock = reveal_by + short.behind_s + short.claim_s + short.confirm_s + short.ahead_s
    # The race between claim and refund is over; the secret that came out in it has all its time.
    decided = short_timelock + short.behind_s + short.confirm_s + REACT_S
    long_timelock = decided + long.claim_s + long.confirm_s + long.ahead_s
    return Schedule(
        lock_long_by,
        long_deep_by,
        lock_short_by,
        short_deep_by,
        reveal_by,
        short_timelock,
        long_timelock,
    )
