"""``orrange bench ingest``: how many orders a second one core takes in, from bytes to disk.

Timed, for entries of 100 operations each as a peer would send them: decoding with the canonical
check, the signature, the durable append (SQLite, FULL, a group of entries to a commit) and the fold
with one state root per epoch. Everything runs on one core, the store's thread included.

Workload: 60% limit orders within 20 ticks of a randomly walking mid price, 30% cancels of random
live orders of the same author, 10% orders that cross; an untimed epoch of limit orders goes before.
An epoch is what the required rate brings in one round of the clock, a commit what it brings in one
flush of the gossip. Nobody accepts, so matches stay pending: an accept is not an order, and costs
its own signature check.
"""

from __future__ import annotations

import gc
import json
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import attrs

from orrange_p2p.bench.one_market import LogWriter, new_fold, next_epoch, one_market
from orrange_p2p.core import fold as fold_module
from orrange_p2p.core.entries import Entry, decode_entry
from orrange_p2p.core.genesis import Genesis, Market
from orrange_p2p.core.ids import ZERO32, Digest, Lots, OrderId, Price
from orrange_p2p.core.operations import Cancel, Operation, Place, Side
from orrange_p2p.ports import EpochRecord, Record
from orrange_p2p.store.sqlite_file import SqliteFile

SEED: Final = 20_150_501
OPERATIONS: Final = 200_000
AUTHORS: Final = 25
ENTRY_OPERATIONS: Final = 100
EPOCH_ENTRIES: Final = 250
"""25,000 operations: one round of 250 ms at 100,000 a second."""
COMMIT_ENTRIES: Final = 20
"""2,000 operations: one gossip flush of 20 ms at that rate."""

START_MID: Final = 100_000
SPAN: Final = 20
"""Ticks from the mid price within which limit orders are placed."""
START_MS: Final = 1_430_438_400_000
ROUND_MS: Final = 250

MARKET: Final = Market(
    base="eip155:31337/slip44:60",
    quote="eip155:31337/erc20:0x0000000000000000000000000000000000000001",
    tick_size=1,
    lot_size=1,
    settlement="atomic",
    timing="evm",
    rate_numerator=1,
    rate_denominator=1,
    volatility_ppm=40_000,
)


@attrs.frozen
class Workload:
    """Signed entries, made before the timer starts."""

    genesis: Genesis
    warm: tuple[bytes, ...]
    """The epoch that fills the book."""
    epochs: tuple[tuple[bytes, ...], ...]
    root: bytes
    """The state root after the last epoch, as the maker of the workload computed it."""


class _Trader:
    """An author who cancels only what it knows to rest."""

    def __init__(self, log: LogWriter) -> None:
        self.log = log
        self._live: list[OrderId] = []
        self._places: dict[OrderId, int] = {}

    def learn(self, order: OrderId) -> None:
        self._places[order] = len(self._live)
        self._live.append(order)

    def forget(self, order: OrderId) -> None:
        place = self._places.pop(order, None)
        if place is not None:
            last = self._live.pop()
            if place < len(self._live):
                self._live[place] = last
                self._places[last] = place

    def operation(self, rng: random.Random, mid: int, may_cancel: bool) -> Operation:
        kind = rng.random() if may_cancel else 1.0
        if kind < 0.3 and self._live:
            order = self._live[rng.randrange(len(self._live))]
            self.forget(order)
            return Cancel(order.seq, order.position)
        side = rng.randrange(2)
        towards = 1 if side == Side.BUY else -1
        if kind < 0.4:
            return Place(side, Price(mid + towards * SPAN), Lots(rng.randint(1, 200)))
        away = rng.randint(1, SPAN)
        return Place(side, Price(mid - towards * away), Lots(rng.randint(1, 100)))


