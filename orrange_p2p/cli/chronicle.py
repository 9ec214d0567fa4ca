"""What running nodes tell of their epochs, gathered: do they agree, and how long commits took."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from orrange_p2p.cli import cluster
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.core.errors import WorldError

SETTLE_S: Final = 60.0
LOOK_EVERY_S: Final = 0.5


class Chronicle:
    """Epochs and committed entries of several nodes, fetched piece by piece: nodes forget."""

    def __init__(self, nodes: Sequence[NodeProcess]) -> None:
        self._nodes = tuple(nodes)
        self._durable: list[dict[int, int]] = [{} for _ in nodes]
        self._roots: list[dict[int, str]] = [{} for _ in nodes]
        self._cursor = [0] * len(nodes)
        self.commits: list[dict[str, Any]] = []
        """Each node's own entries that an epoch cut: ``author``, ``seq``, ``submitted_ms``,
        ``epoch``."""

    async def fetch(self) -> None:
        """Take what is new. Raises ``WorldError`` with the end of its log if a node ended."""
        for number, node in enumerate(self._nodes):
            if node.process.poll() is not None:
                raise WorldError(
                    f"node {number} ended with status {node.process.returncode}:\n"
                    + cluster.end_of_log(node.directory.path)
                )
            since = max(self._durable[number], default=0)
            for row in await node.client.call("epochs", {"since": since}):
                self._durable[number][row["epoch"]] = row["durable_ms"]
                # A node that was wrong mends its state; what it told first is what it said.
                self._roots[number].setdefault(row["epoch"], row["root"])
            rows = await node.client.call("commits", {"since": self._cursor[number]})
            self.commits += rows
            if rows:
                self._cursor[number] = rows[-1]["epoch"]

    def compare(self) -> tuple[int, list[str]]:
        """The first epoch at which nodes told different roots, or else the last that every node
        has applied; and its root at each.

        Raises ``WorldError`` if they have none in common.
        """
        common = set.intersection(*(set(roots) for roots in self._roots))
        if not common:
            raise WorldError("the nodes have no epoch in common")
        for epoch in sorted(common):
            roots = [known[epoch] for known in self._roots]
            if len(set(roots)) > 1:
                break
        return epoch, roots

    def durable_ms(self, epoch: int) -> int | None:
        """When the slowest node had the epoch applied and durable, on the machine's monotonic
        clock; None while one has not."""
        times = [durable.get(epoch) for durable in self._durable]
        known = [time_ms for time_ms in times if time_ms is not None]
        return max(known) if len(known) == len(times) else None

    def durable_each_ms(self, epoch: int) -> list[int]:
        """When each node that has the epoch had it durable."""
        return [durable[epoch] for durable in self._durable if epoch in durable]

    def latencies_ms(self) -> list[int]:
        """From submission to durable at the slowest node, per entry; ascending."""
        return sorted(
            durable_ms - commit["submitted_ms"]
            for commit in self.commits
            if (durable_ms := self.durable_ms(commit["epoch"])) is not None
        )


async def settle(nodes: Sequence[NodeProcess], is_idle: Callable[[], bool]) -> bool:
    """Wait until whoever submits is idle, all is committed and no match waits for an accept.

    False if a node halted, or that took longer than ``SETTLE_S`` seconds.
    """
    with trio.move_on_after(SETTLE_S) as deadline:
        quiet = 0
        while quiet < 2:
            await trio.sleep(LOOK_EVERY_S)
            states = [await node.status() for node in nodes]
            if any(state["halted"] for state in states):
                return False  # a node found itself contradicted: it will commit nothing more
            pending = sum(state["pending_matches"] + state["own_uncut"] for state in states)
            quiet = quiet + 1 if pending == 0 and is_idle() else 0
    return not deadline.cancelled_caught


def percentile(ordered: Sequence[int], percent: int) -> int | None:
    """Nearest rank of an ascending sequence; None of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def p50_and_p99(ordered: Sequence[int]) -> dict[str, int | None]:
    """As reports give them; of an ascending sequence."""
    return {"p50": percentile(ordered, 50), "p99": percentile(ordered, 99)}
