"""Nodes in one process over the memory adapters: the daemon's own logic, with real time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import pytest
import trio

from orrange_p2p.core import entries, ticks
from orrange_p2p.core.allowances import ENTRY_COST_BYTES, Allowances
from orrange_p2p.core.errors import HaltedError
from orrange_p2p.core.frames import Frame
from orrange_p2p.core.genesis import Author, Genesis, Market, Parameters, Witness
from orrange_p2p.core.ids import (
    ZERO32,
    Address,
    Digest,
    Epoch,
    Lots,
    MarketId,
    PeerId,
    Price,
    Round,
    Seq,
    TimeMs,
    Weight,
)
from orrange_p2p.core.operations import Place
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.ticks import Applied, TickBody
from orrange_p2p.daemon.author import AuthorLog
from orrange_p2p.daemon.market import MarketNode, corrupt
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports import EpochRecord
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.memory import MemoryStore

MARKET = Market(
    "eip155:31337/slip44:60",
    "eip155:31337/erc20:0x" + "11" * 20,
    tick_size=1,
    lot_size=1,
    settlement="atomic",
    timing="evm",
    rate_numerator=1,
    rate_denominator=1,
    volatility_ppm=1,
)
CHAIN_LENGTH = 1 << 15


class Party:
    """What one participant keeps: keys and a store that outlive its node."""

    def __init__(self, number: int) -> None:
        self.witness = MemorySigner(bytes([1 + number]) * 32)
        self.trader = MemorySigner(bytes([101 + number]) * 32)
        self.chain = RevealChain(bytes([number]) * 32, CHAIN_LENGTH)
        self.store = MemoryStore()


def genesis_of(
    parties: list[Party], traders: list[Party] | None = None, **parameters: int
) -> Genesis:
    witnesses = [Witness(p.witness.address, Weight(1), (p.chain.anchor,)) for p in parties]
    return Genesis(
        "test",
        "eip155:31337",
        Address(bytes(20)),
        TimeMs(time.time_ns() // 1_000_000),
        False,
        Parameters(**({"min_round_ms": 30, "leader_timeout_ms": 150} | parameters)),
        tuple(sorted(witnesses, key=lambda witness: witness.address)),
        tuple(
            sorted(
                (Author(p.trader.address, 0) for p in traders or parties),
                key=lambda author: author.address,
            )
        ),
        (MARKET,),
    )


@asynccontextmanager
async def cluster(
    parties: list[Party], genesis: Genesis, network: MemoryNetwork, sabotaged: int = -1
) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        names: list[str] = []
        for number, party in enumerate(parties):
            transport = await stack.enter_async_context(network.open_transport(f"n{number}"))
            node = Node(
                genesis,
                party.store,
                transport,
                SystemClock(),
                bootstrap=names,
                witness=(party.witness, {MARKET.id: party.chain}),
                traders=[party.trader],
                after_apply=corrupt if number == sabotaged else None,
            )
            nodes.append(await stack.enter_async_context(running(node)))
            names.append(transport.addresses[0])
        yield nodes


async def until(condition: Callable[[], bool], nodes: list[Node]) -> None:
    """Wait for a condition on the nodes' state; fails after 20 s."""
    with trio.fail_after(20):
        while not condition():
            await next(iter(nodes[0].markets.values())).changed.wait()


def market_of(node: Node) -> MarketNode:
    return next(iter(node.markets.values()))


def author_of(node: Node) -> AuthorLog:
    return next(iter(node.logs_of(market_of(node)).values()))


async def trade(nodes: list[Node], price: int = 100) -> None:
    await author_of(nodes[0]).submit([Place(0, Price(price), Lots(10))])
    await author_of(nodes[1]).submit([Place(1, Price(price), Lots(4))])


def common_roots(nodes: list[Node]) -> set[bytes]:
    """The roots of the latest epoch that all nodes have applied."""
    stamps = [{s.epoch: s.root for s in market_of(node).epochs} for node in nodes]
    epoch = max(set.intersection(*(set(stamp) for stamp in stamps)))
    return {stamp[epoch] for stamp in stamps}


async def test_two_orders_on_two_nodes_become_one_trade() -> None:
    parties = [Party(n) for n in range(4)]
    async with cluster(parties, genesis_of(parties), MemoryNetwork()) as nodes:
        await trade(nodes)
        await until(lambda: all(market_of(n).totals["trades"] == 1 for n in nodes), nodes)
        assert len(common_roots(nodes)) == 1
        assert market_of(nodes[0]).replica.fold.book.best(0) == 100


async def test_losses_are_repaired_by_sync() -> None:
    parties = [Party(n) for n in range(4)]
    network = MemoryNetwork(seed=1, loss=0.3)
    async with cluster(parties, genesis_of(parties), network) as nodes:
        for price in range(90, 110):
            await trade(nodes, price)
        await until(lambda: all(market_of(n).totals["trades"] >= 10 for n in nodes), nodes)
        assert len(common_roots(nodes)) == 1
        assert sum(node.counters["sync_records"] for node in nodes) > 0


