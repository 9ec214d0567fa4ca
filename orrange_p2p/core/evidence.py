"""Evidence of forks and equivocation that verifies offline (protocol/01-records.md, Evidence).

A signed header is the smallest thing that convicts: what the signature covers, and the signature.
"""

from __future__ import annotations

from typing import Final

from orrange_p2p.core import codec
from orrange_p2p.core.entries import Entry, EntryHeader
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.ids import Address, Digest, Era, MarketId, Round, Seq
from orrange_p2p.core.operations import MAX_EVIDENCE_BYTES, Evidence, EvidenceKind
from orrange_p2p.core.ticks import Tick, TickHeader
from orrange_p2p.crypto import secp256k1

_HEADER_ITEMS: Final = 6


def of_fork(first: Entry, second: Entry) -> Evidence:
    """Proof that one author signed two entries of one number."""
    return Evidence(int(EvidenceKind.FORK), _encode(first), _encode(second))


def of_equivocation(first: Tick, second: Tick) -> Evidence:
    """Proof that one witness signed two ticks of one round."""
    return Evidence(int(EvidenceKind.EQUIVOCATION), _encode(first), _encode(second))


def culprit(evidence: Evidence, separator: bytes, market: MarketId) -> Address:
    """Who is convicted. Raises ``PeerError`` if the evidence shows nothing."""
    first, first_signature = _decode(evidence.kind, evidence.first)
    second, second_signature = _decode(evidence.kind, evidence.second)
    if first == second:
        raise InvalidError("both headers are the same record")
    if _name(first) != _name(second):
        raise InvalidError("the headers are of two different names")
    if first.market != market:
        raise InvalidError("the headers are of another market")
    accused = first.author if isinstance(first, EntryHeader) else first.witness
    for header, signature in ((first, first_signature), (second, second_signature)):
        if secp256k1.recover(header.digest(separator), signature) != accused:
            raise InvalidError("a header is not signed by the accused")
    return accused


def signed_headers(
    evidence: Evidence,
) -> tuple[tuple[EntryHeader | TickHeader, bytes], tuple[EntryHeader | TickHeader, bytes]]:
    """Both headers, each with its signature. Raises ``PeerError`` for what is none."""
    return _decode(evidence.kind, evidence.first), _decode(evidence.kind, evidence.second)


def _name(header: EntryHeader | TickHeader) -> tuple[object, ...]:
    if isinstance(header, EntryHeader):
        return header.market, header.author, header.seq
    return header.market, header.era, header.round, header.witness


def _encode(record: Entry | Tick) -> bytes:
    return codec.encode((*record.header, record.signature))


def _decode(kind: int, data: bytes) -> tuple[EntryHeader | TickHeader, bytes]:
    record = codec.array(
        codec.decode_canonical(data, MAX_EVIDENCE_BYTES), _HEADER_ITEMS, "signed header"
    )
    market = MarketId(codec.octets(record[0], 32, "market"))
    signature = codec.octets(record[5], secp256k1.SIGNATURE_BYTES, "signature")
    header: EntryHeader | TickHeader
    if kind == EvidenceKind.FORK:
        header = EntryHeader(
            market,
            Address(codec.octets(record[1], 20, "author")),
            Seq(codec.uint(record[2], "seq")),
            Digest(codec.octets(record[3], 32, "prev")),
            codec.octets(record[4], 32, "ops_root"),
        )
    else:
        header = TickHeader(
            market,
            Era(codec.uint(record[1], "era")),
            Round(codec.uint(record[2], "round")),
            Address(codec.octets(record[3], 20, "witness")),
            codec.octets(record[4], 32, "body hash"),
        )
    return header, signature
