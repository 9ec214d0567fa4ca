"""Who is greeted, remembered, dialled again and let go; versions and networks side by side."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import structlog
import trio
from test_node import MARKET, Party, author_of, common_roots, genesis_of, market_of

from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.hello import PROTOCOL, VERSIONS, Hello, Versions
from orrange_p2p.core.ids import Lots, PeerId, Price
from orrange_p2p.core.operations import Place
from orrange_p2p.daemon import api
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.peer_book import MAX_PEERS, PeerBook, is_local, reachable_from
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.p2p.libp2p_transport import open_transport
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports import Transport
from orrange_p2p.store.memory import MemoryStore

ID = "12D3KooWGjTtKZXUmsMB9dfFxkmDfCXq8SvUTW6Wb7BkVrHNBnTw"


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(15):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


@asynccontextmanager
async def node(
    network: MemoryNetwork,
    name: str,
    genesis: Genesis,
    *bootstrap: str,
    party: Party | None = None,
    store: MemoryStore | None = None,
    versions: Versions = VERSIONS,
) -> AsyncIterator[Node]:
    async with network.open_transport(name) as transport:
        made = Node(
            genesis,
            store or (party.store if party else MemoryStore()),
            transport,
            SystemClock(),
            bootstrap=[f"/memory/{peer}/p2p/{peer}" for peer in bootstrap],
            witness=(party.witness, {MARKET.id: party.chain}) if party else None,
            traders=[party.trader] if party else [],
            versions=versions,
        )
        async with running(made):
            yield made


def connected(node: Node) -> set[str]:
    return set(node.transport.peers())


def greeted(node: Node) -> set[str]:
    return {row.peer_id for row in node.neighbours.rows() if row.is_connected and row.versions}


# --- finding and keeping ---


async def test_who_knows_one_finds_all() -> None:
    network, genesis = MemoryNetwork(), genesis_of([Party(0)])
    async with (
        node(network, "a", genesis) as a,
        node(network, "b", genesis, "a") as b,
    ):
        await until(lambda: "b" in greeted(a))
        async with node(network, "c", genesis, "a") as c:
            await until(lambda: connected(c) == {"a", "b"} and "c" in connected(b))


async def test_a_node_comes_back_without_its_bootstrap_peer() -> None:
    network, genesis, store = MemoryNetwork(), genesis_of([Party(0)]), MemoryStore()
    async with node(network, "friend", genesis) as friend:
        async with (
            node(network, "bootstrap", genesis, "friend"),
            node(network, "n", genesis, "bootstrap", store=store) as n,
        ):
            await until(lambda: greeted(n) == {"bootstrap", "friend"})
            await until(lambda: not n.neighbours._is_changed)
            await trio.sleep(0.01)
        await until(lambda: not connected(friend))
        async with node(network, "n", genesis, "bootstrap", store=store) as n:
            await until(lambda: connected(n) == {"friend"})


async def test_a_lost_peer_is_dialled_until_it_is_back() -> None:
    network, genesis = MemoryNetwork(), genesis_of([Party(0)])
    async with node(network, "a", genesis, "b") as a:
        await until(lambda: a.counters["dials_failed"] >= 2)
        async with node(network, "b", genesis):
            await until(lambda: connected(a) == {"b"})
        assert [row.is_kept for row in a.neighbours.rows()] == [True]
        async with node(network, "b", genesis):
            await until(lambda: greeted(a) == {"b"})


async def test_all_addresses_of_a_peer_are_tried() -> None:
    genesis = genesis_of([Party(0)])
    async with (
        open_transport(secret=b"1" * 32, listen=["/ip4/127.0.0.1/tcp/0"]) as one,
        open_transport(secret=b"2" * 32, listen=[]) as two,
    ):
        dead = f"/ip4/127.0.0.1/tcp/1/p2p/{one.peer_id}"
        nodes = [
            Node(genesis, MemoryStore(), one, SystemClock()),
            Node(
                genesis,
                MemoryStore(),
                two,
                SystemClock(),
                bootstrap=[
                    dead,
                    f"/dns4/localhost{one.addresses[0].removeprefix('/ip4/127.0.0.1')}",
                ],
            ),
        ]
        async with running(nodes[0]), running(nodes[1]):
            await until(lambda: greeted(nodes[1]) == {one.peer_id})
            row = nodes[1].neighbours.rows()[0]
            assert row.addresses[0].startswith("/dns4/")  # what worked is tried first next time
            assert dead in row.addresses


async def test_peers_remember_each_other_over_ipv6() -> None:
    genesis = genesis_of([Party(0)])
    async with (
        open_transport(secret=b"1" * 32, listen=["/ip6/::1/tcp/0"]) as one,
        open_transport(secret=b"2" * 32, listen=["/ip6/::1/tcp/0"]) as two,
    ):
        a = Node(genesis, MemoryStore(), one, SystemClock())
        b = Node(genesis, MemoryStore(), two, SystemClock(), bootstrap=one.addresses)
        async with running(a), running(b):
            await until(lambda: two.peer_id in greeted(a))
            assert two.addresses[0] in a.neighbours.rows()[0].addresses


async def test_the_operator_sees_who_is_there_and_who_is_remembered() -> None:
    network, genesis = MemoryNetwork(), genesis_of([Party(0)])
    async with node(network, "a", genesis, "b", "gone") as a, node(network, "b", genesis):
        await until(lambda: greeted(a) == {"b"})
        rows: Any = json.loads(json.dumps(await api.methods(a)["peers"]({})))
        assert [(row["peer_id"], row["is_connected"]) for row in rows] == [
            ("b", True),
            ("gone", False),
        ]
        assert rows[0]["versions"] == "1" and rows[0]["agent"].startswith("orrange/")


# --- strangers ---


@pytest.mark.parametrize(
    ("ours", "theirs", "spoken"),
    [((1, 1), (1, 1), 1), ((1, 1), (1, 2), 1), ((1, 2), (2, 3), 2), ((1, 3), (1, 2), 2)],
)
async def test_versions_that_overlap_meet(
    ours: tuple[int, int], theirs: tuple[int, int], spoken: int
) -> None:
    network, genesis = MemoryNetwork(), genesis_of([Party(0)])
    async with (
        node(network, "a", genesis, versions=Versions(*ours)) as a,
        node(network, "b", genesis, "a", versions=Versions(*theirs)) as b,
    ):
        await until(lambda: greeted(a) == {"b"} and greeted(b) == {"a"})
        assert a.neighbours.spoken() == b.neighbours.spoken() == {spoken}


@pytest.mark.parametrize("theirs", [(3, 3), (2, 9)])
async def test_versions_that_do_not_overlap_part_with_a_word(theirs: tuple[int, int]) -> None:
    network, genesis = MemoryNetwork(), genesis_of([Party(0)])
    with structlog.testing.capture_logs() as logs:
        async with (
            node(network, "old", genesis) as old,
            node(network, "new", genesis, "old", versions=Versions(*theirs)) as new,
        ):
            await until(lambda: old.counters["peers_strange"] and new.counters["peers_strange"])
            await until(lambda: not connected(old) and not connected(new))
    told = {line["peer"]: line for line in logs if line["event"] == "peer is let go"}
    assert told["new"]["reason"] == told["old"]["reason"] == "no common version"
    assert told["new"]["what_to_do"] == "update this node"
    assert told["old"]["what_to_do"] == "that node has to be updated"
    assert told["old"]["theirs"] == "1"


async def test_a_rolling_upgrade_trades_throughout() -> None:
    """Versions 1, 1..2 and 2 in a row: the one between carries the others' records across."""
    network, parties = MemoryNetwork(), [Party(n) for n in range(3)]
    genesis = genesis_of(parties)
    async with (
        node(network, "new", genesis, party=parties[0], versions=Versions(2, 2)) as new,
        node(network, "mid", genesis, "new", party=parties[1], versions=Versions(1, 2)) as mid,
        node(network, "old", genesis, "mid", party=parties[2], versions=Versions(1, 1)) as old,
    ):
        nodes = [new, mid, old]
        await until(lambda: greeted(mid) == {"new", "old"})
        assert mid.neighbours.spoken() == {1, 2}
        await author_of(old).submit([Place(0, Price(100), Lots(3))])
        await author_of(new).submit([Place(1, Price(100), Lots(3))])
        await until(lambda: all(market_of(n).totals["trades"] == 1 for n in nodes))
        assert len(common_roots(nodes)) == 1
        assert mid.counters["frames_bridged"]
        await until(lambda: "old" not in connected(new))  # who met through "mid" parted again


