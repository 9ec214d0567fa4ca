"""The ports: what the node needs from the world, as Protocols.

Adapters implement them (``p2p``, ``store``, ``signers``, ``chains``) and import no other adapter;
``daemon`` wires them together. Each port has a conformance suite under ``tests/ports``
that every adapter passes.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from orrange_p2p.core.ids import Address, Digest, PeerId

__all__ = [
    "Clock",
    "Entropy",
    "GossipHandler",
    "PeerInfo",
    "RequestHandler",
    "Signer",
    "Transport",
    "Verdict",
]


class Clock(Protocol):
    """Time from outside. The core never reads it; it is handed over as an argument."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, as far as this machine knows."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds from an arbitrary start; never runs backwards."""
        ...


class Entropy(Protocol):
    """Secret randomness from outside."""

    def token(self, size: int) -> bytes:
        """``size`` unpredictable bytes."""
        ...


class Signer(Protocol):
    """Holds one secp256k1 key and signs digests; the key itself never leaves it."""

    @property
    def address(self) -> Address:
        """The author or witness this key speaks for."""
        ...

    def sign(self, digest: Digest) -> bytes:
        """65 bytes ``r || s || v`` with low s and v in {27, 28} over a 32-byte digest."""
        ...


class Verdict(enum.Enum):
    """What a gossip handler says of a message, with gossipsub's meaning."""

    ACCEPT = "accept"
    """Valid: deliver and forward."""
    IGNORE = "ignore"
    """Of no use now (old, early, over budget): do not forward, do not blame."""
    REJECT = "reject"
    """Objectively invalid: do not forward, and the sending peer pays."""


GossipHandler = Callable[[PeerId, bytes], Awaitable[Verdict]]
"""Called with the peer that handed the message over (not its first sender) and its payload."""

RequestHandler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Called with the asking peer and its request; the returned bytes are the reply.

A ``PeerError`` resets the stream and blames the peer.
"""


class PeerInfo(NamedTuple):
    """One connected peer."""

    peer_id: PeerId
    address: str
    """The multiaddr it is connected on, as text; empty if the adapter has none."""
    topics: tuple[str, ...]
    """Topics it is subscribed to, as far as we heard."""


class Transport(Protocol):
    """Gossip and direct requests between nodes.

    Gossip is lossy and unordered; the application repairs gaps. No bytes from a peer make any
    of these calls raise anything but ``PeerError`` and ``WorldError``.
    """

    @property
    def peer_id(self) -> PeerId:
        """Our own name on the network."""
        ...

    @property
    def addresses(self) -> Sequence[str]:
        """Multiaddrs (with ``/p2p/<peer id>``) under which others can dial us."""
        ...

    async def dial(self, address: str) -> PeerId:
        """Connect to a multiaddr that ends in ``/p2p/<peer id>``; a no-op if connected.

        Raises ``ConfigError`` for an address that cannot be parsed, ``UnreachableError`` or
        ``DeadlineError`` if it cannot be reached.
        """
        ...

    def peers(self) -> Mapping[PeerId, PeerInfo]:
        """The peers connected right now."""
        ...

    async def subscribe(self, topic: str, handler: GossipHandler) -> None:
        """Join ``topic``; ``handler`` judges and takes every message of others, once per id.

        Our own messages do not come back. One handler per topic.
        """
        ...

    async def publish(self, topic: str, payload: bytes) -> None:
        """Hand ``payload`` to the mesh. Returns when queued; raises ``OversizedError`` past
        the adapter's message limit, ``WorldError`` after the transport has closed."""
        ...

    def serve(self, protocol: str, handler: RequestHandler) -> None:
        """Answer requests on a stream protocol such as ``/orrange/sync/1``."""
        ...

    async def request(
        self, peer: PeerId, protocol: str, payload: bytes, *, timeout_s: float
    ) -> bytes:
        """One request, one reply, on a stream of its own.

        Raises ``UnreachableError`` if the peer is not connected, resets or does not speak the
        protocol, ``DeadlineError`` after ``timeout_s`` seconds, ``OversizedError`` for a reply
        past the adapter's limit.
        """
        ...

    def counters(self) -> Mapping[str, int]:
        """Running totals (drops, rejects, bytes) by name; nothing is dropped uncounted."""
        ...
