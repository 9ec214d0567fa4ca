"""Bitstamp's order feed of 2015 as the ob-analytics project recorded it, line by line.

    <ms> order_created|order_changed|order_deleted|trade|order_book <json>

Prices were published with 2 decimals and amounts with 8: here they are whole cents and satoshi.
Orders carry them as text; trades as the JSON numbers of a program that wrote binary fractions
(``1.7885566900000001``), so those are rounded to the published decimals, and only those.

A recording has scars: a line that cannot be read is counted, the first ones are kept with their
numbers, and the rest goes on. Only a file that is none of this at all is an error.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, cast

from orrange_p2p.core.errors import ConfigError, FeedError
from orrange_p2p.core.ids import MAX_UINT63, TimeMs
from orrange_p2p.core.nesting import is_deep
from orrange_p2p.core.operations import Side

PRICE_DECIMALS: Final = 2
AMOUNT_DECIMALS: Final = 8
MAX_PRICE_CENTS: Final = 10**12
"""Ten billion dollars."""
MAX_AMOUNT_SATOSHI: Final = 21 * 10**14
"""All the bitcoin there will be."""
MAX_LINE_BYTES: Final = 64 * 1024
"""Sixty times the longest line of the recording."""
MAX_ERRORS_KEPT: Final = 100
ALL_BROKEN_LINES: Final = 100
"""A file none of whose first lines can be read is not such a log."""

SAMPLE: Final = Path(__file__).parent / "data" / "bitstamp-sample.log.xz"
"""A stretch of the recording that ships with the package; ``data/README.md`` says which."""


class OrderCreated(NamedTuple):
    """A new order rests or is about to trade."""

    line: int
    time_ms: TimeMs
    """When the recorder heard of it."""
    id: int
    side: Side
    price_cents: int
    """Per bitcoin."""
    amount_satoshi: int


class OrderChanged(NamedTuple):
    """An order traded in part; the amount is what is left."""

    line: int
    time_ms: TimeMs
    id: int
    side: Side
    price_cents: int
    amount_satoshi: int


class OrderDeleted(NamedTuple):
    """An order traded in full (the amount is 0) or was cancelled (what was left)."""

    line: int
    time_ms: TimeMs
    id: int
    side: Side
    price_cents: int
    amount_satoshi: int


class FeedTrade(NamedTuple):
    """A trade. The feed does not say between which orders."""

    line: int
    time_ms: TimeMs
    id: int
    price_cents: int
    amount_satoshi: int


class BookSnapshot(NamedTuple):
    """The best twenty or so of each side, best first, as (cents, satoshi)."""

    line: int
    time_ms: TimeMs
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


Event = OrderCreated | OrderChanged | OrderDeleted | FeedTrade | BookSnapshot


class BitstampLog:
    """A recorded log, to be iterated once. While it is, the counters tell how far it came.

    ConfigError: the file is missing or unreadable (at once), or none of it is such a log (while
    iterating). Whatever else is wrong with it ends up in ``errors`` and ``error_count``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line_count = 0
        self.event_count = 0
        self.error_count = 0
        self.errors: list[FeedError] = []
        """The first ``MAX_ERRORS_KEPT`` of them."""
        try:
            self._file = path.open("rb")
            self._bytes = os.fstat(self._file.fileno()).st_size
            self._stream = _decompressed(self._file)
        except OSError as error:
            raise ConfigError(f"feed {path} cannot be read: {error.strerror or error}") from None

    @property
    def fraction_read(self) -> float:
        """How much of the file has been read, for a progress bar; 1.0 once it is over."""
        return 1.0 if self._file.closed or not self._bytes else self._file.tell() / self._bytes

    def __iter__(self) -> Iterator[Event]:
        with self._file:
            for line in self._lines():
                try:
                    if len(line) > MAX_LINE_BYTES:
                        raise FeedError(self.line_count, f"longer than {MAX_LINE_BYTES} bytes")
                    event = parse_line(self.line_count, line)
                except FeedError as error:
                    self._note(error)
                    if self.event_count == 0 and self.error_count >= ALL_BROKEN_LINES:
                        break
                else:
                    self.event_count += 1
                    yield event
        if self.event_count == 0:
            first = f"; {self.errors[0]}" if self.errors else ", it is empty"
            raise ConfigError(f"feed {self.path} is not a Bitstamp log{first}")

    def _lines(self) -> Iterator[bytes]:
        """Lines that are not blank; of an overlong one, no more than its beginning."""
        while True:
            self.line_count += 1
            try:
                line = self._stream.readline(MAX_LINE_BYTES + 2)
                end = line
                while end and not end.endswith(b"\n"):
                    end = self._stream.readline(MAX_LINE_BYTES)
            except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
                self._note(FeedError(self.line_count, f"the file breaks off: {error}"))
                return
            if not line:
                self.line_count -= 1
                return
            line = line.rstrip(b"\r\n")
            if line:
                yield line

    def _note(self, error: FeedError) -> None:
        self.error_count += 1
        if len(self.errors) < MAX_ERRORS_KEPT:
            self.errors.append(error)