def generate(operations: int, seed: int) -> Workload:
    """The workload of a seed: whole entries, at least one. What rests is told by the fold, so that
    every cancel finds its order."""
    rng = random.Random(seed)  # noqa: S311 - a workload, not a secret
    genesis = one_market(MARKET, START_MS)
    fold = new_fold(genesis)
    traders = [_Trader(LogWriter(genesis, f"trader {number}")) for number in range(AUTHORS)]
    by_address = {trader.log.address: trader for trader in traders}
    entries_left = max(1, -(-operations // ENTRY_OPERATIONS))
    mid = START_MID
    made: list[tuple[bytes, ...]] = []
    while not made or entries_left > 0:
        entries = []
        for _ in range(min(EPOCH_ENTRIES, entries_left) if made else EPOCH_ENTRIES):
            # An entry is written at one moment, with one idea of the price.
            mid += rng.choice((-1, 0, 0, 0, 0, 0, 0, 0, 0, 1))
            trader = rng.choice(traders)
            operations_of_entry = [
                trader.operation(rng, mid, may_cancel=bool(made)) for _ in range(ENTRY_OPERATIONS)
            ]
            entries.append(trader.log.write(operations_of_entry))
        if made:
            entries_left -= len(entries)
        made.append(tuple(entry.encoded for entry in entries))
        outcome = fold.apply(next_epoch(fold, entries, fold.time_ms + ROUND_MS))
        for entry in entries:
            for position, operation in enumerate(entry.operations):
                if type(operation) is Place:
                    order_id = OrderId(entry.author, entry.seq, position)
                    by_address[entry.author].learn(order_id)
        for match in outcome.matches:
            for order_id in (match.maker, match.taker):
                order = fold.order(order_id)
                if order is None or order.open == 0:
                    by_address[order_id.author].forget(order_id)
    return Workload(genesis, made[0], tuple(made[1:]), fold.root)


def measure(workload: Workload, directory: Path) -> dict[str, Any]:
    """Take the workload in, from bytes to disk; the store's file goes into ``directory``."""
    genesis = workload.genesis
    separator = genesis.separator
    market = genesis.markets[0].id
    fold = new_fold(genesis)
    warm = [decode_entry(encoded, separator, market) for encoded in workload.warm]
    fold.apply(next_epoch(fold, warm, fold.time_ms + ROUND_MS))
    decoding = verifying = appending = applying = 0.0
    operations = placed = matches = 0
    with SqliteFile(directory / "ingest.db", genesis.network_id) as store, rare_collection():
        started = perf_counter()
        for arrived in workload.epochs:
            entries: list[Entry] = []
            for at in range(0, len(arrived), COMMIT_ENTRIES):
                t0 = perf_counter()
                group = [
                    decode_entry(encoded, separator, market)
                    for encoded in arrived[at : at + COMMIT_ENTRIES]
                ]
                t1 = perf_counter()
                for entry in group:
                    entry.verify()
                t2 = perf_counter()
                store.append([Record.of_entry(entry) for entry in group])
                t3 = perf_counter()
                entries += group
                decoding += t1 - t0
                verifying += t2 - t1
                appending += t3 - t2
            t4 = perf_counter()
            outcome = fold.apply(next_epoch(fold, entries, fold.time_ms + ROUND_MS))
            t5 = perf_counter()
            leader = Digest(ZERO32)
            store.record_epoch(
                market, EpochRecord(outcome.epoch, outcome.root, leader, outcome.time_ms)
            )
            applying += t5 - t4
            appending += perf_counter() - t5
            operations += sum(len(entry.operations) for entry in entries)
            placed += outcome.placed
            matches += len(outcome.matches)
        elapsed = perf_counter() - started
    if fold.root != workload.root:
        raise RuntimeError("the state root differs from the one the workload was made with")
    stages = {"decode": decoding, "verify": verifying, "apply": applying, "append": appending}
    return {
        "orders_per_s": round(operations / elapsed),
        "operations": operations,
        "entries": sum(len(arrived) for arrived in workload.epochs),
        "epochs": len(workload.epochs),
        "placed": placed,
        "matches": matches,
        "build": "pure" if str(fold_module.__file__).endswith(".py") else "mypyc",
        "stages": {name: round(s * 1e6 / operations, 2) for name, s in stages.items()},
        "root": f"0x{fold.root.hex()}",
    }


def run(operations: int = OPERATIONS, seed: int = SEED, repetitions: int = 5) -> dict[str, Any]:
    """The figures of the fastest of several runs over one workload, each on one core, in turn on
    each that there is: the slower ones measured what else the machine was doing there. ``runs`` has
    the speed of each."""
    workload = generate(operations, seed)
    known = cores()
    runs = []
    for number in range(repetitions):
        with tempfile.TemporaryDirectory() as directory, on_core(known[number % len(known)]):
            runs.append(measure(workload, Path(directory)))
    fastest = max(runs, key=lambda figures: int(figures["orders_per_s"]))
    return {**fastest, "runs": [figures["orders_per_s"] for figures in runs]}


def render(figures: dict[str, Any]) -> str:
    """The figures for people."""
    stages = figures["stages"]
    lines = [
        f"{figures['orders_per_s']:,} operations a second on one core ({figures['build']}): "
        f"{figures['operations']:,} in {figures['entries']:,} entries and {figures['epochs']:,} "
        f"epochs, {figures['placed']:,} orders placed, {figures['matches']:,} matches",
        *[f"  {name:<10}{stages[name]:>8.2f} us per operation" for name in stages],
        f"  runs: {', '.join(f'{speed:,}' for speed in figures['runs'])}",
        f"  state root {figures['root']}",
    ]
    return "\n".join(lines)


def main(as_json: bool = False, **options: Any) -> int:
    """Run, print, and return the exit status."""
    figures = run(**options)
    print(json.dumps(figures) if as_json else render(figures))
    return 0


def cores() -> list[int]:
    """The cores this process may use; -1 stands for whichever, where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [-1]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this process, with all its threads to come, on one core."""
    if core < 0:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def rare_collection() -> Iterator[None]:
    """Collect cycles rarely, as a node under such load has to: live orders are many and leave no
    cycle behind, and at Python's default the collector spends as much time as all the rest.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
