"""Intents without a disk: what tests use."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import Address
from orrange_p2p.ports.chain import Attempt, IntentRecord, Outcome

__all__ = ["MemoryIntents"]


class MemoryIntents:
    """Implements ``IntentStore`` for as long as the object lives."""

    def __init__(self) -> None:
        self._records: dict[str, IntentRecord] = {}
        self._meta: dict[str, bytes] = {}

    async def add(self, record: IntentRecord) -> None:
        await trio.lowlevel.checkpoint()
        intent = record.intent
        for other in self._records.values():
            if other.intent.name == intent.name:
                raise CallerError(f"there is an intent {intent.name!r} already")
            if (other.intent.sender, other.nonce) == (intent.sender, record.nonce):
                raise CallerError(f"nonce {record.nonce} belongs to intent {other.intent.name!r}")
        self._records[intent.name] = record

    async def add_attempt(self, name: str, attempt: Attempt) -> None:
        await trio.lowlevel.checkpoint()
        record = self._known(name)
        if record.outcome is not None:
            raise CallerError(f"intent {name!r} is {record.outcome.state.value} already")
        self._records[name] = record._replace(attempts=(*record.attempts, attempt))

    async def conclude(self, name: str, outcome: Outcome) -> None:
        await trio.lowlevel.checkpoint()
        record = self._known(name)
        if record.outcome not in (None, outcome):
            raise CallerError(f"intent {name!r} has another outcome already")
        self._records[name] = record._replace(outcome=outcome)

    async def get(self, name: str) -> IntentRecord | None:
        await trio.lowlevel.checkpoint()
        return self._records.get(name)

    async def pending(self) -> Sequence[IntentRecord]:
        await trio.lowlevel.checkpoint()
        waiting = [record for record in self._records.values() if record.outcome is None]
        return sorted(waiting, key=lambda record: (record.intent.sender, record.nonce))

    async def next_nonce(self, sender: Address) -> int:
        await trio.lowlevel.checkpoint()
        used = [one.nonce for one in self._records.values() if one.intent.sender == sender]
        return max(used, default=-1) + 1

    async def meta(self, name: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self._meta.get(name)

    async def set_meta(self, name: str, value: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._meta[name] = value

    def _known(self, name: str) -> IntentRecord:
        record = self._records.get(name)
        if record is None:
            raise CallerError(f"there is no intent {name!r}")
        return record
