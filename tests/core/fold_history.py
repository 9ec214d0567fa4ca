"""Writes the epochs of one market by hand: who does what, epoch by epoch, into a real fold.

Entries are chained like real ones and not signed: the fold takes verified entries. Signatures
inside operations (accepts, consents, evidence) are real, because the fold checks them.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from network import NO_REGISTRY, START_MS, WITNESS_KEYS, Key, make_genesis

from orrange_p2p.core import entries
from orrange_p2p.core.accounts import LiveOrder, delegation_digest
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.evidence import of_fork
from orrange_p2p.core.fold import EpochFacts, EpochOutcome, Fold
from orrange_p2p.core.genesis import Author
from orrange_p2p.core.headers import decode_header
from orrange_p2p.core.ids import (
    ZERO32,
    Address,
    Digest,
    Epoch,
    Era,
    Lots,
    OrderId,
    Price,
    Round,
    Seq,
    TimeMs,
)
from orrange_p2p.core.matches import Match
from orrange_p2p.core.operations import Accept, Accepted, Delegate, Evidence, Operation, Place, Side
from orrange_p2p.core.roster import Pin, Roster, Standing
from orrange_p2p.core.state import Leaves
from orrange_p2p.crypto.hashes import sha256

KEYS = sorted((Key(1 + i) for i in range(6)), key=lambda key: key.address)
ANNA, BERT, CARL, DORA, EMIL, FAYE = KEYS
"""In ascending order of addresses, as entries stand in an epoch."""
EPOCH_MS = 250
ERA_MS = 3_600_000


def buy(price: int, lots: int, time_in_force: int = 0, **more: int) -> Place:
    return Place(Side.BUY, Price(price), Lots(lots), time_in_force, **more)  # type: ignore[arg-type]


def sell(price: int, lots: int, time_in_force: int = 0, **more: int) -> Place:
    return Place(Side.SELL, Price(price), Lots(lots), time_in_force, **more)  # type: ignore[arg-type]


class History:
    """A fold, and the next epoch in the making: ``write`` adds to it, ``close`` applies it."""

    def __init__(
        self,
        reputations: Iterable[tuple[Key, int]] = (),
        is_open: bool = True,
        era_ms: int = ERA_MS,
        volatility_ppm: int = 1,
        **parameters: int,
    ) -> None:
        authors = tuple(Author(key.address, score) for key, score in reputations)
        self.era_ms = era_ms
        genesis = make_genesis(
            4,
            authors=authors,
            is_open=is_open,
            registry=Address(b"\1" * 20) if "elected_witnesses" in parameters else NO_REGISTRY,
            era_ms=era_ms,
            **parameters,
        )
        market = attrs.evolve(genesis.markets[0], volatility_ppm=volatility_ppm)
        self.genesis = attrs.evolve(genesis, markets=(market,))
        self.market = market
        self.market_id = self.market.id
        self.fold = Fold(self.genesis, self.market_id)
        self.era = 0
        self.rosters: dict[int, Roster] = {}
        """By era, where witnesses are elected."""
        if self.genesis.parameters.elected_witnesses:
            self.rosters[0] = self.fold.roster
        self.facts: list[EpochFacts] = []
        self.outcomes: list[EpochOutcome] = []
        self.heads: dict[Address, tuple[int, Digest]] = {}
        self.pending: list[Entry] = []

    # What authors do.

    def write(self, key: Key, *operations: Operation) -> Entry:
        """The next entry of a log; it is in the next epoch."""
        seq, prev = self.heads.get(key.address, (0, Digest(ZERO32)))
        entry = self.entry(key, seq, prev, *operations)
        self.heads[key.address] = (seq + 1, entry.digest)
        self.pending.append(entry)
        return entry

    def entry(self, key: Key, seq: int, prev: Digest, *operations: Operation) -> Entry:
        draft = entries.draft(
            self.genesis.separator, self.market_id, key.address, Seq(seq), prev, operations
        )
        return draft.signed(bytes(65))

    def place(self, key: Key, place: Place) -> OrderId:
        """One order in an epoch of its own."""
        entry = self.write(key, place)
        self.close()
        return OrderId(key.address, entry.seq, 0)

    def accept(self, key: Key, match: Match, terms: bytes = b"") -> Accept:
        unsigned = Accept((Accepted(match.id, terms),), bytes(65))
        return unsigned._replace(signature=key.sign(unsigned.digest(self.genesis.separator)))

    def delegate(self, owner: Key, session: Key, cap: int, expiry_ms: int) -> Delegate:
        digest = delegation_digest(
            self.genesis.separator,
            self.market_id,
            owner.address,
            session.address,
            cap,
            expiry_ms,
        )
        return Delegate(session.address, Lots(cap), expiry_ms, session.sign(digest))

    def fork(self, key: Key) -> Evidence:
        """Two signed entries of one number, as anyone who saw both would show them."""
        twins = []
        for price in (1, 2):
            draft = entries.draft(
                self.genesis.separator,
                self.market_id,
                key.address,
                Seq(0),
                Digest(ZERO32),
                [buy(price, 1)],
            )
            twins.append(draft.signed(key.sign(draft.digest)))
        return of_fork(*twins)

    def restore(self) -> None:
        """Let the fold be made anew from what its last root commits to, and nothing else."""
        before = self.fold
        view = before.view()
        terms = [match.said() for match in before.matches.values() if match.terms]
        leaves = Leaves(
            tuple(view.orders.items()),
            tuple(view.matches.items()),
            tuple(view.accounts.items()),
            {sha256(said): said for said in terms},
        )
        roster = self.fold.roster
        self.fold = Fold(self.genesis, self.market_id)
        self.fold.load(decode_header(view.header.encode()), leaves, roster)
        assert self.fold.root == before.root

    # Epochs.

    def begin_era(self, standings: Iterable[tuple[Key, int, int]]) -> None:
        """Go on by these, of whom each has (reputation, bond); the witnesses stay."""
        self.era += 1
        listed = sorted(Standing(key.address, score, bond) for key, score, bond in standings)
        roster = Roster(Era(self.era), Pin(self.era, ZERO32), self.fold.roster.seats, tuple(listed))
        self.rosters[self.era] = roster
        self.fold.begin_era(roster)

    def next_facts(
        self,
        *,
        time_ms: int | None = None,
        rounds: int = 1,
        era: int | None = None,
        forked: Iterable[Key] = (),
        reports: Iterable[tuple[int, int]] = (),
    ) -> EpochFacts:
        """``reports``: (number of the witness, epoch that it says it applied)."""
        last = self.facts[-1] if self.facts else None
        epoch = Epoch(1 if last is None else last.epoch + 1)
        if time_ms is None:
            time_ms = self.fold.time_ms + EPOCH_MS
        last_era = 0 if last is None else int(last.era)
        if era is None:
            era = max(last_era, self.era)
        round = rounds + (last.round if last is not None and era == last_era else 0)
        return EpochFacts(
            epoch,
            Era(era),
            Digest(sha256(b"opens era %d" % era) if era else ZERO32),
            TimeMs(START_MS + (era + 1) * self.era_ms),
            Round(round),
            Digest(sha256(b"leader" + epoch.to_bytes(8, "big"))),
            TimeMs(time_ms),
            sha256(b"reveal" + epoch.to_bytes(8, "big")),
            tuple(sorted(self.pending, key=lambda entry: (entry.author, entry.seq))),
            tuple(sorted(key.address for key in forked)),
            tuple((WITNESS_KEYS[number].address, Epoch(seen)) for number, seen in reports),
        )

    def close(self, **how: object) -> EpochOutcome:
        """Apply what was written as the next epoch."""
        facts = self.next_facts(**how)  # type: ignore[arg-type]
        self.pending = []
        self.facts.append(facts)
        outcome = self.fold.apply(facts)
        self.outcomes.append(outcome)
        return outcome

    def skip(self, epochs: int) -> None:
        """Empty epochs."""
        for _ in range(epochs):
            self.close()

    def see(self) -> EpochOutcome:
        """An epoch in which a quorum reports everything so far as applied."""
        return self.close(reports=[(number, self.fold.epoch) for number in range(3)])

    # What came of it.

    def order(self, order_id: OrderId) -> LiveOrder | None:
        return self.fold.order(order_id)

    def open(self, order_id: OrderId) -> int:
        """Lots of an order on the book."""
        order = self.fold.order(order_id)
        return 0 if order is None else int(order.open)

    def book(self, side: int) -> list[tuple[int, int]]:
        """(price, lots) of every resting order of a side, best first."""
        return [(order.price, order.open) for order in self.fold.book.orders(side)]


START = START_MS
