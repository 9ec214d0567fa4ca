"""The faults of stock gossip that lose, repeat or reorder messages, each beside our end of it.

Those that end a process or fill its memory are in ``test_stock_faults``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pkgutil import resolve_name
from typing import Any

import pytest
import trio
import trio.testing
from libp2p import new_host
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub, get_content_addressed_msg_id
from libp2p.tools.anyio_service import Service, TrioManager
from libp2p.tools.anyio_service.trio_tasks import FunctionTask
from p2p_attacks import MESHSUB, TOPIC, attacker, say, signed_message, tiny_messages
from p2p_processes import process, read_line, until
from p2p_victim import victim

from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.hardening.queues import frame_rpc
from orrange_p2p.p2p.hardening.router import HardGossipSub
from orrange_p2p.p2p.hardening.services import GuardedManager
from orrange_p2p.p2p.libp2p_transport import Libp2pTransport, open_transport
from orrange_p2p.p2p.limits import Limits
from orrange_p2p.ports import Verdict

PEER = ID(b"\x00\x24\x08\x01\x12\x20" + b"p" * 32)


@contextmanager
def stock(**options: Any) -> Iterator[tuple[GossipSub, Pubsub]]:
    """Stock's router and pubsub with their defaults, subscribed to ``TOPIC``; no task runs."""
    router = GossipSub([TProtocol(MESHSUB)], 6, 4, 12)
    pubsub = Pubsub(new_host(), router, **options)
    router.mesh[TOPIC] = set()
    try:
        yield router, pubsub
    finally:
        pubsub.seen_messages.stop()  # a thread of its own, which nobody else ends


def router_of(transport: Libp2pTransport) -> HardGossipSub:
    router = transport._running.pubsub.router
    assert isinstance(router, HardGossipSub)
    return router


@asynccontextmanager
async def friend(transport: Libp2pTransport) -> AsyncIterator[tuple[ID, list[bytes]]]:
    """A node of ours connected to ``transport``, and what it hears."""
    heard: list[bytes] = []

    async def hear(peer: PeerId, payload: bytes) -> Verdict:
        heard.append(payload)
        return Verdict.ACCEPT

    async with open_transport(secret=b"f" * 32, listen=[]) as other:
        await other.subscribe(TOPIC, hear)
        await other.dial(transport.addresses[0])
        mesh = router_of(transport).mesh
        await until(lambda: other._running.peer_id in mesh[TOPIC])
        yield other._running.peer_id, heard


# --- losses without loss in the network ---


async def test_stock_tells_a_peer_in_back_off_nothing() -> None:
    """One PRUNE takes it out of the mesh and of gossip, for 60 s; the messages live for 5 beats."""
    with stock() as (router, pubsub):
        router.add_peer(PEER, TProtocol(MESHSUB))
        pubsub.peer_topics[TOPIC] = {PEER}
        made = signed_message(b"o" * 32, 1, b"missed")
        router.mcache.put(made)
        assert router.gossip_heartbeat()[PEER] == {TOPIC: [made.from_id + made.seqno]}
        await router.handle_prune(rpc_pb2.ControlPrune(topicID=TOPIC), PEER)
        assert router.gossip_heartbeat() == {}


async def test_a_peer_in_back_off_hears_by_gossip() -> None:
    async with victim() as (transport, _), friend(transport) as (peer, heard):
        router = router_of(transport)
        router._prune(TOPIC, [peer])
        made = signed_message(b"o" * 32, 1, b"missed")
        frame = frame_rpc(rpc_pb2.RPC(publish=[made]))
        router.recent.put(made.from_id + made.seqno, TOPIC, frame)
        router.beat()
        assert router._check_back_off(peer, TOPIC)
        await until(lambda: heard == [b"missed"])


async def test_stock_sends_ten_of_a_burst_of_its_own() -> None:
    """The spam limit, of ten a second, counts what the node itself publishes."""
    with stock(strict_signing=True) as (router, pubsub):
        for number in range(50):
            await pubsub.publish(TOPIC, b"%d" % number)
        assert len(router.mcache.window(TOPIC)) == 10


async def test_a_burst_of_our_own_is_sent() -> None:
    async with victim() as (transport, _), friend(transport) as (_, heard):
        for number in range(50):
            await transport.publish(TOPIC, b"%d" % number)
        await until(lambda: len(heard) == 50)


