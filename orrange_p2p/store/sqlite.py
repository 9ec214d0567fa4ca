"""The store of a running node: one SQLite file, driven from trio with group commit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import trio

from orrange_p2p.core.errors import CallerError, StoreError
from orrange_p2p.core.ids import (
    Address,
    Digest,
    Epoch,
    Era,
    MarketId,
    MatchId,
    NetworkId,
    Round,
    Seq,
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
from orrange_p2p.store.sqlite_file import (
    Append,
    AppendOwn,
    KeepBindings,
    KeepCheckpoint,
    KeepParts,
    RecordEpoch,
    RecordProgress,
    SetMeta,
    SqliteFile,
    Write,
)

__all__ = ["SqliteStore", "open_sqlite_store"]

GROUP_WRITES: Final = 1024
"""Most writes of one transaction; whoever comes later opens the next group."""

_Answer = TypeVar("_Answer")


class _Group:
    """Writes that share one transaction. The task that opened it commits it."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.committed = trio.Event()
        self.answers: Sequence[CallerError | None] = ()
        self.failure: StoreError | None = None


class SqliteStore:
    """Implements ``Store`` and ``TradeStore``. Made by ``open_sqlite_store``.

    While one group is being flushed the next one fills, so the slower the disk, the larger the
    groups. The queue holds one write per waiting task and no more.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._is_open = True
        self._disk = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        """Threads of its own: verification may hold all of trio's."""
        self._group = _Group()
        self.flushes = 0
        """Transactions so far, for the log and the tests."""

    # --- writing ---

    async def append(self, records: Sequence[Record]) -> None:
        await self._write(Append(tuple(records)))

    async def append_own(self, records: Sequence[Record]) -> None:
        await self._write(AppendOwn(tuple(records)))

    async def record_epoch(self, market: MarketId, record: EpochRecord) -> None:
        await self._write(RecordEpoch(market, record))

    async def set_meta(self, name: str, value: bytes) -> None:
        await self._write(SetMeta(name, value))

    async def keep_parts(self, market: MarketId, parts: Mapping[bytes, bytes]) -> None:
        await self._write(KeepParts(market, dict(parts)))

    async def keep_checkpoint(self, market: MarketId, record: CheckpointRecord) -> None:
        await self._write(KeepCheckpoint(market, record))

    async def keep_bindings(self, market: MarketId, taken: Taken) -> None:
        await self._write(KeepBindings(market, taken))

    async def record_progress(self, market: MarketId, progress: Mapping[MatchId, Progress]) -> None:
        await self._write(RecordProgress(market, dict(progress)))

    async def drop_checkpoints(self, market: MarketId) -> None:
        await self._exclusive(lambda: self._file.drop_checkpoints(market))

    async def drop_epochs(self, market: MarketId, after: Epoch) -> None:
        await self._exclusive(lambda: self._file.drop_epochs(market, after))

    async def prune(self, market: MarketId, line: PruneLine, *, limit: int = 256) -> int:
        return await self._exclusive(lambda: self._file.prune(market, line, limit))

    async def _write(self, write: Write) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if len(self._group.writes) >= GROUP_WRITES:
            self._group = _Group()
        group = self._group
        place = len(group.writes)
        group.writes.append(write)
        if place == 0:
            # Others depend on this task now: it no longer listens to its own cancellation.
            with trio.CancelScope(shield=True):
                await self._commit(group)
        await group.committed.wait()
        if group.failure is not None:
            raise StoreError(str(group.failure)) from group.failure
        refusal = group.answers[place]
        if refusal is not None:
            raise refusal

    async def _commit(self, group: _Group) -> None:
        try:
            async with self._disk:
                if group is self._group:
                    self._group = _Group()
                group.answers = await self._run(lambda: self._file.commit(group.writes))
                self.flushes += 1
        except StoreError as error:
            group.failure = error
        finally:
            group.committed.set()

    # --- reading ---

    async def own_position(
        self, kind: RecordKind, market: MarketId, signer: Address
    ) -> OwnPosition | None:
        return await self._exclusive(lambda: self._file.own_position(kind, market, signer))

    async def epochs(
        self, market: MarketId, first: Epoch, *, limit: int = 1024
    ) -> Sequence[EpochRecord]:
        return await self._exclusive(lambda: self._file.epochs(market, first, limit))

    async def latest_epoch(self, market: MarketId) -> EpochRecord | None:
        return await self._exclusive(lambda: self._file.latest_epoch(market))

    async def held_parts(self, market: MarketId, names: Sequence[bytes]) -> set[bytes]:
        return await self._exclusive(lambda: self._file.held_parts(market, names))

    async def part(self, market: MarketId, name: bytes) -> bytes | None:
        return await self._exclusive(lambda: self._file.part(market, name))

    async def checkpoint(self, market: MarketId) -> CheckpointRecord | None:
        return await self._exclusive(lambda: self._file.checkpoint(market))

    async def load(self, market: MarketId) -> AsyncIterator[Sequence[Record]]:
        last = await self._exclusive(self._file.last_position)
        position = 0

        def next_page() -> list[Record]:
            nonlocal position
            records, position = self._file.load_page(market, position, last)
            return records

        while records := await self._exclusive(next_page):
            yield records

    async def find(self, market: MarketId, digests: Sequence[Digest]) -> Sequence[Record]:
        return await self._exclusive(lambda: self._file.find(market, digests))

    async def log(
        self, market: MarketId, author: Address, first_seq: Seq, *, limit: int = 256
    ) -> Sequence[Record]:
        return await self._exclusive(lambda: self._file.log(market, author, first_seq, limit))

    async def rounds(
        self, market: MarketId, era: Era, first_round: Round, *, limit: int = 256
    ) -> Sequence[Record]:
        return await self._exclusive(lambda: self._file.rounds(market, era, first_round, limit))

    async def consents(self, market: MarketId) -> Mapping[tuple[MatchId, Address], Consent]:
        return await self._exclusive(lambda: self._file.consents(market))

    async def unsettled_trades(self, market: MarketId) -> Sequence[TradeRecord]:
        return await self._exclusive(lambda: self._file.unsettled_trades(market))

    async def trades(
        self, market: MarketId, since: int = 0, *, limit: int = 256
    ) -> Sequence[tuple[int, TradeRecord]]:
        return await self._exclusive(lambda: self._file.trades(market, since, limit))

    async def count_trades(self, market: MarketId) -> Mapping[int, int]:
        return await self._exclusive(lambda: self._file.count_trades(market))

    async def meta(self, name: str) -> bytes | None:
        return await self._exclusive(lambda: self._file.meta(name))

    async def backup(self, path: Path, marks: Mapping[str, bytes]) -> None:
        """As ``SqliteFile.backup``."""
        await self._exclusive(lambda: self._file.backup(path, marks))

    async def _exclusive(self, call: Callable[[], _Answer]) -> _Answer:
        async with self._disk:
            return await self._run(call)

    async def _run(self, call: Callable[[], _Answer]) -> _Answer:
        """Never abandons the thread: a cancelled caller waits for the disk."""
        if not self._is_open:
            raise StoreError(f"the store {self._file.path} is closed")
        return await trio.to_thread.run_sync(call, limiter=self._thread)

    async def aclose(self) -> None:
        """Wait for the write under way and close the file; later calls raise ``StoreError``."""
        with trio.CancelScope(shield=True):
            async with self._disk:
                if self._is_open:
                    self._is_open = False
                    await trio.to_thread.run_sync(self._file.close, limiter=self._thread)


@asynccontextmanager
async def open_sqlite_store(
    path: Path, network_id: NetworkId, begins_with: Mapping[str, bytes] | None = None
) -> AsyncIterator[SqliteStore]:
    """Open or create the store of a network; closed on leaving. Arguments and errors as
    ``SqliteFile``'s."""
    store = SqliteStore(await trio.to_thread.run_sync(SqliteFile, path, network_id, begins_with))
    try:
        yield store
    finally:
        await store.aclose()
