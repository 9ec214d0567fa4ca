"""The conformance suite of the ``Transport`` port. Every adapter passes the same list.

1  dial connects both ends            10 a reply that is too large is refused
2  a second dial is a no-op           11 a request has a deadline
3  a bad or silent address is told    12 an unknown protocol is told
4  gossip crosses a line of three     13 a handler's PeerError resets the stream
5  nothing comes back to its sender   14 a peer that is gone is told
6  REJECT and PeerError stop          15 after the end every call is refused
7  IGNORE stops, without blame        16 a fault of our own handler ends the transport
8  a burst of 1,000 arrives           17 one handler per topic
9  a message over the limit is told  18 both may dial at once
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import pairwise

import pytest
import trio

from orrange_p2p.core.errors import (
    ConfigError,
    DeadlineError,
    InvalidError,
    OversizedError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.libp2p_transport import open_transport
from orrange_p2p.p2p.limits import Limits
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports import GossipHandler, Transport, Verdict

TOPIC = "/orrange/test/1"
ECHO = "/orrange/echo/1"
LIMITS = Limits(reply_bytes=100_000, request_bytes=100_000)


Open = Callable[[int], AbstractAsyncContextManager[Sequence[Transport]]]
"""Opens so many unconnected transports of one adapter."""


@asynccontextmanager
async def open_memory(count: int) -> AsyncIterator[Sequence[Transport]]:
    network = MemoryNetwork(seed=1, limits=LIMITS)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(network.open_transport()) for _ in range(count)]


@asynccontextmanager
async def open_libp2p(count: int) -> AsyncIterator[Sequence[Transport]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_transport(
                    secret=bytes([i + 1]) * 32, listen=["/ip4/127.0.0.1/tcp/0"], limits=LIMITS
                )
            )
            for i in range(count)
        ]


@pytest.fixture(params=[open_memory, open_libp2p], ids=["memory", "libp2p"])
def opened(request: pytest.FixtureRequest) -> Open:
    return request.param  # type: ignore[no-any-return]


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


class Ears:
    """A gossip handler that remembers, with a verdict by payload."""

    def __init__(self, verdict: Verdict = Verdict.ACCEPT) -> None:
        self.heard: list[bytes] = []
        self.verdict = verdict

    async def __call__(self, peer: PeerId, payload: bytes) -> Verdict:
        self.heard.append(payload)
        return self.verdict if payload.startswith(b"bad") else Verdict.ACCEPT


async def connect(one: Transport, other: Transport) -> None:
    await one.dial(other.addresses[0])
    await until(lambda: other.peer_id in one.peers() and one.peer_id in other.peers())


async def line(transports: Sequence[Transport], handlers: Sequence[GossipHandler]) -> None:
    """Subscribe all, connect neighbours, and wait until each knows its neighbours' topics."""
    for transport, handler in zip(transports, handlers, strict=True):
        await transport.subscribe(TOPIC, handler)
    for one, other in pairwise(transports):
        await connect(one, other)
    for transport in transports:
        await until(lambda t=transport: all(TOPIC in i.topics for i in t.peers().values()))


async def echo(peer: PeerId, request: bytes) -> bytes:
    return request


async def test_01_dial_connects_both_ends(opened: Open) -> None:
    async with opened(2) as (a, b):
        assert await a.dial(b.addresses[0]) == b.peer_id
        await until(lambda: a.peer_id in b.peers())
        assert a.peers()[b.peer_id].peer_id == b.peer_id
        assert a.peers()[b.peer_id].address == b.addresses[0]
        assert b.addresses[0].endswith(f"/p2p/{b.peer_id}")


async def test_02_a_second_dial_is_a_no_op(opened: Open) -> None:
    async with opened(2) as (a, b):
        await connect(a, b)
        with trio.fail_after(5):
            for _ in range(20):
                assert await a.dial(b.addresses[0]) == b.peer_id
            assert await b.dial(a.addresses[0]) == a.peer_id
        assert list(a.peers()) == [b.peer_id]


