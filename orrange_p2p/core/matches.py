"""Matches: from two orders meeting to a trade that binds both (protocol/04-book.md, Matches).

The life of a match is the table ``TRANSITIONS``. A match starts when the matcher pairs two orders;
it is *seen* when witnesses of a quorum report its epoch as applied, which starts its deadline, so a
burst of commits cannot eat it; it ends as a trade when both sides accepted, or it lapses.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.entries import GROUP
from orrange_p2p.core.errors import IllegalTransitionError, MalformedError
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import (
    ZERO32,
    Address,
    Amount,
    Epoch,
    Lots,
    MarketId,
    MatchId,
    OrderId,
    Price,
    TimeMs,
)
from orrange_p2p.core.operations import MAX_TERMS_BYTES, Side
from orrange_p2p.crypto.eip712 import StructType

MATCH_KEY_BYTES: Final = 8 + 4
"""epoch, ordinal // 16."""
_RECORD: Final = Struct(">I20sQH20sQHBQQQBQ32s")
RECORD_BYTES: Final = 130
"""One match in a leaf; the last 32 of them name its terms."""
MAX_SAID_BYTES: Final = 2 * MAX_TERMS_BYTES + 16
_TRADE: Final = StructType(
    "Trade(bytes32 market,bytes32 fill,address buyer,address seller,"
    "uint256 baseAmount,uint256 quoteAmount,uint64 epoch,uint64 expiryMs)"
)


class MatchState(enum.IntEnum):
    """Where a match stands."""

    PENDING = 0
    """Neither side has accepted."""
    MAKER_ACCEPTED = 1
    TAKER_ACCEPTED = 2
    BOUND = 3
    """Both accepted: a trade."""
    LAPSED = 4
    """A side stayed silent past the deadline, or was frozen."""


class MatchEvent(enum.IntEnum):
    """What can happen to a match."""

    MAKER_ACCEPTS = 0
    TAKER_ACCEPTS = 1
    DEADLINE_PASSES = 2


TRANSITIONS: Final = {
    (MatchState.PENDING, MatchEvent.MAKER_ACCEPTS): MatchState.MAKER_ACCEPTED,
    (MatchState.PENDING, MatchEvent.TAKER_ACCEPTS): MatchState.TAKER_ACCEPTED,
    (MatchState.PENDING, MatchEvent.DEADLINE_PASSES): MatchState.LAPSED,
    (MatchState.MAKER_ACCEPTED, MatchEvent.TAKER_ACCEPTS): MatchState.BOUND,
    (MatchState.MAKER_ACCEPTED, MatchEvent.DEADLINE_PASSES): MatchState.LAPSED,
    (MatchState.TAKER_ACCEPTED, MatchEvent.MAKER_ACCEPTS): MatchState.BOUND,
    (MatchState.TAKER_ACCEPTED, MatchEvent.DEADLINE_PASSES): MatchState.LAPSED,
}
"""Everything that can happen; any other pair raises and changes nothing."""


class Match:
    """Two orders that met. ``state`` and ``deadline_epoch`` are all that ever changes."""

    __slots__ = (
        "deadline_epoch",
        "epoch",
        "expiry_ms",
        "group",
        "id",
        "maker",
        "maker_side",
        "ordinal",
        "price",
        "quantity",
        "state",
        "taker",
        "terms",
    )

    def __init__(
        self,
        market: Market,
        market_id: MarketId,
        epoch: Epoch,
        expiry_ms: TimeMs,
        ordinal: int,
        group: MatchGroup,
        maker: OrderId,
        taker: OrderId,
        maker_side: Side,
        price: Price,
        quantity: Lots,
    ) -> None:
        self.epoch = epoch
        self.expiry_ms = expiry_ms
        """From then on contracts settle it no more, whoever has the signatures."""
        self.ordinal = ordinal
        """Which fill of its epoch it is, counted from 0."""
        self.group = group
        self.maker = maker
        self.taker = taker
        self.maker_side = maker_side
        self.price = price
        self.quantity = quantity
        self.state = MatchState.PENDING
        self.deadline_epoch = Epoch(0)
        """Last epoch in which an accept counts; 0 until the match is seen."""
        self.terms: dict[Address, bytes] = {}
        """What each side said in its accept."""
        self.id = self.trade(market, market_id).id

    @property
    def buyer(self) -> Address:
        return self.maker.author if self.maker_side == Side.BUY else self.taker.author

    @property
    def seller(self) -> Address:
        return self.taker.author if self.maker_side == Side.BUY else self.maker.author

    def trade(self, market: Market, market_id: MarketId) -> Trade:
        """What it becomes when both accept."""
        return Trade(
            market_id,
            fill_name(market_id, self.epoch, self.ordinal, self.maker, self.taker),
            self.buyer,
            self.seller,
            Amount(self.quantity * market.lot_size),
            Amount(self.quantity * self.price * market.tick_size),
            self.epoch,
            self.expiry_ms,
        )

    def advance(self, event: MatchEvent) -> None:
        """Apply one event; raises ``IllegalTransitionError`` for one the table does not list."""
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            raise IllegalTransitionError(f"{event.name} of a match that is {self.state.name}")
        self.state = target

    def accepted_by(self, author: Address) -> bool:
        """Whether this party's accept is in."""
        return author in self.terms

    def record(self) -> bytes:
        """Its part of the group's leaf (protocol/02-merkle.md)."""
        terms = ZERO32
        if self.terms:
            terms = sha256(self.said()).digest()
        return _RECORD.pack(
            self.ordinal,
            self.maker.author,
            self.maker.seq,
            self.maker.position,
            self.taker.author,
            self.taker.seq,
            self.taker.position,
            self.maker_side,
            self.price,
            self.quantity,
            self.expiry_ms,
            self.state,
            self.deadline_epoch,
            terms,
        )

    @classmethod
    def of_record(
        cls, market: Market, market_id: MarketId, group: MatchGroup, record: bytes
    ) -> Match:
        """The pending match of a record of the group; what the sides said in their accepts is yet
        to be filled in. Raises ``MalformedError``."""
        if len(record) != RECORD_BYTES:
            raise MalformedError("a leaf of matches ends within a record")
        (
            ordinal, maker, maker_seq, maker_position, taker, taker_seq, taker_position, side,
            price, quantity, expiry_ms, state, deadline, _,
        ) = _RECORD.unpack(record)  # fmt: skip
        if side > Side.SELL or state > MatchState.TAKER_ACCEPTED:
            raise MalformedError("not a pending match")
        epoch = Epoch(int.from_bytes(group.key[:8], "big"))
        made_by = OrderId(maker, maker_seq, maker_position)
        met = OrderId(taker, taker_seq, taker_position)
        match = cls(
            market,
            market_id,
            epoch,
            TimeMs(expiry_ms),
            ordinal,
            group,
            made_by,
            met,
            Side(side),
            Price(price),
            Lots(quantity),
        )
        match.state = MatchState(state)
        match.deadline_epoch = Epoch(deadline)
        return match

    def said(self) -> bytes:
        """The encoded ``Terms``: maker's and taker's, empty for a side that has not accepted."""
        sides = (self.terms.get(self.maker.author, b""), self.terms.get(self.taker.author, b""))
        return codec.encode(sides)

    def take_said(self, data: bytes) -> None:
        """Fill in what the sides said that have accepted. Raises ``MalformedError``."""
        sides = codec.array(codec.decode_canonical(data, MAX_SAID_BYTES), 2, "terms")
        maker, taker = [codec.octets_upto(side, MAX_TERMS_BYTES, "terms") for side in sides]
        if self.state == MatchState.MAKER_ACCEPTED:
            self.terms[self.maker.author] = maker
        elif self.state == MatchState.TAKER_ACCEPTED:
            self.terms[self.taker.author] = taker


