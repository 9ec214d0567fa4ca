"""What settlement needs of a trade: its terms, and each side's accept as a contract takes it.

The log has both signatures, in entries that may be pruned once the trade has left the state. So
they are taken from each epoch as it is applied, from the match on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.accounts import Account
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.fold import EpochFacts, EpochOutcome
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Address, Amount, Epoch, MarketId, MatchId, TimeMs
from orrange_p2p.core.matches import Match, Trade
from orrange_p2p.core.operations import MAX_ACCEPTED, Accept
from orrange_p2p.crypto import keccak_tree

__all__ = ["Binder", "BoundTrade", "Consent", "Taken", "parse_trade", "trade_items"]

MAX_PATH: Final = (MAX_ACCEPTED - 1).bit_length()
MAX_BOUND_BYTES: Final = 2048
_NOBODY: Final = Address(bytes(20))


class Consent(NamedTuple):
    """That one side of a match accepted it, as ``Settlement`` wants to be shown."""

    owner: Address
    """Who pays for a session key; zero: the author itself."""
    path: tuple[bytes, ...]
    """From the match's id to the root that was signed; empty if its ``Trade`` itself was."""
    signature: bytes

    def encode(self) -> bytes:
        return codec.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Consent:
        """Raises ``MalformedError``."""
        return cls._parse(codec.decode_canonical(data, MAX_BOUND_BYTES))

    @classmethod
    def _parse(cls, value: codec.Value) -> Consent:
        owner, path, signature = codec.array(value, 3, "consent")
        return cls(
            Address(codec.octets(owner, 20, "owner")),
            tuple(codec.octets(one, 32, "path") for one in codec.items(path, MAX_PATH, "path")),
            codec.octets(signature, 65, "signature"),
        )


class BoundTrade(NamedTuple):
    """A trade that binds both sides, with all that a contract checks."""

    trade: Trade
    maker: Address
    """Author of the order that was met."""
    bound_ms: TimeMs
    """Epoch time at which it bound."""
    buyer: Consent
    seller: Consent

    @property
    def id(self) -> MatchId:
        return self.trade.id

    def encode(self) -> bytes:
        trade = trade_items(self.trade)
        return codec.encode((trade, self.maker, self.bound_ms, self.buyer, self.seller))

    @classmethod
    def decode(cls, data: bytes) -> BoundTrade:
        """Raises ``MalformedError``."""
        value = codec.decode_canonical(data, MAX_BOUND_BYTES)
        trade, maker, bound_ms, buyer, seller = codec.array(value, 5, "bound trade")
        bound = cls(
            parse_trade(trade),
            Address(codec.octets(maker, 20, "maker")),
            TimeMs(codec.uint(bound_ms, "bound_ms")),
            Consent._parse(buyer),
            Consent._parse(seller),
        )
        if bound.maker not in (bound.trade.buyer, bound.trade.seller):
            raise MalformedError("the maker is none of the parties")
        return bound


def trade_items(trade: Trade) -> tuple[codec.Value, ...]:
    """A trade as the array that is kept."""
    *parties, base, quote, epoch, expiry_ms = trade
    return (*parties, base.to_bytes(32, "big"), quote.to_bytes(32, "big"), epoch, expiry_ms)


def parse_trade(value: codec.Value) -> Trade:
    """What ``trade_items`` made. Raises ``MalformedError``."""
    market, fill, buyer, seller, base, quote, epoch, expiry_ms = codec.array(value, 8, "trade")
    return Trade(
        MarketId(codec.octets(market, 32, "market")),
        codec.octets(fill, 32, "fill"),
        Address(codec.octets(buyer, 20, "buyer")),
        Address(codec.octets(seller, 20, "seller")),
        _amount(base),
        _amount(quote),
        Epoch(codec.uint(epoch, "epoch")),
        TimeMs(codec.uint(expiry_ms, "expiry_ms")),
    )


def _amount(value: codec.Value) -> Amount:
    return Amount(int.from_bytes(codec.octets(value, 32, "amount"), "big"))


