"""One SQLite file of mode 0600 that only its owner's process writes, one caller at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import trio

from orrange_p2p.core.errors import ConfigError, StoreError

__all__ = ["FileKind", "PrivateFile"]

_T = TypeVar("_T")
_BUSY_MS: Final = 500


class FileKind(NamedTuple):
    """What a file is, by what SQLite keeps of it in its header."""

    what: str
    """For people, as in "... is not <what>, or a newer one"."""
    application_id: int
    version: int
    schema: str
    """Statements, each ended by a semicolon and a line's end."""


class PrivateFile:
    """An open file. ``db`` is for calls that ``run`` makes, and for nobody else."""

    def __init__(
        self, path: Path, kind: FileKind, begin: Callable[[sqlite3.Connection], object]
    ) -> None:
        """Open or create it; ``begin`` fills a new one. Blocks.

        Raises ``ConfigError`` for a file of another kind or a newer version, ``StoreError`` if it
        is in use or cannot be used.
        """
        self.path = path
        self._turn = trio.Lock()
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from None
        try:
            with self._errors():
                self._prepare(kind, begin)
        except (ConfigError, StoreError):
            self.db.close()
            raise

    def _prepare(self, kind: FileKind, begin: Callable[[sqlite3.Connection], object]) -> None:
        for pragma in (
            f"busy_timeout={_BUSY_MS}",
            "locking_mode=EXCLUSIVE",  # one process per key; a second one is told
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            self.db.execute(f"PRAGMA {pragma}")
        with self._transaction():
            found = tuple(
                self.db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            )
            is_empty = not self.db.execute("SELECT 1 FROM sqlite_schema").fetchone()
            if found == (0, 0) and is_empty:
                for statement in kind.schema.split(";\n")[:-1]:
                    self.db.execute(statement)
                self.db.execute(f"PRAGMA application_id={kind.application_id}")
                self.db.execute(f"PRAGMA user_version={kind.version}")
                begin(self.db)
            elif found != (kind.application_id, kind.version):
                raise ConfigError(f"{self.path} is not {kind.what}, or a newer one")

    async def run(self, call: Callable[[], _T]) -> _T:
        """Call it in a thread and a transaction of its own, which stays or goes as a whole.

        Never abandons the thread: what was begun is finished, or rolled back.
        """

        def guarded() -> _T:
            with self._errors(), self._transaction():
                return call()

        async with self._turn:
            return await trio.to_thread.run_sync(guarded)

    async def backup(self, path: Path) -> None:
        """As ``copy``, while others use the file."""
        async with self._turn:
            await trio.to_thread.run_sync(self.copy, path)

    def copy(self, path: Path) -> None:
        """Copy the file into a new one of mode 0600, durable on return. Blocks."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from None
        with self._errors(), closing(sqlite3.connect(path, isolation_level=None)) as copy:
            self.db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, whole without its side files
        with open(path, "rb") as written:
            os.fsync(written.fileno())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise StoreError(f"{self.path} is in use by another process") from None
            raise StoreError(f"the store {self.path} failed: {error}") from None

    async def aclose(self) -> None:
        """Wait for the write under way and close the file."""
        with trio.CancelScope(shield=True):
            async with self._turn:
                await trio.to_thread.run_sync(self.close)

    def close(self) -> None:
        """Blocks, and waits for nobody."""
        self.db.close()
