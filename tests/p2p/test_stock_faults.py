"""Each named fix beside the stock fault it ends: the same attack on both.

The stock node runs in a process of its own, so that its death can be seen.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from multiaddr import Multiaddr
from p2p_attacks import (
    KILLERS,
    TOPIC,
    Attack,
    attacker,
    prune_with_exchange,
    tiny_messages,
)
from p2p_processes import process, read_line, until
from p2p_stock_node import BYTEWISE, NEVER_READS, never_reads, read_bytewise
from p2p_victim import check_alive, victim

from orrange_p2p.core.errors import UnreachableError
from orrange_p2p.p2p.hardening import muxer
from orrange_p2p.p2p.host import run_host
from orrange_p2p.p2p.limits import Limits


@pytest.mark.parametrize("attack", KILLERS, ids=lambda a: a.__name__)
async def test_one_packet_ends_a_stock_node(attack: Attack) -> None:
    async with (
        process("p2p_stock_node.py", "serve") as (stock, address),
        attacker(address) as (running, target),
    ):
        await attack(running, target)
        with trio.fail_after(10):
            assert await stock.wait() != 0


@pytest.mark.parametrize("attack", KILLERS, ids=lambda a: a.__name__)
async def test_the_same_packet_costs_only_its_sender(attack: Attack) -> None:
    async with victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            await attack(running, target)
            await check_alive(transport, heard)
        assert not transport.counters().get("libp2p_task_failures")


async def test_stock_accepts_no_one_after_enough_have_come_and_gone() -> None:
    async with process("p2p_stock_node.py", "serve", "3") as (_, address):
        for _ in range(3):
            async with attacker(address):
                pass
        async with run_host(b"m" * 32, [], Limits(), Counter()) as running:
            target, _, name = address.rpartition("/p2p/")
            dial = running.swarm._dial_addr_single_attempt
            with pytest.raises(SwarmException), trio.fail_after(10):
                await dial(Multiaddr(target), ID.from_base58(name))


async def test_inbound_slots_come_back() -> None:
    async with victim(Limits(connections=3)) as (transport, heard):
        for _ in range(10):
            await until(lambda: not transport.peers())
            async with attacker(transport.addresses[0]):
                pass
        await until(lambda: not transport.peers())
        await check_alive(transport, heard)


async def test_stock_loses_a_burst() -> None:
    """The queue of 32; ours is case 8 of the conformance suite."""
    async with process("p2p_stock_node.py", "burst", "1000") as (_, arrived):
        assert 0 < int(arrived) < 100


async def trap() -> tuple[trio.SocketListener, int]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    return listeners[0], listeners[0].socket.getsockname()[1]


async def test_stock_dials_where_an_attacker_says() -> None:
    listener, port = await trap()
    async with (
        listener,
        process("p2p_stock_node.py", "serve") as (_, address),
        attacker(address) as (running, target),
    ):
        await prune_with_exchange(running, target, port)
        with trio.fail_after(10):
            async with await listener.accept():
                pass


async def test_peer_exchange_is_ignored() -> None:
    listener, port = await trap()
    async with listener, victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            await prune_with_exchange(running, target, port)
            await until(lambda: transport.counters().get("gossip_peer_exchange_ignored"))
            await check_alive(transport, heard)
        with trio.move_on_after(0.2) as scope:
            await listener.accept()
        assert scope.cancelled_caught


async def test_tiny_messages_do_not_freeze_the_loop() -> None:
    """Stock: 9 s for one such RPC, of which we send twenty, and no ban in the way."""
    async with victim(Limits(rejects=10**9)) as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            longest = 0.0
            await tiny_messages(running, target, 20)
            with trio.fail_after(20):
                while transport.counters().get("gossip_bad_signature", 0) < 5000:
                    before = trio.current_time()
                    await trio.sleep(0.01)
                    longest = max(longest, trio.current_time() - before)
            assert longest < 2
        await check_alive(transport, heard)


# --- the muxer ---


async def flood_past_the_window(address: str, size: int) -> None:
    """Send ``size`` bytes on a stream that is not read, as if its window were endless."""
    async with attacker(address) as (running, target):
        stream: Any = await running.host.new_stream(target, [TProtocol(NEVER_READS)])
        stream.muxed_stream.send_window = 1 << 30
        with suppress(StreamError), trio.fail_after(20):
            await stream.write(bytes(size))
            connection: Any = running.swarm.get_connections(target)[0].muxed_conn
            await until(lambda: not connection._out_bytes)


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
async def test_stock_keeps_what_was_sent_past_the_window() -> None:
    async with process("p2p_stock_node.py", "serve") as (stock, address):
        before = resident_bytes(stock.pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood_past_the_window, address, 64 << 20)
            await until(lambda: resident_bytes(stock.pid) - before > 48 << 20, timeout_s=20)
            nursery.cancel_scope.cancel()


async def test_a_byte_past_the_window_ends_the_connection() -> None:
    async with victim() as (transport, heard):
        transport._running.host.set_stream_handler(TProtocol(NEVER_READS), never_reads)
        await flood_past_the_window(transport.addresses[0], 64 << 20)
        await until(lambda: not transport.peers())
        assert transport.counters()["yamux_violations"] == 1
        await check_alive(transport, heard)


async def credits_for(address: str, size: int) -> int:
    """How often a reader that takes byte by byte tells us of room while we send ``size``."""
    told = 0
    async with attacker(address) as (running, target):
        stream: Any = await running.host.new_stream(target, [TProtocol(BYTEWISE)])
        credited = stream.muxed_stream.credited

        def count(room: int) -> None:
            nonlocal told
            told += 1
            credited(room)

        stream.muxed_stream.credited = count
        await stream.write(bytes(size))
        await stream.close_write()
        with suppress(StreamError), trio.fail_after(10):
            await stream.read(1)
    return told


async def test_stock_answers_each_byte() -> None:
    async with process("p2p_stock_node.py", "serve") as (_, address):
        assert await credits_for(address, 1000) >= 1000


async def test_room_is_told_in_halves_of_the_window() -> None:
    async with victim() as (transport, _):
        transport._running.host.set_stream_handler(TProtocol(BYTEWISE), read_bytewise)
        assert await credits_for(transport.addresses[0], 1000) <= 1  # for opening the stream


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
async def test_a_peer_that_answers_no_ping_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock ignores a missing pong (yamux.py:703) and waits for TCP, which takes minutes."""
    monkeypatch.setattr(muxer, "PING_INTERVAL_S", 0.1)
    monkeypatch.setattr(muxer, "PING_TIMEOUT_S", 1.0)
    async with process("p2p_node.py", "echo") as (node, address), victim() as (transport, heard):
        await transport.dial(address)
        node.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: not transport.peers())
        finally:
            node.send_signal(signal.SIGCONT)
        await check_alive(transport, heard)


