"""Amounts as people write them: exact both ways, or an error that says what would fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.operations import MAX_QUANTITY
from orrange_p2p.core.units import MAX_DECIMALS, Units, parse_amount, show_amount

BASE, QUOTE = "eip155:1/erc20:0x" + "b0" * 20, "eip155:1/erc20:0x" + "c0" * 20


def units(tick: int, lot: int, base_decimals: int, quote_decimals: int) -> Units:
    market = Market(BASE, QUOTE, tick, lot, "atomic", "evm", 1, 1, 1)
    return Units(market, base_decimals, quote_decimals)


CENTS = units(10_000, 10**16, 18, 6)
"""A coin of 18 decimals against dollars of 6: lots of 0.01, steps of one dollar a coin."""


def test_half_a_coin_at_236_dollars() -> None:
    assert (CENTS.lots("0.5"), CENTS.price("236")) == (50, 236)
    assert (CENTS.show_lots(50), CENTS.show_price(236)) == ("0.5", "236")
    assert CENTS.show_total(50, 236) == "118"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.125", "no multiple of this market's lot, 0.01: the nearest are 0.12 and 0.13"),
        ("0.001", "no multiple of this market's lot, 0.01: the nearest is 0.01"),
        ("0", "nothing: the least here is 0.01"),
        ("9" * 40, "too much"),
        ("1e3", "no amount"),
        ("-1", "no amount"),
        ("１", "no amount"),
        ("1,5", "no amount"),
        ("", "no amount"),
        (".", "no amount"),
    ],
)
def test_what_does_not_fit_says_what_would(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CENTS.lots(text)


def test_a_price_between_two_ticks() -> None:
    with pytest.raises(ConfigError, match=r"price tick, 1: the nearest are 236 and 237"):
        CENTS.price("236.47")


def test_a_price_that_no_decimal_says_is_a_fraction() -> None:
    assert units(1, 3, 0, 0).show_price(7) == "7/3"
    assert units(1, 3, 0, 0).show_price(6) == "2"
    assert units(1, 3, 0, 0).price("2") == 6


@given(st.integers(0, (1 << 256) - 1), st.integers(0, MAX_DECIMALS))
def test_amounts_come_back(amount: int, decimals: int) -> None:
    assert parse_amount(show_amount(amount, decimals), decimals) == amount


def test_an_amount_finer_than_its_coin() -> None:
    assert parse_amount(".5", 6) == 500_000
    assert parse_amount("1.5000000", 6) == 1_500_000
    with pytest.raises(ConfigError, match="6 decimals"):
        parse_amount("0.0000001", 6)
    with pytest.raises(ConfigError, match="more than any coin has"):
        parse_amount("1" + "0" * 77, 18)


@given(
    st.integers(1, 10**12),
    st.integers(1, 10**12),
    st.integers(0, 18),
    st.integers(0, 18),
    st.integers(1, MAX_QUANTITY),
)
def test_lots_and_prices_come_back(tick: int, lot: int, base: int, quote: int, count: int) -> None:
    market = units(tick, lot, base, quote)
    assert market.lots(market.show_lots(count)) == count
    shown = market.show_price(count)
    if "/" not in shown:
        assert market.price(shown) == count
