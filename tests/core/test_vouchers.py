"""Who stands for a root: vouchers of a quorum certify it, and nothing less does."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey

from orrange_p2p.core import codec, ticks, vouchers
from orrange_p2p.core.errors import InvalidError, SignatureError
from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, Round, TimeMs, Weight
from orrange_p2p.core.ticks import Applied, Tick, TickBody
from orrange_p2p.core.vouchers import Voucher, verify_vouchers, voucher_of
from orrange_p2p.core.witnesses import WitnessTable
from orrange_p2p.crypto import secp256k1

SEPARATOR = b"\x01" * 32
MARKET = MarketId(b"\x02" * 32)
KEYS = [PrivateKey(bytes([number + 1]) * 32) for number in range(5)]
ADDRESSES = [Address(secp256k1.address_of(key.public_key)) for key in KEYS]
TABLE = WitnessTable({address: Weight(1) for address in ADDRESSES[:4]})
ROOT = Applied(Epoch(8), b"\x03" * 32)


def tick_of(number: int, applied: Applied = ROOT, round: int = 5) -> Tick:
    parents = tuple(Digest(bytes([at]) * 32) for at in range(3)) if round else ()
    body = TickBody(parents, (), TimeMs(1), applied, bytes(32))
    draft = ticks.draft(SEPARATOR, MARKET, Era(0), Round(round), ADDRESSES[number], body)
    return draft.signed(secp256k1.sign(KEYS[number], draft.digest))


def certified(*shown: Voucher, applied: Applied = ROOT) -> None:
    verify_vouchers(shown, TABLE, SEPARATOR, MARKET, applied)


def test_a_voucher_leads_to_its_tick() -> None:
    tick = tick_of(0)
    assert voucher_of(tick).digest(SEPARATOR, MARKET) == tick.digest


def test_a_quorum_certifies_and_one_less_does_not() -> None:
    shown = [voucher_of(tick_of(number)) for number in range(3)]
    certified(*shown)
    with pytest.raises(InvalidError, match="less than a quorum"):
        certified(*shown[:2])


def test_rounds_need_not_agree() -> None:
    certified(*[voucher_of(tick_of(number, round=number)) for number in range(3)])


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (voucher_of(tick_of(1)), "two vouchers of one witness"),
        (voucher_of(tick_of(4)), "no witness"),
        (voucher_of(tick_of(2, Applied(Epoch(8), bytes(32)))), "another root"),
        (voucher_of(tick_of(2, Applied(Epoch(16), ROOT.root))), "another root"),
        (voucher_of(tick_of(2))._replace(path=(bytes(32),) * 2), "too short"),
        (voucher_of(tick_of(2))._replace(path=(bytes(32),) * 4), "too long"),
    ],
)
def test_one_bad_voucher_spoils_all(last: Voucher, reason: str) -> None:
    with pytest.raises(InvalidError, match=reason):
        certified(voucher_of(tick_of(0)), voucher_of(tick_of(1)), last)


def test_a_word_that_was_not_given_is_not_signed() -> None:
    forged = voucher_of(tick_of(2, Applied(Epoch(8), bytes(32))))._replace(applied=ROOT)
    with pytest.raises(SignatureError):
        certified(voucher_of(tick_of(0)), voucher_of(tick_of(1)), forged)
    with pytest.raises(SignatureError):
        verify_vouchers(
            [voucher_of(tick_of(number)) for number in range(3)],
            TABLE,
            SEPARATOR,
            MarketId(bytes(32)),
            ROOT,
        )


def test_encoded_in_one_order_only() -> None:
    def read(shown: tuple[Voucher, ...]) -> tuple[Voucher, ...]:
        return vouchers.from_items(codec.decode(codec.encode(shown), 1 << 16))

    given = [voucher_of(tick_of(number)) for number in range(4)]
    shown = tuple(sorted(given, key=lambda voucher: voucher.witness))
    assert read(shown) == shown
    for wrong in (shown[::-1], (shown[0], shown[0])):
        with pytest.raises(InvalidError, match="ascending"):
            read(wrong)
