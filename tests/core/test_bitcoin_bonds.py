"""Bonds on Bitcoin: their lock times and scripts, finding them in blocks, and proofs of them."""

from __future__ import annotations

import datetime as dt
import random

import attrs
import pytest
from embit.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st
from network import Key, make_genesis

from orrange_p2p.core import bitcoin_bonds
from orrange_p2p.core.bitcoin_bonds import (
    BIND_WITHIN_S,
    MARGIN_S,
    MIN_BOND_SATS,
    MONTHS_AHEAD,
    BitcoinBond,
    Watch,
    bond_descriptor,
    bond_output,
    bond_script,
    known_at,
    lock_times,
    month_of,
    month_start_s,
    parse_month,
    show_month,
)
from orrange_p2p.core.bond_proofs import BondProof, decode_bond_proof, proof_digest
from orrange_p2p.core.errors import (
    CallerError,
    ConfigError,
    ForeignError,
    InvalidError,
    MalformedError,
    PeerError,
    SignatureError,
)
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Place
from orrange_p2p.crypto.bitcoin import Block, OutPoint, Tx, TxIn, TxOut, merkle_root, var_int

CHAIN = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"
ALICE, BOB = Key(1), Key(2)
KEY, OTHER = (one.secret.public_key.format(compressed=True) for one in (ALICE, BOB))
UNTIL_S = parse_month("2027-03")
NOW_S = UNTIL_S - 100 * 86_400
GENESIS = make_genesis(4)


def utc_s(year: int, month: int) -> int:
    return int(dt.datetime(year, month, 1, tzinfo=dt.UTC).timestamp())


def block(*outputs: tuple[TxOut, ...]) -> Block:
    """Of a transaction for each."""
    nothing = TxIn(OutPoint(bytes(32), 0), b"", 0)
    txs = [Tx(2, (nothing._replace(sequence=n),), made, 0) for n, made in enumerate(outputs)]
    root = merkle_root([tx.txid for tx in txs])
    return Block(bytes(36) + root + bytes(12), tuple(txs))


def encoded(made: Block) -> bytes:
    txs = [tx.encoded() for tx in made.transactions]
    return made.header + var_int(len(txs)) + b"".join(txs)


# --- lock times ---


def test_months_as_people_write_them() -> None:
    assert parse_month("1970-01") == 0
    assert utc_s(2027, 3) == UNTIL_S and show_month(UNTIL_S) == "2027-03"
    assert show_month(UNTIL_S - 1) == "2027-02"
    for bad in ("2027-3", "2027-13", "2027-00", "27-03", "2027-03-01", "", "march"):
        with pytest.raises(ConfigError, match="2027-03"):
            parse_month(bad)


def test_lock_times_are_the_begins_of_the_next_months() -> None:
    found = lock_times(NOW_S)
    assert len(found) == MONTHS_AHEAD
    assert [show_month(one) for one in found[:3]] == ["2026-12", "2027-01", "2027-02"]
    assert lock_times(UNTIL_S)[0] == utc_s(2027, 4), "a lock that ends now is none"
    assert lock_times(UNTIL_S - 1)[0] == UNTIL_S


