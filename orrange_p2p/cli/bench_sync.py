"""``orrange bench sync``: how soon a fresh node has the state of a running market.

Four node processes build a book of open orders and write a checkpoint of it. Then a fifth starts
with nothing but the network's file and the addresses of the four. Its time counts from the start of
its process until it has applied every epoch that any of the others had applied by then.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.bench.ingest import MARKET, SPAN, START_MID
from orrange_p2p.cli import cluster
from orrange_p2p.cli.chronicle import Chronicle
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.core.errors import DeadlineError, WorldError

NODES: Final = 4
AUTHORS: Final = 2
"""At each node."""
OPERATIONS: Final = 400
"""In a submission."""
BUILD_S: Final = 600.0
KEPT_S: Final = 600.0
JOIN_S: Final = 120.0
LOOK_EVERY_S: Final = 0.05
TRY_AGAIN_S: Final = 0.25
TELL_EVERY_S: Final = 5.0


async def measure(base: Path, orders: int, checkpoint_epochs: int) -> dict[str, Any]:
    """The figures. Raises ``WorldError`` if a node ends, or a step takes far too long."""
    genesis = await trio.to_thread.run_sync(
        cluster.make_network, base, MARKET, NODES, AUTHORS, cluster.WIDE, checkpoint_epochs
    )
    async with cluster.running(base, NODES, {}) as nodes:
        build_s = await _build(nodes, orders)
        kept = await _until_kept(nodes)
        addresses = [(await node.status())["addresses"][0] for node in nodes]
        directory = cluster.make_follower(base, NODES, genesis, addresses, checkpoint_epochs)
        epoch = max([(await node.status())["epoch"] for node in nodes])
        started = trio.current_time()
        async with cluster.started(NODES, directory) as late:
            state = await _until_live(late, epoch, started)
            live_s = trio.current_time() - started
            _tell(f"live after {live_s:.1f} s, joined at epoch {state['joined_at']}")
            chronicle = Chronicle([*nodes, late])
            last_epoch, roots = await _in_common(chronicle)
            state = await late.status()
    return {
        "orders": state["open_orders"],
        "join_s": round(live_s, 2),
        "verified_root": roots[-1],
        "agree": len(set(roots)) == 1 and state["open_orders"] == orders,
        "bytes": state["joined_bytes"],
        "peers_used": state["joined_from_peers"],
        "joined_at": state["joined_at"],
        "epoch": last_epoch,
        "checkpoint_epochs": checkpoint_epochs,
        "checkpoint_kept": kept,
        "build_s": round(build_s, 1),
    }


async def _build(nodes: Sequence[NodeProcess], orders: int) -> float:
    """Fill the book with orders that do not cross; how long that took until all had them."""
    started = trio.current_time()
    with trio.move_on_after(BUILD_S):
        async with trio.open_nursery() as nursery:
            authors = [(n, a) for n in nodes for a in (await n.status())["authors"]]
            for number, (node, author) in enumerate(authors):
                share = orders // len(authors) + (number < orders % len(authors))
                nursery.start_soon(_submit, node, author, share, number)
        await _until_open(nodes, orders)
        return trio.current_time() - started
    raise DeadlineError(f"the {orders} orders were not there after {BUILD_S:.0f} s")


async def _submit(node: NodeProcess, author: str, share: int, number: int) -> None:
    """Submit an author's share. What a node refuses, since too much waits already, comes again."""
    done = 0
    while done < share:
        count = min(OPERATIONS, share - done)
        rows = [_order(at + number) for at in range(done, done + count)]
        try:
            await node.client.call("submit", {"author": author, "operations": rows})
        except WorldError:
            await trio.sleep(TRY_AGAIN_S)
            continue
        done += count


def _order(at: int) -> dict[str, Any]:
    side, towards = ("buy", -1) if at % 2 else ("sell", 1)
    price = START_MID + towards * (1 + at % (50 * SPAN))
    return {"op": "place", "side": side, "price": price, "quantity": 1 + at % 100}


async def _until_open(nodes: Sequence[NodeProcess], orders: int) -> None:
    tell_at = trio.current_time()
    while True:
        states = [await node.status() for node in nodes]
        counts = [state["open_orders"] for state in states]
        if trio.current_time() >= tell_at:
            _tell(f"open orders: {counts}")
            tell_at += TELL_EVERY_S
        if all(count == orders for count in counts):
            return
        await trio.sleep(LOOK_EVERY_S * 10)


async def _until_kept(nodes: Sequence[NodeProcess]) -> int:
    """Wait until every node has a checkpoint of the whole book on its disk; the latest epoch of
    those."""
    full: int = max([(await node.status())["epoch"] for node in nodes])
    tell_at = trio.current_time()
    with trio.move_on_after(KEPT_S):
        while True:
            kept = [(await node.status())["kept_checkpoint"] for node in nodes]
            if trio.current_time() >= tell_at:
                _tell(f"checkpoints of epochs {kept}, one from {full} on is waited for")
                tell_at += TELL_EVERY_S
            if min(kept) >= full:
                return int(max(kept))
            await trio.sleep(LOOK_EVERY_S * 10)
    raise DeadlineError(f"no checkpoint after {KEPT_S:.0f} s")


async def _until_live(late: NodeProcess, epoch: int, started: float) -> dict[str, Any]:
    tell_at = trio.current_time()
    with trio.move_on_after(JOIN_S):
        while True:
            if late.process.poll() is not None:
                raise WorldError("the late node ended:\n" + cluster.end_of_log(late.directory.path))
            state = await late.status()
            if trio.current_time() >= tell_at:
                _tell(f"{trio.current_time() - started:.1f} s: epoch {state['epoch']} of {epoch}")
                tell_at += 1
            if state["joined_at"] is not None and state["epoch"] >= epoch:
                return state
            await trio.sleep(LOOK_EVERY_S)
    raise DeadlineError(
        f"the late node was not live after {JOIN_S:.0f} s:\n"
        + cluster.end_of_log(late.directory.path)
    )


async def _in_common(chronicle: Chronicle) -> tuple[int, list[str]]:
    """As ``Chronicle.compare``. A node that has just joined has applied no epoch itself yet."""
    until = trio.current_time() + JOIN_S
    while True:
        await chronicle.fetch()
        try:
            return chronicle.compare()
        except WorldError:
            if trio.current_time() > until:
                raise
        await trio.sleep(LOOK_EVERY_S)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def render(figures: dict[str, Any]) -> str:
    """The figures for people."""
    return "\n".join(
        [
            f"{figures['orders']} open orders joined in {figures['join_s']} s from process start",
            f"  fetched   {figures['bytes'] / 1e6:.1f} MB from {figures['peers_used']} peers",
            f"  epochs    checkpoint {figures['joined_at']}, compared at {figures['epoch']}",
            f"  root      {figures['verified_root']}",
            f"  {'all nodes agree' if figures['agree'] else 'THE NODES DISAGREE'}",
        ]
    )


def main(as_json: bool, orders: int, checkpoint_epochs: int) -> int:
    """Run, print, and return the exit status: 1 for disagreement."""
    with tempfile.TemporaryDirectory(prefix="orrange-sync-") as base:
        figures = trio.run(measure, Path(base), orders, checkpoint_epochs)
    print(json.dumps(figures) if as_json else render(figures))
    return 0 if figures["agree"] else 1
