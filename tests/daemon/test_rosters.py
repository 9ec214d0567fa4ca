"""Nodes that elect their witnesses on a real chain: handover, joining late, restarting."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chains")]

from evm_chains import ALICE, CHAIN, NUMBER, anvil, chain_on, mine
from test_node import Party, common_roots, genesis_of, market_of, until

from orrange_p2p.core.errors import ConfigError, InvalidError, WorldError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, Amount, Era, MarketId, Round
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.roster import Pin, Roster, Seat
from orrange_p2p.daemon.indexer import Indexer
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.rosters import Rosters
from orrange_p2p.daemon.standing_again import StandingAgain
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.devnet.bank import Bank, open_bank
from orrange_p2p.devnet.bonds import Bonds, Candidacy
from orrange_p2p.devnet.chains import DevChain
from orrange_p2p.devnet.contracts import QUOTE, REGISTRY, SETTLEMENT
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.store.history_memory import MemoryHistory
from orrange_p2p.store.memory import MemoryStore

BOND = Amount(100 * 10**QUOTE.decimals)
LOCK_S = 300 * 86_400
EVERY = 8
"""Epochs between two checkpoints."""

pytestmark = pytest.mark.usefixtures("quick_checkpoints")


def elected(parties: list[Party]) -> Genesis:
    """Eras of seconds; a block of the chain is final two seconds after it was mined."""
    made = genesis_of(
        parties,
        min_round_ms=50,
        era_ms=7_000,
        pin_ms=5_500,
        handover_ms=1_000,
        rounds_per_era=1024,
        bond_unit=10**12,
    )
    return attrs.evolve(
        made,
        registry=REGISTRY,
        settlement=SETTLEMENT,
        parameters=attrs.evolve(made.parameters, elected_witnesses=6),
    )


async def stand(bank: Bank, genesis: Genesis, parties: list[Party]) -> None:
    """Every party's trader bonds for its witness key, and lets it stand."""
    await bank.deploy(genesis)
    bonds, market = Bonds(bank, NUMBER), genesis.markets[0].id
    owners = [party.trader.address for party in parties]
    await bank.hand_out(owners, coins=Amount(10**18), base=Amount(0), quote=BOND)
    await bonds.bond(owners, BOND, genesis.start_ms // 1000 + LOCK_S)
    await bonds.bind((party.trader.address, party.witness) for party in parties)
    keys = [party.witness.address for party in parties]
    await bonds.allocate(
        (owner, market, key, BOND) for owner, key in zip(owners, keys, strict=True)
    )
    listed = {witness.address for witness in genesis.witnesses}
    await bonds.stand(
        Candidacy(owner, market, key, party.chain.anchor, Era(0 if key in listed else 1))
        for owner, key, party in zip(owners, keys, parties, strict=True)
    )


class World:
    def __init__(self, stack: AsyncExitStack, port: int, genesis: Genesis) -> None:
        self._stack = stack
        self._port = port
        self.genesis = genesis
        self.market = genesis.markets[0].id
        self.network = MemoryNetwork()
        self.nodes: list[Node] = []

    @asynccontextmanager
    async def indexer(self, *, is_running: bool = True) -> AsyncIterator[Indexer]:
        async with chain_on(self._port) as chain, trio.open_nursery() as nursery:
            indexer = Indexer(self.genesis, chain, MemoryHistory(), page_blocks=3)
            if is_running:
                nursery.start_soon(indexer.run)
            yield indexer
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def node(
        self, name: str, party: Party, *, is_witness: bool = True, every: int = EVERY, **how: bool
    ) -> AsyncIterator[Node]:
        async with (
            self.indexer(**how) as indexer,
            self.network.open_transport(name) as transport,
        ):
            node = Node(
                self.genesis,
                party.store,
                transport,
                SystemClock(),
                bootstrap=[other.transport.addresses[0] for other in self.nodes],
                witness=(party.witness, {self.market: party.chain}) if is_witness else None,
                checkpoint_epochs=every,
                archive=every > EVERY,
                indexer=indexer,
            )
            async with running(node):
                yield node

    async def add(self, name: str, party: Party, **how: int) -> Node:
        node = await self._stack.enter_async_context(self.node(name, party, **how))
        self.nodes.append(node)
        return node


async def test_an_elected_witness_joins_and_late_nodes_believe_the_chain_only() -> None:
    parties = [Party(n) for n in range(5)]
    genesis = elected(parties[:4])
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(anvil(NUMBER, "--block-time", "1"))
        owners = [party.trader for party in parties]
        bank = await stack.enter_async_context(open_bank(DevChain(CHAIN, port), owners))
        await stand(bank, genesis, parties)
        world = World(stack, port, genesis)
        for number, party in enumerate(parties[:4]):
            await world.add(f"n{number}", party)
        async with AsyncExitStack() as fifth:
            world.nodes.append(
                await fifth.enter_async_context(world.node("n4", parties[4], every=10_000))
            )
            await until(lambda: all(map(has_checkpoint_of_era_1, world.nodes[:4])), world.nodes)
            replicas = [market_of(node).replica for node in world.nodes]
            assert {len(replica.table) for replica in replicas} == {5}
            assert len({replica.roster.digest for replica in replicas}) == 1
            ticks = await parties[0].store.rounds(world.market, Era(1), Round(0))
            assert parties[4].witness.address in {tick.signer for tick in ticks}
            assert len(common_roots(world.nodes)) == 1

            # Joining at a checkpoint of era 1: the peer's roster is held against the chain.
            async with world.node("late", Party(9), is_witness=False) as late:
                await until(lambda: late.joining[world.market].joined_at is not None, [late])
                shown = market_of(late).replica.roster
                assert shown.era >= 1 and shown.pin.block > 0
                assert late.counters["join_lies"] == 0
                await _no_other_roster_passes(late.rosters[world.market], shown)

            # A restart from the records alone, while the home chain cannot be read.
            await fifth.aclose()
        last = world.nodes.pop()
        async with world.node("n4", parties[4], every=10_000, is_running=False) as again:
            assert market_of(again).replica.epoch >= market_of(last).replica.epoch - 2
            assert market_of(again).replica.era >= 1
            assert len(market_of(again).replica.table) == 5
            # It goes on with the others; should they be past a handover, it reads the chain again.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(again.rosters[world.market]._indexer.run)
                await until(
                    lambda: market_of(again).replica.epoch > market_of(last).replica.epoch, [again]
                )
                nursery.cancel_scope.cancel()
            assert len(common_roots([world.nodes[0], again])) == 1


def has_checkpoint_of_era_1(node: Node) -> bool:
    market = market_of(node)
    kept = market.replica.checkpoints
    written = node.checkpoints_of(market).epoch
    return bool(kept) and kept[-1].header.era == 1 and written >= kept[-1].header.epoch


async def _no_other_roster_passes(rosters: Rosters, sound: Roster) -> None:
    now_ms = SystemClock().wall_ms()
    await rosters.check(sound, now_ms)
    stranger = Seat(Address(b"\xff" * 20), sound.seats[0].weight, bytes(32), Era(0))
    seats = (*sound.seats[1:], stranger)
    for other, why in (
        (attrs.evolve(sound, seats=seats), "does not show"),
        (attrs.evolve(sound, standings=()), "does not show"),
        (attrs.evolve(sound, pin=sound.pin._replace(hash=bytes(32))), "another one"),
    ):
        with pytest.raises(InvalidError, match=why):
            await rosters.check(other, now_ms)
    with pytest.raises(WorldError, match="not been read so far"):
        await rosters.check(attrs.evolve(sound, pin=sound.pin._replace(block=1 << 40)), now_ms)
    with pytest.raises(InvalidError, match="withdrawn"):
        await rosters.check(sound, now_ms + 8 * 86_400_000)


async def test_a_candidate_stands_again_before_its_reveals_end() -> None:
    parties = [Party(n) for n in range(4)]
    parties[1].trader = ALICE
    genesis = elected(parties)
    # A chain of reveals lasts for four eras: two before they end is soon enough.
    genesis = attrs.evolve(
        genesis, parameters=attrs.evolve(genesis.parameters, rounds_per_era=1 << 18)
    )
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(anvil(NUMBER))
        owners = [party.trader for party in parties]
        bank = await stack.enter_async_context(open_bank(DevChain(CHAIN, port), owners))
        await stand(bank, genesis, parties)
        world, market, own = World(stack, port, genesis), genesis.markets[0].id, parties[1]
        indexer = await stack.enter_async_context(world.indexer(is_running=False))
        chain = await stack.enter_async_context(chain_on(port))
        made: list[Era] = []

        def later(_: MarketId, since: Era) -> RevealChain:
            made.append(since)
            return RevealChain(bytes([77]) * 32, 64)

        again = StandingAgain(
            genesis, indexer, chain, [own.trader.address], own.witness.address, later
        )
        with pytest.raises(WorldError, match="not been read"):
            await again.renew(market, Era(0))
        await mine(port, 4)
        await indexer.catch_up()
        assert not await again.renew(market, Era(1)), "three eras are left"
        assert await again.renew(market, Era(2))
        assert made == [3]
        await mine(port, 4)
        await indexer.catch_up()
        last = indexer.read_to
        assert last is not None
        election = await indexer.election(Pin(last.block, last.hash))
        record = election.owner(own.trader.address)
        assert record is not None and record.stands[market].since == 3
        seat = election.roster(market, Era(3)).seat_of(own.witness.address)
        assert seat is not None and seat.anchor == RevealChain(bytes([77]) * 32, 64).anchor
        assert not await again.renew(market, Era(3))


def test_a_network_that_elects_needs_its_home_chain() -> None:
    parties = [Party(n) for n in range(4)]
    with pytest.raises(ConfigError, match=r'\[chain."eip155:31337"\]'):
        Node(elected(parties), MemoryStore(), MemoryNetwork(), SystemClock())  # type: ignore[arg-type]
