"""The swaps of a node, and the secrets that came out in them: one SQLite file.

Apart from the node's store, and in no backup: a swap is never begun a second time from an old copy.
What is in a backup is each open swap's bundle, from which it is ended (``daemon.bundles``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import MarketId, MatchId
from orrange_p2p.core.swaps.agreement import Deal, decode_swap, encode_swap
from orrange_p2p.core.swaps.htlc import ENDED, SwapProgress, SwapState
from orrange_p2p.ports.swaps import Shown, SwapRecord
from orrange_p2p.store.private_file import FileKind, PrivateFile

__all__ = ["SqliteSwaps", "open_sqlite_swaps"]

_SCHEMA: Final = """
CREATE TABLE swaps (
    position INTEGER PRIMARY KEY,
    market BLOB NOT NULL,
    name BLOB NOT NULL UNIQUE,
    deal BLOB NOT NULL,
    swap BLOB,
    hashlock BLOB,
    state INTEGER NOT NULL,
    preimage BLOB NOT NULL,
    own_lock TEXT NOT NULL,
    own_end TEXT NOT NULL,
    other_lock TEXT NOT NULL,
    other_end TEXT NOT NULL,
    problem TEXT NOT NULL
) STRICT;
CREATE INDEX by_market ON swaps (market, position);
CREATE INDEX by_hashlock ON swaps (hashlock);
CREATE TABLE begun (ms INTEGER NOT NULL) STRICT;
"""
_KIND: Final = FileKind("a file of swaps", 0x4F525357, 1, _SCHEMA)  # "ORSW"
_COLUMNS: Final = "deal, swap, state, preimage, own_lock, own_end, other_lock, other_end, problem"
_ENDED: Final = ", ".join(str(int(state)) for state in sorted(ENDED))


class SqliteSwaps:
    """Implements ``SwapStore``. Made by ``open_sqlite_swaps``."""

    def __init__(self, path: Path, now_ms: int) -> None:
        """Blocks. Raises as ``PrivateFile``."""
        self._file = PrivateFile(
            path, _KIND, lambda db: db.execute("INSERT INTO begun VALUES (?)", (now_ms,))
        )
        self._db = self._file.db
        self._begun_ms = int(self._db.execute("SELECT ms FROM begun").fetchone()[0])

    # --- the port ---

    @property
    def begun_ms(self) -> int:
        return self._begun_ms

    async def keep(self, records: Sequence[SwapRecord]) -> None:
        await self._file.run(lambda: self._keep(records))

    async def record(
        self, name: MatchId, progress: SwapProgress, shown: Shown, problem: str
    ) -> None:
        query = (
            "UPDATE swaps SET state = ?, preimage = ?, own_lock = ?, own_end = ?, other_lock = ?,"
            " other_end = ?, problem = ? WHERE name = ?"
        )

        def note() -> None:
            state, preimage = progress
            done = self._db.execute(query, (int(state), preimage, *shown, problem, name))
            if not done.rowcount:
                raise CallerError(f"there is no swap 0x{name.hex()}")

        await self._file.run(note)

    async def get(self, name: MatchId) -> SwapRecord | None:
        found = await self._file.run(lambda: self._select("WHERE name = ?", name))
        return found[0][1] if found else None

    async def open(self, market: MarketId) -> Sequence[SwapRecord]:
        where = f"WHERE market = ? AND state NOT IN ({_ENDED}) ORDER BY position"
        return [one for _, one in await self._file.run(lambda: self._select(where, market))]

    async def is_used(self, hashlock: bytes, but: MatchId) -> bool:
        query = "SELECT 1 FROM swaps WHERE hashlock = ? AND name <> ?"
        row = await self._file.run(lambda: self._db.execute(query, (hashlock, but)).fetchone())
        return row is not None

    async def swaps(
        self, market: MarketId, since: int = 0, *, limit: int = 256
    ) -> Sequence[tuple[int, SwapRecord]]:
        where = "WHERE market = ? AND position > ? ORDER BY position LIMIT ?"
        return await self._file.run(lambda: self._select(where, market, since, limit))

    async def count(self, market: MarketId) -> Mapping[int, int]:
        query = "SELECT state, count(*) FROM swaps WHERE market = ? GROUP BY state"
        return dict(await self._file.run(lambda: self._db.execute(query, (market,)).fetchall()))

    # --- in the thread ---

    def _keep(self, records: Sequence[SwapRecord]) -> None:
        self._db.executemany(
            "INSERT INTO swaps (market, name, deal, swap, hashlock, state, preimage, own_lock,"
            " own_end, other_lock, other_end, problem) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO NOTHING",
            [
                (
                    deal.trade.market,
                    deal.id,
                    deal.encode(),
                    None if swap is None else encode_swap(swap),
                    None if swap is None else swap.own.hashlock,
                    int(progress.state),
                    progress.preimage,
                    *shown,
                    problem,
                )
                for deal, swap, progress, shown, problem in records
            ],
        )

    def _select(self, where: str, *values: Any) -> list[tuple[int, SwapRecord]]:
        rows = self._db.execute(f"SELECT position, {_COLUMNS} FROM swaps {where}", values)  # noqa: S608
        return [
            (
                position,
                SwapRecord(
                    Deal.decode(deal),
                    None if swap is None else decode_swap(swap),
                    SwapProgress(SwapState(state), preimage),
                    Shown(*shown),
                    problem,
                ),
            )
            for position, deal, swap, state, preimage, *shown, problem in rows.fetchall()
        ]

    async def aclose(self) -> None:
        """Wait for the write under way and close the file."""
        await self._file.aclose()


@asynccontextmanager
async def open_sqlite_swaps(path: Path, now_ms: int) -> AsyncIterator[SqliteSwaps]:
    """Open or create a node's file; closed on leaving. ``now_ms``: by the wall clock."""
    store = await trio.to_thread.run_sync(SqliteSwaps, path, now_ms)
    try:
        yield store
    finally:
        await store.aclose()