class Taken(NamedTuple):
    """What an epoch brought to settlement; to be kept as a whole."""

    consents: Mapping[tuple[MatchId, Address], Consent]
    """Of one side, while the other's is awaited."""
    trades: tuple[BoundTrade, ...]
    lapsed: tuple[MatchId, ...]

    def __bool__(self) -> bool:
        return bool(self.consents or self.trades or self.lapsed)


class Binder:
    """Follows the matches of some authors in one market until they are trades, or none."""

    def __init__(self, market: Market, market_id: MarketId, authors: Iterable[Address]) -> None:
        self._market = market
        self._market_id = market_id
        self._authors = frozenset(authors)
        self._pending: dict[MatchId, Match] = {}
        self._consents: dict[tuple[MatchId, Address], Consent] = {}
        self.unsigned = 0
        """Trades that bound by an accept which nobody here has seen: the state was taken over from
        others. The other party has both signatures, and settles."""

    def begin(
        self, pending: Iterable[Match], consents: Mapping[tuple[MatchId, Address], Consent]
    ) -> None:
        """Go on from a state with these matches; ``consents``: those kept so far."""
        self._pending = {match.id: match for match in pending if self._is_own(match)}
        self._consents = {
            (name, author): consent
            for (name, author), consent in consents.items()
            if name in self._pending
        }

    def take(
        self, facts: EpochFacts, outcome: EpochOutcome, accounts: Mapping[Address, Account]
    ) -> Taken:
        """What an applied epoch brought. ``accounts``: the state's, at that epoch or later."""
        fresh: dict[tuple[MatchId, Address], Consent] = {}
        if self._pending:
            for entry in facts.entries:
                fresh.update(self._consents_in(entry, accounts))
        self._consents.update(fresh)
        trades = [
            bound
            for match in outcome.trades
            if self._pending.pop(match.id, None) is not None
            and (bound := self._bound(match, outcome.time_ms)) is not None
        ]
        lapsed = [
            lapse.match.id
            for lapse in outcome.lapses
            if self._pending.pop(lapse.match.id, None) is not None
        ]
        ended = {*(trade.id for trade in trades), *lapsed}
        for name, author in [key for key in self._consents if key[0] in ended]:
            del self._consents[name, author]
        self._pending.update((match.id, match) for match in outcome.matches if self._is_own(match))
        awaiting = {key: consent for key, consent in fresh.items() if key[0] not in ended}
        return Taken(awaiting, tuple(trades), tuple(lapsed))

    def _is_own(self, match: Match) -> bool:
        return match.buyer in self._authors or match.seller in self._authors

    def _consents_in(
        self, entry: Entry, accounts: Mapping[Address, Account]
    ) -> Iterable[tuple[tuple[MatchId, Address], Consent]]:
        for operation in entry.operations:
            if not isinstance(operation, Accept):
                continue
            names = [accepted.match_id for accepted in operation.matches]
            wanted = [
                place
                for place, name in enumerate(names)
                if (match := self._pending.get(name)) is not None
                and entry.author in (match.buyer, match.seller)
            ]
            if not wanted:
                continue
            paths = keccak_tree.proofs(names)
            owner = _owner(accounts, entry.author)
            for place in wanted:
                consent = Consent(owner, paths[place], operation.signature)
                yield (names[place], entry.author), consent

    def _bound(self, match: Match, time_ms: TimeMs) -> BoundTrade | None:
        buyer = self._consents.get((match.id, match.buyer))
        seller = self._consents.get((match.id, match.seller))
        if buyer is None or seller is None:
            self.unsigned += 1
            return None
        trade = match.trade(self._market, self._market_id)
        return BoundTrade(trade, match.maker.author, time_ms, buyer, seller)


def _owner(accounts: Mapping[Address, Account], author: Address) -> Address:
    """A session key has one owner for good, so a later state says the same."""
    account = accounts.get(author)
    return _NOBODY if account is None or account.binding is None else account.binding.owner
