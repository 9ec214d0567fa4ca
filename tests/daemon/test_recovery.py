"""A node whose state, or whose disk, is not what it should be finds its way back by itself."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from test_joining import Killed, Net
from test_node import (
    MARKET,
    Party,
    cluster,
    common_roots,
    genesis_of,
    market_of,
    trade,
    until,
)

from orrange_p2p.core import ticks
from orrange_p2p.core.frames import Frame
from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, PeerId, Round, TimeMs
from orrange_p2p.core.pacemaker import Pacemaker
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.ticks import Applied, TickBody
from orrange_p2p.daemon.market import MAX_TICKS_AHEAD
from orrange_p2p.daemon.node import Node
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports import EpochRecord, OwnPosition, RecordKind
from orrange_p2p.store.memory import MemoryStore

pytestmark = pytest.mark.usefixtures("quick_checkpoints")


def live_orders(node: Node) -> int:
    return market_of(node).replica.fold.live_order_count


async def test_a_fault_of_memory_is_healed_from_the_own_disk() -> None:
    async with AsyncExitStack() as stack:
        net = Net(stack)
        await net.start(sabotaged=2, is_chronic=False)
        await net.place(8)
        sick = net.nodes[2]
        await until(lambda: sick.counters["recomputed"] == 1, net.nodes)
        await net.place(4)
        await until(lambda: live_orders(sick) == 120, net.nodes)
        assert (sick.counters["halts"], sick.counters["joins"]) == (1, 0)
        assert market_of(sick).replica.halt is None
        assert len(common_roots(net.nodes)) == 1
        # Totals count what is durable, a moment after it is in the book; and count it once.
        await until(lambda: market_of(sick).totals["orders"] >= 120, net.nodes)
        assert market_of(sick).totals["orders"] == 120
        # What was noted of the wrong state is gone, from the disk as well.
        await until(lambda: market_of(sick).replica.epoch > 16, net.nodes)
        noted = [await party.store.epochs(MARKET.id, Epoch(0)) for party in net.parties]
        roots = [{record.epoch: record.root for record in records} for records in noted]
        common = set.intersection(*(set(each) for each in roots))
        assert all(len({each[epoch] for each in roots}) == 1 for epoch in common)


async def test_a_damaged_checkpoint_is_dropped_and_taken_from_others() -> None:
    parties = [Party(n) for n in range(4)]
    async with AsyncExitStack() as stack:
        net = Net(stack)
        net.parties, net.genesis = parties, genesis_of(parties)
        await net.start()
        await net.place(8)
        await net.until_pruned()
    parts = parties[0].store._parts[MARKET.id]
    name = parties[0].store._checkpoints[MARKET.id].parts[0]
    parts[name] = bytes(byte ^ 1 for byte in parts[name])
    async with AsyncExitStack() as stack:
        again = Net(stack)
        again.parties, again.genesis = parties, net.genesis
        await again.start()
        damaged = again.nodes[0]
        assert damaged.counters["checkpoints_damaged"] == 1
        await until(lambda: damaged.counters["joins"] == 1, again.nodes)
        await again.place(4)
        await until(lambda: live_orders(damaged) == 120, again.nodes)
        assert len(common_roots(again.nodes)) == 1
        assert damaged.counters["evidence"] == 0  # it signed nothing twice


async def test_a_damaged_checkpoint_is_computed_anew_where_all_records_are_there() -> None:
    parties = [Party(n) for n in range(4)]
    async with AsyncExitStack() as stack:
        net = Net(stack)
        net.parties, net.genesis = parties, genesis_of(parties)
        await net.start()
        await net.place(8)
        first = parties[0].store
        while await first.checkpoint(MARKET.id) is None:
            await market_of(net.nodes[0]).changed.wait()
        records = dict(first._records)
    first._records = {**records, **first._records}
    first._checkpoints[MARKET.id] = first._checkpoints[MARKET.id]._replace(encoded=b"\x80")
    async with cluster(parties[:1], net.genesis, MemoryNetwork()) as (alone,):
        assert alone.counters["checkpoints_damaged"] == 1
        assert live_orders(alone) == 80


async def test_a_damaged_piece_left_by_a_join_is_fetched_anew() -> None:
    async with AsyncExitStack() as stack:
        net = Net(stack)
        await net.start()
        await net.place(8)
        await net.until_pruned()
        party = Party(9)
        checkpoint = await net.parties[0].store.checkpoint(MARKET.id)
        assert checkpoint is not None
        await party.store.keep_parts(MARKET.id, dict.fromkeys(checkpoint.parts, b"\x80"))
        late = await net.add("late", party)
        await until(lambda: late.counters["joins"] == 1, net.nodes)
        assert live_orders(late) == 80


class DiesBeforeNoting(MemoryStore):
    """The process ends between an epoch with a match and its note on disk."""

    is_armed = False

    async def record_epoch(self, market: MarketId, record: EpochRecord) -> None:
        if self.is_armed:
            raise Killed
        await super().record_epoch(market, record)


async def test_an_epoch_that_was_not_noted_before_a_crash_is_noted_after_it() -> None:
    parties = [Party(n) for n in range(4)]
    genesis = genesis_of(parties)
    store = parties[1].store = DiesBeforeNoting()
    died = False
    try:
        async with cluster(parties, genesis, MemoryNetwork()) as nodes:
            dying = market_of(nodes[1])

            def arm(_: object) -> None:
                store.is_armed = bool(dying.replica.fold.matches)

            dying._after_apply = arm
            await trade(nodes)
            await trio.sleep_forever()
    except* Killed:
        died = True
    assert died
    store.is_armed = False
    before = await store.latest_epoch(MARKET.id)
    async with cluster(parties, genesis, MemoryNetwork()) as nodes:
        noted = [record.epoch for record in await store.epochs(MARKET.id, Epoch(0))]
        assert noted == list(range(1, len(noted) + 1))
        assert before is None or noted[-1] > before.epoch
        await until(lambda: all(market_of(n).totals["trades"] == 1 for n in nodes), nodes)


class Hesitating(MemoryStore):
    """Its answer to where a key stands takes until somebody lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = trio.Event(), trio.Event()

    async def own_position(
        self, kind: RecordKind, market: MarketId, signer: Address
    ) -> OwnPosition | None:
        position = await super().own_position(kind, market, signer)
        if kind is RecordKind.TICK:
            self.asked.set()
            await self.go.wait()
        return position


