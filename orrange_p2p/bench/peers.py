"""One matcher, one workload, one process: the stopwatch of ``orrange bench book``.

Runs as a script under the interpreter that has the matcher installed, which need not have this
project: so it imports nothing of ours at the top. It prints one JSON line.

    python -I peers.py NAME WORKLOAD.json

The same rules for all. Inside the stopwatch: the calls that match and cancel, and keeping the
fills. Outside: reading the workload, turning it into the matcher's own types, filling the book.
A matcher whose call takes an order object gets it ready-made, ours too; one whose call takes plain
values builds its orders inside, so it is compared with ``orrange-building``, which is ours with
the building of orders inside. CPU time is measured, since other processes share the machine. What
was made beforehand is hidden from the garbage collector.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Operation = list[int]
"""[id, side (0 buy, 1 sell), price, quantity]; to cancel: [id]."""
Fills = list[tuple[int, int, int, int]]
"""Maker's id, taker's id, price, quantity."""
Result = tuple[float, Fills | None]
"""CPU seconds, and the fills if the matcher reports any."""


def start() -> float:
    gc.collect()
    return time.process_time()


def hash_fills(fills: Iterable[tuple[int, int, int, int]]) -> str:
    """SHA-256 over one line for each fill: what two matchers agree on if they did the same."""
    digest = hashlib.sha256()
    for fill in fills:
        digest.update(b"%d %d %d %d\n" % fill)
    return "0x" + digest.hexdigest()


# Many owners, none on both sides: no self-trade prevention, which most others do not have.
OWNERS = [[bytes([side, n]) * 10 for n in range(256)] for side in (0, 1)]


def orrange(resting: list[Operation], operations: list[Operation]) -> Result:
    from orrange_p2p.core.book import USER, Book, Fill, Order

    book = Book()
    place, cancel = book.place, book.cancel
    made = [
        Order(op[0], OWNERS[op[1]][op[0] % 256], op[1], op[2], op[3], rank=op[0])
        if len(op) > 1
        else op[0]
        for op in [*resting, *operations]
    ]
    for order in made[: len(resting)]:
        place(order)  # type: ignore[arg-type]
    ready = [(what, isinstance(what, Order)) for what in made[len(resting) :]]
    fills: list[Fill] = []
    gc.freeze()
    begin = start()
    for what, is_order in ready:
        if is_order:
            fills += place(what)  # type: ignore[arg-type]
        else:
            cancel(what, USER)
    return time.process_time() - begin, _plain(fills)


def orrange_building(resting: list[Operation], operations: list[Operation]) -> Result:
    from orrange_p2p.core.book import USER, Book, Fill, Order

    book = Book()
    place, cancel = book.place, book.cancel
    for number, side, price, quantity in resting:
        place(Order(number, OWNERS[side][number % 256], side, price, quantity, rank=number))
    ready = [
        (op[0], OWNERS[op[1]][op[0] % 256], op[1], op[2], op[3])
        if len(op) > 1
        else (op[0], b"", 0, 0, 0)
        for op in operations
    ]
    fills: list[Fill] = []
    gc.freeze()
    begin = start()
    for number, owner, side, price, quantity in ready:
        if quantity:
            fills += place(
                Order(number, owner, side, price, quantity, 0, 0, False, 0, 0, -1, 0, 0, 1, number)
            )
        else:
            cancel(number, USER)
    return time.process_time() - begin, _plain(fills)


def _plain(fills: list[Any]) -> Fills:
    return [(fill.maker.id, fill.taker.id, fill.price, fill.quantity) for fill in fills]


def _akhil4n_family(
    order: Callable[[Operation], Any], book: Any, resting: list[Operation], ops: list[Operation]
) -> Result:
    """akhil4n-orderbook and its Cython translation: ready orders, ids of its own, a trade log."""
    ready = []
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for op in [*resting, *ops]:
        if len(op) > 1:
            made = order(op)
            names[op[0]] = made.order_id
            numbers[made.order_id] = op[0]
            ready.append((True, made))
        else:
            ready.append((False, names[op[0]]))
    add, cancel = book.add_limit_order, book.cancel_order
    for _, made in ready[: len(resting)]:
        add(made)
    timed = ready[len(resting) :]
    gc.freeze()
    begin = start()
    for is_order, what in timed:
        if is_order:
            add(what)
        else:
            cancel(what)
    seconds = time.process_time() - begin
    log = book.trade_log
    return seconds, [
        (numbers[t.filler_id], numbers[t.aggressor_id], t.price, t.quantity_filled) for t in log
    ]


def akhil4n(resting: list[Operation], operations: list[Operation]) -> Result:
    from orderbook import Order, OrderBook, OrderSide  # type: ignore[import-not-found]

    sides = (OrderSide.BID, OrderSide.ASK)
    return _akhil4n_family(
        lambda op: Order(sides[op[1]], op[2], op[3]), OrderBook(), resting, operations
    )


def cython(resting: list[Operation], operations: list[Operation]) -> Result:
    from cython_orderbook import Order, OrderBook, OrderSide  # type: ignore[import-not-found]

    sides = (OrderSide.BID, OrderSide.ASK)
    return _akhil4n_family(
        lambda op: Order(sides[op[1]], op[3], op[2]), OrderBook(), resting, operations
    )


def lightmatchingengine(resting: list[Operation], operations: list[Operation]) -> Result:
    from lightmatchingengine.lightmatchingengine import (  # type: ignore[import-not-found]
        LightMatchingEngine,
    )

    engine = LightMatchingEngine()
    add, cancel = engine.add_order, engine.cancel_order
    names: dict[int, int] = {}  # it numbers orders from 1 as they come
    numbers = [0]
    ready = []
    for op in [*resting, *operations]:
        if len(op) > 1:
            names[op[0]] = len(numbers)
            numbers.append(op[0])
            ready.append((op[1] + 1, op[2], op[3]))
        else:
            ready.append((0, names[op[0]], 0))
    for side, price, quantity in ready[: len(resting)]:
        add("X", price, quantity, side)
    timed = ready[len(resting) :]
    trades: list[Any] = []
    gc.freeze()
    begin = start()
    for side, price, quantity in timed:
        if side:
            trades += add("X", price, quantity, side)[1]
        else:
            cancel(price, "X")
    seconds = time.process_time() - begin
    # One record for the taker and each level, followed by one for each maker.
    fills = []
    taker = left = 0
    for trade in trades:
        if left == 0:
            taker, left = trade.order_id, trade.trade_qty
        else:
            maker = numbers[trade.order_id]
            fills.append((maker, numbers[taker], trade.trade_price, trade.trade_qty))
            left -= trade.trade_qty
    return seconds, fills


def pyorderbook(resting: list[Operation], operations: list[Operation]) -> Result:
    from pyorderbook import Book, Order, Side  # type: ignore[import-not-found]

    sides = (Side.BID, Side.ASK)
    orders: dict[int, Any] = {}
    ready = []
    for op in [*resting, *operations]:
        if len(op) > 1:
            orders[op[0]] = Order(sides[op[1]], "X", op[2], op[3])
        ready.append((len(op) > 1, orders[op[0]]))
    numbers = {order.id: number for number, order in orders.items()}
    book = Book()
    match, cancel = book.match, book.cancel
    for _, made in ready[: len(resting)]:
        match(made)
    timed = ready[len(resting) :]
    trades: list[Any] = []
    gc.freeze()
    begin = start()
    for is_order, made in timed:
        if is_order:
            trades += match(made).trades
        else:
            cancel(made)
    seconds = time.process_time() - begin
    return seconds, [
        (
            numbers[t.standing_order_id],
            numbers[t.incoming_order_id],
            int(t.fill_price),
            t.fill_quantity,
        )
        for t in trades
    ]


def limit_order_book(resting: list[Operation], operations: list[Operation]) -> Result:
    from limit_order_book import LimitOrderBook  # type: ignore[import-not-found]

    book = LimitOrderBook()
    limits = (book.limit_buy, book.limit_sell)
    cancel = book.cancel
    for number, side, price, quantity in resting:
        limits[side](number + 1, quantity, price)
    ready = [
        (limits[op[1]], op[0] + 1, op[3], op[2]) if len(op) > 1 else (None, op[0] + 1, 0, 0)
        for op in operations
    ]
    gc.freeze()
    begin = start()
    for limit, number, quantity, price in ready:
        if limit is None:
            cancel(number)
        else:
            limit(number, quantity, price)
    return time.process_time() - begin, None


NODE_DRIVER = """
const { readFileSync } = require('fs');
const { OrderBook } = require('nodejs-order-book');
const { resting, operations } = JSON.parse(readFileSync(process.argv[1]));
const book = new OrderBook();
const make = (op) => op.length > 1
  ? { id: String(op[0]), side: op[1] ? 'sell' : 'buy', price: op[2], size: op[3] }
  : String(op[0]);
