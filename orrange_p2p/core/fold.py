"""The fold: the state of a market as a pure function of its epochs (protocol/04-book.md).

``Fold.apply`` is the only thing that changes a market's book. Its phases run in the order of the
chapter; nothing in it depends on when or from whom a fact arrived. The phases share one state and
are read in one go, hence one file for all of them.
"""

from __future__ import annotations

import enum
from collections import deque
from hashlib import sha256, shake_256
from operator import itemgetter
from struct import unpack
from typing import Final, NamedTuple

from orrange_p2p.core import book, evidence, limits
from orrange_p2p.core.accounts import (
    Account,
    Binding,
    BoundTrades,
    LiveOrder,
    delegation_digest,
)
from orrange_p2p.core.agenda import Agenda
from orrange_p2p.core.book import Fill
from orrange_p2p.core.entries import GROUP, Entry
from orrange_p2p.core.errors import IllegalTransitionError, PeerError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import (
    MAX_UINT63,
    ZERO32,
    Address,
    Digest,
    Epoch,
    Era,
    Lots,
    MarketId,
    MatchId,
    OrderId,
    Price,
    Round,
    Seq,
    TimeMs,
)
from orrange_p2p.core.matches import (
    Match,
    MatchEvent,
    MatchGroup,
    MatchState,
)
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
    Side,
    TimeInForce,
)
from orrange_p2p.core.roster import Roster
from orrange_p2p.core.state import Leaves, MarketState
from orrange_p2p.crypto import secp256k1

_SIDES: Final = (Side.BUY, Side.SELL)


class Refusal(enum.IntEnum):
    """Why a place or amend had no effect."""

    RATE = 0
    """The owner's token bucket was empty."""
    OPEN_ORDERS = 1
    """The owner has as many live orders as it may."""
    EXPIRED = 2
    """It would have ended before it began."""
    CANCELLED = 3
    """A later operation of the same epoch took it back."""
    SESSION = 4
    """The session key is not bound (any more), or its cap is reached."""
    EXPOSURE = 5
    """Its owner would have more at stake than its bond answers for."""


class EpochFacts(NamedTuple):
    """Everything an epoch is made of."""

    epoch: Epoch
    era: Era
    era_opened_by: Digest
    """The leader that closed the era before; zero for era 0."""
    era_end_ms: TimeMs
    """Epoch time from which on a leader closes the era."""
    round: Round
    """Round of the committed leader tick."""
    leader: Digest
    time_ms: TimeMs
    """Epoch time; never less than the previous epoch's."""
    reveal: bytes
    """The reveal in the NEXT epoch's leader tick: unknown until this epoch's content is fixed."""
    entries: tuple[Entry, ...]
    """What the cut adds: ascending by author, each author's in order of seq."""
    forked: tuple[Address, ...] = ()
    """Authors whose fork the clock itself committed."""
    reports: tuple[tuple[Address, Epoch], ...] = ()
    """(witness, epoch) it reports as applied, from the committed ticks, in their order."""
    next_roster: bytes = ZERO32
    """Digest of the next era's roster, once it is due."""


class Lapse(NamedTuple):
    """A match that ended without a trade."""

    match: Match
    silent: tuple[Address, ...]
    """Whose default it is."""


class EpochOutcome(NamedTuple):
    """What applying an epoch did."""

    epoch: Epoch
    root: bytes
    time_ms: TimeMs
    matches: tuple[Match, ...]
    trades: tuple[Match, ...]
    lapses: tuple[Lapse, ...]
    refusals: tuple[tuple[OrderId, Refusal], ...]
    ended: tuple[LiveOrder, ...]
    """Orders of which nothing is live any more; each says why in ``reason``."""
    frozen: tuple[Address, ...]
    placed: int
    """Orders that reached the matcher."""


_NewOrder = tuple[int, Address, Seq, int, Place]
"""Sorting key, author, seq, position and terms. A plain tuple: one is made for every order, and a
named one costs five times as much."""


