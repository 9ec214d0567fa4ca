"""The chain port: what settlement needs of a chain with accounts, and what must outlive a crash.

A chain can take back what it showed: blocks are replaced until they are final. So nothing here is
an event that happened once; all is a state that can be asked for again.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from orrange_p2p.core.ids import Address, Amount

__all__ = [
    "Attempt",
    "Block",
    "Chain",
    "Cursor",
    "Fees",
    "Intent",
    "IntentRecord",
    "IntentState",
    "IntentStatus",
    "IntentStore",
    "Log",
    "LogFilter",
    "Logs",
    "Outcome",
    "Rewind",
]


class Block(NamedTuple):
    """A block as far as it matters here."""

    number: int
    hash: bytes
    parent: bytes
    """Hash of the block before."""
    time_s: int
    """Its stamp, in seconds since the Unix epoch: chains count in seconds."""


class Fees(NamedTuple):
    """What a transaction that should be mined soon offers, per unit of gas (EIP-1559)."""

    base_fee_wei: int
    """What the next block burns."""
    priority_fee_wei: int
    """For the block's producer."""
    max_fee_wei: int
    """The most that is paid in all; never above the configured cap."""


class Intent(NamedTuple):
    """A transaction that we want to happen once, by a name that its caller chose."""

    name: str
    """1 to 128 printable characters, unique on the chain: the same name is the same transaction."""
    sender: Address
    to: Address | None
    """None creates a contract from ``data``."""
    data: bytes = b""
    value: Amount = Amount(0)
    gas_limit: int | None = None
    """None: what the chain estimates, and a quarter more."""


class IntentState(enum.Enum):
    """Where an intent stands. Only the last three are for ever."""

    PENDING = "pending"
    """Signed and kept; in no block, or in none any more."""
    MINED = "mined"
    """In a block that may still be replaced."""
    FINAL = "final"
    """In a final block, and it succeeded."""
    FAILED = "failed"
    """In a final block, and it was reverted: it only cost its fee."""
    DROPPED = "dropped"
    """It can never be mined: in a final block its nonce went to a transaction that is not ours."""


class IntentStatus(NamedTuple):
    """What is known of an intent at the head that was looked at last."""

    name: str
    state: IntentState
    nonce: int
    tx_hash: bytes
    """Of the attempt that was mined; while none is, of the newest."""
    attempts: int
    """How many transactions were signed for it; each after the first replaces the one before."""
    block: tuple[int, bytes] | None = None
    """Number and hash of the block it is in."""
    confirmations: int = 0
    """Blocks from that one to the head, both counted; 0 while it is in none."""
    reverted: bool = False
    fee_wei: Amount = Amount(0)
    """What it cost, once it is in a block."""
    note: str = ""
    """Why it waits, if that is known: for people."""


class LogFilter(NamedTuple):
    """Which logs to follow."""

    addresses: tuple[Address, ...]
    """Contracts; none named: all."""
    topics: tuple[tuple[bytes, ...], ...] = ()
    """For each position the values that fit; none named: any."""


