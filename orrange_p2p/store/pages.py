"""Reads come in pages, so that no query holds the disk or the memory for long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from orrange_p2p.ports import Record

PAGE_BYTES: Final = 512 * 1024
"""A page closes with the record that reaches this: room for any one record."""
PAGE_RECORDS: Final = 1024


def page(records: Iterable[Record], limit: int = PAGE_RECORDS) -> list[Record]:
    """The first records, up to ``limit`` (at least one) or ``PAGE_BYTES``."""
    taken: list[Record] = []
    size = 0
    for record in records:
        taken.append(record)
        size += len(record.encoded)
        # Before the next one is read: a reader that is taken from and not kept is a gap.
        if size >= PAGE_BYTES or len(taken) >= limit:
            break
    return taken
