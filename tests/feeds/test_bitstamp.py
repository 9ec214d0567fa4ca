"""The reader of recorded feeds: exact integers, and no line that ends the run."""

import contextlib
import gzip
import json
import lzma
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orrange_p2p.core.errors import ConfigError, FeedError
from orrange_p2p.core.operations import Side
from orrange_p2p.feeds.bitstamp import (
    ALL_BROKEN_LINES,
    MAX_AMOUNT_SATOSHI,
    MAX_ERRORS_KEPT,
    MAX_LINE_BYTES,
    MAX_PRICE_CENTS,
    SAMPLE,
    BitstampLog,
    BookSnapshot,
    FeedTrade,
    OrderChanged,
    OrderCreated,
    OrderDeleted,
    parse_line,
)

on_a_busy_machine = settings(suppress_health_check=[HealthCheck.too_slow])

CREATED = (
    b'1430438404518 order_created {"price": "236.47", "amount": "2.00000000", '
    b'"datetime": "1430438404", "id": 65595247, "order_type": 0}'
)
CHANGED = CREATED.replace(b"created", b"changed")
DELETED = CREATED.replace(b"created", b"deleted").replace(b"2.00000000", b"0.00000000")
TRADE = b'1430438406348 trade {"price": 236.47, "amount": 1.7885566900000001, "id": 8111042}'
SNAPSHOT = b'1 order_book {"bids": [["236.47", "1.78855669"]], "asks": [["236.64", "3.0"]]}'


def write(tmp_path: Path, *lines: bytes) -> Path:
    path = tmp_path / "feed.log"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_an_order_of_the_feed() -> None:
    assert parse_line(7, CREATED) == OrderCreated(
        line=7,
        time_ms=1430438404518,
        id=65595247,
        side=Side.BUY,
        price_cents=23647,
        amount_satoshi=200_000_000,
    )


def test_each_kind_of_line() -> None:
    assert isinstance(parse_line(1, CHANGED), OrderChanged)
    assert isinstance(parse_line(1, DELETED), OrderDeleted)
    assert parse_line(2, TRADE) == FeedTrade(2, 1430438406348, 8111042, 23647, 178_855_669)
    assert parse_line(3, SNAPSHOT) == BookSnapshot(
        3, 1, ((23647, 178_855_669),), ((23664, 300_000_000),)
    )


@on_a_busy_machine
@given(cents=st.integers(1, MAX_PRICE_CENTS // 100), satoshi=st.integers(1, MAX_AMOUNT_SATOSHI))
def test_numbers_come_back_exactly_from_text_and_from_binary_fractions(
    cents: int, satoshi: int
) -> None:
    price = f"{cents // 100}.{cents % 100:02}"
    amount = f"{satoshi // 10**8}.{satoshi % 10**8:08}"
    order = parse_line(
        1, CREATED.replace(b"236.47", price.encode()).replace(b"2.00000000", amount.encode())
    )
    assert isinstance(order, OrderCreated)
    assert (order.price_cents, order.amount_satoshi) == (cents, satoshi)
    # What the exchange's program did: a binary fraction, printed with 17 significant digits.
    fields = f'{{"price": {float(price):.17g}, "amount": {float(amount):.17g}, "id": 1}}'
    trade = parse_line(1, f"1 trade {fields}".encode())
    assert isinstance(trade, FeedTrade)
    assert (trade.price_cents, trade.amount_satoshi) == (cents, satoshi)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (CREATED[:60], "broken JSON"),
        (b"order_created {}", "not '<ms> <event> <json>'"),
        (b"-1" + CREATED, "milliseconds"),
        (b"9" * 40 + b" trade {}", "milliseconds"),
        (b"1 order_eaten {}", "unknown event 'order_eaten'"),
        (b"1 trade []", "not a JSON object"),
        (b"1 trade {}", "'amount' is missing"),
        (b"1 trade " + b"[" * 60_000, "nested too deeply"),
        (CREATED.replace(b"236", b"\xff\xfe"), "not UTF-8"),
        (CREATED.replace(b"236.47", b"-236.47"), "price is not a number"),
        (CREATED.replace(b"236.47", b"236.471"), "at most 2 decimals"),
        (CREATED.replace(b"236.47", b"0.00"), "price is zero"),
        (CREATED.replace(b"236.47", b"9" * 14), "price is out of range"),
        (CREATED.replace(b"236.47", "٣".encode()), "price is not a number"),
        (CREATED.replace(b'"236.47"', b"null"), "price is neither a text nor a number"),
        (CREATED.replace(b'"236.47"', b"NaN"), "NaN is not a number"),
        (CREATED.replace(b'"236.47"', b"1e999999999999999999999"), "absurd exponent"),
        (CREATED.replace(b'"236.47"', b"1e999999999"), "price is out of range"),
        (CREATED.replace(b'"236.47"', b"2" * 41), "too many digits"),
        (CREATED.replace(b"2.00000000", b"0.00000000"), "a new order of nothing"),
        (CREATED.replace(b"2.00000000", b"21000000.00000001"), "amount is out of range"),
        (CREATED.replace(b": 0}", b": 2}"), "order_type is neither"),
        (CREATED.replace(b": 0}", b': "0"}'), "order_type is neither"),
        (CREATED.replace(b": 0}", b": true}"), "order_type is neither"),
        (CREATED.replace(b"65595247", b"-65595247"), "id is not an integer"),
        (CREATED.replace(b"65595247", b"6559.5247"), "id is not an integer"),
        (CREATED.replace(b"65595247", b"1e999999999"), "id is not an integer"),
        (TRADE.replace(b"236.47", b"-236.47"), "price is out of range"),
        (TRADE.replace(b"1.7885566900000001", b"0.000000001"), "a trade of nothing"),
        (SNAPSHOT.replace(b'["236.47", "1.78855669"]', b'["236.47"]'), "a side of the book"),
        (SNAPSHOT.replace(b'"bids"', b'"bits"'), "'bids' is missing"),
    ],
)
def test_a_broken_line_says_which_and_why(line: bytes, reason: str) -> None:
    with pytest.raises(FeedError, match=r"^line 12: ") as caught:
        parse_line(12, line)
    assert reason in caught.value.reason


