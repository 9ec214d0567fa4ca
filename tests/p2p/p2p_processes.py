"""Other processes to talk to, killed by the test that started them; and waiting for facts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

HERE = Path(__file__).parent
START_TIMEOUT_S = 30


@asynccontextmanager
async def process(
    script: str, *arguments: str, stderr: int = subprocess.DEVNULL
) -> AsyncIterator[tuple[trio.Process, str]]:
    """A running script of this folder and the first line it printed; killed on leaving."""
    async with trio.open_nursery() as nursery:
        running: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                [sys.executable, str(HERE / script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                check=False,
            )
        )
        assert running.stdout is not None
        try:
            with trio.fail_after(START_TIMEOUT_S):
                first = await read_line(running.stdout)
            yield running, first
        finally:
            nursery.cancel_scope.cancel()


async def read_line(stream: trio.abc.ReceiveStream) -> str:
    text = b""
    while not text.endswith(b"\n"):
        data = await stream.receive_some(1)
        if not data:
            break
        text += data
    return text.decode().strip()


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Wait until ``condition()`` holds; it is a fact of another task or process."""
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)
