"""What running nodes tell of their trades, gathered: which are settled, and who owes whom what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import trio

from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.core.swaps import atomic

ENDED: Final = frozenset(state.name.lower() for state in atomic.ENDED)
PATIENCE_S: Final = 60.0
"""So long nothing may move before waiting for more is given up."""
LOOK_EVERY_S: Final = 0.5


class Ledger:
    """Trades by id, each as every node tells it that is a party's."""

    def __init__(self, nodes: Sequence[NodeProcess]) -> None:
        self._nodes = tuple(nodes)
        self._since = [0] * len(nodes)
        """Per node the position up to which no trade changes any more."""
        self._rows: dict[str, dict[int, dict[str, Any]]] = {}

    async def fetch(self) -> None:
        """Take what is new, and what may have changed."""
        for number, node in enumerate(self._nodes):
            since, moves = self._since[number], False
            while rows := await node.client.call("trades", {"since": since}):
                for row in rows:
                    self._rows.setdefault(row["id"], {})[number] = row
                    moves = moves or row["state"] not in ENDED
                    if not moves:
                        self._since[number] = row["position"]
                since = rows[-1]["position"]

    async def wait_until_ended(self, trades: int) -> None:
        """Until so many trades have ended at every node that tells of them, or nothing moves any
        more. Somebody else fetches meanwhile."""
        seen: Counter[str] = Counter()
        with trio.CancelScope() as waiting:
            while sum(len(self.ended(state)) for state in ENDED) < trades:
                states = Counter(
                    one["state"] for row in self._rows.values() for one in row.values()
                )
                if states != seen:
                    waiting.deadline = trio.current_time() + PATIENCE_S
                    seen = states
                await trio.sleep(LOOK_EVERY_S)

    def __len__(self) -> int:
        return len(self._rows)

    def ended(self, state: str) -> list[dict[str, Any]]:
        """Trades of which all nodes that tell of them say so."""
        return [
            next(iter(rows.values()))
            for rows in self._rows.values()
            if all(row["state"] == state for row in rows.values())
        ]

    def owed(self, trader: str) -> tuple[int, int]:
        """By how much its settled trades have changed what a trader holds of base and quote."""
        base = quote = 0
        for row in self.ended("settled"):
            for party, sign in ((row["buyer"], 1), (row["seller"], -1)):
                if party == trader:
                    base += sign * int(row["base_amount"])
                    quote -= sign * int(row["quote_amount"])
        return base, quote