class Log(NamedTuple):
    """One event of a contract."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int
    """Its place in the block."""


class Cursor(NamedTuple):
    """How far logs were followed; to be kept together with what was made of them."""

    number: int
    hash: bytes
    """Of that block. If another one has taken its place, the follower goes back."""
    final_number: int
    final_hash: bytes
    """The newest block then final, at or before ``number``: how far it may have to go back."""


class Logs(NamedTuple):
    """The logs of the blocks since the last cursor, in order; often none."""

    logs: tuple[Log, ...]
    cursor: Cursor


class Rewind(NamedTuple):
    """Blocks were replaced: logs of blocks after ``cursor.number`` never happened."""

    cursor: Cursor


class Chain(Protocol):
    """One chain, seen through endpoints that may fail, lag and lie.

    ``UnreachableError`` or ``DeadlineError``: no endpoint answers now. ``DisagreementError``: they
    contradict each other, and somebody has to decide whom to trust. ``RefusedError``: they answer
    that they will not.
    """

    @property
    def chain_id(self) -> str:
        """CAIP-2, such as ``eip155:1``."""
        ...

    async def head(self) -> Block:
        """The newest block."""
        ...

    async def finalized(self) -> Block:
        """The newest block that is never replaced. Does not go back."""
        ...

    async def balance(self, account: Address) -> Amount:
        """Native coin of an account at the head, in its smallest unit."""
        ...

    async def call(self, to: Address, data: bytes, *, sender: Address | None = None) -> bytes:
        """What a contract would answer at the head. Raises ``RevertedError`` if it would refuse."""
        ...

    async def fees(self) -> Fees:
        """What a transaction sent now would offer."""
        ...

    async def submit(self, intent: Intent) -> IntentStatus:
        """See to it that ``intent`` is mined once; returns when it is kept and was offered once.

        From then on it is broadcast again, and replaced by one with a higher fee, until it is
        final, whatever crashes between. The same intent again is a no-op that says how it stands;
        another one under a name that is taken raises ``CallerError``. ``RevertedError``, without a
        trace left, if the chain already says that it would fail.
        """
        ...

    async def status(self, name: str) -> IntentStatus | None:
        """How an intent stands; None if there is none of this name."""
        ...

    async def wait(
        self, name: str, *, confirmations: int | None = None, timeout_s: float
    ) -> IntentStatus:
        """Return when an intent has so many confirmations, or is what it will be for ever.

        ``DeadlineError`` after ``timeout_s`` seconds; ``CallerError`` if there is no such intent.
        """
        ...

    def follow(self, wanted: LogFilter, start: int | Cursor) -> AsyncIterator[Logs | Rewind]:
        """Logs from block ``start``, or from where a kept cursor stands, up to the head and on.

        Every log of a block that stays comes at least once, in order; what was replaced is taken
        back by a ``Rewind``. ``ReorganisedError`` if a final block was replaced; ``WorldError`` or
        ``MalformedError`` if head after head nothing usable is answered.
        """
        ...

    def counters(self) -> dict[str, int]:
        """Running totals by name: endpoints failed, replaced transactions, rewinds."""
        ...

    def alarms(self) -> Sequence[str]:
        """What somebody has to look at: endpoints that were caught contradicting others."""
        ...


class Attempt(NamedTuple):
    """One signed transaction of an intent."""

    tx_hash: bytes
    raw: bytes
    """What is broadcast."""
    max_fee_wei: int
    priority_fee_wei: int
    head: int
    """Number of the newest block when it was signed."""


class Outcome(NamedTuple):
    """What became of an intent in a final block."""

    state: IntentState
    tx_hash: bytes
    block: tuple[int, bytes]
    fee_wei: Amount


class IntentRecord(NamedTuple):
    """An intent as it is kept."""

    intent: Intent
    nonce: int
    gas_limit: int
    attempts: tuple[Attempt, ...]
    """Oldest first; never empty."""
    outcome: Outcome | None = None


class IntentStore(Protocol):
    """What a sender of transactions must not forget, for one chain.

    Every write returns only after it would survive a power failure. Two intents never share a
    sender's nonce, whatever the caller does. ``StoreError`` if the disk fails.
    """

    async def add(self, record: IntentRecord) -> None:
        """Keep a new intent with its first attempt; then broadcast it.

        Raises ``CallerError``, and keeps nothing, if its name or its sender's nonce is taken.
        """
        ...

    async def add_attempt(self, name: str, attempt: Attempt) -> None:
        """Keep a replacement; then broadcast it. ``CallerError`` if the intent is unknown or has
        its outcome."""
        ...

    async def conclude(self, name: str, outcome: Outcome) -> None:
        """Keep what became of an intent. The same again is a no-op; another raises
        ``CallerError``."""
        ...

    async def get(self, name: str) -> IntentRecord | None:
        """One intent."""
        ...

    async def pending(self) -> Sequence[IntentRecord]:
        """Intents without an outcome, by sender and nonce."""
        ...

    async def next_nonce(self, sender: Address) -> int:
        """One past the highest nonce kept for a sender; 0 if there is none."""
        ...

    async def meta(self, name: str) -> bytes | None:
        """A small value kept under a name."""
        ...

    async def set_meta(self, name: str, value: bytes) -> None:
        """Keep a small value under a name."""
        ...
