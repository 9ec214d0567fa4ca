"""What tokens answer, honest ones and others."""

from __future__ import annotations

import pytest

from orrange_p2p.chains.evm import erc20
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.ids import Address


def text(said: bytes) -> bytes:
    return encode(bytearray(said))


def test_symbols_of_today_and_of_old() -> None:
    assert erc20.read_symbol(text(b"USDC")) == "USDC"
    assert erc20.read_symbol(b"MKR".ljust(32, b"\0")) == "MKR"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"A/B", "AB"),  # a market is called BASE/QUOTE
        (b"EVIL\x1b[2J\n", "EVIL[2J"),
        ("\u202eCDSU".encode(), "CDSU"),
        (b"\xff\xfeX", "X"),
        (b"L" * 100, "L" * 16),
    ],
)
def test_a_symbol_is_fit_to_be_shown(said: bytes, shown: str) -> None:
    assert erc20.read_symbol(text(said)) == shown


@pytest.mark.parametrize("answer", [b"", bytes(32), text(b""), b"x" * 31, encode(1 << 200) * 2])
def test_what_has_no_symbol_is_no_token(answer: bytes) -> None:
    with pytest.raises(MalformedError):
        erc20.read_symbol(answer)


def test_decimals_beyond_reason() -> None:
    assert erc20.read_decimals(encode(18)) == 18
    for answer in (encode(78), encode((1 << 256) - 1), b"", b"\x12"):
        with pytest.raises(MalformedError):
            erc20.read_decimals(answer)


def test_assets_that_are_tokens() -> None:
    address = Address(b"\xab" * 20)
    assert erc20.token_of("eip155:1/erc20:0x" + "Ab" * 20) == ("eip155:1", address)
    for other in ("eip155:1/slip44:60", "bip122:00/slip44:0", "eip155:1/erc20:0x12"):
        assert erc20.token_of(other) is None
