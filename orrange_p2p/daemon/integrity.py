"""Whether a stopped node's files are what was written there: every byte that can be proven is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orrange_p2p.core.checkpoints import decode_checkpoint
from orrange_p2p.core.entries import decode_entry
from orrange_p2p.core.errors import CallerError, PeerError, StoreError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import MarketId
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.ticks import decode_tick
from orrange_p2p.daemon.config import DataDir, load_config
from orrange_p2p.ports import Record, RecordKind
from orrange_p2p.store.sqlite_file import SqliteFile

__all__ = ["Finding", "examine"]


class Finding(NamedTuple):
    """What was looked at, and what is wrong with it."""

    what: str
    seen: str
    """How much of it there is."""
    wrong: str = ""
    """Empty if nothing is."""


def examine(directory: DataDir) -> Iterator[Finding]:
    """Look at everything, the quick things first; ends where nothing further can be told."""
    try:
        load_config(directory.path)
        genesis = directory.load_genesis()
    except (CallerError, StoreError) as error:
        yield Finding("configuration", "", str(error))
        return
    yield Finding("configuration", f"network {genesis.name!r}")
    if not directory.store.exists():
        yield Finding("store", "none yet: the node never ran")
        return
    try:
        with SqliteFile(directory.store, genesis.network_id) as file:
            yield Finding("store", f"{file.check():,} records")
            for market in genesis.markets:
                yield _records(file, genesis, market.id)
                yield _checkpoint(file, genesis, market.id)
    except (CallerError, StoreError) as error:
        yield Finding("store", "", str(error))


def _records(file: SqliteFile, genesis: Genesis, market: MarketId) -> Finding:
    """The structure is sound; here the bytes: each record is the one its author signed."""
    what = f"records of market {market.hex()[:8]}"
    count, position, last = 0, 0, file.last_position()
    while True:
        records, position = file.load_page(market, position, last)
        if not records:
            return Finding(what, f"{count:,}, all with valid signatures")
        for record in records:
            try:
                _check(record, genesis, market)
            except PeerError as error:
                name = f"{record.kind.name.lower()} {record.number} of 0x{record.signer.hex()}"
                return Finding(what, f"{count:,} before it", f"{name} is damaged: {error}")
            count += 1


def _check(record: Record, genesis: Genesis, market: MarketId) -> None:
    decode = decode_entry if record.kind is RecordKind.ENTRY else decode_tick
    fact = decode(record.encoded, genesis.separator, market)
    fact.verify()
    if fact.digest != record.digest:
        raise PeerError("it is not the record of its digest")


def _checkpoint(file: SqliteFile, genesis: Genesis, market: MarketId) -> Finding:
    """Signed by a quorum, and its parts make the state whose root they signed."""
    what = f"checkpoint of market {market.hex()[:8]}"
    record = file.checkpoint(market)
    if record is None:
        return Finding(what, "none yet")
    seen = f"epoch {record.epoch}, {len(record.parts)} parts"
    try:
        checkpoint = decode_checkpoint(record.encoded)
        checkpoint.verify(genesis, market)
        blobs = {name: file.part(market, name) or b"" for name in record.parts}
        Replica.resume(genesis, market, checkpoint, blobs)
    except (PeerError, KeyError) as error:
        return Finding(what, seen, f"it is damaged ({error}): the next start drops it")
    return Finding(what, seen)
