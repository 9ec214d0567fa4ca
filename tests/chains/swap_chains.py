"""Two parties' legs on one anvil chain with our contracts on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, NamedTuple

import trio
from evm_chains import anvil, config, mine, rpc

from orrange_p2p.chains.evm import erc20
from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.chains.evm.leg import EvmLeg
from orrange_p2p.core.ids import Address, Amount, MatchId
from orrange_p2p.core.swaps.legs import Lock, LockView
from orrange_p2p.devnet.accounts import accounts
from orrange_p2p.devnet.bank import UNLIMITED, open_bank
from orrange_p2p.devnet.chains import DevChain
from orrange_p2p.devnet.contracts import BASE, HASH_TIMELOCK
from orrange_p2p.ports.chain import Intent, IntentStore
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.intents_memory import MemoryIntents

ALICE, BOB = (MemorySigner(one.secret) for one in accounts()[:2])
SECRET = b"\x07" * 32
TRADE = MatchId(b"\x09" * 32)
HELD = Amount(1_000_000)


class Party(NamedTuple):
    chain: EvmChain
    leg: EvmLeg


class Place(NamedTuple):
    """A running chain and the two who swap on it."""

    number: int
    port: int
    alice: Party
    bob: Party

    @property
    def name(self) -> str:
        return f"eip155:{self.number}"

    async def time_s(self) -> int:
        return (await self.alice.leg.now()).time_s

    async def settle_down(self) -> None:
        """Until all that was sent is in a block: anvil takes a transaction, and then mines."""
        with trio.fail_after(10):
            while (await rpc(self.port, "txpool_status"))["pending"] != "0x0":  # noqa: ASYNC110
                await trio.sleep(0.01)

    async def pass_time(self, seconds: int) -> None:
        await self.settle_down()
        await rpc(self.port, "evm_increaseTime", seconds)
        await mine(self.port)

    async def held(self, owner: Address) -> int:
        await self.settle_down()
        answer = await self.alice.chain.call(BASE.address, erc20.balance_call(owner))
        return erc20.read_amount(answer)

    async def lock(self, **changes: Any) -> Lock:
        """Alice's to Bob, for an hour."""
        agreed = Lock(
            self.name,
            BASE.asset(self.name),
            Amount(1000),
            sha256(SECRET).digest(),
            TRADE,
            ALICE.address,
            BOB.address,
            await self.time_s() + 3600,
        )
        return agreed._replace(**changes)

    async def view(self, lock: Lock) -> LockView:
        await self.settle_down()
        return await self.bob.leg.view(lock)


@asynccontextmanager
async def swap_chain(number: int, intents: IntentStore | None = None) -> AsyncIterator[Place]:
    """``intents``: what Alice keeps of her transactions."""
    chain = f"eip155:{number}"
    async with anvil(number) as port:
        async with open_bank(DevChain(chain, port)) as bank:
            await bank.deploy(None)
            owners = [ALICE.address, BOB.address]
            await bank.hand_out(owners, coins=Amount(10**18), base=HELD, quote=HELD)
        async with (
            open_evm_chain(config(port, chain=chain), intents or MemoryIntents(), [ALICE]) as one,
            open_evm_chain(config(port, chain=chain), MemoryIntents(), [BOB]) as other,
        ):
            place = Place(
                number,
                port,
                Party(one, EvmLeg(one, HASH_TIMELOCK, ALICE.address)),
                Party(other, EvmLeg(other, HASH_TIMELOCK, BOB.address)),
            )
            approval = erc20.approve_call(HASH_TIMELOCK, UNLIMITED)
            for party, signer in ((place.alice, ALICE), (place.bob, BOB)):
                intent = Intent("approve", signer.address, BASE.address, approval)
                await party.chain.submit(intent)
                await party.chain.wait("approve", confirmations=1, timeout_s=10)
            yield place
