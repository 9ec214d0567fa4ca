"""Cleaning up while being cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

__all__ = ["shielded_for"]


@contextmanager
def shielded_for(seconds: float) -> Iterator[None]:
    """Let the block finish although we are cancelled, but cut it short after ``seconds``."""
    with trio.move_on_after(seconds) as scope:
        scope.shield = True
        yield
