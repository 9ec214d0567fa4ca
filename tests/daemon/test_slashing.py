"""Proofs of cheating find their way to a real registry, once, whatever happens on it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chains")]

from evm_chains import CHAIN, NUMBER, anvil, config, rpc
from test_node import MARKET, Party, genesis_of

from orrange_p2p.chains.evm import registry
from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.core import entries, evidence, ticks
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import ZERO32, Amount, Digest, Epoch, Era, Round, Seq, TimeMs
from orrange_p2p.core.operations import CancelAll, Evidence
from orrange_p2p.core.ticks import Applied, TickBody
from orrange_p2p.daemon.slashing import Slashing
from orrange_p2p.devnet.bank import Bank, open_bank
from orrange_p2p.devnet.bonds import Bonds
from orrange_p2p.devnet.chains import DevChain
from orrange_p2p.devnet.contracts import QUOTE, REGISTRY, SETTLEMENT
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.intents_memory import MemoryIntents

OWNER, CHEAT, ANNE, BERT = (MemorySigner(bytes([n]) * 32) for n in (61, 62, 63, 64))
BOND = Amount(1_000 * 10**QUOTE.decimals)
SHARE = BOND // 10


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turns: this chain makes a block for each transaction, and none besides."""
    monkeypatch.setattr("orrange_p2p.daemon.slashing.TURNS", 1)
    monkeypatch.setattr("orrange_p2p.daemon.slashing.TRY_AGAIN_S", 0.1)


def network() -> Genesis:
    made = genesis_of([Party(n) for n in range(4)])
    return attrs.evolve(made, registry=REGISTRY, settlement=SETTLEMENT)


def fork(genesis: Genesis) -> Evidence:
    """Two entries of one number."""
    sides = []
    for count in (1, 2):
        draft = entries.draft(
            genesis.separator,
            MARKET.id,
            CHEAT.address,
            Seq(3),
            Digest(b"\x07" * 32),
            [CancelAll()] * count,
        )
        sides.append(draft.signed(CHEAT.sign(draft.digest)))
    return evidence.of_fork(*sides)


def equivocation(genesis: Genesis) -> Evidence:
    """Two ticks of one round."""
    sides = []
    for time_ms in (1, 2):
        body = TickBody((), (), TimeMs(time_ms), Applied(Epoch(0), ZERO32), ZERO32)
        draft = ticks.draft(genesis.separator, MARKET.id, Era(2), Round(0), CHEAT.address, body)
        sides.append(draft.signed(CHEAT.sign(draft.digest)))
    return evidence.of_equivocation(*sides)


class World:
    def __init__(self, port: int, genesis: Genesis, bank: Bank, bonds: Bonds) -> None:
        self.port = port
        self.genesis = genesis
        self.bank = bank
        self.bonds = bonds

    async def is_convicted(self) -> bool:
        return any(await self.bank.ask(REGISTRY, registry.convicted_call(CHEAT.address)))

    async def bond(self) -> int:
        return await self.bonds.slashable(OWNER.address)

    async def gained(self, reporter: MemorySigner) -> int:
        return (await self.bank.held(reporter.address))[1]

    async def sent(self, reporter: MemorySigner) -> int:
        return int(
            await rpc(
                self.port, "eth_getTransactionCount", "0x" + reporter.address.hex(), "latest"
            ),
            16,
        )


