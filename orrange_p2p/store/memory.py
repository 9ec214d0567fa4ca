"""The store without a disk: what tests and simulations use."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final

import trio

from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, MatchId, Round, Seq
from orrange_p2p.core.swaps.atomic import Progress, TradeState
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
from orrange_p2p.store.guard import Owner, advance, check_checkpoint, check_epoch, check_prune
from orrange_p2p.store.pages import page

__all__ = ["MemoryStore"]

_FOR_EVER: Final = (TradeState.SETTLED, TradeState.EXPIRED)


class MemoryStore:
    """Implements ``Store`` and ``TradeStore`` for as long as the object lives."""

    def __init__(self) -> None:
        self._records: dict[Digest, Record] = {}
        self._own: dict[Owner, OwnPosition] = {}
        self._epochs: dict[MarketId, dict[Epoch, EpochRecord]] = {}
        self._meta: dict[str, bytes] = {}
        self._parts: dict[MarketId, dict[bytes, bytes]] = {}
        self._checkpoints: dict[MarketId, CheckpointRecord] = {}
        self._consents: dict[MarketId, dict[tuple[MatchId, Address], Consent]] = {}
        self._trades: dict[MarketId, dict[MatchId, TradeRecord]] = {}

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

    async def keep_parts(self, market: MarketId, parts: Mapping[bytes, bytes]) -> None:
        await trio.lowlevel.checkpoint()
        self._parts[market] = {**self._parts.get(market, {}), **parts}

    async def held_parts(self, market: MarketId, names: Sequence[bytes]) -> set[bytes]:
        await trio.lowlevel.checkpoint()
        return set(names) & self._parts.get(market, {}).keys()

    async def part(self, market: MarketId, name: bytes) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self._parts.get(market, {}).get(name)

    async def keep_checkpoint(self, market: MarketId, record: CheckpointRecord) -> None:
        held = await self.held_parts(market, record.parts)
        if check_checkpoint(self._checkpoints.get(market), record, held):
            self._checkpoints[market] = record

    async def checkpoint(self, market: MarketId) -> CheckpointRecord | None:
        await trio.lowlevel.checkpoint()
        return self._checkpoints.get(market)

    async def drop_checkpoints(self, market: MarketId) -> None:
        await trio.lowlevel.checkpoint()
        for kept in (self._checkpoints, self._parts, self._epochs):
            kept.pop(market, None)

    async def drop_epochs(self, market: MarketId, after: Epoch) -> None:
        await trio.lowlevel.checkpoint()
        kept = self._epochs.get(market, {})
        for epoch in [epoch for epoch in kept if epoch > after]:
            del kept[epoch]

    async def prune(self, market: MarketId, line: PruneLine, *, limit: int = 256) -> int:
        """All at once: nobody waits for a disk here."""
        await trio.lowlevel.checkpoint()
        kept = self._checkpoints.get(market)
        check_prune(None if kept is None else kept.epoch, line)
        assert kept is not None
        firsts = dict(line.logs)
        idle = [
            record
            for record in self._records.values()
            if record.market == market
            and (
                record.number < firsts.get(record.signer, 0)
                if record.kind is RecordKind.ENTRY
                else (record.era, record.number) < (line.era, line.round)
            )
        ]
        for record in idle:
            del self._records[record.digest]
        epochs = self._epochs.get(market, {})
        past = [epoch for epoch in epochs if epoch < line.epoch]
        parts = self._parts.get(market, {})
        unused = parts.keys() - set(kept.parts)
        for epoch in past:
            del epochs[epoch]
        for name in unused:
            del parts[name]
        return len(idle) + len(past) + len(unused)

    async def keep_bindings(self, market: MarketId, taken: Taken) -> None:
        await trio.lowlevel.checkpoint()
        ended = {*(trade.id for trade in taken.trades), *taken.lapsed}
        kept = {**self._consents.get(market, {}), **taken.consents}
        self._consents[market] = {key: kept[key] for key in kept if key[0] not in ended}
        trades = self._trades.setdefault(market, {})
        for trade in taken.trades:
            trades.setdefault(trade.id, TradeRecord(trade, Progress()))

    async def consents(self, market: MarketId) -> Mapping[tuple[MatchId, Address], Consent]:
        await trio.lowlevel.checkpoint()
        return dict(self._consents.get(market, {}))

    async def record_progress(self, market: MarketId, progress: Mapping[MatchId, Progress]) -> None:
        await trio.lowlevel.checkpoint()
        trades = self._trades.get(market, {})
        for name in progress:
            if name not in trades:
                raise CallerError(f"there is no trade 0x{name.hex()}")
        for name, stands in progress.items():
            trades[name] = trades[name]._replace(progress=stands)

    async def unsettled_trades(self, market: MarketId) -> Sequence[TradeRecord]:
        await trio.lowlevel.checkpoint()
        records = self._trades.get(market, {}).values()
        return [record for record in records if record.progress.state not in _FOR_EVER]

    async def trades(
        self, market: MarketId, since: int = 0, *, limit: int = 256
    ) -> Sequence[tuple[int, TradeRecord]]:
        await trio.lowlevel.checkpoint()
        placed = enumerate(self._trades.get(market, {}).values(), start=1)
        return list(islice((row for row in placed if row[0] > since), limit))

    async def count_trades(self, market: MarketId) -> Mapping[int, int]:
        await trio.lowlevel.checkpoint()
        records = self._trades.get(market, {}).values()
        return Counter(int(record.progress.state) for record in records)

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
