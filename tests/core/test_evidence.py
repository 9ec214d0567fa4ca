"""Evidence: two signed headers convict, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network import WITNESS_KEYS, Key, make_genesis

from orrange_p2p.core import codec, entries, ticks
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.errors import InvalidError, MalformedError, PeerError
from orrange_p2p.core.evidence import culprit, of_equivocation, of_fork
from orrange_p2p.core.ids import (
    ZERO32,
    Digest,
    Epoch,
    Era,
    Lots,
    MarketId,
    Price,
    Round,
    Seq,
    TimeMs,
)
from orrange_p2p.core.operations import MAX_EVIDENCE_BYTES, Evidence, Place, parse, to_items
from orrange_p2p.core.ticks import Applied, Tick, TickBody

GENESIS = make_genesis(4)
SEPARATOR, MARKET = GENESIS.separator, GENESIS.markets[0].id
ANNA, BERT = Key(1), Key(2)
WITNESS = WITNESS_KEYS[0]


def entry(
    price: int, seq: int = 0, signer: Key = ANNA, market: MarketId = MARKET, author: Key = ANNA
) -> Entry:
    prev = Digest(bytes(31) + b"\1" if seq else ZERO32)
    place = Place(0, Price(price), Lots(1))
    draft = entries.draft(SEPARATOR, market, author.address, Seq(seq), prev, [place])
    return draft.signed(signer.sign(draft.digest))


def tick(time_ms: int, round: int = 3, era: int = 0, signer: Key = WITNESS) -> Tick:
    body = TickBody(
        (Digest(bytes(31) + b"\1"),), (), TimeMs(time_ms), Applied(Epoch(0), ZERO32), bytes(32)
    )
    draft = ticks.draft(SEPARATOR, MARKET, Era(era), Round(round), WITNESS.address, body)
    return draft.signed(signer.sign(draft.digest))


def convicted(evidence: Evidence) -> bytes:
    return culprit(evidence, SEPARATOR, MARKET)


def test_two_entries_of_one_number_convict_their_author() -> None:
    assert convicted(of_fork(entry(100), entry(101))) == ANNA.address


def test_two_ticks_of_one_round_convict_their_witness() -> None:
    assert convicted(of_equivocation(tick(1), tick(2))) == WITNESS.address


def test_evidence_survives_the_wire() -> None:
    for evidence in (of_fork(entry(100), entry(101)), of_equivocation(tick(1), tick(2))):
        again = parse(codec.decode(codec.encode(to_items(evidence)), 1 << 14))
        assert again == evidence
        assert convicted(again) in (ANNA.address, WITNESS.address)


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (of_fork(entry(100), entry(100)), "same record"),
        (of_fork(entry(100), entry(100, seq=1)), "different names"),
        (of_fork(entry(100), entry(100, author=BERT, signer=BERT)), "different names"),
        (of_fork(entry(1, market=MarketId(b"x" * 32)), entry(1)), "different names"),
        (
            of_fork(entry(1, market=MarketId(b"x" * 32)), entry(2, market=MarketId(b"x" * 32))),
            "another market",
        ),
        (of_fork(entry(100), entry(101, signer=BERT)), "not signed"),
        (of_fork(entry(100, signer=BERT), entry(101)), "not signed"),
        (of_equivocation(tick(1), tick(1)), "same record"),
        (of_equivocation(tick(1), tick(2, round=4)), "different names"),
        (of_equivocation(tick(1), tick(2, era=1)), "different names"),
        (of_equivocation(tick(1), tick(2, signer=ANNA)), "not signed"),
        # The bytes of one kind under the name of the other: their digests differ by type.
        (of_equivocation(tick(1), tick(2))._replace(kind=0), "not signed|octet|array|byte string"),
        (of_fork(entry(100), entry(101))._replace(kind=1), "not signed|byte string|integer"),
    ],
)
def test_what_convicts_nobody(evidence: Evidence, reason: str) -> None:
    with pytest.raises((InvalidError, MalformedError), match=reason):
        convicted(evidence)


def test_signing_the_same_record_again_is_no_fork() -> None:
    once = entry(100)
    again = bytearray(once.signature)
    again[64] ^= 7  # the other recovery id: another key or none, never another record
    forged = Entry(once.header, once.digest, once.operations, bytes(again), once.encoded)
    with pytest.raises(InvalidError):
        convicted(of_fork(once, forged))


def test_evidence_of_another_network_convicts_nobody() -> None:
    other = make_genesis(4, era_ms=1).separator
    with pytest.raises(InvalidError, match="not signed"):
        culprit(of_fork(entry(100), entry(101)), other, MARKET)


@pytest.mark.parametrize("first", [b"", b"\x80", b"\xff", b"\x86" + bytes(6), b"a" * 5000])
def test_bytes_that_are_no_header(first: bytes) -> None:
    good = of_fork(entry(100), entry(101))
    for kind in (0, 1):
        with pytest.raises(PeerError):
            convicted(Evidence(kind, first, good.second))
        with pytest.raises(PeerError):
            convicted(Evidence(kind, good.first, first))


GOOD = of_fork(entry(100), entry(101))


@settings(max_examples=200, derandomize=True)
@given(st.integers(0, len(GOOD.first) - 1), st.integers(1, 255), st.booleans())
def test_no_single_byte_can_be_changed(place: int, bits: int, is_second: bool) -> None:
    bent = bytearray(GOOD.second if is_second else GOOD.first)
    bent[place % len(bent)] ^= bits
    evidence = GOOD._replace(second=bytes(bent)) if is_second else GOOD._replace(first=bytes(bent))
    with pytest.raises(PeerError):
        convicted(evidence)


@settings(max_examples=200, derandomize=True)
@given(st.integers(0, 1), st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_the_peers_fault(kind: int, first: bytes, second: bytes) -> None:
    with pytest.raises(PeerError):
        convicted(Evidence(kind, first, second))


@pytest.mark.parametrize("r", [0, 1, (1 << 256) - 1])
@pytest.mark.parametrize("s", [0, 1, (1 << 256) - 1])
def test_signatures_outside_the_curve_are_the_peers_fault(r: int, s: int) -> None:
    for v in (0, 26, 27, 28, 29, 255):
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((v,))
        one = entry(100)
        forged = Entry(one.header, one.digest, one.operations, signature, one.encoded)
        with pytest.raises(PeerError):
            convicted(of_fork(forged, entry(101)))


def test_headers_are_small() -> None:
    for evidence in (of_fork(entry(100), entry(101)), of_equivocation(tick(1), tick(2))):
        assert max(len(evidence.first), len(evidence.second)) < MAX_EVIDENCE_BYTES // 10
