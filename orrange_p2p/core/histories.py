"""What chains show of each account, put together from their events (protocol/11-reputation.md).

A pure function of the set of events up to a block: in which order they were read, in what pages,
over which endpoints and how often a node restarted meanwhile makes no difference.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

from orrange_p2p.core import codec, reputation
from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.bitcoin_bonds import BIND_WITHIN_S, BitcoinBond, bonds_digest, known_at
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Bond, Default, History, Place, Score, Settled, Term

__all__ = ["ChainEvent", "EventKind", "Standings", "day_of", "histories", "standings"]

DAY_S: Final = 86_400
NOBODY: Final = Address(bytes(20))
_RECORD: Final = Struct(">QQBQ20s20s32s32s32s32s32sQQ33s")
_HASHED_AT_ONCE: Final = 1024


class EventKind(enum.IntEnum):
    """What happened. Kept by number: a number never changes its meaning."""

    BONDED = 0
    """``subject`` bonded ``amount``; all of its bond is locked until ``until_s``."""
    UNBONDING = 1
    """``amount`` of the bond of ``subject`` is on its way out."""
    BOUND = 2
    """The key ``other`` acts for ``subject``, and so does ``bitcoin_key`` if there is one."""
    SLASHED = 3
    """The key ``other`` of ``subject`` was convicted."""
    SETTLED = 4
    """``subject`` bought from ``other``: ``amount`` of quote was burned, ``paid`` of it paid for
    ``lots`` smallest units of base."""
    DEFAULTED = 5
    """``subject`` lacked ``amount`` of the token ``other``."""
    ALLOCATED = 6
    """``amount`` of the bond of ``subject`` backs the key ``other`` in ``market``."""
    STOOD = 7
    """The key ``other`` of ``subject`` is a candidate in ``market``, with ``anchor`` and ``since``;
    with an anchor of zeros it is none any more."""


class ChainEvent(NamedTuple):
    """One event of a final block."""

    place: Place
    kind: EventKind
    time_s: int
    """Of its block."""
    subject: Address
    other: Address = NOBODY
    amount: int = 0
    until_s: int = 0
    market: bytes = b""
    """32 bytes."""
    paid: int = 0
    lots: int = 0
    anchor: bytes = b""
    since: int = 0
    """The era whose round 0 is position 0 of the reveal chain."""
    bitcoin_key: bytes = b""
    """Compressed, 33 bytes: bonds on Bitcoin that are locked by it are the subject's."""
    peer_id: bytes = b""
    """Where the subject's node is found, as text: its own claim, and it scores nothing."""


def day_of(time_s: int) -> int:
    """Days since 1970-01-01, as blocks count them."""
    return time_s // DAY_S


class _Making:
    """A history in the making."""

    __slots__ = (
        "bitcoin",
        "bonds",
        "defaults",
        "forked",
        "locked_until_s",
        "registered_s",
        "settled",
    )

    def __init__(self) -> None:
        self.registered_s: int | None = None
        self.bonds: list[tuple[Place, int]] = []
        """What is left of each in smallest units, oldest first."""
        self.locked_until_s = 0
        self.bitcoin: list[Bond] = []
        self.settled: list[Settled] = []
        self.defaults: list[Default] = []
        self.forked = False


