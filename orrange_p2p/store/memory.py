"""The store without a disk: what tests and simulations use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from operator import attrgetter

import trio

from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, Round, Seq
from orrange_p2p.ports import EpochRecord, OwnPosition, Record, RecordKind
from orrange_p2p.store.guard import Owner, advance, check_epoch
from orrange_p2p.store.pages import page

__all__ = ["MemoryStore"]


class MemoryStore:
    """Implements ``Store`` for as long as the object lives."""

    def __init__(self) -> None:
        self._records: dict[Digest, Record] = {}
        self._own: dict[Owner, OwnPosition] = {}
        self._epochs: dict[MarketId, dict[Epoch, EpochRecord]] = {}
        self._meta: dict[str, bytes] = {}

    async def append(self, records: Sequence[Record]) -> None:
        await trio.lowlevel.checkpoint()
        self._keep(records)

    async def append_own(self, records: Sequence[Record]) -> None:
        await trio.lowlevel.checkpoint()
        self._own.update(advance(records, self._own.get))
        self._keep(records)

    def _keep(self, records: Sequence[Record]) -> None:
        for record in records:
            self._records.setdefault(record.digest, record)

    async def own_position(
        self, kind: RecordKind, market: MarketId, signer: Address
    ) -> OwnPosition | None:
        await trio.lowlevel.checkpoint()
        return self._own.get((kind, market, signer))

    async def record_epoch(self, market: MarketId, record: EpochRecord) -> None:
        await trio.lowlevel.checkpoint()
        kept = self._epochs.setdefault(market, {})
        if check_epoch(kept.get(record.epoch), record):
            kept[record.epoch] = record

    async def epochs(
        self, market: MarketId, first: Epoch, *, limit: int = 1024
    ) -> Sequence[EpochRecord]:
        await trio.lowlevel.checkpoint()
        kept = sorted(self._epochs.get(market, {}).values())
        return [record for record in kept if record.epoch >= first][:limit]

    async def latest_epoch(self, market: MarketId) -> EpochRecord | None:
        await trio.lowlevel.checkpoint()
        return max(self._epochs.get(market, {}).values(), default=None)

    async def load(self, market: MarketId) -> AsyncIterator[Sequence[Record]]:
        records = [record for record in self._records.values() if record.market == market]
        while records:
            await trio.lowlevel.checkpoint()
            first = page(records)
            yield first
            del records[: len(first)]

    async def find(self, market: MarketId, digests: Sequence[Digest]) -> Sequence[Record]:
        await trio.lowlevel.checkpoint()
        found = (self._records[digest] for digest in digests if digest in self._records)
        return page(record for record in found if record.market == market)

    async def log(
        self, market: MarketId, author: Address, first_seq: Seq, *, limit: int = 256
    ) -> Sequence[Record]:
        await trio.lowlevel.checkpoint()
        entries = self._select(RecordKind.ENTRY, market, Era(0), first_seq)
        return page((record for record in entries if record.signer == author), limit)

    async def rounds(
        self, market: MarketId, era: Era, first_round: Round, *, limit: int = 256
    ) -> Sequence[Record]:
        await trio.lowlevel.checkpoint()
        return page(self._select(RecordKind.TICK, market, era, first_round), limit)

    def _select(self, kind: RecordKind, market: MarketId, era: Era, first: int) -> Iterable[Record]:
        chosen = [
            record
            for record in self._records.values()
            if (record.kind, record.market, record.era) == (kind, market, era)
            and record.number >= first
        ]
        return sorted(chosen, key=attrgetter("number"))

    async def meta(self, name: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self._meta.get(name)

    async def set_meta(self, name: str, value: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._meta[name] = value
