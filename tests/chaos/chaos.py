"""`make chaos`: four nodes on a bad line, killed, cut off, out of disk and with a jumping clock.

Traders go on all the while. At the end every store is judged by itself (verdict.py): what a node
acknowledged is committed everywhere, no key signed twice, all roots are equal. Needs network
namespaces and /dev/net/tun, as root or in a user namespace; without them it says so and exits with
77.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from load import Trader
from lossy_net import LossyNet, lossy_net, refusal
from members import Member, members
from verdict import Book, judge, read_book

from orrange_p2p.bench.ingest import MARKET
from orrange_p2p.client.api import connect
from orrange_p2p.core.errors import WorldError

NODES: Final = 4
SKIPPED: Final = 77
OPERATIONS: Final = 5
EVERY_S: Final = 0.5
"""Each of the four traders submits so many operations so often."""
SETTLE_S: Final = 90.0
FULL_DISK_S: Final = 30.0
"""A node on a full disk notices with its next record; it has this long to end."""
DISK_BYTES: Final = 96 << 20
FULL_DISK_NODE: Final = 3
JUMPING_NODE: Final = 1


@attrs.frozen
class Plan:
    """How much of everything."""

    kills: int = 22
    kill_every_s: float = 6.0
    partitions: tuple[int, ...] = (1, 2)
    """How many nodes are cut off from the others, one time after the other."""
    partition_s: float = 12.0
    jump_s: float = 10.0
    acknowledged: int = 1000
    """Operations, at least: it goes on until they are there."""


SHORT: Final = Plan(
    kills=3,
    kill_every_s=1.5,
    partitions=(2,),
    partition_s=2.0,
    jump_s=2.0,
    acknowledged=100,
)


class Chaos:
    """One run on started members."""

    def __init__(
        self, plan: Plan, net: LossyNet, nodes: Sequence[Member], rng: random.Random
    ) -> None:
        self._plan = plan
        self._net = net
        self._nodes = nodes
        self._rng = rng
        self._start = time.monotonic()
        self.kills = 0
        self.told_full_disk = False
        self.jumped_to_ms = 0

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:6.1f} s  {text}", file=sys.stderr, flush=True)

    async def run(self) -> None:
        """Kills first, then the other troubles one after the other."""
        for node in self._nodes:
            await node.wait_until_up()
        self.say("all nodes are up")
        await self._wait_for_epochs(3)
        while self.kills < self._plan.kills:
            await self._kill_some()
        for count in self._plan.partitions:
            await self._part(self._rng.sample(range(NODES), count))
        await self._jump()
        await self._fill_disk()

    async def _kill_some(self) -> None:
        """One node, now and then two: then there is no quorum until they are back."""
        await trio.sleep(self._plan.kill_every_s * self._rng.uniform(0.5, 1.0))
        victims = self._rng.sample(list(self._nodes), 2 if self._rng.random() < 0.25 else 1)
        for node in victims:
            await node.stop(signal.SIGKILL)
            self.kills += 1
        self.say(f"killed {[node.number for node in victims]}, {self.kills} kills")
        await trio.sleep(self._rng.uniform(0.0, 0.3) * self._plan.kill_every_s)
        for node in victims:
            await node.start()
        for node in victims:
            await node.wait_until_up()

    async def _part(self, apart: Sequence[int]) -> None:
        self._net.cut(apart)
        self.say(f"nodes {sorted(apart)} are cut off")
        await trio.sleep(self._plan.partition_s)
        self._net.cut(())
        self.say("healed")
        await self._wait_for_epochs(3)

    async def _jump(self) -> None:
        node = self._nodes[JUMPING_NODE]
        assert node.process is not None
        node.process.send_signal(signal.SIGUSR1)
        self.say(f"the clock of node {node.number} is 10 s ahead")
        await trio.sleep(self._plan.jump_s)
        self.jumped_to_ms = await self._epoch_time_ms() - time.time_ns() // 1_000_000
        node.process.send_signal(signal.SIGUSR2)
        self.say(f"and back; the latest epoch's time is {self.jumped_to_ms} ms from the right one")
        await self._wait_for_epochs(3)

    async def _epoch_time_ms(self) -> int:
        node = self._nodes[0]
        epoch = (await node.status())["epoch"]
        async with connect(node.directory.rpc_socket) as client:
            rows = await client.call("epochs", {"since": max(0, epoch - 5)})
        return int(rows[-1]["time_ms"])

    async def _fill_disk(self) -> None:
        """Fill the disk of one node: it has to say so and end. Then make room and start it."""
        node = self._nodes[FULL_DISK_NODE]
        ballast = node.directory.path / "ballast"
        logged = node.log.stat().st_size
        with ballast.open("wb", buffering=0) as file:
            for chunk in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(chunk))
                except OSError:
                    continue
        self.say(f"the disk of node {node.number} is full")
        assert node.process is not None
        with trio.move_on_after(FULL_DISK_S):
            await node.process.wait()
        told = node.log.read_bytes()[logged:].decode(errors="replace")
        self.told_full_disk = "no space left" in told
        self.say(f"node {node.number} ended: {node.process.poll()}; it said: {node.end_of_log(1)}")
        ballast.unlink()
        await node.start()
        await node.wait_until_up()
        await self._wait_for_epochs(3)

    async def _wait_for_epochs(self, more: int) -> None:
        """Until every node has applied so many more epochs."""
        with trio.move_on_after(SETTLE_S):
            first = max([(await node.status())["epoch"] for node in self._nodes])
            while min([(await n.status())["epoch"] for n in self._nodes]) < first + more:  # noqa: ASYNC110
                await trio.sleep(0.2)
            return
        ends = "\n".join(f"node {n.number}:\n{n.end_of_log()}" for n in self._nodes)
        raise WorldError(f"no epochs for {SETTLE_S:.0f} s after the trouble ended:\n{ends}")

    async def settle(self) -> bool:
        """Wait until all that was written is committed and applied everywhere."""
        with trio.move_on_after(SETTLE_S):
            while True:
                states = [await node.status() for node in self._nodes]
                if any(state["halted"] for state in states):
                    return False
                if not sum(state["own_uncut"] + state["pending_matches"] for state in states):
                    await self._wait_for_epochs(2)
                    return True
                await trio.sleep(0.5)
        return False


async def rampage(base: Path, plan: Plan, seed: int) -> dict[str, Any]:
    """Run it all; the figures."""
    rng = random.Random(seed)
    book = Book(base / "acknowledged")
    started = time.monotonic()
    async with (
        lossy_net(NODES, random.Random(seed)) as net,
        members(base, NODES, MARKET, net) as (genesis, nodes),
    ):
        chaos = Chaos(plan, net, nodes, rng)
        by = "tc netem" if net.has_netem else "the link itself (this kernel has no netem)"
        chaos.say(f"{NODES} nodes in namespaces; {net.line} by {by}; seed {seed}")
        async with trading(nodes, book, rng):
            await chaos.run()
            while book.written < plan.acknowledged:  # noqa: ASYNC110
                await trio.sleep(0.2)
        chaos.say(f"{book.written} operations acknowledged; traders stop")
        is_settled = await chaos.settle()
        statuses = [await node.stop(signal.SIGTERM) for node in nodes]
        chaos.say("nodes stopped; judging their stores")
        found = await trio.to_thread.run_sync(
            judge,
            genesis,
            [node.directory.store for node in nodes],
            read_book(base / "acknowledged"),
        )
    passed = (
        is_settled
        and found["roots_equal"]
        and not found["lost"]
        and not found["double_signatures"]
        and chaos.told_full_disk
        and chaos.jumped_to_ms < 5_000
        and chaos.kills >= plan.kills
        and not any(statuses)
    )
    return {
        "kills": chaos.kills,
        **found,
        "settled": is_settled,
        "full_disk_told": chaos.told_full_disk,
        "epoch_time_ahead_ms": chaos.jumped_to_ms,
        "exit_statuses": statuses,
        "packets": dict(net.packets),
        "impairment": "netem" if net.has_netem else "userspace",
        "seed": seed,
        "seconds": round(time.monotonic() - started),
        "passed": passed,
    }


@asynccontextmanager
async def trading(nodes: Sequence[Member], book: Book, rng: random.Random) -> AsyncIterator[None]:
    """A trader at each node for the length of the block."""
    async with trio.open_nursery() as nursery:
        for node in nodes:
            author = (await node.wait_until_up())["authors"][0]
            trader = Trader(
                node.directory.rpc_socket,
                author,
                random.Random(rng.random()),
                OPERATIONS,
                EVERY_S,
                book.note,
            )
            nursery.start_soon(trader.run)
        yield
        nursery.cancel_scope.cancel()


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A disk of ``DISK_BYTES`` mounted at ``path``."""
    path.mkdir(mode=0o700)
    how = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "orrange-chaos", str(path)]
    subprocess.run(how, check=True, capture_output=True, text=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False)


