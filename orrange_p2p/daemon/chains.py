"""The chains of a node: opened from its configuration, each with a file of what was sent to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog
import trio

from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.daemon.config import NodeConfig
from orrange_p2p.ports import Signer
from orrange_p2p.ports.chain import Chain
from orrange_p2p.store.intents_sqlite import open_sqlite_intents

__all__ = ["open_chains"]

log = structlog.get_logger()
ALARM_POLL_S: Final = 1.0


@asynccontextmanager
async def open_chains(
    config: NodeConfig, signers: Sequence[Signer]
) -> AsyncIterator[Mapping[str, Chain]]:
    """Chains by CAIP-2 id, for as long as the block lasts. Raises ``StoreError`` if a file is in
    use. A chain that cannot be reached is no error here: it is waited for."""
    chains: dict[str, EvmChain] = {}
    async with AsyncExitStack() as stack:
        for chain in config.chains:
            path = config.data_dir.sent(chain.chain)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            store = await stack.enter_async_context(open_sqlite_intents(path, chain.chain))
            chains[chain.chain] = await stack.enter_async_context(
                open_evm_chain(chain, store, signers)
            )
        nursery = await stack.enter_async_context(trio.open_nursery())
        for opened in chains.values():
            nursery.start_soon(_tell_alarms, opened)
        yield chains
        nursery.cancel_scope.cancel()


async def _tell_alarms(chain: EvmChain) -> None:
    told = 0
    while True:
        for alarm in chain.alarms()[told:]:
            log.error("chain_endpoint_contradicts", chain=chain.chain_id, alarm=alarm)
            told += 1
        await trio.sleep(ALARM_POLL_S)
