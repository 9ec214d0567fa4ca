"""Cleaning up while being cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

__all__ = ["shielded_for", "unwrap_single"]


@contextmanager
def shielded_for(seconds: float) -> Iterator[None]:
    """Let the block finish although we are cancelled, but cut it short after ``seconds``."""
    with trio.move_on_after(seconds) as scope:
        scope.shield = True
        yield


@asynccontextmanager
async def unwrap_single() -> AsyncIterator[None]:
    """Raise an exception that came alone without the groups that nurseries wrap around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        if isinstance(alone, BaseExceptionGroup):
            raise
        raise alone from alone.__cause__
