"""Two processes, real sockets between them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio
from p2p_attacks import KILLERS, TOPIC, attacker
from p2p_processes import process, read_line, until
from p2p_victim import check_alive, victim

from orrange_p2p.core.errors import DeadlineError, UnreachableError
from orrange_p2p.p2p.limits import Limits


async def test_gossip_and_requests_both_ways() -> None:
    async with process("p2p_node.py", "echo") as (_, address), victim() as (transport, heard):
        peer = await transport.dial(address)
        await until(lambda: TOPIC in transport.peers()[peer].topics)
        for i in range(100):
            await transport.publish(TOPIC, b"%d" % i)
        await until(lambda: len(heard) == 100)
        assert sorted(heard) == sorted(b"heard %d" % i for i in range(100))
        megabyte = bytes(1024 * 1024)
        assert await transport.request(peer, "/orrange/echo/1", megabyte, timeout_s=10) == megabyte


async def test_a_burst_arrives_and_none_is_lost() -> None:
    async with process("p2p_node.py", "count", "3000") as (node, address), victim() as (ours, _):
        peer = await ours.dial(address)
        await until(lambda: TOPIC in ours.peers()[peer].topics)
        for i in range(3000):
            await ours.publish(TOPIC, i.to_bytes(2, "big") * 1024)
        assert node.stdout is not None
        with trio.fail_after(60):
            assert int(await read_line(node.stdout)) > 100
        assert not ours.counters().get("gossip_outbound_dropped")


async def test_a_peer_that_is_killed_is_gone() -> None:
    async with process("p2p_node.py", "echo") as (node, address), victim() as (transport, heard):
        peer = await transport.dial(address)
        await until(lambda: TOPIC in transport.peers()[peer].topics)
        node.kill()
        await until(lambda: not transport.peers())
        with pytest.raises(UnreachableError):
            await transport.request(peer, "/orrange/echo/1", b"", timeout_s=5)
        await check_alive(transport, heard)


async def test_an_attacked_node_prints_nothing(tmp_path: Path) -> None:
    noise = tmp_path / "stderr"
    with noise.open("wb") as file:
        async with process("p2p_node.py", "echo", stderr=file.fileno()) as (_, address):
            for attack in KILLERS:
                async with attacker(address) as (running, target):
                    await attack(running, target)
                    await trio.sleep(0.05)
            port = int(address.split("/")[4])
            for _ in range(5):
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await stream.send_all(bytes(1000))
            async with victim() as (transport, heard):
                peer = await transport.dial(address)
                await until(lambda: TOPIC in transport.peers()[peer].topics)
                await transport.publish(TOPIC, b"still there")
                await until(lambda: heard)
    assert noise.read_bytes() == b""


async def test_a_peer_that_stops_reading_costs_a_bounded_queue() -> None:
    limits = Limits(outbound_messages=200, publish_wait_s=0.01)
    async with (
        process("p2p_node.py", "echo") as (node, address),
        victim(limits) as (transport, heard),
    ):
        peer = await transport.dial(address)
        await until(lambda: TOPIC in transport.peers()[peer].topics)
        node.send_signal(signal.SIGSTOP)
        try:
            payload = bytes(100_000)
            with trio.fail_after(20):
                while not transport.counters().get("gossip_outbound_dropped"):
                    await transport.publish(TOPIC, payload)
            with pytest.raises((DeadlineError, UnreachableError)), trio.fail_after(5):
                await transport.request(peer, "/orrange/echo/1", b"", timeout_s=0.2)
            await check_alive(transport, heard)
        finally:
            node.send_signal(signal.SIGCONT)
