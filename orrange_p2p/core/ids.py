"""The distinct types of the protocol: what cannot be mixed up does not get mixed up.

Plain integers and byte strings at run time; to the type checker each is its own kind.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, NewType

# Quantities. All are integers in 0 .. 2^63-1 unless said otherwise.
Price = NewType("Price", int)
"""Price in the market's price ticks: quote units per lot, in steps of ``tick_size``."""
Lots = NewType("Lots", int)
"""Quantity in the market's lots: base units in steps of ``lot_size``."""
Amount = NewType("Amount", int)
"""Amount of an asset in its smallest unit, 0 .. 2^256-1."""
Weight = NewType("Weight", int)
"""Voting weight of a witness; 0 .. 2^32-1."""

# Positions.
Seq = NewType("Seq", int)
"""Number of an entry in its author's log, counted from 0."""
Round = NewType("Round", int)
"""Number of a round of the clock within its era, counted from 0."""
Era = NewType("Era", int)
"""Number of an era, counted from 0."""
Epoch = NewType("Epoch", int)
"""Number of an epoch of one market, counted from 1 over all eras; 0 is the genesis state."""
TimeMs = NewType("TimeMs", int)
"""Milliseconds since 1970-01-01T00:00:00Z."""

# Names.
Digest = NewType("Digest", bytes)
"""32 bytes: the EIP-712 digest that names an entry or a tick."""
Address = NewType("Address", bytes)
"""20 bytes: an author or witness, the EVM address of its public key."""
MarketId = NewType("MarketId", bytes)
"""32 bytes: SHA-256 of the encoded market record."""
NetworkId = NewType("NetworkId", bytes)
"""32 bytes: SHA-256 of the encoded genesis record."""
MatchId = NewType("MatchId", bytes)
"""32 bytes: the deterministic name of a match."""
PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58 text."""

MAX_UINT63: Final = (1 << 63) - 1
ZERO32: Final = bytes(32)


_ORDER_ID: Final = re.compile(r"0x([0-9a-fA-F]{40})/([0-9]{1,18})/([0-9]{1,4})")


class OrderId(NamedTuple):
    """Where an order was placed: operation ``position`` of entry ``seq`` of ``author``."""

    author: Address
    seq: Seq
    position: int

    def __str__(self) -> str:
        return f"0x{self.author.hex()}/{self.seq}/{self.position}"

    @classmethod
    def parse(cls, text: str) -> OrderId:
        """The order so written. Raises ``ValueError``."""
        match = _ORDER_ID.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no order: 0x<author>/<entry>/<position>")
        author, seq, position = match.groups()
        return cls(Address(bytes.fromhex(author)), Seq(int(seq)), int(position))
