"""Several real node processes on this machine: for the demo and for measuring whole networks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from orrange_p2p.client.api import Client, connect
from orrange_p2p.core.checkpoints import CHECKPOINT_EPOCHS
from orrange_p2p.core.errors import DeadlineError, UnreachableError, WorldError
from orrange_p2p.core.genesis import Author, Genesis, Market, Parameters
from orrange_p2p.core.ids import Address, TimeMs
from orrange_p2p.daemon import datadir
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.daemon.keys import PlainKeys

START_S: Final = 60.0
STOP_S: Final = 10.0
LOOK_EVERY_S: Final = 0.1
LOG_LINES: Final = 15
ANY_PORT: Final = "/ip4/127.0.0.1/tcp/0"
NO_CONTRACT: Final = Address(bytes(20))

WIDE: Final = Parameters(operations_per_round=4096, operations_burst=65_536, open_orders=65_536)
"""Limits wide enough for a whole exchange's flow through a handful of authors."""


@attrs.define
class NodeProcess:
    """One node: its directory, its process and a connection to its socket."""

    number: int
    directory: DataDir
    process: trio.Process
    client: Client

    async def status(self) -> dict[str, Any]:
        """The status of the node's only market, and of the node."""
        status = await self.client.call("status")
        return {**status, **status["markets"][0]}


def make_network(
    base: Path,
    market: Market,
    nodes: int,
    traders: int,
    parameters: Parameters,
    checkpoint_epochs: int = CHECKPOINT_EPOCHS,
    *,
    registry: Address = NO_CONTRACT,
    settlement: Address = NO_CONTRACT,
    bitcoin_bonds: str = "",
    **config: Any,
) -> Genesis:
    """Directories ``base/node-0`` .. with keys, one network of them all, and configurations.

    Every node is a witness of weight 1 and writes the logs of ``traders`` authors. ``config``: more
    of ``NodeConfig``, the same at each.
    """
    directories = [DataDir(base / f"node-{number}") for number in range(nodes)]
    witnesses = []
    authors: list[Address] = []
    for directory in directories:
        datadir.make_directory(directory)
        datadir.make_keys(directory, is_witness=True, traders=traders)
        keys = PlainKeys(directory)
        witnesses.append(datadir.witness_of(keys, [market]))
        authors += [signer.address for signer in keys.traders()]
    genesis = Genesis(
        name="demo",
        home_chain="eip155:31337",
        registry=registry,
        start_ms=TimeMs(time.time_ns() // 1_000_000),
        open=False,
        parameters=parameters,
        witnesses=tuple(sorted(witnesses, key=lambda witness: witness.address)),
        authors=tuple(Author(address, 0) for address in sorted(authors)),
        markets=(market,),
        settlement=settlement,
        bitcoin_bonds=bitcoin_bonds,
    )
    for directory in directories:
        datadir.write_network(directory, genesis)
        datadir.write_config(
            NodeConfig(directory, listen=(ANY_PORT,), checkpoint_epochs=checkpoint_epochs, **config)
        )
    return genesis


def make_follower(
    base: Path, number: int, genesis: Genesis, bootstrap: Sequence[str], checkpoint_epochs: int
) -> DataDir:
    """The directory of a node that signs nothing and knows these peers."""
    directory = DataDir(base / f"node-{number}")
    datadir.make_directory(directory)
    datadir.make_keys(directory, is_witness=False, traders=0)
    datadir.write_network(directory, genesis)
    datadir.write_config(
        NodeConfig(
            directory,
            roles=(),
            traders=0,
            listen=(ANY_PORT,),
            bootstrap=tuple(bootstrap),
            checkpoint_epochs=checkpoint_epochs,
        )
    )
    return directory


@asynccontextmanager
async def running(
    base: Path, nodes: int, extra: Mapping[int, Sequence[str]]
) -> AsyncIterator[list[NodeProcess]]:
    """Start the nodes of ``make_network``, connect each with each, and stop them on leaving.

    ``extra`` are further arguments of ``orrange run`` by node number. Raises ``WorldError`` with
    the end of its log if a node does not come up.
    """
    async with AsyncExitStack() as stack:
        directories = [DataDir(base / f"node-{number}") for number in range(nodes)]
        processes = []
        for number, directory in enumerate(directories):
            process = await _start(directory, extra.get(number, ()))
            stack.push_async_callback(_stop, process)
            processes.append(process)
        started = []
        for number, (directory, process) in enumerate(zip(directories, processes, strict=True)):
            await _wait_for_socket(directory, process)
            client = await stack.enter_async_context(connect(directory.rpc_socket))
            started.append(NodeProcess(number, directory, process, client))
        await _connect_all(started)
        yield started


@asynccontextmanager
async def started(number: int, directory: DataDir) -> AsyncIterator[NodeProcess]:
    """Start one node of its own, connected as its configuration says; stop it on leaving.

    Raises ``WorldError`` with the end of its log if it does not come up.
    """
    process = await _start(directory, ())
    try:
        await _wait_for_socket(directory, process)
        async with connect(directory.rpc_socket) as client:
            yield NodeProcess(number, directory, process, client)
    finally:
        await _stop(process)


async def _start(directory: DataDir, extra: Sequence[str]) -> trio.Process:
    command = [sys.executable, "-m", "orrange_p2p.cli.main", "run"]
    with (directory.path / "node.log").open("wb") as log:
        return await trio.lowlevel.open_process(
            [*command, "--data-dir", str(directory.path), *extra],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


async def _stop(process: trio.Process) -> None:
    with trio.CancelScope(shield=True):
        if process.poll() is None:
            process.terminate()
        with trio.move_on_after(STOP_S):
            await process.wait()
        if process.poll() is None:
            process.kill()
            await process.wait()


async def _wait_for_socket(directory: DataDir, process: trio.Process) -> None:
    with trio.move_on_after(START_S):
        while process.poll() is None:
            if directory.rpc_socket.exists():
                return
            await trio.sleep(LOOK_EVERY_S)
        raise UnreachableError(
            f"the node of {directory.path} ended at once:\n{end_of_log(directory.path)}"
        )
    raise DeadlineError(f"the node of {directory.path} did not come up in {START_S:.0f} s")


def end_of_log(directory: Path) -> str:
    """The last lines a node wrote."""
    lines = (directory / "node.log").read_text(errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])


async def _connect_all(nodes: Sequence[NodeProcess]) -> None:
    addresses = [(await node.status())["addresses"][0] for node in nodes]
    for node in nodes:
        for address in addresses[: node.number]:
            await node.client.call("connect", {"address": address})
    with trio.move_on_after(START_S):
        while True:
            states = [await node.status() for node in nodes]
            if all(len(s["peers"]) == len(nodes) - 1 and s["round"] >= 2 for s in states):
                return
            await trio.sleep(LOOK_EVERY_S)
    raise WorldError("the nodes did not find one another; their logs say why")
