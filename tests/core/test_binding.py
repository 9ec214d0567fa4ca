"""What settlement needs of a trade: both signatures, as a contract checks them."""

from __future__ import annotations

import pytest
from fold_history import ANNA, BERT, CARL, EMIL, History, Key, buy, sell
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.ids import Address, Amount, Epoch, MarketId, TimeMs
from orrange_p2p.core.matches import Match, Trade
from orrange_p2p.core.operations import Accept, Accepted
from orrange_p2p.core.swaps.binding import Binder, BoundTrade, Consent, Taken
from orrange_p2p.crypto import keccak_tree
from orrange_p2p.crypto.eip712 import StructType, signing_digest
from orrange_p2p.crypto.secp256k1 import recover

TRADES = StructType("Trades(bytes32 root)")
NOBODY = bytes(20)


class Followed:
    """A history, and what a binder made of each of its epochs."""

    def __init__(self, *own: Key) -> None:
        self.history = History()
        self.binder = Binder(
            self.history.market, self.history.market_id, [key.address for key in own]
        )

    def close(self) -> Taken:
        outcome = self.history.close()
        return self.binder.take(self.history.facts[-1], outcome, self.history.fold.accounts)

    def match(self, maker: Key = ANNA, taker: Key = BERT, price: int = 100) -> Match:
        self.history.write(maker, buy(price, 10))
        self.close()
        self.history.write(taker, sell(price, 4))
        self.close()
        return self.history.outcomes[-1].matches[0]

    def accept(self, key: Key, *matches: Match) -> Accept:
        accepted = tuple(sorted(Accepted(match.id, b"") for match in matches))
        unsigned = Accept(accepted, b"")
        accept = unsigned._replace(
            signature=key.sign(unsigned.digest(self.history.genesis.separator))
        )
        self.history.write(key, accept)
        return accept

    def signer(self, trade: BoundTrade, consent: Consent) -> bytes:
        """Who signed, by the contract's own reckoning (``Settlement._requireSigned``)."""
        what = bytes(trade.id)
        if consent.path:
            what = TRADES.hash((keccak_tree.root_by_proof(what, consent.path),))
        return recover(signing_digest(self.history.genesis.separator, what), consent.signature)


def test_a_trade_comes_with_both_signatures() -> None:
    followed = Followed(ANNA)
    match = followed.match()
    first = followed.accept(ANNA, match)
    taken = followed.close()
    assert taken.consents == {(match.id, ANNA.address): Consent(NOBODY, (), first.signature)}
    assert not taken.trades
    second = followed.accept(BERT, match)
    taken = followed.close()
    assert not taken.consents
    assert taken.trades == (
        BoundTrade(
            match.trade(followed.history.market, followed.history.market_id),
            ANNA.address,
            followed.history.outcomes[-1].time_ms,
            Consent(NOBODY, (), first.signature),
            Consent(NOBODY, (), second.signature),
        ),
    )


def test_one_signature_for_many_matches_shows_each_by_a_path() -> None:
    followed = Followed(ANNA, BERT)
    matches = [followed.match(price=100 + n) for n in range(5)]
    followed.accept(ANNA, *matches)
    followed.accept(BERT, matches[3])
    followed.accept(BERT, *matches[:3], matches[4])
    trades = {trade.id: trade for trade in followed.close().trades}
    assert trades.keys() == {match.id for match in matches}
    for trade in trades.values():
        assert followed.signer(trade, trade.buyer) == ANNA.address
        assert followed.signer(trade, trade.seller) == BERT.address
    assert trades[matches[3].id].seller.path == ()


def test_matches_of_others_are_passed_over() -> None:
    followed = Followed(CARL)
    match = followed.match()
    followed.accept(ANNA, match)
    followed.accept(BERT, match)
    followed.accept(CARL, match)
    assert not followed.close()


def test_a_restart_in_between_loses_nothing() -> None:
    followed = Followed(BERT)
    match = followed.match()
    followed.accept(ANNA, match)
    kept = followed.close().consents
    followed.binder = Binder(followed.history.market, followed.history.market_id, [BERT.address])
    followed.binder.begin(followed.history.fold.matches.values(), kept)
    followed.accept(BERT, match)
    (trade,) = followed.close().trades
    assert followed.signer(trade, trade.buyer) == ANNA.address


def test_an_accept_that_nobody_here_has_seen_is_counted() -> None:
    followed = Followed(BERT)
    match = followed.match()
    followed.accept(ANNA, match)
    followed.close()
    followed.binder.begin(followed.history.fold.matches.values(), {})
    followed.accept(BERT, match)
    taken = followed.close()
    assert not taken.trades
    assert followed.binder.unsigned == 1


def test_what_lapses_is_forgotten() -> None:
    followed = Followed(ANNA)
    match = followed.match()
    followed.accept(ANNA, match)
    followed.close()
    followed.history.see()
    lapsed: tuple[bytes, ...] = ()
    for _ in range(followed.history.fold.parameters.accept_deadline_epochs + 2):
        lapsed += followed.close().lapsed
    assert lapsed == (match.id,)


def test_a_session_key_names_its_owner() -> None:
    followed = Followed(EMIL)
    history = followed.history
    history.write(CARL, history.delegate(CARL, EMIL, 100, 1 << 60))
    followed.close()
    match = followed.match(maker=EMIL)
    followed.accept(EMIL, match)
    followed.accept(BERT, match)
    (trade,) = followed.close().trades
    assert trade.trade.buyer == EMIL.address
    assert trade.buyer.owner == CARL.address
    assert trade.seller.owner == NOBODY


names = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(Address)
amounts = st.integers(0, (1 << 256) - 1).map(Amount)
consents = st.builds(
    Consent,
    addresses,
    st.lists(names, max_size=8).map(tuple),
    st.binary(min_size=65, max_size=65),
)


@st.composite
def bound_trades(draw: st.DrawFn) -> BoundTrade:
    buyer, seller = draw(addresses), draw(addresses)
    trade = Trade(
        MarketId(draw(names)), draw(names), buyer, seller, draw(amounts), draw(amounts),
        Epoch(draw(st.integers(0, 1 << 62))), TimeMs(draw(st.integers(0, 1 << 62))),
    )  # fmt: skip
    bound_ms = TimeMs(draw(st.integers(0, 1 << 62)))
    maker = draw(st.sampled_from([buyer, seller]))
    return BoundTrade(trade, maker, bound_ms, draw(consents), draw(consents))


@given(bound_trades())
def test_it_is_kept_as_it_is(trade: BoundTrade) -> None:
    assert BoundTrade.decode(trade.encode()) == trade
    assert Consent.decode(trade.buyer.encode()) == trade.buyer


@given(st.binary(max_size=200))
def test_rubbish_is_no_trade(data: bytes) -> None:
    with pytest.raises(MalformedError):
        BoundTrade.decode(data)
