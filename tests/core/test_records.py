"""Records: the shortest example of each, then what holds of all of them, then hostile bytes.

Case by case, field by field, is in protocol/vectors; here is what no list of cases can show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network import Key, make_genesis

from orrange_p2p.core import codec, entries, evidence, frames, merkle, operations, sync, ticks
from orrange_p2p.core.entries import GROUP, MAX_ENTRY_BYTES, Entry
from orrange_p2p.core.errors import (
    ForeignError,
    InvalidError,
    MalformedError,
    OversizedError,
    PeerError,
    SignatureError,
)
from orrange_p2p.core.ids import MAX_UINT63, ZERO32
from orrange_p2p.core.operations import (
    MAX_QUANTITY,
    Accept,
    Accepted,
    Amend,
    Announce,
    Cancel,
    CancelAll,
    Delegate,
    Evidence,
    Operation,
    Place,
)
from orrange_p2p.core.ticks import Applied, HeadItem, Tick, TickBody

GENESIS = make_genesis(4)
SEPARATOR = GENESIS.separator
MARKET = GENESIS.markets[0].id
ALICE, BOB = Key(1), Key(2)


def entry_of(ops: list[Operation], key: Key = ALICE, seq: int = 0, prev: bytes = ZERO32) -> Entry:
    draft = entries.draft(SEPARATOR, MARKET, key.address, seq, prev, ops)  # type: ignore[arg-type]
    return draft.signed(key.sign(draft.digest))


def tick_of(body: TickBody, key: Key = ALICE, era: int = 0, round: int = 0) -> Tick:
    draft = ticks.draft(SEPARATOR, MARKET, era, round, key.address, body)  # type: ignore[arg-type]
    return draft.signed(key.sign(draft.digest))


def decoded_entry(data: bytes) -> Entry:
    return entries.decode_entry(data, SEPARATOR, MARKET)


def decoded_tick(data: bytes) -> Tick:
    return ticks.decode_tick(data, SEPARATOR, MARKET)


def test_an_entry_travels() -> None:
    entry = entry_of([Place(side=0, price=100, quantity=5), Cancel(0, 0)])
    received = decoded_entry(entry.encoded)
    assert received == entry
    received.verify()


def test_a_tick_travels() -> None:
    body = TickBody((), (HeadItem(BOB.address, 3, (ZERO32,)),), 17, Applied(0, ZERO32), ZERO32)
    tick = tick_of(body)
    received = decoded_tick(tick.encoded)
    assert received == tick
    received.verify()


def test_a_frame_carries_both() -> None:
    frame = frames.Frame((b"an entry", b"another"), (b"a tick",))
    assert frames.decode_frame(frame.encode()) == frame


# --- any valid record is what it decodes to ---------------------------------------------------

uints = st.one_of(st.integers(0, 30), st.integers(0, MAX_UINT63), st.just(MAX_UINT63))
quantities = st.one_of(st.integers(1, 30), st.integers(1, MAX_QUANTITY), st.just(MAX_QUANTITY))
digests = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20)
signatures = st.binary(min_size=65, max_size=65)


@st.composite
def places(draw: st.DrawFn) -> Place:
    tif = draw(st.integers(0, 4))
    quantity = draw(quantities)
    post_only = draw(st.booleans()) and tif <= 2
    return Place(
        side=draw(st.integers(0, 1)),
        price=draw(quantities),  # type: ignore[arg-type]
        quantity=quantity,  # type: ignore[arg-type]
        time_in_force=tif,
        expiry=draw(st.integers(1, MAX_UINT63)) if tif in (1, 2) else 0,
        post_only=int(post_only),
        self_trade=draw(st.integers(0, 2)),
        min_quantity=0 if post_only else draw(st.integers(0, quantity)),  # type: ignore[arg-type]
        max_slippage=None if post_only else draw(st.none() | st.integers(0, MAX_QUANTITY)),
        min_reputation=draw(uints),
    )


@st.composite
def delegations(draw: st.DrawFn) -> Delegate:
    expiry_ms = draw(uints)
    consent = draw(signatures) if expiry_ms else b""
    return Delegate(draw(addresses), draw(st.integers(0, MAX_QUANTITY)), expiry_ms, consent)  # type: ignore[arg-type]


positions = st.integers(0, 1023)
accepted = st.dictionaries(digests, st.binary(max_size=40), min_size=1, max_size=5).map(
    lambda terms: tuple(Accepted(*item) for item in sorted(terms.items()))
)
any_operation: st.SearchStrategy[Any] = st.one_of(
    places(),
    st.builds(Cancel, uints, positions),
    st.just(CancelAll()),
    st.builds(Amend, uints, positions, places()),
    st.builds(Accept, accepted, signatures),
    st.builds(Announce, st.lists(st.text(max_size=48), max_size=16).map(tuple)),
    delegations(),
    st.builds(Evidence, st.integers(0, 1), st.binary(max_size=40), st.binary(max_size=40)),
)


def signed(accept: Accept) -> Accept:
    return accept._replace(signature=ALICE.sign(accept.digest(GENESIS.separator)))


def is_cheap(ops: list[Operation]) -> bool:
    proofs = sum(isinstance(op, Evidence | Delegate) for op in ops)
    return proofs <= entries.MAX_PROOFS and sum(isinstance(op, Accept) for op in ops) <= 1


any_operations = st.lists(any_operation, min_size=1, max_size=40).filter(is_cheap)


@st.composite
def any_body(draw: st.DrawFn, round: int) -> TickBody:
    parents = draw(st.sets(digests, min_size=1, max_size=32)) if round else set()
    runs = draw(st.dictionaries(addresses, st.lists(digests, min_size=1, max_size=4), max_size=5))
    heads = [HeadItem(a, draw(uints), tuple(runs[a])) for a in sorted(runs)]  # type: ignore[arg-type]
    return TickBody(
        tuple(sorted(parents)),  # type: ignore[arg-type]
        tuple(heads),
        draw(uints),  # type: ignore[arg-type]
        Applied(draw(uints), draw(digests)),  # type: ignore[arg-type]
        draw(digests),
    )


@given(ops=any_operations, seq=uints, prev=digests.filter(any))
@settings(max_examples=80)
def test_any_entry_round_trips(ops: list[Operation], seq: int, prev: bytes) -> None:
    ops = [signed(op) if isinstance(op, Accept) else op for op in ops]
    entry = entry_of(ops, seq=seq, prev=prev if seq else ZERO32)
    received = decoded_entry(entry.encoded)
    assert received == entry
    assert list(received.operations) == ops
    received.verify()


@given(data=st.data(), era=uints, round=st.one_of(st.just(0), uints))
@settings(max_examples=100)
def test_any_tick_round_trips(data: st.DataObject, era: int, round: int) -> None:
    tick = tick_of(data.draw(any_body(round)), era=era, round=round)
    received = decoded_tick(tick.encoded)
    assert received == tick
    received.verify()


@given(
    listed=st.lists(st.binary(max_size=80), max_size=20),
    more=st.lists(st.binary(max_size=80), max_size=20),
)
def test_any_frame_round_trips(listed: list[bytes], more: list[bytes]) -> None:
    frame = frames.Frame(tuple(listed), tuple(more))
    assert frames.decode_frame(frame.encode()) == frame


ranges = st.tuples(addresses, uints, uints).map(
    lambda r: sync.LogRange(r[0], min(r[1:]), max(r[1:]))  # type: ignore[type-var, arg-type]
)
any_request: st.SearchStrategy[Any] = st.one_of(
    st.builds(sync.EntriesWanted, digests, st.lists(ranges, max_size=9).map(tuple)),
    st.builds(sync.RecordsWanted, digests, st.lists(digests, max_size=9).map(tuple)),
    st.builds(sync.StatusWanted, digests),
    st.builds(
        lambda market, era, first, more: sync.RoundsWanted(market, era, first, first + more),
        digests,
        uints,
        st.integers(0, 1 << 60),
        st.integers(0, sync.MAX_ROUNDS - 1),
    ),
)


@given(any_request)
def test_any_sync_request_round_trips(request: sync.Request) -> None:
    assert sync.decode_request(sync.encode_request(request)) == request


@given(st.lists(st.binary(max_size=50), max_size=9), st.booleans())
def test_any_sync_reply_round_trips(records: list[bytes], more: bool) -> None:
    reply = sync.Reply(frames.Frame(tuple(records), ()), more)
    assert sync.decode_reply(reply.encode()) == reply


# --- strictness: there is one encoding, and nothing else decodes --------------------------------

RICH = entry_of(
    [
        Place(0, 300, 70_000, 1, 1 << 40, min_quantity=24, max_slippage=5),  # type: ignore[arg-type]
        Amend(25, 3, Place(1, 1, 1)),  # type: ignore[arg-type]
        CancelAll(),
        Announce(("eip155:1:0xé",)),
        Accept((Accepted(ZERO32, b"terms"), Accepted(bytes([1]) * 32, b"")), bytes(65)),  # type: ignore[arg-type]
        Evidence(0, b"one", b"other"),
    ],
    seq=300,
    prev=bytes(range(32)),
)
LISTED = TickBody(
    (bytes(32), bytes(31) + b"\x01"),  # type: ignore[arg-type]
    (HeadItem(ALICE.address, 256, (ZERO32, ZERO32)),),  # type: ignore[arg-type]
    1 << 40,  # type: ignore[arg-type]
    Applied(8, bytes(32)),  # type: ignore[arg-type]
    bytes(32),
)
BUSY = tick_of(LISTED, round=24)
PIECE = evidence.of_fork(RICH, entry_of([CancelAll()], seq=300, prev=bytes(range(32))))

Decoder = Callable[[bytes], bytes]
DECODERS: dict[str, tuple[Decoder, bytes]] = {
    "entry": (lambda data: reencoded_entry(data), RICH.encoded),
    "tick": (lambda data: reencoded_tick(data), BUSY.encoded),
    "frame": (
        lambda data: frames.decode_frame(data).encode(),
        frames.Frame((b"entry", b""), (b"tick",)).encode(),
    ),
    "request": (
        lambda data: sync.encode_request(sync.decode_request(data)),
        sync.encode_request(sync.EntriesWanted(MARKET, (sync.LogRange(ALICE.address, 24, 300),))),  # type: ignore[arg-type]
    ),
    "reply": (
        lambda data: sync.decode_reply(data).encode(),
        sync.Reply(frames.Frame((b"entry",), ()), True).encode(),
    ),
}


def reencoded_entry(data: bytes) -> bytes:
    """The entry built anew from what was decoded."""
    entry = decoded_entry(data)
    draft = entries.draft(SEPARATOR, *entry.header[:4], entry.operations)
    assert draft.digest == entry.digest
    return draft.signed(entry.signature).encoded


def reencoded_tick(data: bytes) -> bytes:
    tick = decoded_tick(data)
    draft = ticks.draft(SEPARATOR, *tick.header[:4], tick.body)
    assert draft.digest == tick.digest
    return draft.signed(tick.signature).encoded


def fails_or_is_itself(decode: Decoder, data: bytes) -> bool:
    try:
        again = decode(data)
    except PeerError:
        return False
    assert again == data
    return True


@pytest.mark.parametrize("name", DECODERS)
def test_every_change_of_a_byte_fails_or_is_another_record(name: str) -> None:
    decode, data = DECODERS[name]
    assert fails_or_is_itself(decode, data)
    for at, old in enumerate(data):
        for new in {old ^ 1, old ^ 0x20, old ^ 0x80, (old + 1) % 256, 0, 0xFF, 0xF6} - {old}:
            fails_or_is_itself(decode, data[:at] + bytes((new,)) + data[at + 1 :])


@pytest.mark.parametrize("name", DECODERS)
def test_nothing_truncated_or_continued_decodes(name: str) -> None:
    decode, data = DECODERS[name]
    for end in range(len(data)):
        with pytest.raises(MalformedError):
            decode(data[:end])
    for more in (b"\0", b"\x80", b"\xff", data):
        with pytest.raises(MalformedError):
            decode(data + more)


NASTY = [
    *(b"\xa0", b"\xa1\x00\x00", b"\xbf\xff", b"\x9f\xff", b"\x5f\xff", b"\xf4", b"\xf5", b"\xf7"),
    *(b"\xf9\x7e\x00", b"\xfb\x3f\xf0" + bytes(6), b"\xf8\xff", b"\x20", b"\x61\xff"),
    *(b"\xc2\x41\x01", b"\xd8\x1d\x00", b"\xd8\x1c\x80", b"\xd9\x01\x02\x80", b"\xc0\x60"),
    *(b"\x9a\xff\xff\xff\xff", b"\x9b" + b"\x7f" * 8, b"\x5b" + b"\x7f" * 8, b"\x1b" + b"\xff" * 8),
    *(b"\x18\x00", b"\x58\x00", b"\x98\x00", b"\x63\xed\xa0\x80"),
]
"""Heads and items that this protocol has no use for."""


@pytest.mark.parametrize("name", DECODERS)
def test_what_the_library_understands_is_refused_anywhere(name: str) -> None:
    decode, data = DECODERS[name]
    for nasty in NASTY:
        for at in range(0, len(data), 3):
            fails_or_is_itself(decode, data[:at] + nasty + data[at + 1 :])
            fails_or_is_itself(decode, data[:at] + nasty + data[at:])


@given(data=st.binary(max_size=200))
@settings(max_examples=300)
def test_arbitrary_bytes_raise_nothing_but_peer_errors(data: bytes) -> None:
    for decode, _ in DECODERS.values():
        fails_or_is_itself(decode, data)
    for kind in (0, 1):
        with pytest.raises(PeerError):
            evidence.culprit(Evidence(kind, data, data), SEPARATOR, MARKET)


items = st.recursive(
    st.none() | st.integers(-5, 1 << 64) | st.binary(max_size=70) | st.text(max_size=5)
    | st.booleans() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=12),
    max_leaves=30,
)  # fmt: skip


@given(value=items)
@settings(max_examples=300)
def test_arbitrary_items_raise_nothing_but_peer_errors(value: Any) -> None:
    data = cbor2.dumps(value)
    for decode, _ in DECODERS.values():
        fails_or_is_itself(decode, data)
    try:
        operation = operations.parse(codec.decode(data, 10_000))
    except PeerError:
        return
    assert codec.encode(operations.to_items(operation)) == data


@pytest.mark.parametrize(
    ("decode", "limit"),
    [
        (decoded_entry, entries.MAX_ENTRY_BYTES),
        (decoded_tick, ticks.MAX_TICK_BYTES),
        (frames.decode_frame, frames.MAX_FRAME_BYTES),
        (sync.decode_request, sync.MAX_REQUEST_BYTES),
        (sync.decode_reply, sync.MAX_REPLY_BYTES),
    ],
)
def test_too_large_is_refused_unread(decode: Callable[[bytes], object], limit: int) -> None:
    with pytest.raises(OversizedError):
        decode(bytes(limit + 1))
    with pytest.raises(MalformedError) as caught:
        decode(bytes(limit))
    assert caught.type is MalformedError


# --- whose record it is -------------------------------------------------------------------------


def test_another_networks_entry_is_not_signed_here() -> None:
    foreign = make_genesis(3)
    draft = entries.draft(foreign.separator, MARKET, BOB.address, 0, ZERO32, [CancelAll()])  # type: ignore[arg-type]
    entry = draft.signed(BOB.sign(draft.digest))
    entry.verify()
    received = decoded_entry(entry.encoded)
    assert received.digest != entry.digest
    with pytest.raises(SignatureError):
        received.verify()


def test_another_networks_tick_is_not_signed_here() -> None:
    draft = ticks.draft(make_genesis(3).separator, MARKET, 0, 24, BOB.address, LISTED)  # type: ignore[arg-type]
    received = decoded_tick(draft.signed(BOB.sign(draft.digest)).encoded)
    with pytest.raises(SignatureError):
        received.verify()


def test_another_markets_records_are_foreign() -> None:
    elsewhere = bytes(31) + b"\x01"
    with pytest.raises(ForeignError):
        entries.decode_entry(RICH.encoded, SEPARATOR, elsewhere)  # type: ignore[arg-type]
    with pytest.raises(ForeignError):
        ticks.decode_tick(BUSY.encoded, SEPARATOR, elsewhere)  # type: ignore[arg-type]


def test_any_other_bit_of_a_signature_is_no_signature() -> None:
    for at in range(len(RICH.signature)):
        mutated = bytearray(RICH.signature)
        mutated[at] ^= 1
        data = RICH.encoded[:-65] + bytes(mutated)
        with pytest.raises(SignatureError):
            decoded_entry(data).verify()


def test_signing_again_is_the_same_record() -> None:
    other = entry_of([CancelAll()])
    again = entry_of([CancelAll()])
    assert other.digest == again.digest and other == again


# --- drafting: nobody signs what others would refuse ----------------------------------------------


@pytest.mark.parametrize(
    "ops",
    [
        [],
        [CancelAll()] * 1025,
        [Place(0, 0, 5)],
        [Place(2, 1, 1)],
        [Cancel(-1, 0)],
        [Cancel(0, 1024)],
        [Accept((), bytes(65))],
        [Accept((Accepted(b"", b""),), bytes(65))],
        [Accept((Accepted(ZERO32, b""),), bytes(65))] * 2,
        [Announce(("x" * 193,))],
        [Delegate(ALICE.address, 1, 0, bytes(65))],
        [Evidence(0, b"", b"")] * 9,
    ],
)
def test_a_bad_entry_cannot_be_drafted(ops: list[Any]) -> None:
    with pytest.raises(PeerError):
        entry_of(ops)


def test_an_entry_above_its_size_cannot_be_signed() -> None:
    ops: list[Any] = [Announce(("x" * 192,) * 16)] * 22
    with pytest.raises(InvalidError, match=str(MAX_ENTRY_BYTES)):
        entry_of(ops)


@pytest.mark.parametrize(
    ("round", "changes"),
    [
        (0, {}),
        (1, {"parents": ()}),
        (1, {"parents": LISTED.parents[::-1]}),
        (1, {"parents": LISTED.parents[:1] * 2}),
        (1, {"heads": (HeadItem(ALICE.address, 0, ()),)}),  # type: ignore[arg-type]
        (1, {"heads": LISTED.heads * 2}),
    ],
)
def test_a_bad_tick_cannot_be_drafted(round: int, changes: Any) -> None:
    with pytest.raises(InvalidError):
        tick_of(LISTED._replace(**changes), round=round)


def test_a_tick_lists_at_most_so_many_entries() -> None:
    def listing(count: int) -> TickBody:
        some = HeadItem(bytes(20), 0, (ZERO32,) * (count - 1))  # type: ignore[arg-type]
        one = HeadItem(b"\x01" * 20, 0, (ZERO32,))  # type: ignore[arg-type]
        return LISTED._replace(heads=(some, one))

    tick = tick_of(listing(ticks.MAX_LISTED), round=1)
    assert decoded_tick(tick.encoded) == tick
    with pytest.raises(InvalidError):
        tick_of(listing(ticks.MAX_LISTED + 1), round=1)


# --- operations in the tree ---------------------------------------------------------------------


def test_an_operation_is_proven_by_its_group() -> None:
    ops: list[Any] = [Cancel(0, i % 1024) for i in range(40)]  # type: ignore[arg-type]
    entry = entry_of(ops)
    leaves = [
        b"".join(codec.encode(operations.to_items(op)) for op in ops[at : at + GROUP])
        for at in range(0, len(ops), GROUP)
    ]
    position = 20
    path = merkle.list_proof(leaves, position // GROUP)
    shown = leaves[position // GROUP]
    merkle.verify_list_proof(entry.header.ops_root, shown, 1, 3, path)
    assert codec.encode(operations.to_items(ops[position])) in shown


# --- frames -------------------------------------------------------------------------------------


@given(
    listed=st.lists(st.integers(1, 20_000), max_size=30),
    more=st.lists(st.integers(1, 20_000), max_size=30),
)
@settings(max_examples=60)
def test_packing_keeps_everything_in_order(listed: list[int], more: list[int]) -> None:
    first, second = [bytes(n) for n in listed], [bytes(n) for n in more]
    packed = frames.pack(first, second)
    assert [e for frame in packed for e in frame.entries] == first
    assert [t for frame in packed for t in frame.ticks] == second
    for frame in packed:
        assert frame.entries or frame.ticks
        size = sum(map(len, frame.entries + frame.ticks))
        last = len((frame.entries + frame.ticks)[-1])
        assert size - last < frames.FLUSH_BYTES
        assert frames.decode_frame(frame.encode()) == frame


def test_the_largest_records_fit_a_frame() -> None:
    entry, tick = bytes(entries.MAX_ENTRY_BYTES), bytes(ticks.MAX_TICK_BYTES)
    for frame in frames.pack([bytes(frames.FLUSH_BYTES - 1), entry], [tick, tick]):
        assert frames.decode_frame(frame.encode()) == frame
    small = [b"x"] * (frames.FLUSH_BYTES - 1)
    for frame in frames.pack(small, [tick]):
        assert frames.decode_frame(frame.encode()) == frame


# --- evidence -----------------------------------------------------------------------------------


def test_a_fork_convicts_its_author() -> None:
    assert evidence.culprit(PIECE, SEPARATOR, MARKET) == ALICE.address


def test_equivocation_convicts_its_witness() -> None:
    other = tick_of(LISTED._replace(time_ms=5), round=24)  # type: ignore[arg-type]
    piece = evidence.of_equivocation(BUSY, other)
    assert evidence.culprit(piece, SEPARATOR, MARKET) == ALICE.address


def test_the_same_record_twice_convicts_nobody() -> None:
    with pytest.raises(InvalidError):
        evidence.culprit(evidence.of_fork(RICH, RICH), SEPARATOR, MARKET)


@given(at=st.integers(0, len(PIECE.second) - 1), new=st.integers(0, 255))
def test_a_changed_header_convicts_nobody_else(at: int, new: int) -> None:
    changed = PIECE.second[:at] + bytes((new,)) + PIECE.second[at + 1 :]
    try:
        accused = evidence.culprit(PIECE._replace(second=changed), SEPARATOR, MARKET)
    except PeerError:
        return
    assert accused == ALICE.address and changed == PIECE.second
