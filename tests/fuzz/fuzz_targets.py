"""What every decoder has to hold for any bytes at all, and inputs to start from.

A target takes bytes. It returns if the decoder refused them with an error of the tree that is meant
for them, or read them and could write the same again; everything else is a finding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

from orrange_p2p.core import codec, entries, evidence, genesis, jsonrpc, sync, ticks
from orrange_p2p.core.accounts import ACCOUNT_KEY_BYTES, ORDER_KEY_BYTES
from orrange_p2p.core.bond_proofs import decode_bond_proof
from orrange_p2p.core.checkpoints import decode_checkpoint
from orrange_p2p.core.errors import CallerError, ConfigError, MalformedError, PeerError
from orrange_p2p.core.frames import decode_frame
from orrange_p2p.core.genesis import Author, Genesis, Market, Parameters, Witness
from orrange_p2p.core.handovers import decode_handover
from orrange_p2p.core.hello import ITEMS, decode_hello
from orrange_p2p.core.ids import Address, Era, MarketId, OrderId, Seq, TimeMs, Weight
from orrange_p2p.core.matches import MATCH_KEY_BYTES
from orrange_p2p.core.operations import Evidence, EvidenceKind
from orrange_p2p.core.parts import decode_part
from orrange_p2p.core.proofs import decode_proof, verify_order
from orrange_p2p.core.roster import Pin, Roster, Seat, Standing, decode_roster

VECTORS: Final = Path(__file__).parents[2] / "protocol" / "vectors"
CODEC_BYTES: Final = 1 << 16

_CONTEXT: Final = json.loads((VECTORS / "entry.json").read_text(encoding="utf-8"))["context"]
SEPARATOR: Final = bytes.fromhex(_CONTEXT["separator"][2:])
MARKET: Final = MarketId(bytes.fromhex(_CONTEXT["market"][2:]))


def check_codec(data: bytes) -> None:
    try:
        value = codec.decode_canonical(data, CODEC_BYTES)
    except PeerError:
        return
    assert codec.encode(value) == data


def check_entry(data: bytes) -> None:
    try:
        entry = entries.decode_entry(data, SEPARATOR, MARKET)
    except PeerError:
        return
    assert entry.encoded == data
    draft = entries.draft(SEPARATOR, MARKET, entry.author, entry.seq, entry.prev, entry.operations)
    assert draft.digest == entry.digest
    try:
        entry.verify()
    except PeerError:
        return
    assert draft.signed(entry.signature).encoded == data


def check_tick(data: bytes) -> None:
    try:
        tick = ticks.decode_tick(data, SEPARATOR, MARKET)
    except PeerError:
        return
    assert tick.encoded == data
    draft = ticks.draft(SEPARATOR, MARKET, tick.era, tick.round, tick.witness, tick.body)
    assert draft.digest == tick.digest
    try:
        tick.verify()
    except PeerError:
        return
    assert draft.signed(tick.signature).encoded == data


def check_frame(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except PeerError:
        return
    assert frame.encode() == data
    for record in frame.entries:
        check_entry(record)
    for record in frame.ticks:
        check_tick(record)


def check_sync_request(data: bytes) -> None:
    try:
        request = sync.decode_request(data)
    except PeerError:
        return
    assert sync.encode_request(request) == data


def check_sync_reply(data: bytes) -> None:
    try:
        reply = sync.decode_reply(data)
    except PeerError:
        return
    assert reply.encode() == data


def check_sync_checkpoint_page(data: bytes) -> None:
    try:
        page = sync.decode_checkpoint_page(data)
    except PeerError:
        return
    assert page.encode() == data


def check_sync_parts(data: bytes) -> None:
    try:
        parts = sync.decode_parts(data)
    except PeerError:
        return
    assert parts.encode() == data


def check_hello(data: bytes) -> None:
    try:
        hello = decode_hello(data)
    except PeerError:
        return
    again = hello.encode()
    assert decode_hello(again) == hello
    record = codec.decode(data, len(data))
    assert again == data or (isinstance(record, tuple) and len(record) > ITEMS)


def check_checkpoint(data: bytes) -> None:
    try:
        checkpoint = decode_checkpoint(data)
    except PeerError:
        return
    assert checkpoint.encode() == data
    with suppress(PeerError):
        checkpoint.verify(_NETWORK, MARKET)


def check_order_proof(data: bytes) -> None:
    try:
        proof = decode_proof(data)
    except PeerError:
        return
    assert proof.encode() == data
    with suppress(PeerError):
        verify_order(_NETWORK, MARKET, OrderId(Address(bytes(20)), Seq(0), 0), proof)


def check_handover(data: bytes) -> None:
    try:
        handover = decode_handover(data)
    except PeerError:
        return
    assert handover.encode() == data
    with suppress(PeerError):
        handover.follow(_ELECTING, MARKET, _ROSTER)


def check_roster(data: bytes) -> None:
    try:
        roster = decode_roster(data)
    except PeerError:
        return
    assert roster.encode() == data


def check_part(data: bytes) -> None:
    """The first byte says of which map."""
    sizes = (ORDER_KEY_BYTES, MATCH_KEY_BYTES, ACCOUNT_KEY_BYTES)
    with suppress(PeerError):
        decode_part(data[1:], bytes(32), sizes[data[0] % 3 if data else 0])


def check_evidence(data: bytes) -> None:
    """The first byte is the kind, the next two are the length of the first header."""
    if len(data) < 3:
        return
    end = 3 + int.from_bytes(data[1:3], "big")
    kind = int(EvidenceKind.FORK if data[0] % 2 == 0 else EvidenceKind.EQUIVOCATION)
    try:
        culprit = evidence.culprit(Evidence(kind, data[3:end], data[end:]), SEPARATOR, MARKET)
    except PeerError:
        return
    assert len(culprit) == 20


def check_genesis(data: bytes) -> None:
    try:
        network = genesis.parse_toml(data.decode())
    except (UnicodeDecodeError, ConfigError):
        return
    again = genesis.parse_toml(genesis.to_toml(network))
    assert again == network
    assert again.network_id == network.network_id


def check_rpc_request(data: bytes) -> None:
    try:
        request = jsonrpc.decode_request(data)
    except jsonrpc.BadRequestError:
        return
    try:
        line = jsonrpc.encode_request(request)
    except CallerError:
        return  # as JSON it may be longer than what we would send ourselves
    assert jsonrpc.decode_request(line) == request


def check_rpc_answer(data: bytes) -> None:
    try:
        jsonrpc.decode_answer(data)
    except MalformedError:
        return


def check_bond_proof(data: bytes) -> None:
    try:
        proof = decode_bond_proof(data)
    except PeerError:
        return
    assert proof.encode() == data
    with suppress(PeerError):
        proof.verify(_NETWORK)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "codec": check_codec,
    "entry": check_entry,
    "tick": check_tick,
    "frame": check_frame,
    "sync_request": check_sync_request,
    "sync_reply": check_sync_reply,
    "sync_checkpoint_page": check_sync_checkpoint_page,
    "sync_parts": check_sync_parts,
    "hello": check_hello,
    "checkpoint": check_checkpoint,
    "order_proof": check_order_proof,
    "bitcoin_bond": check_bond_proof,
    "handover": check_handover,
    "roster": check_roster,
    "part": check_part,
    "evidence": check_evidence,
    "genesis": check_genesis,
    "rpc_request": check_rpc_request,
    "rpc_answer": check_rpc_answer,
}


def seeds(target: str) -> Iterator[bytes]:
    """Inputs to start from: the vectors, valid and invalid, and what has no vectors by hand."""
    if target == "genesis":
        yield genesis.to_toml(_NETWORK).encode()
    elif target == "evidence":
        for case in _cases("evidence"):
            first, second = _octets(case["input"]["first"]), _octets(case["input"]["second"])
            yield bytes([case["input"]["kind"]]) + len(first).to_bytes(2, "big") + first + second
    elif target == "roster":
        yield from (_octets(case["known"]) for case in _valid("handover"))
    elif target == "part":
        for case in _cases("checkpoint"):
            for part in case.get("parts", {}).values():
                yield b"\0" + _octets(part)
    elif target == "rpc_request":
        yield b'{"jsonrpc":"2.0","id":1,"method":"status","params":{}}\n'
        yield b'{"jsonrpc":"2.0","id":"a","method":"submit","params":{"operations":[{"op":1}]}}'
        yield b'[{"jsonrpc":"2.0","id":null,"method":"x"}]'
    elif target == "rpc_answer":
        yield b'{"jsonrpc":"2.0","id":1,"result":{"a":[1,null,true]}}'
        yield b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"m","data":{"kind":"x"}}}'
        yield b'{"jsonrpc":"2.0","method":"event","params":{"id":1,"item":2}}'
    else:
        lists = {
            "sync_request": "_requests",
            "sync_reply": "_replies",
            "sync_checkpoint_page": "_checkpoint_pages",
            "sync_parts": "_parts",
        }
        for case in _cases(_FILES.get(target, target), lists.get(target, "")):
            yield _octets(case["input"])


_FILES: Final = dict.fromkeys(
    ("sync_request", "sync_reply", "sync_checkpoint_page", "sync_parts"), "sync"
)


def _valid(file: str) -> list[dict[str, Any]]:
    valid = json.loads((VECTORS / f"{file}.json").read_text(encoding="utf-8"))["valid"]
    assert isinstance(valid, list)
    return valid


def _cases(file: str, suffix: str = "") -> Iterator[dict[str, Any]]:
    vectors = json.loads((VECTORS / f"{file}.json").read_text(encoding="utf-8"))
    yield from vectors["valid" + suffix]
    yield from vectors["invalid" + suffix]


def _octets(shown: Any) -> bytes:
    """Bytes as the vectors write them (protocol/vectors/README.md)."""
    if isinstance(shown, str):
        return bytes.fromhex(shown[2:])
    repeated = _octets(shown["repeat"]) * shown["times"]
    return _octets(shown.get("prefix", "0x")) + repeated + _octets(shown.get("suffix", "0x"))


_MARKET: Final = Market(
    "eip155:1/slip44:60", "eip155:1/erc20:0x" + "11" * 20, 1, 1, "atomic", "evm", 1, 1, 1
)
_NETWORK: Final = Genesis(
    "fuzz",
    "eip155:31337",
    Address(bytes(20)),
    TimeMs(1_700_000_000_000),
    False,
    Parameters(),
    (Witness(Address(b"w" * 20), Weight(1), (b"a" * 32,)),),
    (Author(Address(b"t" * 20), 0),),
    (
        Market(
            "eip155:1/slip44:60", "eip155:1/erc20:0x" + "11" * 20, 1, 1, "atomic", "evm", 1, 1, 1
        ),
    ),
)
_ELECTING: Final = attrs.evolve(
    _NETWORK, registry=Address(b"r" * 20), parameters=Parameters(elected_witnesses=4)
)
_ROSTER: Final = Roster(
    Era(0),
    Pin(0, bytes(32)),
    (Seat(Address(b"w" * 20), Weight(1), b"a" * 32, Era(0)),),
    (Standing(Address(b"t" * 20), 1, 1),),
)
