"""The ``HashTimelock`` contract: what it is told, what it tells (protocol/07-evm-contracts.md).

Pure. A lock is named by its hashlock, its sender and timelock, and its token; anybody can make
others with the same hash, and end them. So logs alone do not say that *this* lock has ended: the
contract does, by the word under its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from orrange_p2p.chains.evm import artifacts
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.chains.evm.erc20 import token_of
from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.core.swaps.legs import Lock, LockState, LockView
from orrange_p2p.crypto.hashes import keccak256
from orrange_p2p.ports.chain import Block, Log

__all__ = [
    "COIN",
    "MAX_AMOUNT",
    "TOPICS",
    "Terms",
    "claim_call",
    "lock_call",
    "locked_call",
    "refund_call",
    "terms",
    "view",
]

COIN: Final = Address(bytes(20))
"""Stands for the chain's own coin where a token's address would be."""
MAX_AMOUNT: Final = (1 << 96) - 1
_COIN_ASSET: Final = "slip44:"
_SELECTORS: Final = artifacts.load("HashTimelock").selectors
_LOCKED: Final = keccak256(b"Locked(bytes32,bytes32,bytes32,bytes32)")
_TOKEN_LOCKED: Final = keccak256(b"TokenLocked(bytes32,bytes32,address,bytes32,bytes32)")
_CLAIMED: Final = keccak256(b"Claimed(bytes32,bytes32)")
_REFUNDED: Final = keccak256(b"Refunded(bytes32)")
TOPICS: Final = (_LOCKED, _TOKEN_LOCKED, _CLAIMED, _REFUNDED)
"""Of all that it logs."""


class Terms(NamedTuple):
    """A lock as the contract words it."""

    token: Address
    hashlock: bytes
    sender: bytes
    """The ``from`` word."""
    recipient: bytes
    """The ``to`` word."""


def terms(lock: Lock) -> Terms:
    """Raises ``CallerError`` for a lock that the contract cannot hold."""
    chain, _, reference = lock.asset.partition("/")
    if chain != lock.chain:
        raise CallerError(f"{lock.asset} is not on {lock.chain}")
    if reference.startswith(_COIN_ASSET):
        token = COIN
    elif (found := token_of(lock.asset)) is not None:
        token = found[1]
    else:
        raise CallerError(f"{lock.asset} is neither the chain's coin nor an ERC-20 token")
    if len(lock.sender) != 20 or len(lock.recipient) != 20 or len(lock.hashlock) != 32:
        raise CallerError("a lock on an EVM chain is between two addresses, by a SHA-256")
    if not 0 < lock.amount <= MAX_AMOUNT or not 0 < lock.timelock_s <= MAX_AMOUNT:
        raise CallerError("amount and timelock of a lock are 1 to 2^96-1")
    if not any(lock.recipient):
        raise CallerError("a lock without a recipient")
    sender = lock.sender + lock.timelock_s.to_bytes(12, "big")
    return Terms(token, lock.hashlock, sender, lock.recipient + lock.amount.to_bytes(12, "big"))


def lock_call(lock: Lock) -> tuple[bytes, Amount]:
    """The call, and the coins that go with it."""
    token, hashlock, _, recipient = terms(lock)
    if token == COIN:
        arguments = encode(hashlock, lock.trade, lock.recipient, lock.timelock_s)
        return _SELECTORS["lock(bytes32,bytes32,address,uint256)"] + arguments, lock.amount
    what = token + lock.timelock_s.to_bytes(12, "big")
    selector = _SELECTORS["lockToken(bytes32,bytes32,bytes32,bytes32)"]
    return selector + what + hashlock + lock.trade + recipient, Amount(0)


def claim_call(lock: Lock, preimage: bytes) -> bytes:
    token, _, sender, _ = terms(lock)
    if token == COIN:
        return _SELECTORS["claim(bytes32,bytes32)"] + preimage + sender
    selector = _SELECTORS["claimToken(address,bytes32,bytes32)"]
    return selector + encode(token, preimage, sender)


def refund_call(lock: Lock) -> bytes:
    token, hashlock, sender, _ = terms(lock)
    if token == COIN:
        return _SELECTORS["refund(bytes32,bytes32)"] + hashlock + sender
    return _SELECTORS["refundToken(address,bytes32,bytes32)"] + encode(token, hashlock, sender)


def locked_call(lock: Lock) -> bytes:
    """Asks for the lock's ``to`` word; zero if there is none, or not any more."""
    token, hashlock, sender, _ = terms(lock)
    return _SELECTORS["locked(address,bytes32,bytes32)"] + encode(token, hashlock, sender)


def is_of(log: Log, hashlock: bytes) -> bool:
    """Whether a log of the contract is of locks with this hash."""
    if log.topics[:1] in ((_CLAIMED,), (_REFUNDED,)):
        return log.topics[1:2] == (hashlock,)
    return log.data[:32] == hashlock


def view(lock: Lock, logs: Sequence[Log], word: bytes, head: Block) -> LockView | None:
    """What a head shows of a lock.

    ``logs``: those of its hash, in order; ``word``: the contract's answer to ``locked_call`` at the
    same head. None if the two are of different moments.
    """
    agreed = terms(lock)
    made, problem = None, ""
    for log in logs:
        found = _made(log)
        if found is None:
            continue
        if found == agreed:
            made, problem = log, ""
        elif made is None:
            problem = _difference(found, agreed) or problem
    preimage = next(filter(None, (_preimage(log, lock.hashlock) for log in logs)), b"")
    if made is None:
        return LockView(preimage=preimage, problem=problem)
    depth = head.number - made.block_number + 1
    locked_by = "0x" + made.tx_hash.hex()
    if word == agreed.recipient:
        return LockView(LockState.LOCKED, depth, 0, preimage, locked_by)
    ends = [log for log in logs if _made(log) is None and _place(log) > _place(made)]
    claims = [log for log in ends if log.topics[0] == _CLAIMED]
    if any(word) or not ends:
        return None
    end = (claims or ends)[0]
    return LockView(
        LockState.CLAIMED if claims else LockState.REFUNDED,
        depth,
        head.number - end.block_number + 1,
        preimage,
        locked_by,
        "0x" + end.tx_hash.hex(),
    )


def _made(log: Log) -> Terms | None:
    words = [log.data[at : at + 32] for at in range(0, len(log.data), 32)]
    if log.topics[:1] == (_LOCKED,) and len(words) == 4:
        return Terms(COIN, words[0], words[2], words[3])
    if log.topics[:1] == (_TOKEN_LOCKED,) and len(words) == 5:
        return Terms(Address(words[2][12:]), words[0], words[3], words[4])
    return None


def _preimage(log: Log, hashlock: bytes) -> bytes:
    is_claim = log.topics[:1] == (_CLAIMED,) and len(log.data) == 32
    return log.data if is_claim and sha256(log.data).digest() == hashlock else b""


def _place(log: Log) -> tuple[int, int]:
    return log.block_number, log.log_index


def _difference(found: Terms, agreed: Terms) -> str:
    """In what the agreed sender's lock differs from what was agreed; empty if it is of another."""
    if found.sender[:20] != agreed.sender[:20]:
        return ""
    if found.token != agreed.token:
        return f"it is of 0x{found.token.hex()}, another asset"
    if found.sender != agreed.sender:
        return f"its timelock is {int.from_bytes(found.sender[20:], 'big')}"
    if found.recipient[:20] != agreed.recipient[:20]:
        return f"its recipient is 0x{found.recipient[:20].hex()}"
    return f"its amount is {int.from_bytes(found.recipient[20:], 'big')}"
