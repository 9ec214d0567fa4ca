"""Hostile peers against a live node: it answers, honest orders commit, memory and work are bounded.

``live`` checks before and after each attack that the node answers its status and that an order
written at another node commits.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hostile_node import (
    MARKET,
    Key,
    author_of,
    entry_of,
    frame,
    genesis_of,
    hostile,
    live,
    market_of,
    tick_of,
    until,
)
from libp2p.network.stream.exceptions import StreamError
from p2p_attacks import garbage_protobuf

from orrange_p2p.core import codec, sync
from orrange_p2p.core.errors import UnreachableError
from orrange_p2p.core.frames import Frame
from orrange_p2p.core.ids import Digest, Era, Lots, MarketId, PeerId, Price, Round, Seq
from orrange_p2p.core.operations import Cancel, Evidence, Place
from orrange_p2p.core.sync import EntriesWanted, LogRange, RecordsWanted, RoundsWanted, StatusWanted
from orrange_p2p.p2p.libp2p_transport import open_transport
from orrange_p2p.p2p.limits import Limits

MIB = 1024 * 1024


def rss_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


# --- gossip ---


async def test_garbage_on_the_topic(tmp_path: Path) -> None:
    dice = random.Random(5)
    half = Frame((b"e" * 500,) * 10, ()).encode()
    garbage = [
        b"",
        b"\xff" * 100,
        b"\x9f\xff",  # an array without length
        b"\x81" * 10_000,  # arrays in arrays
        b"\x9b" + b"\xff" * 8,  # an array of 2**64 - 1 items
        b"\x5b" + b"\xff" * 8,
        half[: len(half) // 2],
        half + b"\x00",
        Frame((b"",), ()).encode(),
        Frame((), (b"\x80",)).encode(),
        codec.encode(((), (), ())),
        codec.encode((tuple([b"x"] * 4097), ())),
        codec.encode(((bytes(64 * 1024 + 1),), ())),
        codec.encode(((bytes(520 * 1024),), ())),
        *(dice.randbytes(dice.randint(1, 2000)) for _ in range(100)),
    ]
    patient = Limits(rejects=len(garbage) + 20)  # all are judged, and some more end in a ban
    async with live(tmp_path, limits=patient) as net, hostile(net) as peer:
        await peer.gossip(*garbage)
        await until(lambda: net.counter("gossip_reject") == len(garbage))
        await net.check_alive()
        assert not net.counter("peers_banned")
        with suppress(StreamError):
            await peer.gossip(*(b"\xff" + bytes([n]) for n in range(100)))
        await until(lambda: net.counter("peers_banned") == 1)


async def test_records_of_elsewhere_are_rejected_and_not_kept(tmp_path: Path) -> None:
    rogue = Key(7)
    async with live(tmp_path, rogues=[rogue]) as net, hostile(net) as peer:
        elsewhere = genesis_of([Key(1)], [rogue], name="elsewhere")
        wrong = [
            frame(entry_of(elsewhere, rogue)),
            frame(entry_of(net.genesis, rogue, market=MarketId(b"m" * 32))),
            frame(ticks=[tick_of(elsewhere, Key(1), 0, [])]),
        ]
        await peer.gossip(*wrong)
        await until(lambda: net.counter("gossip_reject") == len(wrong))
        # One bad record spoils the frame, also for the good ones in it.
        good = entry_of(net.genesis, rogue)
        await peer.gossip(frame(good, entry_of(elsewhere, rogue, 1)))
        await until(lambda: net.counter("gossip_reject") == len(wrong) + 1)
        assert not await net.market.store.log(MARKET.id, rogue.signer.address, Seq(0))
        await peer.gossip(frame(good))
        await until(lambda: net.market.replica.logs.first_uncut(rogue.signer.address) == 1)


@pytest.mark.parametrize("records", [1, 1500])
async def test_a_flood_of_bad_signatures_is_cheap(tmp_path: Path, records: int) -> None:
    """It ends in a ban within the bound of ``Limits.rejects``, however large the frames are."""
    rogue = Key(7)
    async with live(tmp_path, rogues=[rogue]) as net, hostile(net) as peer:
        forged = entry_of(net.genesis, rogue, forged=True)
        flood = frame(*[forged] * records)
        with suppress(StreamError):
            await peer.gossip(*[flood] * (400 if records == 1 else 60))
        await until(lambda: net.counter("peers_banned") == 1)
        # Those that were under way when it came are judged too: a handler each.
        assert net.counter("gossip_reject") <= Limits().rejects + Limits().handlers
        await net.check_alive()


async def test_old_facts_again_and_again(tmp_path: Path) -> None:
    async with live(tmp_path) as net, hostile(net) as peer:
        for _ in range(5):
            await net.check_alive()
        store = net.market.store
        author = author_of(net.nodes[-1]).address
        old = [record.encoded for record in await store.log(MARKET.id, author, Seq(0))]
        ticks = [r.encoded for r in await store.rounds(MARKET.id, Era(0), Round(0))]
        assert len(old) > 5 and len(ticks) > 5
        epoch = net.market.replica.epoch
        held = net.counter("facts_held")
        replay = Frame(tuple(old), tuple(ticks[:200])).encode()
        judged = ("gossip_ignore", "gossip_accept", "gossip_reject")
        before = sum(map(net.counter, judged))
        await peer.gossip(*[replay] * 300)
        await until(lambda: sum(map(net.counter, judged)) >= before + 300)
        assert not net.counter("gossip_reject")
        assert net.market.replica.epoch >= epoch
        assert net.counter("facts_held") - held < 1000
        await net.check_alive()
        assert net.market.totals["orders"] == net.placed


async def test_strangers_and_the_far_future_cost_no_disk(tmp_path: Path) -> None:
    rogue, stranger = Key(7), Key(8)
    async with live(tmp_path, rogues=[rogue]) as net, hostile(net) as peer:
        useless = [
            frame(entry_of(net.genesis, stranger)),
            frame(entry_of(net.genesis, rogue, 100_000)),
            frame(ticks=[tick_of(net.genesis, stranger, 0, [])]),
            frame(ticks=[tick_of(net.genesis, Key(1), 30_000, [Digest(b"p" * 32)])]),
        ]
        await peer.gossip(*useless)
        await until(lambda: net.counter("records_unwanted") == len(useless))
        assert net.counter("gossip_ignore") == len(useless)
        digests = [Digest(b"p" * 32)]
        assert not await net.market.store.find(MARKET.id, digests)
        assert not await net.market.store.log(MARKET.id, rogue.signer.address, Seq(0))


# --- sync ---


REPLIES = {
    "garbage": b"\xff" * 1000,
    "half": sync.Reply(Frame((b"e" * 100,), ()), False).encode()[:50],
    "not records": sync.Reply(Frame((b"e" * 100,) * 50, (b"t" * 100,)), True).encode(),
    "too large": bytes(600 * 1024),
    "empty, with more": sync.Reply(Frame((), ()), True).encode(),
}


@pytest.mark.parametrize("lie", [*REPLIES, "forged", "another kind", "silent"])
async def test_lying_servers_are_left_alone(tmp_path: Path, lie: str) -> None:
    """The victim asks a peer that lies; who serves what is invalid is not asked again."""
    rogue = Key(7)
    async with live(tmp_path, rogues=[rogue]) as net:
        asked = 0
        replies = dict(REPLIES)
        replies["forged"] = sync.Reply(
            Frame((entry_of(net.genesis, rogue, forged=True).encoded,), ()), False
        ).encode()
        replies["another kind"] = sync.Reply(
            Frame((entry_of(net.genesis, rogue).encoded,), ()), False
        ).encode()

        async def answer(peer: PeerId, request: bytes) -> bytes:
            nonlocal asked
            asked += 1
            return await trio.sleep_forever() if lie == "silent" else replies[lie]

        async with open_transport(secret=b"l" * 32, listen=[]) as liar:
            liar.serve(sync.PROTOCOL, answer)
            await liar.dial(net.address)
            await until(lambda: len(net.transports[0].peers()) == 2)
            repair = net.victim._served[MARKET.id].repair
            wanted = RecordsWanted(MARKET.id, (Digest(b"w" * 32),))
            before = dict(net.victim.counters)
            taken = 0
            with trio.move_on_after(1.0 if lie == "silent" else 10):
                for _ in range(3):
                    taken += await repair._pull(PeerId(liar.peer_id), wanted)
            assert asked
            assert (taken > 0) == (lie == "another kind")  # judged like gossip
            is_caught = lie not in ("silent", "empty, with more", "another kind", "too large")
            if is_caught:
                assert net.counter("sync_shunned") > before.get("sync_shunned", 0)
                assert all(repair._next_peer() != liar.peer_id for _ in range(10))
            await net.check_alive()


async def test_garbage_requests_end_in_a_ban(tmp_path: Path) -> None:
    dice = random.Random(6)
    market = MARKET.id
    garbage = [
        b"",
        codec.encode((9, market)),
        codec.encode((1, market, (b"short",))),
        codec.encode((1, market, tuple([bytes(32)] * 1025))),
        codec.encode((2, market, 0, 0, 256)),
        codec.encode((2, market, 0, 5, 4)),
        codec.encode((0, market, ((bytes(20), 5, 4),))),
        bytes(100 * 1024),
        sync.encode_request(StatusWanted(MarketId(b"m" * 32))),
        *(dice.randbytes(dice.randint(1, 300)) for _ in range(30)),
    ]
    async with (
        live(tmp_path, limits=Limits(rejects=60)) as net,
        open_transport(secret=b"g" * 32, listen=[]) as peer,
    ):
        victim = await peer.dial(net.address)
        for request in garbage:
            with pytest.raises(UnreachableError):
                await peer.request(victim, sync.PROTOCOL, request, timeout_s=5)
        assert net.counter("requests_rejected") == len(garbage)
        await net.check_alive()
        for _ in range(60):
            with suppress(UnreachableError):
                await peer.request(victim, sync.PROTOCOL, b"\xff", timeout_s=5)
        await until(lambda: net.counter("peers_banned") == 1)


async def test_asking_without_end(tmp_path: Path) -> None:
    """Sixteen questions at a time, for ever, the most expensive there are."""
    async with live(tmp_path) as net:
        author = author_of(net.nodes[-1])
        for _ in range(20):
            await author.submit([Cancel(Seq(0), 9)] * 400)
        log = net.market.replica.logs
        await until(lambda: log.first_uncut(author.address) >= author.next_seq)
        records = await net.market.store.log(MARKET.id, author.address, Seq(0))
        digests = tuple(record.digest for record in records)
        ranges = (LogRange(author.address, Seq(0), Seq(1000)),) * 256
        questions = [
            RecordsWanted(MARKET.id, (digests * 1024)[:1024]),
            EntriesWanted(MARKET.id, ranges),
            RoundsWanted(MARKET.id, Era(0), Round(0), Round(255)),
            StatusWanted(MARKET.id),
        ]
        async with open_transport(secret=b"a" * 32, listen=[]) as peer:
            victim = await peer.dial(net.address)
            outcomes = {"answered": 0, "bytes": 0, "refused": 0}

            async def ask(question: sync.Request) -> None:
                encoded = sync.encode_request(question)
                while True:
                    try:
                        page = await peer.request(victim, sync.PROTOCOL, encoded, timeout_s=10)
                        assert len(page) < 400 * 1024
                        outcomes["answered"] += 1
                        outcomes["bytes"] += len(page)
                    except UnreachableError:
                        outcomes["refused"] += 1
                        await trio.sleep(0.01)

            before = rss_bytes()
            async with trio.open_nursery() as nursery:
                for number in range(16):
                    nursery.start_soon(ask, questions[number % 4])
                await trio.sleep(2)
                await net.check_alive()
                assert outcomes["answered"] > 10
                nursery.cancel_scope.cancel()
            assert rss_bytes() - before < 150 * MIB


# --- connections ---


async def test_many_connections_and_slow_readers(tmp_path: Path) -> None:
    """Three hundred sockets that say nothing, and peers that ask and never read."""
    async with live(tmp_path) as net:
        port = int(net.address.split("/")[4])
        before = rss_bytes()
        async with trio.open_nursery() as nursery:

            async def say_nothing() -> None:
                with suppress(OSError, trio.BrokenResourceError):
                    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                        while await stream.receive_some():
                            pass

            async def never_read(number: int) -> None:
                async with hostile(net, bytes([number]) * 32) as peer:
                    request = sync.encode_request(
                        RoundsWanted(MARKET.id, Era(0), Round(0), Round(200))
                    )
                    framed = len(request).to_bytes(4, "big") + request
                    for _ in range(20):
                        with suppress(StreamError):
                            stream = await peer.host.host.new_stream(peer.victim, [sync.PROTOCOL])
                            await stream.write(framed)
                    await trio.sleep_forever()

            for number in range(5):
                nursery.start_soon(never_read, 20 + number)
            await until(lambda: net.counter("sync_served") >= 50)
            for _ in range(300):
                nursery.start_soon(say_nothing)
            await until(lambda: net.counter("connections_refused") >= 200)
            await net.check_alive()
            nursery.cancel_scope.cancel()
        assert rss_bytes() - before < 100 * MIB


async def test_garbage_after_the_handshake(tmp_path: Path) -> None:
    async with live(tmp_path) as net:
        for number in range(10):
            async with hostile(net, bytes([30 + number]) * 32) as peer:
                await garbage_protobuf(peer.host, peer.victim)
                count = number + 1
                await until(lambda count=count: net.counter("gossip_malformed") == count)


# --- keys of the network in bad hands ---


async def test_an_equivocating_witness_is_convicted(tmp_path: Path) -> None:
    liar = Key(4)
    async with live(tmp_path, witnesses=[Key(1), Key(2), Key(3)], absent=[liar]) as net:
        clock = net.market.replica.clock
        async with hostile(net) as peer:
            round = clock.highest_quorum_round
            parents = [tick.digest for tick in clock.ticks_of_round(Round(round))]
            now_ms = time.time_ns() // 1_000_000
            twins = [
                tick_of(net.genesis, liar, round + 1, parents, now_ms + shift) for shift in (0, 1)
            ]
            await peer.gossip(*(frame(ticks=[tick]) for tick in twins))
            for node in net.nodes:
                await until(lambda node=node: node.counters["evidence"] >= 1)
        digests = [tick.digest for tick in twins]
        kept = await net.market.store.find(MARKET.id, digests)
        assert [record.encoded for record in kept] == [tick.encoded for tick in twins]
        await net.check_alive()
        roots = [{s.epoch: s.root for s in market_of(node).epochs} for node in net.nodes]
        epoch = max(set.intersection(*map(set, roots)))
        assert len({root[epoch] for root in roots}) == 1


async def test_a_forking_author_is_frozen_everywhere(tmp_path: Path) -> None:
    rogue = Key(7)
    async with live(tmp_path, witnesses=[Key(1), Key(2), Key(3)], rogues=[rogue]) as net:
        async with hostile(net) as peer:
            sides = [
                entry_of(net.genesis, rogue, operations=[Place(0, Price(price), Lots(1))])
                for price in (10, 11)
            ]
            await peer.gossip(*(frame(side) for side in sides))
            for node in net.nodes:
                fold = market_of(node).replica.fold
                await until(lambda fold=fold: fold.is_frozen(rogue.signer.address))
        author = author_of(net.nodes[-1])
        trader = market_of(net.nodes[-1])
        log = await trader.store.log(MARKET.id, author.address, Seq(0))
        operations = [op for record in log for op in trader.decode(record).operations]
        assert any(isinstance(operation, Evidence) for operation in operations)
        async with hostile(net, b"n" * 32) as peer:
            before = net.counter("records_unwanted")
            await peer.gossip(frame(entry_of(net.genesis, rogue, 1, sides[0].digest)))
            await until(lambda: net.counter("records_unwanted") > before)