async def test_a_witness_never_signs_from_a_state_that_was_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    party = Party(0)
    store = party.store = Hesitating()
    genesis = genesis_of([party])
    asked: list[Replica] = []
    make = Replica.pacemaker

    def noted(self: Replica, witness: Address, signed: tuple[Era, int] | None) -> Pacemaker:
        asked.append(self)
        return make(self, witness, signed)

    monkeypatch.setattr(Replica, "pacemaker", noted)
    async with cluster([party], genesis, MemoryNetwork()) as (node,):
        market = market_of(node)
        await store.asked.wait()
        stale = market.replica
        await market.adopt(Replica(genesis, MARKET.id))
        store.go.set()
        await until(lambda: market.replica.epoch > 3, [node])
        assert asked and stale not in asked


async def test_ticks_too_far_ahead_to_be_kept_still_tell_that_we_are_behind() -> None:
    parties = [Party(n) for n in range(4)]
    genesis = genesis_of(parties)
    async with cluster(parties[:1], genesis, MemoryNetwork()) as (node,):
        market = market_of(node)
        round = Round(MAX_TICKS_AHEAD + 100)
        for party in parties[1:3]:
            reveal = party.chain.reveal(round)
            nothing = Applied(Epoch(0), bytes(32))
            body = TickBody((Digest(bytes(32)),), (), TimeMs(1), nothing, reveal)
            draft = ticks.draft(
                genesis.separator, MARKET.id, market.replica.era, round, party.witness.address, body
            )
            tick = draft.signed(party.witness.sign(draft.digest))
            assert await market.intake.admit(PeerId("ahead"), Frame((), (tick.encoded,))) == 0
        repair, _ = node._served[MARKET.id]
        assert repair.is_behind()
