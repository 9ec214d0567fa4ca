"""The naive fold: a market's whole state computed again from the list of all its epochs.

Written from the rules of the book and of its state root, not from ``core/fold.py``, which is tested
against it. Plain lists, scanned and sorted whenever something is to be known; every order and every
match that ever was stays in them; the root is built from the full content each time. It shares with
the project what is not under test here: records, digests, signatures and the encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from hashlib import sha256, shake_256
from math import isqrt

from orrange_p2p.core import codec, evidence
from orrange_p2p.core.errors import PeerError
from orrange_p2p.core.fold import EpochFacts, Refusal
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, OrderId
from orrange_p2p.core.operations import (
    Accept,
    Amend,
    Announce,
    Cancel,
    CancelAll,
    Delegate,
    Evidence,
    EvidenceKind,
    Place,
    SelfTrade,
    Side,
    TimeInForce,
)
from orrange_p2p.core.roster import Roster
from orrange_p2p.crypto import secp256k1
from orrange_p2p.crypto.eip712 import StructType

TRADE = StructType(
    "Trade(bytes32 market,bytes32 fill,address buyer,address seller,"
    "uint256 baseAmount,uint256 quoteAmount,uint64 epoch,uint64 expiryMs)"
)
DELEGATION = StructType(
    "Delegation(bytes32 market,address owner,address session,uint64 cap,uint64 expiryMs)"
)

# Histories are replayed over and over, so what a signature shows is worked out once.
is_signed_by = cache(secp256k1.is_signed_by)


@cache
def culprit(operation: Evidence, separator: bytes, market_id: bytes) -> Address | None:
    try:
        return evidence.culprit(operation, separator, market_id)  # type: ignore[arg-type]
    except PeerError:
        return None


@dataclass
class RefOrder:
    id: OrderId
    owner: bytes
    place: Place
    score: int
    epoch: int
    rank: int
    deadline_ms: int
    open: int = field(init=False)
    reserved: int = 0
    filled: int = 0
    cancelled: int = 0
    ended: bool = False
    """Nothing that is reserved now may come back to the book."""

    def __post_init__(self) -> None:
        self.open = self.place.quantity

    @property
    def is_live(self) -> bool:
        return self.open + self.reserved > 0

    def drop(self, lots: int) -> None:
        self.open -= lots
        self.cancelled += lots

    def end(self) -> None:
        self.drop(self.open)
        self.ended = True


@dataclass
class RefMatch:
    id: bytes
    epoch: int
    maker: RefOrder
    taker: RefOrder
    price: int
    quantity: int
    ordinal: int = 0
    expiry_ms: int = 0
    deadline: int = 0
    terms: dict[bytes, bytes] = field(default_factory=dict)
    """What the parties said in their accepts, by author."""
    fate: str = "pending"
    counts_until: int = 0
    """Bound trades: at stake up to then, or until ``is_over``."""
    is_over: bool = False

    @property
    def parties(self) -> tuple[bytes, bytes]:
        return self.maker.id.author, self.taker.id.author


@dataclass
class RefAccount:
    tokens: int
    tokens_round: int
    reputation: int
    next_seq: int = 0
    head: bytes = bytes(32)
    frozen: bool = False
    halved_until: int = 0
    announced: tuple[str, ...] = ()
    binding: tuple[bytes, int, int, int, int] | None = None
    """Owner, cap, first epoch, expiry in ms, epoch of revocation or 0."""


class ReferenceFold:
    """The state after the given epochs. ``matched`` and the like are of the last one."""

    def __init__(
        self,
        genesis: Genesis,
        market_id: bytes,
        history: Sequence[EpochFacts],
        rosters: Mapping[int, Roster],
    ) -> None:
        """``rosters``: by era, where witnesses are elected; else none."""
        self.genesis = genesis
        self.rosters = rosters
        self.parameters = genesis.parameters
        self.market_id = market_id
        self.market = genesis.market(market_id)  # type: ignore[arg-type]
        self.separator = genesis.separator
        self.reputations = {author.address: author.reputation for author in genesis.authors}
        self.seed = sha256(genesis.network_id + market_id).digest()
        self.root = bytes(32)
        self.orders: list[RefOrder] = []
        self.matches: list[RefMatch] = []
        self.accounts: dict[bytes, RefAccount] = {}
        self.history: list[EpochFacts] = []
        for facts in history:
            self.apply(facts)

    # What others compare.

    def resting(self, side: int) -> list[RefOrder]:
        """The orders of a side on the book, best first."""
        mine = [o for o in self.orders if o.place.side == side and o.open > 0]
        sign = -1 if side == Side.BUY else 1
        return sorted(mine, key=lambda o: (sign * o.place.price, o.epoch, o.rank))

    def live(self) -> list[RefOrder]:
        return [order for order in self.orders if order.is_live]

    def pending(self) -> list[RefMatch]:
        return [match for match in self.matches if match.fate == "pending"]

    # One epoch.

    def apply(self, facts: EpochFacts) -> None:
        self.facts = facts
        self.epoch = facts.epoch
        before = self.history[-1] if self.history else facts
        self.history.append(facts)
        self.seed = sha256(self.seed + facts.reveal).digest()
        self.rounds = facts.era * self.parameters.rounds_per_era + facts.round
        self.matched: list[RefMatch] = []
        self.traded: list[RefMatch] = []
        self.lapsed: list[tuple[RefMatch, tuple[bytes, ...]]] = []
        self.refused: list[tuple[OrderId, Refusal]] = []
        self.returned: list[tuple[RefOrder, int]] = []
        self.alive_before = [order for order in self.orders if order.is_live]
        for entry in facts.entries:
            self.account(entry.author)
        for address, account in self.accounts.items():
            if account.binding is not None and account.binding[4] == self.epoch:
                self.end_all(address)
        if self.rosters and facts.era != before.era:
            self.begin_era(before.era_end_ms)
        self.freeze()
        entries = [e for e in facts.entries if not self.accounts[e.author].frozen]
        for entry in entries:
            self.accounts[entry.author].next_seq = entry.seq + 1
            self.accounts[entry.author].head = entry.digest
        for entry in entries:
            for operation in entry.operations:
                if isinstance(operation, Delegate):
                    self.delegate(entry.author, operation)
                elif isinstance(operation, Announce):
                    self.accounts[entry.author].announced = operation.accounts
        for entry in entries:
            for operation in entry.operations:
                if isinstance(operation, Accept):
                    for match_id, terms in operation.matches:
                        self.accept(entry.author, match_id, terms)
        places: list[tuple[bytes, OrderId, Place]] = []
        self.drawing: list[tuple[bytes, OrderId, Place]] = []
        for author in sorted({entry.author for entry in entries}):
            places += self.collect(author, [e for e in entries if e.author == author])
        places += self.draw()
        self.expire()
        self.reenter()
        self.clear_lane()
        self.place_all(sorted(places))
        self.root = self.compute_root()

    def account(self, address: Address) -> RefAccount:
        if address not in self.accounts:
            reputation = self.reputations.get(address, 0)
            burst = self.share_of(address)["burst"] * 65_536
            self.accounts[address] = RefAccount(int(burst), self.rounds, reputation)
        return self.accounts[address]

    # Owners, and what they may do.

    def owner_of(self, author: bytes) -> bytes:
        account = self.accounts.get(author)
        return author if account is None or account.binding is None else account.binding[0]

    def is_lanes(self, owner: bytes) -> bool:
        share = self.own_share_of(owner)
        return share is None or share["burst"] < 1 or share["orders"] < 1

    def own_share_of(self, owner: bytes) -> dict[str, Fraction] | None:
        """Exact; whoever uses a figure rounds it down. None: it is in nobody's list."""
        limits = self.parameters
        if not self.rosters:
            return dict(
                refill=Fraction(limits.operations_per_round),
                burst=Fraction(limits.operations_burst),
                orders=Fraction(limits.open_orders),
            )
        standings = self.roster().standings
        mine = [one for one in standings if one.author == owner and one.reputation]
        if not mine:
            return None
        part = Fraction(mine[0].reputation, sum(one.reputation for one in standings))
        # (1.25 * 0.4 * volatility)^2 * T, as a square, in millionths
        square = Fraction(self.market.volatility_ppm**2 * limits.trade_lifetime_ms, 4 * 86_400_000)
        risk = max(1, isqrt(int(square)))
        risk += risk * risk < square
        micro = Fraction(mine[0].bond * 1_000_000, risk)
        return dict(
            refill=limits.market_operations_per_round * part,
            burst=limits.market_operations_burst * part,
            orders=limits.market_open_orders * part,
            stake=self.in_ticks(micro),
        )

    def share_of(self, owner: bytes) -> dict[str, Fraction]:
        share = self.own_share_of(owner)
        if share is not None and not self.is_lanes(owner):
            return share
        limits = self.parameters
        return dict(
            refill=Fraction(limits.lane_operations_per_round),
            burst=Fraction(limits.lane_operations_burst),
            orders=Fraction(limits.lane_open_orders),
            stake=self.in_ticks(Fraction(limits.lane_order_notional)),
        )

    def in_ticks(self, micro: Fraction) -> Fraction:
        rate = Fraction(self.market.rate_numerator, self.market.rate_denominator)
        return micro / rate / self.market.tick_size

    def roster(self) -> Roster:
        return self.rosters[self.facts.era]

    def refill(self, owner: bytes) -> RefAccount:
        account, share = self.account(Address(owner)), self.share_of(owner)
        part = 2 if account.halved_until >= self.epoch else 1
        elapsed = self.rounds - account.tokens_round
        refill, burst = int(share["refill"] * 65_536), int(share["burst"] * 65_536)
        account.tokens = min(burst // part, account.tokens + elapsed * refill // part)
        account.tokens_round = self.rounds
        return account

    def stake(self, owner: bytes) -> int:
        total = sum(o.open * o.place.price for o in self.orders if o.owner == owner)
        for match in self.matches:
            counts = match.fate == "pending" or (match.fate == "traded" and not match.is_over)
            if counts and owner in (match.maker.owner, match.taker.owner):
                total += match.quantity * match.price
        return total

    def dearest(self, place: Place) -> int:
        bids = [order.place.price for order in self.resting(Side.BUY)]
        return max([place.price, *bids]) if place.side == Side.SELL else place.price

    def at_rest(self, owner: bytes) -> list[RefOrder]:
        mine = [o for o in self.orders if o.owner == owner and o.open > 0]
        return sorted(mine, key=lambda o: (o.epoch, o.rank))

    def begin_era(self, last_end_ms: int) -> None:
        self.reputations = {one.author: one.reputation for one in self.roster().standings}
        for address, account in self.accounts.items():
            account.reputation = self.reputations.get(Address(self.owner_of(address)), 0)
        for match in self.matches:
            if (
                match.fate == "traded"
                and match.counts_until <= last_end_ms - self.parameters.pin_ms
            ):
                match.is_over = True
        for owner in {order.owner for order in self.orders}:
            share = self.share_of(owner)
            if not self.genesis.open and owner not in self.reputations:
                for order in self.at_rest(owner):
                    order.end()
            elif self.is_lanes(owner):
                for order in self.at_rest(owner):
                    if order.open * order.place.price > int(share["stake"]):
                        order.end()
            else:
                while len(self.at_rest(owner)) > int(share["orders"]):
                    self.at_rest(owner)[-1].end()
                while self.at_rest(owner) and self.stake(owner) > int(share["stake"]):
                    self.at_rest(owner)[-1].end()
        self.clear_lane()

    def clear_lane(self) -> None:
        if not self.rosters:
            return
        while True:
            lane = [o for o in self.orders if o.open > 0 and self.is_lanes(o.owner)]
            if len(lane) <= self.parameters.lane_open_orders:
                return
            min(lane, key=lambda o: (o.epoch, o.rank)).end()

    def end_all(self, author: bytes) -> None:
        for order in self.orders:
            if order.id.author == author and order.is_live:
                order.end()

    # Evidence and freezes.

    def freeze(self) -> None:
        guilty = set(self.facts.forked)
        for entry in self.facts.entries:
            for operation in entry.operations:
                if isinstance(operation, Evidence) and operation.kind == EvidenceKind.FORK:
                    convicted = culprit(operation, self.separator, self.market_id)
                    if convicted is not None:
                        guilty.add(convicted)
        self.frozen = tuple(sorted(a for a in guilty if not self.account(a).frozen))
        for address in self.frozen:
            self.accounts[address].frozen = True
            self.end_all(address)
        for match in self.pending():
            silent = tuple(a for a in self.frozen if a in match.parties)
            if silent:
                self.lapse(match, silent)

    def lapse(self, match: RefMatch, silent: tuple[bytes, ...]) -> None:
        match.fate = "lapsed"
        self.lapsed.append((match, silent))
        for order in (match.maker, match.taker):
            if order.id.author in silent:
                halved_until = self.epoch + self.parameters.penalty_epochs
                self.accounts[self.owner_of(order.id.author)].halved_until = halved_until
                order.reserved -= match.quantity
                order.cancelled += match.quantity
                order.end()
            else:
                self.returned.append((order, match.quantity))

    # Delegations.

    def delegate(self, owner: Address, operation: Delegate) -> None:
        session, cap, expiry_ms, consent = operation
        known = self.accounts.get(session)
        bound = None if known is None else known.binding
        if expiry_ms == 0:
            if known is not None and bound is not None and bound[0] == owner and bound[4] == 0:
                known.binding = (*bound[:4], self.epoch + 1)
            return
        if self.accounts[owner].binding is not None or session in {owner, *self.reputations}:
            return
        if bound is not None and bound[0] != owner:
            return
        if bound is None and self.live_count(session) > 0:
            return
        digest = DELEGATION.digest(self.separator, (self.market_id, owner, session, cap, expiry_ms))
        if is_signed_by(session, digest, consent):
            first = self.epoch + 1
            if self.is_active(bound):
                assert bound is not None
                first = bound[2]  # renewing one that is in force does not interrupt it
            account = self.account(session)
            account.binding = (owner, cap, first, expiry_ms, 0)
            account.reputation = self.accounts[owner].reputation

    def is_active(self, binding: tuple[bytes, int, int, int, int] | None) -> bool:
        if binding is None:
            return False
        _, _, first, expiry_ms, revoked = binding
        is_revoked = revoked != 0 and self.epoch >= revoked
        return first <= self.epoch and self.facts.time_ms < expiry_ms and not is_revoked

    # Accepts.

    def accept(self, author: bytes, match_id: bytes, terms: bytes) -> None:
        for match in self.pending():
            if match.id != match_id or author not in match.parties:
                continue
            late = match.deadline != 0 and self.epoch > match.deadline
            if late or author in match.terms:
                continue
            match.terms[author] = terms
            maker, taker = match.parties
            if all(party in match.terms for party in match.parties) and maker != taker:
                match.fate = "traded"
                step = max(self.parameters.era_ms, -(-self.parameters.trade_lifetime_ms // 8))
                over = self.facts.time_ms + self.parameters.trade_lifetime_ms
                match.counts_until = -(-over // step) * step
                self.traded.append(match)
                for order in (match.maker, match.taker):
                    order.reserved -= match.quantity
                    order.filled += match.quantity

    # Cancels, amends and what is placed.

    def collect(self, author: Address, entries: list) -> list[tuple[bytes, OrderId, Place]]:
        account = self.accounts[author]
        owner = self.owner_of(author)
        in_lane = self.is_lanes(owner)
        bucket = account if in_lane else self.refill(owner)
        places: dict[OrderId, tuple[bytes, OrderId, Place]] = {}
        for entry in entries:
            count = len(entry.operations)
            material = self.seed + author + entry.seq.to_bytes(8, "big")
            keys = shake_256(material).digest(8 * count)
            for position, operation in enumerate(entry.operations):
                here = OrderId(author, entry.seq, position)
                if isinstance(operation, CancelAll):
                    self.end_all(author)
                    self.refused += [(order_id, Refusal.CANCELLED) for order_id in places]
                    places.clear()
                if isinstance(operation, Cancel | Amend):
                    target = OrderId(author, operation.seq, operation.position)
                    if target in places:
                        del places[target]
                        self.refused.append((target, Refusal.CANCELLED))
                    for order in self.orders:
                        if order.id == target and order.is_live:
                            order.end()
                if isinstance(operation, Place | Amend):
                    place = operation if isinstance(operation, Place) else operation.order
                    if account.binding is not None and not self.is_active(account.binding):
                        self.refused.append((here, Refusal.SESSION))
                    elif not in_lane and bucket.tokens < 65_536:
                        self.refused.append((here, Refusal.RATE))
                    else:
                        bucket.tokens -= 0 if in_lane else 65_536
                        places[here] = (keys[8 * position : 8 * position + 8], here, place)
        if in_lane:
            self.drawing += places.values()
            return []
        return list(places.values())

    def draw(self) -> list[tuple[bytes, OrderId, Place]]:
        """The lane's tokens, one to each owner in turn; who comes first is drawn."""
        if not self.drawing:
            return []
        bucket = self.refill(bytes(20))
        queues: dict[bytes, list[tuple[bytes, OrderId, Place]]] = {}
        for row in sorted(self.drawing, key=lambda row: row[1]):
            owner = self.owner_of(row[1].author)
            if self.accounts[owner].halved_until >= self.epoch:
                self.refused.append((row[1], Refusal.RATE))
            else:
                queues.setdefault(owner, []).append(row)
        drawn = []
        while any(queues.values()):
            for row in sorted(queue.pop(0) for queue in queues.values() if queue):
                if bucket.tokens >= 65_536:
                    bucket.tokens -= 65_536
                    drawn.append(row)
                else:
                    self.refused.append((row[1], Refusal.RATE))
        return drawn

    # Expiries and deadlines.

    def expire(self) -> None:
        for order in self.live():
            place = order.place
            is_over = place.time_in_force == TimeInForce.GTE and place.expiry < self.epoch
            if order.deadline_ms <= self.facts.time_ms or is_over:
                order.end()
        seen = self.seen_epoch()
        for match in self.pending():
            if match.deadline == 0 and match.epoch <= seen:
                match.deadline = self.epoch + self.parameters.accept_deadline_epochs
            elif match.deadline != 0 and match.deadline < self.epoch:
                self.lapse(match, tuple(a for a in match.parties if a not in match.terms))

    def reported(self) -> dict[bytes, int]:
        """The latest epoch each witness said it applied; never one that was not committed yet."""
        latest: dict[bytes, int] = {}
        for facts in self.history:
            for witness, epoch in facts.reports:
                if 0 < epoch < facts.epoch:
                    latest[witness] = max(epoch, latest.get(witness, 0))
        return latest

    def seen_epoch(self) -> int:
        """The latest epoch that more than two thirds of the weight say they applied."""
        latest = self.reported()
        weights = {witness.address: witness.weight for witness in self.genesis.witnesses}
        for epoch in sorted(latest.values(), reverse=True):
            weight = sum(weights.get(w, 0) for w, e in latest.items() if e >= epoch)
            if 3 * weight > 2 * sum(weights.values()):
                return epoch
        return 0

    # The matcher.

    def reenter(self) -> None:
        orders = {id(order): order for order, _ in self.returned}.values()
        for order in sorted(orders, key=lambda order: (order.epoch, order.rank)):
            lots = sum(lots for other, lots in self.returned if other is order)
            order.reserved -= lots
            if order.ended:
                order.cancelled += lots
                continue
            stake = self.stake(order.owner) + lots * self.dearest(order.place)
            if self.rosters and not self.is_lanes(order.owner):
                if stake > int(self.share_of(order.owner)["stake"]):
                    order.cancelled += lots
                    order.end()
                    continue
            was_resting = order.open > 0
            order.open += lots
            if not was_resting:
                steps = self.walk(order, order.place.price)
                if order.place.post_only and steps:
                    order.drop(order.open)
                else:
                    self.execute(order, steps)

    def place_all(self, places: list[tuple[bytes, OrderId, Place]]) -> None:
        room: dict[bytes, int] = {}
        for address, account in self.accounts.items():
            if account.binding is not None:
                mine = [order for order in self.orders if order.id.author == address]
                room[address] = account.binding[1] - sum(o.open + o.reserved for o in mine)
        self.placed = 0
        for rank, (_, order_id, place) in enumerate(places):
            author = order_id.author
            account = self.accounts[author]
            deadline_ms = self.facts.time_ms + self.parameters.order_lifetime_ms
            owner: bytes = author
            if place.time_in_force == TimeInForce.GTT:
                deadline_ms = min(deadline_ms, place.expiry)
            if account.binding is not None:
                owner = account.binding[0]
                deadline_ms = min(deadline_ms, account.binding[3])
            is_over = place.time_in_force == TimeInForce.GTE and place.expiry < self.epoch
            halved = self.accounts[owner].halved_until >= self.epoch
            share, in_lane = self.share_of(owner), self.is_lanes(owner)
            most = int(share["orders"]) // (2 if halved else 1)
            stake = place.quantity * self.dearest(place) + (0 if in_lane else self.stake(owner))
            if author in room and place.quantity > room[author]:
                self.refused.append((order_id, Refusal.SESSION))
            elif deadline_ms <= self.facts.time_ms or is_over:
                self.refused.append((order_id, Refusal.EXPIRED))
            elif self.rosters and stake > int(share["stake"]):
                self.refused.append((order_id, Refusal.EXPOSURE))
            elif not in_lane and self.owned_count(owner) >= most:
                self.refused.append((order_id, Refusal.OPEN_ORDERS))
            else:
                if author in room:
                    room[author] -= place.quantity
                self.placed += 1
                order = RefOrder(
                    order_id, owner, place, account.reputation, self.epoch, rank, deadline_ms
                )
                self.arrive(order)
                self.orders.append(order)
                self.clear_lane()

    def owned_count(self, owner: bytes) -> int:
        return len([o for o in self.orders if o.owner == owner and o.is_live])

    def live_count(self, author: bytes) -> int:
        return len([o for o in self.orders if o.id.author == author and o.is_live])

    def arrive(self, order: RefOrder) -> None:
        place = order.place
        limit = self.limit(order)
        never_rests = place.time_in_force >= TimeInForce.IOC or place.max_slippage is not None
        order.ended = never_rests
        steps = self.walk(order, limit)
        filling = sum(lots for what, _, lots in steps if what == "fill")
        if (
            (place.post_only and steps)
            or (place.time_in_force == TimeInForce.FOK and filling < place.quantity)
            or filling < place.min_quantity
        ):
            order.drop(order.open)
            return
        self.execute(order, steps)
        if never_rests:
            order.drop(order.open)

    def others(self, order: RefOrder) -> list[RefOrder]:
        return self.resting(1 - order.place.side)

    def limit(self, order: RefOrder) -> int:
        place = order.place
        prices = [o.place.price for o in self.others(order) if may_trade(o, order)]
        if place.max_slippage is None or not prices:
            return place.price
        if place.side == Side.BUY:
            return min(place.price, prices[0] + place.max_slippage)
        return max(place.price, prices[0] - place.max_slippage)

    def walk(self, order: RefOrder, limit: int) -> list[tuple[str, RefOrder, int]]:
        """What would happen, step by step, if the order matched now."""
        steps = []
        left = order.open
        for other in self.others(order):
            price = other.place.price
            crosses = price <= limit if order.place.side == Side.BUY else price >= limit
            if not crosses or left == 0:
                break
            lots = min(left, other.open)
            if other.owner == order.owner:
                if order.place.self_trade == SelfTrade.CANCEL_NEWEST:
                    steps.append(("cancel newest", other, left))
                    break
                if order.place.self_trade == SelfTrade.CANCEL_OLDEST:
                    steps.append(("cancel oldest", other, other.open))
                else:
                    steps.append(("decrement", other, lots))
                    left -= lots
            elif may_trade(other, order):
                steps.append(("fill", other, lots))
                left -= lots
        return steps

    def execute(self, order: RefOrder, steps: list[tuple[str, RefOrder, int]]) -> None:
        for what, other, lots in steps:
            if what in ("cancel oldest", "decrement"):
                other.drop(lots)
            if what in ("cancel newest", "decrement"):
                order.drop(lots)
            if what == "fill":
                for party in (other, order):
                    party.open -= lots
                    party.reserved += lots
                match = RefMatch(b"", self.epoch, other, order, other.place.price, lots)
                match.ordinal = len(self.matched)
                match.expiry_ms = self.facts.time_ms + self.parameters.trade_lifetime_ms
                match.id = self.match_id(match)
                self.matches.append(match)
                self.matched.append(match)

    def match_id(self, match: RefMatch) -> bytes:
        material = self.market_id + struct.pack(">QI", match.epoch, match.ordinal)
        for author, seq, position in (match.maker.id, match.taker.id):
            material += author + struct.pack(">QH", seq, position)
        maker, taker = match.parties
        buyer, seller = (maker, taker) if match.maker.place.side == 0 else (taker, maker)
        trade = (
            self.market_id,
            sha256(material).digest(),
            buyer,
            seller,
            match.quantity * self.market.lot_size,
            match.quantity * match.price * self.market.tick_size,
            match.epoch,
            match.expiry_ms,
        )
        return TRADE.hash(trade)

    # The root.

    def order_leaves(self) -> dict[bytes, bytes]:
        leaves: dict[bytes, bytes] = {}
        for order in sorted(self.live(), key=lambda o: o.id):
            author, seq, position = order.id
            key = author + struct.pack(">QH", seq, position // 16)
            leaves[key] = leaves.get(key, b"") + order_record(order)
        return leaves

    def match_leaves(self) -> dict[bytes, bytes]:
        leaves: dict[bytes, bytes] = {}
        for match in sorted(self.pending(), key=lambda m: (m.epoch, m.ordinal)):
            state = 0
            if match.maker.id.author in match.terms:
                state = 1
            elif match.taker.id.author in match.terms:
                state = 2
            terms = bytes(32)
            if match.terms:
                sides = tuple(match.terms.get(party, b"") for party in match.parties)
                terms = sha256(codec.encode(sides)).digest()
            key = struct.pack(">QI", match.epoch, match.ordinal // 16)
            record = struct.pack(
                ">I20sQH20sQHBQQQBQ32s",
                match.ordinal,
                *match.maker.id,
                *match.taker.id,
                match.maker.place.side,
                match.price,
                match.quantity,
                match.expiry_ms,
                state,
                match.deadline,
                terms,
            )
            leaves[key] = leaves.get(key, b"") + record
        return leaves

    def account_leaves(self) -> dict[bytes, bytes]:
        return {
            address: codec.encode(
                (
                    account.next_seq,
                    account.head,
                    int(account.frozen),
                    account.reputation,
                    account.tokens,
                    account.tokens_round,
                    account.halved_until,
                    self.live_count(address),
                    account.announced,
                    account.binding,
                    self.bound(address),
                )
            )
            for address, account in self.accounts.items()
        }

    def bound(self, owner: bytes) -> tuple[tuple[int, int], ...]:
        amounts: dict[int, int] = {}
        for match in self.matches if self.rosters else ():
            if match.fate == "traded" and not match.is_over:
                if owner in (match.maker.owner, match.taker.owner):
                    amount = match.quantity * match.price
                    amounts[match.counts_until] = amounts.get(match.counts_until, 0) + amount
        return tuple(sorted(amounts.items()))

    def compute_root(self) -> bytes:
        facts = self.facts
        return sha256(
            codec.encode(
                (
                    self.market_id,
                    facts.epoch,
                    facts.era,
                    facts.era_opened_by,
                    facts.era_end_ms,
                    self.roster().digest if self.rosters else bytes(32),
                    facts.next_roster,
                    facts.round,
                    facts.leader,
                    self.seed,
                    facts.time_ms,
                    map_root(self.order_leaves()),
                    map_root(self.match_leaves()),
                    map_root(self.account_leaves()),
                    tuple(sorted(self.reported().items())),
                    self.seen_epoch(),
                    self.root,
                )
            )
        ).digest()


def may_trade(one: RefOrder, other: RefOrder) -> bool:
    return (
        one.owner != other.owner
        and one.score >= other.place.min_reputation
        and other.score >= one.place.min_reputation
    )


def order_record(order: RefOrder) -> bytes:
    place = order.place
    return struct.pack(
        ">HBBBBQQQQQQQIQQQQB",
        order.id.position,
        place.side,
        place.time_in_force,
        place.post_only,
        place.self_trade,
        place.price,
        place.quantity,
        place.expiry,
        order.score,
        place.min_reputation,
        order.deadline_ms,
        order.epoch,
        order.rank,
        0 if place.max_slippage is None else place.max_slippage + 1,
        order.open,
        order.reserved,
        order.filled,
        order.ended,
    )


def map_root(leaves: dict[bytes, bytes]) -> bytes:
    """The sparse map's root by its definition: split all keys at the first bit that differs."""
    if not leaves:
        return bytes(32)
    keys = sorted(leaves)
    if len(keys) == 1:
        return sha256(b"\x00" + keys[0] + leaves[keys[0]]).digest()
    width = 8 * len(keys[0])
    first, last = (int.from_bytes(key, "big") for key in (keys[0], keys[-1]))
    bit = width - (first ^ last).bit_length()  # what the extremes share, all share
    halves: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
    for key in keys:
        halves[int.from_bytes(key, "big") >> (width - 1 - bit) & 1][key] = leaves[key]
    children = map_root(halves[0]) + map_root(halves[1])
    return sha256(b"\x01" + bit.to_bytes(2, "big") + children).digest()
