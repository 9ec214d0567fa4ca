"""What a sender on Bitcoin must not forget, for one chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from orrange_p2p.core.swaps.legs import Lock

__all__ = ["BitcoinAttempt", "BitcoinIntent", "BitcoinStore", "Kept", "KeptBlock"]


class BitcoinAttempt(NamedTuple):
    """One signed transaction of an intent."""

    txid: bytes
    raw: bytes
    """What is broadcast."""
    fee: int
    rate: int
    """Satoshis per 1,000 vbytes."""
    height: int
    """Of the head when it was signed."""
    refund: bytes = b""
    """Of a lock: the transaction that takes it back, signed before the lock was sent."""


class BitcoinIntent(NamedTuple):
    """Something that is to happen once on the chain."""

    name: str
    """``lock``, ``cancel``, ``claim``, ``refund`` or ``child``, and which lock; ``bond`` or
    ``unbond``, and which bond."""
    lock: Lock
    """Of a bond: without recipient and hashlock; ``trade`` is the name that its maker gave it."""
    preimage: bytes = b""
    by_s: int = 0
    """Before when, by the chain's time; 0: no hurry."""
    handed_out: bool = False
    """Somebody else holds transactions that build on the newest attempt."""
    done: bool = False
    """Deep enough that nothing has to be done for it any more."""


class KeptBlock(NamedTuple):
    """A block that was looked at."""

    height: int
    hash: bytes
    median_s: int


class Kept(NamedTuple):
    """All that is kept."""

    blocks: Sequence[KeptBlock]
    """Oldest first; the newest ones only."""
    transactions: Sequence[tuple[int, bytes]]
    """Height and bytes of what concerns us, in the order of the chain."""
    scripts: Sequence[bytes]
    """That are watched beside the wallet's."""
    intents: Sequence[BitcoinIntent]
    attempts: Sequence[tuple[str, BitcoinAttempt]]
    """By the intent's name, oldest first."""
    preimages: Sequence[bytes]


class BitcoinStore(Protocol):
    """Every write returns only after it would survive a power failure. ``StoreError`` if the disk
    fails."""

    async def load(self) -> Kept: ...

    async def connect(self, block: KeptBlock, found: Sequence[tuple[int, bytes]]) -> None:
        """A block after the newest one, with what in it (or, for the first, before it) concerns
        us: heights and bytes."""
        ...

    async def disconnect(self, height: int) -> None:
        """Blocks after ``height`` are gone, and what they held."""
        ...

    async def watch(self, script: bytes, found: Sequence[tuple[int, bytes]]) -> None:
        """A script is watched from now on; ``found`` was in blocks before."""
        ...

    async def add(self, intent: BitcoinIntent, attempt: BitcoinAttempt | None) -> None:
        """An intent, new or changed, and its next attempt; both or neither."""
        ...

    async def add_preimage(self, preimage: bytes) -> None:
        """What was once shown is known for ever."""
        ...
