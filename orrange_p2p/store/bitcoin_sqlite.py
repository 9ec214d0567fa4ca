"""What a node sends on one Bitcoin chain and sees of its coins there: one SQLite file per chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Amount, MatchId
from orrange_p2p.core.swaps.legs import Lock
from orrange_p2p.ports.bitcoin import BitcoinAttempt, BitcoinIntent, Kept, KeptBlock
from orrange_p2p.store.private_file import FileKind, PrivateFile

__all__ = ["SqliteBitcoin", "open_sqlite_bitcoin"]

KEPT_BLOCKS: Final = 2_016
"""A reorganisation of more than two weeks is nobody's to handle."""

_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE blocks (
    height INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    median_s INTEGER NOT NULL
) STRICT;
CREATE TABLE transactions (
    number INTEGER PRIMARY KEY,
    height INTEGER NOT NULL,
    raw BLOB NOT NULL,
    UNIQUE (height, raw)
) STRICT;
CREATE TABLE scripts (script BLOB PRIMARY KEY) WITHOUT ROWID, STRICT;
CREATE TABLE intents (
    name TEXT PRIMARY KEY,
    chain TEXT NOT NULL,
    asset TEXT NOT NULL,
    amount INTEGER NOT NULL, -- satoshis
    hashlock BLOB NOT NULL,
    trade BLOB NOT NULL,
    sender BLOB NOT NULL,
    recipient BLOB NOT NULL,
    timelock_s INTEGER NOT NULL,
    preimage BLOB NOT NULL,
    by_s INTEGER NOT NULL,
    handed_out INTEGER NOT NULL,
    done INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE attempts (
    name TEXT NOT NULL REFERENCES intents,
    number INTEGER NOT NULL,
    txid BLOB NOT NULL,
    raw BLOB NOT NULL,
    fee INTEGER NOT NULL,
    rate INTEGER NOT NULL,
    height INTEGER NOT NULL,
    refund BLOB NOT NULL,
    PRIMARY KEY (name, number)
) WITHOUT ROWID, STRICT;
CREATE TABLE preimages (preimage BLOB PRIMARY KEY) WITHOUT ROWID, STRICT;
"""


_KIND: Final = FileKind("the file of a Bitcoin wallet", 0x4F524342, 1, _SCHEMA)


class SqliteBitcoin:
    """Implements ``BitcoinStore``. Made by ``open_sqlite_bitcoin``."""

    def __init__(self, path: Path, chain: str) -> None:
        """Blocks. Raises as ``PrivateFile``, and ``ConfigError`` for the file of another chain."""
        row = (chain.encode(),)
        self._file = PrivateFile(
            path, _KIND, lambda db: db.execute("INSERT INTO meta VALUES ('chain', ?)", row)
        )
        self._db = self._file.db
        (kept,) = self._db.execute("SELECT value FROM meta WHERE name='chain'").fetchone()
        if kept != chain.encode():
            self._file.close()
            raise ConfigError(f"{path} belongs to chain {kept.decode()}, not {chain}")

    # --- the port ---

    async def load(self) -> Kept:
        return await self._file.run(self._load)

    async def connect(self, block: KeptBlock, found: Sequence[tuple[int, bytes]]) -> None:
        def write() -> None:
            self._db.execute("INSERT INTO blocks VALUES (?, ?, ?)", block)
            self._insert(found)
            oldest = block.height - KEPT_BLOCKS
            self._db.execute("DELETE FROM blocks WHERE height <= ?", (oldest,))

        await self._file.run(write)

    async def disconnect(self, height: int) -> None:
        def write() -> None:
            self._db.execute("DELETE FROM blocks WHERE height > ?", (height,))
            self._db.execute("DELETE FROM transactions WHERE height > ?", (height,))

        await self._file.run(write)

    async def watch(self, script: bytes, found: Sequence[tuple[int, bytes]]) -> None:
        def write() -> None:
            self._db.execute("INSERT OR IGNORE INTO scripts VALUES (?)", (script,))
            self._insert(found)

        await self._file.run(write)

    async def add(self, intent: BitcoinIntent, attempt: BitcoinAttempt | None) -> None:
        def write() -> None:
            row = (intent.name, *intent.lock, *intent[2:])
            marks = ", ".join("?" * len(row))
            self._db.execute(
                f"INSERT INTO intents VALUES ({marks}) ON CONFLICT DO UPDATE SET "  # noqa: S608
                "preimage=excluded.preimage, by_s=excluded.by_s, handed_out=excluded.handed_out, "
                "done=excluded.done",
                row,
            )
            if attempt is not None:
                query = "SELECT count(*) FROM attempts WHERE name=?"
                (number,) = self._db.execute(query, (intent.name,)).fetchone()
                self._db.execute(
                    "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (intent.name, number, *attempt),
                )

        await self._file.run(write)

    async def add_preimage(self, preimage: bytes) -> None:
        query = "INSERT OR IGNORE INTO preimages VALUES (?)"
        await self._file.run(lambda: self._db.execute(query, (preimage,)))

    # --- in the thread ---

    def _insert(self, found: Sequence[tuple[int, bytes]]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO transactions (height, raw) VALUES (?, ?)", found
        )

    def _load(self) -> Kept:
        read = self._db.execute
        intents = []
        for name, chain, asset, amount, hashlock, trade, *rest in read("SELECT * FROM intents"):
            sender, recipient, timelock_s, preimage, by_s, handed_out, done = rest
            trade = MatchId(trade)
            terms = (chain, asset, Amount(amount), hashlock, trade, sender, recipient, timelock_s)
            intents.append(
                BitcoinIntent(name, Lock(*terms), preimage, by_s, bool(handed_out), bool(done))
            )
        return Kept(
            [KeptBlock(*row) for row in read("SELECT * FROM blocks ORDER BY height")],
            list(read("SELECT height, raw FROM transactions ORDER BY height, number")),
            [script for (script,) in read("SELECT script FROM scripts")],
            intents,
            [
                (name, BitcoinAttempt(*rest))
                for name, _, *rest in read("SELECT * FROM attempts ORDER BY name, number")
            ],
            [preimage for (preimage,) in read("SELECT preimage FROM preimages")],
        )

    async def aclose(self) -> None:
        """Wait for the write under way and close the file."""
        await self._file.aclose()


@asynccontextmanager
async def open_sqlite_bitcoin(path: Path, chain: str) -> AsyncIterator[SqliteBitcoin]:
    """Open or create the file of a chain (CAIP-2); closed on leaving."""
    store = await trio.to_thread.run_sync(SqliteBitcoin, path, chain)
    try:
        yield store
    finally:
        await store.aclose()
