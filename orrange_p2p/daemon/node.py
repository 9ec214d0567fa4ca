"""A node: adapters opened, one ``MarketNode`` per market wired to them, and their common end."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog
import trio

import orrange_p2p
from orrange_p2p.chains.evm import settlement
from orrange_p2p.core import sync
from orrange_p2p.core.checkpoints import CHECKPOINT_EPOCHS
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.fold import Fold
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.hello import VERSIONS, Versions
from orrange_p2p.core.ids import Address, Era, MarketId, PeerId
from orrange_p2p.core.matches import Match
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.swaps.agreement import chain_of
from orrange_p2p.daemon.agreements import Agreements
from orrange_p2p.daemon.author import AuthorLog
from orrange_p2p.daemon.bindings import Bindings
from orrange_p2p.daemon.checkpointing import Checkpointing
from orrange_p2p.daemon.indexer import Indexer
from orrange_p2p.daemon.joining import Joining
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.neighbours import Neighbours
from orrange_p2p.daemon.own_orders import OwnOrders
from orrange_p2p.daemon.repair import Repair
from orrange_p2p.daemon.rosters import Rosters
from orrange_p2p.daemon.settlement_config import SettlingConfig
from orrange_p2p.daemon.settling import Settling
from orrange_p2p.daemon.signing import HaltState, Signing
from orrange_p2p.daemon.slashing import Slashing
from orrange_p2p.daemon.swapping import Swapping, SwapTools
from orrange_p2p.daemon.sync_server import Served, SyncServer
from orrange_p2p.daemon.withdrawal import SHUTDOWN_S, Withdrawal
from orrange_p2p.daemon.witness import WitnessLoop
from orrange_p2p.ports import Clock, Signer, Store, Transport
from orrange_p2p.ports.chain import Chain
from orrange_p2p.ports.trades import TradeStore

log = structlog.get_logger()


class Node:
    """What one process runs. Adapters come from outside and are closed by whoever opened them."""

    version = orrange_p2p.__version__

    def __init__(
        self,
        genesis: Genesis,
        store: Store,
        transport: Transport,
        clock: Clock,
        *,
        market_ids: Sequence[MarketId] = (),
        bootstrap: Sequence[str] = (),
        witness: tuple[Signer, Mapping[MarketId, RevealChain]] | None = None,
        traders: Sequence[Signer] = (),
        after_apply: Callable[[Fold], None] | None = None,
        announce: Sequence[str] = (),
        versions: Versions = VERSIONS,
        cancel_on: Collection[str] = (),
        max_exposure_lots: int = 0,
        archive: bool = False,
        checkpoint_epochs: int = CHECKPOINT_EPOCHS,
        trades: TradeStore | None = None,
        settling: Sequence[tuple[SettlingConfig, Chain]] = (),
        swap_tools: SwapTools | None = None,
        indexer: Indexer | None = None,
        later_chain: Callable[[MarketId, Era], RevealChain] | None = None,
        slashing: tuple[Chain, Address] | None = None,
        twin_era: int | None = None,
    ) -> None:
        """Serves ``market_ids``, all of the network's if none is named. ``trades``: where to keep
        what settling the traders' trades takes; None: they are not settled by this node.
        ``settling``: by which contracts of which chains they are. ``swap_tools``: likewise for
        markets of swaps. ``indexer``: reads the home chain, by which witnesses are elected.
        ``later_chain``: makes a reveal chain of the witness that begins with a later era.
        ``slashing``: the home chain, and whose transactions show it who cheated. ``twin_era``: the
        witness cheats from this era on, for demonstrations.

        Raises ``ConfigError`` if the witness key is not one of the network's, or where witnesses
        are elected and nothing reads the home chain.
        """
        is_elected = genesis.parameters.elected_witnesses > 0
        if is_elected and indexer is None:
            raise ConfigError(
                f"network {genesis.name!r} elects its witnesses on {genesis.home_chain}, and this "
                f'node does not read it: name its endpoints under [chain."{genesis.home_chain}"]'
            )
        self.genesis = genesis
        self.transport = transport
        self.clock = clock
        self.counters: Counter[str] = Counter()
        self.started_ms = clock.monotonic_ms()
        carried = list(market_ids) or [market.id for market in genesis.markets]
        self.neighbours = Neighbours(
            transport,
            store,
            clock,
            self.counters,
            network_id=genesis.network_id,
            markets=carried,
            bootstrap=bootstrap,
            announce=announce,
            versions=versions,
        )
        self.markets = {
            market_id: MarketNode(
                genesis,
                market_id,
                store,
                transport,
                clock,
                self.counters,
                after_apply,
                versions=versions,
                spoken=self.neighbours.spoken,
                checkpoint_epochs=checkpoint_epochs,
            )
            for market_id in carried
        }
        listed = {one.address for one in genesis.witnesses}
        if witness is not None and not is_elected and witness[0].address not in listed:
            raise ConfigError(
                f"the witness key 0x{witness[0].address.hex()} is none of network "
                f"{genesis.name!r}: run without the role 'witness', or use that witness's key"
            )
        self._witness = witness
        self._later_chain = later_chain
        self._cancel_on = frozenset(cancel_on)
        own = {signer.address for signer in traders}
        if witness is not None:
            own.add(witness[0].address)
        self.signing = Signing(store, clock, own)
        authors = [signer.address for signer in traders]
        self._twin_era = twin_era
        self.slashing: Slashing | None = None
        if slashing is not None:
            self.slashing = Slashing(genesis, *slashing, self.counters)
            for market_id, market in self.markets.items():
                market.on_evidence.append(partial(self.slashing.note, market_id))
        self.own_orders = {market_id: OwnOrders(authors) for market_id in self.markets}
        for market_id, market in self.markets.items():
            market.on_epochs.append(self.own_orders[market_id].take)
        self._settling: list[Settling] = []
        self._swapping: dict[MarketId, Swapping] = {}
        if swap_tools is not None and traders:
            for node in self.markets.values():
                self._prepare_swaps(node, authors, swap_tools)
        if trades is not None and traders:
            for market_id, node in self.markets.items():
                if node.market.settlement == "htlc":
                    continue
                keeper = Bindings(trades, node.market, market_id, authors, self.counters)
                node.keeper = keeper
                for config, chain in settling:
                    if settlement.settles(node.market, config.chain):
                        one = Settling(
                            config,
                            genesis,
                            market_id,
                            trades=trades,
                            store=store,
                            chain=chain,
                            own=authors,
                            payer=authors[config.trader - 1],
                            clock=clock,
                            counters=self.counters,
                        )
                        keeper.on_trades.append(one.note)
                        self._settling.append(one)
        self._logs = {
            market_id: {
                signer.address: AuthorLog(
                    market, signer, self.signing, max_exposure_lots, _terms_of(market)
                )
                for signer in traders
            }
            for market_id, market in self.markets.items()
        }
        self.withdrawal = Withdrawal(self.markets, self._logs, self.signing, transport)
        self._served = {
            market_id: Served(Repair(market), Checkpointing(market, archive))
            for market_id, market in self.markets.items()
        }
        self.rosters = {
            market_id: Rosters(market, indexer)
            for market_id, market in self.markets.items()
            if is_elected and indexer is not None
        }
        """What tells who is elected; empty where genesis names the witnesses for good."""
        self.joining = {
            market_id: Joining(
                self.markets[market_id], *served, archive, self.rosters.get(market_id)
            )
            for market_id, served in self._served.items()
        }
        self._stopping = trio.Event()

    def _prepare_swaps(
        self, node: MarketNode, authors: Sequence[Address], tools: SwapTools
    ) -> None:
        """Unless it is no market of swaps, or one of its chains is none of ours."""
        base, quote = (
            tools.legs.get(chain_of(asset)) for asset in (node.market.base, node.market.quote)
        )
        if node.market.settlement != "htlc" or base is None or quote is None:
            return
        swapping = Swapping(node.market, node.market_id, tools, self.counters)
        node.keeper = Agreements(
            tools.store,
            node.market,
            node.market_id,
            authors,
            (base, quote),
            tools.secret,
            self.counters,
        )
        node.keeper.on_swaps.append(swapping.note)
        self._swapping[node.market_id] = swapping

    def _witness_loop(
        self, market: MarketNode, signer: Signer, chains: Mapping[MarketId, RevealChain]
    ) -> WitnessLoop:
        name = market.market_id
        later = None if self._later_chain is None else partial(self._later_chain, name)
        return WitnessLoop(market, signer, chains[name], self.signing, later, self._twin_era)

    @property
    def roles(self) -> tuple[str, ...]:
        witness = ("witness",) if self._witness is not None else ()
        trader = ("trader",) if self.authors else ()
        return witness + trader

    @property
    def witness_address(self) -> Address | None:
        """Whose ticks this node signs, if it is elected; None if it is no witness."""
        return None if self._witness is None else self._witness[0].address

    @property
    def authors(self) -> tuple[Address, ...]:
        """Whose logs this node writes."""
        return tuple(next(iter(self._logs.values()), {}))

    def checkpoints_of(self, market: MarketNode) -> Checkpointing:
        return self._served[market.market_id].checkpoints

    def logs_of(self, market: MarketNode) -> Mapping[Address, AuthorLog]:
        return self._logs[market.market_id]

    def settling_of(self, market: MarketNode) -> Sequence[Settling]:
        """What settles our trades of a market."""
        return [one for one in self._settling if one.market_id == market.market_id]

    def swapping_of(self, market: MarketNode) -> Swapping | None:
        """What swaps for our trades of a market; None if nothing does."""
        return self._swapping.get(market.market_id)

    async def connect(self, address: str) -> PeerId:
        """Dial a peer and keep the connection up from now on.

        Raises ``ConfigError`` for what is no address, ``WorldError`` if it cannot be reached.
        """
        peer = await self.transport.dial(address)
        self.neighbours.keep(address)
        return peer

    def stop(self) -> None:
        """Make ``run`` return."""
        self._stopping.set()

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Replay the store, join the network and serve until ``stop`` or cancellation."""
        await self.signing.load(list(self.markets))
        for reason in {self.signing.why_no_entry(market_id) for market_id in self.markets} - {None}:
            log.warning("this node signs no entries", reason=reason)
        for market in self.markets.values():
            loaded = await market.load(await self.checkpoints_of(market).load())
            log.info("replayed", records=loaded, epoch=market.replica.epoch)
        self.transport.serve(sync.PROTOCOL, SyncServer(self._served, self.counters).on_request)
        async with trio.open_nursery() as nursery:
            for market_id, market in self.markets.items():
                repair, checkpoints = self._served[market_id]
                authors = list(self._logs[market.market_id].values())
                market.on_evidence += [author.report for author in authors[:1]]  # one is enough
                for author in authors:
                    market.on_matches.append(author.accept)
                    nursery.start_soon(author.run)
                market.on_outside.append(partial(self.signing.check, market))
                nursery.start_soon(self.signing.merge, market, repair)
                nursery.start_soon(market.run)
                nursery.start_soon(repair.run)
                nursery.start_soon(checkpoints.run)
                nursery.start_soon(self.joining[market_id].run)
                if market_id in self.rosters:
                    nursery.start_soon(self.rosters[market_id].run)
                if self._witness is not None:
                    nursery.start_soon(self._witness_loop(market, *self._witness).run)
            if self.slashing is not None:
                nursery.start_soon(self.slashing.run)
            for settling in self._settling:
                nursery.start_soon(settling.run)
            for swapping in self._swapping.values():
                nursery.start_soon(swapping.run)
            nursery.start_soon(self.withdrawal.run, "disconnect" in self._cancel_on)
            nursery.start_soon(self.neighbours.run)
            ready()
            await self._stopping.wait()
            if "shutdown" in self._cancel_on and self.signing.halt is HaltState.OFF:
                self.signing.is_leaving = True
                done = await self.withdrawal.cancel_all(SHUTDOWN_S)
                log.info("cancelled all orders", signed=done.signed, committed=done.committed)
            nursery.cancel_scope.cancel()


def _terms_of(market: MarketNode) -> Callable[[Match, Address], bytes]:
    keeper = market.keeper
    return keeper.terms if isinstance(keeper, Agreements) else lambda match, author: b""


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[Node]:
    """A node running in the background for the length of the block."""
    async with trio.open_nursery() as nursery:
        is_ready = trio.Event()
        nursery.start_soon(node.run, is_ready.set)
        await is_ready.wait()
        yield node
        node.stop()