@asynccontextmanager
async def world(*, is_bound: bool = True) -> AsyncIterator[World]:
    """A registry in which the owner answers for the cheat's key with its bond."""
    genesis = network()
    async with (
        anvil() as port,
        open_bank(DevChain(CHAIN, port), [OWNER, ANNE, BERT]) as bank,
    ):
        await bank.deploy(genesis)
        everybody = [one.address for one in (OWNER, ANNE, BERT)]
        await bank.hand_out(everybody, coins=Amount(10**18), base=Amount(0), quote=Amount(0))
        await bank.hand_out([OWNER.address], coins=Amount(0), base=Amount(0), quote=BOND)
        bonds = Bonds(bank, NUMBER)
        await bonds.bond([OWNER.address], BOND, genesis.start_ms // 1000 + 86_400)
        if is_bound:
            await bonds.bind([(OWNER.address, CHEAT)])
        yield World(port, genesis, bank, bonds)


class Reporter:
    """One node's part, whose intents outlive it."""

    def __init__(self, signer: MemorySigner) -> None:
        self.signer = signer
        self.kept = MemoryIntents()
        self.counters: Counter[str] = Counter()

    @asynccontextmanager
    async def chain(self, at: World) -> AsyncIterator[EvmChain]:
        async with open_evm_chain(config(at.port), self.kept, [self.signer]) as chain:
            yield chain

    async def show(self, at: World, proof: Evidence) -> Slashing:
        """Until the proof is shown, or not worth showing."""
        async with self.chain(at) as chain, trio.open_nursery() as nursery:
            slashing = Slashing(at.genesis, chain, self.signer.address, self.counters)
            nursery.start_soon(slashing.run)
            slashing.note(MARKET.id, [proof])
            for _ in range(1000):
                if not slashing.is_busy:
                    break
                await trio.sleep(0.02)
            assert not slashing.is_busy, slashing.why_not
            nursery.cancel_scope.cancel()
        return slashing


@pytest.mark.parametrize("make", [fork, equivocation])
async def test_the_bond_is_gone_and_the_reporter_has_its_share(
    make: Callable[[Genesis], Evidence],
) -> None:
    async with world() as at:
        anne = Reporter(ANNE)
        await anne.show(at, make(at.genesis))
        assert await at.is_convicted() and await at.bond() == 0
        assert await at.gained(ANNE) == SHARE
        assert anne.counters == {"slashes_sent": 1, "slashes_won": 1}
        # Whoever comes later sends nothing.
        bert = Reporter(BERT)
        await bert.show(at, make(at.genesis))
        assert await at.sent(BERT) == 0 and await at.gained(BERT) == 0


async def test_of_two_at_once_one_wins_and_both_end() -> None:
    async with world() as at:
        reporters = [Reporter(ANNE), Reporter(BERT)]
        async with trio.open_nursery() as nursery:
            for one in reporters:
                nursery.start_soon(one.show, at, fork(at.genesis))
        won = [one.counters["slashes_won"] for one in reporters]
        assert sorted(won) == [0, 1]
        assert sum([await at.gained(one.signer) for one in reporters]) == SHARE
        assert await at.bond() == 0


@pytest.mark.parametrize("blocks_meanwhile", [0, 1])
async def test_a_crash_after_sending_neither_loses_nor_doubles_it(blocks_meanwhile: int) -> None:
    async with world() as at:
        anne, proof = Reporter(ANNE), equivocation(at.genesis)
        await rpc(at.port, "evm_setAutomine", False)
        async with anne.chain(at) as chain, trio.open_nursery() as nursery:
            slashing = Slashing(at.genesis, chain, ANNE.address, anne.counters)
            nursery.start_soon(slashing.run)
            slashing.note(MARKET.id, [proof])
            for _ in range(1000):
                if await chain.status(f"slash {CHEAT.address.hex()}") is not None:
                    break
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        for _ in range(blocks_meanwhile):
            await rpc(at.port, "evm_mine")
        await rpc(at.port, "evm_setAutomine", True)
        await rpc(at.port, "evm_mine")
        await anne.show(at, proof)
        assert anne.counters["slashes_won"] == 1
        assert await at.sent(ANNE) == 1 and await at.gained(ANNE) == SHARE


async def test_nobody_pays_to_convict_a_key_that_nobody_answers_for() -> None:
    async with world(is_bound=False) as at:
        anne = Reporter(ANNE)
        await anne.show(at, fork(at.genesis))
        assert await at.sent(ANNE) == 0 and not anne.counters
        assert await at.bond() == BOND
