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
from orrange_p2p.core.reputation import Place
from orrange_p2p.crypto.bitcoin import OutPoint
from orrange_p2p.ports.history import ReadTo
from orrange_p2p.store.chain_file import PROGRESS, ChainFile
from orrange_p2p.store.private_file import FileKind

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
"""
_KIND: Final = FileKind("a file of bonds on Bitcoin", 0x4F524244, 1, _SCHEMA + PROGRESS)  # "ORBD"
_INSERT: Final = "INSERT INTO bonds VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class SqliteBonds:
    """Implements ``BondStore``. Made by ``open_sqlite_bonds``."""

    def __init__(self, path: Path, chain: str, contracts: bytes) -> None:
        """``contracts``: which bound the keys. Blocks. Errors as ``ChainFile``'s."""
        self._file = ChainFile(path, _KIND, chain, contracts, _INSERT)

    async def read_to(self) -> ReadTo | None:
        return await self._file.read_to()

    async def append(self, bonds: Sequence[BitcoinBond], read_to: ReadTo) -> None:
        await self._file.append(bonds, read_to, _row)

    async def bonds(self) -> Sequence[BitcoinBond]:
        rows = await self._file.select("SELECT * FROM bonds ORDER BY height, number")
        return [_bond(self._file.chain, row) for row in rows]

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
