"""``orrange demo``: real node processes, a real exchange's order flow, one identical book, and
trades that pay out on a chain."""

from __future__ import annotations

import json
import signal
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import attrs
import click
import trio
from rich.console import Console
from rich.live import Live

from orrange_p2p.bench.replay import MARKET
from orrange_p2p.cli import cluster, demo_eras
from orrange_p2p.cli.chronicle import LOOK_EVERY_S, Chronicle, p50_and_p99, settle
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.cli.demo_chain import DemoChain, Holding, Purses, add_up, open_demo_chain
from orrange_p2p.cli.demo_eras import EraRun
from orrange_p2p.cli.demo_report import ERAS, HONEST, SCENARIOS, Report, progress, show
from orrange_p2p.cli.demo_swaps import SwapRun, show_swaps, to_json
from orrange_p2p.cli.ledger import Ledger
from orrange_p2p.client.api import Client, connect
from orrange_p2p.core.errors import ConfigError, HaltedError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.daemon.api_config import ApiConfig
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.daemon.keys import PlainKeys
from orrange_p2p.devnet.chains import KINDS
from orrange_p2p.devnet.contracts import REGISTRY, SETTLEMENT
from orrange_p2p.feeds.bitstamp import SAMPLE, BitstampLog, OrderCreated, OrderDeleted

NO_CHAIN: Final = "none"
MARKETS: Final = ("token", "btc")
DEFAULTER: Final = 0
"""Number of the node whose first trader takes its allowance back in the scenario ``default``."""
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
@click.option(
    "--evm",
    type=click.Choice([*KINDS, NO_CHAIN]),
    default=KINDS[0],
    show_default=True,
    help="embedded: a chain in this process. anvil: Foundry's. none: only the book, no settlement.",
)
@click.option(
    "--scenario",
    type=click.Choice(SCENARIOS),
    default=HONEST,
    show_default=True,
    help="default: a trader withdraws its allowance, and the chain shows who did not pay. eras: "
    "six nodes elect their witnesses on the chain; two join, one leaves, one cheats.",
)
@click.option(
    "--market",
    type=click.Choice(MARKETS),
    default=MARKETS[0],
    show_default=True,
    help="token: both assets on one chain, the recorded flow. btc: coins of a Bitcoin chain "
    "against a token, swapped.",
)
@click.option("--keep", is_flag=True, help="Keep everything running at the end, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line at the end, no table.")
@click.option("--sabotage", is_flag=True, help="Break the book of one node: the demo must fail.")
def command(
    nodes: int,
    feed: Path,
    speed: float,
    evm: str,
    scenario: str,
    market: str,
    keep: bool,
    as_json: bool,
    sabotage: bool,
) -> None:
    """Watch nodes on this machine build one order book and settle its trades on a chain.

    Starts a development chain and node processes on this machine, all of them witnesses, and
    spreads the orders of a recorded exchange session over traders on all of them. The nodes match
    the orders, settle the trades between the traders' accounts, and report the state root of one
    epoch. Exit status 1 if the roots differ, a trade was not settled or balances do not add up.
    With --keep it ends with the address of a node's page, and everything stays up.
    """
    if keep and (market == "btc" or as_json):
        raise ConfigError("--keep is for looking at it: leave out --json and --market btc")
    if scenario == ERAS:
        if keep or sabotage or market == "btc" or evm == NO_CHAIN:
            raise ConfigError("--scenario eras goes with --evm and --json only")
        _elect(evm, as_json)
        return
    if market == "btc":
        _swap(nodes, evm, as_json)
        return
    if scenario != HONEST and evm == NO_CHAIN:
        raise ConfigError("without a chain nobody can default: leave out --evm none")
    with tempfile.TemporaryDirectory(prefix="orrange-demo-") as base:
        demo = _Demo(
            Path(base), nodes, BitstampLog(feed), speed, evm, scenario, as_json, sabotage, keep
        )
        report = trio.run(demo.run)
    if keep:
        return
    if as_json:
        click.echo(json.dumps(attrs.asdict(report), separators=(",", ":")))
    else:
        show(report)
        click.echo("To trade there yourself, on a page: --keep (make demo ARGS=--keep)")
    if not report.is_as_it_should_be:
        raise SystemExit(1)


def _elect(evm: str, as_json: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="orrange-demo-") as base:
        report = trio.run(EraRun(Path(base), evm, as_json).run)
    if as_json:
        click.echo(demo_eras.to_json(report))
    else:
        demo_eras.show_eras(report)
    if not report.is_as_it_should_be:
        raise SystemExit(1)


