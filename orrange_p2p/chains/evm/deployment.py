"""Where a contract comes to lie, and the code that puts ours there."""

from __future__ import annotations

from typing import Final

from orrange_p2p.chains.evm import artifacts
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.chains.evm.transactions import rlp
from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address
from orrange_p2p.crypto.hashes import keccak256

__all__ = ["created_address", "registry_code", "settlement_code", "test_token_code"]

_NOBODY: Final = Address(bytes(20))


def created_address(sender: Address, nonce: int) -> Address:
    """Of the contract that a sender's transaction of that nonce creates, whatever its code is."""
    return Address(keccak256(rlp([sender, nonce]))[12:])


def settlement_code(genesis: Genesis) -> bytes:
    """Creates the ``Settlement`` of a network. It takes no fee."""
    network = (evm_chain_id(genesis.home_chain), genesis.registry, genesis.network_id)
    return artifacts.load("Settlement").bytecode + encode(*network, 0, 0, _NOBODY)


def registry_code(implementation: Address, bond_token: Address, governor: Address) -> bytes:
    """Creates the proxy that a network's genesis names as its registry."""
    initialize = artifacts.load("Registry").selectors["initialize(address,address)"]
    arguments = bytearray(initialize + encode(bond_token, governor))
    return artifacts.load("ERC1967Proxy").bytecode + encode(implementation, arguments)


def test_token_code(name: str, symbol: str, decimals: int) -> bytes:
    """Creates a token of which anyone can make some."""
    texts = bytearray(name.encode()), bytearray(symbol.encode())
    return artifacts.load("TestToken").bytecode + encode(*texts, decimals)
