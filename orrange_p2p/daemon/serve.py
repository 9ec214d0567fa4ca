"""From a data directory to a running node: the one place that opens every adapter."""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.fold import Fold
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, MarketId
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.swaps.agreement import secret_of
from orrange_p2p.daemon import (
    api,
    bond_api,
    datadir,
    delegation_api,
    order_api,
    registry_api,
    reputation_api,
    signing,
    swap_api,
    wallet_api,
)
from orrange_p2p.daemon.bond_reader import open_bond_reader
from orrange_p2p.daemon.bundles import Bundles
from orrange_p2p.daemon.chains import NodeChain, open_chains
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.daemon.indexer import Indexer, contracts_of
from orrange_p2p.daemon.keys import Keys
from orrange_p2p.daemon.legs import bitcoin_legs, open_legs
from orrange_p2p.daemon.node import Node
from orrange_p2p.daemon.notify import notify
from orrange_p2p.daemon.peer_standing import PeerStanding
from orrange_p2p.daemon.standing_again import StandingAgain
from orrange_p2p.daemon.swapping import SwapTools
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.daemon.tokens import Tokens
from orrange_p2p.p2p.lan import found_on_lan
from orrange_p2p.p2p.libp2p_transport import open_transport
from orrange_p2p.ports import Signer
from orrange_p2p.ports.chain import Chain
from orrange_p2p.ports.legs import Leg
from orrange_p2p.ports.swaps import SwapStore
from orrange_p2p.rpc.server import Method, Params, RpcServer, listening
from orrange_p2p.signers.key_lock import lock_directory, locked
from orrange_p2p.store.bonds_sqlite import open_sqlite_bonds
from orrange_p2p.store.history_sqlite import open_sqlite_history
from orrange_p2p.store.intents_sqlite import open_sqlite_intents
from orrange_p2p.store.sqlite import SqliteStore, open_sqlite_store
from orrange_p2p.store.swaps_sqlite import open_sqlite_swaps

log = structlog.get_logger()

LEAVE_S: Final = 4.0
"""Longer than ``cancel_on`` needs at shutdown; closing store and connections takes the rest of five
seconds."""
COLLECTOR_THRESHOLDS: Final = (100_000, 50, 100)
"""A book is a hundred thousand objects that stay; at Python's defaults the collector walks them so
often that taking orders in costs twice the time (protocol/decisions/0007-compiled-core.md)."""


async def serve(
    config: NodeConfig,
    keys: Keys,
    after_apply: Callable[[Fold], None] | None = None,
    lost_percent: int = 0,
    twin_era: int | None = None,
) -> None:
    """Run the node of a data directory until SIGINT, SIGTERM or the API's ``stop``.

    Raises ``ConfigError`` for what is wrong in the directory, ``StoreError`` if the store cannot
    be used, ``PortInUseError`` if an address to listen on is taken.
    """
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    directory = config.data_dir
    genesis = directory.load_genesis()
    markets = config.markets or tuple(market.id for market in genesis.markets)
    for market_id in markets:
        genesis.market(market_id)
    traders = keys.traders() if config.is_trader else []
    witness: tuple[Signer, dict[MarketId, RevealChain]] | None = None
    later_chain = None
    if config.is_witness:
        secret = keys.reveal_secret()
        signer = keys.witness()
        reveals = {market_id: datadir.reveal_chain(secret, market_id) for market_id in markets}
        for market_id, chain in reveals.items():
            promised = genesis.anchors(market_id).get(signer.address)
            if promised is not None and promised[0] != chain.anchor:
                raise ConfigError(
                    f"{directory.keys} has not the secret behind the witness's anchor in "
                    f"{directory.network}: put the right key back"
                )
        witness = (signer, reveals)
        later_chain = partial(datadir.reveal_chain, secret)
    for section, tables in (("settlement", config.settlements), ("swap", config.swaps)):
        for one in tables:
            if one.trader > len(traders):
                raise ConfigError(
                    f'{section}: "{one.chain}": trader {one.trader} has no key: '
                    f"this node has {len(traders)} traders"
                )
    begins_with = {} if directory.never_signed.exists() else signing.restored()
    async with (
        open_sqlite_store(directory.store, genesis.network_id, begins_with) as store,
        _locked(directory, traders if witness is None else [*traders, witness[0]]),
        open_chains(config, traders) as chains,
        open_legs(config, keys, traders, chains) as legs,
        open_sqlite_swaps(directory.swaps, SystemClock().wall_ms()) as swaps,
        open_indexer(config, genesis, chains) as indexer,
        open_transport(
            secret=keys.peer_secret(), listen=config.listen, lost_percent=lost_percent
        ) as transport,
    ):
        directory.never_signed.unlink(missing_ok=True)  # a later store is not the first
        node = Node(
            genesis,
            store,
            transport,
            SystemClock(),
            market_ids=markets,
            bootstrap=config.bootstrap,
            announce=config.announce,
            cancel_on=config.cancel_on,
            max_exposure_lots=config.max_exposure_lots,
            archive=config.archive,
            checkpoint_epochs=config.checkpoint_epochs,
            witness=witness,
            traders=traders,
            after_apply=after_apply,
            trades=store if config.settlements else None,
            settling=[(one, chains[one.chain].chain) for one in config.settlements],
            swap_tools=_swap_tools(directory, keys, legs, swaps) if legs else None,
            indexer=indexer,
            later_chain=later_chain,
            slashing=_slashing(config, genesis, traders, chains),
            twin_era=twin_era,
        )
        tokens = Tokens(chains)
        accounts, wallets = [signer.address for signer in traders], bitcoin_legs(legs)
        methods: dict[str, Method] = {
            **api.methods(node),
            **order_api.methods(node, tokens),
            **swap_api.methods(node, swaps),
            **reputation_api.methods(indexer),
            **bond_api.methods(genesis, accounts, wallets, indexer),
            **registry_api.methods(
                node,
                chains.get(genesis.home_chain),
                indexer,
                tokens,
                traders,
                None if witness is None else witness[0],
                later_chain,
                counted.bonds if (counted := wallets.get(genesis.bitcoin_bonds)) else None,
            ),
            **delegation_api.methods(
                node,
                traders,
                () if config.api is None else config.api.wallets,
                config.settlements,
            ),
            **wallet_api.methods(config, genesis, accounts, chains, tokens, wallets),
            "copy_stores": partial(_copy_stores, directory, store, chains),
        }
        log.info("listening", addresses=list(transport.addresses), network=genesis.name)
        lan = found_on_lan(transport.addresses, genesis.network_id, node.neighbours.hear)
        async with (
            lan if config.lan_discovery else nullcontext(),
            _http_door(node, methods, config) as door,
            listening(config.rpc_socket, RpcServer({**methods, **door})),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_stop_on_signal, node, nursery.cancel_scope)
            if indexer is not None:
                nursery.start_soon(indexer.run)
                nursery.start_soon(PeerStanding(indexer, transport, node.neighbours).run)
                if indexer.bonds is not None:
                    nursery.start_soon(indexer.bonds.run)
                is_candidate = config.stand_again and genesis.parameters.elected_witnesses > 0
                if is_candidate and witness is not None and later_chain is not None:
                    home, key = chains[genesis.home_chain].chain, witness[0].address
                    again = StandingAgain(genesis, indexer, home, accounts, key, later_chain)
                    nursery.start_soon(again.run, list(node.markets.values()))
            await node.run(lambda: notify("READY=1"))
            nursery.cancel_scope.cancel()
    log.info("stopped")