for (const op of resting) book.limit(make(op));
const ready = operations.map(make);
const results = [];
const begin = process.hrtime.bigint();
for (const op of ready) {
  if (typeof op === 'string') book.cancel(op); else results.push(book.limit(op));
}
const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
const takers = ready.filter((op) => typeof op !== 'string');
let fills = 0;
results.forEach((result, i) => {
  if (result.err) throw result.err;
  const makers = result.partial ? [...result.done, result.partial] : result.done;
  fills += makers.filter((order) => order.id !== takers[i].id).length;
});
console.log(JSON.stringify({ seconds, fills }));
"""
"""Wall time here: Node compiles on other threads, whose CPU time is not the matcher's."""

DRIVERS: dict[str, Callable[[list[Operation], list[Operation]], Result]] = {
    "orrange": orrange,
    "orrange-building": orrange_building,
    "akhil4n-orderbook": akhil4n,
    "cython-orderbook": cython,
    "lightmatchingengine": lightmatchingengine,
    "pyorderbook": pyorderbook,
    "limit-order-book": limit_order_book,
}
NODE_PEER = "nodejs-order-book"
OURS = ("orrange", "orrange-building")
PEERS = (*(name for name in DRIVERS if name not in OURS), NODE_PEER)
BUILDING = ("lightmatchingengine", "limit-order-book")
"""Peers whose call takes plain values and builds the order."""
NO_FILLS = ("limit-order-book",)
"""Peers that do not say who traded with whom: shown, not compared with."""

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 600


