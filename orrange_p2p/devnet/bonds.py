"""Owners on a development chain who bond, and say what for: by their own keys, at their cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from orrange_p2p.chains.evm import registry
from orrange_p2p.core.ids import Address, Amount, Digest, Era, MarketId
from orrange_p2p.devnet.bank import UNLIMITED, Bank
from orrange_p2p.devnet.contracts import REGISTRY
from orrange_p2p.ports import Signer
from orrange_p2p.ports.chain import Intent

__all__ = ["Bonds", "Candidacy"]

_GAS: Final = 300_000
"""More than any call below takes."""


class Candidacy(NamedTuple):
    """An owner's key that stands for witness."""

    owner: Address
    market: MarketId
    key: Address
    anchor: bytes
    since: Era


class Bonds:
    """The registry of one development chain. Each call is in a block on return, and raises
    ``WorldError`` if the contract refuses it."""

    def __init__(self, bank: Bank, chain_number: int) -> None:
        """``bank``: has the owners' keys."""
        self._bank = bank
        self._chain_number = chain_number
        self._nonces: Counter[Address] = Counter()

    async def bond(self, owners: Sequence[Address], amount: Amount, until_s: int) -> None:
        """Each bonds so many smallest units of the bond's token, locked until then."""
        await self._bank.approve(owners, UNLIMITED, REGISTRY)
        data = registry.bond_call(amount, until_s)
        await self._send((owner, data) for owner in owners)

    async def bind(self, keys: Iterable[tuple[Address, Signer]]) -> None:
        """Each owner answers for a key from now on."""
        await self._send([(owner, self._binding(owner, key)) for owner, key in keys])

    def _binding(self, owner: Address, key: Signer) -> bytes:
        nonce = self._nonces[owner]
        self._nonces[owner] += 1
        digest = registry.binding_digest(
            self._chain_number, REGISTRY, owner, key.address, b"", nonce
        )
        return registry.bind_call(key.address, b"", key.sign(Digest(digest)))

    async def allocate(self, said: Iterable[tuple[Address, MarketId, Address, Amount]]) -> None:
        """(owner, market, key, amount): so much of the owner's bond backs the key there."""
        await self._send(
            (owner, registry.allocate_call(market, key, amount))
            for owner, market, key, amount in said
        )

    async def stand(self, candidacies: Iterable[Candidacy]) -> None:
        await self._send((one.owner, registry.stand_call(*one[1:])) for one in candidacies)

    async def slashable(self, owner: Address) -> Amount:
        """What the owner can lose, in smallest units."""
        answer = await self._bank.ask(REGISTRY, registry.bond_of_call(owner))
        return registry.read_bond(answer).slashable

    async def _send(self, calls: Iterable[tuple[Address, bytes]]) -> None:
        await self._bank.send(
            Intent("", owner, REGISTRY, data, gas_limit=_GAS) for owner, data in calls
        )
