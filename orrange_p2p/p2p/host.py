"""A libp2p host as this project runs it: TCP, noise, yamux, gossipsub 1.1, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import frozen
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.p2p.cleanup import shielded_for
from orrange_p2p.p2p.hardening import require_version
from orrange_p2p.p2p.hardening.muxer import HardMuxerMultistream
from orrange_p2p.p2p.hardening.network import (
    HardHost,
    HardListener,
    HardSwarm,
    HardTCP,
    quiet_logging,
)
from orrange_p2p.p2p.hardening.pubsub import HardPubsub
from orrange_p2p.p2p.hardening.router import HardGossipSub
from orrange_p2p.p2p.hardening.services import run_guarded
from orrange_p2p.p2p.limits import Counters, Limits

__all__ = ["RunningHost", "run_host"]


@frozen
class RunningHost:
    """The parts of a host that runs."""

    peer_id: ID
    host: HardHost
    swarm: HardSwarm
    pubsub: HardPubsub
    addresses: tuple[str, ...]
    """What it listens on, each with ``/p2p/<peer id>``; port 0 is replaced by the real one."""


@asynccontextmanager
async def run_host(
    secret: bytes, listen: Sequence[str], limits: Limits, counters: Counters
) -> AsyncIterator[RunningHost]:
    """Listen and run until the block ends; then every connection and listener is closed.

    Raises ``ConfigError`` for a secret that is not 32 bytes, an address that cannot be used or
    another version of libp2p; ``PortInUseError`` for a port that is taken.
    """
    require_version()
    if len(secret) != 32:
        raise ConfigError(f"a node key has 32 secret bytes, this one {len(secret)}")
    maddrs = [parse_multiaddr(text) for text in listen]
    quiet_logging()
    swarm, peer_id = _swarm(secret, limits, counters)
    host = HardHost(swarm)
    router = HardGossipSub(limits, counters)
    pubsub = HardPubsub(host, router, limits, counters)
    async with (
        run_guarded(swarm, counters),
        run_guarded(pubsub, counters),
        run_guarded(router, counters),
        trio.open_nursery() as listening,
    ):
        try:
            await pubsub.wait_until_ready()
            with trio.fail_after(limits.handshake_timeout_s):
                for number, maddr in enumerate(maddrs):
                    # Not ``Swarm.listen``, which swallows the reason of a failure.
                    listener = HardListener(swarm, listening)
                    await listener.listen(maddr)
                    swarm.listeners[f"{maddr}#{number}"] = listener
            addresses = tuple(
                f"{address}/p2p/{peer_id.to_base58()}"
                for listener in swarm.listeners.values()
                for address in listener.get_addrs()
            )
            yield RunningHost(peer_id, host, swarm, pubsub, addresses)
        finally:
            with shielded_for(limits.close_timeout_s):
                await _close(host, swarm)


def parse_multiaddr(text: str) -> Multiaddr:
    """Raises ``ConfigError`` for text that is no multiaddr."""
    try:
        return Multiaddr(text)
    except Exception as error:
        raise ConfigError(
            f"{text!r} is not a multiaddr; write it like /ip4/127.0.0.1/tcp/4001"
        ) from error


def _swarm(secret: bytes, limits: Limits, counters: Counters) -> tuple[HardSwarm, ID]:
    keys = create_new_key_pair(secret)
    peer_id = ID.from_pubkey(keys.public_key)
    noise = NoiseTransport(keys, noise_privkey=create_new_x25519_key_pair().private_key)
    upgrader = TransportUpgrader({NOISE: noise}, {})
    upgrader.muxer_multistream = HardMuxerMultistream(limits, counters)
    peers = PeerStore()
    peers.add_key_pair(peer_id, keys)
    swarm = HardSwarm(
        peer_id,
        peers,
        upgrader,
        [HardTCP()],
        retry_config=RetryConfig(max_retries=0),
        connection_config=ConnectionConfig(
            max_connections=2 * limits.connections,
            high_watermark=2 * limits.connections,
            low_watermark=0,
            min_connections=0,
            inbound_upgrade_timeout=limits.handshake_timeout_s,
            outbound_upgrade_timeout=limits.handshake_timeout_s,
        ),
    )
    swarm.attach(limits, counters)
    return swarm, peer_id


async def _close(host: HardHost, swarm: HardSwarm) -> None:
    """Close all connections at once: one by one each takes a fifth of a second."""
    async with trio.open_nursery() as nursery:
        for peer_id in list(swarm.connections):
            nursery.start_soon(swarm.close_peer, peer_id)
    for listener in swarm.listeners.values():
        await listener.close()
    swarm.listeners.clear()
    await host.close()
