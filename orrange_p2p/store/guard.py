"""What a store refuses, whatever its medium.

Our own keys go forward only, so a second signature under one number is impossible. A checkpoint is
kept only with all its parts, and nothing is pruned but what one that is kept makes idle.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import Address, Epoch, MarketId
from orrange_p2p.ports import (
    CheckpointRecord,
    EpochRecord,
    OwnPosition,
    PruneLine,
    Record,
    RecordKind,
)

Owner = tuple[RecordKind, MarketId, Address]
"""One key in one of its roles in one market."""


def advance(
    records: Sequence[Record], last_of: Callable[[Owner], OwnPosition | None]
) -> dict[Owner, OwnPosition]:
    """Where the keys stand after ``records``; raises ``CallerError`` if one would sign twice.

    Gaps are allowed: after a restore a key goes on where the network has seen it last.
    """
    reached: dict[Owner, OwnPosition] = {}
    for record in records:
        owner = (record.kind, record.market, record.signer)
        last = reached.get(owner) or last_of(owner)
        position = OwnPosition(record.era, record.number, record.digest)
        if last is not None and position[:2] <= last[:2] and position != last:
            raise CallerError(
                f"0x{record.signer.hex()} must not sign {_name(record.kind, position)}: "
                f"it has signed {_name(record.kind, last)} and never signs twice under one number"
            )
        reached[owner] = position
    return reached


def check_epoch(kept: EpochRecord | None, record: EpochRecord) -> bool:
    """Whether ``record`` is new; raises ``CallerError`` if it contradicts what is kept."""
    if kept is not None and kept != record:
        raise CallerError(
            f"epoch {record.epoch} was recorded with root 0x{kept.root.hex()} and now comes with "
            f"0x{record.root.hex()}: the state was not folded alike"
        )
    return kept is None


def check_checkpoint(
    kept: CheckpointRecord | None, record: CheckpointRecord, held: Container[bytes]
) -> bool:
    """Whether ``record`` is new; ``CallerError`` if it is older than what is kept or incomplete."""
    if kept is not None and record.epoch <= kept.epoch:
        if record.epoch == kept.epoch:
            return False
        raise CallerError(f"a checkpoint of epoch {kept.epoch} is kept, newer than {record.epoch}")
    missing = sum(name not in held for name in record.parts)
    if missing:
        raise CallerError(f"{missing} parts of the checkpoint of epoch {record.epoch} are missing")
    return True


def check_prune(kept: Epoch | None, line: PruneLine) -> None:
    """Raises ``CallerError`` unless a checkpoint at or past the line is kept."""
    if kept is None or kept < line.epoch:
        raise CallerError(f"nothing before epoch {line.epoch} may go: no such checkpoint is kept")


def _name(kind: RecordKind, position: OwnPosition) -> str:
    if kind is RecordKind.ENTRY:
        return f"entry {position.number}"
    return f"a tick of era {position.era}, round {position.number}"