# --- the router, the sockets, the threads ---


async def test_stock_remembers_topics_that_nobody_has() -> None:
    """Ours is in ``test_control_messages_leave_no_state_behind``."""
    router = GossipSub([TProtocol("/meshsub/1.1.0")], 6, 4, 12)
    peer = ID(b"p" * 34)
    for number in range(500):
        await router.handle_prune(rpc_pb2.ControlPrune(topicID=f"nothing {number}"), peer)
    assert len(router.back_off) == len(router.graft_flood_tracking[peer]) == 500


async def test_stock_shares_its_port_with_a_second_node() -> None:
    """Ours tells: ``test_a_taken_port_is_told``."""
    one, two = new_host(), new_host()
    async with one.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        taken = one.get_addrs()[0].decapsulate(Multiaddr(f"/p2p/{one.get_id()}"))
        async with two.run([taken]):
            assert two.get_addrs()[0].decapsulate(Multiaddr(f"/p2p/{two.get_id()}")) == taken


async def test_stock_leaves_a_thread_for_each_pubsub() -> None:
    """Ours does not: ``test_nothing_is_left_open``."""
    before = threading.active_count()
    pubsub = Pubsub(new_host(), GossipSub([TProtocol("/meshsub/1.1.0")], 6, 4, 12))
    del pubsub
    assert threading.active_count() > before


async def closed_port() -> int:
    listener, port = await trap()
    await listener.aclose()
    return port


async def test_stock_refuses_to_dial_after_one_failure() -> None:
    """For a minute, whether the peer is back or not."""
    async with process("p2p_stock_node.py", "serve") as (_, address):
        host = new_host()
        async with host.run([]):
            target, _, name = address.rpartition("/p2p/")
            peer, store = ID.from_base58(name), host.get_peerstore()
            store.add_addrs(peer, [Multiaddr(f"/ip4/127.0.0.1/tcp/{await closed_port()}")], 60)
            with pytest.raises(SwarmException):
                await host.get_network().dial_peer(peer)
            store.clear_addrs(peer)
            store.add_addrs(peer, [Multiaddr(target)], 60)
            with pytest.raises(SwarmException, match="recently failed"):
                await host.get_network().dial_peer(peer)


async def test_a_failed_dial_blocks_nothing() -> None:
    async with (
        process("p2p_stock_node.py", "serve") as (_, address),
        victim() as (transport, _),
    ):
        _, _, name = address.rpartition("/p2p/")
        with pytest.raises(UnreachableError):
            await transport.dial(f"/ip4/127.0.0.1/tcp/{await closed_port()}/p2p/{name}")
        assert await transport.dial(address) == name


async def test_stock_speaks_with_us() -> None:
    """The fixes leave the wire as it was."""
    async with process("p2p_stock_node.py", "talk") as (stock, address):
        assert stock.stdout is not None
        async with victim() as (transport, heard):
            peer = await transport.dial(address)
            await until(lambda: TOPIC in transport.peers()[peer].topics)
            await transport.publish(TOPIC, b"from us")
            with trio.fail_after(10):
                assert await read_line(stock.stdout) == "from us"
            await until(lambda: b"from stock" in heard)