def run(base: Path, plan: Plan, seed: int) -> dict[str, Any]:
    """The figures. Leaves the directories of all nodes but that of the small disk in ``base``."""
    with small_disk(base / f"node-{FULL_DISK_NODE}"):
        return trio.run(rampage, base, plan, seed)


def why_not() -> str | None:
    """Why it cannot run in this process."""
    if os.geteuid() != 0:
        return "it needs root, or `make chaos`, which tries a user namespace"
    return refusal()


def become_root() -> None:
    """Start anew in namespaces of our own, in which we are root and /run is ours. Returns if the
    system does not allow that."""
    ours = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--"]
    if subprocess.run([*ours, "true"], capture_output=True, check=False).returncode == 0:
        again = ["sh", "-c", 'mount -t tmpfs run /run && exec "$@"', "sh"]
        os.execvp(ours[0], [*ours, *again, sys.executable, *sys.argv])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="a few kills, half a minute")
    options = parser.parse_args()
    if os.geteuid() != 0:
        become_root()
    if reason := why_not():
        print(f"SKIPPED: {reason}", file=sys.stderr)
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="orrange-chaos-") as base:
        figures = run(Path(base), SHORT if options.short else Plan(), options.seed)
    print(json.dumps(figures))
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave by the front door: clean up
    sys.exit(main())
