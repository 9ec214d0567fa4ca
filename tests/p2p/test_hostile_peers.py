"""Hostile peers against a live node: each ends with an honest newcomer who is heard."""

from __future__ import annotations

import os
import random
import struct
import sys
import threading
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.network.stream.exceptions import StreamError
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_uvarint
from p2p_attacks import (
    TOPIC,
    attacker,
    meshsub_stream,
    message,
    say,
    signed_message,
)
from p2p_processes import until
from p2p_victim import LISTEN, check_alive, victim

from orrange_p2p.core.errors import ConfigError, PortInUseError, UnreachableError
from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p import hardening
from orrange_p2p.p2p.hardening.network import _group
from orrange_p2p.p2p.hardening.queues import frame_rpc
from orrange_p2p.p2p.libp2p_transport import Libp2pTransport, open_transport
from orrange_p2p.p2p.limits import Limits
from orrange_p2p.ports import Verdict

ECHO = "/orrange/echo/1"


def port_of(transport: Libp2pTransport) -> int:
    return int(transport.addresses[0].split("/")[4])


async def echo(peer: PeerId, request: bytes) -> bytes:
    return request


# Before the handshake.


async def test_garbage_before_noise() -> None:
    dice = random.Random(7)
    beginnings = [
        b"",
        b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x13/multistream/1.0.0\n",
        b"\x13/multistream/1.0.0\n\x07/noise\n",
        b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff" + b"n" * 300,
        b"\x13/multistream/1.0.0\n\x0a/plaintext\n",
        b"\xff" * 100,
        *(dice.randbytes(dice.randint(1, 3000)) for _ in range(30)),
    ]
    async with victim() as (transport, heard):
        for beginning in beginnings:
            async with await trio.open_tcp_stream("127.0.0.1", port_of(transport)) as stream:
                try:
                    await stream.send_all(beginning)
                    with trio.move_on_after(0.01):
                        await stream.receive_some()
                except trio.BrokenResourceError:
                    pass
        await check_alive(transport, heard)
        assert not transport.counters().get("libp2p_task_failures")


async def test_silent_connections_are_limited_and_time_out() -> None:
    limits = Limits(connections_per_address=5, handshake_timeout_s=0.5)
    async with victim(limits) as (transport, heard), trio.open_nursery() as nursery:

        async def say_nothing() -> None:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port_of(transport)) as stream:
                    while await stream.receive_some():
                        pass
            except (trio.BrokenResourceError, OSError):
                pass

        for _ in range(100):
            nursery.start_soon(say_nothing)
        await until(lambda: transport.counters().get("handshakes_failed", 0) >= 5)
        assert transport.counters()["connections_refused"] > 50
        await check_alive(transport, heard)


@pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8 on loopback")
async def test_a_network_of_addresses_is_limited_as_a_whole() -> None:
    limits = Limits(connections_per_address=2, connections_per_group=5)
    async with victim(limits) as (transport, heard), AsyncExitStack() as stack:

        async def is_let_in(source: str) -> bool:
            stream = await stack.enter_async_context(
                await trio.open_tcp_stream("127.0.0.1", port_of(transport), local_address=source)
            )
            try:
                await stream.send_all(b"\x13/multistream/1.0.0\n")
                return bool(await stream.receive_some())
            except trio.BrokenResourceError:
                return False

        sources = [f"127.0.1.{number}" for number in (1, 1, 1, 2, 2, 3, 4)]
        assert [await is_let_in(source) for source in sources] == [
            *(True, True, False),  # the third of one address
            *(True, True, True, False),  # the sixth of 127.0.1.0/24
        ]
        assert await is_let_in("127.0.2.1")
        assert transport.counters()["connections_refused"] == 2
        await check_alive(transport, heard)
        await stack.aclose()
        swarm = transport._running.swarm
        await until(lambda: not swarm._by_address and not swarm._by_group)


