"""What a node has sent to one chain, or is about to: one SQLite file per chain.

Apart from the node's store, since a chain outlives networks: the same key sends for all of them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from orrange_p2p.core.errors import CallerError, ConfigError, StoreError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.ports.chain import Attempt, Intent, IntentRecord, IntentState, Outcome

__all__ = ["SqliteIntents", "open_sqlite_intents"]

_T = TypeVar("_T")
_APPLICATION_ID: Final = 0x4F524349  # "ORCI"
_VERSION: Final = 1
_CHAIN: Final = "store.chain"
_BUSY_MS: Final = 500

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

_SELECT: Final = """
SELECT i.*, o.state, o.tx_hash, o.block_number, o.block_hash, o.fee_wei
FROM intents i LEFT JOIN outcomes o ON o.name = i.name
"""


class SqliteIntents:
    """Implements ``IntentStore``. Made by ``open_sqlite_intents``."""

    def __init__(self, path: Path, chain: str) -> None:
        """Blocks. Raises ``ConfigError`` for the file of another chain or a newer version."""
        self._path = path
        self._turn = trio.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from None
        try:
            with self._errors():
                self._prepare(chain)
        except (ConfigError, StoreError):
            self._db.close()
            raise

    def _prepare(self, chain: str) -> None:
        for pragma in (
            f"busy_timeout={_BUSY_MS}",
            "locking_mode=EXCLUSIVE",  # one process per key; a second one is told
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            self._db.execute(f"PRAGMA {pragma}")
        with self._transaction():
            application = self._pragma("application_id")
            version = self._pragma("user_version")
            if (
                application == version == 0
                and not self._db.execute("SELECT 1 FROM sqlite_schema").fetchone()
            ):
                for statement in _SCHEMA.split(";\n")[:-1]:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version={_VERSION}")
                self._db.execute("INSERT INTO meta VALUES (?, ?)", (_CHAIN, chain.encode()))
            elif (application, version) != (_APPLICATION_ID, _VERSION):
                raise ConfigError(
                    f"{self._path} is not a file of sent transactions, or a newer one"
                )
            (kept,) = self._db.execute("SELECT value FROM meta WHERE name=?", (_CHAIN,)).fetchone()
            if kept != chain.encode():
                raise ConfigError(f"{self._path} belongs to chain {kept.decode()}, not {chain}")

    def _pragma(self, name: str) -> int:
        (value,) = self._db.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    # --- the port ---

    async def add(self, record: IntentRecord) -> None:
        await self._run(lambda: self._add(record))

    async def add_attempt(self, name: str, attempt: Attempt) -> None:
        await self._run(lambda: self._add_attempt(name, attempt))

    async def conclude(self, name: str, outcome: Outcome) -> None:
        await self._run(lambda: self._conclude(name, outcome))

    async def get(self, name: str) -> IntentRecord | None:
        return await self._run(lambda: next(self._records("WHERE i.name=?", name), None))

    async def pending(self) -> Sequence[IntentRecord]:
        where = "WHERE o.name IS NULL ORDER BY i.sender, i.nonce"
        return await self._run(lambda: list(self._records(where)))

    async def next_nonce(self, sender: Address) -> int:
        query = "SELECT max(nonce) FROM intents WHERE sender=?"

        def read() -> int:
            (highest,) = self._db.execute(query, (sender,)).fetchone()
            return 0 if highest is None else int(highest) + 1

        return await self._run(read)

    async def meta(self, name: str) -> bytes | None:
        query = "SELECT value FROM meta WHERE name=?"
        row = await self._run(lambda: self._db.execute(query, (name,)).fetchone())
        return None if row is None else bytes(row[0])

    async def set_meta(self, name: str, value: bytes) -> None:
        query = "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value=excluded.value"
        await self._run(lambda: self._db.execute(query, (name, value)))

    async def backup(self, path: Path) -> None:
        """As ``copy``, while others use the store."""
        async with self._turn:
            await trio.to_thread.run_sync(self.copy, path)

    # --- in the thread ---

    def copy(self, path: Path) -> None:
        """Copy the file into a new one of mode 0600, durable on return. Blocks."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from None
        with self._errors(), closing(sqlite3.connect(path, isolation_level=None)) as copy:
            self._db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, whole without its side files
        with open(path, "rb") as written:
            os.fsync(written.fileno())

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

    async def _run(self, call: Callable[[], _T]) -> _T:
        """Never abandons the thread: what was begun is finished, or rolled back."""

        def guarded() -> _T:
            with self._errors(), self._transaction():
                return call()

        async with self._turn:
            return await trio.to_thread.run_sync(guarded)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise StoreError(f"{self._path} is in use by another process") from None
            raise StoreError(f"the store {self._path} failed: {error}") from None

    async def aclose(self) -> None:
        """Wait for the write under way and close the file."""
        with trio.CancelScope(shield=True):
            async with self._turn:
                await trio.to_thread.run_sync(self.close)

    def close(self) -> None:
        """Blocks, and waits for nobody."""
        self._db.close()


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
