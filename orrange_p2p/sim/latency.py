"""How long a message travels: real averages between countries, half of each round trip a way."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Final

from orrange_p2p.core.errors import ConfigError

__all__ = ["PLACES", "one_way_us"]


def _load() -> dict[tuple[str, str], int]:
    text = resources.files("orrange_p2p.sim").joinpath("data/rtt.csv").read_text("utf-8")
    table = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            first, second, rtt_us = line.split(",")
            table[first, second] = table[second, first] = int(rtt_us)
    return table


_RTT_US: Final = _load()
PLACES: Final = tuple(sorted({place for place, _ in _RTT_US}))
"""Countries of which the table knows the round-trip times, within them too."""


def one_way_us(places: Sequence[str]) -> list[list[int]]:
    """The matrix of one-way latencies between places. Raises ``ConfigError`` for an unknown one."""
    for place in places:
        if place not in PLACES:
            raise ConfigError(f"unknown place {place!r}; known: {', '.join(PLACES)}")
    return [[_RTT_US[here, there] // 2 for there in places] for here in places]
