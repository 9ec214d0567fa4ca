"""What is needed of a node of the Bitcoin network, by whatever protocol it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from orrange_p2p.crypto.bitcoin import Block, OutPoint, Tx, TxOut

__all__ = ["Backend", "Found", "Header"]


class Header(NamedTuple):
    """A block on the best chain, or one that was."""

    height: int
    hash: bytes
    parent: bytes
    time_s: int
    median_s: int
    """Median time past: what timelocks in the next block are judged by (BIP-113)."""
    on_chain: bool = True


class Found(NamedTuple):
    """An unspent output in a block."""

    outpoint: OutPoint
    output: TxOut
    height: int


class Backend(Protocol):
    """Raises ``UnreachableError``, ``DeadlineError``, ``RefusedError``, ``MalformedError``."""

    async def best(self) -> Header:
        """The head."""
        ...

    async def header(self, block_hash: bytes) -> Header | None:
        """None if it does not know that block."""
        ...

    async def hash_at(self, height: int) -> bytes | None:
        """On the best chain; None above the head."""
        ...

    async def block(self, block_hash: bytes) -> Block:
        """Checked to be of that hash."""
        ...

    async def encoded_block(self, block_hash: bytes) -> bytes:
        """Its header is checked to be of that hash, and nothing else."""
        ...

    async def pool(self) -> list[bytes]:
        """Ids of all transactions that wait."""
        ...

    async def waiting(self, txid: bytes) -> Tx | None:
        """One of them; None if it waits no longer."""
        ...

    async def spenders(self, places: Sequence[OutPoint]) -> list[bytes]:
        """Those of them that spend one of ``places``."""
        ...

    async def unspent_at(self, place: OutPoint) -> Found | None:
        """That output; None if no block has it, or one spends it."""
        ...

    async def send(self, raw: bytes) -> str:
        """Empty if it waits now, or did; else why not."""
        ...

    async def rate(self, blocks: int) -> int | None:
        """What should be mined within so many, in satoshis per 1,000 vbytes; None: not known."""
        ...

    async def least_rate(self) -> int:
        """What is forwarded at all now."""
        ...

    async def unspent(self, scripts: Sequence[bytes]) -> list[Found]:
        """All unspent outputs in blocks with these scripts. May take minutes."""
        ...
