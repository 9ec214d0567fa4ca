"""Frames: what gossip carries, a batch of entries and ticks (protocol/01-records.md, Frame)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.entries import MAX_ENTRY_BYTES
from orrange_p2p.core.ticks import MAX_TICK_BYTES

MAX_FRAME_BYTES: Final = 512 * 1024
"""Room for a record of the largest size beside a usual frame, flushed at ``FLUSH_BYTES``."""
FLUSH_BYTES: Final = 32 * 1024
MAX_FRAME_RECORDS: Final = 4096


class Frame(NamedTuple):
    """Encoded records, entries first: a tick may name the entries that travel beside it."""

    entries: tuple[bytes, ...]
    ticks: tuple[bytes, ...]

    def encode(self) -> bytes:
        return codec.encode(self)


def decode_frame(data: bytes) -> Frame:
    """Split a frame into encoded records, which are still to be decoded and verified.

    Raises ``OversizedError`` or ``MalformedError``.
    """
    record = codec.array(codec.decode_canonical(data, MAX_FRAME_BYTES), 2, "frame")
    return Frame(
        _records(record[0], MAX_ENTRY_BYTES, "entry"), _records(record[1], MAX_TICK_BYTES, "tick")
    )


def _records(value: codec.Value, limit: int, what: str) -> tuple[bytes, ...]:
    records = codec.items(value, MAX_FRAME_RECORDS, f"{what} list of frame")
    return tuple([codec.octets_upto(record, limit, what) for record in records])


def pack(entries: Sequence[bytes], ticks: Sequence[bytes]) -> list[Frame]:
    """As few frames as hold everything, each closed once it reaches ``FLUSH_BYTES``."""
    frames = []
    batch: tuple[list[bytes], list[bytes]] = ([], [])
    size = 0
    for kind, records in enumerate((entries, ticks)):
        for record in records:
            batch[kind].append(record)
            size += len(record)
            if size >= FLUSH_BYTES or len(batch[kind]) == MAX_FRAME_RECORDS:
                frames.append(Frame(tuple(batch[0]), tuple(batch[1])))
                batch = ([], [])
                size = 0
    if size:
        frames.append(Frame(tuple(batch[0]), tuple(batch[1])))
    return frames
