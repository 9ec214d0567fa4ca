"""What a market is between two epochs: book, matches, accounts, and the root that names them all.

``Fold`` says how it changes. Here is only the bookkeeping: who is where, what changed since the
last root, and the leaves that the root commits to (protocol/02-merkle.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from orrange_p2p.core import limits
from orrange_p2p.core.accounts import (
    ACCOUNT_KEY_BYTES,
    ORDER_KEY_BYTES,
    Account,
    LiveOrder,
    OrderGroup,
)
from orrange_p2p.core.book import Book
from orrange_p2p.core.entries import GROUP
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import ZERO32, Address, Epoch, MarketId, MatchId, OrderId
from orrange_p2p.core.matches import MATCH_KEY_BYTES, Match, MatchGroup
from orrange_p2p.core.merkle import MapView, SparseMerkleMap
from orrange_p2p.core.parts import map_of
from orrange_p2p.core.roster import Roster, of_genesis


class Leaves(NamedTuple):
    """The content of a state's maps, ascending by key, and what their matches refer to."""

    orders: Sequence[tuple[bytes, bytes]]
    matches: Sequence[tuple[bytes, bytes]]
    accounts: Sequence[tuple[bytes, bytes]]
    terms: Mapping[bytes, bytes]
    """Encoded ``Terms`` of matches that a side has accepted, by their SHA-256."""


class StateView(NamedTuple):
    """A state as it was after an epoch, for as long as anyone keeps it."""

    header: StateHeader
    orders: MapView
    matches: MapView
    accounts: MapView