@given(st.integers(0, 12 * 600))
def test_months_are_those_of_the_calendar(month: int) -> None:
    start_s = month_start_s(month)
    assert start_s == utc_s(1970 + month // 12, month % 12 + 1)
    assert month_of(start_s) == month and month_of(start_s - 1) == month - 1


# --- scripts ---


@pytest.mark.parametrize("month", ["1985-12", "2026-12", "2038-01"])
def test_a_script_is_what_wallets_make_of_its_descriptor(month: str) -> None:
    time_s = parse_month(month)
    wallet = Descriptor.from_string(bond_descriptor(KEY, time_s))
    assert bond_script(KEY, time_s) == wallet.witness_script().data
    assert bond_output(KEY, time_s) == wallet.script_pubkey().data


def test_from_2038_on_a_time_takes_five_bytes() -> None:
    assert bond_script(KEY, parse_month("2038-02"))[35:].hex() == "0500f6108000b1"
    assert bond_script(KEY, (1 << 32) - 1)[35:].hex() == "05ffffffff00b1"


def test_what_no_script_can_be_made_of() -> None:
    for key, time_s in (
        (KEY[1:], UNTIL_S),
        (b"\4" + KEY[1:], UNTIL_S),
        (KEY, 499_999_999),
        (KEY, 1 << 32),
    ):
        with pytest.raises(CallerError, match="a bond"):
            bond_script(key, time_s)


def test_the_registrys_64_bytes_are_a_key() -> None:
    for one in (ALICE, BOB, Key(3), Key(5)):
        point = one.secret.public_key.format(compressed=False)[1:]
        key = one.secret.public_key.format(compressed=True)
        assert bitcoin_bonds.compressed(point) == key
    with pytest.raises(CallerError, match="64 bytes"):
        bitcoin_bonds.compressed(KEY)


# --- finding them ---


def test_a_bond_is_found_in_a_block() -> None:
    watch = Watch()
    watch.add(KEY, NOW_S - 1)
    mine = TxOut(MIN_BOND_SATS, bond_output(KEY, UNTIL_S))
    late = TxOut(7 * MIN_BOND_SATS, bond_output(KEY, lock_times(NOW_S)[-1]))
    passed_over = (
        mine._replace(value=MIN_BOND_SATS - 1),
        mine._replace(script=bond_output(OTHER, UNTIL_S)),
        mine._replace(script=bond_output(KEY, UNTIL_S + 1)),
        mine._replace(script=bond_output(KEY, month_start_s(month_of(NOW_S)))),
        mine._replace(script=bond_output(KEY, month_start_s(month_of(NOW_S) + MONTHS_AHEAD + 1))),
    )
    made = block(passed_over, (mine, late))
    txid = made.transactions[1].txid
    assert watch.find(CHAIN, 9, NOW_S, encoded(made)) == [
        BitcoinBond(Place(CHAIN, 9, 5), NOW_S, KEY, OutPoint(txid, 0), MIN_BOND_SATS, UNTIL_S),
        BitcoinBond(
            Place(CHAIN, 9, 6), NOW_S, KEY, OutPoint(txid, 1), late.value, lock_times(NOW_S)[-1]
        ),
    ]
    assert watch.find(CHAIN, 10, UNTIL_S, encoded(block((mine,)))) == [], "its lock is over"


def test_what_was_paid_long_before_the_key_was_bound_is_no_bond() -> None:
    made = encoded(block((TxOut(MIN_BOND_SATS, bond_output(KEY, UNTIL_S)),)))
    watch = Watch()
    watch.add(KEY, NOW_S + BIND_WITHIN_S)
    watch.add(KEY, NOW_S - 100)  # by another owner, later on the home chain
    assert not watch.find(CHAIN, 1, NOW_S, made)
    assert watch.find(CHAIN, 2, NOW_S + 1, made)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=8), st.data())
def test_a_watch_that_goes_on_finds_what_a_new_one_finds(
    days: list[int], data: st.DataObject
) -> None:
    going_on = Watch()
    bound: list[tuple[bytes, int]] = []
    for day in sorted(days):
        time_s = NOW_S + day * 86_400
        new = data.draw(st.sampled_from([None, KEY, OTHER]))
        if new is not None:
            bound.append((new, time_s - 1))
            going_on.add(*bound[-1])
        fresh = Watch()
        for one in bound:
            fresh.add(*one)
        outputs = tuple(
            TxOut(MIN_BOND_SATS, bond_output(key, month_start_s(month_of(time_s) + ahead)))
            for key in (KEY, OTHER)
            for ahead in (0, 1, 2, MONTHS_AHEAD, MONTHS_AHEAD + 1)
        )
        made = encoded(block(outputs))
        found = going_on.find(CHAIN, day, time_s, made)
        assert found == fresh.find(CHAIN, day, time_s, made)
        assert len(found) == 3 * len({key for key, _ in bound})


def test_a_block_that_may_have_a_bond_has_to_be_one() -> None:
    watch = Watch()
    watch.add(KEY, 0)
    made = encoded(block((TxOut(MIN_BOND_SATS, bond_output(KEY, UNTIL_S)),)))
    assert len(watch.find(CHAIN, 1, NOW_S, made)) == 1
    for broken in (made[:-1], made + b"\0", made[:40] + b"\1" + made[41:]):
        with pytest.raises(MalformedError):
            watch.find(CHAIN, 1, NOW_S, broken)
    # The script in a place where it pays nobody: in a witness, or its length another one.
    script = bond_output(KEY, UNTIL_S)
    shown = block((TxOut(MIN_BOND_SATS, b"\x51" + script), TxOut(MIN_BOND_SATS, script[:-1])))
    assert watch.find(CHAIN, 1, NOW_S, encoded(shown)) == []
    (tx,) = shown.transactions
    witness = tx._replace(inputs=(tx.inputs[0]._replace(witness=(script,)),))
    assert watch.find(CHAIN, 1, NOW_S, encoded(shown._replace(transactions=(witness,)))) == []


