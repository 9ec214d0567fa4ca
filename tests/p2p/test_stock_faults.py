"""Each named fix beside the stock fault it ends: the same attack on both.

The stock node runs in a process of its own, so that its death can be seen.
"""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
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
from p2p_victim import check_alive, victim

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
