"""Every bound of the network layer in one place, with the reason for its size."""

from __future__ import annotations

from collections import Counter
from typing import Final

from attrs import frozen

__all__ = ["DEFAULT_LIMITS", "Counters", "Limits"]

KIB: Final = 1024
MIB: Final = 1024 * 1024

Counters = Counter[str]
"""Running totals by name. One per transport, shared by its parts; never reset."""


@frozen(kw_only=True)
class Limits:
    """Bounds and deadlines of one transport. The defaults suit a node on the open internet."""

    # Gossip.
    message_bytes: int = 900 * KIB
    """Largest gossip payload; an RPC around it has to stay below 1 MiB, which peers drop."""
    inbound_messages: int = 4096
    """Messages that wait for a handler, all peers together."""
    inbound_bytes: int = 64 * MIB
    inbound_peer_messages: int = 1024
    """Share of one peer in the above, so that none can crowd out the others."""
    inbound_wait_s: float = 1.0
    """How long a full queue from which no handler takes anything holds a peer's stream back before
    its messages are dropped. Below the 5 s after which stock peers give a blocked stream up."""
    handlers: int = 32
    """Gossip handlers that run at a time: enough to fill a batch of signature checks."""
    outbound_messages: int = 8192
    """Frames that wait for one peer."""
    outbound_bytes: int = 32 * MIB
    publish_wait_s: float = 1.0
    """How long ``publish`` waits while the queues of all its peers are more than half full."""
    seen_messages: int = 131_072
    """Ids remembered, for two minutes; at a few thousand messages a second half a minute."""
    recent_bytes: int = 16 * MIB
    """Messages kept to answer IWANT."""
    peer_topics: int = 64
    """Topics of one peer that are remembered."""

    rejects: int = 20
    """Small invalid messages and requests at once that graylist a peer; of the largest messages
    five do (see ``scoring``). Then it is disconnected and refused. An honest peer sends none."""
    ban_s: float = 60.0
    """The first time; each further ban of a peer lasts twice as long, 64 times at most."""
    bans_per_address: int = 8
    """Bans of peers of one IP address within ``ban_s``; then the address is refused for as long,
    since new peer ids cost nothing."""

    # Streams.
    request_bytes: int = MIB
    reply_bytes: int = 4 * MIB
    serve_timeout_s: float = 30.0
    """From the opening of a request stream to the end of the reply."""
    served_per_peer: int = 16
    served_total: int = 128

    # Connections.
    connections: int = 256
    connections_per_address: int = 64
    """Inbound ones from one IPv4 address or IPv6 /64; several nodes may share it behind a NAT."""
    connections_per_group: int = 128
    """Inbound ones from one IPv4 /24 or IPv6 /56, which one customer can have whole: half of the
    places, so that no such network takes them all."""
    streams_per_connection: int = 64
    dial_timeout_s: float = 10.0
    handshake_timeout_s: float = 10.0
    close_timeout_s: float = 3.0


DEFAULT_LIMITS: Final = Limits()
