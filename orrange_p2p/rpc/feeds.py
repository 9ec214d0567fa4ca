"""What subscribers are told: a snapshot, then every change in order.

A message is encoded once, however many hear it. A subscriber that does not keep up is cut off: it
would rather come back and get a snapshot than be told late, and memory is not for those who do not
read.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

__all__ = ["Feeds", "Subscriber"]

MAX_BEHIND: Final = 64
"""Messages that may wait for one subscriber."""
MAX_SUBSCRIBERS: Final = 4096

Snapshot = Callable[[], Any]


class Subscriber:
    """One connection's queue."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._filled = trio.Event()
        self.is_cut_off = False

    def put(self, text: str) -> None:
        if len(self._waiting) >= MAX_BEHIND:
            self.is_cut_off = True
            self._waiting.clear()
        else:
            self._waiting.append(text)
        self._filled.set()

    async def next(self) -> str | None:
        """The next message; None once it is cut off."""
        while not self._waiting and not self.is_cut_off:
            await self._filled.wait()
            self._filled = trio.Event()
        return None if self.is_cut_off else self._waiting.popleft()


class Feeds:
    """Named channels and who listens to them."""

    def __init__(self, counters: Counter[str]) -> None:
        self._snapshots: dict[str, tuple[str, Snapshot]] = {}
        self._listeners: dict[str, dict[Subscriber, None]] = {}
        self._count = 0
        self.joined = trio.Event()
        """Set, and replaced by a fresh one, whenever somebody begins to listen."""
        self._counters = counters

    def open(self, channel: str, scope: str, snapshot: Snapshot) -> None:
        """Offer a channel to whoever may ``scope``."""
        self._snapshots[channel] = (scope, snapshot)
        self._listeners[channel] = {}

    @property
    def channels(self) -> Mapping[str, str]:
        """Name to scope."""
        return {name: scope for name, (scope, _) in self._snapshots.items()}

    def is_heard(self, channel: str) -> bool:
        return bool(self._listeners[channel])

    @property
    def is_full(self) -> bool:
        return self._count >= MAX_SUBSCRIBERS

    def join(self, subscriber: Subscriber, channels: list[str]) -> None:
        """From now on it hears these, each from its snapshot on. Raises ``KeyError``."""
        self._count += 1
        for channel in channels:
            _, snapshot = self._snapshots[channel]
            subscriber.put(_encode(channel, "snapshot", snapshot()))
            self._listeners[channel][subscriber] = None
        self.joined.set()
        self.joined = trio.Event()

    def leave(self, subscriber: Subscriber) -> None:
        self._count -= 1
        for listeners in self._listeners.values():
            listeners.pop(subscriber, None)

    def publish(self, channel: str, change: Any) -> None:
        """Tell everybody who listens. Never waits."""
        listeners = self._listeners[channel]
        if not listeners:
            return
        text = _encode(channel, "change", change)
        for subscriber in list(listeners):
            subscriber.put(text)
            if subscriber.is_cut_off:
                self._counters["api_slow_subscribers"] += 1
                listeners.pop(subscriber, None)


def _encode(channel: str, kind: str, data: Any) -> str:
    return json.dumps({"channel": channel, "type": kind, "data": data}, separators=(",", ":"))
