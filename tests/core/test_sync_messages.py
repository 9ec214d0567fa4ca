"""The messages of the sync protocol: round trips, and whatever bytes a peer may send."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrange_p2p.core.checkpoints import MAX_CHECKPOINT_BYTES
from orrange_p2p.core.errors import MalformedError, OversizedError, PeerError
from orrange_p2p.core.frames import MAX_FRAME_BYTES, Frame
from orrange_p2p.core.ids import MAX_UINT63, Address, Digest, Epoch, Era, MarketId, Round, Seq
from orrange_p2p.core.parts import MAX_PART_BYTES
from orrange_p2p.core.sync import (
    MAX_DIGESTS,
    MAX_NAMES,
    MAX_PAGE_BYTES,
    MAX_PARTS_BYTES,
    MAX_RANGES,
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    MAX_ROUNDS,
    CheckpointPage,
    CheckpointWanted,
    EntriesWanted,
    LogRange,
    Parts,
    PartsWanted,
    RecordsWanted,
    Reply,
    Request,
    RoundsWanted,
    StatusWanted,
    decode_checkpoint_page,
    decode_parts,
    decode_reply,
    decode_request,
    encode_request,
)

MARKET = MarketId(b"m" * 32)
ANNA = Address(b"a" * 20)

UINTS = st.integers(0, MAX_UINT63)
RANGES = st.builds(
    lambda author, first, more: LogRange(Address(author), Seq(first), Seq(first + more)),
    st.binary(min_size=20, max_size=20),
    st.integers(0, MAX_UINT63 // 2),
    st.integers(0, MAX_UINT63 // 2),
)
REQUESTS = st.one_of(
    st.builds(lambda ranges: EntriesWanted(MARKET, tuple(ranges)), st.lists(RANGES, max_size=4)),
    st.builds(
        lambda digests: RecordsWanted(MARKET, tuple(map(Digest, digests))),
        st.lists(st.binary(min_size=32, max_size=32), max_size=4),
    ),
    st.builds(
        lambda era, first, more: RoundsWanted(MARKET, Era(era), Round(first), Round(first + more)),
        UINTS,
        st.integers(0, MAX_UINT63 - MAX_ROUNDS),
        st.integers(0, MAX_ROUNDS - 1),
    ),
    st.just(StatusWanted(MARKET)),
    st.builds(
        lambda epoch, offset: CheckpointWanted(MARKET, Epoch(epoch), offset),
        UINTS,
        st.integers(0, MAX_CHECKPOINT_BYTES),
    ),
    st.builds(
        lambda names: PartsWanted(MARKET, tuple(names)),
        st.lists(st.binary(min_size=32, max_size=32), max_size=4),
    ),
)
FAST = settings(max_examples=100, derandomize=True)


@FAST
@given(REQUESTS)
def test_requests_come_back_as_they_were(request: Request) -> None:
    again = decode_request(encode_request(request))
    assert (type(again), again) == (type(request), request)


@FAST
@given(
    st.lists(st.binary(max_size=40), max_size=4), st.lists(st.binary(max_size=40)), st.booleans()
)
def test_replies_come_back_as_they_were(
    entries: list[bytes], ticks: list[bytes], more: bool
) -> None:
    reply = Reply(Frame(tuple(entries), tuple(ticks)), more)
    assert decode_reply(reply.encode()) == reply


@FAST
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_the_peers_fault(data: bytes) -> None:
    for decode in (decode_request, decode_reply, decode_checkpoint_page, decode_parts):
        try:
            decode(data)
        except PeerError:
            continue


@FAST
@given(REQUESTS, st.data())
def test_a_bent_request_is_refused_or_another_request(
    request: Request, data: st.DataObject
) -> None:
    encoded = bytearray(encode_request(request))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        bent = decode_request(bytes(encoded))
    except PeerError:
        return
    assert encode_request(bent) == bytes(encoded)


@FAST
@given(REQUESTS, st.data())
def test_a_request_cut_short_is_refused(request: Request, data: st.DataObject) -> None:
    encoded = encode_request(request)
    with pytest.raises(MalformedError):
        decode_request(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@pytest.mark.parametrize(
    "items",
    [
        (),
        (3,),
        (4, MARKET),
        (4, MARKET, 0, MAX_CHECKPOINT_BYTES + 1),
        (5, MARKET, (b"short",)),
        (5, MARKET, (bytes(32),) * (MAX_NAMES + 1)),
        (6, MARKET),
        (3, MARKET, 0),
        (3, b"short"),
        (True, MARKET, ()),
        (0, MARKET, 0),
        (0, MARKET, ((ANNA, 2, 1),)),
        (0, MARKET, ((ANNA, 1),)),
        (0, MARKET, ((ANNA[1:], 1, 2),)),
        (0, MARKET, ((ANNA, 0, 0),) * (MAX_RANGES + 1)),
        (1, MARKET, (b"short",)),
        (1, MARKET, (bytes(32),) * (MAX_DIGESTS + 1)),
        (2, MARKET, 0, 5, 4),
        (2, MARKET, 0, 0, MAX_ROUNDS),
        (2, MARKET, 0, 0),
        (2, MARKET, -1, 0, 0),
        (2, MARKET, 0, 0, 1 << 63),
        3,
        None,
    ],
    ids=str,
)
def test_what_is_no_request(items: object) -> None:
    with pytest.raises(MalformedError):
        decode_request(cbor2.dumps(items))


@pytest.mark.parametrize("items", [(b"", 0), (Frame((), ()).encode(), 2), (0, 0), (b"",)], ids=str)
def test_what_is_no_reply(items: object) -> None:
    with pytest.raises(MalformedError):
        decode_reply(cbor2.dumps(items))


def test_more_bytes_than_allowed_are_not_even_decoded() -> None:
    with pytest.raises(OversizedError):
        decode_request(b"\xff" * (MAX_REQUEST_BYTES + 1))
    with pytest.raises(OversizedError):
        decode_reply(b"\xff" * (MAX_REPLY_BYTES + 1))
    with pytest.raises(OversizedError):
        decode_checkpoint_page(b"\xff" * (MAX_REPLY_BYTES + 1))
    with pytest.raises(OversizedError):
        decode_parts(b"\xff" * (MAX_PARTS_BYTES + 1))


def test_the_largest_of_each_fits() -> None:
    ranges = (LogRange(ANNA, Seq(MAX_UINT63), Seq(MAX_UINT63)),) * MAX_RANGES
    digests = (Digest(b"d" * 32),) * MAX_DIGESTS
    for request in (
        EntriesWanted(MARKET, ranges),
        RecordsWanted(MARKET, digests),
        CheckpointWanted(MARKET, Epoch(MAX_UINT63), MAX_CHECKPOINT_BYTES),
        PartsWanted(MARKET, digests[:MAX_NAMES]),
    ):
        assert decode_request(encode_request(request)) == request
    record = b"e" * 64_000
    page = Frame((record,) * ((MAX_FRAME_BYTES - 100) // (len(record) + 4)), ())
    assert decode_reply(Reply(page, True).encode()).frame == page
    last = CheckpointPage(Epoch(MAX_UINT63), MAX_CHECKPOINT_BYTES, bytes(MAX_PAGE_BYTES))
    assert decode_checkpoint_page(last.encode()) == last
    parts = Parts(((bytes(32), bytes(MAX_PART_BYTES)),) * 3)
    assert decode_parts(parts.encode()) == parts
