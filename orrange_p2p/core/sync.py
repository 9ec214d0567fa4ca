"""The messages of ``/orrange/sync/1``: pulling what gossip did not bring (protocol/05-gossip.md).

A request names what is wanted; the reply is one frame of records and says whether more is left.
Everything that arrives so is verified like everything else.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.frames import MAX_FRAME_BYTES, Frame, decode_frame
from orrange_p2p.core.ids import Address, Digest, Era, MarketId, Round, Seq

PROTOCOL: Final = "/orrange/sync/1"
MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_REPLY_BYTES: Final = MAX_FRAME_BYTES + 64
MAX_RANGES: Final = 256
MAX_DIGESTS: Final = 1024
MAX_ROUNDS: Final = 256


class LogRange(NamedTuple):
    """Entries ``first_seq`` .. ``last_seq`` of one log, both included."""

    author: Address
    first_seq: Seq
    last_seq: Seq


class EntriesWanted(NamedTuple):
    """Log ranges, served in order until a page is full."""

    market: MarketId
    ranges: tuple[LogRange, ...]


class RecordsWanted(NamedTuple):
    """Entries or ticks by digest; what the peer lacks is left out."""

    market: MarketId
    digests: tuple[Digest, ...]


class RoundsWanted(NamedTuple):
    """All ticks of rounds ``first_round`` .. ``last_round`` of an era."""

    market: MarketId
    era: Era
    first_round: Round
    last_round: Round


class StatusWanted(NamedTuple):
    """Where the peer is: its ticks of the latest rounds, and nothing else."""

    market: MarketId


Request = EntriesWanted | RecordsWanted | RoundsWanted | StatusWanted

_KINDS: Final[dict[type, int]] = {
    EntriesWanted: 0,
    RecordsWanted: 1,
    RoundsWanted: 2,
    StatusWanted: 3,
}


class Reply(NamedTuple):
    """One page."""

    frame: Frame
    more: bool
    """The peer has more of what was asked: ask again from where this page ends."""

    def encode(self) -> bytes:
        return codec.encode((self.frame.encode(), int(self.more)))


def encode_request(request: Request) -> bytes:
    return codec.encode((_KINDS[type(request)], *request))


def decode_request(data: bytes) -> Request:
    """Raises ``OversizedError`` or ``MalformedError``."""
    record = codec.decode_canonical(data, MAX_REQUEST_BYTES)
    if type(record) is not tuple or not 2 <= len(record) <= 5:
        raise MalformedError("sync request is not an array of 2 to 5 items")
    kind = codec.uint(record[0], "kind of sync request", 3)
    market = MarketId(codec.octets(record[1], 32, "market of sync request"))
    if kind == 0:
        ranges = codec.items(codec.array(record, 3, "request")[2], MAX_RANGES, "ranges")
        return EntriesWanted(market, tuple(_range(item) for item in ranges))
    if kind == 1:
        digests = codec.items(codec.array(record, 3, "request")[2], MAX_DIGESTS, "digests")
        return RecordsWanted(market, tuple(Digest(codec.octets(d, 32, "digest")) for d in digests))
    if kind == 2:
        codec.array(record, 5, "request")
        first = codec.uint(record[3], "first_round")
        last = codec.uint(record[4], "last_round")
        if not first <= last < first + MAX_ROUNDS:
            raise MalformedError(f"a request covers 1 .. {MAX_ROUNDS} rounds")
        return RoundsWanted(market, Era(codec.uint(record[2], "era")), Round(first), Round(last))
    codec.array(record, 2, "request")
    return StatusWanted(market)


def _range(value: codec.Value) -> LogRange:
    item = codec.array(value, 3, "range")
    first = codec.uint(item[1], "first_seq")
    last = codec.uint(item[2], "last_seq")
    if last < first:
        raise MalformedError("a range ends before it starts")
    return LogRange(Address(codec.octets(item[0], 20, "author")), Seq(first), Seq(last))


def decode_reply(data: bytes) -> Reply:
    """Raises ``OversizedError`` or ``MalformedError``."""
    record = codec.array(codec.decode_canonical(data, MAX_REPLY_BYTES), 2, "sync reply")
    page = codec.octets_upto(record[0], MAX_FRAME_BYTES, "page")
    return Reply(decode_frame(page), codec.uint(record[1], "more", 1) == 1)