@pytest.mark.parametrize(
    ("one", "other", "are_alike"),
    [
        ("203.0.113.1", "203.0.113.254", True),
        ("203.0.113.1", "203.0.112.1", False),
        ("2001:db8:0:ff00::1", "2001:db8:0:ffff::2", True),
        ("2001:db8:0:ff00::1", "2001:db8:0:fe00::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_which_addresses_are_one_group(one: str, other: str, are_alike: bool) -> None:
    assert (_group(one) == _group(other)) is are_alike


# On the pubsub stream.


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 20,
        encode_uvarint(1024 * 1024 + 1) + b"x",
        encode_uvarint(10) + b"\x0a\xff\xff\xff\x0f12345",
        encode_uvarint(500) + b"half a frame",
        encode_uvarint(3) + b"\x12\x01\xff",
    ],
    ids=["no length", "too long", "bad field", "half", "not text"],
)
async def test_bytes_that_are_no_rpc_cost_the_connection(data: bytes) -> None:
    async with victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            stream = await meshsub_stream(running, target)
            await stream.write(data)
            await stream.close_write()
            await until(lambda: not transport.peers())
        assert transport.counters()["gossip_malformed"] == 1
        await check_alive(transport, heard)


async def test_messages_that_are_no_messages_are_counted() -> None:
    wrong = [
        rpc_pb2.Message(),
        message(b"", 1),
        message(b"\x00" * 1000, 1),
        message(b"\xff\xff\xff", 1),
        rpc_pb2.Message(from_id=b"\x00\x01\x02", seqno=b"12345678", topicIDs=[TOPIC], key=b"k"),
        rpc_pb2.Message(from_id=b"i", seqno=b"12345678", topicIDs=[TOPIC, TOPIC]),
        rpc_pb2.Message(from_id=b"i", seqno=b"12345678", topicIDs=["no topic of ours"]),
        rpc_pb2.Message(from_id=b"i", seqno=b"123", topicIDs=[TOPIC]),
        signed_message(b"l" * 32, 1, bytes(950 * 1024)),
    ]
    async with victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            await say(running, target, *(rpc_pb2.RPC(publish=[m]) for m in wrong))
            names = ("malformed", "bad_signature", "foreign_topic", "oversized")
            await until(
                lambda: sum(transport.counters().get(f"gossip_{n}", 0) for n in names) == len(wrong)
            )
            assert not heard
            assert transport.peers()
        await check_alive(transport, heard)


async def test_a_forged_copy_does_not_silence_the_original() -> None:
    original = signed_message(b"o" * 32, 5, b"original")
    forged = signed_message(b"o" * 32, 5, b"original")
    forged.data = b"forged"
    async with victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            rpcs = [rpc_pb2.RPC(publish=[forged]), rpc_pb2.RPC(publish=[original] * 50)]
            await say(running, target, *rpcs)
            await until(lambda: transport.counters().get("gossip_duplicates") == 49)
        assert heard == [b"original"]
        assert transport.counters()["gossip_bad_signature"] == 1


async def test_control_messages_leave_no_state_behind() -> None:
    topics = [f"nothing {i}" for i in range(500)]
    control = rpc_pb2.ControlMessage(
        graft=[rpc_pb2.ControlGraft(topicID=t) for t in topics],
        prune=[rpc_pb2.ControlPrune(topicID=t, backoff=10**9) for t in topics],
        ihave=[rpc_pb2.ControlIHave(topicID=t, messageIDs=[b"x" * 40] * 20) for t in topics],
    )
    subscribe = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=t) for t in topics[:100]]
    async with victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            await say(
                running,
                target,
                rpc_pb2.RPC(control=control),
                rpc_pb2.RPC(subscriptions=subscribe),
                rpc_pb2.RPC(subscriptions=subscribe * 2),
                rpc_pb2.RPC(publish=[signed_message(b"o" * 32, 5, b"done")]),
            )
            await until(lambda: heard)
            router: Any = transport._running.pubsub.router
            assert not set(router.back_off) - {TOPIC}
            assert not router.ihave_message_limits
            assert not router.graft_flood_tracking
            assert len(transport._running.pubsub.peer_topics) <= Limits().peer_topics + 1
            assert transport.counters()["gossip_subscriptions_ignored"] == 1
        await until(lambda: not transport._running.pubsub.peer_topics)
        await check_alive(transport, heard)


async def test_iwant_is_no_amplifier() -> None:
    async with victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            big = signed_message(b"o" * 32, 5, bytes(100_000))
            stream = await say(running, target, rpc_pb2.RPC(publish=[big]))
            await until(lambda: heard)
            before = transport.counters().get("gossip_bytes_sent", 0)
            iwant = rpc_pb2.ControlIWant(messageIDs=[big.from_id + big.seqno] * 1000)
            control = rpc_pb2.ControlMessage(iwant=[iwant] * 10)
            done = signed_message(b"o" * 32, 6, b"done")
            await stream.write(frame_rpc(rpc_pb2.RPC(control=control, publish=[done])))
            await until(lambda: b"done" in heard)
            await until(lambda: transport.counters().get("gossip_bytes_sent", 0) > before)
            assert transport.counters()["gossip_bytes_sent"] - before < 500_000
        await check_alive(transport, heard)


