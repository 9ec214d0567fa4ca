"""Scores: who is graylisted, after how many messages, and who never is."""

from __future__ import annotations

from itertools import count

import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from p2p_attacks import TOPIC, attacker, meshsub_stream, say, signed_message
from p2p_processes import until
from p2p_victim import LISTEN, check_alive, victim

from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.hardening.queues import frame_rpc
from orrange_p2p.p2p.libp2p_transport import open_transport
from orrange_p2p.p2p.limits import Limits
from orrange_p2p.p2p.scoring import HALF_LIFE_S, MAX_SCORED, Scores
from orrange_p2p.ports import Verdict

PEER = ID(b"\x00\x24\x08\x01\x12\x20" + b"p" * 32)


def lies_until_graylisted(size: int, every_s: float = 0.0) -> int:
    scores = Scores(Limits())
    for number in range(1, 10_000):
        scores.invalid(PEER, size, number * every_s)
        if scores.is_graylisted(PEER, number * every_s):
            return number
    return 0


def test_how_many_lies_graylist() -> None:
    assert lies_until_graylisted(0) == 20
    assert lies_until_graylisted(32 * 1024) == 18
    assert lies_until_graylisted(900 * 1024) == 5
    assert lies_until_graylisted(0, every_s=1) == 23
    assert lies_until_graylisted(0, every_s=HALF_LIFE_S / 4) == 0  # one in 15 s costs us nothing


@given(st.integers(0, 10_000), st.floats(0, 10))
def test_no_usefulness_pays_for_one_lie(delivered: int, pause_s: float) -> None:
    scores = Scores(Limits())
    for _ in range(delivered):
        scores.delivered(PEER, 0)
    scores.favour({PEER: 1.0})
    assert 0.5 <= scores.of(PEER, 0) <= 1.001
    scores.invalid(PEER, 1000, pause_s)
    assert scores.of(PEER, pause_s) < 0.12  # the lie fades within ten seconds, too


def test_what_an_owner_is_worth_is_a_small_advantage() -> None:
    scores = Scores(Limits())
    scores.favour({PEER: 7.0})
    assert scores.of(PEER, 0) == 0.5, "none is worth more than the worthiest"
    scores.invalid(PEER, 0, 0)
    assert scores.of(PEER, 0) < 0
    scores.favour({})
    assert scores.of(PEER, 0) == -1


def test_accidents_are_tolerated_and_habits_are_not() -> None:
    scores = Scores(Limits())
    for _ in range(10):
        scores.misbehaved(PEER, 0)
    assert scores.of(PEER, 0) == 0
    for _ in range(20):
        scores.misbehaved(PEER, 0)
    assert scores.is_graylisted(PEER, 0)
    assert not scores.is_graylisted(PEER, 10 * HALF_LIFE_S)


def test_scores_are_bounded() -> None:
    scores = Scores(Limits())
    for number in range(MAX_SCORED + 100):
        scores.invalid(ID(number.to_bytes(34, "big")), 0, 0)
    assert len(scores._records) == MAX_SCORED


async def reject(peer: PeerId, payload: bytes) -> Verdict:
    return Verdict.REJECT if payload.startswith(b"bad") else Verdict.ACCEPT


async def test_a_flood_of_large_bad_messages_ends_in_a_ban_soon() -> None:
    async with open_transport(secret=b"v" * 32, listen=LISTEN) as transport:
        await transport.subscribe(TOPIC, reject)
        async with attacker(transport.addresses[0]) as (running, target):
            stream = await meshsub_stream(running, target)
            sent = 0
            with trio.move_on_after(10):
                try:
                    for number in count(1):
                        made = signed_message(b"m" * 32, number, b"bad" + bytes(800_000))
                        await stream.write(frame_rpc(rpc_pb2.RPC(publish=[made])))
                        sent += 1
                except Exception:  # the ban, however libp2p calls it
                    pass
            await until(lambda: not transport.peers())
        counters = transport.counters()
        assert counters["peers_banned"] == 1
        assert counters["gossip_reject"] <= 5 + Limits().handlers


async def test_one_lie_costs_the_mesh_and_time_heals_it() -> None:
    async with open_transport(secret=b"v" * 32, listen=LISTEN) as transport:
        await transport.subscribe(TOPIC, reject)
        async with open_transport(secret=b"h" * 32, listen=[]) as other:
            await other.subscribe(TOPIC, reject)
            peer = await other.dial(transport.addresses[0])
            await until(lambda: TOPIC in other.peers()[peer].topics)
            router = transport._running.pubsub.router
            await until(lambda: router.mesh[TOPIC])
            await other.publish(TOPIC, b"bad")
            await until(lambda: transport.counters().get("gossip_reject"))
            await until(lambda: not router.mesh[TOPIC])
            assert transport.peers()


async def test_an_honest_crowd_is_never_below_zero() -> None:
    """Many messages, duplicates, leaving and coming back: nothing of it is held against anyone."""
    async with (
        open_transport(secret=b"1" * 32, listen=LISTEN) as one,
        open_transport(secret=b"2" * 32, listen=LISTEN) as two,
        open_transport(secret=b"3" * 32, listen=LISTEN) as three,
    ):
        crowd = (one, two, three)
        for transport in crowd:
            await transport.subscribe(TOPIC, reject)
        await two.dial(one.addresses[0])
        await three.dial(one.addresses[0])
        await three.dial(two.addresses[0])
        await until(lambda: all(len(t.peers()) == 2 for t in crowd))
        for turn in range(3):
            for number in range(200):
                for transport in crowd:
                    await transport.publish(TOPIC, b"%d %d" % (turn, number) + bytes(500))
            await three.disconnect(one.peer_id)
            await until(lambda: one.peer_id not in three.peers())
            await three.dial(one.addresses[0])
        await until(lambda: one.counters()["gossip_accept"] >= 1200)
        now_s = trio.current_time()
        for transport in crowd:
            scores = transport._running.pubsub.router.scores
            assert all(scores.of(peer, now_s) >= 0 for peer in list(scores._records))
            assert not transport.counters().get("peers_banned")


async def test_graft_after_graft_in_back_off_is_graylisted() -> None:
    async with victim() as (transport, heard):
        async with attacker(transport.addresses[0]) as (running, target):
            graft = rpc_pb2.ControlGraft(topicID=TOPIC)
            prune = rpc_pb2.ControlPrune(topicID=TOPIC, backoff=60)
            turn = rpc_pb2.RPC(control=rpc_pb2.ControlMessage(graft=[graft] * 32, prune=[prune]))
            await say(running, target, *[turn] * 4)
            await until(lambda: not transport.peers())
        assert transport.counters()["peers_banned"] == 1
        await check_alive(transport, heard)


async def test_an_address_pays_for_its_many_names() -> None:
    async with victim(Limits(rejects=1, bans_per_address=3)) as (transport, _):
        for number in range(3):
            async with attacker(transport.addresses[0], bytes([50 + number]) * 32) as (
                host,
                target,
            ):
                forged = signed_message(b"o" * 32, number, b"x")
                forged.signature = b"s" * 64
                await say(host, target, rpc_pb2.RPC(publish=[forged]))
                await until(
                    lambda number=number: transport.counters().get("peers_banned", 0) > number
                )
        refused = transport.counters().get("connections_refused", 0)
        port = int(transport.addresses[0].split("/")[4])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await stream.receive_some(1) == b""
        assert transport.counters()["connections_refused"] == refused + 1
