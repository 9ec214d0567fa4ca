"""Network namespaces joined by a link that delays, reorders and loses packets, and can be cut.

Each namespace has one TUN device. This process carries the packets between them: that is the
place for partitions and, where the kernel has no `tc netem`, for delay and loss, too. It works on
IP packets, so TCP retransmits and slows down as it does on a real bad line.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import struct
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple

import trio


class Line(NamedTuple):
    """What a packet goes through."""

    delay_s: float
    jitter_s: float
    loss: float

    def __str__(self) -> str:
        delay, jitter = 1000 * self.delay_s, 1000 * self.jitter_s
        return f"{delay:.0f} ms +- {jitter:.0f} ms, {self.loss:.0%} loss"


BAD_LINE: Final = Line(0.120, 0.030, 0.01)
MAX_UNDER_WAY: Final = 20_000
"""Packets that the link holds; more are lost, as in netem."""
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x0001 | 0x1000
_MTU: Final = 1500


def refusal() -> str | None:
    """Why namespaces cannot be made here; None if they can."""
    name = f"orr{os.getpid()}t"
    try:
        fd = _tun(name)
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"ip netns: {said.strip()}"
    finally:
        os.close(fd)
    return None


class LossyNet:
    """Made by ``lossy_net``. Member ``n`` has the address ``address(n)`` in ``namespace(n)``."""

    def __init__(self, prefix: str, devices: list[int], line: Line, rng: random.Random) -> None:
        self._prefix = prefix
        self.line = line
        self._devices = devices
        self._rng = rng
        self._apart: frozenset[int] = frozenset()
        self._numbers = itertools.count()
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._filled = trio.Event()
        self.has_netem = False
        self.packets: Counter[str] = Counter()

    def namespace(self, number: int) -> str:
        return f"{self._prefix}{number}"

    @staticmethod
    def address(number: int) -> str:
        return f"10.77.0.{number + 1}"

    def command(self, number: int) -> list[str]:
        """What to put before a command that shall run as member ``number``."""
        return ["ip", "netns", "exec", self.namespace(number)]

    def cut(self, apart: Collection[int]) -> None:
        """From now on nothing passes between ``apart`` and the others; of nobody: all is well."""
        self._apart = frozenset(apart)

    async def carry(self) -> None:
        """Carry packets until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver)
            for number, device in enumerate(self._devices):
                nursery.start_soon(self._take_from, number, device)

    async def _take_from(self, number: int, device: int) -> None:
        while True:
            await trio.lowlevel.wait_readable(device)
            try:
                while True:
                    self._take(number, os.read(device, _MTU + 64))
            except BlockingIOError:
                pass

    def _take(self, source: int, packet: bytes) -> None:
        target = packet[19] - 1  # the last octet of an IPv4 packet's destination
        is_ours = packet[0] >> 4 == 4 and packet[16:19] == b"\x0a\x4d\x00"
        if not is_ours or not 0 <= target < len(self._devices):
            return
        if (source in self._apart) != (target in self._apart):
            self.packets["cut"] += 1
            return
        delay_s = 0.0
        if not self.has_netem:
            if self._rng.random() < self.line.loss:
                self.packets["lost"] += 1
                return
            jitter_s = self.line.jitter_s
            delay_s = self.line.delay_s + self._rng.uniform(-jitter_s, jitter_s)
        if len(self._under_way) >= MAX_UNDER_WAY:
            self.packets["overflowed"] += 1
            return
        due = trio.current_time() + delay_s
        heapq.heappush(self._under_way, (due, next(self._numbers), target, packet))
        self._filled.set()

    async def _deliver(self) -> None:
        while True:
            self._filled = trio.Event()
            due = self._under_way[0][0] if self._under_way else float("inf")
            with trio.move_on_at(due):
                await self._filled.wait()
            now = trio.current_time()
            while self._under_way and self._under_way[0][0] <= now:
                _, _, target, packet = heapq.heappop(self._under_way)
                try:
                    os.write(self._devices[target], packet)
                    self.packets["delivered"] += 1
                except OSError:  # its queue is full, or it is down
                    self.packets["overflowed"] += 1


@asynccontextmanager
async def lossy_net(
    members: int, rng: random.Random, line: Line = BAD_LINE
) -> AsyncIterator[LossyNet]:
    """Namespaces for ``members`` nodes, joined; gone on leaving, whatever happened inside."""
    with _namespaces(members) as (prefix, devices):
        net = LossyNet(prefix, devices, line, rng)
        net.has_netem = all(_add_netem(net, number) for number in range(members))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(net.carry)
            yield net
            nursery.cancel_scope.cancel()


def _add_netem(net: LossyNet, number: int) -> bool:
    line = net.line
    delay, jitter = f"{line.delay_s * 1000:.0f}ms", f"{line.jitter_s * 1000:.0f}ms"
    how = ["netem", "delay", delay, jitter, "loss", f"{line.loss * 100:g}%"]
    command = ["tc", "qdisc", "add", "dev", net.namespace(number), "root", *how]
    done = subprocess.run([*net.command(number), *command], capture_output=True, check=False)
    return done.returncode == 0


@contextmanager
def _namespaces(members: int) -> Iterator[tuple[str, list[int]]]:
    prefix = f"orr{os.getpid()}n"
    devices: list[int] = []
    try:
        for number in range(members):
            name = f"{prefix}{number}"
            _ip("netns", "add", name)
            devices.append(_tun(name))
            _ip("link", "set", name, "netns", name)
            inside = ("-n", name)
            _ip(*inside, "link", "set", "lo", "up")
            address = f"{LossyNet.address(number)}/24"
            _ip(*inside, "address", "add", address, "dev", name)
            _ip(*inside, "link", "set", name, "up", "mtu", str(_MTU))
        yield prefix, devices
    finally:
        for device in devices:
            os.close(device)  # and with it the interface
        for number in range(members):
            subprocess.run(
                ["ip", "netns", "del", f"{prefix}{number}"], capture_output=True, check=False
            )


def _tun(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
