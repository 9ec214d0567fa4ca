"""The messages of ``/orrange/sync/1``: pulling what gossip did not bring (protocol/05-gossip.md).

A request names what is wanted; the reply is one frame of records and says whether more is left.
Everything that arrives so is verified like everything else. Whoever joins late asks for a
checkpoint and its parts instead: those are replies of their own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.checkpoints import MAX_CHECKPOINT_BYTES
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.frames import MAX_FRAME_BYTES, Frame, decode_frame
from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, Round, Seq
from orrange_p2p.core.parts import MAX_PART_BYTES

PROTOCOL: Final = "/orrange/sync/1"
MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_REPLY_BYTES: Final = MAX_FRAME_BYTES + 64
MAX_RANGES: Final = 256
MAX_DIGESTS: Final = 1024
MAX_ROUNDS: Final = 256
MAX_NAMES: Final = 256
MAX_PAGE_BYTES: Final = 512 * 1024
"""Of a checkpoint in one reply."""
MAX_PARTS_BYTES: Final = 1024 * 1024
"""Of a reply with parts."""


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


class CheckpointWanted(NamedTuple):
    """The checkpoint of ``epoch``, from byte ``offset`` on; epoch 0: which one is the newest?"""

    market: MarketId
    epoch: Epoch
    offset: int


class PartsWanted(NamedTuple):
    """Parts of a checkpoint, or terms of its matches, by name; what the peer lacks is left out."""

    market: MarketId
    names: tuple[bytes, ...]


RecordsRequest = EntriesWanted | RecordsWanted | RoundsWanted | StatusWanted
Request = RecordsRequest | CheckpointWanted | PartsWanted

_KINDS: Final[dict[type, int]] = {
    EntriesWanted: 0,
    RecordsWanted: 1,
    RoundsWanted: 2,
    StatusWanted: 3,
    CheckpointWanted: 4,
    PartsWanted: 5,
}


class Reply(NamedTuple):
    """One page."""

    frame: Frame
    more: bool
    """The peer has more of what was asked: ask again from where this page ends."""

    def encode(self) -> bytes:
        return codec.encode((self.frame.encode(), int(self.more)))


class CheckpointPage(NamedTuple):
    """Some bytes of a checkpoint: none if which one was the question, or the peer lacks it."""

    epoch: Epoch
    """0: the peer has none."""
    size: int
    """Of the whole."""
    page: bytes

    def encode(self) -> bytes:
        return codec.encode(self)


class Parts(NamedTuple):
    """Parts by name, in the order asked for; as many as fit."""

    parts: tuple[tuple[bytes, bytes], ...]

    def encode(self) -> bytes:
        return codec.encode(self)


def encode_request(request: Request) -> bytes:
    return codec.encode((_KINDS[type(request)], *request))


def decode_request(data: bytes) -> Request:
    """Raises ``OversizedError`` or ``MalformedError``."""
    record = codec.decode_canonical(data, MAX_REQUEST_BYTES)
    if type(record) is not tuple or not 2 <= len(record) <= 5:
        raise MalformedError("sync request is not an array of 2 to 5 items")
    kind = codec.uint(record[0], "kind of sync request", 5)
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
    if kind == 4:
        codec.array(record, 4, "request")
        epoch = codec.uint(record[2], "epoch")
        offset = codec.uint(record[3], "offset", MAX_CHECKPOINT_BYTES)
        return CheckpointWanted(market, Epoch(epoch), offset)
    if kind == 5:
        names = codec.items(codec.array(record, 3, "request")[2], MAX_NAMES, "names")
        return PartsWanted(market, tuple(codec.octets(name, 32, "name of part") for name in names))
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


def decode_checkpoint_page(data: bytes) -> CheckpointPage:
    """Raises ``OversizedError`` or ``MalformedError``."""
    record = codec.array(codec.decode_canonical(data, MAX_REPLY_BYTES), 3, "checkpoint page")
    size = codec.uint(record[1], "size of checkpoint", MAX_CHECKPOINT_BYTES)
    page = codec.octets_upto(record[2], MAX_PAGE_BYTES, "page")
    return CheckpointPage(Epoch(codec.uint(record[0], "epoch")), size, page)


def decode_parts(data: bytes) -> Parts:
    """Whether they are what their names say is not checked. Raises ``OversizedError`` or
    ``MalformedError``."""
    record = codec.array(codec.decode_canonical(data, MAX_PARTS_BYTES), 1, "parts reply")
    return Parts(tuple([_part(item) for item in codec.items(record[0], MAX_NAMES, "parts")]))


def _part(value: codec.Value) -> tuple[bytes, bytes]:
    item = codec.array(value, 2, "named part")
    name = codec.octets(item[0], 32, "name of part")
    return name, codec.octets_upto(item[1], MAX_PART_BYTES, "part")
