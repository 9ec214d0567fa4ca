"""Recovery bundles: files that stand for coins are read strictly, and written whole."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core.errors import ConfigError, StoreError
from orrange_p2p.core.ids import Address, Amount, Epoch, MarketId, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.operations import Side
from orrange_p2p.core.swaps.agreement import Deal
from orrange_p2p.core.swaps.htlc import Role, Swap
from orrange_p2p.core.swaps.legs import Lock
from orrange_p2p.core.swaps.schedule import CHAIN_CLASSES, schedule
from orrange_p2p.daemon.bundles import Bundle, Bundles, read_bundle


def bundle() -> Bundle:
    trade = Trade(
        *(MarketId(b"m" * 32), bytes(32), Address(b"a" * 20), Address(b"b" * 20)),
        *(Amount(1), Amount(2), Epoch(3), TimeMs(4)),
    )
    evm = CHAIN_CLASSES["evm"]
    times = schedule(TimeMs(1_700_000_000_000), evm, evm)
    own = Lock(
        *("eip155:1", "eip155:1/slip44:60", Amount(1), b"h" * 32, trade.id, b"s" * 20, b"r" * 20),
        times.long_timelock_s,
    )
    swap = Swap(Role.INITIATOR, own, own._replace(chain="eip155:2"), evm, evm, times)
    deal = Deal(trade, Address(b"a" * 20), TimeMs(1_700_000_000_000), Side.SELL)
    return Bundle(deal, swap, b"own", b"other")


def test_a_bundle_is_read_back_and_says_in_words_what_it_is(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path / "swaps")
    assert bundles.all() == []
    bundles.write(bundle())
    path = bundles.path(bundle().name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_bundle(path) == bundle()
    assert bundles.all() == [bundle()]
    document = json.loads(path.read_text())
    assert document["role"] == "initiator"
    assert document["gives"]["amount"] == "1" and "T" in document["gives"]["locked_until"]
    bundles.remove(bundle().name)
    bundles.remove(bundle().name)
    assert bundles.all() == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "orrange swap 2"}, "of the format 'orrange swap 1'"),
        ({"swap": "zz"}, "'swap' is no text of hexadecimal digits"),
        ({"swap": None}, "'swap' is missing"),
        ({"deal": "00"}, "deal"),
        ({"own_rescue": "00" * 100_001}, "'own_rescue' is missing or no text"),
    ],
)
def test_what_is_no_bundle_is_told_by_file(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(json.loads(bundle().encode()) | changes))
    with pytest.raises(ConfigError, match=told) as caught:
        read_bundle(file)
    assert str(file) in str(caught.value)


def test_locks_of_another_trade_are_refused() -> None:
    other = bundle()
    swap = other.swap._replace(own=other.swap.own._replace(trade=b"x" * 32))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="locks are those of another trade"):
        Bundle.decode(other._replace(swap=swap).encode())


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    with pytest.raises(ConfigError):
        Bundle.decode(text)


def test_a_missing_file_and_a_damaged_one_in_the_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_bundle(tmp_path / "none.json")
    bundles = Bundles(tmp_path)
    (tmp_path / "half.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"half\.json: it is not UTF-8"):
        bundles.all()


def test_a_folder_that_cannot_be_made_is_the_stores_failure(tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text("a file")
    with pytest.raises(StoreError):
        Bundles(tmp_path / "swaps").write(bundle())