async def test_a_restart_from_the_stores_goes_on_where_it_was() -> None:
    parties = [Party(n) for n in range(4)]
    genesis = genesis_of(parties)
    async with cluster(parties, genesis, MemoryNetwork()) as nodes:
        await trade(nodes)
        await until(lambda: all(market_of(n).totals["trades"] == 1 for n in nodes), nodes)
        epoch = market_of(nodes[0]).replica.epoch
    async with cluster(parties, genesis, MemoryNetwork()) as nodes:
        assert market_of(nodes[0]).totals["trades"] == 1
        await trade(nodes)
        await until(lambda: all(market_of(n).totals["trades"] == 2 for n in nodes), nodes)
        assert market_of(nodes[0]).replica.epoch > epoch
        assert len(common_roots(nodes)) == 1


async def test_a_node_that_was_away_catches_up() -> None:
    parties = [Party(n) for n in range(4)]
    genesis = genesis_of(parties)
    network = MemoryNetwork()
    async with cluster(parties, genesis, network) as nodes:
        network.partition([nodes[3].transport], [n.transport for n in nodes[:3]])
        await trade(nodes)
        await until(lambda: market_of(nodes[0]).replica.clock.highest_quorum_round > 90, nodes)
        assert market_of(nodes[3]).totals["trades"] == 0
        network.heal()
        await until(lambda: market_of(nodes[3]).totals["trades"] == 1, nodes)
        replicas = [market_of(node).replica for node in nodes]
        await until(lambda: replicas[3].epoch >= replicas[0].epoch - 3, nodes)
        assert len(common_roots(nodes)) == 1


class SlowAtTimes(MemoryStore):
    """Notes every third epoch slowly: what follows gets ahead of it, if it may."""

    async def record_epoch(self, market: MarketId, record: EpochRecord) -> None:
        if record.epoch % 3 == 0:
            await trio.sleep(0.1)
        await super().record_epoch(market, record)


async def test_epochs_are_noted_in_their_order_and_none_is_left_out() -> None:
    parties = [Party(n) for n in range(4)]
    parties[3].store = SlowAtTimes()
    async with cluster(parties, genesis_of(parties), MemoryNetwork()) as nodes:
        await trade(nodes)
        await until(lambda: market_of(nodes[3]).recorded > 40, nodes)
        noted = [stamp.epoch for stamp in market_of(nodes[3]).epochs]
        assert noted == list(range(1, len(noted) + 1))
        await until(lambda: market_of(nodes[3]).totals == market_of(nodes[0]).totals, nodes)
        assert market_of(nodes[3]).totals["entries"] == 4


async def test_witnesses_of_genesis_go_on_to_their_next_chains_and_end_with_the_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parties = [Party(n) for n in range(4)]

    def chain_of(number: int, era: int) -> RevealChain:
        return RevealChain(bytes([number, era]) * 16, 1 << 12)

    # An era that may have as many rounds as a chain has reveals, and has few.
    genesis = genesis_of(parties, era_ms=700, rounds_per_era=1 << 20)
    listed = {
        party.witness.address: tuple(chain_of(number, era).anchor for era in range(3))
        for number, party in enumerate(parties)
    }
    genesis = attrs.evolve(
        genesis,
        witnesses=tuple(attrs.evolve(w, anchors=listed[w.address]) for w in genesis.witnesses),
    )
    async with AsyncExitStack() as stack:
        network, nodes = MemoryNetwork(), list[Node]()
        for number, party in enumerate(parties):
            transport = await stack.enter_async_context(network.open_transport(f"n{number}"))
            node = Node(
                genesis,
                party.store,
                transport,
                SystemClock(),
                bootstrap=[other.transport.addresses[0] for other in nodes],
                witness=(party.witness, {MARKET.id: chain_of(number, 0)}),
                traders=[party.trader],
                later_chain=lambda _, era, number=number: chain_of(number, era),
            )
            nodes.append(await stack.enter_async_context(running(node)))
        market = market_of(nodes[0])
        await until(lambda: market.replica.era == 2, nodes)
        await trade(nodes)
        await until(lambda: all(market_of(n).totals["trades"] == 1 for n in nodes), nodes)
        await until(lambda: market.replica.era == 3, nodes)
        await trio.sleep(0.5)
        assert market.replica.era == 3 and market.replica.clock.highest_quorum_round == -1
    told = capsys.readouterr().out
    assert "the reveals of this witness end soon" in told and "can sign no more" in told


