"""``orrange bench api``: one node's stream, heard by many at once.

A node process matches its own orders while this process holds all subscribers. Each of them checks
that every change of the book follows the one before; how late it came is reckoned from the moment
the node handed it to all of them, on the machine's one monotonic clock.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from orrange_p2p.bench.replay import MARKET
from orrange_p2p.cli import cluster
from orrange_p2p.cli.chronicle import percentile
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.core.errors import WorldError
from orrange_p2p.daemon.api_config import ApiConfig

JOIN_AT_ONCE: Final = 20
ORDERS_PER_S: Final = 50
JOIN_S: Final = 120.0
WARM_S: Final = 2.0
SPAN: Final = 40
MID: Final = 100_000


@attrs.define
class _Heard:
    """What the subscribers heard, together."""

    late_ms: list[int] = attrs.field(factory=list)
    changes: int = 0
    missed: int = 0
    cut_off: int = 0
    still_to_join: int = 0
    all_joined: trio.Event = attrs.field(factory=trio.Event)
    is_counting: bool = False

    def note_joined(self) -> None:
        self.still_to_join -= 1
        if not self.still_to_join:
            self.all_joined.set()


async def measure(base: Path, subscribers: int, seconds: int) -> dict[str, Any]:
    """The figures. Raises ``WorldError`` if the node does not come up or ends."""
    api = ApiConfig(port=0)
    await trio.to_thread.run_sync(
        lambda: cluster.make_network(base, MARKET, 1, 2, cluster.WIDE, api=api)
    )
    heard = _Heard(still_to_join=subscribers)
    async with cluster.running(base, 1, {}) as nodes, trio.open_nursery() as nursery:
        node = nodes[0]
        status = await node.status()
        url = (await node.client.call("api"))["url"].replace("http", "ws")
        channel = f"{url}/v1/stream?channels=book:{status['market']}"
        token = node.directory.api_cookie.read_text().strip()
        nursery.start_soon(_trade, node, status["authors"])
        slots = trio.Semaphore(JOIN_AT_ONCE)
        for _ in range(subscribers):
            nursery.start_soon(_listen, channel, token, slots, heard)
        with trio.fail_after(JOIN_S):
            await heard.all_joined.wait()
        await trio.sleep(WARM_S)
        heard.is_counting = True
        started = time.monotonic()
        await trio.sleep(seconds)
        heard.is_counting = False
        took_s = time.monotonic() - started
        if node.process.poll() is not None:
            raise WorldError("the node ended:\n" + cluster.end_of_log(node.directory.path))
        nursery.cancel_scope.cancel()
    ordered = sorted(heard.late_ms)
    return {
        "subscribers": subscribers,
        "orders_per_s": ORDERS_PER_S,
        "seconds": round(took_s, 1),
        "changes": heard.changes,
        "missed": heard.missed,
        "cut_off": heard.cut_off,
        "p50_ms": percentile(ordered, 50),
        "p99_ms": percentile(ordered, 99),
        "max_ms": ordered[-1] if ordered else None,
    }


async def _trade(node: NodeProcess, authors: list[str]) -> None:
    rng = random.Random(1)  # noqa: S311 - a workload, not a secret
    placed: list[tuple[int, int]] = []
    while True:
        await trio.sleep(1 / ORDERS_PER_S)
        side = rng.choice(("buy", "sell"))
        away = rng.randint(-SPAN // 8, SPAN)
        price = MID - away if side == "buy" else MID + away
        order = {"op": "place", "side": side, "price": price, "quantity": rng.randint(1, 100)}
        operations: list[dict[str, Any]] = [order]
        if len(placed) > 200:
            seq, position = placed.pop(0)
            operations.append({"op": "cancel", "seq": seq, "position": position})
        named = await node.client.call("submit", {"author": authors[0], "operations": operations})
        placed.append((named[0]["seq"], named[0]["position"]))


async def _listen(url: str, token: str, slots: trio.Semaphore, heard: _Heard) -> None:
    headers = [(b"Authorization", f"Bearer {token}".encode())]
    try:
        await slots.acquire()
        async with open_websocket_url(url, extra_headers=headers) as stream:
            epoch = json.loads(await stream.get_message())["data"]["epoch"]
            slots.release()
            heard.note_joined()
            while True:
                data = json.loads(await stream.get_message())["data"]
                if heard.is_counting:
                    heard.late_ms.append(time.monotonic_ns() // 1_000_000 - data["told_ms"])
                    heard.changes += 1
                    heard.missed += data["after"] != epoch
                epoch = data["epoch"]
    except ConnectionClosed:
        heard.cut_off += 1


def main(as_json: bool, subscribers: int, seconds: int) -> int:
    with tempfile.TemporaryDirectory(prefix="orrange-bench-") as base:
        figures = trio.run(measure, Path(base), subscribers, seconds)
    if as_json:
        print(json.dumps(figures, separators=(",", ":")))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):<16} {value}")
    is_whole = not figures["missed"] and not figures["cut_off"]
    if not is_whole:
        print("some subscribers missed something", file=sys.stderr)
    return 0 if is_whole else 1
