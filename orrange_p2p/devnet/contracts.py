"""What lies on a development chain from its beginning: our contracts and two tokens.

The last of the known accounts creates them before it does anything else, so their addresses are
the same on every chain and known before there is one: a network's genesis can name the tokens and
the registry, and `Settlement` is then made for that network (protocol/07-evm-contracts.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from orrange_p2p.chains.evm import artifacts
from orrange_p2p.chains.evm.deployment import (
    created_address,
    registry_code,
    settlement_code,
    test_token_code,
)
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address
from orrange_p2p.devnet.accounts import accounts

__all__ = [
    "BASE",
    "HASH_TIMELOCK",
    "QUOTE",
    "REGISTRY",
    "SETTLEMENT",
    "Contract",
    "TestToken",
    "contracts",
    "deployer",
]


class TestToken(NamedTuple):
    """A token of which anyone can make some."""

    name: str
    symbol: str
    decimals: int
    address: Address

    def asset(self, chain: str) -> str:
        """Its CAIP-19 id on a development chain."""
        return f"{chain}/erc20:0x{self.address.hex()}"


class Contract(NamedTuple):
    """Something to be created, by the deployer's transaction of its place in the list."""

    name: str
    code: bytes
    address: Address


deployer: Final = accounts()[-1]


def _address(place: int) -> Address:
    return created_address(deployer.address, place)


BASE: Final = TestToken("Test bitcoin", "tBTC", 8, _address(0))
QUOTE: Final = TestToken("Test dollar", "tUSD", 18, _address(1))
HASH_TIMELOCK: Final = _address(2)
REGISTRY: Final = _address(4)
"""A proxy; what it stands for is at place 3. Bonds are in ``QUOTE``, governor is the deployer."""
SETTLEMENT: Final = _address(5)


def contracts(network: Genesis | None) -> Sequence[Contract]:
    """All of them, in the order in which they are created; ``Settlement`` is of one network."""
    codes = [
        *((one.symbol, test_token_code(*one[:3])) for one in (BASE, QUOTE)),
        ("HashTimelock", artifacts.load("HashTimelock").bytecode),
        ("RegistryImplementation", artifacts.load("Registry").bytecode),
        ("Registry", registry_code(_address(3), QUOTE.address, deployer.address)),
    ]
    if network is not None:
        codes.append(("Settlement", settlement_code(network)))
    return [Contract(name, code, _address(place)) for place, (name, code) in enumerate(codes)]