def histories(
    genesis: Genesis, events: Iterable[ChainEvent], bonds: Iterable[BitcoinBond] = ()
) -> dict[Address, History]:
    """The history of every account that the events name. What a bound key traded, or did not pay,
    counts for its owner, also from before, since it is bound for ever. A bond counts for whoever
    bonded it: no other account's is taken for what the account's keys do. ``bonds``: on Bitcoin,
    those that count at the pinned block."""
    ordered = sorted(events)
    owner_of = {event.other: event.subject for event in ordered if event.kind is EventKind.BOUND}
    rates = _Rates(genesis)
    making: dict[Address, _Making] = {}

    def of(account: Address) -> _Making:
        one = making.get(account)
        if one is None:
            one = making[account] = _Making()
        return one

    for event in ordered:
        kind, day = event.kind, day_of(event.time_s)
        if kind is EventKind.SETTLED:
            burned = rates.of_settled(event)
            if burned is not None:
                settled = Settled(event.place, burned, day)
                buyer, seller = event.subject, event.other
                of(owner_of.get(buyer, buyer)).settled.append(settled)
                of(owner_of.get(seller, seller)).settled.append(settled)
            continue
        if kind is EventKind.ALLOCATED or kind is EventKind.STOOD:
            continue  # what elections read
        if kind is EventKind.DEFAULTED:
            one = of(owner_of.get(event.subject, event.subject))
            one.defaults.append(Default(event.place, rates.of_token(event), day))
            continue
        one = of(event.subject)
        if one.registered_s is None:
            one.registered_s = event.time_s
        if kind is EventKind.BONDED:
            one.bonds.append((event.place, event.amount))
            one.locked_until_s = event.until_s
        elif kind is EventKind.UNBONDING:
            _take_out(one.bonds, event.amount)
        elif kind is EventKind.SLASHED:
            one.bonds.clear()
            one.forked = True
    counted = sorted(bonds)
    bound = _bound_on_bitcoin(ordered) if counted else {}
    for bond in counted:
        binding = bound.get(bond.key)
        if binding is not None and binding.time_s < bond.time_s + BIND_WITHIN_S:
            of(binding.subject).bitcoin.append(_bitcoin_bond(genesis, bond))
    unit = genesis.parameters.bond_unit
    return {account: _history(account, one, unit) for account, one in making.items()}


def _bound_on_bitcoin(ordered: Iterable[ChainEvent]) -> dict[bytes, ChainEvent]:
    """The first binding of each Bitcoin key: a coin does not count for two."""
    bound: dict[bytes, ChainEvent] = {}
    for event in ordered:
        if event.kind is EventKind.BOUND and event.bitcoin_key:
            bound.setdefault(event.bitcoin_key, event)
    return bound


def _bitcoin_bond(genesis: Genesis, bond: BitcoinBond) -> Bond:
    amount = bond.sats * genesis.bitcoin_rate_numerator // genesis.bitcoin_rate_denominator
    return Bond(bond.place, amount, day_of(bond.locked_until_s), True)