class Fold(MarketState):
    """One market: its state, and ``apply``, which takes it from one epoch to the next."""

    def __init__(self, genesis: Genesis, market_id: MarketId) -> None:
        super().__init__(genesis, market_id)
        self._separator = genesis.separator
        self._reported: dict[Address, Epoch] = {}
        self._seen_epoch = Epoch(0)
        self._unseen: deque[tuple[Epoch, list[Match]]] = deque()
        self._due: dict[int, list[Match]] = {}
        self._ending_ms = Agenda()
        self._ending_epoch = Agenda()
        self._revoked: list[Address] = []
        self._fits_from_ms: int | None = None
        self._matched: list[Match] = []
        self._match_group = MatchGroup(Epoch(0), 0)
        self._traded: list[Match] = []
        self._lapsed: list[Lapse] = []
        self._refused: list[tuple[OrderId, Refusal]] = []
        self._returned: dict[LiveOrder, int] = {}

    def begin_era(self, roster: Roster) -> None:
        """Go on by another era's roster from the next epoch on: whose reports count, what authors
        are worth, and what they may do; who has more orders than that loses some in the next epoch.
        """
        self.take_roster(roster)
        if self._elects:
            assert self.header is not None, "an era begins after an epoch that closed one"
            self._fits_from_ms = self.header.era_end_ms - self.parameters.pin_ms
        table = roster.table
        self._reported = {w: e for w, e in self._reported.items() if table.weight_of(w) > 0}

    def load(self, header: StateHeader, leaves: Leaves, roster: Roster) -> None:
        """Become that state, and go on as if all epochs up to it had been applied here."""
        super().load(header, leaves, roster)
        self._reported = dict(header.reported)
        self._seen_epoch = header.seen
        # In the order in which they were added: agendas and deadlines keep it.
        for order in sorted(self.live_orders(), key=_placed):
            if not order.ended:
                self._ending_ms.add(order.deadline_ms, order)
                if order.tif == TimeInForce.GTE:
                    self._ending_epoch.add(order.expiry, order)
        for match in self.matches.values():
            if match.deadline_epoch:
                self._due.setdefault(match.deadline_epoch, []).append(match)
            elif self._unseen and self._unseen[-1][0] == match.epoch:
                self._unseen[-1][1].append(match)
            else:
                self._unseen.append((match.epoch, [match]))
        self._revoked = [
            address
            for address, account in self.accounts.items()
            if account.binding is not None and account.binding.revoked_epoch == self.epoch + 1
        ]

    # --- apply ---

    def apply(self, facts: EpochFacts) -> EpochOutcome:
        """Apply the next epoch.

        Raises ``IllegalTransitionError``, before anything changed, for facts that do not follow.
        """
        self._check(facts)
        self._begin(facts)
        frozen = self._freeze(facts)
        entries = [entry for entry in facts.entries if not self.accounts[entry.author].frozen]
        for entry in entries:
            account = self.accounts[entry.author]
            account.next_seq = Seq(entry.seq + 1)
            account.head = entry.digest
            self.touch(account)
        self._delegations(entries)
        self._accepts(entries)
        new = self._cancels_and_places(entries)
        self._expiries()
        self._deadlines(facts)
        self._reenter()
        placed = self._place(new)
        return self._finish(facts, frozen, placed)

    def _check(self, facts: EpochFacts) -> None:
        if facts.epoch != self.epoch + 1:
            raise IllegalTransitionError(f"epoch {facts.epoch} after epoch {self.epoch}")
        if facts.time_ms < self.time_ms:
            raise IllegalTransitionError("epoch time runs backwards")
        following: dict[Address, tuple[int, bytes]] = {}
        last = Address(b"")
        for entry in facts.entries:
            author = entry.author
            if author < last:
                raise IllegalTransitionError("entries are not in ascending order of authors")
            last = author
            if author not in following:
                account = self.accounts.get(author)
                if account is None:
                    following[author] = (0, ZERO32)
                else:
                    following[author] = (account.next_seq, account.head)
            if (entry.seq, entry.prev) != following[author]:
                raise IllegalTransitionError(f"entry {entry.seq} does not extend its log")
            following[author] = (entry.seq + 1, entry.digest)

    def _begin(self, facts: EpochFacts) -> None:
        self.epoch = facts.epoch
        self.time_ms = facts.time_ms
        self.seed = sha256(self.seed + facts.reveal).digest()
        self.rounds = facts.era * self.parameters.rounds_per_era + facts.round
        for entry in facts.entries:
            self.account(entry.author)
        for session in self._revoked:
            account = self.accounts[session]
            if account.binding is not None and account.binding.revoked_epoch == self.epoch:
                self._cancel_all(account, None, book.USER)
        self._revoked = []
        if self._fits_from_ms is not None:
            self._fit(self._fits_from_ms)
            self._fits_from_ms = None

    def _fit(self, pin_ms: int) -> None:
        """Let go of trades that the roster's block shows the end of, then end orders until all
        keep to what the roster leaves them: of a share the newest go first, of the lane the oldest
        do, as when others come in."""
        resting: dict[Address, list[LiveOrder]] = {}
        for order in sorted(self.live_orders(), key=_placed):
            if order.open > 0:
                resting.setdefault(order.group.account.owner.address, []).append(order)
        for account in self.accounts.values():
            if account.bound and account.bound[0].until <= pin_ms:
                account.bound = tuple([one for one in account.bound if one.until > pin_ms])
                self.touch(account)
        for address in sorted(resting):
            account, orders = self.accounts[address], resting[address]
            share = self.share_of(account)
            if not self.is_eligible(address):
                kept = 0  # nothing that it signs counts any more: whoever met them would wait
            elif account.in_lane:
                kept = len(orders)
                for order in orders:
                    if order.open * order.price > share.stake:
                        self._end(order, book.EVICTED)
            else:
                kept = min(len(orders), share.orders)
            for order in reversed(orders[kept:]):
                self._end(order, book.EVICTED)
            while not account.in_lane and kept and limits.stake_of(account) > share.stake:
                kept -= 1
                self._end(orders[kept], book.EVICTED)
        self._clear_lane(self._lane_share.orders)

    def _clear_lane(self, most: int) -> None:
        """End the lane's oldest orders until no more than ``most`` rest."""
        while self.lane.resting > most:
            self._end(self.lane.take_oldest(), book.EVICTED)

    # --- phase 1: evidence and freezes ---

    def _freeze(self, facts: EpochFacts) -> tuple[Address, ...]:
        guilty = set(facts.forked)
        for entry in facts.entries:
            for operation in entry.operations:
                if type(operation) is Evidence and operation.kind == EvidenceKind.FORK:
                    try:
                        guilty.add(evidence.culprit(operation, self._separator, self.market_id))
                    except PeerError:
                        continue  # shows nothing, so it does nothing: it cost its author a token's
                        # worth of bytes, and an entry's validity must not depend on it
        frozen = []
        for author in sorted(guilty):
            account = self.account(author)
            if account.frozen:
                continue
            account.frozen = True
            self.touch(account)
            self._cancel_all(account, None, book.FROZEN)
            frozen.append(author)
        if frozen:
            for match in list(self.matches.values()):
                parties = {match.maker.author, match.taker.author}
                silent = tuple(author for author in frozen if author in parties)
                if silent:
                    self._lapse(match, silent)
        return tuple(frozen)

    # --- phase 2: delegations ---

    def _delegations(self, entries: list[Entry]) -> None:
        for entry in entries:
            for operation in entry.operations:
                if type(operation) is Delegate:
                    self._delegate(entry.author, operation)
                elif type(operation) is Announce:
                    self.accounts[entry.author].announced = operation.accounts

    def _delegate(self, owner: Address, operation: Delegate) -> None:
        session = self.accounts.get(operation.session)
        bound = session.binding if session is not None else None
        if operation.expiry_ms == 0:
            if session is None or bound is None or bound.owner != owner:
                return
            if not bound.revoked_epoch:  # a second time would bring the session back till then
                session.binding = bound._replace(revoked_epoch=self.epoch + 1)
                self._revoked.append(operation.session)
                self.touch(session)
            return
        if self.accounts[owner].binding is not None or operation.session == owner:
            return  # no chains of delegation
        if self.is_listed(operation.session):
            return  # a listed author is nobody's session key
        if bound is None and session is not None and session.live_orders > 0:
            return  # they would meet the key's new orders, and the owner's, as a stranger's
        if bound is not None and bound.owner != owner:
            return
        digest = delegation_digest(
            self._separator,
            self.market_id,
            owner,
            operation.session,
            operation.cap,
            operation.expiry_ms,
        )
        if not secp256k1.is_signed_by(operation.session, digest, operation.consent):
            return
        session = self.account(operation.session)
        from_epoch = self.epoch + 1
        if bound is not None and bound.is_active(self.epoch, self.time_ms):
            from_epoch = bound.from_epoch  # renewing what is in force does not interrupt it
        session.binding = Binding(
            owner, operation.cap, from_epoch, operation.expiry_ms, revoked_epoch=0
        )
        session.owner = self.accounts[owner]
        session.reputation = session.owner.reputation
        self.touch(session)

    # --- phase 3: accepts ---

    def _accepts(self, entries: list[Entry]) -> None:
        # That the author signed the trades was verified with the entry.
        for entry in entries:
            for operation in entry.operations:
                if isinstance(operation, Accept):
                    for match_id, terms in operation.matches:
                        self._accept(entry.author, match_id, terms)

    def _accept(self, author: Address, match_id: MatchId, terms: bytes) -> None:
        match = self.matches.get(match_id)
        if match is None or match.accepted_by(author):
            return
        if match.deadline_epoch and self.epoch > match.deadline_epoch:
            return
        if author == match.maker.author:
            event = MatchEvent.MAKER_ACCEPTS
        elif author == match.taker.author:
            event = MatchEvent.TAKER_ACCEPTS
        else:
            return
        match.advance(event)
        match.terms[author] = terms
        self.note_match(match)
        if match.state == MatchState.BOUND:
            for order in self.orders_of(match):
                order.reserved -= match.quantity
                order.filled += match.quantity
                self.note_changed(order)
            self.end_match(match)
            if self._elects:
                self._tie(match)
            self._traded.append(match)

    def _tie(self, match: Match) -> None:
        """A bound trade stays at stake until a roster's block can show how it ended."""
        until = limits.released_at(self.time_ms, self.market, self.parameters)
        for name in (match.maker, match.taker):
            owner = self.accounts[name.author].owner
            amounts = {one.until: one.amount for one in owner.bound}
            amount = amounts.get(until, 0) + match.quantity * match.price
            amounts[until] = min(MAX_UINT63, amount)
            owner.bound = tuple([BoundTrades(*one) for one in sorted(amounts.items())])
            self.touch(owner)

    # --- phase 4: cancels and amends; the places that survive them ---

    def _cancels_and_places(self, entries: list[Entry]) -> list[_NewOrder]:
        new: list[_NewOrder] = []
        lane: dict[Address, list[_NewOrder]] = {}
        start = 0
        while start < len(entries):
            author = entries[start].author
            end = start
            while end < len(entries) and entries[end].author == author:
                end += 1
            account = self.accounts[author]
            places = self._collect(account, entries[start:end])
            if not account.owner.in_lane:
                new += places
            elif places:
                lane.setdefault(account.owner.address, []).extend(places)
            start = end
        if lane:
            new += self._draw(lane)
            new.sort(key=_log_order)
        # Stable, and so far ascending by (author, seq, position): equal keys stay in that order.
        new.sort(key=_sorting_key)
        return new

    def _collect(self, account: Account, entries: list[Entry]) -> list[_NewOrder]:
        """One author's entries of this epoch: cancels take effect, surviving places come back.

        Those of the lane are still to be drawn from.
        """
        places: dict[tuple[int, int], _NewOrder] = {}
        owner = account.owner
        in_lane = owner.in_lane
        if not in_lane:
            self._refill(owner)
        left = 0 if in_lane else owner.tokens // limits.UNIT
        tokens = left
        allowed = self._session_allows(account)
        author = account.address
        for entry in entries:
            keys = self._keys(entry)
            seq = entry.seq
            for position, operation in enumerate(entry.operations):
                if isinstance(operation, Place):
                    place = operation
                elif isinstance(operation, Cancel):
                    target = (operation.seq, operation.position)
                    if target < (seq, position):
                        self._cancel(account, places, target)
                    continue
                elif isinstance(operation, Amend):
                    target = (operation.seq, operation.position)
                    if target < (seq, position):
                        self._cancel(account, places, target)
                    place = operation.order
                elif isinstance(operation, CancelAll):
                    self._cancel_all(account, places, book.USER)
                    continue
                else:
                    continue
                if not allowed:
                    self._refuse(account, seq, position, Refusal.SESSION)
                elif in_lane:
                    places[seq, position] = (keys[position], author, seq, position, place)
                elif left == 0:
                    self._refuse(account, seq, position, Refusal.RATE)
                else:
                    left -= 1
                    places[seq, position] = (keys[position], author, seq, position, place)
        owner.tokens -= (tokens - left) * limits.UNIT
        return list(places.values())

    def _draw(self, lane: dict[Address, list[_NewOrder]]) -> list[_NewOrder]:
        """Which places of the lane get its tokens: each owner's first before any second, and among
        these by their sorting keys, which nobody could know. Whoever is halved gets none."""
        bucket = self.account(limits.LANE)
        self._refill(bucket)
        turns: list[tuple[int, _NewOrder]] = []
        refused: list[_NewOrder] = []
        for address, places in lane.items():
            if self.accounts[address].halved_until >= self.epoch:
                refused += places
            else:
                turns += enumerate(places)
        turns.sort()
        left = bucket.tokens // limits.UNIT
        drawn = [place for _, place in turns[:left]]
        refused += [place for _, place in turns[left:]]
        bucket.tokens -= len(drawn) * limits.UNIT
        for _, author, seq, position, _ in sorted(refused, key=_log_order):
            self._refuse(self.accounts[author], seq, position, Refusal.RATE)
        return drawn

    def _keys(self, entry: Entry) -> tuple[int, ...]:
        # One XOF call yields the sorting keys of a whole entry: H(seed, author, seq) at 8 bytes a
        # position. Nobody knows the seed before the epoch's content is fixed.
        count = len(entry.operations)
        material = self.seed + entry.author + entry.seq.to_bytes(8, "big")
        return unpack(f">{count}Q", shake_256(material).digest(8 * count))

    def _refill(self, owner: Account) -> None:
        elapsed = self.rounds - owner.tokens_round
        owner.tokens_round = self.rounds
        halved = owner.halved_until >= self.epoch
        owner.tokens = self.share_of(owner).refilled(owner.tokens, elapsed, halved)
        self.touch(owner)

    def _session_allows(self, account: Account) -> bool:
        binding = account.binding
        return binding is None or binding.is_active(self.epoch, self.time_ms)

    def _refuse(self, account: Account, seq: int, position: int, why: Refusal) -> None:
        self._refused.append((OrderId(account.address, Seq(seq), position), why))

    def _cancel(
        self,
        account: Account,
        places: dict[tuple[int, int], _NewOrder],
        target: tuple[int, int],
    ) -> None:
        if places.pop(target, None) is not None:
            self._refuse(account, target[0], target[1], Refusal.CANCELLED)
            return
        order = account.order(target[0], target[1])
        if order is not None:
            self._end(order, book.USER)

    def _cancel_all(
        self, account: Account, places: dict[tuple[int, int], _NewOrder] | None, reason: int
    ) -> None:
        if places is not None:
            for seq, position in places:
                self._refuse(account, seq, position, Refusal.CANCELLED)
            places.clear()
        for number in sorted(account.groups):
            for order in account.groups[number].slots:
                if order is not None:
                    self._end(order, reason)

    def _end(self, order: LiveOrder, reason: int) -> None:
        """Cancel what is open; what is reserved stays, but will not come back to the book."""
        order.ended = True
        self.book.cancel(order.id, reason)
        order.reason = reason
        self.note_changed(order)

    # --- phase 5: expiries and match deadlines ---

    def _expiries(self) -> None:
        for agenda, now in ((self._ending_ms, self.time_ms + 1), (self._ending_epoch, self.epoch)):
            for order in agenda.take_before(now):
                if order.is_live() and not order.ended:
                    self._end(order, book.EXPIRED)
            agenda.forget_dead(self.live_order_count)

    def _deadlines(self, facts: EpochFacts) -> None:
        for witness, epoch in facts.reports:
            if epoch > self._reported.get(witness, 0) and epoch < facts.epoch:
                self._reported[witness] = epoch
        self._seen_epoch = max(self._seen_epoch, self._quorum_reported())
        deadline = Epoch(facts.epoch + self.parameters.accept_deadline_epochs)
        while self._unseen and self._unseen[0][0] <= self._seen_epoch:
            for match in self._unseen.popleft()[1]:
                if match.id in self.matches:
                    match.deadline_epoch = deadline
                    self.note_match(match)
                    self._due.setdefault(deadline, []).append(match)
        for match in self._due.pop(facts.epoch - 1, ()):
            if match.id in self.matches:
                parties = (match.maker.author, match.taker.author)
                self._lapse(match, tuple(p for p in parties if not match.accepted_by(p)))

    def _quorum_reported(self) -> Epoch:
        """The latest epoch that witnesses of a quorum report as applied, or later ones."""
        weight = 0
        reports = sorted(((e, w) for w, e in self._reported.items()), reverse=True)
        for epoch, witness in reports:
            weight += self.roster.table.weight_of(witness)
            if weight >= self.roster.table.quorum:
                return epoch
        return Epoch(0)

    def _lapse(self, match: Match, silent: tuple[Address, ...]) -> None:
        if match.id not in self.matches:
            return
        match.advance(MatchEvent.DEADLINE_PASSES)
        self.end_match(match)
        self._lapsed.append(Lapse(match, silent))
        for order in self.orders_of(match):
            author = order.group.account
            if author.address in silent:
                author.owner.halved_until = self.epoch + self.parameters.penalty_epochs
                self.touch(author.owner)
                self._forfeit(order, match.quantity, book.UNSETTLED)
                self._end(order, book.UNSETTLED)
            else:
                self._returned[order] = self._returned.get(order, 0) + match.quantity

    def _forfeit(self, order: LiveOrder, quantity: int, reason: int) -> None:
        order.reserved -= quantity
        order.cancelled += quantity
        order.reason = reason

    # --- phase 6: quantity of failed matches ---

    def _reenter(self) -> None:
        for order, quantity in sorted(self._returned.items(), key=_priority):
            if order.ended:
                self._forfeit(order, quantity, book.UNSETTLED)
                self.note_changed(order)
            elif self._elects and not self._answers_for(order, quantity):
                self._forfeit(order, quantity, book.EVICTED)
                self._end(order, book.EVICTED)
            else:
                self._record(order, self.book.reenter(order, quantity))
        self._returned = {}
        if self._elects:
            self._clear_lane(self._lane_share.orders)

    def _answers_for(self, order: LiveOrder, lots: int) -> bool:
        """Whether its owner may have this quantity of it open again."""
        owner = order.group.account.owner
        stake = lots * self._dearest(order.side, order.price)
        return owner.in_lane or limits.stake_of(owner) + stake <= self.share_of(owner).stake

    def _dearest(self, side: int, price: int) -> int:
        """The highest price at which an order may trade now: a seller may get a better one."""
        if side == Side.BUY:
            return price
        return max(price, self.book.best(Side.BUY) or 0)

    # --- phase 7: new orders ---

    def _place(self, new: list[_NewOrder]) -> int:
        placed = 0
        room: dict[Address, int] = {}
        lifetime = self.parameters.order_lifetime_ms
        for rank, (_, author, seq, position, place) in enumerate(new):
            account = self.accounts[author]
            deadline_ms = self.time_ms + lifetime
            if place.time_in_force == TimeInForce.GTT:
                deadline_ms = min(deadline_ms, place.expiry)
            binding = account.binding
            owner = author
            if binding is not None:
                owner = binding.owner
                deadline_ms = min(deadline_ms, binding.expiry_ms)
                if author not in room:
                    room[author] = binding.cap - _outstanding(account)
                if place.quantity > room[author]:
                    self._refuse(account, seq, position, Refusal.SESSION)
                    continue
            if deadline_ms <= self.time_ms or (
                place.time_in_force == TimeInForce.GTE and place.expiry < self.epoch
            ):
                self._refuse(account, seq, position, Refusal.EXPIRED)
                continue
            holder = account.owner
            share = self.share_of(holder)
            if self._elects:
                stake = place.quantity * self._dearest(place.side, place.price)
                if not holder.in_lane:
                    stake += limits.stake_of(holder)
                if stake > share.stake:
                    self._refuse(account, seq, position, Refusal.EXPOSURE)
                    continue
            halved = holder.halved_until >= self.epoch
            if not holder.in_lane and holder.owned_orders >= share.most_orders(halved):
                self._refuse(account, seq, position, Refusal.OPEN_ORDERS)
                continue
            placed += 1
            if binding is not None:
                room[author] -= place.quantity
            group = account.group_for(seq, position)
            order = LiveOrder(
                tuple.__new__(OrderId, (author, seq, position)),  # a third of the call's cost
                owner,
                place,
                account.reputation,
                self.epoch,
                rank,
                deadline_ms,
                group,
            )
            self.seat(order)
            self._record(order, self.book.place(order))
            if holder.in_lane:
                self._clear_lane(share.orders)
            if order.is_live() and not order.ended:  # what is only reserved may come back
                self._ending_ms.add(deadline_ms, order)
                if place.time_in_force == TimeInForce.GTE:
                    self._ending_epoch.add(place.expiry, order)
        return placed

    def _record(self, order: LiveOrder, fills: list[Fill]) -> None:
        """Note what matching one order did: its fills, and what self-trade prevention removed."""
        for fill in fills:
            maker: LiveOrder = fill.maker  # type: ignore[assignment]
            ordinal = len(self._matched)
            if ordinal % GROUP == 0:
                self._match_group = MatchGroup(self.epoch, ordinal)
            match = Match(
                self.market,
                self.market_id,
                self.epoch,
                TimeMs(min(self.time_ms + self.parameters.trade_lifetime_ms, MAX_UINT63)),
                ordinal,
                self._match_group,
                maker.id,  # type: ignore[arg-type]
                order.id,  # type: ignore[arg-type]
                _SIDES[maker.side],
                Price(fill.price),
                Lots(fill.quantity),
            )
            self.add_match(match)
            self._matched.append(match)
            self.note_changed(maker)
        removed = self.book.removed
        if removed:
            for other in removed:
                self.note_changed(other)  # type: ignore[arg-type]
            removed.clear()
        self.note_changed(order)

    # --- the root ---

    def _finish(self, facts: EpochFacts, frozen: tuple[Address, ...], placed: int) -> EpochOutcome:
        if self._matched:
            self._unseen.append((facts.epoch, self._matched))
        header = StateHeader(
            self.market_id,
            facts.epoch,
            facts.era,
            facts.era_opened_by,
            facts.era_end_ms,
            self.roster.digest if self.parameters.elected_witnesses else ZERO32,
            facts.next_roster,
            facts.round,
            facts.leader,
            self.seed,
            facts.time_ms,
            *self.map_roots(),
            tuple(sorted(self._reported.items())),
            self._seen_epoch,
            self.root,
        )
        self.header = header
        self.root = header.root
        outcome = EpochOutcome(
            facts.epoch,
            self.root,
            facts.time_ms,
            tuple(self._matched),
            tuple(self._traded),
            tuple(self._lapsed),
            tuple(self._refused),
            tuple(self.ended),
            frozen,
            placed,
        )
        self._matched = []
        self._traded = []
        self._lapsed = []
        self._refused = []
        self.ended = []
        return outcome


_sorting_key: Final = itemgetter(0)
_log_order: Final = itemgetter(1, 2, 3)


def _priority(returned: tuple[LiveOrder, int]) -> tuple[int, int]:
    return returned[0].epoch, returned[0].rank


def _placed(order: LiveOrder) -> tuple[int, int]:
    return order.epoch, order.rank


def _outstanding(account: Account) -> int:
    lots = 0
    for group in account.groups.values():
        for order in group.slots:
            if order is not None:
                lots += order.open + order.reserved
    return lots
