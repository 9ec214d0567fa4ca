"""``orrange demo``: real node processes, a real exchange's order flow, one identical book."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import click
import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from orrange_p2p.bench.replay import MARKET
from orrange_p2p.cli import cluster
from orrange_p2p.cli.chronicle import LOOK_EVERY_S, Chronicle, p50_and_p99, settle
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.client.api import Client, connect
from orrange_p2p.core.errors import WorldError
from orrange_p2p.feeds.bitstamp import SAMPLE, BitstampLog, OrderCreated, OrderDeleted

TRADERS_PER_NODE: Final = 2
MAX_BATCH: Final = 200


@click.command("demo")
@click.option("--nodes", type=click.IntRange(1, 16), default=4, show_default=True)
@click.option(
    "--feed",
    type=click.Path(path_type=Path),
    default=SAMPLE,
    help="A Bitstamp log, plain, .xz or .gz; by default a sample that ships with the package.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.0, min_open=True),
    default=40.0,
    show_default=True,
    help="How many times faster than recorded.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line at the end, no table.")
@click.option("--sabotage", is_flag=True, help="Break the book of one node: the demo must fail.")
def command(nodes: int, feed: Path, speed: float, as_json: bool, sabotage: bool) -> None:
    """Watch several nodes agree on one order book.

    Starts node processes on this machine, all of them witnesses, spreads the orders of a recorded
    exchange session over authors on all of them, and compares the state roots that each process
    reports for one epoch. Exit status 1 if they differ.
    """
    with tempfile.TemporaryDirectory(prefix="orrange-demo-") as base:
        demo = _Demo(Path(base), nodes, BitstampLog(feed), speed, as_json, sabotage)
        report = trio.run(demo.run)
    if as_json:
        click.echo(json.dumps(attrs.asdict(report), separators=(",", ":")))
    else:
        _show(report)
    if not report.agree:
        raise SystemExit(1)


@attrs.frozen
class Report:
    """What the demo showed."""

    nodes: int
    epochs: int
    orders: int
    matches: int
    trades: int
    root_epoch: int
    roots: list[str]
    agree: bool
    commit_latency_ms: dict[str, int | None]
    """From submission to the entry being applied and durable at the slowest node."""
    entries: int
    lapses: int
    refusals: int
    feed_events: int
    broken_lines: int


class _Author:
    """One log that the demo writes, through the socket of the node that holds its key."""

    def __init__(self, node: NodeProcess, address: str) -> None:
        self.node = node
        self.address = address
        self.waiting: deque[OrderCreated | OrderDeleted] = deque()
        self.filled = trio.Event()
        self.placed: dict[int, dict[str, Any]] = {}

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.filled.is_set()

    async def run(self) -> None:
        async with connect(self.node.directory.rpc_socket) as client:
            while True:
                await self.filled.wait()
                try:
                    await self._write_waiting(client)
                except WorldError:
                    if not (await self.node.status())["halted"]:
                        raise
                    self.waiting.clear()  # the node found out that its book is wrong
                self.filled = trio.Event()

    async def _write_waiting(self, client: Client) -> None:
        while self.waiting:
            operations, ids = self._gather()
            if operations:
                named = await client.call(
                    "submit", {"author": self.address, "operations": operations}
                )
                self.placed.update(
                    (feed_id, name)
                    for feed_id, name in zip(ids, named, strict=True)
                    if feed_id is not None
                )

    def _gather(self) -> tuple[list[dict[str, Any]], list[int | None]]:
        """The next operations that can go together: a cancel needs its order's name first."""
        operations: list[dict[str, Any]] = []
        ids: list[int | None] = []
        while self.waiting and len(operations) < MAX_BATCH:
            event = self.waiting[0]
            if isinstance(event, OrderCreated):
                operations.append(
                    {
                        "op": "place",
                        "side": event.side.name.lower(),
                        "price": str(event.price_cents),
                        "quantity": str(event.amount_satoshi),
                    }
                )
                ids.append(event.id)
            elif event.id in ids:
                break
            elif event.id in self.placed:
                name = self.placed.pop(event.id)
                operations.append(
                    {"op": "cancel", "seq": name["seq"], "position": name["position"]}
                )
                ids.append(None)
            self.waiting.popleft()
        return operations, ids