def _history(account: Address, one: _Making, unit: int) -> History:
    until_day = day_of(one.locked_until_s)
    bonds = [Bond(place, amount // unit, until_day) for place, amount in one.bonds]
    return History(
        account,
        # Who never registered is no day old at any time.
        (1 << 62) if one.registered_s is None else day_of(one.registered_s),
        (*bonds, *one.bitcoin),
        tuple(one.settled),
        tuple(one.defaults),
        one.forked,
    )


def _take_out(bonds: list[tuple[Place, int]], amount: int) -> None:
    """The oldest first: all have the same lock."""
    while amount > 0 and bonds:
        place, left = bonds.pop(0)
        if left > amount:
            bonds.insert(0, (place, left - amount))
        amount -= left


class _Rates:
    """Amounts in micro-units of the bond asset, by the rates of genesis and no oracle."""

    def __init__(self, genesis: Genesis) -> None:
        self._rates: dict[bytes, tuple[int, int]] = {}
        home = f"eip155:{evm_chain_id(genesis.home_chain)}/erc20:0x"
        self._quotes: dict[str, tuple[int, int]] = {}
        self._bases: dict[str, bytes] = {}
        for market in genesis.markets:
            rate = (market.rate_numerator, market.rate_denominator)
            self._rates[bytes(market.id)] = rate
            self._quotes.setdefault(market.quote.lower().removeprefix(home), rate)
            self._bases.setdefault(market.base.lower().removeprefix(home), bytes(market.id))
        self._last: dict[bytes, ChainEvent] = {}
        """By market the last settled trade, which tells what base is worth."""

    def of_settled(self, event: ChainEvent) -> int | None:
        """What a trade burned; its price is noted. None for a market that is none of the
        network's."""
        market = event.market
        rate = self._rates.get(market)
        if rate is None:
            return None
        if event.lots > 0:
            self._last[market] = event
        numerator, denominator = rate
        return event.amount * numerator // denominator

    def of_token(self, event: ChainEvent) -> int:
        """What somebody lacked: quote at its rate, base at the price of the last trade that was
        settled before; 0 if there was none."""
        token = event.other.hex()
        if token in self._quotes:
            numerator, denominator = self._quotes[token]
            return event.amount * numerator // denominator
        market = self._bases.get(token, b"")
        last = self._last.get(market)
        if last is None:
            return 0
        numerator, denominator = self._rates[market]
        return event.amount * last.paid // last.lots * numerator // denominator


class Standings(NamedTuple):
    """All accounts at a block."""

    chain: str
    block: int
    hash: bytes
    day: int
    scores: tuple[Score, ...]
    """Ascending by account."""
    histories: dict[Address, History]
    """What each score is made of."""
    digest: bytes
    """Equal at two nodes that read the same events and score them alike, and at no others."""

    def of_peers(self, bindings: Iterable[ChainEvent]) -> dict[str, int]:
        """Scores by the peer ids that owners bound their keys with; the best of several."""
        scores = {one.account: one.total for one in self.scores}
        found: dict[str, int] = {}
        for event in bindings:
            score = scores.get(event.subject, 0)
            if score > 0 and event.peer_id.isascii():
                name = event.peer_id.decode("ascii")
                found[name] = max(score, found.get(name, 0))
        return found

    def terms(self, account: Address) -> tuple[Term, ...]:
        """What the account's score is made of, event by event."""
        history = self.histories.get(account)
        return () if history is None else reputation.terms(history, self.day)


def standings(
    genesis: Genesis,
    chain: str,
    block: int,
    hash: bytes,
    time_s: int,
    events: Iterable[ChainEvent],
    bonds: Iterable[BitcoinBond] = (),
) -> Standings:
    """The scores of all accounts at a block, from the events up to it and the bonds on Bitcoin that
    count then."""
    day = day_of(time_s)
    known = sorted([event for event in events if event.place.block <= block])
    counted = known_at(bonds, time_s)
    made = histories(genesis, known, counted)
    scores = tuple([reputation.score(made[account], day) for account in sorted(made)])
    digest = table_digest(day, scores, known, counted)
    return Standings(chain, block, hash, day, scores, made, digest)


def table_digest(
    day: int,
    scores: Iterable[Score],
    events: Iterable[ChainEvent],
    bonds: Iterable[BitcoinBond] = (),
) -> bytes:
    """SHA-256 of all scores, ascending by account, and of the events and the bonds on Bitcoin that
    they follow from, ascending by place."""
    rows = [(one.account, *[_word(sum) for sum in one[1:5]], one.age_days) for one in scores]
    return sha256(codec.encode((day, rows, events_digest(events), bonds_digest(bonds)))).digest()


def events_digest(events: Iterable[ChainEvent]) -> bytes:
    """SHA-256 of events, each in full but for peer ids, in the order that they come in."""
    hashed = sha256()
    chain, prefix = "", b""
    records: list[bytes] = []
    for event in events:
        place = event.place
        if place.chain != chain:
            chain, prefix = place.chain, codec.encode(place.chain)
        records.append(prefix)
        records.append(
            _RECORD.pack(
                place.block,
                place.log,
                event.kind,
                event.time_s,
                event.subject,
                event.other,
                event.market,
                event.anchor,
                event.amount.to_bytes(32, "big"),
                event.paid.to_bytes(32, "big"),
                event.lots.to_bytes(32, "big"),
                event.until_s,
                event.since,
                event.bitcoin_key,
            )
        )
        if len(records) >= _HASHED_AT_ONCE:
            hashed.update(b"".join(records))
            records.clear()
    hashed.update(b"".join(records))
    return hashed.digest()


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")
