"""The tables of the store's file, and the way from each older version of them to today's."""

from __future__ import annotations

import sqlite3
from typing import Final

__all__ = ["SCHEMA_VERSION", "migrate"]

# A record is found by its digest (sync, duplicates), an entry by its place in a log and a tick by
# its round; rowids keep the order of arrival, which is the order of a replay.
_RECORDS: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    market BLOB NOT NULL,
    signer BLOB NOT NULL,
    era INTEGER NOT NULL,
    number INTEGER NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    encoded BLOB NOT NULL
) STRICT;
CREATE INDEX entries ON records (market, signer, number) WHERE kind = 0;
CREATE INDEX ticks ON records (market, era, number) WHERE kind = 1;
CREATE TABLE own (
    kind INTEGER NOT NULL,
    market BLOB NOT NULL,
    signer BLOB NOT NULL,
    era INTEGER NOT NULL,
    number INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (kind, market, signer)
) STRICT, WITHOUT ROWID;
CREATE TABLE epochs (
    market BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    root BLOB NOT NULL,
    leader BLOB NOT NULL,
    time_ms INTEGER NOT NULL,
    PRIMARY KEY (market, epoch)
) STRICT, WITHOUT ROWID
"""

# Parts are kept once however many checkpoints share them. Rows of 128 KiB, hence with rowids:
# without, a look-up by name would read its neighbours' bytes.
_CHECKPOINTS: Final = """
CREATE TABLE checkpoints (
    market BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    encoded BLOB NOT NULL,
    PRIMARY KEY (market, epoch)
) STRICT;
CREATE TABLE parts (
    market BLOB NOT NULL,
    name BLOB NOT NULL,
    encoded BLOB NOT NULL,
    PRIMARY KEY (market, name)
) STRICT;
CREATE TABLE checkpoint_parts (
    market BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    place INTEGER NOT NULL,
    name BLOB NOT NULL,
    PRIMARY KEY (market, epoch, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX uses ON checkpoint_parts (market, name)
"""

# Trades keep their order, and those settled for good (state 5) are not looked at again.
_TRADES: Final = """
CREATE TABLE consents (
    market BLOB NOT NULL,
    name BLOB NOT NULL,
    author BLOB NOT NULL,
    encoded BLOB NOT NULL,
    PRIMARY KEY (market, name, author)
) STRICT, WITHOUT ROWID;
CREATE TABLE trades (
    position INTEGER PRIMARY KEY,
    market BLOB NOT NULL,
    name BLOB NOT NULL,
    encoded BLOB NOT NULL,
    state INTEGER NOT NULL,
    intent TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    block INTEGER NOT NULL,
    blamed BLOB NOT NULL,
    UNIQUE (market, name)
) STRICT;
CREATE INDEX unsettled ON trades (market) WHERE state <> 5
"""

_EVIDENCE: Final = "ALTER TABLE trades ADD COLUMN tx_hash BLOB NOT NULL DEFAULT x''"

_STEPS: Final = (_RECORDS, _CHECKPOINTS, _TRADES, _EVIDENCE)
"""Step n takes a file from version n to version n + 1. A step that has been released stays."""

SCHEMA_VERSION: Final = len(_STEPS)


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Take an open transaction's file from ``version``, 0 for an empty one, to the present."""
    for step in _STEPS[version:]:
        for statement in step.split(";\n"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
