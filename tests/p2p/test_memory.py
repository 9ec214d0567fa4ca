"""What the network in memory can do to messages, and that one seed is one history."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing
from p2p_processes import until

from orrange_p2p.core.errors import DeadlineError, UnreachableError
from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports import Verdict

TOPIC = "/orrange/test/1"


async def hear_from_one(network: MemoryNetwork, messages: int) -> tuple[list[int], Counter[str]]:
    """The numbers a second transport hears of those that the first publishes."""
    heard: list[int] = []

    async def hear(peer: PeerId, payload: bytes) -> Verdict:
        heard.append(int(payload))
        return Verdict.ACCEPT

    async with network.open_transport() as one, network.open_transport() as other:
        await other.subscribe(TOPIC, hear)
        await one.dial(other.addresses[0])
        for i in range(messages):
            await one.publish(TOPIC, b"%d" % i)
        await trio.testing.wait_all_tasks_blocked()
        return heard, Counter(one.counters()) + Counter(other.counters())


async def test_all_arrive_in_order_by_default() -> None:
    heard, _ = await hear_from_one(MemoryNetwork(), 100)
    assert heard == list(range(100))


async def test_loss_is_counted() -> None:
    heard, counters = await hear_from_one(MemoryNetwork(seed=1, loss=0.3), 1000)
    assert 600 < len(heard) < 800
    assert len(heard) + counters["gossip_lost"] == 1000


async def test_copies_reach_the_handler_once() -> None:
    heard, counters = await hear_from_one(MemoryNetwork(seed=1, duplication=0.5), 1000)
    assert sorted(heard) == list(range(1000))
    assert 400 < counters["gossip_duplicates"] < 600


async def test_reordering_loses_none() -> None:
    heard, _ = await hear_from_one(MemoryNetwork(seed=1, reordering=20), 200)
    assert sorted(heard) == list(range(200))
    assert heard != list(range(200))


async def test_a_partition_separates_and_heals() -> None:
    heard: Counter[str] = Counter()

    async def echo(peer: PeerId, request: bytes) -> bytes:
        return request

    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        a, b, c = [await stack.enter_async_context(network.open_transport(name)) for name in "abc"]
        for transport in (a, b, c):

            async def hear(peer: PeerId, payload: bytes, name: str = transport.peer_id) -> Verdict:
                heard[name] += 1
                return Verdict.ACCEPT

            await transport.subscribe(TOPIC, hear)
            transport.serve("/orrange/echo/1", echo)
        for one, other in ((a, b), (b, c), (a, c)):
            await one.dial(other.addresses[0])
        network.partition([a, b], [c])
        await a.publish(TOPIC, b"")
        await trio.testing.wait_all_tasks_blocked()
        assert heard == {"b": 1}
        with pytest.raises(DeadlineError):
            await a.request(c.peer_id, "/orrange/echo/1", b"", timeout_s=0.05)
        with pytest.raises(UnreachableError):
            await a.dial(c.addresses[0])
        network.heal()
        await a.publish(TOPIC, b"")
        await until(lambda: heard == {"b": 2, "c": 1})
        assert await a.request(c.peer_id, "/orrange/echo/1", b"x", timeout_s=5) == b"x"
