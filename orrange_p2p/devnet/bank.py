"""Whoever sets up a development chain: creates its contracts, hands out what lies there, counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from orrange_p2p.chains.evm import artifacts, erc20
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.chains.evm.config import EvmConfig
from orrange_p2p.chains.evm.http import HttpEndpoint, open_http_endpoint
from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.devnet.chains import DevChain
from orrange_p2p.devnet.contracts import BASE, QUOTE, SETTLEMENT, TestToken, contracts, deployer
from orrange_p2p.ports import Signer
from orrange_p2p.ports.chain import Intent
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.intents_memory import MemoryIntents

__all__ = ["UNLIMITED", "Bank", "open_bank"]

UNLIMITED: Final = Amount((1 << 256) - 1)
"""An allowance that never ends."""
_TIMEOUT_S: Final = 60.0
_GAS: Final = 100_000
"""More than any call below takes. Estimates are slow: they execute a call again and again."""


class Bank:
    """Of one development chain. Made by ``open_bank``."""

    def __init__(self, chain: EvmChain, miner: HttpEndpoint) -> None:
        self._chain = chain
        self._miner = miner
        self._count = 0

    async def deploy(self, network: Genesis | None) -> dict[str, Address]:
        """Create the contracts, ``Settlement`` for this network; where they are, by name.

        Works once on a chain, and only if the deployer has sent nothing there before.
        """
        wanted = contracts(network)
        await self.send(
            Intent("", deployer.address, None, code, gas_limit=500_000 + 250 * len(code))
            for _, code, _ in wanted
        )
        return {name: address for name, _, address in wanted}

    async def hand_out(
        self, owners: Sequence[Address], *, coins: Amount, base: Amount, quote: Amount
    ) -> None:
        """Give each so many coins and so much of both tokens."""
        mint = artifacts.load("TestToken").selectors["mint(address,uint256)"]
        await self.send(
            intent
            for owner in owners
            for intent in (
                Intent("", deployer.address, owner, value=coins, gas_limit=_GAS),
                _call(deployer.address, BASE, mint + encode(owner, base)),
                _call(deployer.address, QUOTE, mint + encode(owner, quote)),
            )
        )

    async def approve(
        self, owners: Sequence[Address], amount: Amount, spender: Address = SETTLEMENT
    ) -> None:
        """Let a contract move so much of both tokens; by the owners' keys, at their cost."""
        data = erc20.approve_call(spender, amount)
        await self.send(_call(owner, token, data) for owner in owners for token in (BASE, QUOTE))

    async def held(self, owner: Address) -> tuple[Amount, Amount]:
        """How much of the two tokens."""
        call = erc20.balance_call(owner)
        base = await self._chain.call(BASE.address, call)
        quote = await self._chain.call(QUOTE.address, call)
        return erc20.read_amount(base), erc20.read_amount(quote)

    async def ask(self, contract: Address, data: bytes) -> bytes:
        """What a contract answers to a call now."""
        return await self._chain.call(contract, data)

    async def send(self, intents: Iterable[Intent]) -> None:
        """All in one block, if they fit, whatever time the chain lets pass between blocks; their
        names are chosen here. Raises ``WorldError`` if the chain refuses one."""
        names = []
        for intent in intents:
            self._count += 1
            names.append(f"bank {self._count}")
            await self._chain.submit(intent._replace(name=names[-1]))
        await self._miner.request("evm_mine", [])
        for name in names:
            status = await self._chain.wait(name, confirmations=1, timeout_s=_TIMEOUT_S)
            if status.reverted:
                raise WorldError(f"{self._chain.chain_id} refuses what it is set up with")


def _call(sender: Address, token: TestToken, data: bytes) -> Intent:
    return Intent("", sender, token.address, data, gas_limit=_GAS)


@asynccontextmanager
async def open_bank(chain: DevChain, owners: Sequence[Signer] = ()) -> AsyncIterator[Bank]:
    """``owners``: those who approve by it. It has the deployer's key by itself."""
    signers = [MemorySigner(deployer.secret), *owners]
    config = EvmConfig(chain.chain, (chain.websocket,), poll_interval_ms=100)
    async with (
        open_evm_chain(config, MemoryIntents(), signers) as opened,
        open_http_endpoint(chain.http, _TIMEOUT_S) as miner,
    ):
        yield Bank(opened, miner)
