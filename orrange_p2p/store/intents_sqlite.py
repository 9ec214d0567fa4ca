"""What a node has sent to one chain, or is about to: one SQLite file per chain.

Apart from the node's store, since a chain outlives networks: the same key sends for all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.core.errors import CallerError, ConfigError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.ports.chain import Attempt, Intent, IntentRecord, IntentState, Outcome
from orrange_p2p.store.private_file import FileKind, PrivateFile

__all__ = ["SqliteIntents", "open_sqlite_intents"]

_CHAIN: Final = "store.chain"

_SCHEMA: Final = """
CREATE TABLE intents (
    name TEXT PRIMARY KEY,
    sender BLOB NOT NULL,
    nonce INTEGER NOT NULL,
    recipient BLOB,
    data BLOB NOT NULL,
    value BLOB NOT NULL, -- 32 bytes, big-endian: more than SQLite's integers hold
    wanted_gas INTEGER,
    gas_limit INTEGER NOT NULL,
    UNIQUE (sender, nonce)
) WITHOUT ROWID, STRICT;
CREATE TABLE attempts (
    name TEXT NOT NULL REFERENCES intents,
    number INTEGER NOT NULL,
    tx_hash BLOB NOT NULL UNIQUE,
    raw BLOB NOT NULL,
    max_fee_wei TEXT NOT NULL,
    priority_fee_wei TEXT NOT NULL,
    head INTEGER NOT NULL,
    PRIMARY KEY (name, number)
) WITHOUT ROWID, STRICT;
CREATE TABLE outcomes (
    name TEXT PRIMARY KEY REFERENCES intents,
    state TEXT NOT NULL,
    tx_hash BLOB NOT NULL,
    block_number INTEGER NOT NULL,
    block_hash BLOB NOT NULL,
    fee_wei TEXT NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;
"""

_KIND: Final = FileKind("a file of sent transactions", 0x4F524349, 1, _SCHEMA)  # "ORCI"
_SELECT: Final = """
SELECT i.*, o.state, o.tx_hash, o.block_number, o.block_hash, o.fee_wei
FROM intents i LEFT JOIN outcomes o ON o.name = i.name
"""


class SqliteIntents:
    """Implements ``IntentStore``. Made by ``open_sqlite_intents``."""

    def __init__(self, path: Path, chain: str) -> None:
        """Blocks. Raises as ``PrivateFile``, and ``ConfigError`` for the file of another chain."""
        row = (_CHAIN, chain.encode())
        self._file = PrivateFile(
            path, _KIND, lambda db: db.execute("INSERT INTO meta VALUES (?, ?)", row)
        )
        self._db = self._file.db
        (kept,) = self._db.execute("SELECT value FROM meta WHERE name=?", (_CHAIN,)).fetchone()
        if kept != chain.encode():
            self._file.close()
            raise ConfigError(f"{path} belongs to chain {kept.decode()}, not {chain}")

    # --- the port ---

    async def add(self, record: IntentRecord) -> None:
        await self._file.run(lambda: self._add(record))

    async def add_attempt(self, name: str, attempt: Attempt) -> None:
        await self._file.run(lambda: self._add_attempt(name, attempt))

    async def conclude(self, name: str, outcome: Outcome) -> None:
        await self._file.run(lambda: self._conclude(name, outcome))

    async def get(self, name: str) -> IntentRecord | None:
        return await self._file.run(lambda: next(self._records("WHERE i.name=?", name), None))

    async def pending(self) -> Sequence[IntentRecord]:
        where = "WHERE o.name IS NULL ORDER BY i.sender, i.nonce"
        return await self._file.run(lambda: list(self._records(where)))

    async def next_nonce(self, sender: Address) -> int:
        query = "SELECT max(nonce) FROM intents WHERE sender=?"

        def read() -> int:
            (highest,) = self._db.execute(query, (sender,)).fetchone()
            return 0 if highest is None else int(highest) + 1

        return await self._file.run(read)

    async def meta(self, name: str) -> bytes | None:
        query = "SELECT value FROM meta WHERE name=?"
        row = await self._file.run(lambda: self._db.execute(query, (name,)).fetchone())
        return None if row is None else bytes(row[0])

    async def set_meta(self, name: str, value: bytes) -> None:
        query = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value=excluded.value"
        await self._file.run(lambda: self._db.execute(query, (name, value)))

    async def backup(self, path: Path) -> None:
        """As ``copy``, while others use the store."""
        await self._file.backup(path)

    async def aclose(self) -> None:
        """Wait for the write under way and close the file."""
        await self._file.aclose()

    def copy(self, path: Path) -> None:
        """As ``PrivateFile.copy``. Blocks."""
        self._file.copy(path)

    def close(self) -> None:
        """Blocks, and waits for nobody."""
        self._file.close()

    # --- in the thread ---

    def _add(self, record: IntentRecord) -> None:
        intent = record.intent
        if self._db.execute("SELECT 1 FROM intents WHERE name=?", (intent.name,)).fetchone():
            raise CallerError(f"there is an intent {intent.name!r} already")
        taken = self._db.execute(
            "SELECT name FROM intents WHERE sender=? AND nonce=?", (intent.sender, record.nonce)
        ).fetchone()
        if taken:
            raise CallerError(f"nonce {record.nonce} belongs to intent {taken[0]!r}")
        self._db.execute(
            "INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                intent.name,
                intent.sender,
                record.nonce,
                intent.to,
                intent.data,
                intent.value.to_bytes(32, "big"),
                intent.gas_limit,
                record.gas_limit,
            ),
        )
        for number, attempt in enumerate(record.attempts):
            self._insert(intent.name, number, attempt)

    def _add_attempt(self, name: str, attempt: Attempt) -> None:
        record = self._known(name)
        if record.outcome is not None:
            raise CallerError(f"intent {name!r} is {record.outcome.state.value} already")
        self._insert(name, len(record.attempts), attempt)

    def _insert(self, name: str, number: int, attempt: Attempt) -> None:
        fees = (str(attempt.max_fee_wei), str(attempt.priority_fee_wei))
        self._db.execute(
            "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (name, number, attempt.tx_hash, attempt.raw, *fees, attempt.head),
        )

    def _conclude(self, name: str, outcome: Outcome) -> None:
        record = self._known(name)
        if record.outcome not in (None, outcome):
            raise CallerError(f"intent {name!r} has another outcome already")
        self._db.execute(
            "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?)",
            (name, outcome.state.value, outcome.tx_hash, *outcome.block, str(outcome.fee_wei)),
        )

    def _known(self, name: str) -> IntentRecord:
        record = next(self._records("WHERE i.name=?", name), None)
        if record is None:
            raise CallerError(f"there is no intent {name!r}")
        return record

    def _records(self, where: str, *values: Any) -> Iterator[IntentRecord]:
        rows = self._db.execute(f"{_SELECT} {where}", values).fetchall()
        for name, sender, nonce, to, data, value, wanted_gas, gas_limit, *outcome in rows:
            attempts = self._db.execute(
                "SELECT tx_hash, raw, max_fee_wei, priority_fee_wei, head FROM attempts "
                "WHERE name=? ORDER BY number",
                (name,),
            )
            to = None if to is None else Address(to)
            amount = Amount(int.from_bytes(value, "big"))
            yield IntentRecord(
                Intent(name, Address(sender), to, data, amount, wanted_gas),
                nonce,
                gas_limit,
                tuple(
                    Attempt(tx_hash, raw, int(max_fee), int(priority), head)
                    for tx_hash, raw, max_fee, priority, head in attempts
                ),
                _outcome(*outcome) if outcome[0] is not None else None,
            )


def _outcome(state: str, tx_hash: bytes, number: int, block_hash: bytes, fee: str) -> Outcome:
    return Outcome(IntentState(state), tx_hash, (number, block_hash), Amount(int(fee)))


@asynccontextmanager
async def open_sqlite_intents(path: Path, chain: str) -> AsyncIterator[SqliteIntents]:
    """Open or create the file of a chain (CAIP-2); closed on leaving."""
    store = await trio.to_thread.run_sync(SqliteIntents, path, chain)
    try:
        yield store
    finally:
        await store.aclose()