def _slashing(
    config: NodeConfig,
    genesis: Genesis,
    traders: Sequence[Signer],
    chains: Mapping[str, NodeChain],
) -> tuple[Chain, Address] | None:
    """None where there is no registry, or nobody to pay for a transaction."""
    home = chains.get(genesis.home_chain)
    if home is None or not any(genesis.registry) or not 0 < config.slash_with <= len(traders):
        return None
    return home.chain, traders[config.slash_with - 1].address


@asynccontextmanager
async def open_indexer(
    config: NodeConfig, genesis: Genesis, chains: Mapping[str, NodeChain]
) -> AsyncIterator[Indexer | None]:
    """None where the network has no registry, or this node does not know its chain. Raises
    ``ConfigError`` if it has to know who is elected, and lacks the chain of bonds."""
    home, contracts = chains.get(genesis.home_chain), contracts_of(genesis)
    if home is None or not contracts:
        yield None
        return
    directory, is_elected = config.data_dir, genesis.parameters.elected_witnesses > 0
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        store = await enter(open_sqlite_history(directory.history, genesis.home_chain, contracts))
        reader = None
        if chain := genesis.bitcoin_bonds:
            bonds = await enter(open_sqlite_bonds(directory.bonds, chain, contracts))
            reader = await enter(open_bond_reader(config, genesis, bonds, store))
            if reader is None and not is_elected:
                log.warning("no scores: bonds are not read", chain=chain)
                yield None
                return
        yield Indexer(genesis, home.chain, store, bonds=reader)


@asynccontextmanager
async def _http_door(
    node: Node, methods: Mapping[str, Method], config: NodeConfig
) -> AsyncIterator[Mapping[str, Method]]:
    if config.api is None:
        yield {}
        return
    # A quarter of what a node has to load, and many have no door.
    from orrange_p2p.daemon.http_door import http_door

    async with http_door(node, methods, config.api, config.data_dir) as door:
        yield door


def _swap_tools(
    directory: DataDir, keys: Keys, legs: Mapping[str, Leg], swaps: SwapStore
) -> SwapTools:
    root = keys.swap_root()
    return SwapTools(swaps, legs, partial(secret_of, root), Bundles(directory.bundles))


@asynccontextmanager
async def _locked(directory: DataDir, signers: Sequence[Signer]) -> AsyncIterator[None]:
    """Two nodes in one directory are told by its store; this tells those of a copied one."""
    keys = [signer.address for signer in signers]
    with locked(keys, str(directory.path.absolute()), lock_directory()):
        yield


async def _copy_stores(
    directory: DataDir, store: SqliteStore, chains: Mapping[str, NodeChain], params: Params
) -> Any:
    """Copy all stores into a folder, an absolute path, as ``backup.back_up`` wants them."""
    folder = params.get("folder")
    if not isinstance(folder, str) or not Path(folder).is_absolute():
        raise ConfigError("'folder' must be an absolute path")
    copies = DataDir(Path(folder))
    await store.backup(copies.store, signing.restored())
    for chain in directory.sent_to():
        if chain in chains:
            await chains[chain].sent.backup(copies.sent(chain))
        else:  # of a chain that is configured no more
            async with open_sqlite_intents(directory.sent(chain), chain) as sent:
                await sent.backup(copies.sent(chain))
    log.info("copied the stores", folder=folder)
    return True


async def _stop_on_signal(node: Node, everything: trio.CancelScope) -> None:
    """Leave in good order, but leave: also while a large store is being replayed."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            notify("STOPPING=1")
            node.stop()
            break
    await trio.sleep(LEAVE_S)
    log.warning("stopping at once: what was acknowledged is durable")
    everything.cancel()
