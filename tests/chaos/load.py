"""A trader that never gives up: it writes through a node's socket and keeps what was acknowledged.

The number of its open orders stays the same after a while, so that a node's memory should, too.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.client.api import connect
from orrange_p2p.core.errors import OrrangeError

LIVE: Final = 200
"""Places that a trader leaves standing before it cancels the oldest."""
MID: Final = 1_000_000
SPAN: Final = 50
CROSSING: Final = 0.1
PAUSE_S: Final = 0.2
"""Before the next try at a node that is down or cannot write."""
ANSWER_S: Final = 10.0

Row = dict[str, Any]
Acknowledged = Callable[[str, list[Row], list[Row]], None]
"""Called with the author, the names that ``submit`` returned and the rows that they name."""


class Trader:
    """One author's operations, ``operations`` of them every ``every_s`` seconds."""

    def __init__(
        self,
        socket: Path,
        author: str,
        rng: random.Random,
        operations: int,
        every_s: float,
        acknowledged: Acknowledged,
    ) -> None:
        self._socket = socket
        self._author = author
        self._rng = rng
        self._operations = operations
        self._every_s = every_s
        self._acknowledged = acknowledged
        self._live: deque[tuple[int, int]] = deque()
        self.refused = 0
        """Submissions that were not acknowledged. They may have happened all the same."""

    async def run(self) -> None:
        """Submit until cancelled."""
        while True:
            try:
                async with connect(self._socket) as client:
                    while True:
                        due = trio.current_time() + self._every_s
                        rows = self._rows()
                        named = await client.call(
                            "submit",
                            {"author": self._author, "operations": rows},
                            timeout_s=ANSWER_S,
                        )
                        self._acknowledged(self._author, named, rows)
                        self._live += [
                            (name["seq"], name["position"])
                            for name, row in zip(named, rows, strict=True)
                            if row["op"] == "place"
                        ]
                        await trio.sleep_until(due)
            except OrrangeError:
                self.refused += 1
                await trio.sleep(PAUSE_S)

    def _rows(self) -> list[Row]:
        return [self._row() for _ in range(self._operations)]

    def _row(self) -> Row:
        rng = self._rng
        if len(self._live) >= LIVE:
            seq, position = self._live.popleft()
            return {"op": "cancel", "seq": seq, "position": position}
        is_buy = rng.random() < 0.5
        towards = 1 if is_buy else -1
        away = -rng.randint(1, SPAN) if rng.random() < CROSSING else rng.randint(1, SPAN)
        return {
            "op": "place",
            "side": "buy" if is_buy else "sell",
            "price": MID - towards * away,
            "quantity": rng.randint(1, 100),
        }
