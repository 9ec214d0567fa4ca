"""Two real node processes for attackers in another process: `hostile_cluster.py BASE`.

Node 0 is the victim; node 1 is honest, and its trader writes all the time. Both are witnesses, so
nothing commits without both. Prints the victim's pid when all is up; ends when its input does.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import trio

sys.path.append(str(Path(__file__).parents[1] / "chaos"))
from load import Trader

from orrange_p2p.bench.ingest import MARKET
from orrange_p2p.cli import cluster


async def main(base: Path) -> None:
    await trio.to_thread.run_sync(cluster.make_network, base, MARKET, 2, 1, cluster.WIDE)
    async with cluster.running(base, 2, {}) as (victim, honest), trio.open_nursery() as nursery:
        author = (await honest.status())["authors"][0]
        socket = honest.directory.rpc_socket
        trader = Trader(socket, author, random.Random(1), 4, 0.1, lambda *_: None)
        nursery.start_soon(trader.run)
        print(victim.process.pid, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))
