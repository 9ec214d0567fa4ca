"""The chain that the demo's trades are settled on, and the count of what its traders hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs

from orrange_p2p.cli.ledger import Ledger
from orrange_p2p.core.genesis import Genesis, Market
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.daemon.chain_config import parse_chains
from orrange_p2p.daemon.keys import Keys
from orrange_p2p.daemon.settlement_config import SettlingConfig
from orrange_p2p.devnet.bank import UNLIMITED, Bank, open_bank
from orrange_p2p.devnet.chains import DevChain, open_chains
from orrange_p2p.devnet.contracts import BASE, QUOTE, SETTLEMENT

NUMBER: Final = 31337
BLOCK_TIME_S: Final = 1
"""Blocks have to follow each other, or that of the last trades would never be final."""
GATHER_MS: Final = 1_000
COINS: Final = Amount(100 * 10**18)
BASE_FUNDS: Final = Amount(1_000 * 10**BASE.decimals)
QUOTE_FUNDS: Final = Amount(1_000_000 * 10**QUOTE.decimals)


@attrs.frozen
class Holding:
    """What one trader had before the first trade and has after the last, in smallest units."""

    node: int
    trader: str
    base_before: str
    base_after: str
    quote_before: str
    quote_after: str


class DemoChain:
    """A chain, and from ``fund`` on the traders who trade on it. Made by ``open_demo_chain``."""

    def __init__(self, chain: DevChain) -> None:
        self._chain = chain
        self.config = parse_chains({chain.chain: {"endpoints": [chain.websocket]}})
        """As in ``node.toml``; so are the settlements."""
        self.settlements = (SettlingConfig(chain.chain, SETTLEMENT, gather_ms=GATHER_MS),)

    @property
    def name(self) -> str:
        """CAIP-2."""
        return self._chain.chain

    def market(self, market: Market) -> Market:
        """A market like this one, between the two tokens of this chain."""
        return attrs.evolve(
            market,
            base=BASE.asset(self.name),
            quote=QUOTE.asset(self.name),
            settlement="atomic",
            timing="evm-evm",
        )

    @asynccontextmanager
    async def funded(
        self, genesis: Genesis, keys: Sequence[Keys], defaulter: int | None
    ) -> AsyncIterator[Purses]:
        """Deploy the contracts, give to each trader of each node, and allow ``Settlement`` to move
        it; the first trader of node ``defaulter`` takes that back before it trades."""
        signers = [signer for one in keys for signer in one.traders()]
        owners = [signer.address for signer in signers]
        async with open_bank(self._chain, signers) as bank:
            await bank.deploy(genesis)
            await bank.hand_out(owners, coins=COINS, base=BASE_FUNDS, quote=QUOTE_FUNDS)
            await bank.approve(owners, UNLIMITED)
            if defaulter is not None:
                await bank.approve([keys[defaulter].traders()[0].address], Amount(0))
            nodes = {s.address: n for n, one in enumerate(keys) for s in one.traders()}
            yield Purses(bank, nodes, {owner: await bank.held(owner) for owner in owners})


class Purses:
    """What the traders hold."""

    def __init__(
        self,
        bank: Bank,
        nodes: Mapping[Address, int],
        before: Mapping[Address, tuple[Amount, Amount]],
    ) -> None:
        self._bank = bank
        self._nodes = nodes
        self._before = before

    async def count(self) -> list[Holding]:
        """By node and trader."""
        holdings = []
        for owner, node in self._nodes.items():
            base, quote = await self._bank.held(owner)
            before = self._before[owner]
            amounts = map(str, (before[0], base, before[1], quote))
            holdings.append(Holding(node, f"0x{owner.hex()}", *amounts))
        return holdings


def add_up(holdings: Sequence[Holding], ledger: Ledger) -> bool:
    """Whether each trader holds what it had and its settled trades brought, and nothing was lost
    or came from nowhere."""
    changes = [_change(one) for one in holdings]
    each = all(
        change == ledger.owed(one.trader) for one, change in zip(holdings, changes, strict=True)
    )
    return each and tuple(map(sum, zip(*changes, strict=True))) == (0, 0)


def _change(holding: Holding) -> tuple[int, int]:
    return (
        int(holding.base_after) - int(holding.base_before),
        int(holding.quote_after) - int(holding.quote_before),
    )


@asynccontextmanager
async def open_demo_chain(kind: str) -> AsyncIterator[DemoChain]:
    """A chain of one of ``devnet.chains.KINDS`` for as long as the block lasts."""
    async with open_chains(kind, [NUMBER], first_port=0, block_time_s=BLOCK_TIME_S) as (chain,):
        yield DemoChain(chain)
