"""``make calibrate``: eight real nodes beside eight simulated ones, over the same links.

The real ones are processes in namespaces of their own, joined by links of 50 ms and no loss (by `tc
netem`, or where the kernel has none by ``lossy_net`` itself), with twenty orders a second between
them. Compared is how long a record travels, from the author's outbox to another node's checked
records, and how long an order takes from being submitted to each node's durable epoch.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import trio
from load import Trader
from lossy_net import Line, lossy_net, refusal
from members import Member, members

from orrange_p2p.bench.replay import MARKET
from orrange_p2p.cli.bench_net import cpu_s
from orrange_p2p.cli.chronicle import Chronicle
from orrange_p2p.cli.cluster import WIDE, NodeProcess
from orrange_p2p.client.api import connect
from orrange_p2p.sim.measures import quantiles
from orrange_p2p.sim.run import simulate
from orrange_p2p.sim.scenario import Scenario, Traders

NODES: Final = 8
LINK_MS: Final = 50
ORDERS_PER_S: Final = 20
NOTING_NODE: Final = Path(__file__).with_name("noting_node.py")
WARM_S: Final = 8.0
BOUND: Final = 0.25


async def measure(base: Path, seconds: int) -> dict[str, Any]:
    """What real nodes do."""
    rng = random.Random(1)
    line = Line(LINK_MS / 1000, 0.0, 0.0)
    async with (
        lossy_net(NODES, rng, line) as net,
        members(base, NODES, MARKET, net, NOTING_NODE) as (_, nodes),
        trio.open_nursery() as nursery,
    ):
        authors = [(await node.wait_until_up())["authors"][0] for node in nodes]
        await trio.sleep(WARM_S)
        chronicle = await _chronicle(nodes)
        for node, author in zip(nodes, authors, strict=True):
            every_s = NODES / ORDERS_PER_S
            seed = random.Random(rng.random())
            trader = Trader(node.directory.rpc_socket, author, seed, 1, every_s, _nothing)
            await trio.sleep(every_s / NODES)
            nursery.start_soon(trader.run)
        pids = [node.process.pid for node in nodes if node.process is not None]
        before = sum(cpu_s(pid) or 0.0 for pid in pids)
        with trio.move_on_after(seconds):
            while True:
                await chronicle.fetch()
                await trio.sleep(0.5)
        spent = sum(cpu_s(pid) or 0.0 for pid in pids) - before
        await chronicle.fetch()
        nursery.cancel_scope.cancel()
        has_netem = net.has_netem
        for node in nodes:
            await node.stop(signal.SIGTERM)
    took = [
        durable_ms - row["submitted_ms"]
        for row in chronicle.commits
        for durable_ms in chronicle.durable_each_ms(row["epoch"])
    ]
    return {
        "propagation_ms": quantiles(np.bincount(_travelled_ms(nodes))),
        "commit_ms": quantiles(np.bincount(took)),
        "orders": len(chronicle.commits),
        "cpu_of_each": round(spent / seconds / NODES, 3),
        "links_by": "netem" if has_netem else "userspace",
    }


async def _chronicle(nodes: list[Member]) -> Chronicle:
    stack = [connect(node.directory.rpc_socket) for node in nodes]
    clients = [await one.__aenter__() for one in stack]
    return Chronicle(
        [
            NodeProcess(node.number, node.directory, node.process, client)
            for node, client in zip(nodes, clients, strict=True)
            if node.process is not None
        ]
    )


def _nothing(*said: object) -> None:
    pass


def _travelled_ms(nodes: list[Member]) -> list[int]:
    """From each record's first leaving to its first coming in at each other node."""
    left: dict[str, int] = {}
    came: list[dict[str, int]] = []
    for node in nodes:
        came.append({})
        for line in node.notes.read_text().splitlines():
            way, _, digest, time_us = line.split()
            if way == "out":
                left[digest] = min(int(time_us), left.get(digest, 1 << 62))
            else:
                came[-1].setdefault(digest, int(time_us))
    return [
        (time_us - left[digest]) // 1000
        for one in came
        for digest, time_us in one.items()
        if digest in left
    ]


def simulated(seconds: int) -> dict[str, Any]:
    """What simulated nodes do over the same links."""
    scenario = Scenario(
        name="calibration",
        seconds=seconds,
        nodes=NODES,
        witnesses=NODES,
        link_ms=LINK_MS,
        min_round_ms=WIDE.min_round_ms,
        leader_timeout_ms=WIDE.leader_timeout_ms,
        operations_per_round=WIDE.operations_per_round,
        traders=Traders(random=NODES, orders_per_s=ORDERS_PER_S),
    )
    result = simulate(scenario)
    return {
        "propagation_ms": quantiles(result.propagation),
        "commit_ms": quantiles(result.commits),
        "orders": result.figures["orders"],
        "config": scenario.digest,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long orders are written")
    seconds = parser.parse_args().seconds
    why_not = refusal()
    if why_not is not None:
        print(f"SKIPPED: no network namespaces here: {why_not}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="orrange-calibration-") as base:
        real = trio.run(measure, Path(base), seconds)
    here = simulated(seconds)
    off = {
        f"{what} {name}": round(here[what][name] / real[what][name] - 1, 3)
        for what in ("propagation_ms", "commit_ms")
        for name in ("p50", "p90")
    }
    is_within = all(abs(one) <= BOUND for one in off.values())
    figures = {
        "nodes": NODES,
        "link_ms": LINK_MS,
        "orders_per_s": ORDERS_PER_S,
        "seconds": seconds,
        "real": real,
        "simulated": here,
        "simulated_off_by": off,
        "within": BOUND,
        "passed": is_within,
    }
    print(json.dumps(figures))
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
