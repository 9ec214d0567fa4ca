"""The ``Transport`` port over libp2p.

``async with open_transport(secret=..., listen=[...]) as transport`` is all a caller needs.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID

from orrange_p2p.core.errors import (
    ConfigError,
    DeadlineError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.core.ids import PeerId
from orrange_p2p.p2p.cleanup import unwrap_single
from orrange_p2p.p2p.dnsaddr import addresses_behind
from orrange_p2p.p2p.gossip import Gossip
from orrange_p2p.p2p.host import RunningHost, parse_multiaddr, run_host
from orrange_p2p.p2p.limits import DEFAULT_LIMITS, Counters, Limits
from orrange_p2p.p2p.streams import Streams
from orrange_p2p.ports import GossipHandler, PeerInfo, RequestHandler

__all__ = ["Libp2pTransport", "open_transport"]

PROTOCOL_NAME = re.compile(r"/orrange(/[a-z0-9._-]+)+")


@asynccontextmanager
async def open_transport(
    *,
    secret: bytes,
    listen: Sequence[str],
    limits: Limits = DEFAULT_LIMITS,
    lost_percent: int = 0,
) -> AsyncIterator[Libp2pTransport]:
    """A node on the network for the length of the block.

    ``secret`` are the 32 secret bytes of an Ed25519 key, which is the node's name; keep them.
    ``listen`` are multiaddrs such as ``/ip4/127.0.0.1/tcp/0``; none means that nobody can dial us.
    ``lost_percent``: so many of the messages that gossip brings are lost on purpose.

    Raises ``ConfigError`` and ``PortInUseError`` before the block starts. An exception of one of
    our handlers that is no ``PeerError`` cancels the block and is raised from it, several at once
    as an ``ExceptionGroup``; nothing a peer does raises here. On leaving, by whatever way,
    connections and sockets are closed; that takes a fifth of a second, ``close_timeout_s`` at most.
    """
    counters: Counters = Counter()
    async with (
        unwrap_single(),
        run_host(secret, listen, limits, counters) as running,
        trio.open_nursery() as own,
    ):
        transport = Libp2pTransport(running, limits, counters, own, lost_percent)
        own.start_soon(transport._gossip.run)
        try:
            yield transport
        finally:
            transport._closed = True
            own.cancel_scope.cancel()


class Libp2pTransport:
    """See ``ports.Transport``. Made by ``open_transport`` only."""

    def __init__(
        self,
        running: RunningHost,
        limits: Limits,
        counters: Counters,
        nursery: trio.Nursery,
        lost_percent: int,
    ) -> None:
        self._running = running
        self._limits = limits
        self._counters = counters
        self._gossip = Gossip(running, limits, counters, lost_percent)
        self._streams = Streams(running, limits, counters, nursery, self._gossip.blame)
        self._dialling: dict[ID, trio.Lock] = {}
        self._dialled: dict[ID, str] = {}
        self._closed = False

    @property
    def peer_id(self) -> PeerId:
        return PeerId(self._running.peer_id.to_base58())

    @property
    def addresses(self) -> Sequence[str]:
        return self._running.addresses

    async def dial(self, address: str) -> PeerId:
        """See the port. Concurrent dials to one peer make one connection; ``dial_timeout_s``
        bounds the whole, name resolution and all resolved addresses included."""
        self._check_open()
        target, peer_id = _split_address(address)
        if peer_id == self._running.peer_id:
            raise ConfigError(f"{address} is this node itself; remove it from the list of peers")
        lock = self._dialling.setdefault(peer_id, trio.Lock())
        try:
            async with lock:
                if not self._running.swarm.get_connections(peer_id):
                    await self._connect(target, peer_id, address)
                    self._dialled[peer_id] = address
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._dialling.pop(peer_id, None)
        return PeerId(peer_id.to_base58())

    async def _connect(self, target: Any, peer_id: ID, address: str) -> None:
        # Past ``Swarm.dial_peer``, which waits 250 ms after each success, tries one address
        # only and blocks a peer for a minute after a failure (swarm.py:886, :109).
        with trio.move_on_after(self._limits.dial_timeout_s) as scope:
            try:
                await self._dial_each(target, peer_id)
            except Exception as error:
                raise UnreachableError(f"cannot connect to {address}: {error}") from error
        if scope.cancelled_caught:
            self._check_open()
            raise DeadlineError(
                f"no connection to {address} within {self._limits.dial_timeout_s:g} s"
            )

    async def _dial_each(self, target: Any, peer_id: ID) -> None:
        """Dial what ``target`` stands for, one address after the other, until one answers."""
        dial = self._running.swarm._dial_addr_single_attempt
        addresses = await addresses_behind(str(target), peer_id.to_base58())
        random.shuffle(addresses)  # one that is silent takes the whole deadline
        for address in addresses[:-1]:
            with suppress(SwarmException):
                await dial(parse_multiaddr(address), peer_id)
                return
        await dial(parse_multiaddr(addresses[-1]), peer_id)

    async def disconnect(self, peer: PeerId) -> None:
        await self._running.swarm.close_peer(ID.from_base58(peer))

    def peers(self) -> Mapping[PeerId, PeerInfo]:
        topics = self._running.pubsub.peer_topics
        found: dict[PeerId, PeerInfo] = {}
        for peer_id, connections in self._running.swarm.connections.items():
            live = [connection for connection in connections if not connection.is_closed]
            if live:
                name = PeerId(peer_id.to_base58())
                heard = sorted(topic for topic, who in topics.items() if peer_id in who)
                found[name] = PeerInfo(name, self._address(peer_id, live[0]), tuple(heard))
        for peer_id in [p for p in self._dialled if p not in self._running.swarm.connections]:
            del self._dialled[peer_id]
        return found

    def _address(self, peer_id: ID, connection: Any) -> str:
        if peer_id in self._dialled:
            return self._dialled[peer_id]
        addresses = connection.get_transport_addresses()
        return f"{addresses[0]}/p2p/{peer_id.to_base58()}" if addresses else ""

    async def subscribe(self, topic: str, handler: GossipHandler) -> None:
        self._check_open()
        await self._gossip.subscribe(topic, handler)

    async def publish(self, topic: str, payload: bytes) -> None:
        self._check_open()
        await self._gossip.publish(topic, payload)

    def serve(self, protocol: str, handler: RequestHandler) -> None:
        self._check_open()
        if not PROTOCOL_NAME.fullmatch(protocol):
            raise ConfigError(f"{protocol!r} is not a protocol of ours, such as /orrange/sync/1")
        self._streams.serve(protocol, handler)

    async def request(
        self, peer: PeerId, protocol: str, payload: bytes, *, timeout_s: float
    ) -> bytes:
        self._check_open()
        reply = None
        with trio.move_on_after(timeout_s):
            reply = await self._streams.request(peer, protocol, payload)
        if reply is None:
            raise DeadlineError(f"{peer} did not answer on {protocol} within {timeout_s:g} s")
        return reply

    def favour(self, parts: Mapping[PeerId, float]) -> None:
        known = {}
        for peer, part in parts.items():
            with suppress(ValueError):  # claims of others, on a chain: some are no names at all
                known[ID.from_base58(peer)] = part
        self._gossip.favour(known)

    def counters(self) -> Mapping[str, int]:
        """Totals since the start, and two levels: ``gossip_queued`` and ``peers``."""
        return {
            **self._counters,
            "gossip_queued": self._gossip.queued(),
            "peers": len(self._running.swarm.connections),
        }

    def _check_open(self) -> None:
        if self._closed:
            raise WorldError("the transport is closed")


def _split_address(address: str) -> tuple[Any, ID]:
    head, separator, name = address.rpartition("/p2p/")
    try:
        peer_id = ID.from_base58(name)
        parse_multiaddr(address)
    except (ValueError, ConfigError):
        separator = ""
    if not separator or not head:
        raise ConfigError(f"cannot dial {address!r}: write /ip4/ADDRESS/tcp/PORT/p2p/PEER-ID")
    return parse_multiaddr(head), peer_id