async def beats_in_two_minutes(router: GossipSub, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the mesh is mended, by a clock that jumps."""
    beats = 0

    def count(*arguments: Any) -> None:
        nonlocal beats
        beats += 1

    shift = "recent" if isinstance(router, HardGossipSub) else "mcache"
    monkeypatch.setattr(getattr(router, shift), "shift", count)
    with trio.move_on_after(119):
        await router.heartbeat()
    return beats


async def test_stock_mends_its_mesh_every_two_minutes(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stock() as (router, _):
        assert await beats_in_two_minutes(router, monkeypatch) == 1


async def test_the_mesh_is_mended_every_second(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = HardGossipSub(Limits(), Counter())
    assert await beats_in_two_minutes(router, monkeypatch) == 119


# --- ids ---


async def test_stock_gossips_other_ids_than_it_remembers() -> None:
    """With an id of the application's own: whoever is told asks for what it has already."""
    with stock(msg_id_constructor=get_content_addressed_msg_id) as (router, pubsub):
        made = signed_message(b"o" * 32, 1, b"x")
        router.mcache.put(made)
        assert router.mcache.window(TOPIC) != [pubsub.get_message_id(made)]


async def test_the_ids_we_gossip_are_those_we_remember() -> None:
    async with victim() as (transport, _):
        await transport.publish(TOPIC, b"x")
        (message_id,) = router_of(transport).recent.window(TOPIC, 10)
        assert transport._running.pubsub.seen_messages.has(message_id)


# --- work for nothing ---


def counted(monkeypatch: pytest.MonkeyPatch, place: str) -> list[Any]:
    """The messages that the check of signatures at ``place`` is asked about from now on."""
    asked: list[Any] = []
    verify: Any = resolve_name(place)

    def check(message: Any) -> bool:
        asked.append(message)
        return bool(verify(message))

    monkeypatch.setattr(place, check)
    return asked


async def test_stock_verifies_its_own_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = counted(monkeypatch, "libp2p.pubsub.pubsub.signature_validator")
    with stock(strict_signing=True) as (_, pubsub):
        await pubsub.publish(TOPIC, b"x")
    assert len(verified) == 1


async def test_our_own_signature_is_not_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = counted(monkeypatch, "orrange_p2p.p2p.gossip.verify_message")
    async with victim() as (transport, heard), friend(transport) as (_, told):
        await transport.publish(TOPIC, b"x")
        await until(lambda: told == [b"x"])
        assert len(verified) == 1  # by the friend, which lives in this process too
        assert heard == []


async def first_rpc(address: str) -> rpc_pb2.RPC:
    """What a node says first to whoever connects."""
    said: list[rpc_pb2.RPC] = []

    async def listen(peer: ID, rpc: rpc_pb2.RPC) -> None:
        said.append(rpc)

    async with attacker(address) as (running, _):
        running.pubsub._on_rpc = listen
        await until(lambda: said)
    return said[0]


async def test_stock_signs_who_it_is_in_every_rpc() -> None:
    async with process("p2p_stock_node.py", "serve") as (_, address):
        hello = await first_rpc(address)
        assert len(hello.senderRecord) > 100 > hello.ByteSize() - len(hello.senderRecord)


async def test_who_we_are_the_connection_says() -> None:
    async with victim() as (transport, _):
        hello = await first_rpc(transport.addresses[0])
        assert [topic.topicid for topic in hello.subscriptions] == [TOPIC]
        assert not hello.HasField("senderRecord")


class Idle(Service):
    async def run(self) -> None:
        await self.manager.wait_finished()


async def searched(manager: Any, tasks: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many tasks are looked at while ``tasks`` are started."""
    looked = 0
    iterate = FunctionTask.iterate_tasks

    def counting(*roots: Any) -> Iterator[Any]:
        nonlocal looked
        for task in iterate(*roots):
            looked += 1
            yield task

    monkeypatch.setattr(FunctionTask, "iterate_tasks", counting)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(manager.run)
        await manager.wait_started()
        for _ in range(tasks):
            manager.run_task(trio.sleep_forever)
        found = looked
        nursery.cancel_scope.cancel()
    return found


async def test_stock_searches_all_tasks_for_each_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And starts one for each message."""
    assert await searched(TrioManager(Idle()), 200, monkeypatch) >= 200 * 199 // 2


async def test_a_new_task_searches_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await searched(GuardedManager(Idle(), Counter()), 200, monkeypatch) == 0


async def test_messages_start_no_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    run_task = GuardedManager.run_task

    def count(manager: GuardedManager, *rest: Any, **named: Any) -> None:
        started.append(rest)
        run_task(manager, *rest, **named)

    async with (
        victim(Limits(rejects=10**9)) as (transport, _),
        attacker(transport.addresses[0]) as (running, target),
    ):
        await until(lambda: transport.peers())
        monkeypatch.setattr(GuardedManager, "run_task", count)
        await tiny_messages(running, target, 1)
        await until(lambda: transport.counters().get("gossip_bad_signature", 0) >= 4000)
        assert len(started) < 20  # for streams and peers, of both sides


# --- order ---


def pair(number: int) -> rpc_pb2.RPC:
    """Two messages of one author in one RPC."""
    made = [signed_message(b"o" * 32, 2 * number + i, b"%d" % (2 * number + i)) for i in (0, 1)]
    return rpc_pb2.RPC(publish=made)


async def test_stock_swaps_messages_of_one_rpc() -> None:
    """Each is a task, and which of two runs first is the toss of a coin: one of 60 is enough."""
    async with (
        process("p2p_stock_node.py", "hear") as (node, address),
        attacker(address) as (running, target),
    ):
        stream = await say(running, target)
        assert node.stdout is not None
        with trio.fail_after(10):
            for number in range(60):
                await stream.write(frame_rpc(pair(number)))
                heard = [int(await read_line(node.stdout)) for _ in range(2)]
                if heard != sorted(heard):
                    return
    raise AssertionError("stock kept the order of 60 pairs")


async def test_the_order_of_a_peer_is_kept() -> None:
    async with (
        victim() as (transport, heard),
        attacker(transport.addresses[0]) as (running, target),
    ):
        await say(running, target, *map(pair, range(500)))
        await until(lambda: len(heard) == 1000)
        assert heard == [b"%d" % number for number in range(1000)]
