"""Trading over other people's nodes with the keys and the store of a data directory.

It is the store that a node of this directory would use: whoever begins with light clients runs a
node later with the same keys, and neither signs again what the other has signed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from orrange_p2p.client.light_trader import LightTrader
from orrange_p2p.client.rosters import keep_trusted, read_trusted
from orrange_p2p.core.errors import ConfigError, WorldError
from orrange_p2p.core.ids import MarketId
from orrange_p2p.daemon import signing
from orrange_p2p.daemon.config import NodeConfig
from orrange_p2p.daemon.keys import Keys
from orrange_p2p.daemon.signing import HaltState, Signing
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.signers.key_lock import lock_directory, locked
from orrange_p2p.store.sqlite import open_sqlite_store

__all__ = ["open_light_trader"]


@asynccontextmanager
async def open_light_trader(
    config: NodeConfig, keys: Keys, market: MarketId, urls: Sequence[str], trader: int = 1
) -> AsyncIterator[LightTrader]:
    """The ``trader``-th trader of a directory whose node does not run. Raises ``ConfigError``,
    ``StoreError``, and as ``LightTrader.open``."""
    directory = config.data_dir
    genesis = directory.load_genesis()
    traders = keys.traders()
    if not 1 <= trader <= len(traders):
        raise ConfigError(f"trader {trader}: this directory has {len(traders)}")
    signer = traders[trader - 1]
    begins_with = {} if directory.never_signed.exists() else signing.restored()
    with locked([signer.address], str(directory.path.absolute()), lock_directory()):
        async with open_sqlite_store(directory.store, genesis.network_id, begins_with) as store:
            directory.never_signed.unlink(missing_ok=True)
            door = Signing(store, SystemClock(), [signer.address])
            await door.load([market])
            if door.halt is not HaltState.OFF:
                raise WorldError("the directory's node was halted: `orrange resume` ends that")
            if door.misuse is not None:
                raise WorldError(door.misuse)
            light = LightTrader(
                genesis,
                market,
                urls,
                signer,
                store,
                is_store_complete=door.is_merged(market),
                trusted=read_trusted(directory.followed, genesis),
            )
            await light.open()
            try:
                yield light
            finally:
                if genesis.parameters.elected_witnesses:
                    keep_trusted(directory.followed, genesis, light.trusted)
