"""Bootstrap addresses that are names, against a name server of our own on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trio
from p2p_victim import LISTEN

from orrange_p2p.core.errors import UnreachableError
from orrange_p2p.p2p import dnsaddr
from orrange_p2p.p2p.dnsaddr import MAX_LOOKUPS, addresses_behind
from orrange_p2p.p2p.libp2p_transport import open_transport

ID = "12D3KooWGatU3xJJ6oZ3KvkSRuXv4kTDHyYEVdGgd7BXnX7dfnSj"
OTHER = "12D3KooWSTRANGER"

Records = Mapping[str, Sequence[str]]


@asynccontextmanager
async def name_server(
    monkeypatch: pytest.MonkeyPatch, records: Records
) -> AsyncIterator[list[str]]:
    """Answers TXT questions from ``records``; yields the names it was asked for."""
    asked: list[str] = []
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))

    def system_resolver() -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = sock.getsockname()[1]
        return resolver

    async def answer() -> None:
        while True:
            data, sender = await sock.recvfrom(4096)
            question = dns.message.from_wire(data)
            name = question.question[0].name
            asked.append(name.to_text(omit_final_dot=True))
            reply = dns.message.make_response(question)
            texts = records.get(asked[-1])
            if texts:
                reply.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *texts))
            elif texts is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            await sock.sendto(reply.to_wire(), sender)

    monkeypatch.setattr(dnsaddr, "Resolver", system_resolver)
    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            yield asked
            nursery.cancel_scope.cancel()


async def test_a_name_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        open_transport(secret=b"1" * 32, listen=LISTEN) as one,
        open_transport(secret=b"2" * 32, listen=[]) as two,
    ):
        port = one.addresses[0].split("/")[4]
        records = {
            "_dnsaddr.boot.test": [
                f"dnsaddr=/dnsaddr/eu.boot.test/p2p/{one.peer_id}",
                f"dnsaddr=/dnsaddr/us.boot.test/p2p/{OTHER}",
            ],
            "_dnsaddr.eu.boot.test": [
                f"dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/{one.peer_id}",
                f"dnsaddr=/dns4/localhost/tcp/{port}/p2p/{one.peer_id}",
                f"dnsaddr=/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{one.peer_id}",
            ],
        }
        async with name_server(monkeypatch, records) as asked:
            address = f"/dnsaddr/boot.test/p2p/{one.peer_id}"
            assert await two.dial(address) == one.peer_id
            assert two.peers()[one.peer_id].address == address
            assert asked == ["_dnsaddr.boot.test", "_dnsaddr.eu.boot.test"]


async def test_only_addresses_of_the_peer_we_want(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        f"dnsaddr=/ip4/203.0.113.1/tcp/1/p2p/{ID}",
        f"dnsaddr=/ip4/203.0.113.2/tcp/1/p2p/{OTHER}",
        "dnsaddr=/ip4/203.0.113.3/tcp/1",
        f"/ip4/203.0.113.4/tcp/1/p2p/{ID}",
        f'"dnsaddr=/ip6/2001:db8::1/tcp" "/1/p2p/{ID}"',  # a long record comes in pieces
        f"dnsaddr=/ip4/203.0.113.6/tcp/1/p2p/{OTHER}/p2p/{ID}",
        "v=spf1",
    ]
    async with name_server(monkeypatch, {"_dnsaddr.n.test": texts}):
        found = await addresses_behind("/dnsaddr/n.test", ID)
    assert sorted(found) == ["/ip4/203.0.113.1/tcp/1", "/ip6/2001:db8::1/tcp/1"]


@pytest.mark.parametrize("name", ["none.test", "empty.test", "other.test"])
async def test_a_name_without_addresses_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    records = {
        "_dnsaddr.empty.test": [],
        "_dnsaddr.other.test": [f"dnsaddr=/ip4/203.0.113.2/tcp/1/p2p/{OTHER}"],
    }
    async with (
        name_server(monkeypatch, records),
        open_transport(secret=b"2" * 32, listen=[]) as transport,
    ):
        with pytest.raises(UnreachableError, match="_dnsaddr"):
            await transport.dial(f"/dnsaddr/{name}/p2p/{ID}")


async def test_circles_and_fans_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record leads to itself and to twenty others, each of which does the same."""
    names = ["n.test", *(f"n{number}.test" for number in range(20))]
    texts = [f"dnsaddr=/dnsaddr/{name}/p2p/{ID}" for name in names]
    async with name_server(monkeypatch, {f"_dnsaddr.{name}": texts for name in names}) as asked:
        with pytest.raises(UnreachableError):
            await addresses_behind("/dnsaddr/n.test", ID)
        assert len(set(asked)) == MAX_LOOKUPS
