"""`make soak`: four node processes under a steady load, and what of them grows.

Exit status 1 if a node's resident memory grew by more than the limit after it had settled, if
queues filled up, or if the nodes disagree. Needs /proc.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import trio
from load import Trader

from orrange_p2p.bench.ingest import MARKET
from orrange_p2p.cli import cluster
from orrange_p2p.cli.bench_net import cpu_s
from orrange_p2p.cli.chronicle import Chronicle, settle
from orrange_p2p.cli.cluster import NodeProcess

NODES: Final = 4
SETTLE_MINUTES: Final = 5.0
"""Until then caches fill; of a shorter run a third."""
SAMPLE_S: Final = 30.0
GROWTH_LIMIT: Final = 0.03
OPERATIONS: Final = 10
"""In one submission."""
HEADING: Final = (
    "minute  RSS MiB of each node         queue  outbox KiB  uncut   open  epoch  store MiB"
)
FLAT_QUEUE: Final = 32
"""Batches of verified facts, of 256, that may wait for the disk when we look."""


class Sample(NamedTuple):
    """One node at one time."""

    minute: float
    rss_kib: int
    intake_queue: int
    outbox_bytes: int
    own_uncut: int
    open_orders: int
    epoch: int
    store_kib: int


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def growth(samples: Sequence[Sample], settled: float) -> float:
    """Share by which resident memory grew since minute ``settled``: medians of the first and the
    last fifth of what came after, so that one sample decides nothing."""
    sizes = [sample.rss_kib for sample in samples if sample.minute >= settled]
    if len(sizes) < 2:
        return 0.0
    part = max(1, len(sizes) // 5)
    first, last = median(sizes[:part]), median(sizes[-part:])
    return last / first - 1


async def sample_of(node: NodeProcess, minute: float) -> Sample:
    status = await node.status()
    files = node.directory.path.glob("store.sqlite*")
    return Sample(
        round(minute, 2),
        rss_kib(node.process.pid),
        status["intake_queue"],
        status["outbox_bytes"],
        status["own_uncut"],
        status["open_orders"],
        status["epoch"],
        sum(file.stat().st_size for file in files) // 1024,
    )


async def soak(base: Path, minutes: float, rate: int) -> dict[str, Any]:
    """Run it; the figures."""
    await trio.to_thread.run_sync(cluster.make_network, base, MARKET, NODES, 1, cluster.WIDE)
    acknowledged = 0

    def count(author: str, named: Sequence[Any], rows: Sequence[Any]) -> None:
        nonlocal acknowledged
        acknowledged += len(rows)

    settled = min(SETTLE_MINUTES, minutes / 3)
    every_s = min(SAMPLE_S, minutes * 60 / 20)
    samples: list[list[Sample]] = [[] for _ in range(NODES)]
    async with cluster.running(base, NODES, {}) as nodes:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                trader = Trader(
                    node.directory.rpc_socket,
                    (await node.status())["authors"][0],
                    random.Random(node.number),
                    OPERATIONS,
                    OPERATIONS * NODES / rate,
                    count,
                )
                nursery.start_soon(trader.run)
            start = trio.current_time()
            cpu_before = [cpu_s(node.process.pid) or 0.0 for node in nodes]
            print(HEADING)
            while trio.current_time() < start + minutes * 60:
                await trio.sleep(every_s)
                minute = (trio.current_time() - start) / 60
                row = [await sample_of(node, minute) for node in nodes]
                for kept, sample in zip(samples, row, strict=True):
                    kept.append(sample)
                print(table_row(row), flush=True)
            cpu = [
                ((cpu_s(node.process.pid) or 0.0) - before) / (trio.current_time() - start)
                for node, before in zip(nodes, cpu_before, strict=True)
            ]
            nursery.cancel_scope.cancel()
        is_settled = await settle(nodes, lambda: True)
        chronicle = Chronicle(nodes)
        await chronicle.fetch()
        _, roots = chronicle.compare()
    grown = [growth(of_node, settled) for of_node in samples]
    queue = max(s.intake_queue for of_node in samples for s in of_node if s.minute >= settled)
    agree = len(set(roots)) == 1
    return {
        "minutes": minutes,
        "acknowledged": acknowledged,
        "acknowledged_per_s": round(acknowledged / (minutes * 60)),
        "settled": is_settled,
        "agree": agree,
        "growth_after_minute": settled,
        "growth_percent": [round(100 * share, 2) for share in grown],
        "rss_mib": [of_node[-1].rss_kib // 1024 for of_node in samples],
        "deepest_queue": queue,
        "cpu": [round(share, 2) for share in cpu],
        "passed": agree and is_settled and queue <= FLAT_QUEUE and max(grown) <= GROWTH_LIMIT,
    }


def table_row(row: Sequence[Sample]) -> str:
    sizes = " ".join(f"{sample.rss_kib / 1024:6.1f}" for sample in row)
    queue = max(sample.intake_queue for sample in row)
    outbox = max(sample.outbox_bytes for sample in row) // 1024
    uncut = max(sample.own_uncut for sample in row)
    return (
        f"{row[0].minute:6.1f}  {sizes}  {queue:6} {outbox:11} {uncut:6} {row[0].open_orders:6} "
        f"{row[0].epoch:6} {max(sample.store_kib for sample in row) / 1024:10.1f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, default=200, help="operations a second, all nodes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orrange-soak-") as base:
        figures = trio.run(soak, Path(base), options.minutes, options.rate)
    print(json.dumps(figures))
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
