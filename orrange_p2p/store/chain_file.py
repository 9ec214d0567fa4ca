"""What was read off one chain, page by page, in one SQLite file.

All of it can be read off the chain again, so it is in no backup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from orrange_p2p.core.bitcoin_bonds import BitcoinBond
from orrange_p2p.core.errors import CallerError, ConfigError
from orrange_p2p.core.histories import ChainEvent
from orrange_p2p.ports.history import ReadTo
from orrange_p2p.store.private_file import FileKind, PrivateFile

__all__ = ["PROGRESS", "ChainFile", "check_page"]

PROGRESS: Final = """
CREATE TABLE read_to (block INTEGER NOT NULL, hash BLOB NOT NULL, time_s INTEGER NOT NULL) STRICT;
CREATE TABLE source (chain TEXT NOT NULL, contracts BLOB NOT NULL) STRICT;
"""
"""Belongs into the schema of each such file."""
_Found = ChainEvent | BitcoinBond


class ChainFile:
    """Rows of one table, which go on from block to block."""

    def __init__(
        self, path: Path, kind: FileKind, chain: str, contracts: bytes, insert: str
    ) -> None:
        """``contracts``: whose network's this is; ``insert``: a statement. Blocks. Raises as
        ``PrivateFile``, and ``ConfigError`` for the file of another chain or other contracts."""
        self.chain = chain
        self._insert = insert
        source = (chain, contracts)
        self._file = PrivateFile(
            path, kind, lambda db: db.execute("INSERT INTO source VALUES (?, ?)", source)
        )
        self._db = self._file.db
        if self._db.execute("SELECT chain, contracts FROM source").fetchone() != source:
            self._file.close()
            raise ConfigError(f"{path} is of other contracts than this network's: remove it")

    async def read_to(self) -> ReadTo | None:
        return await self._file.run(self._read_to)

    def _read_to(self) -> ReadTo | None:
        row = self._db.execute("SELECT block, hash, time_s FROM read_to").fetchone()
        return None if row is None else ReadTo(*row)

    async def append(
        self, found: Sequence[_Found], read_to: ReadTo, row: Callable[[Any], tuple[Any, ...]]
    ) -> None:
        """A page and how far it goes, both or neither. Raises ``CallerError``, and keeps nothing,
        for one that does not go on from the last."""
        await self._file.run(lambda: self._append(found, read_to, row))

    def _append(
        self, found: Sequence[_Found], read_to: ReadTo, row: Callable[[Any], tuple[Any, ...]]
    ) -> None:
        check_page(self._read_to(), found, read_to)
        self._db.executemany(self._insert, map(row, found))
        self._db.execute("DELETE FROM read_to")
        self._db.execute("INSERT INTO read_to VALUES (?, ?, ?)", read_to)

    async def select(self, query: str, *values: int) -> list[tuple[Any, ...]]:
        return await self._file.run(lambda: self._db.execute(query, values).fetchall())

    async def aclose(self) -> None:
        await self._file.aclose()


def check_page(last: ReadTo | None, found: Sequence[_Found], read_to: ReadTo) -> None:
    """Raises ``CallerError`` for a page that does not go on from the last one."""
    after = -1 if last is None else last.block
    if read_to.block <= after:
        raise CallerError(f"events are kept up to block {after}: none to {read_to.block} is new")
    if any(not after < one.place.block <= read_to.block for one in found):
        raise CallerError(f"a page of blocks {after + 1} to {read_to.block} has events of others")
