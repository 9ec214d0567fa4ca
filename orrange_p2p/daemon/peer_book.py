"""The peers a node remembers, so that it finds back when every bootstrap peer is gone.

Bounded, kept in the store, time as an argument. An address is a rumour until a handshake proves
who is there: rumours are tried last, and are the first to be forgotten.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import define, field

from orrange_p2p.core import codec
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.hello import MAX_ADDRESS_BYTES
from orrange_p2p.core.ids import PeerId

__all__ = ["PeerBook", "RememberedPeer", "is_local", "name_of", "reachable_from"]

MAX_PEERS: Final = 512
MAX_ADDRESSES: Final = 8
MAX_BOOK_BYTES: Final = 2 * 1024 * 1024
MAX_FAILURES: Final = 32
FIRST_PAUSE_MS: Final = 250
LAST_PAUSE_MS: Final = 10 * 60_000
LAST_PAUSE_KEPT_MS: Final = 30_000
"""For peers that the operator named: those are worth a dial every half minute for ever."""

_IP: Final = re.compile(r"/(?:ip4|ip6)/([^/]+)(/.*)")


@define
class RememberedPeer:
    """One peer, by its id."""

    peer_id: PeerId
    addresses: list[str] = field(factory=list)
    """The one that last worked first."""
    seen_ms: int = 0
    """Wall clock time of the last connection; 0 if there never was one."""
    is_proven: bool = False
    """We dialled it and found it there. Whoever only came to us may have a thousand names."""
    failures: int = 0
    """Rounds over all its addresses that failed since."""
    retry_ms: int = 0
    """On the monotonic clock; not kept."""
    is_kept: bool = False
    """Named by the operator; not kept here but in the configuration."""
    standing: float = 0.0
    """What its owner is worth, in parts of the worthiest; not kept."""

    def add(self, addresses: Sequence[str], *, first: bool = False) -> None:
        fresh = [address for address in addresses if first or address not in self.addresses]
        rest = [address for address in self.addresses if address not in fresh]
        self.addresses = (fresh + rest if first else rest + fresh)[:MAX_ADDRESSES]

    def failed(self, now_ms: int) -> None:
        """All its addresses failed: pause twice as long as the last time."""
        most_ms = LAST_PAUSE_KEPT_MS if self.is_kept else LAST_PAUSE_MS
        self.retry_ms = now_ms + min(FIRST_PAUSE_MS << self.failures, most_ms)
        self.failures = min(self.failures + 1, MAX_FAILURES)

    def worth(self) -> tuple[bool, bool, float, bool, int, int]:
        """The larger, the longer it is kept and the earlier dialled. An owner's claim to a peer
        counts once we found that peer."""
        standing = self.standing if self.is_proven else 0.0
        met = self.seen_ms > 0
        return self.is_kept, self.is_proven, standing, met, -self.failures, self.seen_ms


class PeerBook:
    """At most ``MAX_PEERS`` peers; the least worth gives way."""

    def __init__(self) -> None:
        self._peers: dict[PeerId, RememberedPeer] = {}
        self._standings: Mapping[PeerId, float] = {}

    def favour(self, standings: Mapping[PeerId, float]) -> None:
        """What owners of peers are worth, instead of what was said before."""
        self._standings = dict(standings)
        for peer in self._peers.values():
            peer.standing = self._standings.get(peer.peer_id, 0.0)

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[RememberedPeer]:
        return iter(list(self._peers.values()))

    def get(self, peer_id: PeerId) -> RememberedPeer | None:
        return self._peers.get(peer_id)

    def remember(self, peer_id: PeerId) -> RememberedPeer:
        """The peer's entry, made if need be. A full book forgets one for it."""
        if peer_id not in self._peers:
            if len(self._peers) >= MAX_PEERS:
                least = min(self._peers.values(), key=RememberedPeer.worth)
                del self._peers[least.peer_id]
            standing = self._standings.get(peer_id, 0.0)
            self._peers[peer_id] = RememberedPeer(peer_id, standing=standing)
        return self._peers[peer_id]

    def forget(self, peer_id: PeerId) -> None:
        self._peers.pop(peer_id, None)

    def best_first(self) -> list[RememberedPeer]:
        return sorted(self._peers.values(), key=RememberedPeer.worth, reverse=True)

    def encode(self) -> bytes:
        """Those we ever were connected with."""
        met = [peer for peer in self.best_first() if peer.seen_ms]
        return codec.encode(
            tuple(
                (p.peer_id, tuple(p.addresses), p.seen_ms, int(p.is_proven), p.failures)
                for p in met
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> PeerBook:
        """Raises ``MalformedError`` for what ``encode`` did not write."""
        book = cls()
        for row in codec.items(codec.decode_canonical(data, MAX_BOOK_BYTES), MAX_PEERS, "peers"):
            name, addresses, seen_ms, proven, failures = codec.array(row, 5, "peer")
            peer = book.remember(PeerId(codec.text(name, 128, "peer id")))
            peer.addresses = [
                codec.text(address, MAX_ADDRESS_BYTES, "address")
                for address in codec.items(addresses, MAX_ADDRESSES, "addresses")
            ]
            if any(name_of(address) != peer.peer_id for address in peer.addresses):
                raise MalformedError("an address of another peer")
            peer.seen_ms = codec.uint(seen_ms, "seen_ms")
            peer.is_proven = codec.uint(proven, "proven", 1) == 1
            peer.failures = codec.uint(failures, "failures", MAX_FAILURES)
        return book


def name_of(address: str) -> PeerId:
    """The peer a multiaddr leads to; empty if it names none."""
    head, separator, name = address.rpartition("/p2p/")
    return PeerId(name if head and separator and "/" not in name else "")


def is_local(address: str) -> bool:
    """Whether it leads into a private network, this machine or this process. DNS names count as
    being on the internet."""
    found = _IP.match(address)
    if found is None:
        return address.startswith("/memory/")
    try:
        return not ipaddress.ip_address(found[1]).is_global
    except ValueError:
        return True


def reachable_from(addresses: Sequence[str], teller: str) -> list[str]:
    """Of addresses a peer told, those we are willing to dial; ``teller`` is where it is itself.

    A peer on the internet names no addresses of private networks: it would have us knock at doors
    behind our firewall. It names no DNS names either, which lead anywhere. Where a peer listens
    on all its addresses, it is the one we know it by.
    """
    willing = []
    for address in addresses:
        found = _IP.match(address)
        if found is None:
            if not address.startswith("/memory/"):
                continue
        else:
            try:
                ip = ipaddress.ip_address(found[1])
            except ValueError:
                continue
            known = _IP.match(teller)
            if ip.is_unspecified:
                if known is None or (":" in known[1]) != (ip.version == 6):
                    continue
                address = f"/ip{ip.version}/{known[1]}{found[2]}"
            if is_local(address) and not is_local(teller):
                continue
        willing.append(address)
    return willing
