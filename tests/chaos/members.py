"""Real nodes that are killed and come back: one process each, each in a namespace of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from lossy_net import LossyNet

from orrange_p2p.cli import cluster
from orrange_p2p.client.api import connect
from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.genesis import Genesis, Market
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.signers.keyfile import read_secret

PORT: Final = 9771
UP_S: Final = 60.0
DOWN_S: Final = 15.0
JUMPING_NODE: Final = Path(__file__).with_name("jumping_node.py")


def peer_id(directory: DataDir) -> str:
    """The name on the network that a node's key gives it."""
    return ID.from_pubkey(
        create_new_key_pair(read_secret(directory.peer_key)).public_key
    ).to_base58()


class Member:
    """One node: down, or a process."""

    def __init__(
        self, number: int, directory: DataDir, log: Path, prefix: Sequence[str], program: Path
    ) -> None:
        self.number = number
        self.directory = directory
        self.log = log
        self.notes = log.with_suffix(".notes")
        """What a program that notes something writes."""
        self._command = [*prefix, sys.executable, str(program), "run"]
        self.process: trio.Process | None = None

    async def start(self) -> None:
        self.directory.rpc_socket.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                [*self._command, "--data-dir", str(self.directory.path)],
                env={**os.environ, "NOTES": str(self.notes)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def stop(self, number: signal.Signals) -> int:
        """Signal the process and wait for its end; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        with trio.move_on_after(DOWN_S):
            return await self.process.wait()
        self.process.kill()
        await self.process.wait()
        raise WorldError(f"node {self.number} did not end within {DOWN_S:.0f} s of {number.name}")

    async def status(self) -> dict[str, Any]:
        """Raises ``WorldError`` while it is down."""
        async with connect(self.directory.rpc_socket) as client:
            status = await client.call("status")
        return {**status, **status["markets"][0]}

    async def wait_until_up(self) -> dict[str, Any]:
        with trio.move_on_after(UP_S):
            while True:
                try:
                    return await self.status()
                except WorldError:
                    await trio.sleep(0.1)
        raise WorldError(f"node {self.number} does not answer:\n{self.end_of_log()}")

    def end_of_log(self, lines: int = 10) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@asynccontextmanager
async def members(
    base: Path, count: int, market: Market, net: LossyNet, program: Path = JUMPING_NODE
) -> AsyncIterator[tuple[Genesis, list[Member]]]:
    """A network of ``count`` witnesses with one author each, started; none is left on leaving."""
    genesis = await trio.to_thread.run_sync(
        cluster.make_network, base, market, count, 1, cluster.WIDE
    )
    directories = [DataDir(base / f"node-{number}") for number in range(count)]
    addresses = [
        f"/ip4/{net.address(n)}/tcp/{PORT}/p2p/{peer_id(directory)}"
        for n, directory in enumerate(directories)
    ]
    made = []
    for number, directory in enumerate(directories):
        listen = f"/ip4/{net.address(number)}/tcp/{PORT}"
        others = tuple(a for a in addresses if not a.startswith(listen + "/"))
        config = NodeConfig(directory, listen=(listen,), bootstrap=others, archive=True)
        directory.config.write_text(config.to_toml())
        log = base / f"node-{number}.log"
        made.append(Member(number, directory, log, net.command(number), program))
    try:
        for member in made:
            await member.start()
        yield genesis, made
    finally:
        with trio.CancelScope(shield=True):
            for member in made:
                if member.process is not None and member.process.poll() is None:
                    await member.stop(signal.SIGKILL)