async def test_a_flood_of_forgeries_ends_in_a_ban() -> None:
    async with victim(Limits(rejects=50, ban_s=30)) as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            flood = [message(b"\x00\x24\x08\x01\x12\x20" + b"k" * 32, i) for i in range(3000)]
            await say(running, target, rpc_pb2.RPC(publish=flood))
            await until(lambda: not transport.peers())
        assert transport.counters()["peers_banned"] == 1
        async with attacker(transport.addresses[0]) as (running, _):
            await until(lambda: transport.counters().get("connections_refused"))
            await until(lambda: not running.swarm.connections)
        await check_alive(transport, heard)


# On the muxer.


async def test_ignoring_the_window_costs_the_connection() -> None:
    async with victim() as (transport, heard):

        async def never_reads(peer: PeerId, request: bytes) -> bytes:
            return await trio.sleep_forever()

        transport.serve(ECHO, never_reads)
        async with attacker(transport.addresses[0]) as (running, target):
            stream = await running.host.new_stream(target, [ECHO])
            muxed: Any = stream
            await stream.write((4).to_bytes(4, "big") + b"done")
            muxed.muxed_stream.send_window = 1 << 30
            with pytest.raises(StreamError), trio.fail_after(10):
                await stream.write(bytes(1 << 28))
            await until(lambda: not transport.peers())
        assert transport.counters()["yamux_violations"] == 1
        await check_alive(transport, heard)


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("!BBHII", 1, 0, 0, 1, 0),
        struct.pack("!BBHII", 0, 9, 0, 1, 0),
        struct.pack("!BBHII", 0, 0, 1, 2, 0),
        struct.pack("!BBHII", 0, 0, 1, 0, 0),
        struct.pack("!BBHII", 0, 0, 1, 101, 0xFFFFFFFF),
        struct.pack("!BBHII", 0, 1, 1, 101, 0) * 2,
    ],
    ids=["version", "type", "parity", "zero", "length", "twice"],
)
async def test_frames_against_the_muxer_cost_the_connection(header: bytes) -> None:
    async with victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            muxer: Any = running.swarm.get_connections(target)[0]
            await muxer.muxed_conn._send(header)
            await until(lambda: not transport.peers())
        assert transport.counters()["yamux_violations"] == 1
        await check_alive(transport, heard)


async def test_a_flood_of_streams_is_refused() -> None:
    async with victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            muxer: Any = running.swarm.get_connections(target)[0]
            for stream_id in range(1001, 5001, 2):
                frame = struct.pack("!BBHII", 0, 1, 1, stream_id, 0)
                await muxer.muxed_conn._send(frame)
            await until(lambda: transport.counters().get("streams_refused", 0) > 1500)
            await check_alive(transport, heard)
        await until(lambda: not transport.peers())


# Requests.


async def test_half_requests_end_by_their_deadline() -> None:
    limits = Limits(serve_timeout_s=0.3, request_bytes=1000)
    async with victim(limits) as (transport, heard):
        transport.serve(ECHO, echo)
        async with attacker(transport.addresses[0]) as (running, target):
            for data in (b"", b"\x00", b"\x00\x00\x03\xe8half"):
                stream = await running.host.new_stream(target, [ECHO])
                await stream.write(data)
                with pytest.raises(StreamError), trio.fail_after(5):
                    await stream.read(10)
            assert transport.counters()["requests_timed_out"] == 3
            stream = await running.host.new_stream(target, [ECHO])
            await stream.write(b"\xff\xff\xff\xff" + b"x" * 100)
            with pytest.raises(StreamError), trio.fail_after(5):
                await stream.read(10)
            assert transport.counters()["requests_rejected"] == 1
            stream = await running.host.new_stream(target, [ECHO])
            await stream.write(b"\x00\x00\x00\x02ok")
            assert await stream.read(10) == b"\x00\x00\x00\x02ok"
        await check_alive(transport, heard)


async def test_too_many_requests_at_once_are_refused() -> None:
    gate = trio.Event()

    async def slow(peer: PeerId, request: bytes) -> bytes:
        await gate.wait()
        return request

    async with victim(Limits(served_per_peer=3)) as (transport, _):
        transport.serve(ECHO, slow)
        async with open_transport(secret=b"h" * 32, listen=[]) as honest:
            peer = await honest.dial(transport.addresses[0])
            outcomes: list[str] = []

            async def ask() -> None:
                try:
                    await honest.request(peer, ECHO, b"x", timeout_s=10)
                    outcomes.append("answered")
                except UnreachableError:
                    outcomes.append("refused")

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(ask)
                await until(lambda: len(outcomes) == 7)
                gate.set()
        assert sorted(outcomes) == ["answered"] * 3 + ["refused"] * 7
        assert transport.counters()["requests_refused"] == 7


