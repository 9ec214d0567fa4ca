"""The events that reputation is made of, in one SQLite file for each chain.

All of it can be read off the chain again, so it is in no backup.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.core.bitcoin_bonds import BitcoinBond
from orrange_p2p.core.errors import CallerError, ConfigError
from orrange_p2p.core.histories import ChainEvent, EventKind
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Place
from orrange_p2p.ports.history import ReadTo
from orrange_p2p.store.private_file import FileKind, PrivateFile

__all__ = ["SqliteHistory", "check_page", "open_sqlite_history"]

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
CREATE TABLE read_to (block INTEGER NOT NULL, hash BLOB NOT NULL, time_s INTEGER NOT NULL) STRICT;
CREATE TABLE source (chain TEXT NOT NULL, contracts BLOB NOT NULL) STRICT;
"""
_KIND: Final = FileKind("a file of chain events", 0x4F524849, 4, _SCHEMA)  # "ORHI"
_INSERT: Final = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteHistory:
    """Implements ``HistoryStore``. Made by ``open_sqlite_history``."""

    def __init__(self, path: Path, chain: str, contracts: bytes) -> None:
        """``contracts``: whose events these are. Blocks. Raises as ``PrivateFile``, and
        ``ConfigError`` for the events of others."""
        self._chain = chain
        source = (chain, contracts)
        self._file = PrivateFile(
            path, _KIND, lambda db: db.execute("INSERT INTO source VALUES (?, ?)", source)
        )
        self._db = self._file.db
        if self._db.execute("SELECT chain, contracts FROM source").fetchone() != source:
            self._file.close()
            raise ConfigError(f"{path} has the events of other contracts: remove it")

    async def read_to(self) -> ReadTo | None:
        return await self._file.run(self._read_to)

    def _read_to(self) -> ReadTo | None:
        row = self._db.execute("SELECT block, hash, time_s FROM read_to").fetchone()
        return None if row is None else ReadTo(*row)

    async def append(self, events: Sequence[ChainEvent], read_to: ReadTo) -> None:
        await self._file.run(lambda: self._append(events, read_to))

    def _append(self, events: Sequence[ChainEvent], read_to: ReadTo) -> None:
        check_page(self._read_to(), events, read_to)
        self._db.executemany(_INSERT, map(_row, events))
        self._db.execute("DELETE FROM read_to")
        self._db.execute("INSERT INTO read_to VALUES (?, ?, ?)", read_to)

    async def events(self, last: int) -> Sequence[ChainEvent]:
        return await self._select("SELECT * FROM events WHERE block <= ? ORDER BY block, log", last)

    async def bitcoin_bindings(self) -> Sequence[ChainEvent]:
        return await self._select(
            "SELECT * FROM events WHERE bitcoin_key != x'' ORDER BY block, log"
        )

    async def peer_bindings(self) -> Sequence[ChainEvent]:
        return await self._select("SELECT * FROM events WHERE peer_id != x'' ORDER BY block, log")

    async def _select(self, query: str, *values: int) -> Sequence[ChainEvent]:
        rows = await self._file.run(lambda: self._db.execute(query, values).fetchall())
        return [_event(self._chain, row) for row in rows]

    async def counts(self) -> dict[str, int]:
        query = "SELECT kind, count(*) FROM events GROUP BY kind"
        rows = await self._file.run(lambda: self._db.execute(query).fetchall())
        return {EventKind(kind).name.lower(): count for kind, count in rows}

    async def aclose(self) -> None:
        await self._file.aclose()


def check_page(
    last: ReadTo | None, events: Sequence[ChainEvent | BitcoinBond], read_to: ReadTo
) -> None:
    """Raises ``CallerError`` for a page that does not go on from the last one."""
    after = -1 if last is None else last.block
    if read_to.block <= after:
        raise CallerError(f"events are kept up to block {after}: none to {read_to.block} is new")
    if any(not after < event.place.block <= read_to.block for event in events):
        raise CallerError(f"a page of blocks {after + 1} to {read_to.block} has events of others")


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
