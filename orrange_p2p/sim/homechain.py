"""The home chain as data: what its blocks show of bonds, keys, candidates, trades and convictions.

Blocks come at a fixed pace, none is replaced, and every one is final once it is there. What nodes
make of them is production's own: ``core.histories``, ``core.reputation``, ``core.election``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from orrange_p2p.core.election import Election
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Genesis, Market
from orrange_p2p.core.histories import ChainEvent, EventKind
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Place
from orrange_p2p.core.roster import Pin

__all__ = ["DAY_MS", "LONGEST_LOCK_DAYS", "MARKET", "WAY_OUT_DAYS", "HomeChain", "named"]

MARKET: Final = Market(
    "eip155:31337/slip44:60",
    "eip155:31337/erc20:0x" + "11" * 20,
    tick_size=1,
    lot_size=1,
    settlement="atomic",
    timing="evm-evm",
    rate_numerator=1,
    rate_denominator=1,
    volatility_ppm=1,
)
"""One smallest unit of quote is a micro-unit of the bond asset."""
DAY_MS: Final = 86_400_000
LONGEST_LOCK_DAYS: Final = 366
"""``Registry.MAX_LOCK_SECONDS``."""
WAY_OUT_DAYS: Final = 14
"""``Registry.UNBONDING_SECONDS``: it counts no more and can still be slashed."""


def named(name: str) -> Address:
    """An address that nobody has the key of."""
    return Address(sha256(f"orrange sim account {name}".encode()).digest()[:20])


class HomeChain:
    """Blocks and what they show, told in the order of time."""

    def __init__(self, chain: str, first_ms: int, block_ms: int) -> None:
        """``chain``: CAIP-2. Its first block is stamped ``first_ms``."""
        self._chain = chain
        self._first_ms = first_ms
        self._block_ms = block_ms
        self.events: list[ChainEvent] = []

    def block_at(self, time_ms: int) -> int:
        """The last block that is stamped no later. Raises ``ConfigError`` if none is."""
        if time_ms < self._first_ms:
            raise ConfigError(f"the home chain has no block as old as {time_ms} ms")
        return (time_ms - self._first_ms) // self._block_ms

    def stamp_ms(self, block: int) -> int:
        return self._first_ms + block * self._block_ms

    def pin_at(self, time_ms: int) -> Pin:
        """The last block that is stamped no later. Raises ``ConfigError`` if none is."""
        block = self.block_at(time_ms)
        return Pin(block, sha256(f"{self._chain} {block}".encode()).digest())

    def show(self, kind: EventKind, time_ms: int, subject: Address, **terms: Any) -> ChainEvent:
        """Something is sent at that time; the first block after it shows it. Raises ``ConfigError``
        for what would be shown before what was shown already."""
        block = self.block_at(time_ms) + 1
        log = 0
        if self.events:
            last = self.events[-1].place
            if block < last.block:
                raise ConfigError(f"block {block} comes after block {last.block} was made")
            log = last.log + 1 if block == last.block else 0
        place = Place(self._chain, block, log)
        event = ChainEvent(place, kind, self.stamp_ms(block) // 1000, subject, **terms)
        self.events.append(event)
        return event

    # --- what accounts do ---

    def bond(self, time_ms: int, owner: Address, amount: int, until_ms: int) -> None:
        """Add to a bond, and lock all of it."""
        until_s = until_ms // 1000
        self.show(EventKind.BONDED, time_ms, owner, amount=amount, until_s=until_s)

    def bind(self, time_ms: int, owner: Address, key: Address) -> None:
        self.show(EventKind.BOUND, time_ms, owner, other=key)

    def allocate(
        self, time_ms: int, owner: Address, key: Address, market: bytes, amount: int
    ) -> None:
        self.show(EventKind.ALLOCATED, time_ms, owner, other=key, market=market, amount=amount)

    def stand(
        self,
        time_ms: int,
        owner: Address,
        key: Address,
        market: bytes,
        anchor: bytes,
        since: int = 0,
    ) -> None:
        """Be a candidate; with an anchor of zeros, be none any more."""
        self.show(
            EventKind.STOOD, time_ms, owner, other=key, market=market, anchor=anchor, since=since
        )

    def settle(
        self, time_ms: int, buyer: Address, seller: Address, market: bytes, burned: int
    ) -> None:
        """A trade of one smallest unit of base, for one of quote, that burned a fee."""
        self.show(
            EventKind.SETTLED,
            time_ms,
            buyer,
            other=seller,
            market=market,
            amount=burned,
            paid=1,
            lots=1,
        )

    def slash(self, time_ms: int, owner: Address, key: Address) -> None:
        self.show(EventKind.SLASHED, time_ms, owner, other=key)

    # --- what nodes read ---

    def election(self, genesis: Genesis, time_ms: int) -> Election:
        """At the last block that is stamped no later."""
        pin = self.pin_at(time_ms)
        return Election(genesis, pin, self.stamp_ms(pin.block) // 1000, self.events)