async def test_one_market_more_is_another_network() -> None:
    network, parties = MemoryNetwork(), [Party(0)]
    genesis = genesis_of(parties)
    more = attrs.evolve(MARKET, tick_size=5)
    anchored = attrs.evolve(genesis.witnesses[0], anchors=genesis.witnesses[0].anchors * 2)
    wider = attrs.evolve(genesis, markets=(MARKET, more), witnesses=(anchored,))
    assert wider.network_id != genesis.network_id
    assert wider.markets[0].id == genesis.markets[0].id  # the market keeps its name, not its book
    with structlog.testing.capture_logs() as logs:
        async with (
            node(network, "a", genesis, party=parties[0]) as a,
            node(network, "b", wider, "a") as b,
        ):
            await until(lambda: a.counters["peers_strange"] and b.counters["peers_strange"])
            await until(lambda: not connected(a) and not connected(b))
            await author_of(a).submit([Place(0, Price(1), Lots(1))])
            await until(lambda: market_of(a).totals["orders"] == 1)
            assert not a.counters["rejected_ForeignError"]
    reasons = {line["reason"] for line in logs if line["event"] == "peer is let go"}
    assert reasons == {"another network"}


async def test_nodes_may_carry_different_markets_of_one_network() -> None:
    network, genesis = MemoryNetwork(), genesis_of([Party(0)])
    anchored = attrs.evolve(genesis.witnesses[0], anchors=genesis.witnesses[0].anchors * 2)
    both = (MARKET, attrs.evolve(MARKET, tick_size=5))
    genesis = attrs.evolve(genesis, markets=both, witnesses=(anchored,))
    async with (
        network.open_transport("one") as transport,
        node(network, "all", genesis, "one") as everything,
    ):
        one = Node(genesis, MemoryStore(), transport, SystemClock(), market_ids=[MARKET.id])
        async with running(one):
            await until(lambda: greeted(everything) == {"one"})
            assert everything.neighbours.rows()[0].markets == 1


