"""The legs of a node's swaps: opened from its configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from orrange_p2p.chains.bitcoin.leg import BitcoinLeg, open_bitcoin_leg
from orrange_p2p.chains.evm.leg import EvmLeg
from orrange_p2p.daemon.chains import NodeChain
from orrange_p2p.daemon.config import NodeConfig
from orrange_p2p.daemon.keys import Keys
from orrange_p2p.ports import Signer
from orrange_p2p.ports.legs import Leg
from orrange_p2p.store.bitcoin_sqlite import open_sqlite_bitcoin

__all__ = ["bitcoin_legs", "open_legs"]


@asynccontextmanager
async def open_legs(
    config: NodeConfig, keys: Keys, traders: Sequence[Signer], chains: Mapping[str, NodeChain]
) -> AsyncIterator[Mapping[str, Leg]]:
    """Legs by CAIP-2 id, for as long as the block lasts: of each EVM chain with a table
    [swap."..."], and of each Bitcoin chain, whose wallet they are. Raises ``StoreError`` if a
    file is in use. A chain that cannot be reached is no error here: it is waited for."""
    legs: dict[str, Leg] = {}
    async with AsyncExitStack() as stack:
        for swap in config.swaps:
            account = traders[swap.trader - 1].address
            legs[swap.chain] = EvmLeg(chains[swap.chain].chain, swap.contract, account)
        for bitcoin in config.bitcoin_chains if traders else ():
            path = config.data_dir.sent(bitcoin.chain)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            store = await stack.enter_async_context(open_sqlite_bitcoin(path, bitcoin.chain))
            legs[bitcoin.chain] = await stack.enter_async_context(
                open_bitcoin_leg(bitcoin, store, keys.bitcoin_key, traders=len(traders))
            )
        yield legs


def bitcoin_legs(legs: Mapping[str, Leg]) -> Mapping[str, BitcoinLeg]:
    """Those that are a wallet as well."""
    return {chain: leg for chain, leg in legs.items() if isinstance(leg, BitcoinLeg)}
