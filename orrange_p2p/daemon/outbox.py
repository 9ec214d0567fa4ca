"""What leaves by gossip: records gathered into frames, sent after 20 ms or when one is full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import trio

from orrange_p2p.core import frames
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.ticks import Tick
from orrange_p2p.ports import Transport

FLUSH_AFTER_S: Final = 0.02
MAX_PENDING_BYTES: Final = 8 * 1024 * 1024
"""Beyond this the oldest give way, counted: everyone who lacks them pulls them by sync."""


class Outbox:
    """The gossip side of one market's own and repaired records."""

    def __init__(
        self, transport: Transport, topics: Callable[[], Sequence[str]], counters: Counter[str]
    ) -> None:
        """``topics`` are asked for each frame: they follow the versions of connected peers."""
        self._transport = transport
        self._topics = topics
        self._counters = counters
        self._entries: list[bytes] = []
        self._ticks: list[bytes] = []
        self._size = 0
        self._filled = trio.Event()
        self._full = trio.Event()

    @property
    def pending_bytes(self) -> int:
        return self._size

    def put(self, record: Entry | Tick) -> None:
        """Queue a durable record. Never waits."""
        size = len(record.encoded)
        if self._size + size > MAX_PENDING_BYTES:
            self._counters["outbox_dropped"] += 1
            return
        (self._entries if isinstance(record, Entry) else self._ticks).append(record.encoded)
        self._size += size
        self._filled.set()
        if isinstance(record, Tick) or self._size >= frames.FLUSH_BYTES:
            self._full.set()  # a tick is what others wait for: it takes along what is there

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await self._filled.wait()
            with trio.move_on_after(FLUSH_AFTER_S):
                await self._full.wait()
            batch = frames.pack(self._entries, self._ticks)
            self._entries, self._ticks, self._size = [], [], 0
            self._filled, self._full = trio.Event(), trio.Event()
            for frame in batch:
                encoded = frame.encode()
                self._counters["frames_out"] += 1
                self._counters["bytes_out"] += len(encoded)
                for topic in self._topics():
                    await self._transport.publish(topic, encoded)
