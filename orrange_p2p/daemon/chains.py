"""The chains of a node: opened from its configuration, each with a file of what was sent to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

import structlog
import trio

from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.daemon.config import NodeConfig
from orrange_p2p.ports import Signer
from orrange_p2p.store.intents_sqlite import SqliteIntents, open_sqlite_intents

__all__ = ["NodeChain", "open_chains"]

log = structlog.get_logger()
ALARM_POLL_S: Final = 1.0


class NodeChain(NamedTuple):
    """A chain, and the file of what was sent to it."""

    chain: EvmChain
    sent: SqliteIntents


@asynccontextmanager
async def open_chains(
    config: NodeConfig, signers: Sequence[Signer]
) -> AsyncIterator[Mapping[str, NodeChain]]:
    """Chains by CAIP-2 id, for as long as the block lasts. Raises ``StoreError`` if a file is in
    use. A chain that cannot be reached is no error here: it is waited for."""
    chains: dict[str, NodeChain] = {}
    async with AsyncExitStack() as stack:
        for chain in config.evm_chains:
            path = config.data_dir.sent(chain.chain)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            store = await stack.enter_async_context(open_sqlite_intents(path, chain.chain))
            opened = await stack.enter_async_context(open_evm_chain(chain, store, signers))
            chains[chain.chain] = NodeChain(opened, store)
        nursery = await stack.enter_async_context(trio.open_nursery())
        for one in chains.values():
            nursery.start_soon(_tell_alarms, one.chain)
        yield chains
        nursery.cancel_scope.cancel()


async def _tell_alarms(chain: EvmChain) -> None:
    told = 0
    while True:
        for alarm in chain.alarms()[told:]:
            log.error("chain_endpoint_contradicts", chain=chain.chain_id, alarm=alarm)
            told += 1
        await trio.sleep(ALARM_POLL_S)
