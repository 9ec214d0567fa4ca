"""The ``Registry`` contract: what it is told and asked (protocol/07-evm-contracts.md). Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.chains.evm import artifacts
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.core import evidence
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.ids import Address, Amount, Era, MarketId, NetworkId
from orrange_p2p.core.operations import Evidence, EvidenceKind
from orrange_p2p.core.times import show_time
from orrange_p2p.crypto.eip712 import StructType
from orrange_p2p.crypto.hashes import keccak256

__all__ = [
    "MAX_LOCK_S",
    "PAUSED",
    "PROPOSED",
    "PROPOSED_FROM",
    "REPORTER_PERCENT",
    "TOKEN",
    "UNBONDING_S",
    "WITHDRAW",
    "BondState",
    "allocate_call",
    "bind_call",
    "binding_digest",
    "bond_call",
    "bond_of_call",
    "convicted_call",
    "is_same_request",
    "nonce_call",
    "owner_of_call",
    "read_address",
    "read_bond",
    "read_number",
    "refusal",
    "slash_call",
    "stand_call",
    "unbond_call",
]

REPORTER_PERCENT: Final = 10
"""Of a slashed bond, for whoever shows why."""
UNBONDING_S: Final = 14 * 86_400
MAX_LOCK_S: Final = 366 * 86_400
_SELECTORS: Final = artifacts.load("Registry").selectors
TOKEN: Final = _SELECTORS["token()"]
PAUSED: Final = _SELECTORS["paused()"]
PROPOSED_FROM: Final = _SELECTORS["proposedFrom()"]
PROPOSED: Final = _SELECTORS["proposed()"]
WITHDRAW: Final = _SELECTORS["withdraw()"]
_DOMAIN: Final = StructType(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_BIND: Final = _SELECTORS["bind(address,bytes,bytes,bytes,bytes)"]
_BINDING: Final = StructType(
    "Binding(address owner,address key,bytes peerId,bytes bitcoinKey,uint256 nonce)"
)
_HEADER: Final = {
    EvidenceKind.FORK: "(bytes32,address,uint64,bytes32,bytes32)",
    EvidenceKind.EQUIVOCATION: "(bytes32,uint64,uint64,address,bytes32)",
}
_SLASH: Final = {
    EvidenceKind.FORK: "slashFork",
    EvidenceKind.EQUIVOCATION: "slashEquivocation",
}


_REFUSALS: Final = {
    keccak256(name.encode())[:4]: words
    for name, words in {
        "BondsPaused()": "it takes no new bonds now: its governor has paused them or proposed an "
        "upgrade",
        "BadBond()": "an amount of nothing or of more than is bonded, or a lock that would end "
        "earlier than the present one or more than 366 days from now",
        "NothingThere()": "there is nothing to withdraw",
        "TokenTakesFee()": "the bond's token keeps a fee, and such a token cannot be bonded",
        "NotSigned(address)": "the key has not signed that this account answers for it, or another "
        "binding came between: try again",
        "BadKey()": "what describes the key is too long",
        "Taken(address)": "another account answers for this key, for ever",
        "NotYours(address)": "the key is not bound to this account",
        "Convicted(address)": "the key was convicted of cheating, for ever",
    }.items()
}
_STILL_LOCKED: Final = keccak256(b"StillLocked(uint64)")[:4]


class BondState(NamedTuple):
    """What an owner has in the contract, in smallest units."""

    amount: Amount
    locked_until_s: int
    unbonding: Amount
    unbonded_at_s: int

    @property
    def slashable(self) -> Amount:
        return Amount(self.amount + self.unbonding)


def bond_call(amount: Amount, locked_until_s: int) -> bytes:
    return _SELECTORS["bond(uint128,uint64)"] + encode(amount, locked_until_s)


def unbond_call(amount: Amount) -> bytes:
    return _SELECTORS["unbond(uint128)"] + encode(amount)


def bind_call(
    key: Address,
    peer_id: bytes,
    consent: bytes,
    bitcoin_key: bytes = b"",
    bitcoin_consent: bytes = b"",
) -> bytes:
    """``consent``: the key's signature over ``binding_digest``, and if there is one the Bitcoin
    key's, whose x and y are given in 64 bytes."""
    return _BIND + encode(key, *map(bytearray, (peer_id, bitcoin_key, consent, bitcoin_consent)))