def _swap(nodes: int, evm: str, as_json: bool) -> None:
    if evm == NO_CHAIN or nodes < 2:
        raise ConfigError("swaps need an EVM chain, and two nodes at least")
    with tempfile.TemporaryDirectory(prefix="orrange-demo-") as base:
        report = trio.run(SwapRun(Path(base), nodes, evm, as_json).run)
    if as_json:
        click.echo(to_json(report))
    else:
        show_swaps(report)
    if not report.is_as_it_should_be:
        raise SystemExit(1)


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
                except HaltedError:
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
        evm: str,
        scenario: str,
        as_json: bool,
        sabotage: bool,
        keep: bool,
    ) -> None:
        self._keep = keep
        self._base = base
        self._count = nodes
        self._feed = feed
        self._speed = speed
        self._evm = evm
        self._scenario = scenario
        self._sabotage = sabotage
        self._console = Console(stderr=as_json)
        self._fed = 0

    async def run(self) -> Report:
        async with AsyncExitStack() as stack:
            chain = purses = None
            if self._evm != NO_CHAIN:
                self._tell(f"Starting a chain ({self._evm}) ...")
                chain = await stack.enter_async_context(open_demo_chain(self._evm))
            self._tell(f"Making keys for {self._count} nodes ...")
            genesis = await self._make_network(chain)
            if chain is not None:
                self._tell("Deploying the contracts, giving each trader tokens to trade ...")
                keys = [PlainKeys(DataDir(self._base / f"node-{n}")) for n in range(self._count)]
                defaulter = DEFAULTER if self._scenario != HONEST else None
                funded = chain.funded(genesis, keys, defaulter)
                purses = await stack.enter_async_context(funded)
            self._tell("Starting the nodes and waiting for their first rounds ...")
            extra = {self._count - 1: ["--sabotage"]} if self._sabotage else {}
            nodes = await stack.enter_async_context(cluster.running(self._base, self._count, extra))
            report = await self._trade(nodes, chain, purses)
            if self._keep:
                show(report)
                await self._stay(nodes[0])
            return report

    async def _stay(self, node: NodeProcess) -> None:
        said = await node.client.call("api")
        self._tell(f"\nThe page of node 0, for a minute: {said['url']}/app/#{said['code']}")
        data_dir = node.directory.path
        self._tell(f"Later: orrange dashboard --data-dir {data_dir}\nCtrl-C ends everything.")
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                return

    async def _make_network(self, chain: DemoChain | None) -> Genesis:
        def make() -> Genesis:
            arguments = (self._base, MARKET, self._count, TRADERS_PER_NODE, cluster.WIDE)
            if chain is None:
                return cluster.make_network(*arguments, api=self._api())
            return cluster.make_network(
                self._base,
                chain.market(MARKET),
                *arguments[2:],
                registry=REGISTRY,
                settlement=SETTLEMENT,
                api=self._api(),
                chains=chain.config,
                settlements=chain.settlements,
            )

        return await trio.to_thread.run_sync(make)

    def _api(self) -> ApiConfig | None:
        return ApiConfig(port=0) if self._keep else None

    async def _trade(
        self, nodes: Sequence[NodeProcess], chain: DemoChain | None, purses: Purses | None
    ) -> Report:
        authors = [
            _Author(node, address) for node in nodes for address in (await node.status())["authors"]
        ]
        chronicle, ledger = Chronicle(nodes), Ledger(nodes)
        async with trio.open_nursery() as nursery:
            for author in authors:
                nursery.start_soon(author.run)
            nursery.start_soon(self._watch, nodes, chronicle, ledger)
            await self._play(authors)
            agreed = await settle(nodes, lambda: all(author.is_idle for author in authors))
            if agreed and chain is not None:
                await ledger.wait_until_ended((await nodes[0].status())["totals"].get("trades", 0))
            nursery.cancel_scope.cancel()
        await chronicle.fetch()
        await ledger.fetch()
        holdings = [] if purses is None else await purses.count()
        return await self._report(nodes, chronicle, ledger, chain, holdings)

    def _tell(self, text: str) -> None:
        self._console.print(text, highlight=False)

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

    async def _watch(
        self, nodes: Sequence[NodeProcess], chronicle: Chronicle, ledger: Ledger
    ) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                await chronicle.fetch()
                await ledger.fetch()
                states = [await node.status() for node in nodes]
                live.update(progress(states, self._fed, ledger), refresh=True)
                await trio.sleep(LOOK_EVERY_S)

    async def _report(
        self,
        nodes: Sequence[NodeProcess],
        chronicle: Chronicle,
        ledger: Ledger,
        chain: DemoChain | None,
        holdings: list[Holding],
    ) -> Report:
        epoch, roots = chronicle.compare()
        totals: Counter[str] = Counter((await nodes[0].status())["totals"])
        agree = len(set(roots)) == 1
        settled = ledger.ended("settled")
        return Report(
            nodes=len(nodes),
            epochs=epoch,
            orders=totals["orders"],
            matches=totals["matches"],
            trades=totals["trades"],
            root_epoch=epoch,
            roots=roots,
            agree=agree,
            commit_latency_ms=p50_and_p99(chronicle.latencies_ms()),
            entries=len(chronicle.commits),
            lapses=totals["lapses"],
            refusals=totals["refusals"],
            feed_events=self._fed,
            broken_lines=self._feed.error_count,
            chain=None if chain is None else chain.name,
            settled=len(settled),
            failed=0 if chain is None else totals["trades"] - len(settled),
            transactions=len({trade["tx_hash"] for trade in settled}),
            defaults=[
                {name: trade[name] for name in ("id", "blamed", "tx_hash", "block")}
                for trade in ledger.ended("defaulted")
            ],
            balances_conserved=add_up(holdings, ledger) if agree and chain is not None else None,
            scenario=self._scenario,
            holdings=holdings,
        )