def measure(name: str, workload: Path, environment: Path) -> dict[str, Any]:
    """Run one matcher on a workload file, in a process of its own.

    ``environment`` is the virtual environment of the peers; npm's may be in its ``node_modules``.
    ``{"missing": why}`` if the matcher is not there or does not get through the workload.
    """
    python = environment / "bin" / "python"
    variables = {"PATH": os.environ.get("PATH", os.defpath)}
    if name == NODE_PEER:
        node = shutil.which("node")
        if node is None:
            return {"missing": "no node on PATH"}
        if not (environment / "node_modules" / name).is_dir():
            return {"missing": f"not installed: npm install --prefix {environment.name} {name}"}
        variables["NODE_PATH"] = str(environment / "node_modules")
        command = [node, "-e", NODE_DRIVER, str(workload)]
    elif name in OURS:
        variables["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, "-P", __file__, name, str(workload)]
    elif python.is_file():
        command = [str(python), "-I", __file__, name, str(workload)]
    else:
        return {"missing": f"no environment {environment.name}: `make bench` makes it"}
    try:
        done = subprocess.run(  # noqa: S603 - the commands above
            command, env=variables, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"missing": f"took longer than {TIMEOUT_S} s"}
    if done.returncode != 0:
        last = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"missing": f"failed: {last[-1]}"}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(name: str, workload: str) -> None:
    with open(workload, encoding="ascii") as file:
        data = json.load(file)
    try:
        seconds, fills = DRIVERS[name](data["resting"], data["operations"])
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    result: dict[str, object] = {"seconds": seconds}
    if fills is not None:
        result |= {"fills": len(fills), "fills_hash": hash_fills(fills)}
    if name in OURS:
        from orrange_p2p.core import book

        result["build"] = "pure" if str(book.__file__).endswith(".py") else "mypyc"
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
