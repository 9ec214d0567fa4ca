"""Checkpoints, their parts, and what may go once they are kept: the statements for ``SqliteFile``.

All run inside a transaction of the caller's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from orrange_p2p.core.ids import Epoch, MarketId
from orrange_p2p.ports import CheckpointRecord, PruneLine
from orrange_p2p.store.guard import check_checkpoint, check_prune

NAMES_AT_ONCE: Final = 512
"""Far below SQLite's bound on the values of one statement."""
_KEPT: Final = "SELECT epoch, encoded FROM checkpoints WHERE market = ? ORDER BY epoch DESC LIMIT 1"


def keep_parts(db: sqlite3.Connection, market: MarketId, parts: Mapping[bytes, bytes]) -> None:
    """``Store.keep_parts``."""
    db.executemany(
        "INSERT OR REPLACE INTO parts VALUES (?, ?, ?)",
        [(market, name, encoded) for name, encoded in parts.items()],
    )


def held(db: sqlite3.Connection, market: MarketId, names: Sequence[bytes]) -> set[bytes]:
    """Which of these parts are kept."""
    found: set[bytes] = set()
    for at in range(0, len(names), NAMES_AT_ONCE):
        some = names[at : at + NAMES_AT_ONCE]
        marks = ",".join("?" * len(some))
        found |= {
            name
            for (name,) in db.execute(
                f"SELECT name FROM parts WHERE market = ? AND name IN ({marks})",  # noqa: S608
                (market, *some),
            )
        }
    return found


def part(db: sqlite3.Connection, market: MarketId, name: bytes) -> bytes | None:
    """One part."""
    row = db.execute(
        "SELECT encoded FROM parts WHERE market = ? AND name = ?", (market, name)
    ).fetchone()
    return None if row is None else bytes(row[0])


def keep_checkpoint(db: sqlite3.Connection, market: MarketId, record: CheckpointRecord) -> None:
    """``Store.keep_checkpoint``."""
    kept = newest(db, market)
    if not check_checkpoint(kept, record, held(db, market, record.parts)):
        return
    db.execute("INSERT INTO checkpoints VALUES (?, ?, ?)", (market, record.epoch, record.encoded))
    db.executemany(
        "INSERT INTO checkpoint_parts VALUES (?, ?, ?, ?)",
        [(market, record.epoch, place, name) for place, name in enumerate(record.parts)],
    )


def newest(db: sqlite3.Connection, market: MarketId) -> CheckpointRecord | None:
    """``Store.checkpoint``."""
    row = db.execute(_KEPT, (market,)).fetchone()
    if row is None:
        return None
    names = db.execute(
        "SELECT name FROM checkpoint_parts WHERE market = ? AND epoch = ? ORDER BY place",
        (market, row[0]),
    )
    return CheckpointRecord(Epoch(row[0]), bytes(row[1]), tuple(name for (name,) in names))


def drop_checkpoints(db: sqlite3.Connection, market: MarketId) -> None:
    """``Store.drop_checkpoints``."""
    for table in ("checkpoints", "checkpoint_parts", "parts", "epochs"):
        db.execute(f"DELETE FROM {table} WHERE market = ?", (market,))  # noqa: S608


def prune(db: sqlite3.Connection, market: MarketId, line: PruneLine, limit: int) -> int:
    """``Store.prune``."""
    row = db.execute(_KEPT, (market,)).fetchone()
    check_prune(None if row is None else row[0], line)
    gone = 0
    for statement, values in (
        ("records WHERE position IN (SELECT position FROM records WHERE kind = 1 AND market = ?"
         " AND (era, number) < (?, ?) LIMIT ?)", (market, line.era, line.round)),
        ("epochs WHERE market = ?1 AND epoch IN (SELECT epoch FROM epochs WHERE market = ?1"
         " AND epoch < ?2 LIMIT ?3)", (market, line.epoch)),
        ("checkpoint_parts WHERE market = ?1 AND (epoch, place) IN (SELECT epoch, place FROM"
         " checkpoint_parts WHERE market = ?1 AND epoch < ?2 LIMIT ?3)", (market, line.epoch)),
        ("checkpoints WHERE rowid IN (SELECT rowid FROM checkpoints WHERE market = ?"
         " AND epoch < ? LIMIT ?)", (market, line.epoch)),
    ):  # fmt: skip
        gone += _delete(db, statement, (*values, limit - gone))
        if gone >= limit:
            return gone
    for author, first_seq in line.logs:
        statement = (
            "records WHERE position IN (SELECT position FROM records WHERE kind = 0 AND market = ?"
            " AND signer = ? AND number < ? LIMIT ?)"
        )
        gone += _delete(db, statement, (market, author, first_seq, limit - gone))
        if gone >= limit:
            return gone
    unused = (
        "parts WHERE rowid IN (SELECT p.rowid FROM parts p WHERE market = ? AND NOT EXISTS"
        " (SELECT 1 FROM checkpoint_parts c WHERE c.market = p.market AND c.name = p.name) LIMIT ?)"
    )
    return gone + _delete(db, unused, (market, limit - gone))


def _delete(db: sqlite3.Connection, what: str, values: Sequence[bytes | int]) -> int:
    return db.execute(f"DELETE FROM {what}", values).rowcount  # noqa: S608