class _Demo:
    def __init__(
        self,
        base: Path,
        nodes: int,
        feed: BitstampLog,
        speed: float,
        as_json: bool,
        sabotage: bool,
    ) -> None:
        self._base = base
        self._count = nodes
        self._feed = feed
        self._speed = speed
        self._sabotage = sabotage
        self._console = Console(stderr=as_json)
        self._fed = 0

    async def run(self) -> Report:
        self._console.print(f"Making keys for {self._count} nodes ...", highlight=False)
        await trio.to_thread.run_sync(
            cluster.make_network, self._base, MARKET, self._count, TRADERS_PER_NODE, cluster.WIDE
        )
        self._console.print("Starting them and waiting for their first rounds ...")
        extra = {self._count - 1: ["--sabotage"]} if self._sabotage else {}
        async with cluster.running(self._base, self._count, extra) as nodes:
            authors = [
                _Author(node, address)
                for node in nodes
                for address in (await node.status())["authors"]
            ]
            chronicle = Chronicle(nodes)
            async with trio.open_nursery() as nursery:
                for author in authors:
                    nursery.start_soon(author.run)
                nursery.start_soon(self._watch, nodes, chronicle)
                await self._play(authors)
                await settle(nodes, lambda: all(author.is_idle for author in authors))
                nursery.cancel_scope.cancel()
            await chronicle.fetch()
            return await self._report(nodes, chronicle)

    async def _play(self, authors: Sequence[_Author]) -> None:
        """Hand the feed's orders to the authors at the recorded pace times ``speed``."""
        start = trio.current_time()
        first_ms: int | None = None
        for event in self._feed:
            if not isinstance(event, OrderCreated | OrderDeleted):
                continue
            if isinstance(event, OrderDeleted) and event.amount_satoshi == 0:
                continue  # it was traded there, not taken back by its owner; so it may be here
            first_ms = event.time_ms if first_ms is None else first_ms
            await trio.sleep_until(start + (event.time_ms - first_ms) / 1000 / self._speed)
            author = authors[event.id % len(authors)]
            author.waiting.append(event)
            author.filled.set()
            self._fed += 1

    # --- progress ---

    async def _watch(self, nodes: Sequence[NodeProcess], chronicle: Chronicle) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                await chronicle.fetch()
                states = [await node.status() for node in nodes]
                live.update(_progress(states, self._fed), refresh=True)
                await trio.sleep(LOOK_EVERY_S)

    async def _report(self, nodes: Sequence[NodeProcess], chronicle: Chronicle) -> Report:
        epoch, roots = chronicle.last_common()
        totals: Counter[str] = Counter((await nodes[0].status())["totals"])
        return Report(
            nodes=len(nodes),
            epochs=epoch,
            orders=totals["orders"],
            matches=totals["matches"],
            trades=totals["trades"],
            root_epoch=epoch,
            roots=roots,
            agree=len(set(roots)) == 1,
            commit_latency_ms=p50_and_p99(chronicle.latencies_ms()),
            entries=len(chronicle.commits),
            lapses=totals["lapses"],
            refusals=totals["refusals"],
            feed_events=self._fed,
            broken_lines=self._feed.error_count,
        )


def _progress(states: Sequence[dict[str, Any]], fed: int) -> Table:
    table = Table(title=f"{fed} feed events", title_justify="left")
    for column in ("node", "peers", "round", "epoch", "orders", "matches", "trades", "bid", "ask"):
        table.add_column(column, justify="right")
    for number, state in enumerate(states):
        totals: Counter[str] = Counter(state["totals"])
        table.add_row(
            str(number),
            str(len(state["peers"])),
            str(state["round"]),
            str(state["epoch"]),
            str(totals["orders"]),
            str(totals["matches"]),
            str(totals["trades"]),
            _dollars(state["best_bid"]),
            _dollars(state["best_ask"]),
        )
    return table


def _dollars(cents: str | None) -> str:
    return "-" if cents is None else f"{int(cents) // 100}.{int(cents) % 100:02d}"


def _show(report: Report) -> None:
    console = Console()
    table = Table(title=f"State roots of epoch {report.root_epoch}", title_justify="left")
    table.add_column("node", justify="right")
    table.add_column("root")
    for number, root in enumerate(report.roots):
        odd = report.roots.count(root) <= len(report.roots) // 2
        table.add_row(str(number), root, style="red" if odd and not report.agree else None)
    console.print(table)
    console.print(
        f"{report.orders} orders, {report.matches} matches, {report.trades} trades "
        f"in {report.epochs} epochs from {report.feed_events} feed events.",
        highlight=False,
    )
    latency = report.commit_latency_ms
    console.print(
        f"Commit latency at the slowest node: p50 {latency['p50']} ms, p99 {latency['p99']} ms.",
        highlight=False,
    )
    if report.agree:
        console.print("[green]All roots are equal:[/] every node computed the same book.")
    else:
        console.print("[red]The roots differ:[/] at least one node computed another book.")
