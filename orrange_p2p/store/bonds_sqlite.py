"""The bonds that a Bitcoin chain shows of the keys bound in a registry, in one SQLite file.

All of it can be read off the chain again, so it is in no backup.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.core.bitcoin_bonds import BitcoinBond
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.reputation import Place
from orrange_p2p.crypto.bitcoin import OutPoint
from orrange_p2p.ports.history import ReadTo
from orrange_p2p.store.history_sqlite import check_page
from orrange_p2p.store.private_file import FileKind, PrivateFile

__all__ = ["SqliteBonds", "open_sqlite_bonds"]

_SCHEMA: Final = """
CREATE TABLE bonds (
    height INTEGER NOT NULL,
    number INTEGER NOT NULL, -- of the output in its block
    time_s INTEGER NOT NULL,
    key BLOB NOT NULL,
    txid BLOB NOT NULL,
    vout INTEGER NOT NULL,
    sats INTEGER NOT NULL,
    locked_until_s INTEGER NOT NULL,
    PRIMARY KEY (height, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE read_to (block INTEGER NOT NULL, hash BLOB NOT NULL, time_s INTEGER NOT NULL) STRICT;
CREATE TABLE source (chain TEXT NOT NULL, contracts BLOB NOT NULL) STRICT;
"""
_KIND: Final = FileKind("a file of bonds on Bitcoin", 0x4F524244, 1, _SCHEMA)  # "ORBD"


class SqliteBonds:
    """Implements ``BondStore``. Made by ``open_sqlite_bonds``."""

    def __init__(self, path: Path, chain: str, contracts: bytes) -> None:
        """``contracts``: which bound the keys. Blocks. Raises as ``PrivateFile``, and
        ``ConfigError`` for the bonds of another chain or other contracts."""
        self._chain = chain
        source = (chain, contracts)
        self._file = PrivateFile(
            path, _KIND, lambda db: db.execute("INSERT INTO source VALUES (?, ?)", source)
        )
        self._db = self._file.db
        if self._db.execute("SELECT chain, contracts FROM source").fetchone() != source:
            self._file.close()
            raise ConfigError(f"{path} has the bonds of another network: remove it")

    async def read_to(self) -> ReadTo | None:
        return await self._file.run(self._read_to)

    def _read_to(self) -> ReadTo | None:
        row = self._db.execute("SELECT block, hash, time_s FROM read_to").fetchone()
        return None if row is None else ReadTo(*row)

    async def append(self, bonds: Sequence[BitcoinBond], read_to: ReadTo) -> None:
        await self._file.run(lambda: self._append(bonds, read_to))

    def _append(self, bonds: Sequence[BitcoinBond], read_to: ReadTo) -> None:
        check_page(self._read_to(), bonds, read_to)
        self._db.executemany("INSERT INTO bonds VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_row, bonds))
        self._db.execute("DELETE FROM read_to")
        self._db.execute("INSERT INTO read_to VALUES (?, ?, ?)", read_to)

    async def bonds(self) -> Sequence[BitcoinBond]:
        query = "SELECT * FROM bonds ORDER BY height, number"
        rows = await self._file.run(lambda: self._db.execute(query).fetchall())
        return [_bond(self._chain, row) for row in rows]

    async def aclose(self) -> None:
        await self._file.aclose()


def _row(bond: BitcoinBond) -> tuple[Any, ...]:
    place = (bond.place.block, bond.place.log)
    return (*place, bond.time_s, bond.key, *bond.outpoint, bond.sats, bond.locked_until_s)


def _bond(chain: str, row: tuple[Any, ...]) -> BitcoinBond:
    height, number, time_s, key, txid, vout, sats, locked_until_s = row
    place = Place(chain, height, number)
    return BitcoinBond(place, time_s, key, OutPoint(txid, vout), sats, locked_until_s)


@asynccontextmanager
async def open_sqlite_bonds(path: Path, chain: str, contracts: bytes) -> AsyncIterator[SqliteBonds]:
    """Open or create the file; closed on leaving. Arguments and errors as ``SqliteBonds``'s."""
    bonds = await trio.to_thread.run_sync(SqliteBonds, path, chain, contracts)
    try:
        yield bonds
    finally:
        await bonds.aclose()
