"""What these tests share is in ``swap_parties.py``; the chains are those of ``tests/chains``."""

import sys
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import pytest
import structlog
import trio

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chains")]

from swap_parties import Stage, open_stage

from orrange_p2p.devnet.anvil import anvil_program


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Chains for all tests of a file: each world begins by putting them back. Whatever a trio
    fixture opens ends with its test, so the chains are children of a loop of their own."""
    if anvil_program() is None:
        pytest.skip("no anvil: `make setup` installs it where there is npm")
    opened = SimpleQueue[tuple[Stage, trio.lowlevel.TrioToken, trio.Event] | BaseException]()

    async def keep_open() -> None:
        async with open_stage((31337, 31338)) as stage:
            over = trio.Event()
            opened.put((stage, trio.lowlevel.current_trio_token(), over))
            await over.wait()

    def run() -> None:
        try:
            trio.run(keep_open)
        except BaseException as error:
            opened.put(error)

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    thread = Thread(target=run)
    thread.start()
    found = opened.get()
    if isinstance(found, BaseException):
        raise found
    stage, token, over = found
    yield stage
    trio.from_thread.run_sync(over.set, trio_token=token)
    thread.join()
    structlog.reset_defaults()
