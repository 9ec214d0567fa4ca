"""Moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["show_time"]


def show_time(time_s: int) -> str:
    """Seconds since the Unix epoch, to the minute; beyond what calendars have, as they are."""
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return f"second {time_s}"
