"""Catching up among peers of which one never answers and one lies."""

from __future__ import annotations

import pytest
import trio
from test_node import MARKET, Party, cluster, common_roots, genesis_of, market_of, trade, until

from orrange_p2p.core import sync
from orrange_p2p.core.frames import Frame
from orrange_p2p.core.ids import PeerId
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.p2p.memory import MemoryNetwork


async def test_a_slow_and_a_lying_peer_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orrange_p2p.daemon.repair.REQUEST_TIMEOUT_S", 0.3)
    monkeypatch.setattr("orrange_p2p.daemon.joining.REQUEST_TIMEOUT_S", 0.3)
    parties = [Party(n) for n in range(4)]
    genesis = genesis_of(parties)
    network = MemoryNetwork()
    asked: list[PeerId] = []

    async def never(peer: PeerId, payload: bytes) -> bytes:
        if not isinstance(sync.decode_request(payload), sync.CheckpointWanted):
            asked.append(peer)
        await trio.sleep_forever()
        raise AssertionError

    async def lie(peer: PeerId, payload: bytes) -> bytes:
        return sync.Reply(Frame((), (b"\x80",)), more=False).encode()

    async with (
        cluster(parties, genesis, network) as nodes,
        network.open_transport("a-slow-one") as slow,
        network.open_transport("b-liar") as liar,
        network.open_transport("late") as transport,
    ):
        slow.serve(sync.PROTOCOL, never)
        liar.serve(sync.PROTOCOL, lie)
        await trade(nodes)
        await until(lambda: market_of(nodes[0]).replica.clock.highest_quorum_round > 90, nodes)
        late = Node(genesis, Party(9).store, transport, SystemClock())
        async with running(late):
            for other in (slow, liar):
                await late.connect(other.addresses[0])
            counters = late.counters
            await until(lambda: counters["sync_slow"] > 0 < counters["sync_shunned"], nodes)
            so_far = len(asked)
            for node in nodes:
                await late.connect(node.transport.addresses[0])
            await until(lambda: market_of(late).totals["trades"] == 1, nodes)
            replica = market_of(late).replica
            await until(lambda: replica.epoch >= market_of(nodes[0]).replica.epoch - 3, nodes)
            assert len(common_roots([*nodes, late])) == 1
            repair, _ = late._served[MARKET.id]
            assert not {"a-slow-one", "b-liar"} & set(repair.peers())
            assert len(asked) <= so_far + 2  # those that were on their way
