"""``orrange bench book``: the matcher's speed, beside that of the matchers one could pick instead.

Workload: 60% limit orders within 20 ticks of a randomly walking mid price, 30% cancels of random
live orders, 10% orders that cross. Every matcher gets the same operations, made once from a seed;
repetitions of all matchers alternate, so that a machine that slows down slows all of them. Numbers
of one run compare with each other; across machines and runs, only the ratios do.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrange_p2p.bench import peers
from orrange_p2p.bench.naive import NaiveBook
from orrange_p2p.core.book import BUY, USER, Book, Order

SEED = 20_150_501
OPERATIONS = 200_000
RESTING = 100_000
REPETITIONS = 5
ENVIRONMENT = peers.ROOT / ".venv-peers"

START_MID = 100_000
SPAN = 20
"""Ticks from the mid price within which limit orders are placed."""
DEEP_SPAN = 1_000
"""Ticks from the edge of that over which the orders lie that rest beforehand."""


@dataclass(frozen=True)
class Workload:
    """Orders resting beforehand, then operations: [id, side, price, quantity], cancel is [id]."""

    resting: list[list[int]]
    operations: list[list[int]]


def generate(operations: int, resting: int, seed: int) -> Workload:
    """The workload of a seed. Which orders are live is told by running them through the matcher:
    were it wrong, the naive matcher would not come to the same fills."""
    rng = random.Random(seed)  # noqa: S311 - a workload, not a secret
    book = Book()
    live: list[int] = []
    position: dict[int, int] = {}
    mid = START_MID

    def remove(number: int) -> None:
        place = position.pop(number)
        last = live.pop()
        if last != number:
            live[place] = last
            position[last] = place

    def add(number: int, side: int, price: int, quantity: int) -> list[int]:
        owner = b"buyer" if side == BUY else b"seller"
        for fill in book.place(Order(number, owner, side, price, quantity, rank=number)):
            if fill.maker.open == 0:
                remove(fill.maker.id)  # type: ignore[arg-type]
        if number in book.resting:
            position[number] = len(live)
            live.append(number)
        return [number, side, price, quantity]

    before = []
    for number in range(resting):
        side = rng.randrange(2)
        away = SPAN + rng.randint(1, DEEP_SPAN)
        before.append(add(number, side, mid + away * (2 * side - 1), rng.randint(1, 100)))
    timed = []
    for number in range(resting, resting + operations):
        mid += rng.choice((-1, 0, 0, 0, 0, 0, 0, 0, 0, 1))
        kind = rng.random()
        side = rng.randrange(2)
        if kind < 0.3 and live:
            victim = live[rng.randrange(len(live))]
            book.cancel(victim, USER)
            remove(victim)
            timed.append([victim])
        elif kind < 0.4:
            price = mid + SPAN if side == BUY else mid - SPAN
            timed.append(add(number, side, price, rng.randint(1, 200)))
        else:
            away = rng.randint(1, SPAN)
            price = mid - away if side == BUY else mid + away
            timed.append(add(number, side, price, rng.randint(1, 100)))
    return Workload(before, timed)


def naive_fills(workload: Workload) -> list[tuple[int, int, int, int]]:
    """What the naive matcher trades."""
    book = NaiveBook()
    fills = []
    for number, side, price, quantity in workload.resting:
        book.place(number, side, price, quantity)
    for operation in workload.operations:
        if len(operation) == 1:
            book.cancel(operation[0])
        else:
            number, side, price, quantity = operation
            fills += book.place(number, side, price, quantity)
    return fills


def compare(
    operations: int, resting: int, seed: int, repetitions: int, environment: Path
) -> dict[str, Any]:
    """Figures of one workload: ours, each peer's (None when missing, and why), and the ratio."""
    workload = generate(operations, resting, seed)
    naive = naive_fills(workload)
    rounds: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "workload.json"
        file.write_text(
            json.dumps({"resting": workload.resting, "operations": workload.operations})
        )
        for _ in range(repetitions):
            for name in (*peers.OURS, *peers.PEERS):
                if name in rounds and "missing" in rounds[name][-1]:
                    continue
                rounds.setdefault(name, []).append(peers.measure(name, file, environment))
    for name in peers.OURS:
        if "missing" in rounds[name][-1]:
            raise RuntimeError(f"{name}: {rounds[name][-1]['missing']}")
    ours = rounds["orrange"][-1]
    naive_hash = peers.hash_fills(naive)
    speeds: dict[str, int | None] = {}
    same_fills: dict[str, bool | None] = {}
    missing = []
    for name, results in rounds.items():
        last = results[-1]
        if "missing" in last:
            speeds[name] = None
            missing.append({"name": name, "why": last["missing"]})
            continue
        speeds[name] = round(operations / statistics.median(r["seconds"] for r in results))
        if "fills_hash" in last:
            same_fills[name] = last["fills_hash"] == naive_hash
        else:
            same_fills[name] = last["fills"] == len(naive) if "fills" in last else None
    speed, building = (speeds.pop(name) or 0 for name in peers.OURS)
    ratios = {
        name: round((building if name in peers.BUILDING else speed) / theirs, 2)
        for name, theirs in speeds.items()
        if theirs is not None
    }
    rivals = [name for name in ratios if name not in peers.NO_FILLS]
    fastest = max(rivals, key=lambda name: speeds[name] or 0, default=None)
    return {
        "operations": operations,
        "resting": resting,
        "ops_per_s": speed,
        "ops_per_s_building_orders": building,
        "build": ours["build"],
        "fills": ours["fills"],
        "fills_hash": ours["fills_hash"],
        "fills_hash_naive": naive_hash,
        "peers": speeds,
        "ratios": ratios,
        "same_fills": same_fills,
        "missing": missing,
        "fastest_fill_reporting_peer": fastest,
        "ratio_to_fastest_fill_reporting_peer": None if fastest is None else ratios[fastest],
    }


