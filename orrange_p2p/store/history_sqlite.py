"""The events that reputation is made of, in one SQLite file for each chain.

All of it can be read off the chain again, so it is in no backup.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.core.histories import ChainEvent, EventKind
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Place
from orrange_p2p.ports.history import ReadTo
from orrange_p2p.store.chain_file import PROGRESS, ChainFile
from orrange_p2p.store.private_file import FileKind

__all__ = ["SqliteHistory", "open_sqlite_history"]

_SCHEMA: Final = """
CREATE TABLE events (
    block INTEGER NOT NULL,
    log INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    time_s INTEGER NOT NULL,
    subject BLOB NOT NULL,
    other BLOB NOT NULL,
    market BLOB NOT NULL,
    amount BLOB NOT NULL,
    until_s BLOB NOT NULL,
    paid BLOB NOT NULL,
    lots BLOB NOT NULL,
    anchor BLOB NOT NULL,
    since BLOB NOT NULL,
    bitcoin_key BLOB NOT NULL,
    peer_id BLOB NOT NULL,
    PRIMARY KEY (block, log)
) STRICT, WITHOUT ROWID;
CREATE INDEX bitcoin_bindings ON events (block, log) WHERE bitcoin_key != x'';
CREATE INDEX peer_bindings ON events (block, log) WHERE peer_id != x'';
"""
_KIND: Final = FileKind("a file of chain events", 0x4F524849, 4, _SCHEMA + PROGRESS)  # "ORHI"
_INSERT: Final = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteHistory:
    """Implements ``HistoryStore``. Made by ``open_sqlite_history``."""

    def __init__(self, path: Path, chain: str, contracts: bytes) -> None:
        """``contracts``: whose events these are. Blocks. Errors as ``ChainFile``'s."""
        self._file = ChainFile(path, _KIND, chain, contracts, _INSERT)

    async def read_to(self) -> ReadTo | None:
        return await self._file.read_to()

    async def append(self, events: Sequence[ChainEvent], read_to: ReadTo) -> None:
        await self._file.append(events, read_to, _row)

    async def events(self, last: int) -> Sequence[ChainEvent]:
        return await self._select("SELECT * FROM events WHERE block <= ? ORDER BY block, log", last)

    async def bitcoin_bindings(self) -> Sequence[ChainEvent]:
        return await self._select(
            "SELECT * FROM events WHERE bitcoin_key != x'' ORDER BY block, log"
        )

    async def peer_bindings(self) -> Sequence[ChainEvent]:
        return await self._select("SELECT * FROM events WHERE peer_id != x'' ORDER BY block, log")

    async def _select(self, query: str, *values: int) -> Sequence[ChainEvent]:
        rows = await self._file.select(query, *values)
        return [_event(self._file.chain, row) for row in rows]

    async def counts(self) -> dict[str, int]:
        rows = await self._file.select("SELECT kind, count(*) FROM events GROUP BY kind")
        return {EventKind(kind).name.lower(): count for kind, count in rows}

    async def aclose(self) -> None:
        await self._file.aclose()


def _row(event: ChainEvent) -> tuple[Any, ...]:
    # Amounts are 256 bits wide, SQLite's integers 64.
    return (
        event.place.block,
        event.place.log,
        int(event.kind),
        event.time_s,
        event.subject,
        event.other,
        event.market,
        event.amount.to_bytes(32, "big"),
        event.until_s.to_bytes(32, "big"),
        event.paid.to_bytes(32, "big"),
        event.lots.to_bytes(32, "big"),
        event.anchor,
        event.since.to_bytes(32, "big"),
        event.bitcoin_key,
        event.peer_id,
    )


def _event(chain: str, row: tuple[Any, ...]) -> ChainEvent:
    block, log, kind, time_s, subject, other, market, *amounts, anchor, since, key, peer_id = row
    amount, until_s, paid, lots = amounts
    return ChainEvent(
        Place(chain, block, log),
        EventKind(kind),
        time_s,
        Address(subject),
        Address(other),
        int.from_bytes(amount, "big"),
        int.from_bytes(until_s, "big"),
        market,
        int.from_bytes(paid, "big"),
        int.from_bytes(lots, "big"),
        anchor,
        int.from_bytes(since, "big"),
        key,
        peer_id,
    )


@asynccontextmanager
async def open_sqlite_history(
    path: Path, chain: str, contracts: bytes
) -> AsyncIterator[SqliteHistory]:
    """Open or create the file; closed on leaving. Arguments and errors as ``SqliteHistory``'s."""
    history = await trio.to_thread.run_sync(SqliteHistory, path, chain, contracts)
    try:
        yield history
    finally:
        await history.aclose()
