"""Reveal chains: what a witness shows, and what everyone checks of it."""

import pytest

from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.reveals import RevealChain, RevealVerifier
from orrange_p2p.crypto.hashes import sha256

LENGTH = 2500
CHAIN = RevealChain(b"s" * 32, LENGTH)


def verifier() -> RevealVerifier:
    return RevealVerifier(CHAIN.anchor, LENGTH)


def test_each_reveal_is_the_hash_of_the_next_and_the_anchor_the_hash_of_the_first() -> None:
    assert sha256(CHAIN.reveal(0)) == CHAIN.anchor
    for position in (0, 1, 1022, 1023, 1024, 2047, 2048, LENGTH - 2):
        assert sha256(CHAIN.reveal(position + 1)) == CHAIN.reveal(position)


def test_reveals_are_checked_in_any_order_and_more_than_once() -> None:
    one = verifier()
    for position in (0, 7, 3, 7, 2000, 1999, 2000, LENGTH - 1, 0):
        one.check(position, CHAIN.reveal(position))


@pytest.mark.parametrize("known", [0, 5, 9])
def test_a_wrong_reveal_is_refused_and_changes_nothing(known: int) -> None:
    one = verifier()
    one.check(known, CHAIN.reveal(known))
    for position in (0, 4, 5, 6, 9):
        for wrong in (bytes(32), CHAIN.reveal(position + 1), CHAIN.anchor, b""):
            with pytest.raises(InvalidError):
                one.check(position, wrong)
    for position in (5, 0, 9):
        one.check(position, CHAIN.reveal(position))


@pytest.mark.parametrize("position", [-1, LENGTH, 1 << 62])
def test_positions_outside_the_chain_are_refused_at_once(position: int) -> None:
    with pytest.raises(InvalidError, match="position"):
        verifier().check(position, bytes(32))
    with pytest.raises(InvalidError, match="position"):
        CHAIN.reveal(position)


def test_another_secret_is_another_chain() -> None:
    other = RevealChain(b"t" * 32, LENGTH)
    with pytest.raises(InvalidError):
        verifier().check(3, other.reveal(3))


@pytest.mark.parametrize("length", [1, 2, 1023, 1024, 1025, 2048])
def test_chains_of_any_length(length: int) -> None:
    chain = RevealChain(b"u" * 32, length)
    one = RevealVerifier(chain.anchor, length)
    for position in (0, length // 2, length - 1):
        one.check(position, chain.reveal(position))


def test_the_secret_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32"):
        RevealChain(b"short")