async def test_a_slow_handler_loses_messages_and_counts_them() -> None:
    gate = trio.Event()
    taken = 0

    async def slow(peer: PeerId, payload: bytes) -> Verdict:
        nonlocal taken
        await gate.wait()
        taken += 1
        return Verdict.ACCEPT

    limits = Limits(inbound_messages=20, inbound_wait_s=0.01, handlers=2)
    async with open_transport(secret=b"w" * 32, listen=LISTEN, limits=limits) as transport:
        await transport.subscribe(TOPIC, slow)
        async with attacker(transport.addresses[0]) as (running, target):
            flood = [signed_message(b"o" * 32, i, b"") for i in range(100)]
            await say(running, target, rpc_pb2.RPC(publish=flood))
            await until(lambda: transport.counters().get("gossip_inbound_dropped", 0) >= 70)
            assert transport.counters()["gossip_queued"] == 20
            gate.set()
            await until(lambda: taken + transport.counters()["gossip_inbound_dropped"] == 100)


async def test_who_sends_many_messages_delays_nobody_elses() -> None:
    gate = trio.Event()
    taken: list[bytes] = []

    async def slow(peer: PeerId, payload: bytes) -> Verdict:
        await gate.wait()
        taken.append(payload)
        return Verdict.IGNORE

    async with open_transport(
        secret=b"w" * 32, listen=LISTEN, limits=Limits(handlers=1)
    ) as transport:
        await transport.subscribe(TOPIC, slow)
        address = transport.addresses[0]
        async with attacker(address) as many, attacker(address, b"q" * 32) as few:
            flood = [signed_message(b"o" * 32, i, b"flood") for i in range(200)]
            await say(*many, rpc_pb2.RPC(publish=flood))
            await until(lambda: transport.counters()["gossip_queued"] == 199)
            mine = [signed_message(b"p" * 32, i, b"mine") for i in range(2)]
            await say(*few, rpc_pb2.RPC(publish=mine))
            await until(lambda: transport.counters()["gossip_queued"] == 201)
            gate.set()
            await until(lambda: len(taken) == 202)
    assert [number for number, payload in enumerate(taken) if payload == b"mine"][1] <= 4


# Our own ends.


async def test_a_taken_port_is_told() -> None:
    async with victim() as (transport, heard):
        address = f"/ip4/127.0.0.1/tcp/{port_of(transport)}"
        with pytest.raises(PortInUseError, match="listen on another port"):
            async with open_transport(secret=b"h" * 32, listen=[address]):
                pass
        await check_alive(transport, heard)


@pytest.mark.parametrize(
    ("secret", "listen"),
    [
        (b"short", LISTEN),
        (b"k" * 32, ["nonsense"]),
        (b"k" * 32, ["/ip4/127.0.0.1/udp/0/quic-v1"]),
        (b"k" * 32, ["/ip4/192.0.2.1/tcp/0"]),
    ],
    ids=["secret", "text", "quic", "foreign"],
)
async def test_what_cannot_be_used_is_told(secret: bytes, listen: list[str]) -> None:
    with pytest.raises(ConfigError):
        async with open_transport(secret=secret, listen=listen):
            pass


def open_sockets() -> int:
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_nothing_is_left_open() -> None:
    await trio.to_thread.run_sync(lambda: None)
    sockets, threads = open_sockets(), threading.active_count()
    for _ in range(3):
        async with victim() as (transport, heard):
            await check_alive(transport, heard)
            async with attacker(transport.addresses[0]):
                port = port_of(transport)
        with pytest.raises(OSError, match=r"."):
            await trio.open_tcp_stream("127.0.0.1", port)
    for _ in range(3):  # and when cancelled from outside, with connections open
        with trio.move_on_after(0.3):
            async with victim() as (transport, _), attacker(transport.addresses[0]):
                await trio.sleep_forever()
    assert open_sockets() <= sockets
    assert threading.active_count() <= threads


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening, "LIBP2P_VERSION", "0.8.2")
    with pytest.raises(ConfigError, match=r"made for exactly 0\.8\.2"):
        hardening.require_version()


async def test_ipv6() -> None:
    try:
        async with (
            open_transport(secret=b"6" * 32, listen=["/ip6/::1/tcp/0"]) as transport,
            open_transport(secret=b"7" * 32, listen=[]) as other,
        ):
            await other.dial(transport.addresses[0])
            await until(transport.peers)
            assert next(iter(transport.peers().values())).address.startswith("/ip6/::1/tcp/")
    except ConfigError:
        pytest.skip("no IPv6 on this machine")
