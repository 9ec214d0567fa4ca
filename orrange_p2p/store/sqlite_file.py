"""The store's file: SQLite in WAL mode with synchronous FULL, used by one thread at a time.

Group commit is ``commit`` with several writes: one transaction, one flush, one answer each.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from orrange_p2p.core.errors import CallerError, ConfigError, StoreError
from orrange_p2p.core.ids import (
    MAX_UINT63,
    Address,
    Digest,
    Epoch,
    Era,
    MarketId,
    MatchId,
    NetworkId,
    Round,
    Seq,
    TimeMs,
)
from orrange_p2p.core.swaps.atomic import Progress
from orrange_p2p.core.swaps.binding import Consent, Taken
from orrange_p2p.ports import (
    CheckpointRecord,
    EpochRecord,
    OwnPosition,
    PruneLine,
    Record,
    RecordKind,
)
from orrange_p2p.ports.trades import TradeRecord
from orrange_p2p.store import sqlite_checkpoints, sqlite_trades
from orrange_p2p.store.guard import Owner, advance, check_epoch
from orrange_p2p.store.pages import page
from orrange_p2p.store.schema import SCHEMA_VERSION, migrate

__all__ = [
    "Append",
    "AppendOwn",
    "KeepBindings",
    "KeepCheckpoint",
    "KeepParts",
    "RecordEpoch",
    "RecordProgress",
    "SetMeta",
    "SqliteFile",
    "Write",
]

_APPLICATION_ID: Final = 0x4F525247  # "ORRG"
_BUSY_MS: Final = 500
_NETWORK: Final = "store.network"
_IN_USE: Final = "store.in-use"
"""Names the boot of the machine in which the file is in use; gone after a clean end."""
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")

_COLUMNS: Final = "kind, market, signer, era, number, digest, encoded"


class Append(NamedTuple):
    """Keep records of anyone."""

    records: Sequence[Record]


class AppendOwn(NamedTuple):
    """Keep records that our own keys signed, and how far these have signed."""

    records: Sequence[Record]


class RecordEpoch(NamedTuple):
    """Keep an applied epoch."""

    market: MarketId
    record: EpochRecord


class SetMeta(NamedTuple):
    """Keep a small value under a name."""

    name: str
    value: bytes


class KeepParts(NamedTuple):
    """Keep parts of a checkpoint by name."""

    market: MarketId
    parts: Mapping[bytes, bytes]


class KeepCheckpoint(NamedTuple):
    """Keep a checkpoint whose parts are kept."""

    market: MarketId
    record: CheckpointRecord


class KeepBindings(NamedTuple):
    """Keep what an epoch brought to settlement."""

    market: MarketId
    taken: Taken


class RecordProgress(NamedTuple):
    """Note where trades stand."""

    market: MarketId
    progress: Mapping[MatchId, Progress]


Write = (
    Append
    | AppendOwn
    | RecordEpoch
    | SetMeta
    | KeepParts
    | KeepCheckpoint
    | KeepBindings
    | RecordProgress
)


class SqliteFile:
    """An open store, locked against every other process. Not for two threads at a time.

    Raises ``ConfigError`` for the store of another network or of a newer version, ``StoreError``
    if the file cannot be used: no permission, no space, in use, damaged.
    """

    def __init__(
        self, path: Path, network_id: NetworkId, begins_with: Mapping[str, bytes] | None = None
    ) -> None:
        """``begins_with``: small values that a new file holds from its first moment on."""
        self.path = path
        self._failure: str | None = None
        try:
            # Created here, so that it is never readable by others; SQLite gives its side files
            # the same mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"cannot open the store {path}: {error.strerror}") from None
        self._db = sqlite3.connect(
            path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            with self._translated():
                self._open(network_id, begins_with or {})
        except BaseException:
            self._db.close()
            raise

    def _open(self, network_id: NetworkId, begins_with: Mapping[str, bytes]) -> None:
        query = self._db.execute
        query("PRAGMA locking_mode = EXCLUSIVE")
        query("PRAGMA trusted_schema = OFF")
        version = query("PRAGMA user_version").fetchone()[0]
        application = query("PRAGMA application_id").fetchone()[0]
        is_new = query("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        if not is_new and application != _APPLICATION_ID:
            raise ConfigError(f"{self.path} is a database of another program")
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"the store {self.path} was written by a newer version of orrange "
                f"(schema {version}, this one knows {SCHEMA_VERSION}): update orrange"
            )
        query("PRAGMA journal_mode = WAL")
        query("PRAGMA synchronous = FULL")
        with self._transaction():
            if version < SCHEMA_VERSION:
                migrate(self._db, version)
            if is_new:
                query(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._set_meta(_NETWORK, network_id)
                for name, value in begins_with.items():
                    self._set_meta(name, value)
        kept = self._meta(_NETWORK)
        if kept != network_id:
            raise ConfigError(
                f"the store {self.path} belongs to network 0x{(kept or b'').hex()}, "
                f"not to 0x{network_id.hex()}: choose another data directory"
            )

        # A walk through the whole file takes time in proportion to its size, so not at every
        # start: a process that is killed leaves what it wrote to the kernel and does no damage, a
        # machine that loses power may.
        interrupted = self._meta(_IN_USE)
        boot = _boot()
        is_doubtful = interrupted is not None and interrupted != boot
        if is_doubtful or 0 < version < SCHEMA_VERSION:
            self._check("quick_check")
        self._set_meta(_IN_USE, boot)

    def check(self) -> int:
        """Read the whole file; how many records it holds. ``StoreError`` tells the damage.

        SQLite checks its own structure. What the bytes of a record say only its decoder can tell.
        """
        with self._translated():
            self._check("integrity_check")
            count: int = self._db.execute("SELECT count(*) FROM records").fetchone()[0]
        return count

    def backup(self, path: Path, marks: Mapping[str, bytes]) -> None:
        """Copy the store into a new file of mode 0600; ``marks`` are small values kept in the copy
        alone. Durable on return. Whoever else uses the store waits: a second or so for 500 MB.
        """
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from None
        with self._translated(), closing(sqlite3.connect(path, isolation_level=None)) as copy:
            self._db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, whole without its side files
            copy.execute("BEGIN")
            copy.execute("DELETE FROM meta WHERE name = ?", (_IN_USE,))
            copy.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", marks.items())
            copy.execute("COMMIT")
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _check(self, how: str) -> None:
        verdict = self._db.execute(f"PRAGMA {how}(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreError(self.damage(verdict))

    def close(self) -> None:
        """Fold the WAL into the file and let go of it."""
        # On a full or broken disk the mark stays: at worst a later start checks once too often.
        with suppress(sqlite3.Error):
            if self._failure is None:
                self._db.execute("DELETE FROM meta WHERE name = ?", (_IN_USE,))
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- writing ---

    def append(self, records: Sequence[Record]) -> None:
        """``Store.append``: durable on return."""
        self._commit_one(Append(records))

    def append_own(self, records: Sequence[Record]) -> None:
        """``Store.append_own``: durable on return, or ``CallerError``."""
        self._commit_one(AppendOwn(records))

    def record_epoch(self, market: MarketId, record: EpochRecord) -> None:
        """``Store.record_epoch``: durable on return, or ``CallerError``."""
        self._commit_one(RecordEpoch(market, record))

    def set_meta(self, name: str, value: bytes) -> None:
        """``Store.set_meta``."""
        self._commit_one(SetMeta(name, value))

    def drop_checkpoints(self, market: MarketId) -> None:
        """``Store.drop_checkpoints``."""
        with self._translated(), self._transaction():
            sqlite_checkpoints.drop_checkpoints(self._db, market)

    def drop_epochs(self, market: MarketId, after: Epoch) -> None:
        """``Store.drop_epochs``."""
        with self._translated(), self._transaction():
            self._db.execute("DELETE FROM epochs WHERE market = ? AND epoch > ?", (market, after))

    def prune(self, market: MarketId, line: PruneLine, limit: int) -> int:
        """``Store.prune``."""
        with self._translated(), self._transaction():
            return sqlite_checkpoints.prune(self._db, market, line, limit)

    def _commit_one(self, write: Write) -> None:
        (refusal,) = self.commit([write])
        if refusal is not None:
            raise refusal

    def commit(self, writes: Iterable[Write]) -> list[CallerError | None]:
        """All writes in one transaction, durable on return: for each None, or why it was refused.

        A refused write leaves no trace and does not disturb the others. ``StoreError``: none of
        them happened.
        """
        answers: list[CallerError | None] = []
        with self._translated(), self._transaction():
            for write in writes:
                try:
                    self._write(write)
                    answers.append(None)
                except CallerError as refusal:
                    answers.append(refusal)
        return answers

    def _write(self, write: Write) -> None:
        """Refuses before it changes anything."""
        match write:
            case Append(records):
                _check(records)
                self._keep(records)
            case AppendOwn(records):
                _check(records)
                reached = advance(records, self._own_position)
                self._keep(records)
                self._db.executemany(
                    "INSERT OR REPLACE INTO own VALUES (?, ?, ?, ?, ?, ?)",
                    [(*owner, *position) for owner, position in reached.items()],
                )
            case RecordEpoch(market, record):
                if check_epoch(self._epoch(market, record.epoch), record):
                    self._db.execute("INSERT INTO epochs VALUES (?, ?, ?, ?, ?)", (market, *record))
            case SetMeta(name, value):
                self._set_meta(name, value)
            case KeepParts(market, parts):
                sqlite_checkpoints.keep_parts(self._db, market, parts)
            case KeepCheckpoint(market, kept):
                sqlite_checkpoints.keep_checkpoint(self._db, market, kept)
            case KeepBindings(market, taken):
                sqlite_trades.keep_bindings(self._db, market, taken)
            case RecordProgress(market, progress):
                sqlite_trades.record_progress(self._db, market, progress)

    def _keep(self, records: Sequence[Record]) -> None:
        self._db.executemany(
            f"INSERT INTO records ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
            " ON CONFLICT (digest) DO NOTHING",
            records,
        )

    def _set_meta(self, name: str, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    # --- reading ---

    def own_position(
        self, kind: RecordKind, market: MarketId, signer: Address
    ) -> OwnPosition | None:
        """The last position ``append_own`` kept for a key in a role."""
        with self._translated():
            return self._own_position((kind, market, signer))

    def _own_position(self, owner: Owner) -> OwnPosition | None:
        row = self._db.execute(
            "SELECT era, number, digest FROM own WHERE kind = ? AND market = ? AND signer = ?",
            owner,
        ).fetchone()
        return None if row is None else OwnPosition(Era(row[0]), row[1], Digest(row[2]))

    def consents(self, market: MarketId) -> dict[tuple[MatchId, Address], Consent]:
        """``TradeStore.consents``."""
        with self._translated():
            return sqlite_trades.consents(self._db, market)

    def unsettled_trades(self, market: MarketId) -> list[TradeRecord]:
        """``TradeStore.unsettled_trades``."""
        with self._translated():
            return sqlite_trades.unsettled(self._db, market)

    def trades(self, market: MarketId, since: int, limit: int) -> list[tuple[int, TradeRecord]]:
        """``TradeStore.trades``."""
        with self._translated():
            return sqlite_trades.since(self._db, market, since, limit)

    def count_trades(self, market: MarketId) -> dict[int, int]:
        """``TradeStore.count_trades``."""
        with self._translated():
            return sqlite_trades.count(self._db, market)

    def _epoch(self, market: MarketId, epoch: Epoch) -> EpochRecord | None:
        kept = self._epochs("epoch = ? LIMIT 1", (market, epoch))
        return kept[0] if kept else None

    def epochs(self, market: MarketId, first: Epoch, limit: int) -> list[EpochRecord]:
        """``Store.epochs``."""
        with self._translated():
            return self._epochs("epoch >= ? ORDER BY epoch LIMIT ?", (market, first, limit))

    def latest_epoch(self, market: MarketId) -> EpochRecord | None:
        """``Store.latest_epoch``."""
        with self._translated():
            kept = self._epochs("true ORDER BY epoch DESC LIMIT 1", (market,))
        return kept[0] if kept else None

    def _epochs(self, which: str, values: tuple[bytes | int, ...]) -> list[EpochRecord]:
        rows = self._db.execute(
            f"SELECT epoch, root, leader, time_ms FROM epochs WHERE market = ? AND {which}",  # noqa: S608
            values,
        )
        return [
            EpochRecord(Epoch(epoch), root, Digest(leader), TimeMs(time_ms))
            for epoch, root, leader, time_ms in rows
        ]

    def held_parts(self, market: MarketId, names: Sequence[bytes]) -> set[bytes]:
        """``Store.held_parts``."""
        with self._translated():
            return sqlite_checkpoints.held(self._db, market, names)

    def part(self, market: MarketId, name: bytes) -> bytes | None:
        """``Store.part``."""
        with self._translated():
            return sqlite_checkpoints.part(self._db, market, name)

    def checkpoint(self, market: MarketId) -> CheckpointRecord | None:
        """``Store.checkpoint``."""
        with self._translated():
            return sqlite_checkpoints.newest(self._db, market)

    def last_position(self) -> int:
        """Where the records end; positions of one file only grow."""
        with self._translated():
            row = self._db.execute("SELECT coalesce(max(position), 0) FROM records").fetchone()
        last: int = row[0]
        return last

    def load_page(self, market: MarketId, after: int, last: int) -> tuple[list[Record], int]:
        """Records of a market past position ``after`` and up to ``last``, and where they end."""
        end = after
        with self._translated():
            rows = self._db.execute(
                f"SELECT {_COLUMNS}, position FROM records"  # noqa: S608
                " WHERE position > ? AND position <= ? AND market = ? ORDER BY position",
                (after, last, market),
            )

            def read() -> Iterator[Record]:
                nonlocal end
                for *columns, position in rows:
                    end = position
                    yield _record(columns)

            records = page(read())
        return records, end

    def find(self, market: MarketId, digests: Sequence[Digest]) -> list[Record]:
        """``Store.find``."""
        query = f"SELECT {_COLUMNS} FROM records WHERE digest = ? AND market = ?"  # noqa: S608
        with self._translated():
            rows = (self._db.execute(query, (digest, market)).fetchone() for digest in digests)
            return page(_record(row) for row in rows if row is not None)

    def log(self, market: MarketId, author: Address, first_seq: Seq, limit: int) -> list[Record]:
        """``Store.log``."""
        where = "kind = 0 AND market = ? AND signer = ? AND number >= ?"
        return self._ascending(where, (market, author, first_seq), limit)

    def rounds(self, market: MarketId, era: Era, first_round: Round, limit: int) -> list[Record]:
        """``Store.rounds``."""
        where = "kind = 1 AND market = ? AND era = ? AND number >= ?"
        return self._ascending(where, (market, era, first_round), limit)

    def _ascending(self, where: str, values: tuple[bytes | int, ...], limit: int) -> list[Record]:
        with self._translated():
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM records WHERE {where} ORDER BY number, position",  # noqa: S608
                values,
            )
            return page(map(_record, rows), limit)

    def meta(self, name: str) -> bytes | None:
        """``Store.meta``."""
        with self._translated():
            return self._meta(name)

    def _meta(self, name: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    # --- transactions and errors ---

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # SQLite may have rolled back by itself, a full disk is such a case.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self._failure is not None:
            raise StoreError(self._failure)
        try:
            yield
        except sqlite3.Error as error:
            reason = self._explain(error)
            # After a failed flush the kernel may report the next one as done although the pages
            # are lost: what is durable is known only after opening the file anew.
            if _primary(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT):
                self._failure = reason
            raise StoreError(reason) from error

    def _explain(self, error: sqlite3.Error) -> str:
        match _primary(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return f"the store {self.path} is in use by another process: stop that one first"
            case sqlite3.SQLITE_FULL:
                return f"no space left for the store {self.path}: free some, nothing was lost"
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                return f"cannot write the store {self.path}: check owner and permissions ({error})"
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                return self.damage(str(error))
            case _:
                return f"the store {self.path} failed: {error}"

    def damage(self, detail: str) -> str:
        """What to tell the user when the file holds what was never written."""
        return (
            f"the store {self.path} is damaged ({detail}): restore a backup, or move it away; "
            "a witness without its store signs nothing before the next era"
        )


def _boot() -> bytes:
    try:
        return _BOOT.read_bytes().strip()
    except OSError:
        return os.urandom(16)  # known to nobody later: after an interruption the file is checked


def _primary(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _check(records: Sequence[Record]) -> None:
    for record in records:
        sizes = len(record.market), len(record.signer), len(record.digest)
        if sizes != (32, 20, 32) or not 0 <= record.number <= MAX_UINT63 >= record.era >= 0:
            raise CallerError(f"not a record that can be kept: {record[:6]}")


def _record(row: Sequence[Any]) -> Record:
    kind, market, signer, era, number, digest, encoded = row
    return Record(
        RecordKind(kind),
        MarketId(market),
        Address(signer),
        Era(era),
        number,
        Digest(digest),
        encoded,
    )
