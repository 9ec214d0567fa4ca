"""``orrange bench net``: what a network of node processes on this machine commits a second.

The load is open: a submission is due when it is due, however slowly the nodes take it, and its
latency counts from that moment until the epoch that cut it is durable at the slowest node. Each
author has one submission under way at a time. A cancel names an order that the node acknowledged
and nobody cancelled yet; if it was filled meanwhile the cancel is refused, and counted.

Matches come on top of the orders: both sides' nodes sign accepts by themselves, and join them to
the author's next entry as one operation.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import trio

from orrange_p2p.bench.ingest import MARKET, SEED, SPAN, START_MID
from orrange_p2p.cli import cluster
from orrange_p2p.cli.chronicle import Chronicle, p50_and_p99, settle
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.client.api import connect
from orrange_p2p.core.errors import WorldError

CANCELS: Final = 30
"""Percent of all operations."""
WARM_SHARE: Final = 0.2
"""Of the time, at its start: what is committed then does not count for the rate."""
STEP_OPERATIONS: Final = 500
LEAD_S: Final = 0.5
FETCH_EVERY_S: Final = 1.0


@attrs.frozen
class Load:
    """What is submitted."""

    seconds: float
    rate: int
    """Operations a second, over all authors."""
    operations: int
    """In one submission."""
    crossing: int
    """Percent."""


class _Sent(NamedTuple):
    """An acknowledged submission."""

    due_ms: float
    """On the machine's monotonic clock."""
    operations: int


class _Mid:
    """One randomly walking price for all authors."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.price = START_MID

    def walk(self, operations: int) -> int:
        """The price for so many more operations: by one tick every 500 of them, on average, as in
        ``orrange bench ingest``."""
        if self._rng.random() * STEP_OPERATIONS < operations:
            self.price += self._rng.choice((-1, 1))
        return self.price


class _Author:
    """Submits to one log, through the socket of the node that holds its key."""

    def __init__(self, node: NodeProcess, address: str, load: Load, mid: _Mid, seed: int) -> None:
        self._node = node
        self.address = address
        self._load = load
        self._mid = mid
        self._rng = random.Random(seed)  # noqa: S311 - a workload, not a secret
        self._live: list[tuple[int, int]] = []
        self.sent: dict[int, list[_Sent]] = {}
        """By the entry's number."""
        self.refused = 0
        """Operations that the node did not take."""
        self.latest_s = 0.0
        """How far the author fell behind its plan, at most."""
        self.is_done = False

    async def run(self, start: float, first_s: float, every_s: float) -> None:
        """Submit from ``first_s`` after ``start`` (trio's clock) on, until the time is over."""
        offset_s = time.monotonic() - trio.current_time()
        async with connect(self._node.directory.rpc_socket) as client:
            due = start + first_s
            while due < start + self._load.seconds:
                await trio.sleep_until(due)
                self.latest_s = max(self.latest_s, trio.current_time() - due)
                rows = self._rows()
                try:
                    named = await client.call(
                        "submit", {"author": self.address, "operations": rows}
                    )
                except WorldError:
                    self.refused += len(rows)
                else:
                    sent = _Sent((due + offset_s) * 1000, len(rows))
                    self.sent.setdefault(named[0]["seq"], []).append(sent)
                    self._live += [
                        (name["seq"], name["position"])
                        for name, row in zip(named, rows, strict=True)
                        if row["op"] == "place"
                    ]
                due += every_s
        self.is_done = True

    def _rows(self) -> list[dict[str, Any]]:
        mid = self._mid.walk(self._load.operations)
        return [self._row(mid) for _ in range(self._load.operations)]

    def _row(self, mid: int) -> dict[str, Any]:
        rng = self._rng
        kind = rng.random() * 100
        if kind < CANCELS and self._live:
            place = rng.randrange(len(self._live))
            self._live[place], self._live[-1] = self._live[-1], self._live[place]
            seq, position = self._live.pop()
            return {"op": "cancel", "seq": seq, "position": position}
        is_buy = rng.random() < 0.5
        towards = 1 if is_buy else -1
        if kind < CANCELS + self._load.crossing:
            price, quantity = mid + towards * SPAN, rng.randint(1, 200)
        else:
            price, quantity = mid - towards * rng.randint(1, SPAN), rng.randint(1, 100)
        side = "buy" if is_buy else "sell"
        return {"op": "place", "side": side, "price": price, "quantity": quantity}


async def measure(base: Path, nodes: int, authors: int, load: Load) -> dict[str, Any]:
    """Run the load on fresh nodes in ``base``, ``authors`` logs at each; the figures.

    Raises ``WorldError`` if a node does not come up or ends.
    """
    await trio.to_thread.run_sync(cluster.make_network, base, MARKET, nodes, authors, cluster.WIDE)
    async with cluster.running(base, nodes, {}) as started:
        return await _Run(started, load).run()


