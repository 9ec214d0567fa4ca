"""`orrange`, which notes when each record goes out and when it comes in: one line each in the file
that the environment variable NOTES names, with the machine's monotonic clock."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from orrange_p2p.cli.main import main
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.ids import PeerId
from orrange_p2p.core.ticks import Tick
from orrange_p2p.daemon.intake import Intake
from orrange_p2p.daemon.outbox import Outbox

NOTES = open(os.environ["NOTES"], "a", buffering=1)  # noqa: SIM115 - for as long as it runs
put, queue = Outbox.put, Intake._queue


def note(way: str, record: Entry | Tick) -> None:
    kind = type(record).__name__.lower()
    NOTES.write(f"{way} {kind} {record.digest.hex()} {time.monotonic_ns() // 1000}\n")


def noting_put(self: Outbox, record: Entry | Tick) -> None:
    note("out", record)
    put(self, record)


async def noting_queue(self: Intake, peer: PeerId, facts: Sequence[Entry | Tick]) -> int:
    for fact in facts:
        note("in", fact)
    return await queue(self, peer, facts)


if __name__ == "__main__":
    Outbox.put = noting_put  # type: ignore[method-assign]
    Intake._queue = noting_queue  # type: ignore[method-assign, assignment]
    main()
