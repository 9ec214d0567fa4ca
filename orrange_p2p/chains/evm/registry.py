"""The ``Registry`` contract: what it is told and asked (protocol/07-evm-contracts.md). Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.chains.evm import artifacts
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.core import evidence
from orrange_p2p.core.errors import MalformedError
from orrange_p2p.core.ids import Address, Amount, Era, MarketId, NetworkId
from orrange_p2p.core.operations import Evidence, EvidenceKind
from orrange_p2p.crypto.eip712 import StructType
from orrange_p2p.crypto.hashes import keccak256

__all__ = [
    "REPORTER_PERCENT",
    "BondState",
    "allocate_call",
    "bind_call",
    "binding_digest",
    "bond_call",
    "bond_of_call",
    "convicted_call",
    "owner_of_call",
    "read_address",
    "read_bond",
    "slash_call",
    "stand_call",
]

REPORTER_PERCENT: Final = 10
"""Of a slashed bond, for whoever shows why."""
_SELECTORS: Final = artifacts.load("Registry").selectors
_DOMAIN: Final = StructType(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
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


def bind_call(
    key: Address,
    peer_id: bytes,
    consent: bytes,
    bitcoin_key: bytes = b"",
    bitcoin_consent: bytes = b"",
) -> bytes:
    """``consent``: the key's signature over ``binding_digest``, and if there is one the Bitcoin
    key's, whose x and y are given in 64 bytes."""
    return _SELECTORS["bind(address,bytes,bytes,bytes,bytes)"] + encode(
        key, *map(bytearray, (peer_id, bitcoin_key, consent, bitcoin_consent))
    )


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


def owner_of_call(key: Address) -> bytes:
    return _SELECTORS["ownerOf(address)"] + encode(key)


def convicted_call(key: Address) -> bytes:
    return _SELECTORS["convicted(address)"] + encode(key)


def bond_of_call(owner: Address) -> bytes:
    return _SELECTORS["bonds(address)"] + encode(owner)


def read_address(answer: bytes) -> Address:
    """Raises ``MalformedError``."""
    if len(answer) != 32 or any(answer[:12]):
        raise MalformedError("the registry's answer is no address")
    return Address(answer[12:])


def read_bond(answer: bytes) -> BondState:
    """Raises ``MalformedError``."""
    if len(answer) != 128:
        raise MalformedError("the registry's answer is no bond")
    amount, until_s, unbonding, at_s = (
        int.from_bytes(answer[start : start + 32], "big") for start in range(0, 128, 32)
    )
    return BondState(Amount(amount), until_s, Amount(unbonding), at_s)