def run(
    operations: int = OPERATIONS,
    resting: int = 0,
    seed: int = SEED,
    repetitions: int = REPETITIONS,
    deep: int = RESTING,
    environment: Path = ENVIRONMENT,
) -> dict[str, Any]:
    """The figures of ``resting`` orders, and under ``resting_100k`` those of ``deep`` orders.

    ``same_fills`` says of each matcher whether it traded what the naive one did, by the fills or,
    for Node, by their number; None when it reports none. ``ratios`` compare like with like:
    a peer that builds its orders inside the call with ``ops_per_s_building_orders``, the others,
    which get them ready-made, with ``ops_per_s``.
    """
    figures = compare(operations, resting, seed, repetitions, environment)
    if deep:
        figures["resting_100k"] = compare(operations, deep, seed, repetitions, environment)
    return figures


def render(figures: dict[str, Any]) -> str:
    """The figures for people."""
    lines = []
    for part in (figures, figures.get("resting_100k")):
        if part is None:
            continue
        same = "equal to" if part["fills_hash"] == part["fills_hash_naive"] else "NOT EQUAL TO"
        lines += [
            f"{part['operations']:,} operations on {part['resting']:,} resting orders, "
            f"{part['fills']:,} fills, {same} the naive matcher's",
            f"  {'orrange (' + part['build'] + ')':<28}{part['ops_per_s']:>12,} ops/s",
            f"  {'  building the orders too':<28}{part['ops_per_s_building_orders']:>12,} ops/s",
        ]
        for name, ratio in part["ratios"].items():
            note = {True: "", False: "  other fills", None: "  reports no fills"}
            lines.append(
                f"  {name:<28}{part['peers'][name]:>12,} ops/s{ratio:>8.2f}x"
                + note[part["same_fills"][name]]
            )
        lines += [f"  {each['name']:<28}{'missing':>12}: {each['why']}" for each in part["missing"]]
        ratio = part["ratio_to_fastest_fill_reporting_peer"]
        if ratio is not None:
            lines.append(f"  {ratio} times {part['fastest_fill_reporting_peer']}")
    return "\n".join(lines)


def main(as_json: bool = False, **options: Any) -> int:
    """Run, print, and return the exit status: 1 when the fills differ from the naive matcher's."""
    figures = run(**options)
    print(json.dumps(figures) if as_json else render(figures))
    parts = [figures, figures.get("resting_100k", figures)]
    return int(any(part["fills_hash"] != part["fills_hash_naive"] for part in parts))