def terms_named(leaf: bytes) -> list[bytes]:
    """The hashes of the terms that the matches of a leaf have, zeros left out."""
    named = [leaf[end - 32 : end] for end in range(RECORD_BYTES, len(leaf) + 1, RECORD_BYTES)]
    return [name for name in named if name != ZERO32]


class MatchGroup:
    """Up to sixteen pending matches with successive ordinals: one leaf of the matches map."""

    __slots__ = ("changed", "count", "key", "slots")

    def __init__(self, epoch: Epoch, ordinal: int) -> None:
        self.key = epoch.to_bytes(8, "big") + (ordinal // GROUP).to_bytes(4, "big")
        self.slots: list[Match | None] = [None] * GROUP
        self.count = 0
        self.changed = False

    def leaf(self) -> bytes:
        """The records of its pending matches in order of their ordinals."""
        return b"".join([match.record() for match in self.slots if match is not None])

    @classmethod
    def of_key(cls, key: bytes) -> MatchGroup:
        """The group that has this key, still empty."""
        number = int.from_bytes(key[8:], "big")
        return cls(Epoch(int.from_bytes(key[:8], "big")), number * GROUP)

    def load(
        self, market: Market, market_id: MarketId, leaf: bytes, terms: Mapping[bytes, bytes]
    ) -> list[Match]:
        """Fill the empty group with the matches of its leaf; these matches.

        ``terms``: encoded ``Terms`` by their SHA-256. Raises ``MalformedError`` for what ``leaf``
        cannot have written, ``KeyError`` for terms that are missing.
        """
        matches = []
        for start in range(0, len(leaf), RECORD_BYTES):
            record = leaf[start : start + RECORD_BYTES]
            match = Match.of_record(market, market_id, self, record)
            if record[-32:] != ZERO32:
                match.take_said(terms[record[-32:]])
            self.slots[match.ordinal % GROUP] = match
            self.count += 1
            matches.append(match)
        if not matches or self.leaf() != leaf:
            raise MalformedError("not a leaf of matches")
        return matches


class Trade(NamedTuple):
    """What both sides of a match sign and contracts check."""

    market: MarketId
    fill: bytes
    """Which fill of which orders: see ``fill_name``."""
    buyer: Address
    seller: Address
    base_amount: Amount
    """Smallest units of base."""
    quote_amount: Amount
    """Smallest units of quote; exact, since a tick is a whole number of them per lot."""
    epoch: Epoch
    expiry_ms: TimeMs
    """From this time of the chain on it cannot be settled."""

    @property
    def id(self) -> MatchId:
        """The EIP-712 struct hash: so whoever names a match has named all of its terms."""
        return MatchId(_TRADE.hash(self))


def fill_name(
    market: MarketId, epoch: Epoch, ordinal: int, maker: OrderId, taker: OrderId
) -> bytes:
    """The name of the ``ordinal``-th fill of an epoch. All of it is known to every node alike."""
    return sha256(
        b"".join(
            (
                market,
                epoch.to_bytes(8, "big"),
                ordinal.to_bytes(4, "big"),
                maker.author,
                maker.seq.to_bytes(8, "big"),
                maker.position.to_bytes(2, "big"),
                taker.author,
                taker.seq.to_bytes(8, "big"),
                taker.position.to_bytes(2, "big"),
            )
        )
    ).digest()
