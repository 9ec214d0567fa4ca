"""Anvil, Foundry's development chain, as a child process."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.core.errors import ConfigError, DeadlineError, PortInUseError, WorldError

__all__ = ["anvil_program", "open_anvil"]

_START_S: Final = 20.0
_LISTENING: Final = re.compile(rb"Listening on 127\.0\.0\.1:(\d+)")
_ADDRESS_IN_USE: Final = re.compile(rb"address already in use", re.IGNORECASE)
_TAIL_BYTES: Final = 4096
_READ_BYTES: Final = 65536


def anvil_program() -> str | None:
    """Where anvil is: beside this Python, where `make setup` puts it, or on the path."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("anvil", path=beside) or shutil.which("anvil")


@asynccontextmanager
async def open_anvil(
    chain_number: int,
    *,
    port: int = 0,
    block_time_s: float | None = None,
    slots_in_epoch: int = 1,
    options: tuple[str, ...] = (),
) -> AsyncIterator[int]:
    """A chain for as long as the block lasts, and the port it listens on (0: any free one).

    Blocks are mined every ``block_time_s`` seconds; None: with each transaction. Two epochs below
    the head are final. Raises ``ConfigError`` if there is no anvil, ``PortInUseError``.
    """
    program = anvil_program()
    if program is None:
        raise ConfigError("there is no anvil: `make setup` installs it where there is npm")
    command = [program, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--chain-id", str(chain_number), "--hardfork", "prague"]
    command += ["--slots-in-an-epoch", str(slots_in_epoch), "--no-cors", *options]
    if block_time_s is not None:
        command += ["--block-time", str(block_time_s)]
    async with trio.open_nursery() as nursery:
        yield await nursery.start(_run, command)
        nursery.cancel_scope.cancel()


async def _run(command: list[str], task_status: Any) -> None:
    """Ends with an error if the chain does before it is asked to."""
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    tail: deque[bytes] = deque(maxlen=4)
    try:
        assert process.stdout is not None
        with trio.move_on_after(_START_S) as starting:
            async for text in process.stdout:
                tail.append(text[-_TAIL_BYTES:])
                if (match := _LISTENING.search(b"".join(tail))) is not None:
                    task_status.started(int(match[1]))
                    break
        if starting.cancelled_caught:
            raise DeadlineError(f"anvil did not start within {_START_S:g} s")
        # What it says later is read, or it would block.
        while await process.stdout.receive_some(_READ_BYTES):
            pass
        await process.wait()
        said = b"".join(tail)
        if _ADDRESS_IN_USE.search(said):
            raise PortInUseError("another program listens where anvil should")
        raise WorldError(f"anvil ended: {said.decode(errors='replace').strip()[-300:]}")
    finally:
        process.terminate()
        with trio.CancelScope(shield=True), trio.move_on_after(2):
            await process.wait()
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
