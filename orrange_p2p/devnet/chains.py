"""The chains of one `orrange devnet`: one or several, each with its own chain id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

from orrange_p2p.devnet.anvil import open_anvil
from orrange_p2p.devnet.rpc_server import open_embedded

__all__ = ["KINDS", "DevChain", "open_chains"]

KINDS: Final = ("embedded", "anvil")


class DevChain(NamedTuple):
    """A running chain."""

    chain: str
    """CAIP-2."""
    port: int

    @property
    def websocket(self) -> str:
        """What a node's configuration names."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def open_chains(
    kind: str, numbers: Sequence[int], *, first_port: int, block_time_s: int | None
) -> AsyncIterator[list[DevChain]]:
    """Chains for as long as the block lasts, on ports that follow each other (0: any free ones).

    ``block_time_s`` None: a block with each transaction.
    """
    chains = []
    async with AsyncExitStack() as stack:
        for place, number in enumerate(numbers):
            wanted = first_port + place if first_port else 0
            if kind == "anvil":
                opened = open_anvil(number, port=wanted, block_time_s=block_time_s)
            else:
                opened = open_embedded(number, port=wanted, block_time_s=block_time_s)
            port = await stack.enter_async_context(opened)
            chains.append(DevChain(f"eip155:{number}", port))
        yield chains
