"""A whole book verified against the witnesses alone, and every way to lie about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrange_p2p.bench.ingest import MARKET
from orrange_p2p.bench.light import answer_of
from orrange_p2p.core.certificates import decode_certificate
from orrange_p2p.core.errors import PeerError
from orrange_p2p.core.ids import MarketId
from orrange_p2p.core.light import verify_book
from orrange_p2p.core.operations import Side

GENESIS, ANSWER = answer_of(40)
SAID: dict[str, Any] = json.loads(ANSWER)
ENCODED = bytes.fromhex(SAID["certificate"][2:])
CERTIFICATE = decode_certificate(ENCODED)
LEAVES = [(bytes.fromhex(key), bytes.fromhex(leaf)) for key, leaf in SAID["orders"]]
Leaves = list[tuple[bytes, bytes]]


def test_the_book_is_that_of_the_state() -> None:
    book = verify_book(GENESIS, MARKET.id, CERTIFICATE, LEAVES)
    assert len(book.orders) == 40 and book.header.epoch == SAID["epoch"]
    asks, bids = book.depth(Side.SELL, 3), book.depth(Side.BUY, 3)
    assert [price for price, _, _ in asks] == sorted(price for price, _, _ in asks)
    assert [price for price, _, _ in bids] == sorted((p for p, _, _ in bids), reverse=True)
    assert bids[0][0] < asks[0][0] and asks[0][1:] == (2, 1)


@pytest.mark.parametrize(
    "lie",
    [
        lambda leaves: leaves[1:],
        lambda leaves: leaves[:-1],
        lambda leaves: [],
        lambda leaves: [*leaves, leaves[-1]],
        lambda leaves: leaves[::-1],
        lambda leaves: [(leaves[0][0], leaves[1][1]), *leaves[1:]],
        lambda leaves: [(leaves[0][0][:-1], leaves[0][1]), *leaves[1:]],
        lambda leaves: [(leaves[0][0], b""), *leaves[1:]],
    ],
)
def test_nothing_can_be_left_out_added_or_exchanged(lie: Callable[[Leaves], Leaves]) -> None:
    with pytest.raises((PeerError, ValueError)) as caught:
        verify_book(GENESIS, MARKET.id, CERTIFICATE, lie(LEAVES))
    assert isinstance(caught.value, PeerError)


@given(place=st.integers(0, len(ENCODED) - 1), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_no_bit_of_a_certificate_can_be_changed(place: int, bit: int) -> None:
    changed = bytearray(ENCODED)
    changed[place] ^= 1 << bit
    with pytest.raises(PeerError):
        verify_book(GENESIS, MARKET.id, decode_certificate(bytes(changed)), LEAVES)


@given(leaf=st.integers(0, len(LEAVES) - 1), place=st.integers(0, 100), bit=st.integers(0, 7))
@settings(max_examples=150)
def test_no_bit_of_a_leaf_can_be_changed(leaf: int, place: int, bit: int) -> None:
    leaves = list(LEAVES)
    key, value = leaves[leaf]
    changed = bytearray(value)
    changed[place % len(value)] ^= 1 << bit
    leaves[leaf] = (key, bytes(changed))
    with pytest.raises(PeerError):
        verify_book(GENESIS, MARKET.id, CERTIFICATE, leaves)


def test_another_market_or_network_is_refused() -> None:
    with pytest.raises(PeerError):
        verify_book(GENESIS, MarketId(bytes(32)), CERTIFICATE, LEAVES)
    with pytest.raises(PeerError):
        verify_book(GENESIS, MARKET.id, decode_certificate(b"\x80"), LEAVES)