@asynccontextmanager
async def rude(network: MemoryNetwork, answer: bytes | None) -> AsyncIterator[Transport]:
    async def reply(peer: PeerId, request: bytes) -> bytes:
        assert answer is not None
        return answer

    async with network.open_transport("rude") as transport:
        if answer is not None:
            transport.serve(PROTOCOL, reply)
        yield transport


async def test_a_malformed_hello_costs_the_connection() -> None:
    network, genesis = MemoryNetwork(), genesis_of([Party(0)])
    async with node(network, "a", genesis) as a, rude(network, b"\xff") as transport:
        await transport.dial("/memory/a/p2p/a")
        await until(lambda: a.counters["hellos_malformed"] and not connected(a))


async def test_who_says_no_hello_is_heard_and_not_remembered() -> None:
    network, genesis = MemoryNetwork(), genesis_of([Party(0)])
    async with node(network, "a", genesis) as a, rude(network, None) as transport:
        await transport.dial("/memory/a/p2p/a")
        await until(lambda: a.counters["peers_without_hello"])
        assert connected(a) == {"rude"}
        assert not len(a.neighbours._book)


async def test_rumours_fill_no_memory_and_drive_out_no_friend() -> None:
    network, genesis = MemoryNetwork(), genesis_of([Party(0)])
    async with (
        node(network, "a", genesis) as a,
        node(network, "friend", genesis, "a"),
        network.open_transport("liar") as liar,
    ):
        await until(lambda: greeted(a) == {"friend"})
        await liar.dial("/memory/a/p2p/a")
        for turn in range(MAX_PEERS // 32 + 4):
            names = [f"/memory/x/p2p/x{turn * 32 + n}" for n in range(32)]
            lie = Hello(genesis.network_id, Versions(1, 1 + turn % 2), "liar", (), (), tuple(names))
            await liar.request(PeerId("a"), PROTOCOL, lie.encode(), timeout_s=5)
        assert len(a.neighbours._book) == MAX_PEERS
        assert a.neighbours._book.get(PeerId("friend")) is not None
        assert "x0" not in {
            row[0] for row in map(attrs.astuple, PeerBook.decode(a.neighbours._book.encode()))
        }  # rumours are not kept across a restart


# --- addresses ---


def told(address: str, teller: str) -> Sequence[str]:
    return reachable_from([f"{address}/p2p/{ID}"], f"{teller}/p2p/{ID}")


@pytest.mark.parametrize(
    ("address", "teller", "taken"),
    [
        ("/ip4/8.8.8.8/tcp/1", "/ip4/9.9.9.9/tcp/2", "/ip4/8.8.8.8/tcp/1"),
        ("/ip4/8.8.8.8/tcp/1", "/ip4/10.0.0.1/tcp/2", "/ip4/8.8.8.8/tcp/1"),
        ("/ip4/10.0.0.7/tcp/1", "/ip4/10.0.0.1/tcp/2", "/ip4/10.0.0.7/tcp/1"),
        ("/ip4/10.0.0.7/tcp/22", "/ip4/9.9.9.9/tcp/2", None),
        ("/ip4/127.0.0.1/tcp/22", "/dns4/example.org/tcp/2", None),
        ("/ip6/::1/tcp/22", "/ip6/2600::1/tcp/2", None),
        ("/ip4/169.254.169.254/tcp/80", "/ip4/9.9.9.9/tcp/2", None),
        ("/dns4/localhost/tcp/22", "/ip4/9.9.9.9/tcp/2", None),
        ("/ip4/0.0.0.0/tcp/1", "/ip4/9.9.9.9/tcp/2", "/ip4/9.9.9.9/tcp/1"),
        ("/ip6/::/tcp/1", "/ip6/2600::9/tcp/2", "/ip6/2600::9/tcp/1"),
        ("/ip6/::/tcp/1", "/ip4/9.9.9.9/tcp/2", None),
        ("/ip4/nonsense/tcp/1", "/ip4/9.9.9.9/tcp/2", None),
        ("nonsense", "/ip4/9.9.9.9/tcp/2", None),
    ],
)
def test_which_addresses_are_believed(address: str, teller: str, taken: str | None) -> None:
    assert told(address, teller) == ([f"{taken}/p2p/{ID}"] if taken else [])


def test_a_book_is_read_back_and_bounded() -> None:
    book = PeerBook()
    for number in range(MAX_PEERS + 50):
        peer = book.remember(PeerId(f"p{number}"))
        peer.add([f"/ip4/10.0.0.1/tcp/1/p2p/p{number}"])
        peer.seen_ms = 1 + number
        peer.is_proven = number == 0
    assert len(book) == MAX_PEERS
    again = PeerBook.decode(book.encode())
    assert [p.peer_id for p in again.best_first()] == [p.peer_id for p in book.best_first()]
    assert again.best_first()[0].peer_id == "p0"  # found by ourselves: outlives newer names
    peer = again.best_first()[0]
    peer.add([f"/ip4/10.0.0.2/tcp/{n}/p2p/p0" for n in range(50)])
    assert len(peer.addresses) == 8
    with pytest.raises(MalformedError):
        PeerBook.decode(b"\x81\x85" + b"\x61p\x81\x61x\x00\x00\x00")


def test_whoever_has_something_to_lose_is_dialled_first_where_it_was_found() -> None:
    book = PeerBook()
    book.favour({PeerId("claimed"): 1.0, PeerId("bonded"): 0.2})
    for name in ("first", "claimed", "bonded"):
        book.remember(PeerId(name)).is_proven = name != "claimed"
    book.remember(PeerId("first")).seen_ms = 9
    assert [peer.peer_id for peer in book.best_first()] == ["bonded", "first", "claimed"]
    book.favour({})
    assert [peer.peer_id for peer in book.best_first()] == ["first", "bonded", "claimed"]


def test_pauses_grow_to_a_bound() -> None:
    book = PeerBook()
    kept, other = book.remember(PeerId("kept")), book.remember(PeerId("other"))
    kept.is_kept = True
    for _ in range(100):
        kept.failed(0)
        other.failed(0)
    assert (kept.retry_ms, other.retry_ms) == (30_000, 600_000)


def test_where_is_local() -> None:
    assert is_local("/ip4/192.168.1.1/tcp/1")
    assert is_local("/ip6/fe80::1/tcp/1")
    assert not is_local("/ip6/2600::1/tcp/1")
    assert not is_local("/dns4/example.org/tcp/1")
