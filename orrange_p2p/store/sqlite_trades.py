"""Trades that await their settlement: the statements for ``SqliteFile``.

All run inside a transaction of the caller's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import Address, MarketId, MatchId
from orrange_p2p.core.swaps.atomic import Progress, TradeState
from orrange_p2p.core.swaps.binding import BoundTrade, Consent, Taken
from orrange_p2p.ports.trades import TradeRecord

_RECORD: Final = "encoded, state, intent, attempts, failures, block, blamed, tx_hash"


def keep_bindings(db: sqlite3.Connection, market: MarketId, taken: Taken) -> None:
    """``TradeStore.keep_bindings``."""
    db.executemany(
        "INSERT OR REPLACE INTO consents VALUES (?, ?, ?, ?)",
        [
            (market, name, author, consent.encode())
            for (name, author), consent in taken.consents.items()
        ],
    )
    db.executemany(
        "INSERT INTO trades (market, name, encoded, state, intent, attempts, failures, block,"
        " blamed, tx_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (market, name) DO NOTHING",
        [(market, trade.id, trade.encode(), *Progress()) for trade in taken.trades],
    )
    ended = (*(trade.id for trade in taken.trades), *taken.lapsed)
    db.executemany(
        "DELETE FROM consents WHERE market = ? AND name = ?", [(market, name) for name in ended]
    )


def consents(db: sqlite3.Connection, market: MarketId) -> dict[tuple[MatchId, Address], Consent]:
    """``TradeStore.consents``."""
    rows = db.execute("SELECT name, author, encoded FROM consents WHERE market = ?", (market,))
    return {
        (MatchId(name), Address(author)): Consent.decode(encoded) for name, author, encoded in rows
    }


def record_progress(
    db: sqlite3.Connection, market: MarketId, progress: Mapping[MatchId, Progress]
) -> None:
    """``TradeStore.record_progress``."""
    for name in progress:
        kept = db.execute("SELECT 1 FROM trades WHERE market = ? AND name = ?", (market, name))
        if kept.fetchone() is None:
            raise CallerError(f"there is no trade 0x{name.hex()}")
    db.executemany(
        "UPDATE trades SET state = ?, intent = ?, attempts = ?, failures = ?, block = ?,"
        " blamed = ?, tx_hash = ? WHERE market = ? AND name = ?",
        [(*stands, market, name) for name, stands in progress.items()],
    )


def unsettled(db: sqlite3.Connection, market: MarketId) -> list[TradeRecord]:
    """``TradeStore.unsettled_trades``. The 5 is ``SETTLED``, as in the index that serves this; the
    8 is ``EXPIRED``."""
    query = (
        f"SELECT {_RECORD} FROM trades WHERE market = ? AND state <> 5 AND state <> 8"  # noqa: S608
        " ORDER BY position"
    )
    return [_record(*row) for row in db.execute(query, (market,))]


def since(
    db: sqlite3.Connection, market: MarketId, position: int, limit: int
) -> list[tuple[int, TradeRecord]]:
    """``TradeStore.trades``."""
    query = (
        f"SELECT position, {_RECORD} FROM trades"  # noqa: S608
        " WHERE market = ? AND position > ? ORDER BY position LIMIT ?"
    )
    rows = db.execute(query, (market, position, limit))
    return [(place, _record(*row)) for place, *row in rows]


def _record(encoded: bytes, state: int, *grounds: Any) -> TradeRecord:
    return TradeRecord(BoundTrade.decode(encoded), Progress(TradeState(state), *grounds))


def count(db: sqlite3.Connection, market: MarketId) -> dict[int, int]:
    """``TradeStore.count_trades``."""
    query = "SELECT state, count(*) FROM trades WHERE market = ? GROUP BY state"
    return dict(db.execute(query, (market,)).fetchall())
