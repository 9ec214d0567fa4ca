"""When this node's keys sign nothing.

The nodes are whole ones over memory adapters. A store copied while its node goes on is what an old
backup is.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from test_node import MARKET, Party, author_of, cluster, genesis_of, market_of, until

from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Lots, Price
from orrange_p2p.core.operations import Place
from orrange_p2p.daemon import signing
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports import RecordKind
from orrange_p2p.store.memory import MemoryStore

pytestmark = pytest.mark.usefixtures("one_clock")
SHORT_ERAS = {"era_ms": 3000, "rounds_per_era": 400}


def parties_of(number: int) -> list[Party]:
    return [Party(n) for n in range(number)]


@asynccontextmanager
async def one_more(
    party: Party,
    genesis: Genesis,
    network: MemoryNetwork,
    others: Sequence[Node],
    *,
    is_witness: bool = False,
    **options: Any,
) -> AsyncIterator[Node]:
    async with network.open_transport(f"more-{len(others)}-{id(party.store)}") as transport:
        node = Node(
            genesis,
            party.store,
            transport,
            SystemClock(),
            bootstrap=[other.transport.addresses[0] for other in others],
            witness=(party.witness, {MARKET.id: party.chain}) if is_witness else None,
            traders=[party.trader],
            **options,
        )
        async with running(node):
            yield node


async def place(node: Node, price: int = 7, side: int = 0, lots: int = 1) -> None:
    await author_of(node).submit([Place(side, Price(price), Lots(lots))])


def orders(node: Node) -> int:
    return market_of(node).replica.fold.live_order_count


async def mark_restored(store: MemoryStore) -> None:
    """As ``daemon.backup`` does it."""
    for name, value in signing.restored().items():
        await store.set_meta(name, value)


async def test_a_trader_restored_from_an_old_backup_forks_only_without_the_guard() -> None:
    parties = parties_of(4)
    trader = Party(9)
    genesis = genesis_of(parties, traders=[*parties, trader])
    network = MemoryNetwork()
    async with cluster(parties, genesis, network) as nodes:
        async with one_more(trader, genesis, network, nodes) as node:
            await place(node)
            await until(lambda: orders(nodes[0]) == 1, nodes)
            backup = copy.deepcopy(trader.store)
            for count in (2, 3):
                await place(node)
                await until(lambda count=count: orders(nodes[0]) == count, nodes)
        trader.store = copy.deepcopy(backup)
        await mark_restored(trader.store)
        async with one_more(trader, genesis, network, nodes) as node:
            with pytest.raises(WorldError, match="restored"):
                await place(node, price=8)
            await until(lambda: node.signing.is_merged(MARKET.id), [node])
            await place(node, price=8)
            await until(lambda: orders(nodes[0]) == 4, nodes)
            assert author_of(node).next_seq == 4
        assert [n.counters["evidence"] for n in nodes] == [0, 0, 0, 0]

        trader.store = backup  # not marked
        async with one_more(trader, genesis, network, ()) as node:
            await place(node, price=8)
            await node.connect(nodes[0].transport.addresses[0])
            await until(lambda: nodes[0].counters["evidence"] > 0, nodes)


async def test_a_witness_with_an_old_store_equivocates_without_the_guard() -> None:
    parties = parties_of(4)
    # Rounds long enough for the old ones still to be looked at when they come.
    genesis = genesis_of(parties, min_round_ms=150)
    network = MemoryNetwork()
    witness = parties[3]
    address = witness.witness.address
    own = (RecordKind.TICK, MARKET.id, address)

    def may_tick(node: Node) -> bool:
        last = witness.store._own.get(own)
        clock = market_of(node).replica.clock
        return last is not None and clock.highest_quorum_round >= last.number > 4

    async with cluster(parties[:3], genesis, network) as nodes:
        async with one_more(witness, genesis, network, nodes, is_witness=True) as node:
            await until(lambda: may_tick(node), [node])
            backup = copy.deepcopy(witness.store)
            epoch = market_of(node).replica.epoch
            await until(lambda: market_of(node).replica.epoch > epoch + 1, [node])
        last = backup._own[own]
        witness.store = backup  # not marked
        async with one_more(witness, genesis, network, (), is_witness=True) as node:
            await until(lambda: witness.store._own[own] != last, [node])
            await node.connect(nodes[0].transport.addresses[0])
            await until(lambda: nodes[0].counters["evidence"] > 0, nodes)


async def test_a_restored_witness_ticks_again_in_the_next_era() -> None:
    parties = parties_of(4)
    genesis = genesis_of(parties, **SHORT_ERAS)
    network = MemoryNetwork()
    witness = parties[3]
    address = witness.witness.address
    async with cluster(parties[:3], genesis, network) as nodes:
        replica = market_of(nodes[0]).replica
        async with one_more(witness, genesis, network, nodes, is_witness=True) as node:
            await until(lambda: market_of(node).replica.epoch > 1, [node])
            backup = copy.deepcopy(witness.store)
            epoch = market_of(node).replica.epoch
            await until(lambda: market_of(node).replica.epoch > epoch + 1, [node])
        witness.store = backup
        await mark_restored(witness.store)
        async with one_more(witness, genesis, network, nodes, is_witness=True) as node:
            await until(lambda: node.signing.is_merged(MARKET.id), [node])
            barred = market_of(node).replica.era
            assert "before era" in str(node.signing.why_no_tick(MARKET.id, barred))
            heard = market_of(nodes[0]).heard
            await until(lambda: heard[address][0] > barred, nodes)
            assert replica.era > barred
        assert [n.counters["evidence"] for n in nodes] == [0, 0, 0]


async def test_a_restored_store_stays_marked_until_it_is_merged_and_no_longer() -> None:
    parties = parties_of(4)
    trader = Party(9)
    genesis = genesis_of(parties, traders=[*parties, trader])
    network = MemoryNetwork()
    await mark_restored(trader.store)
    async with one_more(trader, genesis, network, ()) as node:
        with pytest.raises(WorldError, match="restored"):
            await place(node)
    async with cluster(parties, genesis, network) as nodes:
        async with one_more(trader, genesis, network, nodes) as node:
            await until(lambda: node.signing.is_merged(MARKET.id), [node])
        async with one_more(trader, genesis, network, ()) as node:
            await place(node)
        await mark_restored(trader.store)
        async with one_more(trader, genesis, network, ()) as node:
            with pytest.raises(WorldError, match="restored"):
                await place(node)


async def test_the_only_witness_of_a_network_goes_on_after_a_restore() -> None:
    (party,) = parties_of(1)
    await mark_restored(party.store)
    async with cluster([party], genesis_of([party]), MemoryNetwork()) as nodes:
        await until(lambda: market_of(nodes[0]).replica.epoch > 1, nodes)
        await place(nodes[0])
        await until(lambda: orders(nodes[0]) == 1, nodes)


async def test_a_node_whose_key_signs_elsewhere_stops_and_stays_stopped() -> None:
    parties = parties_of(4)
    trader = Party(9)
    genesis = genesis_of(parties, traders=[*parties, trader])
    network = MemoryNetwork()
    twin = Party(9)
    async with cluster(parties, genesis, network) as nodes:
        async with (
            one_more(trader, genesis, network, nodes) as node,
            one_more(twin, genesis, network, [*nodes, node]) as other,
        ):
            await place(other)
            await until(lambda: node.signing.misuse is not None, [node])
            with pytest.raises(WorldError, match="another place"):
                await place(node)
        async with one_more(trader, genesis, network, nodes) as node:
            with pytest.raises(WorldError, match="another place"):
                await place(node)
            await node.withdrawal.resume()
            await place(node)
            await until(lambda: orders(nodes[0]) == 2, nodes)
        assert [n.counters["evidence"] for n in nodes] == [0, 0, 0, 0]


async def test_its_own_records_that_come_back_do_not_stop_a_node() -> None:
    parties = parties_of(4)
    async with cluster(parties, genesis_of(parties), MemoryNetwork()) as nodes:
        await place(nodes[0])
        await until(lambda: orders(nodes[0]) == 1, nodes)
        market, store = market_of(nodes[0]), parties[0].store
        own = (parties[0].trader.address, parties[0].witness.address)
        kept = [record for record in store._records.values() if record.signer in own]
        for record in kept:
            del store._records[record.digest]  # as pruning does
            await nodes[0].signing.check(market, record)
        assert len(kept) > 3
        assert nodes[0].signing.misuse is None
        other = kept[-1]._replace(number=kept[-1].number + 1000)
        await nodes[0].signing.check(market, other)
        assert "in use" in str(nodes[0].signing.misuse)