class MarketState:
    """One market's state. Only the fold changes it."""

    def __init__(self, genesis: Genesis, market_id: MarketId) -> None:
        self.genesis = genesis
        self.parameters = genesis.parameters
        self.market_id = market_id
        self.market = genesis.market(market_id)
        self.epoch = Epoch(0)
        self.time_ms = genesis.start_ms
        self.seed = sha256(genesis.network_id + market_id).digest()
        self.root = ZERO32
        self.header: StateHeader | None = None
        """What ``root`` is the hash of; None before the first epoch."""
        self.rounds = 0
        """Rounds of the clock, counted over all eras: what token buckets are refilled by."""
        self.book = Book()
        self.matches: dict[MatchId, Match] = {}
        """Those that may still be accepted."""
        self.accounts: dict[Address, Account] = {}
        self.live_order_count = 0
        self.ended: list[LiveOrder] = []
        """Orders that ended in the epoch under way."""
        self._elects = genesis.parameters.elected_witnesses > 0
        self._shares: dict[Address, limits.Share] = {}
        self._flat = limits.flat_share(genesis.parameters)
        self._lane_share = limits.lane_share(genesis.parameters, self.market)
        self.lane = limits.Lane()
        """Where witnesses are elected: the orders of those without a share of their own."""
        self._use(of_genesis(genesis, market_id))
        self._orders_map = SparseMerkleMap(ORDER_KEY_BYTES)
        self._matches_map = SparseMerkleMap(MATCH_KEY_BYTES)
        self._accounts_map = SparseMerkleMap(ACCOUNT_KEY_BYTES)
        self._changed_groups: list[OrderGroup] = []
        self._changed_accounts: list[Account] = []
        self._changed_match_groups: list[MatchGroup] = []

    def load(self, header: StateHeader, leaves: Leaves, roster: Roster) -> None:
        """Become the state that these are, out of that of genesis. ``roster``: of its era.

        The leaves are certain already, by the header's roots; what they imply is made anew. Raises
        ``MalformedError`` for leaves that no state can have, ``KeyError`` for missing terms.
        """
        self._use(roster)
        for address, leaf in leaves.accounts:
            self.accounts[Address(address)] = Account.of_leaf(Address(address), leaf)
        for account in self.accounts.values():
            account.in_lane = self._is_lanes(account.address)
            if account.binding is not None:
                owner = self.accounts.get(account.binding.owner)
                if owner is None:
                    raise MalformedError("a session key of nobody")
                account.owner = owner
        for key, leaf in leaves.orders:
            author = self.accounts.get(Address(key[:20]))
            if author is None:
                raise MalformedError("an order without an account")
            seq, group = int.from_bytes(key[20:28], "big"), int.from_bytes(key[28:], "big")
            orders = author.group_for(seq, group * GROUP).load(leaf, author.owner.address)
            self.live_order_count += len(orders)
            author.owner.owned_orders += len(orders)
            for order in orders:
                if order.open > 0:
                    self.book.restore(order)
                self._count(order)
        for key, leaf in leaves.matches:
            for match in MatchGroup.of_key(key).load(
                self.market, self.market_id, leaf, leaves.terms
            ):
                self.matches[match.id] = match
                self._stake(match, match.quantity)
        self._orders_map = map_of([leaves.orders], ORDER_KEY_BYTES)
        self._matches_map = map_of([leaves.matches], MATCH_KEY_BYTES)
        self._accounts_map = map_of([leaves.accounts], ACCOUNT_KEY_BYTES)
        self.epoch = header.epoch
        self.time_ms = header.time_ms
        self.seed = header.seed
        self.rounds = header.era * self.parameters.rounds_per_era + header.round
        self.header = header
        self.root = header.root

    def take_roster(self, roster: Roster) -> None:
        """What authors are worth from now on; a session key is worth what its owner is."""
        if roster == self.roster:
            return
        self._use(roster)
        for account in self.accounts.values():
            account.in_lane = self._is_lanes(account.address)
            reputation = self._reputations.get(account.owner.address, 0)
            if reputation != account.reputation:
                account.reputation = reputation
                self.touch(account)
        self.lane = limits.Lane()
        for order in self.live_orders():
            if order.counted > 0 and order.group.account.owner.in_lane:
                self.lane.note(order, rests=True)

    def _use(self, roster: Roster) -> None:
        self.roster = roster
        self._reputations = {one.author: one.reputation for one in roster.standings}
        if self._elects:
            self._shares = limits.shares_of(roster, self.parameters, self.market)

    # --- who is where ---

    def is_listed(self, author: Address) -> bool:
        """Whether the era's roster names this author."""
        return author in self._reputations

    def is_eligible(self, author: Address) -> bool:
        """Whether this author's entries count in the cut of the next epoch."""
        if self.genesis.open or author in self._reputations:
            return True
        account = self.accounts.get(author)
        if account is None or account.owner is account:
            return False
        return account.owner.address in self._reputations

    def is_frozen(self, author: Address) -> bool:
        account = self.accounts.get(author)
        return account is not None and account.frozen

    def order(self, order_id: OrderId) -> LiveOrder | None:
        """The live order of that name, or None."""
        account = self.accounts.get(order_id.author)
        return None if account is None else account.order(order_id.seq, order_id.position)

    def live_orders(self) -> Iterator[LiveOrder]:
        """Every live order, in no particular order."""
        for account in self.accounts.values():
            for group in account.groups.values():
                for order in group.slots:
                    if order is not None:
                        yield order

    def account(self, author: Address) -> Account:
        """The account of an author; a new one starts with a full bucket."""
        account = self.accounts.get(author)
        if account is None:
            account = self.accounts[author] = self._fresh(author)
        return account

    def _fresh(self, author: Address) -> Account:
        account = Account(author, self._reputations.get(author, 0), 0, self.rounds)
        account.in_lane = self._is_lanes(author)
        account.tokens = self.share_of(account).burst
        return account

    def share_of(self, owner: Account) -> limits.Share:
        """What an owner may do; with no share of its own, what the lane may."""
        if not self._elects:
            return self._flat
        return self._lane_share if owner.in_lane else self._shares[owner.address]

    def headroom(self, author: Address) -> limits.Headroom:
        """What an author may still do, after the last epoch."""
        owner = (self.accounts.get(author) or self._fresh(author)).owner
        share = self.share_of(owner)
        bucket = self.accounts.get(limits.LANE) if owner.in_lane else owner
        halved = owner.halved_until > self.epoch
        tokens = share.burst
        if bucket is not None:
            elapsed = self.rounds - bucket.tokens_round
            tokens = share.refilled(bucket.tokens, elapsed, halved and not owner.in_lane)
        return limits.Headroom(
            owner.address,
            owner.in_lane,
            halved,
            tokens // limits.UNIT,
            owner.owned_orders,
            limits.stake_of(owner) if self._elects else None,
            share,
        )

    def _is_lanes(self, author: Address) -> bool:
        return self._elects and author not in self._shares

    def orders_of(self, match: Match) -> tuple[LiveOrder, LiveOrder]:
        """The maker's and the taker's order of a match that is still pending."""
        maker = self.order(match.maker)
        taker = self.order(match.taker)
        assert maker is not None and taker is not None, "reserved quantity keeps an order live"
        return maker, taker

    # --- what changed ---

    def touch(self, account: Account) -> None:
        """Note that an account changed."""
        if not account.changed:
            account.changed = True
            self._changed_accounts.append(account)

    def note_changed(self, order: LiveOrder) -> None:
        """Note that an order changed, and let go of it once nothing of it is live."""
        group = order.group
        if not group.changed:
            group.changed = True
            self._changed_groups.append(group)
        if self._elects and order.open != order.counted:
            self._count(order)
        if not order.is_live():
            if group.slots[order.slot] is order:
                group.slots[order.slot] = None
                group.count -= 1
                group.account.live_orders -= 1
                group.account.owner.owned_orders -= 1
                self.live_order_count -= 1
                self.ended.append(order)
                self.touch(group.account)

    def add_match(self, match: Match) -> None:
        """Keep a new match while it is pending."""
        self.matches[match.id] = match
        match.group.slots[match.ordinal % GROUP] = match
        match.group.count += 1
        self._stake(match, match.quantity)
        self.note_match(match)

    def end_match(self, match: Match) -> None:
        """Let go of a match that is bound or lapsed."""
        del self.matches[match.id]
        match.group.slots[match.ordinal % GROUP] = None
        match.group.count -= 1
        self._stake(match, -match.quantity)
        self.note_match(match)

    def note_match(self, match: Match) -> None:
        """Note that a match changed."""
        if not match.group.changed:
            match.group.changed = True
            self._changed_match_groups.append(match.group)

    def seat(self, order: LiveOrder) -> None:
        """Give a new order its slot, before it meets the book: fills are noted on both sides alike,
        and an order that is dead at once gives the slot back."""
        group = order.group
        group.slots[order.slot] = order
        group.count += 1
        group.account.live_orders += 1
        group.account.owner.owned_orders += 1
        self.live_order_count += 1

    # --- what is at stake, where witnesses are elected ---

    def _count(self, order: LiveOrder) -> None:
        """Bring what its owner has at stake, and the lane, up to date with its open quantity."""
        if not self._elects:
            return
        owner = order.group.account.owner
        before, order.counted = order.counted, order.open
        owner.at_stake += (order.open - before) * order.price
        if owner.in_lane and (before > 0) != (order.open > 0):
            self.lane.note(order, order.open > 0)

    def _stake(self, match: Match, lots: int) -> None:
        """A match has its own price, which may be better for a seller than that of its order."""
        if self._elects:
            for name in (match.maker, match.taker):
                self.accounts[name.author].owner.at_stake += lots * match.price

    # --- the root ---

    def map_roots(self) -> tuple[bytes, bytes, bytes]:
        """Bring the leaves up to date; the roots of orders, matches and accounts."""
        self._store_leaves()
        return self._orders_map.root(), self._matches_map.root(), self._accounts_map.root()

    def view(self) -> StateView:
        """The state of the last epoch. Costs nothing now, and each later change a little more."""
        assert self.header is not None, "genesis is no epoch"
        return StateView(
            self.header,
            self._orders_map.snapshot(),
            self._matches_map.snapshot(),
            self._accounts_map.snapshot(),
        )

    def terms(self) -> dict[bytes, bytes]:
        """Encoded ``Terms`` of the pending matches that a side has accepted, by their SHA-256."""
        said = [match.said() for match in self.matches.values() if match.terms]
        return {sha256(one).digest(): one for one in said}

    def _store_leaves(self) -> None:
        for group in self._changed_groups:
            group.changed = False
            if group.count:
                self._orders_map.set(group.key, group.leaf())
            else:
                self._orders_map.delete(group.key)
                group.account.groups.pop(group.number, None)
        self._changed_groups = []
        for account in self._changed_accounts:
            account.changed = False
            self._accounts_map.set(account.address, account.leaf())
        self._changed_accounts = []
        for matches in self._changed_match_groups:
            matches.changed = False
            if matches.count:
                self._matches_map.set(matches.key, matches.leaf())
            else:
                self._matches_map.delete(matches.key)
        self._changed_match_groups = []