def parse_line(number: int, line: bytes) -> Event:
    """One line, without its end, as an event. Raises ``FeedError`` with the line's number."""
    try:
        words = line.decode("utf-8").split(" ", 2)
        if len(words) != 3:
            raise ValueError("not '<ms> <event> <json>'")
        if not _MILLISECONDS.fullmatch(words[0]):
            raise ValueError("the time is not a number of milliseconds")
        parse = _EVENTS.get(words[1])
        if parse is None:
            raise ValueError(f"unknown event {words[1][:32]!r}")
        if is_deep(words[2], _MAX_DEPTH):
            raise ValueError("broken JSON: nested too deeply")
        fields = _JSON.decode(words[2])
        if type(fields) is not dict:
            raise ValueError("not a JSON object")
        return parse(number, TimeMs(int(words[0])), fields)
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except json.JSONDecodeError as error:
        reason = f"broken JSON: {error.msg}"
    except KeyError as error:
        reason = f"{error.args[0]!r} is missing"
    except ValueError as error:
        reason = str(error)
    raise FeedError(number, reason)


_MAX_DEPTH: Final = 8
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_DECIMAL: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]+))?", re.ASCII)
_MAX_NUMBER_LENGTH: Final = 40


def _number(text: str) -> Decimal:
    if len(text) > _MAX_NUMBER_LENGTH:
        raise ValueError("a number has too many digits")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("a number has an absurd exponent") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number")


_JSON: Final = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_no_number)


def _scaled(value: object, decimals: int, most: int, what: str) -> int:
    """``value`` in units of 10^-decimals, 0 .. ``most``."""
    if type(value) is str:
        digits = _DECIMAL.fullmatch(value)
        if digits is None or len(digits[2] or "") > decimals:
            raise ValueError(f"{what} is not a number with at most {decimals} decimals")
        scaled = int(digits[1] + (digits[2] or "").ljust(decimals, "0"))
    elif type(value) is Decimal:
        if not 0 <= value <= most:
            raise ValueError(f"{what} is out of range")
        scaled = int(value.scaleb(decimals).to_integral_value(ROUND_HALF_EVEN))
    else:
        raise ValueError(f"{what} is neither a text nor a number")
    if scaled > most:
        raise ValueError(f"{what} is out of range")
    return scaled


def _price(value: object) -> int:
    cents = _scaled(value, PRICE_DECIMALS, MAX_PRICE_CENTS, "price")
    if cents == 0:
        raise ValueError("price is zero")
    return cents


def _amount(value: object) -> int:
    return _scaled(value, AMOUNT_DECIMALS, MAX_AMOUNT_SATOSHI, "amount")


def _id(value: object) -> int:
    if type(value) is Decimal and 0 <= value <= MAX_UINT63 and value == value.to_integral_value():
        return int(value)
    raise ValueError("id is not an integer in 0 .. 2^63-1")


_Order = tuple[int, TimeMs, int, Side, int, int]


def _order(line: int, time_ms: TimeMs, fields: dict[str, Any]) -> _Order:
    kind = fields["order_type"]
    if type(kind) is not Decimal or kind not in (0, 1):
        raise ValueError("order_type is neither 0 (buy) nor 1 (sell)")
    side = Side.SELL if kind else Side.BUY
    return (
        line,
        time_ms,
        _id(fields["id"]),
        side,
        _price(fields["price"]),
        _amount(fields["amount"]),
    )


def _created(line: int, time_ms: TimeMs, fields: dict[str, Any]) -> OrderCreated:
    order = OrderCreated(*_order(line, time_ms, fields))
    if order.amount_satoshi == 0:
        raise ValueError("a new order of nothing")
    return order


def _changed(line: int, time_ms: TimeMs, fields: dict[str, Any]) -> OrderChanged:
    return OrderChanged(*_order(line, time_ms, fields))


def _deleted(line: int, time_ms: TimeMs, fields: dict[str, Any]) -> OrderDeleted:
    return OrderDeleted(*_order(line, time_ms, fields))


def _trade(line: int, time_ms: TimeMs, fields: dict[str, Any]) -> FeedTrade:
    amount = _amount(fields["amount"])
    if amount == 0:
        raise ValueError("a trade of nothing")
    return FeedTrade(line, time_ms, _id(fields["id"]), _price(fields["price"]), amount)


def _snapshot(line: int, time_ms: TimeMs, fields: dict[str, Any]) -> BookSnapshot:
    return BookSnapshot(line, time_ms, _levels(fields["bids"]), _levels(fields["asks"]))


def _levels(value: object) -> tuple[tuple[int, int], ...]:
    if type(value) is not list or any(type(row) is not list or len(row) != 2 for row in value):
        raise ValueError("a side of the book is not an array of [price, amount]")
    return tuple([(_price(row[0]), _amount(row[1])) for row in value])


_EVENTS: Final[dict[str, Callable[[int, TimeMs, dict[str, Any]], Event]]] = {
    "order_created": _created,
    "order_changed": _changed,
    "order_deleted": _deleted,
    "trade": _trade,
    "order_book": _snapshot,
}


def _decompressed(file: BinaryIO) -> BinaryIO:
    """Its content, whatever its name says: .xz and .gz are told by their first bytes."""
    magic = file.read(6)
    file.seek(0)
    if magic == b"\xfd7zXZ\0":
        return cast(BinaryIO, lzma.LZMAFile(file))
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    return file
