"""The chains of one `orrange devnet`: one or several, each with its own chain id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

from orrange_p2p.chains.evm.http import open_http_endpoint
from orrange_p2p.devnet.anvil import open_anvil
from orrange_p2p.devnet.bitcoin import CHAIN as BITCOIN
from orrange_p2p.devnet.rpc_server import open_bitcoin, open_embedded

__all__ = ["KINDS", "DevChain", "fund_bitcoin", "open_bitcoin_chain", "open_chains"]

KINDS: Final = ("embedded", "anvil")
FUND_TIMEOUT_S: Final = 10.0


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
    kind: str, numbers: Sequence[int], *, first_port: int, block_time_s: float | None
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


@asynccontextmanager
async def open_bitcoin_chain(*, port: int, block_time_s: float | None) -> AsyncIterator[DevChain]:
    """A Bitcoin regtest chain for as long as the block lasts; arguments as in ``open_chains``."""
    async with open_bitcoin(port=port, block_time_s=block_time_s) as opened:
        yield DevChain(BITCOIN, opened)


async def fund_bitcoin(chain: DevChain, address: str, sats: int) -> str:
    """Give coins of a Bitcoin chain; the transaction's id, which is in a block."""
    async with open_http_endpoint(chain.http, FUND_TIMEOUT_S) as endpoint:
        return str(await endpoint.request("devnet_fund", [address, sats]))
