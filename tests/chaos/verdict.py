"""What the stores of stopped nodes say: nothing lost, nothing signed twice, the same roots.

Nothing the nodes report is believed: every store is replayed from its first record on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from orrange_p2p.core.entries import Entry, decode_entry
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, Digest, Epoch, Seq
from orrange_p2p.core.operations import Cancel, Operation, Place, Side
from orrange_p2p.core.replica import AppliedEpoch, Replica, Taken
from orrange_p2p.core.ticks import Tick, decode_tick
from orrange_p2p.ports import Record, RecordKind
from orrange_p2p.store.sqlite_file import SqliteFile


class Acknowledged(NamedTuple):
    """One operation that a node said it has written."""

    author: str
    seq: int
    position: int
    row: dict[str, Any]


class Book:
    """The log of what was acknowledged: a line each, written before the next is submitted."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self.written = 0

    def note(self, author: str, named: Iterable[dict[str, Any]], rows: Iterable[Any]) -> None:
        for name, row in zip(named, rows, strict=True):
            line = Acknowledged(author, name["seq"], name["position"], row)
            self._file.write(json.dumps(line) + "\n")
            self.written += 1
        self._file.flush()


def read_book(path: Path) -> list[Acknowledged]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Acknowledged(*json.loads(line)) for line in lines]


@attrs.define
class Replayed:
    """One store, folded anew."""

    recorded: dict[Epoch, bytes]
    """Roots that the node wrote down while it ran."""
    roots: dict[Epoch, bytes] = attrs.field(factory=dict)
    committed: dict[tuple[Address, Seq], Entry] = attrs.field(factory=dict)
    digests: dict[tuple[object, ...], set[Digest]] = attrs.field(factory=lambda: defaultdict(set))
    """Of all records, by what a key may sign once only."""


def replay(path: Path, genesis: Genesis) -> Replayed:
    """Fold a store's records in their order of arrival; those that came too early, afterwards."""
    market = genesis.markets[0].id
    with SqliteFile(path, genesis.network_id) as file:
        last = file.last_position()
        found = Replayed({r.epoch: r.root for r in file.epochs(market, Epoch(0), -1)})
        replica = Replica(genesis, market)
        position = 0
        early: list[Entry | Tick] = []
        while True:
            page, position = file.load_page(market, position, last)
            if not page:
                break
            for record in page:
                name = (record.kind, record.signer, record.era, record.number)
                found.digests[name].add(record.digest)
                early += _take(found, replica, [_decode(record, genesis)])
    while early and len(rest := _take(found, replica, early)) < len(early):
        early = rest
    return found


def _take(found: Replayed, replica: Replica, facts: Sequence[Entry | Tick]) -> list[Entry | Tick]:
    """Those of ``facts`` that the replica did not want yet."""
    early: list[Entry | Tick] = []
    for fact in facts:
        add = replica.add_entry if isinstance(fact, Entry) else replica.add_tick
        effects = add(fact)
        if effects.taken is Taken.USELESS:
            early.append(fact)
        _note(found, effects.epochs)
    return early


def _note(found: Replayed, epochs: Iterable[AppliedEpoch]) -> None:
    for facts, outcome in epochs:
        found.roots[outcome.epoch] = outcome.root
        for entry in facts.entries:
            found.committed[entry.author, entry.seq] = entry


def _decode(record: Record, genesis: Genesis) -> Entry | Tick:
    decode = decode_entry if record.kind is RecordKind.ENTRY else decode_tick
    return decode(record.encoded, genesis.separator, record.market)


def judge(genesis: Genesis, stores: Sequence[Path], book: Sequence[Acknowledged]) -> dict[str, Any]:
    """The figures that `make chaos` ends with."""
    replays = [replay(path, genesis) for path in stores]
    common = set.intersection(*({*r.roots} for r in replays))
    last = max(common, default=Epoch(0))
    unequal = [
        epoch
        for epoch in set().union(*({*r.roots, *r.recorded} for r in replays))
        if len({w[epoch] for r in replays for w in (r.roots, r.recorded) if epoch in w}) > 1
    ]
    lost = [
        (number, line)
        for number, replayed in enumerate(replays)
        for line in book
        if not _is_there(replayed, line)
    ]
    names: dict[tuple[object, ...], set[Digest]] = defaultdict(set)
    for replayed in replays:
        for name, digests in replayed.digests.items():
            names[name] |= digests
    return {
        "acknowledged": len(book),
        "lost": len({line[:3] for _, line in lost}),
        "lost_examples": [f"node {n}: {line.author} {line[1:3]}" for n, line in lost[:5]],
        "common_epoch": last,
        "root": replays[0].roots[last].hex() if last else None,
        "roots_equal": bool(common) and not unequal,
        "unequal_epochs": sorted(unequal)[:5],
        "double_signatures": sum(len(digests) > 1 for digests in names.values()),
        "signed": len(names),
    }


def _is_there(replayed: Replayed, line: Acknowledged) -> bool:
    author = Address(bytes.fromhex(line.author.removeprefix("0x")))
    entry = replayed.committed.get((author, Seq(line.seq)))
    if entry is None or line.position >= len(entry.operations):
        return False
    return _says(entry.operations[line.position], line.row)


def _says(operation: Operation, row: dict[str, Any]) -> bool:
    """Whether the committed operation is the one that was submitted."""
    if isinstance(operation, Place):
        side = Side[row.get("side", "buy").upper()]
        wanted = (side, row.get("price"), row.get("quantity"))
        return (operation.side, operation.price, operation.quantity) == wanted
    if isinstance(operation, Cancel):
        return (operation.seq, operation.position) == (row.get("seq"), row.get("position"))
    return False
