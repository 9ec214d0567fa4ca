"""Taking all orders back: the kill switch, the end of a node, and when it is cut off."""

from __future__ import annotations

import pytest
from test_node import MARKET, Party, author_of, cluster, genesis_of, market_of, until
from test_signing import mark_restored, one_more, orders, parties_of, place

from orrange_p2p.core.errors import WorldError
from orrange_p2p.daemon import api
from orrange_p2p.daemon.signing import HaltState
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports import RecordKind

pytestmark = pytest.mark.usefixtures("one_clock")


async def test_a_halted_node_takes_its_orders_back_and_signs_nothing_until_it_is_resumed() -> None:
    parties = parties_of(4)
    trader = Party(9)
    genesis = genesis_of(parties, traders=[*parties, trader])
    network = MemoryNetwork()
    async with cluster(parties, genesis, network) as nodes:
        async with one_more(trader, genesis, network, nodes) as node:
            await place(node)
            await until(lambda: orders(nodes[0]) == 1, nodes)
            assert await node.withdrawal.halt() == (True, True)
            await until(lambda: orders(nodes[0]) == 0, nodes)
            with pytest.raises(WorldError, match="orrange resume"):
                await place(node)
        async with one_more(trader, genesis, network, nodes) as node:
            with pytest.raises(WorldError, match="orrange resume"):
                await place(node)
            await node.withdrawal.resume()
            await place(node)
            await until(lambda: orders(nodes[0]) == 1, nodes)


async def test_a_halt_that_was_interrupted_goes_on_at_the_next_start() -> None:
    parties = parties_of(4)
    trader = Party(9)
    genesis = genesis_of(parties, traders=[*parties, trader])
    network = MemoryNetwork()
    async with cluster(parties, genesis, network) as nodes:
        async with one_more(trader, genesis, network, nodes) as node:
            await place(node)
            await until(lambda: orders(nodes[0]) == 1, nodes)
            await node.signing.set_halt(HaltState.CANCELLING)
        async with one_more(trader, genesis, network, nodes) as node:
            await until(lambda: orders(nodes[0]) == 0, nodes)
            await until(lambda: node.signing.halt is HaltState.ON, nodes)


async def test_a_halted_witness_signs_no_ticks() -> None:
    parties = parties_of(4)
    async with cluster(parties, genesis_of(parties), MemoryNetwork()) as nodes:
        await until(lambda: market_of(nodes[3]).replica.epoch > 1, nodes[3:])
        said = await api.methods(nodes[3])["status"]({})
        assert (said["halt"], said["signs_nothing"]) == ("off", None)
        assert said["markets"][0]["no_ticks"] is None
        assert said["markets"][0]["lag_rounds"] >= 0
        assert said["markets"][0]["epoch_age_ms"] >= 0
        await nodes[3].withdrawal.halt()
        said = await api.methods(nodes[3])["status"]({})
        assert said["halt"] == "on"
        assert "orrange resume" in said["signs_nothing"]
        assert "orrange resume" in said["markets"][0]["no_ticks"]
        own = (RecordKind.TICK, MARKET.id, parties[3].witness.address)
        for _ in range(2):  # one that is signed already may still become durable
            last = await parties[3].store.own_position(*own)
            epoch = market_of(nodes[0]).replica.epoch
            await until(lambda epoch=epoch: market_of(nodes[0]).replica.epoch > epoch + 2, nodes)
        assert await parties[3].store.own_position(*own) == last


async def test_a_node_that_stops_takes_its_orders_back_if_told_to() -> None:
    parties = parties_of(4)
    trader = Party(9)
    genesis = genesis_of(parties, traders=[*parties, trader])
    network = MemoryNetwork()
    async with cluster(parties, genesis, network) as nodes:
        async with one_more(trader, genesis, network, nodes, cancel_on=["shutdown"]) as node:
            await place(node)
            await until(lambda: orders(nodes[0]) == 1, nodes)
        await until(lambda: orders(nodes[0]) == 0, nodes)


async def test_a_node_that_is_cut_off_cancels_and_is_heard_when_it_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orrange_p2p.daemon.withdrawal.ALONE_S", 0.5)
    parties = parties_of(4)
    trader = Party(9)
    genesis = genesis_of(parties, traders=[*parties, trader])
    network = MemoryNetwork()
    async with (
        cluster(parties, genesis, network) as nodes,
        one_more(trader, genesis, network, nodes, cancel_on=["disconnect"]) as node,
    ):
        await place(node)
        await until(lambda: orders(nodes[0]) == 1, nodes)
        network.partition([node.transport], [other.transport for other in nodes])
        for other in nodes:
            await node.transport.disconnect(other.transport.peer_id)
        await until(lambda: author_of(node).next_seq > 1, nodes)
        network.heal()
        await until(lambda: orders(nodes[0]) == 0, nodes)


async def test_a_restored_node_that_is_halted_cancels_as_soon_as_it_may() -> None:
    parties = parties_of(4)
    trader = Party(9)
    genesis = genesis_of(parties, traders=[*parties, trader])
    network = MemoryNetwork()
    async with cluster(parties, genesis, network) as nodes:
        async with one_more(trader, genesis, network, nodes) as node:
            await place(node)
            await until(lambda: orders(nodes[0]) == 1, nodes)
        await mark_restored(trader.store)
        async with one_more(trader, genesis, network, ()) as node:
            assert await node.withdrawal.halt() == (False, False)
            for other in nodes:
                await node.connect(other.transport.addresses[0])
            await until(lambda: orders(nodes[0]) == 0, nodes)
            await until(lambda: node.signing.halt is HaltState.ON, nodes)


async def test_matches_are_not_accepted_while_halted_and_are_when_resumed_in_time() -> None:
    parties = parties_of(4)
    genesis = genesis_of(parties, accept_deadline_epochs=500)
    async with cluster(parties, genesis, MemoryNetwork()) as nodes:
        await place(nodes[0], lots=5)
        await until(lambda: orders(nodes[1]) == 1, nodes)
        await nodes[0].signing.set_halt(HaltState.ON)
        await place(nodes[1], side=1, lots=5)
        await until(lambda: author_of(nodes[0]).unaccepted == 1, nodes)
        assert market_of(nodes[0]).totals["trades"] == 0
        await nodes[0].withdrawal.resume()
        await until(lambda: market_of(nodes[0]).totals["trades"] == 1, nodes)
        assert author_of(nodes[0]).unaccepted == 0