class _Run:
    def __init__(self, nodes: Sequence[NodeProcess], load: Load) -> None:
        self._nodes = nodes
        self._load = load
        self._chronicle = Chronicle(nodes)
        self._authors: list[_Author] = []

    async def run(self) -> dict[str, Any]:
        load = self._load
        mid = _Mid(random.Random(SEED))  # noqa: S311 - a workload, not a secret
        by_node = [(await node.status())["authors"] for node in self._nodes]
        for addresses in zip(*by_node, strict=True):
            for node, address in zip(self._nodes, addresses, strict=True):
                seed = SEED + len(self._authors)
                self._authors.append(_Author(node, address, load, mid, seed))
        every_s = load.operations * len(self._authors) / load.rate
        pids = [node.process.pid for node in self._nodes]
        async with trio.open_nursery() as nursery:
            start = trio.current_time() + LEAD_S
            start_ms = (time.monotonic() + LEAD_S) * 1000
            for number, author in enumerate(self._authors):
                nursery.start_soon(
                    author.run, start, every_s * number / len(self._authors), every_s
                )
            nursery.start_soon(self._watch)
            await trio.sleep_until(start)
            cpu_before = [cpu_s(pid) for pid in (*pids, os.getpid())]
            await trio.sleep_until(start + load.seconds)
            cpu_after = [cpu_s(pid) for pid in (*pids, os.getpid())]
            rss_mb = [resident_mb(pid) for pid in pids]
            is_settled = await settle(
                self._nodes, lambda: all(author.is_done for author in self._authors)
            )
            settled_after_s = trio.current_time() - start - load.seconds
            nursery.cancel_scope.cancel()
        await self._chronicle.fetch()
        shares = [
            None if before is None or after is None else round((after - before) / load.seconds, 3)
            for before, after in zip(cpu_before, cpu_after, strict=True)
        ]
        return {
            **self._committed(start_ms),
            **await self._matched(),
            "rate": load.rate,
            "seconds": load.seconds,
            "authors": len(self._authors),
            "settled": is_settled,
            "settled_after_s": round(settled_after_s, 1),
            "cpu": shares[:-1],
            "generator_cpu": shares[-1],
            "generator_late_ms": round(1000 * max(author.latest_s for author in self._authors)),
            "rss_mb": rss_mb,
        }

    async def _watch(self) -> None:
        while True:
            await self._chronicle.fetch()
            await trio.sleep(FETCH_EVERY_S)

    def _committed(self, start_ms: float) -> dict[str, Any]:
        """What became of the acknowledged submissions."""
        chronicle = self._chronicle
        last_epoch, roots = chronicle.compare()
        epoch_of = {
            (row["author"], row["seq"]): row["epoch"]
            for row in chronicle.commits
            if row["epoch"] <= last_epoch
        }
        lost = acknowledged = 0
        latencies: list[int] = []
        by_epoch: Counter[int] = Counter()
        for author in self._authors:
            for seq, submissions in author.sent.items():
                operations = sum(sent.operations for sent in submissions)
                acknowledged += operations
                epoch = epoch_of.get((author.address, seq))
                durable_ms = None if epoch is None else chronicle.durable_ms(epoch)
                if epoch is None or durable_ms is None:
                    lost += operations
                    continue
                by_epoch[epoch] += operations
                latencies += [
                    round(durable_ms - sent.due_ms)
                    for sent in submissions
                    for _ in range(sent.operations)
                ]
        return {
            "committed_orders_per_s": self._speed(by_epoch, start_ms),
            "agree": len(set(roots)) == 1,
            "commit_latency_ms": p50_and_p99(sorted(latencies)),
            "lost": lost,
            "acknowledged": acknowledged,
            "refused": sum(author.refused for author in self._authors),
            "epochs": len(by_epoch),
        }

    def _speed(self, by_epoch: Counter[int], start_ms: float) -> int | None:
        """Orders per second between the first and the last epoch that became durable in the time
        that counts; None if those are not two."""
        length_ms = self._load.seconds * 1000
        inside = sorted(
            (durable_ms, operations)
            for epoch, operations in by_epoch.items()
            if (durable_ms := self._chronicle.durable_ms(epoch)) is not None
            and WARM_SHARE * length_ms <= durable_ms - start_ms <= length_ms
        )
        if len(inside) < 2 or inside[0][0] == inside[-1][0]:
            return None
        committed = sum(operations for _, operations in inside[1:])
        return round(1000 * committed / (inside[-1][0] - inside[0][0]))

    async def _matched(self) -> dict[str, Any]:
        state = await self._nodes[0].status()
        totals: Counter[str] = Counter(state["totals"])
        return {
            **{name: totals[name] for name in ("matches", "trades", "lapses", "refusals")},
            "operations_per_entry": round(totals["operations"] / max(1, totals["entries"]), 1),
            "largest_entry": totals["largest_entry"],
            "matches_per_s": round(totals["matches"] / self._load.seconds),
            "open_orders": state["open_orders"],
        }


def cpu_s(pid: int) -> float | None:
    """Seconds of processor time a process has used; None where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> int | None:
    """Resident memory of a process in MiB; None where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") // (1 << 20)


def render(figures: dict[str, Any]) -> str:
    """The figures for people."""
    latency = figures["commit_latency_ms"]
    lines = [
        f"{figures['committed_orders_per_s']} orders a second committed, of {figures['rate']} "
        f"submitted; {figures['acknowledged']} acknowledged, {figures['lost']} lost",
        f"  latency   p50 {latency['p50']} ms, p99 {latency['p99']} ms, to the slowest node's disk",
        f"  matches   {figures['matches']}, {figures['matches_per_s']} a second; "
        f"{figures['trades']} trades, {figures['lapses']} lapses",
        f"  cpu       nodes {figures['cpu']}, generator {figures['generator_cpu']} of a core",
        f"  memory    {figures['rss_mb']} MiB",
        f"  {'all nodes agree' if figures['agree'] else 'THE NODES DISAGREE'}",
    ]
    return "\n".join(lines)


def main(as_json: bool, nodes: int, authors: int, **load: Any) -> int:
    """Run, print, and return the exit status: 1 for disagreement or loss."""
    with tempfile.TemporaryDirectory(prefix="orrange-net-") as base:
        figures = trio.run(measure, Path(base), nodes, authors, Load(**load))
    figures = {"nodes": nodes, **figures}
    print(json.dumps(figures) if as_json else render(figures))
    return 0 if figures["agree"] and not figures["lost"] else 1
