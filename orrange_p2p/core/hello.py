"""``/orrange/hello/1``: who a peer is, before anything else is said (protocol/06-peers.md).

Request and reply are the same record. It is the one message that nodes of all versions and networks
understand, so what follows its known items belongs to later versions and is passed over.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.ids import MarketId

__all__ = ["PROTOCOL", "VERSIONS", "Hello", "Versions", "decode_hello"]

PROTOCOL: Final = "/orrange/hello/1"
MAX_HELLO_BYTES: Final = 16 * 1024
ITEMS: Final = 6
MAX_ITEMS: Final = 32
MAX_VERSION: Final = 65535
MAX_AGENT_BYTES: Final = 64
MAX_MARKETS: Final = 64
MAX_ADDRESSES: Final = 8
MAX_KNOWN: Final = 32
MAX_ADDRESS_BYTES: Final = 256


class Versions(NamedTuple):
    """The wire versions a node speaks, both ends included."""

    lowest: int
    highest: int

    def common(self, other: Versions) -> int | None:
        """The highest that both speak."""
        version = min(self.highest, other.highest)
        return version if version >= max(self.lowest, other.lowest) else None

    def __str__(self) -> str:
        return str(self.lowest) if self.lowest == self.highest else f"{self.lowest}..{self.highest}"


VERSIONS: Final = Versions(1, 1)
"""What this program speaks."""


class Hello(NamedTuple):
    """What a node says of itself, and of others it knows."""

    network_id: bytes
    versions: Versions
    agent: str
    """Program and version, for people only."""
    markets: tuple[MarketId, ...]
    """Those it carries."""
    addresses: tuple[str, ...]
    """Multiaddrs under which it can be dialled; each ends in its peer id."""
    known: tuple[str, ...]
    """Multiaddrs of others it was connected with lately."""

    def encode(self) -> bytes:
        return codec.encode(
            (
                self.network_id,
                self.versions,
                self.agent,
                self.markets,
                self.addresses,
                self.known,
            )
        )


def decode_hello(data: bytes) -> Hello:
    """Raises ``OversizedError`` or ``MalformedError``."""
    record = codec.items(codec.decode_canonical(data, MAX_HELLO_BYTES), MAX_ITEMS, "hello")
    if len(record) < ITEMS:
        raise MalformedError(f"hello has {len(record)} items where {ITEMS} are known")
    bounds = codec.array(record[1], 2, "versions")
    lowest = codec.uint(bounds[0], "lowest version", MAX_VERSION)
    highest = codec.uint(bounds[1], "highest version", MAX_VERSION)
    if not 1 <= lowest <= highest:
        raise MalformedError("versions are not a range from 1 on")
    markets = codec.items(record[3], MAX_MARKETS, "markets")
    return Hello(
        codec.octets(record[0], 32, "network id"),
        Versions(lowest, highest),
        _printable(record[2], MAX_AGENT_BYTES, "agent"),
        tuple(MarketId(codec.octets(market, 32, "market")) for market in markets),
        _addresses(record[4], MAX_ADDRESSES, "addresses"),
        _addresses(record[5], MAX_KNOWN, "known"),
    )


def _addresses(value: codec.Value, most: int, what: str) -> tuple[str, ...]:
    texts = codec.items(value, most, what)
    return tuple(_printable(text, MAX_ADDRESS_BYTES, what) for text in texts)


def _printable(value: codec.Value, most: int, what: str) -> str:
    """It goes to logs and terminals: no control characters, no look-alikes."""
    text = codec.text(value, most, what)
    if not (text.isascii() and text.isprintable()):
        raise MalformedError(f"{what} is not printable ASCII")
    return text