@on_a_busy_machine
@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_break_their_line(line: bytes) -> None:
    with pytest.raises(FeedError):
        parse_line(1, line)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
plausible = st.sampled_from(["1.0", "0.00", 1, 0, 236.47])
json_values = scalars | plausible | st.lists(st.lists(scalars | plausible, max_size=2), max_size=2)
FIELDS = ("price", "amount", "id", "order_type", "bids", "asks")
EVENTS = ("order_created", "order_changed", "order_deleted", "trade", "order_book")


@on_a_busy_machine
@given(
    event=st.sampled_from(EVENTS),
    fields=st.dictionaries(st.sampled_from(FIELDS), json_values),
)
def test_no_json_does_more_than_break_its_line(event: str, fields: dict[str, object]) -> None:
    try:
        parsed = parse_line(1, f"1 {event} {json.dumps(fields)}".encode())
    except FeedError:
        return
    if isinstance(parsed, OrderCreated | OrderChanged | OrderDeleted | FeedTrade):
        assert 1 <= parsed.price_cents <= MAX_PRICE_CENTS
        assert 0 <= parsed.amount_satoshi <= MAX_AMOUNT_SATOSHI


@on_a_busy_machine
@given(
    place=st.integers(0, len(CREATED)), removed=st.integers(0, 20), inserted=st.binary(max_size=5)
)
def test_a_damaged_line_is_an_event_or_a_broken_line(
    place: int, removed: int, inserted: bytes
) -> None:
    line = CREATED[:place] + inserted + CREATED[place + removed :]
    with contextlib.suppress(FeedError):
        parse_line(1, line)


def test_the_rest_goes_on_after_broken_lines(tmp_path: Path) -> None:
    overlong = b"1 trade " + b"x" * (3 * MAX_LINE_BYTES)
    log = BitstampLog(write(tmp_path, CREATED, b"\xff", overlong, b"", TRADE[:30], TRADE))
    assert [type(event) for event in log] == [OrderCreated, FeedTrade]
    assert [error.line_number for error in log.errors] == [2, 3, 5]
    assert "longer than" in log.errors[1].reason
    assert (log.line_count, log.error_count, log.fraction_read) == (6, 3, 1.0)


def test_a_line_of_the_greatest_length_is_read(tmp_path: Path) -> None:
    longest = CREATED + b" " * (MAX_LINE_BYTES - len(CREATED))
    log = BitstampLog(write(tmp_path, longest, longest + b" ", CREATED))
    assert [event.line for event in log] == [1, 3]
    assert [error.line_number for error in log.errors] == [2]


def test_windows_line_ends_and_a_missing_last_one(tmp_path: Path) -> None:
    path = tmp_path / "feed.log"
    path.write_bytes(CREATED + b"\r\n" + TRADE)
    assert [event.line for event in BitstampLog(path)] == [1, 2]


def test_errors_are_counted_beyond_those_that_are_kept(tmp_path: Path) -> None:
    log = BitstampLog(write(tmp_path, CREATED, *[b"?"] * (MAX_ERRORS_KEPT + 50), TRADE))
    assert len(list(log)) == 2
    assert (log.error_count, len(log.errors)) == (MAX_ERRORS_KEPT + 50, MAX_ERRORS_KEPT)


@pytest.mark.parametrize("compress", [bytes, lzma.compress, gzip.compress])
def test_compression_is_told_by_content(tmp_path: Path, compress: type[bytes]) -> None:
    path = tmp_path / "feed.gz"  # a name that is right at most once
    path.write_bytes(compress(CREATED + b"\n" + TRADE + b"\n"))
    assert len(list(BitstampLog(path))) == 2


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress])
def test_a_compressed_file_that_breaks_off_keeps_its_beginning(
    tmp_path: Path, compress: type[bytes]
) -> None:
    lines = [CREATED.replace(b"65595247", b"%d" % number) for number in range(0, 10**9, 99_991)]
    packed = compress(b"\n".join(lines))
    path = tmp_path / "feed"
    path.write_bytes(packed[: len(packed) // 2])
    log = BitstampLog(path)
    read = len(list(log))
    assert 0 < read < len(lines)
    assert log.error_count == 1
    assert log.errors[0].line_number == read + 1
    assert "breaks off" in log.errors[0].reason


def test_a_file_that_is_not_there_or_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        BitstampLog(tmp_path / "absent.log")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        BitstampLog(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"time,price\n1,2\n",
        b"\x89PNG\r\n\x1a\n" * 50_000,
        b"\xfd7zXZ\0garbage",
        b"\x1f\x8bno",
    ],
)
def test_a_file_that_is_no_such_log(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "feed"
    path.write_bytes(content)
    log = BitstampLog(path)
    with pytest.raises(ConfigError, match="is not a Bitstamp log"):
        list(log)
    assert log.error_count <= ALL_BROKEN_LINES


def test_the_sample_that_ships() -> None:
    log = BitstampLog(SAMPLE)
    kinds = Counter(type(event) for event in log)
    assert kinds == {
        OrderCreated: 1208,
        OrderChanged: 89,
        OrderDeleted: 1204,
        FeedTrade: 82,
        BookSnapshot: 223,
    }
    assert (log.line_count, log.error_count) == (2806, 0)
