"""The ``Settlement`` contract: what it is told, what it tells (protocol/07-evm-contracts.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from orrange_p2p.chains.evm import artifacts
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.core import codec
from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Address, MarketId, MatchId
from orrange_p2p.core.swaps.atomic import Event, Fact
from orrange_p2p.core.swaps.binding import BoundTrade, Consent
from orrange_p2p.crypto.hashes import keccak256
from orrange_p2p.ports.chain import Log

__all__ = [
    "MAX_BATCH",
    "delegate_call",
    "gas_limit",
    "is_settled",
    "list_call",
    "listed_call",
    "read",
    "revoke_call",
    "says_ended",
    "separator_call",
    "settle_call",
    "settles",
    "state_call",
]

MAX_BATCH: Final = 40
"""Trades of one transaction: at the gas below they keep under the most that one may have."""
_GAS_PER_TRADE: Final = 400_000
"""Two transfers to accounts that never held the token, and a fee to two more, with room."""
_GAS_BESIDE: Final = 200_000
_SELECTORS: Final = artifacts.load("Settlement").selectors
_SETTLE: Final = next(
    selector for signature, selector in _SELECTORS.items() if signature.startswith("settle(")
)
_DELEGATE: Final = next(
    selector for signature, selector in _SELECTORS.items() if signature.startswith("delegate(")
)
_SETTLED: Final = keccak256(b"Settled(bytes32,bytes32,address,address,uint256,uint256,uint256)")
_DEFAULTED: Final = keccak256(b"Defaulted(bytes32,address,address,uint256)")
_REFUSED: Final = keccak256(b"Refused(bytes32,address)")
_FAILED: Final = keccak256(b"Failed(bytes32,bytes4)")
_ENDED: Final = keccak256(b"Ended(bytes32)")[:4]


def settles(market: Market, chain: str) -> bool:
    """Whether this chain's contract can settle a market: between two tokens of the chain."""
    prefix = f"eip155:{evm_chain_id(chain)}/erc20:"
    both = (market.base, market.quote)
    return market.settlement == "atomic" and all(asset.startswith(prefix) for asset in both)


def settle_call(trades: Sequence[BoundTrade]) -> bytes:
    """Settle trades, each for itself."""
    batch: list[Any] = [(tuple(one.trade), _side(one.buyer), _side(one.seller)) for one in trades]
    return _SETTLE + encode(batch)


def _side(consent: Consent) -> tuple[Any, ...]:
    return (consent.owner, list(consent.path), bytearray(consent.signature))


def gas_limit(trades: int) -> int:
    """For so many trades. Not an endpoint's estimate: a trade that runs out of gas fails without
    failing the call, and an estimate looks for the least with which the call succeeds."""
    return _GAS_BESIDE + trades * _GAS_PER_TRADE


def delegate_call(
    market_id: MarketId, owner: Address, session: Address, cap: int, expiry_ms: int, consent: bytes
) -> bytes:
    """Sent by ``owner``: let it pay for the trades of ``session``, whose consent this is."""
    return _DELEGATE + encode((market_id, owner, session, cap, expiry_ms), bytearray(consent))


def revoke_call(market_id: MarketId, session: Address) -> bytes:
    """Sent by the owner: pay for no more of them."""
    return _SELECTORS["revoke(bytes32,address)"] + encode(market_id, session)


def list_call(market: Market) -> bytes:
    """Make a market known; anyone may."""
    record = codec.encode(attrs.astuple(market))
    return _SELECTORS["list(bytes)"] + encode(bytearray(record))


def listed_call(market_id: MarketId) -> bytes:
    """Asks for base, quote and lot size of a market; zeros if it is not listed."""
    return _SELECTORS["markets(bytes32)"] + market_id


def separator_call() -> bytes:
    """Asks for the domain separator of the network that the contract serves."""
    return _SELECTORS["NETWORK_SEPARATOR()"]


def state_call(name: MatchId) -> bytes:
    """Asks whether a trade has ended, and how."""
    return _SELECTORS["states(bytes32)"] + name


def is_settled(answer: bytes) -> bool:
    """The answer to ``state_call``: 0 is open, 2 refused."""
    return int.from_bytes(answer, "big") == 1


def says_ended(log: Log) -> bool:
    """Whether a ``Failed`` says that the trade had ended before."""
    return log.data[:4] == _ENDED


def read(log: Log) -> tuple[MatchId, Fact] | None:
    """What a log of the contract says of a trade; None if of none.

    ``Failed`` is worth what its sender's call was: anyone can call with signatures that are wrong.
    Raises ``MalformedError`` for what the contract does not emit.
    """
    topics = log.topics
    if not topics or topics[0] not in (_SETTLED, _DEFAULTED, _REFUSED, _FAILED):
        return None
    if len(topics) != (2 if topics[0] == _FAILED else 3):
        raise MalformedError("a log of another contract")
    name = MatchId(topics[1])
    if topics[0] == _SETTLED:
        shown = Fact(Event.SHOWN_SETTLED, block=log.block_number, tx_hash=log.tx_hash)
        return name, shown
    if topics[0] == _FAILED:
        return name, Fact(Event.SHOWN_FAILURE)
    blamed = Address(topics[2][12:])
    return name, Fact(
        Event.SHOWN_DEFAULT, block=log.block_number, blamed=blamed, tx_hash=log.tx_hash
    )