def binding_digest(
    chain_number: int,
    registry: Address,
    owner: Address,
    key: Address,
    peer_id: bytes,
    nonce: int,
    bitcoin_key: bytes = b"",
) -> bytes:
    """What a key signs to let an owner answer for it, and the Bitcoin key that is bound with it;
    ``nonce``: of the owner, from 0."""
    separator = _DOMAIN.hash(
        (keccak256(b"Orrange Registry"), keccak256(b"1"), chain_number, registry)
    )
    return _BINDING.digest(separator, (owner, key, *map(keccak256, (peer_id, bitcoin_key)), nonce))


def allocate_call(market: MarketId, key: Address, amount: Amount) -> bytes:
    return _SELECTORS["allocate(bytes32,address,uint128)"] + encode(market, key, amount)


def stand_call(market: MarketId, key: Address, anchor: bytes, since: Era) -> bytes:
    """``anchor``: 32 bytes; zeros to stand no more."""
    return _SELECTORS["stand(bytes32,address,bytes32,uint64)"] + encode(market, key, anchor, since)


def slash_call(network: NetworkId, shown: Evidence) -> bytes:
    """Raises ``PeerError`` for evidence that is not well formed."""
    kind = EvidenceKind(shown.kind)
    name = f"{_SLASH[kind]}(bytes32,{_HEADER[kind]},{_HEADER[kind]},bytes,bytes)"
    (first, first_signature), (second, second_signature) = evidence.signed_headers(shown)
    signatures = bytearray(first_signature), bytearray(second_signature)
    return _SELECTORS[name] + encode(network, tuple(first), tuple(second), *signatures)


def is_same_request(first: bytes, second: bytes) -> bool:
    """Whether two calls ask for the same. What the moment of asking adds does not count: when a
    lock ends, the number that a key's consent is for, with which era a reveal chain begins."""
    if first[:4] != second[:4]:
        return False
    if first[:4] == _SELECTORS["stand(bytes32,address,bytes32,uint64)"]:
        both_stand = any(first[68:100]) == any(second[68:100])
        return both_stand and first[4:68] == second[4:68]
    if first[:4] == _BIND and _bitcoin_key(first) != _bitcoin_key(second):
        return False
    if first[:4] == _SELECTORS["bond(uint128,uint64)"]:
        return first[4:36] == second[4:36]
    if first[:4] == _BIND:  # key, peer and Bitcoin key; the consents come last
        consent = 4 + int.from_bytes(first[100:132], "big")
        return first[:consent] == second[:consent]
    return first == second


def _bitcoin_key(bind: bytes) -> bytes:
    """Of a call that ``bind_call`` made."""
    start = 4 + int.from_bytes(bind[68:100], "big")
    size = int.from_bytes(bind[start : start + 32], "big")
    return bind[start + 32 : start + 32 + size]


def owner_of_call(key: Address) -> bytes:
    return _SELECTORS["ownerOf(address)"] + encode(key)


def convicted_call(key: Address) -> bytes:
    return _SELECTORS["convicted(address)"] + encode(key)


def nonce_call(owner: Address) -> bytes:
    return _SELECTORS["nonces(address)"] + encode(owner)


def bond_of_call(owner: Address) -> bytes:
    return _SELECTORS["bonds(address)"] + encode(owner)


def read_address(answer: bytes) -> Address:
    """Raises ``MalformedError``."""
    if len(answer) != 32 or any(answer[:12]):
        raise MalformedError("the registry's answer is no address")
    return Address(answer[12:])


def read_number(answer: bytes) -> int:
    """Also a truth: 0 or 1. Raises ``MalformedError``."""
    if len(answer) != 32:
        raise MalformedError("the registry's answer is no number")
    return int.from_bytes(answer, "big")


def refusal(reason: bytes) -> str | None:
    """Why the contract refuses a call, in words; None if it gives no reason of its own."""
    if reason[:4] == _STILL_LOCKED and len(reason) == 36:
        return f"locked until {show_time(int.from_bytes(reason[4:], 'big'))}"
    return _REFUSALS.get(reason[:4])


def read_bond(answer: bytes) -> BondState:
    """Raises ``MalformedError``."""
    if len(answer) != 128:
        raise MalformedError("the registry's answer is no bond")
    amount, until_s, unbonding, at_s = (
        int.from_bytes(answer[start : start + 32], "big") for start in range(0, 128, 32)
    )
    return BondState(Amount(amount), until_s, Amount(unbonding), at_s)
