"""Logs of the contracts that reputation reads, as events (protocol/11-reputation.md, Indexing)."""

from __future__ import annotations

from typing import Final

from orrange_p2p.core.bitcoin_bonds import compressed
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.histories import ChainEvent, EventKind
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Place
from orrange_p2p.crypto.hashes import keccak256
from orrange_p2p.ports.chain import Log, LogFilter

__all__ = ["BONDED", "SETTLED", "filter_of", "read"]

BONDED: Final = keccak256(b"Bonded(address,uint256,uint64)")
_UNBONDING: Final = keccak256(b"Unbonding(address,uint256,uint64)")
_BOUND: Final = keccak256(b"Bound(address,address,bytes,bytes)")
_SLASHED: Final = keccak256(b"Slashed(address,address,address,bytes32,bytes32,uint256,uint256)")
SETTLED: Final = keccak256(b"Settled(bytes32,bytes32,address,address,uint256,uint256,uint256)")
_DEFAULTED: Final = keccak256(b"Defaulted(bytes32,address,address,uint256)")
_ALLOCATED: Final = keccak256(b"Allocated(address,bytes32,address,uint256)")
_STOOD: Final = keccak256(b"Stood(address,bytes32,address,bytes32,uint64)")
_REGISTRY: Final = frozenset((BONDED, _UNBONDING, _BOUND, _SLASHED, _ALLOCATED, _STOOD))
_SETTLEMENT: Final = frozenset((SETTLED, _DEFAULTED))
_TOPICS: Final = (*sorted(_REGISTRY), *sorted(_SETTLEMENT))
MAX_PEER_ID_BYTES: Final = 64
"""As in the contract."""
_SHAPES: Final = {
    BONDED: (2, 64),
    _UNBONDING: (2, 64),
    _BOUND: (3, 128),
    _SLASHED: (4, 128),
    SETTLED: (3, 160),
    _DEFAULTED: (3, 64),
    _ALLOCATED: (4, 32),
    _STOOD: (4, 64),
}
"""Number of topics, and the least octets of data."""


def filter_of(registry: Address, settlement: Address) -> LogFilter:
    """What to ask endpoints for. A zero address is no contract."""
    return LogFilter(tuple(one for one in (registry, settlement) if any(one)), (_TOPICS,))


def read(
    log: Log, chain: str, time_s: int, registry: Address, settlement: Address
) -> ChainEvent | None:
    """The event that a log is; None for one of another contract or of no interest.

    Raises ``MalformedError`` for what these contracts do not emit.
    """
    topics, data = log.topics, log.data
    if not topics:
        return None
    topic = topics[0]
    if not (
        (topic in _REGISTRY and log.address == registry)
        or (topic in _SETTLEMENT and log.address == settlement)
    ):
        return None
    count, least = _SHAPES[topic]
    if len(topics) != count or len(data) < least:
        raise MalformedError("a log that the network's contracts do not emit")
    place = Place(chain, log.block_number, log.log_index)
    if topic == SETTLED:
        return ChainEvent(
            place,
            EventKind.SETTLED,
            time_s,
            Address(data[12:32]),
            Address(data[44:64]),
            _word(data, 4),
            0,
            topics[2],
            _word(data, 3),
            _word(data, 2),
        )
    if topic == _DEFAULTED:
        owner, token = Address(topics[2][12:]), Address(data[12:32])
        return ChainEvent(place, EventKind.DEFAULTED, time_s, owner, token, _word(data, 1))
    owner = Address(topics[1][12:])
    if topic == BONDED:
        nobody = Address(bytes(20))
        amount, until_s = _word(data, 0), _word(data, 1)
        return ChainEvent(place, EventKind.BONDED, time_s, owner, nobody, amount, until_s)
    if topic == _UNBONDING:
        nobody = Address(bytes(20))
        return ChainEvent(place, EventKind.UNBONDING, time_s, owner, nobody, _word(data, 0))
    if topic == _ALLOCATED:
        key = Address(topics[3][12:])
        amount = _word(data, 0)
        return ChainEvent(place, EventKind.ALLOCATED, time_s, owner, key, amount, market=topics[2])
    if topic == _STOOD:
        key, anchor, since = Address(topics[3][12:]), data[:32], _word(data, 1)
        return ChainEvent(
            place, EventKind.STOOD, time_s, owner, key, market=topics[2], anchor=anchor, since=since
        )
    key = Address(topics[2][12:])
    if topic == _BOUND:
        point = _octets(data, 1)
        if len(point) not in (0, 64):
            raise MalformedError("a log that the network's contracts do not emit")
        bitcoin_key = compressed(point) if point else b""
        kind = EventKind.BOUND
        peer_id = _octets(data, 0)
        if len(peer_id) > MAX_PEER_ID_BYTES:
            raise MalformedError("a log that the network's contracts do not emit")
        return ChainEvent(place, kind, time_s, owner, key, bitcoin_key=bitcoin_key, peer_id=peer_id)
    return ChainEvent(place, EventKind.SLASHED, time_s, owner, key)


def _octets(data: bytes, place: int) -> bytes:
    """A value of type ``bytes`` among others. Raises ``MalformedError``."""
    start = _word(data, place)
    if start + 32 > len(data) or start + 32 + (size := _word(data[start:], 0)) > len(data):
        raise MalformedError("a log that the network's contracts do not emit")
    return data[start + 32 : start + 32 + size]


def _word(data: bytes, place: int) -> int:
    return int.from_bytes(data[32 * place : 32 * place + 32], "big")