def found_bond(time_s: int, height: int = 1, log: int = 0) -> BitcoinBond:
    place = Place(CHAIN, height, log)
    return BitcoinBond(place, time_s, KEY, OutPoint(b"\7" * 32, log), 10**6, UNTIL_S)


def test_what_is_younger_than_a_day_does_not_count_yet() -> None:
    old, new = found_bond(NOW_S, 1), found_bond(NOW_S + 1, 2)
    assert known_at([new, old], NOW_S + MARGIN_S - 1) == []
    assert known_at([new, old], NOW_S + MARGIN_S) == [old]
    assert known_at([new, old], NOW_S + MARGIN_S + 1) == [old, new]


def test_another_bond_is_another_digest() -> None:
    bond = found_bond(NOW_S)
    changed = [
        bond._replace(place=Place(CHAIN, 2, 0)),
        bond._replace(place=Place(CHAIN, 1, 1)),
        bond._replace(place=Place("bip122:x", 1, 0)),
        bond._replace(time_s=NOW_S + 1),
        bond._replace(key=OTHER),
        bond._replace(outpoint=OutPoint(b"\7" * 32, 1)),
        bond._replace(outpoint=OutPoint(b"\6" * 32, 0)),
        bond._replace(sats=10**6 + 1),
        bond._replace(locked_until_s=UNTIL_S + 1),
    ]
    digests = {bitcoin_bonds.bonds_digest([one]) for one in (bond, *changed)}
    assert len(digests | {bitcoin_bonds.bonds_digest([])}) == len(changed) + 2


# --- proofs ---


def proof(signer: Key = ALICE, key: bytes = KEY, sats: int = 10**6) -> BondProof:
    outpoint = OutPoint(b"\7" * 32, 3)
    account = Address(b"\x11" * 20)
    digest = proof_digest(GENESIS, account, outpoint, sats, UNTIL_S)
    signature = signer.sign(digest)
    return BondProof(GENESIS.network_id, account, key, *outpoint, sats, UNTIL_S, signature)


def test_a_proof_is_for_one_network_account_and_output() -> None:
    good = proof()
    good.verify(GENESIS)
    assert decode_bond_proof(good.encode()) == good
    with pytest.raises(ForeignError, match="another network"):
        good.verify(attrs.evolve(GENESIS, name="another"))
    with pytest.raises(SignatureError):
        proof(signer=BOB).verify(GENESIS)
    with pytest.raises(SignatureError):
        good._replace(account=Address(b"\x12" * 20)).verify(GENESIS)
    with pytest.raises(InvalidError, match="at least 100000 sat"):
        proof(sats=MIN_BOND_SATS - 1).verify(GENESIS)
    with pytest.raises(InvalidError, match="begin of a month"):
        good._replace(locked_until_s=UNTIL_S + 1).verify(GENESIS)


def test_a_proof_is_held_against_the_output() -> None:
    output, good = TxOut(10**6, bond_output(KEY, UNTIL_S)), proof()
    good.verify_output(output, NOW_S)
    for wrong, shown, time_s, why in (
        (good, TxOut(5, b"x"), NOW_S, "not locked by this key"),
        (good._replace(sats=10**6 + 1), output, NOW_S, "has 1000000 sat"),
        (good._replace(key=OTHER), output, NOW_S, "not locked by this key"),
        (good, output, UNTIL_S, "lock was over"),
        (good, output, UNTIL_S - 4 * 365 * 86_400, "more than 36 months"),
    ):
        with pytest.raises(InvalidError, match=why):
            wrong.verify_output(shown, time_s)


def test_a_proof_with_any_bit_changed_is_refused() -> None:
    octets = proof().encode()
    for place in range(len(octets)):
        for bit in range(8):
            changed = bytearray(octets)
            changed[place] ^= 1 << bit
            with pytest.raises(PeerError):
                decode_bond_proof(bytes(changed)).verify(GENESIS)


@given(st.binary(max_size=200), st.randoms(use_true_random=False))
def test_no_bytes_but_a_proofs_are_one(noise: bytes, dice: random.Random) -> None:
    octets = proof().encode()
    cut = dice.randrange(len(octets))
    for made in (noise, octets[:cut] + noise, octets + noise[:1] + b"\0"):
        with pytest.raises(PeerError):
            decode_bond_proof(made).verify(GENESIS)
