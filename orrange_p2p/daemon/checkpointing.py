"""Checkpoints of one market: written, served to others, and what lies before them pruned.

The replica keeps the whole state of every so manieth epoch. Here it goes to disk in its parts, of
which most are there from the checkpoint before; only when it is durable is anything older
forgotten. One checkpoint is kept behind the newest, for whoever is fetching it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

import structlog
import trio

from orrange_p2p.core.accounts import Account
from orrange_p2p.core.checkpoints import CertifiedState, Checkpoint, decode_checkpoint
from orrange_p2p.core.dag import WINDOW_ROUNDS
from orrange_p2p.core.errors import PeerError
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import Address, Epoch, Era, Round, Seq
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.sync import (
    MAX_PAGE_BYTES,
    CheckpointPage,
    CheckpointWanted,
    Parts,
    PartsWanted,
)
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.ports import CheckpointRecord, PruneLine

LOOK_EVERY_S: Final = 1.0
PARTS_AT_ONCE: Final = 4
"""Encoded and written together: some 0.5 MiB, a few milliseconds."""
PRUNED_AT_ONCE: Final = 256
PARTS_BYTES: Final = 512 * 1024
"""A reply is full from here on; one part more fits."""
PAUSE_S: Final = 0.01
"""Between slices of disk work, for the writes that somebody waits for."""

log = structlog.get_logger()


class Checkpointing:
    """The checkpoints of one market in its store."""

    def __init__(self, node: MarketNode, is_archive: bool) -> None:
        """An archive prunes nothing."""
        self._node = node
        self._is_archive = is_archive
        self.lock = trio.Lock()
        """Held by whoever writes parts until their checkpoint is kept, for parts that belong to
        none are pruned; and by whoever prunes."""
        self.newest: CheckpointRecord | None = None
        self._behind: PruneLine | None = None
        """What the newest checkpoint makes idle, once there is a newer one."""

    @property
    def epoch(self) -> Epoch:
        """Of the newest checkpoint on disk; 0 if there is none."""
        return Epoch(0) if self.newest is None else self.newest.epoch

    async def load(self) -> Replica:
        """The state of our newest checkpoint; that of genesis if there is none.

        A damaged one is dropped. What it stood for is computed anew from the records, as far as
        they are still here, or else taken from others.
        """
        node = self._node
        record = await node.store.checkpoint(node.market_id)
        if record is not None:
            try:
                checkpoint = decode_checkpoint(record.encoded)
                blobs = {name: await self._part(name) for name in record.parts}
                replica = await trio.to_thread.run_sync(
                    Replica.resume,
                    node.genesis,
                    node.market_id,
                    checkpoint,
                    blobs,
                    node.checkpoint_epochs,
                )
            except (PeerError, KeyError) as error:
                node.counters["checkpoints_damaged"] += 1
                log.error("own checkpoint damaged: dropped", epoch=record.epoch, reason=str(error))
                await node.store.drop_checkpoints(node.market_id)
            else:
                self.note_start(record, replica)
                return replica
        self.newest = self._behind = None
        return Replica(node.genesis, node.market_id, node.checkpoint_epochs)

    async def _part(self, name: bytes) -> bytes:
        part = await self._node.store.part(self._node.market_id, name)
        if part is None:
            raise KeyError(name.hex())
        return part

    def note_start(self, record: CheckpointRecord, replica: Replica) -> None:
        """The market starts from this checkpoint, which is on disk; ``replica`` stands there."""
        header = replica.fold.header
        assert header is not None
        self.newest = record
        accounts = replica.fold.accounts.items()
        self._behind = _line(header, [(address, acct.next_seq) for address, acct in accounts])

    async def run(self) -> None:
        """Write each new checkpoint, and prune, until cancelled."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            kept = self._node.replica.checkpoints
            # Not before all that its epochs brought is durable: nothing is computed again then.
            if kept and self.epoch < kept[-1].header.epoch <= self._node.recorded:
                await self._keep(kept[-1])

    async def _keep(self, state: CertifiedState) -> None:
        node = self._node
        store, market_id = node.store, node.market_id
        async with self.lock:
            if state.header.epoch <= self.epoch:
                return  # we joined at a later one meanwhile
            checkpoint: Checkpoint = await trio.to_thread.run_sync(lambda: state.checkpoint)
            names = state.names
            held = await store.held_parts(market_id, names)
            lacking = iter([name for name in names if name not in held])
            written = 0
            while some := list(islice(lacking, PARTS_AT_ONCE)):
                await store.keep_parts(
                    market_id, await trio.to_thread.run_sync(_encoded, state, some)
                )
                written += len(some)
                await trio.sleep(PAUSE_S)
            line = await trio.to_thread.run_sync(_line_of, state)
            encoded = await trio.to_thread.run_sync(checkpoint.encode)
            record = CheckpointRecord(state.header.epoch, encoded, names)
            await store.keep_checkpoint(market_id, record)
            self.newest, behind, self._behind = record, self._behind, line
            node.counters["checkpoints_kept"] += 1
            pruned = 0 if behind is None or self._is_archive else await self._prune(behind)
        log.info(
            "checkpoint kept", epoch=record.epoch, parts=len(names), new=written, pruned=pruned
        )

    async def _prune(self, line: PruneLine) -> int:
        node = self._node
        total = 0
        while gone := await node.store.prune(node.market_id, line, limit=PRUNED_AT_ONCE):
            total += gone
            await trio.sleep(PAUSE_S)
        node.counters["records_pruned"] += total
        return total

    # --- server ---

    async def answer(self, request: CheckpointWanted | PartsWanted) -> CheckpointPage | Parts:
        """What of our checkpoints a peer asks for."""
        if isinstance(request, PartsWanted):
            return await self._parts(request.names)
        newest = self.newest
        if newest is None or request.epoch not in (0, newest.epoch):
            return CheckpointPage(Epoch(0), 0, b"")
        end = 0 if request.epoch == 0 else request.offset + MAX_PAGE_BYTES
        page = newest.encoded[request.offset : end]
        return CheckpointPage(newest.epoch, len(newest.encoded), page)

    async def _parts(self, names: Sequence[bytes]) -> Parts:
        store, market_id = self._node.store, self._node.market_id
        held = await store.held_parts(market_id, names)
        found: list[tuple[bytes, bytes]] = []
        size = 0
        for name in names:
            if name in held and (part := await store.part(market_id, name)) is not None:
                found.append((name, part))
                size += len(part)
                if size > PARTS_BYTES:
                    break
        return Parts(tuple(found))


def _encoded(state: CertifiedState, names: Iterable[bytes]) -> dict[bytes, bytes]:
    found = {name: state.part(name) for name in names}
    return {name: part for name, part in found.items() if part is not None}


def _line_of(state: CertifiedState) -> PruneLine:
    heads = []
    for key, leaf in state.view.accounts.items():
        account = Account.of_leaf(Address(key), leaf)
        heads.append((account.address, account.next_seq))
    return _line(state.header, heads)


def _line(header: StateHeader, heads: Sequence[tuple[Address, Seq]]) -> PruneLine:
    """What nobody who starts at this state needs: the clock goes on from the window before it."""
    if header.closes_era:
        return PruneLine(header.epoch, Era(header.era + 1), Round(0), tuple(heads))
    first = Round(max(0, header.round - WINDOW_ROUNDS))
    return PruneLine(header.epoch, header.era, first, tuple(heads))
