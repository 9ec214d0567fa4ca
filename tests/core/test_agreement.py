"""From a trade to two locks: both parties compute the same ones, or there is no swap."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core import codec
from orrange_p2p.core.errors import ConfigError, InvalidError, MalformedError, PeerError
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Address, Amount, Epoch, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.operations import Side
from orrange_p2p.core.swaps.agreement import (
    Deal,
    SwapTerms,
    agree,
    decode_swap,
    encode_swap,
    role_of,
)
from orrange_p2p.core.swaps.htlc import Role
from orrange_p2p.crypto.bip32 import derive

BITCOIN = "bip122:000000000019d6689c085ae165831e93"
COIN = f"{BITCOIN}/slip44:0"
TOKEN = "eip155:1/erc20:0x" + "11" * 20
MARKET = Market(COIN, TOKEN, 1, 1, "htlc", "btc-evm", 1, 1, 1)
ALICE, BOB = Address(b"a" * 20), Address(b"b" * 20)
BOUND_MS = TimeMs(1_700_000_000_500)
HASH = b"h" * 32


def key(number: int) -> bytes:
    from coincurve import PrivateKey

    return PrivateKey(derive(bytes([number]), ())).public_key.format()


SELLER = SwapTerms(key(1), ALICE, HASH)
BUYER = SwapTerms(BOB, key(2), b"")


def deal(side: Side, market: Market = MARKET) -> Deal:
    trade = Trade(
        market.id, bytes(32), BOB, ALICE, Amount(50_000), Amount(10**18), Epoch(3), TimeMs(9)
    )
    return Deal(trade, BOB, BOUND_MS, side)


def test_both_sides_of_a_trade_agree_on_the_same_two_locks() -> None:
    selling = agree(MARKET, deal(Side.SELL), SELLER, BUYER.encode())
    buying = agree(MARKET, deal(Side.BUY), BUYER, SELLER.encode())
    assert (selling.role, buying.role) == (Role.INITIATOR, Role.RESPONDER)
    assert (selling.own, selling.other) == (buying.other, buying.own)
    assert selling.schedule == buying.schedule
    coins, tokens = selling.own, selling.other
    assert (coins.chain, coins.asset, coins.amount) == (BITCOIN, COIN, 50_000)
    assert (coins.sender, coins.recipient) == (key(1), key(2))
    assert (tokens.chain, tokens.asset, tokens.amount) == ("eip155:1", TOKEN, 10**18)
    assert (tokens.sender, tokens.recipient) == (BOB, ALICE)
    assert coins.hashlock == tokens.hashlock == HASH
    assert coins.timelock_s == selling.schedule.long_timelock_s
    assert tokens.timelock_s == selling.schedule.short_timelock_s
    for swap in (selling, buying):
        assert decode_swap(encode_swap(swap)) == swap


@pytest.mark.parametrize(("timing", "seller"), [("btc-evm", 0), ("evm-btc", 1), ("evm-evm", 0)])
def test_whoever_gives_the_slow_chains_coins_has_the_secret(timing: str, seller: int) -> None:
    market = attrs.evolve(MARKET, timing=timing)
    assert role_of(market, Side.SELL) == Role(seller)
    assert role_of(market, Side.BUY) == Role(1 - seller)


def test_a_market_of_swaps_needs_known_chain_classes() -> None:
    with pytest.raises(ConfigError, match=r"timing 'btc': <base>-<quote> of btc, evm, dev"):
        attrs.evolve(MARKET, timing="btc")


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        (b"", "CBOR"),
        (b"\x84", "CBOR"),
        (codec.encode((2, BOB, key(2), b"")), "version 2"),
        (codec.encode((1, BOB, key(2))), "array of 4"),
        (BUYER._replace(hashlock=HASH).encode(), "from the initiator, and from nobody else"),
        (BUYER._replace(sender=bytes(20)).encode(), "nobody on eip155:1"),
        (BUYER._replace(sender=b"b" * 21).encode(), "nobody on eip155:1"),
        (BUYER._replace(recipient=b"\x02" + b"\xff" * 32).encode(), "nobody on bip122"),
        (BUYER._replace(recipient=ALICE).encode(), "nobody on bip122"),
    ],
)
def test_terms_that_make_no_swap_are_the_others_fault(theirs: bytes, reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        agree(MARKET, deal(Side.SELL), SELLER, theirs)


@pytest.mark.parametrize("hashlock", [b"", HASH[1:]])
def test_without_a_whole_hash_there_is_no_swap(hashlock: bytes) -> None:
    with pytest.raises(InvalidError, match="the hash comes from the initiator"):
        agree(MARKET, deal(Side.BUY), BUYER, SELLER._replace(hashlock=hashlock).encode())


@pytest.mark.parametrize(
    ("amounts", "told"),
    [
        ({"base_amount": Amount(21_000_000 * 10**8 + 1)}, "no lock on bip122"),
        ({"quote_amount": Amount(1 << 96)}, "no lock on eip155:1"),
        ({"quote_amount": Amount(0)}, "no lock on eip155:1"),
    ],
)
def test_amounts_that_no_lock_can_hold_make_no_swap(amounts: dict[str, Amount], told: str) -> None:
    bound = deal(Side.SELL)
    bound = bound._replace(trade=bound.trade._replace(**amounts))
    with pytest.raises(InvalidError, match=told):
        agree(MARKET, bound, SELLER, BUYER.encode())


@given(st.binary(max_size=200))
def test_whatever_the_other_says_it_is_terms_or_its_fault(theirs: bytes) -> None:
    with pytest.raises(PeerError):
        agree(MARKET, deal(Side.SELL), SELLER, theirs)


@given(st.binary(max_size=300))
def test_a_kept_swap_is_read_strictly(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_swap(data)


def test_a_deal_is_read_back() -> None:
    for side in Side:
        assert Deal.decode(deal(side).encode()) == deal(side)
    with pytest.raises(MalformedError):
        Deal.decode(deal(Side.BUY).encode() + b"\x00")
