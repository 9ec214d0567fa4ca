"""What a market knows of an author: its log, its limits, its live orders.

Orders live in groups of sixteen neighbours of one entry, each group one leaf of the state: a
leaf is hashed in one go, and orders placed together mostly change together.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.book import Order
from orrange_p2p.core.entries import GROUP
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.ids import ZERO32, Address, Digest, Lots, MarketId, OrderId, Price, Seq
from orrange_p2p.core.operations import MAX_ANNOUNCEMENTS, Place, TimeInForce
from orrange_p2p.crypto.eip712 import StructType

_DELEGATION: Final = StructType(
    "Delegation(bytes32 market,address owner,address session,uint64 cap,uint64 expiryMs)"
)
_TERMS: Final = Struct(">HBBBBQQQQQQQIQ")
_ACCOUNT: Final = Struct(">QQQB")
ORDER_KEY_BYTES: Final = 20 + 8 + 2
"""author, seq, position // 16."""
MAX_ORDER_LEAF_BYTES: Final = GROUP * (_TERMS.size + _ACCOUNT.size)
ACCOUNT_KEY_BYTES: Final = 20
"""The address."""
MAX_ACCOUNT_BYTES: Final = 8192
MAX_BOUND: Final = 64
"""Times up to which bound trades count: ``limits`` puts them together to a dozen at most."""


def order_key(name: OrderId) -> bytes:
    """Under which key the orders map has the group of an order."""
    group = name.position // GROUP
    return name.author + name.seq.to_bytes(8, "big") + group.to_bytes(2, "big")


class LiveOrder(Order):
    """An order with open or reserved quantity, and its place in the state."""

    __slots__ = ("counted", "deadline_ms", "ended", "group", "packed_terms", "slot")

    def __init__(
        self,
        order_id: OrderId,
        owner: bytes,
        place: Place,
        score: int,
        epoch: int,
        rank: int,
        deadline_ms: int,
        group: OrderGroup,
    ) -> None:
        slippage = place.max_slippage
        super().__init__(
            order_id,
            owner,
            place.side,
            place.price,
            place.quantity,
            place.time_in_force,
            place.expiry,
            place.post_only == 1,
            place.self_trade,
            place.min_quantity,
            -1 if slippage is None else slippage,
            score,
            place.min_reputation,
            epoch,
            rank,
        )
        self.deadline_ms = deadline_ms
        """Epoch time at which it ends at the latest."""
        self.ended = place.time_in_force >= TimeInForce.IOC or slippage is not None
        """Nothing of it may enter the book again: quantity of a failed match is dropped."""
        self.counted = 0
        """Open lots that its owner's stake counts: those at the last change noted."""
        self.group = group
        self.slot = order_id.position % GROUP
        """Its place within the group."""
        self.packed_terms = _TERMS.pack(
            order_id.position,
            place.side,
            place.time_in_force,
            place.post_only,
            place.self_trade,
            place.price,
            place.quantity,
            place.expiry,
            score,
            place.min_reputation,
            deadline_ms,
            epoch,
            rank,
            0 if slippage is None else slippage + 1,
        )

    def is_live(self) -> bool:
        return self.open > 0 or self.reserved > 0


