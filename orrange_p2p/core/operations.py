"""Operations: what an author can do in a market (protocol/01-records.md, section Operations).

Each is a named tuple whose fields are, in order, the items after the kind on the wire. Named tuples
because a node makes one for every order of the market: they are as frozen as records must be and
five times cheaper to make than a frozen class. Their ranges are checked once, in ``parse``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.ids import MAX_UINT63, Address, Lots, MatchId, Price, Seq
from orrange_p2p.crypto import keccak_tree
from orrange_p2p.crypto.eip712 import StructType, signing_digest

MAX_QUANTITY: Final = 1 << 62
"""Prices (ticks) and quantities (lots) go up to here, so that the sum of two fits 64 bits."""
MAX_TERMS_BYTES: Final = 1024
MAX_ACCEPTED: Final = 256
"""Matches that one signature may accept."""
MAX_ANNOUNCEMENTS: Final = 16
MAX_EVIDENCE_BYTES: Final = 4096
MAX_POSITION: Final = 1023
_TRADES: Final = StructType("Trades(bytes32 root)")


class Side(enum.IntEnum):
    """Which way the base asset moves for the author."""

    BUY = 0
    SELL = 1


class TimeInForce(enum.IntEnum):
    """How long an order may rest. Every order ends at the latest after the genesis lifetime."""

    GTC = 0
    """Until cancelled."""
    GTT = 1
    """Until the epoch time reaches ``expiry``, in ms."""
    GTE = 2
    """Until epoch number ``expiry`` has been applied."""
    IOC = 3
    """Fill what is there, cancel the rest."""
    FOK = 4
    """Fill all of it at once or nothing."""


class SelfTrade(enum.IntEnum):
    """What happens when an incoming order meets a resting order of the same owner."""

    CANCEL_NEWEST = 0
    CANCEL_OLDEST = 1
    DECREMENT = 2


class Place(NamedTuple):
    """A new order. Named by the author, entry number and position it stands at."""

    side: int
    price: Price
    """Worst price in ticks, 1 .. 2^62."""
    quantity: Lots
    """1 .. 2^62."""
    time_in_force: int = 0
    """A ``TimeInForce``; GTC by default."""
    expiry: int = 0
    """Ms (GTT) or epoch (GTE); 0 for all others."""
    post_only: int = 0
    """1: cancelled rather than take."""
    self_trade: int = 0
    """A ``SelfTrade``; CANCEL_NEWEST by default."""
    min_quantity: Lots = Lots(0)
    """Cancelled as a whole unless at least this much fills on arrival; 0 = no such wish."""
    max_slippage: int | None = None
    """Ticks beyond the best opposing price on arrival; such an order never rests."""
    min_reputation: int = 0
    """Least reputation of a counterparty."""


class Cancel(NamedTuple):
    """Take back the unreserved quantity of the order at (``seq``, ``position``) of the same log."""

    seq: Seq
    position: int


class CancelAll(NamedTuple):
    """Take back every order that this log placed before this operation."""


class Amend(NamedTuple):
    """Cancel (``seq``, ``position``) and place ``order`` in one; the new order has new priority."""

    seq: Seq
    position: int
    order: Place


class Accepted(NamedTuple):
    """One match that its author binds itself to."""

    match_id: MatchId
    terms: bytes
    """What settlement needs first (addresses, keys, hash of the secret); opaque to the book."""


class Accept(NamedTuple):
    """Bind oneself to matches, all of them by one signature that contracts check."""

    matches: tuple[Accepted, ...]
    """Ascending by id, each once."""
    signature: bytes
    """65 bytes over ``digest``."""

    def digest(self, separator: bytes) -> bytes:
        """Of one match the EIP-712 digest of its ``Trade``, whose struct hash its id is; of several
        that of ``Trades``, which holds the root of the tree over their ids."""
        ids = [accepted.match_id for accepted in self.matches]
        if len(ids) == 1:
            return signing_digest(separator, ids[0])
        return _TRADES.digest(separator, (keccak_tree.root(ids),))


class Announce(NamedTuple):
    """Where and how the author settles: CAIP-10 accounts, replacing what was announced before."""

    accounts: tuple[str, ...]


class Delegate(NamedTuple):
    """Bind (or with ``expiry_ms`` 0 revoke) a session key that trades for this author."""

    session: Address
    cap: Lots
    """Most lots the session key may have open and unsettled at any time."""
    expiry_ms: int
    """Epoch time from which the session key counts no more."""
    consent: bytes
    """65 bytes: the session key's EIP-712 ``Delegation`` signature, so that nobody binds a key that
    is not theirs; empty to revoke."""


class EvidenceKind(enum.IntEnum):
    """What the two records of a piece of evidence are."""

    FORK = 0
    """Two signed entry headers of one (market, author, seq)."""
    EQUIVOCATION = 1
    """Two signed tick headers of one (market, era, round, witness)."""


class Evidence(NamedTuple):
    """Proof that somebody signed two different records under one name."""

    kind: int
    first: bytes
    second: bytes


Operation = Place | Cancel | CancelAll | Amend | Accept | Announce | Delegate | Evidence

KINDS: Final[dict[type, int]] = {
    Place: 0,
    Cancel: 1,
    CancelAll: 2,
    Amend: 3,
    Accept: 4,
    Announce: 5,
    Delegate: 6,
    Evidence: 7,
}
"""The first item of an operation on the wire."""


def to_items(operation: Operation) -> tuple[codec.Value, ...]:
    """The operation as the array that is encoded."""
    kind = KINDS[type(operation)]
    if type(operation) is Amend:
        return (kind, operation.seq, operation.position, *operation.order)
    return (kind, *operation)


def parse(items: codec.Value) -> Operation:
    """Check shape, types and ranges of one decoded operation.

    Raises ``MalformedError``. What passes is valid whatever the state of the book.
    """
    if type(items) is not tuple or not items:
        raise MalformedError("operation is not an array that starts with its kind")
    if items[0] == 0 and len(items) == 11 and type(items[0]) is int:
        return _place(items, 1)
    return _parse_rare(items)


def _place(items: tuple[codec.Value, ...], start: int) -> Place:
    # Nearly every operation passes here, so the common case is one straight line of comparisons;
    # only a bad field costs a second look that names it.
    # Unpacked before it is called a Place: compiled, a Place's fields are taken to be integers.
    fields = items[start:]
    side, price, quantity, tif, expiry, post_only, stp, least, slippage, reputation = fields
    if (
        type(side) is int
        and 0 <= side <= 1
        and type(price) is int
        and 1 <= price <= MAX_QUANTITY
        and type(quantity) is int
        and 1 <= quantity <= MAX_QUANTITY
        and type(tif) is int
        and 0 <= tif <= 4
        and type(expiry) is int
        and (0 < expiry <= MAX_UINT63 if 1 <= tif <= 2 else expiry == 0)
        and type(post_only) is int
        and 0 <= post_only <= (1 if tif <= 2 and slippage is None and least == 0 else 0)
        and type(stp) is int
        and 0 <= stp <= 2
        and type(least) is int
        and 0 <= least <= quantity
        and (slippage is None or (type(slippage) is int and 0 <= slippage <= MAX_QUANTITY))
        and type(reputation) is int
        and 0 <= reputation <= MAX_UINT63
    ):
        place: Place = tuple.__new__(Place, fields)
        return place
    raise MalformedError(_what_is_wrong(fields))


def _what_is_wrong(fields: tuple[codec.Value, ...]) -> str:
    for name, value in zip(Place._fields, fields, strict=True):
        if name == "max_slippage" and value is None:
            continue
        if type(value) is not int or not 0 <= value <= MAX_UINT63:
            return f"place: {name} is not an integer in 0 .. 2^63-1"
    place: Place = tuple.__new__(Place, fields)
    if place.side > 1:
        return "place: side is neither 0 (buy) nor 1 (sell)"
    if not 1 <= place.price <= MAX_QUANTITY or not 1 <= place.quantity <= MAX_QUANTITY:
        return "place: price and quantity must be in 1 .. 2^62"
    if place.time_in_force > TimeInForce.FOK:
        return "place: unknown time in force"
    if (place.expiry > 0) != (place.time_in_force in (TimeInForce.GTT, TimeInForce.GTE)):
        return "place: an expiry goes with GTT and GTE, and only with these"
    if place.min_quantity > place.quantity:
        return "place: min_quantity is larger than quantity"
    if place.self_trade > SelfTrade.DECREMENT:
        return "place: unknown self-trade prevention"
    if place.max_slippage is not None and place.max_slippage > MAX_QUANTITY:
        return "place: max_slippage must be in 0 .. 2^62"
    return "place: post_only is 0 or 1, and never with IOC, FOK, min_quantity or max_slippage"


def _parse_rare(items: tuple[codec.Value, ...]) -> Operation:
    kind = codec.uint(items[0], "kind of operation")
    row = _SHAPES.get(kind)
    if row is None:
        raise MalformedError(f"operation of unknown kind {kind}")
    name, length, build = row
    return build(codec.array(items, length, name))


def _cancel(items: tuple[codec.Value, ...]) -> Operation:
    return Cancel(*_target(items))


def _target(items: tuple[codec.Value, ...]) -> tuple[Seq, int]:
    seq = codec.uint(items[1], "seq of the order")
    return Seq(seq), codec.uint(items[2], "position of the order", MAX_POSITION)


def _amend(items: tuple[codec.Value, ...]) -> Operation:
    return Amend(*_target(items), _place(items, 3))


def _accept(items: tuple[codec.Value, ...]) -> Operation:
    rows = codec.items(items[1], MAX_ACCEPTED, "accepted matches")
    matches = tuple([_accepted(row) for row in rows])
    if not matches:
        raise MalformedError("accept of no match")
    if any(one.match_id >= other.match_id for one, other in pairwise(matches)):
        raise MalformedError("accepted matches are not in ascending order of ids, each once")
    return Accept(matches, codec.octets(items[2], 65, "signature of trades"))


def _accepted(row: codec.Value) -> Accepted:
    item = codec.array(row, 2, "accepted match")
    return Accepted(
        MatchId(codec.octets(item[0], 32, "match id")),
        codec.octets_upto(item[1], MAX_TERMS_BYTES, "terms"),
    )


def _announce(items: tuple[codec.Value, ...]) -> Operation:
    accounts = codec.items(items[1], MAX_ANNOUNCEMENTS, "accounts")
    return Announce(tuple(codec.text(account, 192, "account") for account in accounts))


def _delegate(items: tuple[codec.Value, ...]) -> Operation:
    expiry_ms = codec.uint(items[3], "expiry_ms")
    return Delegate(
        Address(codec.octets(items[1], 20, "session key")),
        Lots(codec.uint(items[2], "cap", MAX_QUANTITY)),
        expiry_ms,
        codec.octets(items[4], 65 if expiry_ms else 0, "consent"),
    )


def _evidence(items: tuple[codec.Value, ...]) -> Operation:
    return Evidence(
        codec.uint(items[1], "kind of evidence", EvidenceKind.EQUIVOCATION),
        codec.octets_upto(items[2], MAX_EVIDENCE_BYTES, "first record"),
        codec.octets_upto(items[3], MAX_EVIDENCE_BYTES, "second record"),
    )


_Build = Callable[[tuple[codec.Value, ...]], Operation]

_SHAPES: Final[dict[int, tuple[str, int, _Build]]] = {
    0: ("place", 11, lambda items: _place(items, 1)),
    1: ("cancel", 3, _cancel),
    2: ("cancel_all", 1, lambda items: CancelAll()),
    3: ("amend", 13, _amend),
    4: ("accept", 3, _accept),
    5: ("announce", 2, _announce),
    6: ("delegate", 5, _delegate),
    7: ("evidence", 4, _evidence),
}
"""Kind -> name, items on the wire, builder."""
