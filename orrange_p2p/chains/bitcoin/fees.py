"""How much a transaction offers, and how much more the one that replaces it."""

from __future__ import annotations

from typing import Final

from orrange_p2p.chains.bitcoin.coins import fee_of

__all__ = ["INCREMENT_RATE", "blocks_left", "first_rate", "next_rate", "replacement_fee"]

INCREMENT_RATE: Final = 1_000
"""What nodes ask for on top of what is replaced (BIP-125 rule 4), per 1,000 vbytes of the new."""
BLOCK_S: Final = 600
_PATIENT: Final = 6
_URGENT: Final = 3


def blocks_left(by_s: int, now_s: int) -> int:
    """Blocks to expect until a time; at least 1."""
    return max(1, (by_s - now_s) // BLOCK_S)


def target(left: int) -> int:
    """Within how many blocks to be mined: half of the time, so that the other half is for bumps."""
    return max(1, min(_PATIENT, left // 2))


def first_rate(estimate: int | None, least: int, floor: int, cap: int) -> int:
    """Never above ``cap``, even if less would not be forwarded now: it waits."""
    return min(cap, max(estimate or 0, least, floor))


def next_rate(last: int, now: int, waited: int, left: int, patience: int, cap: int) -> int:
    """What to offer after ``waited`` blocks of which none took it; ``last`` if nothing better."""
    wanted = now
    if waited >= patience or left <= _URGENT:
        wanted = max(wanted, last * 5 // 4)
    if left <= _URGENT:
        wanted = max(wanted, last * 3 // 2)
    if wanted < last + INCREMENT_RATE:
        return last
    return max(last, min(cap, wanted))


def replacement_fee(vsize: int, rate: int, replaced_fee: int) -> int:
    """At ``rate``, and what replaces has to pay at least."""
    return max(fee_of(vsize, rate), replaced_fee + fee_of(vsize, INCREMENT_RATE))