class OrderGroup:
    """Up to sixteen live orders of one entry: one leaf of the orders map."""

    __slots__ = ("account", "changed", "count", "key", "number", "slots")

    def __init__(self, account: Account, number: int) -> None:
        self.account = account
        self.number = number
        seq, group = divmod(number, 1024 // GROUP)
        self.key = order_key(OrderId(account.address, Seq(seq), group * GROUP))
        self.slots: list[LiveOrder | None] = [None] * GROUP
        self.count = 0
        self.changed = False

    def leaf(self) -> bytes:
        """The records of its live orders in order of position; empty if none is left."""
        parts = []
        for order in self.slots:
            if order is not None:
                parts.append(order.packed_terms)
                parts.append(_ACCOUNT.pack(order.open, order.reserved, order.filled, order.ended))
        return b"".join(parts)

    def load(self, leaf: bytes, owner: Address) -> list[LiveOrder]:
        """Fill the empty group with the orders of its leaf, all of ``owner``; these orders.

        Raises ``MalformedError`` for what ``leaf`` cannot have written.
        """
        orders = []
        step = _TERMS.size + _ACCOUNT.size
        for start in range(0, len(leaf), step):
            order = self._order(leaf[start : start + step], owner)
            if self.slots[order.slot] is not None:
                raise MalformedError("two orders of one position")
            self.slots[order.slot] = order
            self.count += 1
            orders.append(order)
        if not orders or self.leaf() != leaf:
            raise MalformedError("not a leaf of orders")
        return orders

    def _order(self, record: bytes, owner: Address) -> LiveOrder:
        if len(record) != _TERMS.size + _ACCOUNT.size:
            raise MalformedError("a leaf of orders ends within a record")
        (
            position, side, time_in_force, post_only, self_trade, price, quantity, expiry, score,
            min_reputation, deadline_ms, epoch, rank, slippage,
        ) = _TERMS.unpack_from(record)  # fmt: skip
        is_open, reserved, filled, ended = _ACCOUNT.unpack_from(record, _TERMS.size)
        number = self.number
        seq = number // (1024 // GROUP)
        if position // GROUP != number % (1024 // GROUP):
            raise MalformedError("an order stands in another's group")
        place = Place(
            side,
            Price(price),
            Lots(quantity),
            time_in_force,
            expiry,
            post_only,
            self_trade,
            Lots(0),  # it counts on arrival only
            None if slippage == 0 else slippage - 1,
            min_reputation,
        )
        name = OrderId(self.account.address, Seq(seq), position)
        order = LiveOrder(name, owner, place, score, epoch, rank, deadline_ms, self)
        order.open = is_open
        order.reserved = reserved
        order.filled = filled
        order.cancelled = quantity - is_open - reserved - filled
        order.ended = ended == 1
        if order.cancelled < 0 or not order.is_live():
            raise MalformedError("an order's quantities do not add up")
        return order


class BoundTrades(NamedTuple):
    """An owner's bound trades that count as being at stake up to the same time."""

    until: int
    """Epoch time in ms; they are let go at the first era whose roster's pin is not before it."""
    amount: int
    """Lots times ticks."""


class Binding(NamedTuple):
    """What makes an author a session key of another."""

    owner: Address
    cap: Lots
    """Most lots the session key may have open or reserved."""
    from_epoch: int
    expiry_ms: int
    revoked_epoch: int
    """First epoch in which it counts no more; 0 if not revoked."""

    def is_active(self, epoch: int, time_ms: int) -> bool:
        revoked = self.revoked_epoch and epoch >= self.revoked_epoch
        return self.from_epoch <= epoch and time_ms < self.expiry_ms and not revoked


def delegation_digest(
    separator: bytes, market: MarketId, owner: Address, session: Address, cap: int, expiry_ms: int
) -> bytes:
    """What a session key signs to consent to be ``owner``'s."""
    return _DELEGATION.digest(separator, (market, owner, session, cap, expiry_ms))


class Account:
    """An author's standing in one market. Changed by the fold alone."""

    __slots__ = (
        "address",
        "announced",
        "at_stake",
        "binding",
        "bound",
        "changed",
        "frozen",
        "groups",
        "halved_until",
        "head",
        "in_lane",
        "live_orders",
        "next_seq",
        "owned_orders",
        "owner",
        "reputation",
        "tokens",
        "tokens_round",
    )

    def __init__(self, address: Address, reputation: int, tokens: int, tokens_round: int) -> None:
        self.address = address
        self.reputation = reputation
        self.next_seq = Seq(0)
        self.head = Digest(ZERO32)
        self.frozen = False
        self.tokens = tokens
        """Parts of an operation, for which see ``limits``."""
        self.tokens_round = tokens_round
        """Round of the clock, counted over all eras, at which ``tokens`` was right."""
        self.owner: Account = self
        """Whose limits its operations count against: who bound it, or itself."""
        self.owned_orders = 0
        """Live orders of this owner, those of its session keys included."""
        self.in_lane = False
        """It has no share of its own in the market's limits."""
        self.at_stake = 0
        """Lots times ticks of the owner's open quantity and of its pending matches."""
        self.bound: tuple[BoundTrades, ...] = ()
        """Ascending by time."""
        self.halved_until = 0
        """Epoch up to which all its limits are halved."""
        self.live_orders = 0
        self.announced: tuple[str, ...] = ()
        self.binding: Binding | None = None
        self.groups: dict[int, OrderGroup] = {}
        """By seq * 64 + position // 16; only groups with live orders."""
        self.changed = False

    @classmethod
    def of_leaf(cls, address: Address, leaf: bytes) -> Account:
        """The account whose leaf this is, still without its orders. Raises ``MalformedError``."""
        record = codec.array(codec.decode_canonical(leaf, MAX_ACCOUNT_BYTES), 11, "account")
        account = cls(
            address,
            codec.uint(record[3], "reputation"),
            codec.uint(record[4], "tokens"),
            codec.uint(record[5], "tokens_round"),
        )
        account.next_seq = Seq(codec.uint(record[0], "next_seq"))
        account.head = Digest(codec.octets(record[1], 32, "head"))
        account.frozen = codec.uint(record[2], "frozen", 1) == 1
        account.halved_until = codec.uint(record[6], "halved_until")
        account.live_orders = codec.uint(record[7], "live_orders")
        announced = codec.items(record[8], MAX_ANNOUNCEMENTS, "announced")
        account.announced = tuple([codec.text(one, 192, "announced") for one in announced])
        if record[9] is not None:
            bound = codec.array(record[9], 5, "binding")
            account.binding = Binding(
                Address(codec.octets(bound[0], 20, "owner")),
                Lots(codec.uint(bound[1], "cap")),
                codec.uint(bound[2], "from_epoch"),
                codec.uint(bound[3], "expiry_ms"),
                codec.uint(bound[4], "revoked_epoch"),
            )
        for item in codec.items(record[10], MAX_BOUND, "bound trades"):
            trades = codec.array(item, 2, "bound trades")
            until = codec.uint(trades[0], "time of bound trades")
            amount = codec.uint(trades[1], "amount of bound trades")
            account.bound += (BoundTrades(until, amount),)
        return account

    def order(self, seq: int, position: int) -> LiveOrder | None:
        """The live order placed there, or None."""
        group = self.groups.get(seq * (1024 // GROUP) + position // GROUP)
        return None if group is None else group.slots[position % GROUP]

    def group_for(self, seq: int, position: int) -> OrderGroup:
        """The group an order placed there belongs to; made if there is none."""
        number = seq * (1024 // GROUP) + position // GROUP
        group = self.groups.get(number)
        if group is None:
            group = OrderGroup(self, number)
            self.groups[number] = group
        return group

    def leaf(self) -> bytes:
        """The value under this author's address in the state (protocol/02-merkle.md)."""
        return codec.encode(
            (
                self.next_seq,
                self.head,
                int(self.frozen),
                self.reputation,
                self.tokens,
                self.tokens_round,
                self.halved_until,
                self.live_orders,
                self.announced,
                self.binding,
                self.bound,
            )
        )