async def test_a_corrupted_fold_shows_in_the_roots_and_stops() -> None:
    parties = [Party(n) for n in range(4)]
    async with cluster(parties, genesis_of(parties), MemoryNetwork(), sabotaged=2) as nodes:
        await trade(nodes)
        sick, sound = market_of(nodes[2]), market_of(nodes[0])
        await until(lambda: sick.replica.halt is not None, nodes)
        assert len(common_roots(nodes)) == 2
        assert nodes[2].counters["halts"] == 1
        epoch = sick.replica.epoch
        await until(lambda: sound.replica.epoch > epoch + 8, nodes)
        assert sound.replica.halt is None
        assert sick.replica.epoch == epoch
        with pytest.raises(HaltedError, match="the market is halted"):
            await author_of(nodes[2]).submit([Place(0, Price(1), Lots(1))])


async def test_a_trader_whose_gossip_was_lost_offers_its_entries_again() -> None:
    parties = [Party(n) for n in range(4)]
    network = MemoryNetwork()
    reader = Party(9)
    genesis = genesis_of(parties, traders=[*parties, reader])
    async with (
        cluster(parties, genesis, network) as nodes,
        network.open_transport("reader") as transport,
    ):
        node = Node(genesis, reader.store, transport, SystemClock(), traders=[reader.trader])
        async with running(node):
            await author_of(node).submit([Place(0, Price(7), Lots(1))])
            await until(lambda: node.counters["frames_out"] == 1, nodes)  # to nobody
            await node.connect(nodes[0].transport.addresses[0])
            await until(lambda: market_of(nodes[3]).totals["orders"] == 1, nodes)
            assert node.counters["entries_offered_again"] > 0


async def test_strangers_cost_no_disk() -> None:
    parties = [Party(n) for n in range(4)]
    network = MemoryNetwork()
    stranger = Party(9)
    genesis = genesis_of(parties)
    async with cluster(parties, genesis, network) as nodes:
        async with network.open_transport("stranger") as transport:
            node = Node(
                genesis, stranger.store, transport, SystemClock(), traders=[stranger.trader]
            )
            async with running(node):
                await node.connect(nodes[0].transport.addresses[0])
                await author_of(node).submit([Place(0, Price(7), Lots(1))])
                await until(lambda: nodes[0].counters["records_unwanted"] > 0, nodes)
        kept = await parties[0].store.log(MARKET.id, stranger.trader.address, Seq(0))
        assert list(kept) == []


async def test_an_author_that_signs_without_end_is_held_to_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orrange_p2p.daemon.intake.Allowances", lambda: Allowances(1, 40_000))
    parties = [Party(n) for n in range(4)]
    flooder = Party(9).trader
    genesis = genesis_of(parties, traders=[*parties, Party(9)])
    flood: list[bytes] = []
    head = Digest(ZERO32)
    for seq in range(200):
        draft = entries.draft(
            genesis.separator,
            MARKET.id,
            flooder.address,
            Seq(seq),
            head,
            [Place(0, Price(1), Lots(1))],
        )
        entry = draft.signed(flooder.sign(draft.digest))
        flood.append(entry.encoded)
        head = entry.digest
    most = 40_000 // (ENTRY_COST_BYTES + len(flood[-1])) + 1
    async with cluster(parties, genesis, MemoryNetwork()) as nodes:
        for node in nodes:
            for at in range(0, len(flood), 50):
                frame = Frame(tuple(flood[at : at + 50]), ())
                await market_of(node).intake.admit(PeerId("flooder"), frame)
        await trade(nodes)
        await until(lambda: all(market_of(n).totals["trades"] == 1 for n in nodes), nodes)
        assert all(node.counters["author_over_budget"] >= len(flood) - most for node in nodes)
        for party in parties:
            kept = await party.store.log(MARKET.id, flooder.address, Seq(0))
            assert 0 < len(kept) <= most


async def test_a_witness_that_signs_without_end_fills_no_disk() -> None:
    parties = [Party(n) for n in range(4)]
    genesis = genesis_of(parties)
    async with cluster(parties[:3], genesis, MemoryNetwork()) as nodes:
        node = market_of(nodes[0])
        await until(lambda: node.replica.epoch > 2, nodes)
        liar = parties[3]
        clock = node.replica.clock
        round = Round(clock.highest_quorum_round + 1)
        parents = tuple(sorted(clock.adoptable(Round(round - 1)).values()))
        reveal = liar.chain.reveal(node.replica.reveal_position(liar.witness.address, round))
        for at in range(50):
            body = TickBody(parents, (), TimeMs(at), Applied(Epoch(0), bytes(32)), reveal)
            draft = ticks.draft(
                genesis.separator, MARKET.id, node.replica.era, round, liar.witness.address, body
            )
            tick = draft.signed(liar.witness.sign(draft.digest))
            await node.intake.admit(PeerId("liar"), Frame((), (tick.encoded,)))
        await until(lambda: nodes[0].counters["evidence"] == 1, nodes)
        kept = await parties[0].store.rounds(MARKET.id, node.replica.era, round)
        assert len([record for record in kept if record.signer == liar.witness.address]) <= 2
        assert nodes[0].counters["records_unwanted"] >= 48
        epoch = node.replica.epoch
        await until(lambda: node.replica.epoch > epoch + 2, nodes)