async def test_03_a_bad_or_silent_address_is_told(opened: Open) -> None:
    async with opened(2) as (a, b):
        for address in ("", "nonsense", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/p2p/x"):
            with pytest.raises(ConfigError):
                await a.dial(address)
        with pytest.raises(ConfigError, match="itself"):
            await a.dial(a.addresses[0])
        gone = b.addresses[0]
    async with opened(1) as (a,):
        with pytest.raises((UnreachableError, DeadlineError)):
            await a.dial(gone)
        with pytest.raises((UnreachableError, DeadlineError)):
            await a.dial(gone)


async def test_04_gossip_crosses_a_line_of_three(opened: Open) -> None:
    ears = [Ears() for _ in range(3)]
    async with opened(3) as transports:
        await line(transports, ears)
        await transports[0].publish(TOPIC, b"from one end")
        await transports[2].publish(TOPIC, b"from the other")
        await until(lambda: all(len(e.heard) >= n for e, n in zip(ears, (1, 2, 1), strict=True)))
        assert ears[2].heard == [b"from one end"]
        assert ears[0].heard == [b"from the other"]


async def test_05_nothing_comes_back_to_its_sender(opened: Open) -> None:
    ears = [Ears() for _ in range(3)]
    async with opened(3) as transports:
        await line(transports, ears)
        await connect(transports[2], transports[0])  # a ring: two ways home
        for i in range(20):
            await transports[0].publish(TOPIC, b"%d" % i)
        await until(lambda: len(ears[1].heard) == len(ears[2].heard) == 20)
        await transports[1].publish(TOPIC, b"last")
        await until(lambda: ears[0].heard)
        assert ears[0].heard == [b"last"]
        assert sorted(ears[2].heard) == sorted([*(b"%d" % i for i in range(20)), b"last"])


async def test_06_reject_and_peer_error_stop(opened: Open) -> None:
    async def refuse(peer: PeerId, payload: bytes) -> Verdict:
        if payload == b"bad 1":
            return Verdict.REJECT
        if payload == b"bad 2":
            raise InvalidError("no such thing")
        return Verdict.ACCEPT

    last = Ears()
    async with opened(3) as transports:
        await line(transports, [Ears(), refuse, last])
        await transports[0].publish(TOPIC, b"bad 1")
        await transports[0].publish(TOPIC, b"bad 2")
        await until(lambda: transports[1].counters().get("gossip_reject") == 2)
        await transports[0].publish(TOPIC, b"good")
        await until(lambda: last.heard)
        assert last.heard == [b"good"]


async def test_07_ignore_stops_without_blame(opened: Open) -> None:
    last = Ears()
    async with opened(3) as transports:
        await line(transports, [Ears(), Ears(Verdict.IGNORE), last])
        for _ in range(300):
            await transports[0].publish(TOPIC, b"bad")
        await until(lambda: transports[1].counters().get("gossip_ignore") == 300)
        await transports[0].publish(TOPIC, b"good")
        await until(lambda: last.heard)
        assert last.heard == [b"good"]
        assert transports[0].peer_id in transports[1].peers()
        assert not transports[1].counters().get("gossip_reject")


async def test_08_a_burst_of_a_thousand_arrives(opened: Open) -> None:
    ears = [Ears(), Ears()]
    async with opened(2) as transports:
        await line(transports, ears)
        sent = [i.to_bytes(2, "big") * 1024 for i in range(1000)]
        for payload in sent:
            await transports[0].publish(TOPIC, payload)
        await until(lambda: len(ears[1].heard) >= 1000)
        assert sorted(ears[1].heard) == sent


async def test_09_a_message_over_the_limit_is_told(opened: Open) -> None:
    ears = [Ears(), Ears()]
    async with opened(2) as transports:
        await line(transports, ears)
        with pytest.raises(OversizedError):
            await transports[0].publish(TOPIC, bytes(LIMITS.message_bytes + 1))
        await transports[0].publish(TOPIC, bytes(LIMITS.message_bytes))
        await until(lambda: ears[1].heard)


async def test_10_a_reply_that_is_too_large_is_refused(opened: Open) -> None:
    async def generous(peer: PeerId, request: bytes) -> bytes:
        return bytes(int(request))

    async with opened(2) as (a, b):
        b.serve(ECHO, generous)
        await connect(a, b)
        most = LIMITS.reply_bytes
        reply = await a.request(b.peer_id, ECHO, b"%d" % most, timeout_s=5)
        assert len(reply) == most
        with pytest.raises(OversizedError):
            await a.request(b.peer_id, ECHO, b"%d" % (most + 1), timeout_s=5)
        with pytest.raises(OversizedError):
            await a.request(b.peer_id, ECHO, bytes(LIMITS.request_bytes + 1), timeout_s=5)
        assert await a.request(b.peer_id, ECHO, b"0", timeout_s=5) == b""


async def test_11_a_request_has_a_deadline(opened: Open) -> None:
    async def slow(peer: PeerId, request: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async with opened(2) as (a, b):
        b.serve("/orrange/slow/1", slow)
        b.serve(ECHO, echo)
        await connect(a, b)
        start = trio.current_time()
        with pytest.raises(DeadlineError):
            await a.request(b.peer_id, "/orrange/slow/1", b"", timeout_s=0.2)
        assert trio.current_time() - start < 3
        assert await a.request(b.peer_id, ECHO, b"still there", timeout_s=5) == b"still there"


async def test_12_an_unknown_protocol_is_told(opened: Open) -> None:
    async with opened(2) as (a, b):
        await connect(a, b)
        with pytest.raises(UnreachableError):
            await a.request(b.peer_id, "/orrange/nothing/1", b"", timeout_s=5)


async def test_13_a_peer_error_resets_the_stream(opened: Open) -> None:
    async def picky(peer: PeerId, request: bytes) -> bytes:
        if request == b"bad":
            raise InvalidError("not this")
        return peer.encode()

    async with opened(2) as (a, b):
        b.serve("/orrange/picky/1", picky)
        await connect(a, b)
        with pytest.raises(UnreachableError):
            await a.request(b.peer_id, "/orrange/picky/1", b"bad", timeout_s=5)
        reply = await a.request(b.peer_id, "/orrange/picky/1", b"", timeout_s=5)
        assert reply == a.peer_id.encode()
        assert b.counters()["requests_rejected"] == 1


async def test_14_a_peer_that_is_gone_is_told(opened: Open) -> None:
    async with opened(3) as (a, b, c):
        with pytest.raises(UnreachableError):
            await a.request(b.peer_id, ECHO, b"", timeout_s=5)
        await connect(a, c)
        assert b.peer_id not in a.peers()


async def test_15_after_the_end_every_call_is_refused(opened: Open) -> None:
    async with opened(2) as (a, b):
        await line([a, b], [Ears(), Ears()])
        peer = b.peer_id
        address = b.addresses[0]
    for call in (
        lambda: a.publish(TOPIC, b""),
        lambda: a.dial(address),
        lambda: a.subscribe("other", Ears()),
        lambda: a.request(peer, ECHO, b"", timeout_s=1),
    ):
        with pytest.raises(WorldError):
            await call()


async def test_16_a_fault_of_our_own_handler_ends_the_transport(opened: Open) -> None:
    async def faulty(peer: PeerId, payload: bytes) -> Verdict:
        raise ZeroDivisionError

    async def faulty_too(peer: PeerId, request: bytes) -> bytes:
        raise ZeroDivisionError

    async def gossip() -> None:
        async with opened(2) as transports:
            await line(transports, [Ears(), faulty])
            await transports[0].publish(TOPIC, b"")
            await trio.sleep(10)

    async def ask() -> None:
        async with opened(2) as (a, b):
            b.serve(ECHO, faulty_too)
            await connect(a, b)
            with pytest.raises(UnreachableError):
                await a.request(b.peer_id, ECHO, b"", timeout_s=5)
            await trio.sleep(10)

    with pytest.raises(ZeroDivisionError):
        await gossip()
    with pytest.raises(ZeroDivisionError):
        await ask()


async def test_17_one_handler_per_topic(opened: Open) -> None:
    async with opened(1) as (a,):
        await a.subscribe(TOPIC, Ears())
        with pytest.raises(ConfigError):
            await a.subscribe(TOPIC, Ears())


async def test_18_both_dial_at_once(opened: Open) -> None:
    ears = [Ears(), Ears()]
    async with opened(2) as (a, b):
        await a.subscribe(TOPIC, ears[0])
        await b.subscribe(TOPIC, ears[1])
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(a.dial, b.addresses[0])
                nursery.start_soon(b.dial, a.addresses[0])
        await until(lambda: all(TOPIC in i.topics for t in (a, b) for i in t.peers().values()))
        for i in range(50):
            await a.publish(TOPIC, b"a%d" % i)
            await b.publish(TOPIC, b"b%d" % i)
        await until(lambda: len(ears[0].heard) == len(ears[1].heard) == 50)


async def test_many_requests_at_once(opened: Open) -> None:
    async with opened(2) as (a, b):
        b.serve(ECHO, echo)
        await connect(a, b)
        replies: list[bytes] = []

        async def ask(i: int) -> None:
            replies.append(await a.request(b.peer_id, ECHO, b"%d" % i * 1000, timeout_s=10))

        async with trio.open_nursery() as nursery:
            for i in range(16):
                nursery.start_soon(ask, i)
        assert sorted(replies) == sorted(b"%d" % i * 1000 for i in range(16))
