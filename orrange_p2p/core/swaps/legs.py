"""One leg of a swap, and what a chain shows of it.

A view is of the head that was looked at. Blocks are replaced until they are final, so a view is
never remembered as something that happened: it is asked for again.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from orrange_p2p.core.ids import Amount, MatchId

__all__ = ["Lock", "LockState", "LockView"]


class Lock(NamedTuple):
    """An amount that goes to its recipient by a secret, or back to its sender after a time."""

    chain: str
    """CAIP-2."""
    asset: str
    """CAIP-19."""
    amount: Amount
    """Exactly so much is locked; fees come on top."""
    hashlock: bytes
    """SHA-256 of the 32 secret bytes."""
    trade: MatchId
    sender: bytes
    """Who gets it back. EVM: 20 bytes, an address. Bitcoin: 33 bytes, a compressed public key."""
    recipient: bytes
    """Who gets it by the secret; written as ``sender``."""
    timelock_s: int
    """Seconds since the Unix epoch from which it can go back, by the chain's own time: on EVM
    chains a block's stamp, on Bitcoin the median time past."""


class LockState(enum.IntEnum):
    """Where a lock stands at a head."""

    ABSENT = 0
    """Neither in a block nor in sight of one, or not as it should be."""
    LOCKED = 1
    CLAIMED = 2
    """The recipient's, by the secret."""
    REFUNDED = 3
    """The sender's again."""


class LockView(NamedTuple):
    """What a chain shows of a lock at one head, and beyond it in the mempool."""

    state: LockState = LockState.ABSENT
    confirmations: int = 0
    """Blocks from the lock's own to the head, both counted; 0: in no block."""
    end_confirmations: int = 0
    """Likewise of the claim or refund."""
    preimage: bytes = b""
    """As soon as anything, the mempool included, shows it."""
    locked_by: str = ""
    """The transaction, for people."""
    ended_by: str = ""
    """The transaction that claimed or refunded it, for people."""
    problem: str = ""
    """Why a lock of this hashlock that is there does not count: other terms than agreed."""
