"""A node of ours to attack, and the question whether it survived."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from p2p_attacks import TOPIC
from p2p_processes import until

from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.libp2p_transport import Libp2pTransport, open_transport
from orrange_p2p.p2p.limits import Limits
from orrange_p2p.ports import Verdict

LISTEN = ["/ip4/127.0.0.1/tcp/0"]


@asynccontextmanager
async def victim(
    limits: Limits | None = None,
) -> AsyncIterator[tuple[Libp2pTransport, list[bytes]]]:
    """A node of ours and what it heard."""
    heard: list[bytes] = []

    async def hear(peer: PeerId, payload: bytes) -> Verdict:
        heard.append(payload)
        return Verdict.ACCEPT

    async with open_transport(
        secret=b"v" * 32, listen=LISTEN, limits=limits or Limits()
    ) as transport:
        await transport.subscribe(TOPIC, hear)
        yield transport, heard


async def check_alive(transport: Libp2pTransport, heard: list[bytes]) -> None:
    """An honest newcomer connects and is heard."""

    async def accept(peer: PeerId, payload: bytes) -> Verdict:
        return Verdict.ACCEPT

    heard.clear()
    async with open_transport(secret=b"h" * 32, listen=[]) as honest:
        await honest.subscribe(TOPIC, accept)
        peer = await honest.dial(transport.addresses[0])
        await until(lambda: TOPIC in honest.peers()[peer].topics)
        await honest.publish(TOPIC, b"honest")
        await until(lambda: b"honest" in heard)
