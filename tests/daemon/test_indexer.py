"""Two nodes read one chain, each in its own way, and know the same."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from coincurve import PrivateKey, PublicKey
from eth_account import Account
from eth_account.messages import encode_typed_data

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chains")]

import bitcoin_chains
from evm_chains import CHAIN, NUMBER, Tampered, anvil, chain_on, config, honest, mine, receipt, rpc
from test_node import Party, genesis_of

from orrange_p2p.chains.bitcoin.config import REGTEST
from orrange_p2p.chains.bitcoin.rpc import open_bitcoind
from orrange_p2p.chains.evm import artifacts, registry, settlement
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.core import entries
from orrange_p2p.core.bitcoin_bonds import DEPTH, bond_output, lock_times
from orrange_p2p.core.errors import ConfigError, DisagreementError, ReorganisedError, WorldError
from orrange_p2p.core.genesis import Genesis, Market
from orrange_p2p.core.ids import Address, Amount, Digest, Epoch, Seq, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.operations import CancelAll
from orrange_p2p.core.reputation import Kind
from orrange_p2p.core.swaps.binding import BoundTrade, Consent
from orrange_p2p.crypto import secp256k1
from orrange_p2p.crypto.eip712 import signing_digest
from orrange_p2p.daemon.bond_reader import BondReader
from orrange_p2p.daemon.indexer import Indexer, contracts_of
from orrange_p2p.devnet.bank import UNLIMITED, open_bank
from orrange_p2p.devnet.chains import DevChain
from orrange_p2p.devnet.contracts import BASE, QUOTE, REGISTRY, SETTLEMENT
from orrange_p2p.ports.chain import Intent
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.bonds_sqlite import open_sqlite_bonds
from orrange_p2p.store.history_memory import MemoryBonds, MemoryHistory
from orrange_p2p.store.history_sqlite import open_sqlite_history
from orrange_p2p.store.intents_memory import MemoryIntents

ALICE, BOB, POOR, KEY = (MemorySigner(bytes([n]) * 32) for n in (41, 42, 43, 44))
BITCOIN_POINT = PrivateKey(bytes([45]) * 32).public_key.format(compressed=False)[1:]
WHOLE = 10**18
DAY_S = 86_400
NOBODY = Address(bytes(20))


def genesis() -> Genesis:
    market = Market(BASE.asset(CHAIN), QUOTE.asset(CHAIN), 1, 1, "atomic", "evm", 1, 10**12, 40_000)
    made = genesis_of([Party(n) for n in range(4)], bond_unit=10**12)
    return attrs.evolve(made, registry=REGISTRY, settlement=SETTLEMENT, markets=(market,))


@attrs.frozen
class World:
    """A chain with the network's contracts on it, and traders with tokens."""

    port: int
    genesis: Genesis
    chain: EvmChain

    async def send(self, sender: MemorySigner, to: Address, data: bytes) -> None:
        name = f"{sender.address.hex()} {await rpc(self.port, 'eth_blockNumber')} {data.hex()[:40]}"
        await self.chain.submit(Intent(name, sender.address, to, data, gas_limit=2_000_000))
        done = await self.chain.wait(name, confirmations=1, timeout_s=10)
        assert done.state.name in ("MINED", "FINAL"), done

    async def register(self, sender: MemorySigner, call: str, *values: Any) -> None:
        selector = artifacts.load("Registry").selectors[call]
        await self.send(sender, REGISTRY, selector + encode(*values))

    async def now_s(self) -> int:
        return int((await rpc(self.port, "eth_getBlockByNumber", "latest", False))["timestamp"], 16)

    async def live(self) -> None:
        """Bonds, a key, a trade that settles, one that does not, a fork."""
        year_s = await self.now_s() + 365 * DAY_S
        for sender, amount in ((ALICE, 1000), (BOB, 500), (ALICE, 200)):
            await self.register(sender, "bond(uint128,uint64)", amount * WHOLE, year_s)
        await self.bind(BOB, KEY)
        for seller, lots in ((BOB, 5), (POOR, 3)):
            trade = self.trade(seller, lots)
            await self.send(ALICE, SETTLEMENT, settlement.settle_call([trade]))
        await self.slash(BOB, KEY)

    async def bind(self, owner: MemorySigner, key: MemorySigner) -> None:
        typed = {
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                "Binding": [
                    {"name": "owner", "type": "address"},
                    {"name": "key", "type": "address"},
                    {"name": "peerId", "type": "bytes"},
                    {"name": "bitcoinKey", "type": "bytes"},
                    {"name": "nonce", "type": "uint256"},
                ],
            },
            "primaryType": "Binding",
            "domain": {
                "name": "Orrange Registry",
                "version": "1",
                "chainId": NUMBER,
                "verifyingContract": "0x" + REGISTRY.hex(),
            },
            "message": {
                "owner": "0x" + owner.address.hex(),
                "key": "0x" + key.address.hex(),
                "peerId": b"peer",
                "bitcoinKey": BITCOIN_POINT,
                "nonce": 0,
            },
        }
        consents = [
            bytes(wallet.sign_message(encode_typed_data(full_message=typed)).signature)
            for wallet in (Account.from_key(bytes([n]) * 32) for n in (44, 45))
        ]
        await self.register(
            owner,
            "bind(address,bytes,bytes,bytes,bytes)",
            *(key.address, *map(bytearray, (b"peer", BITCOIN_POINT, *consents))),
        )

    async def bind_on_bitcoin(self, owner: MemorySigner, bitcoin: PrivateKey) -> None:
        """The owner binds itself and a Bitcoin key, and says where its node is."""
        point = bitcoin.public_key.format(compressed=False)[1:]
        terms = (NUMBER, REGISTRY, owner.address, owner.address, b"12D3KooWalice", 0)
        digest = Digest(registry.binding_digest(*terms, point))
        consents = owner.sign(digest), secp256k1.sign(bitcoin, digest)
        call = registry.bind_call(owner.address, b"12D3KooWalice", consents[0], point, consents[1])
        await self.send(owner, REGISTRY, call)

    def trade(self, seller: MemorySigner, lots: int) -> BoundTrade:
        market = self.genesis.markets[0]
        trade = Trade(
            market.id,
            bytes([lots]) * 32,
            ALICE.address,
            seller.address,
            Amount(lots),
            Amount(lots * 100),
            Epoch(1),
            TimeMs(2**62),
        )
        digest = Digest(signing_digest(self.genesis.separator, trade.id))
        sides = [Consent(NOBODY, (), one.sign(digest)) for one in (ALICE, seller)]
        return BoundTrade(trade, ALICE.address, TimeMs(0), *sides)

    async def slash(self, reporter: MemorySigner, key: MemorySigner) -> None:
        market = self.genesis.markets[0].id
        drafts = [
            entries.draft(
                self.genesis.separator,
                market,
                key.address,
                Seq(0),
                Digest(bytes(32)),
                [CancelAll()] * count,
            )
            for count in (1, 2)
        ]
        call = next(s for s in artifacts.load("Registry").selectors if s.startswith("slashFork("))
        await self.register(
            reporter,
            call,
            self.genesis.network_id,
            *(tuple(draft.header) for draft in drafts),
            *(bytearray(key.sign(draft.digest)) for draft in drafts),
        )


@asynccontextmanager
async def world(network: Callable[[int], Genesis] | None = None) -> AsyncIterator[World]:
    """``network``: made for the chain on that port."""
    traders = (ALICE, BOB, POOR)
    async with anvil() as port:
        made = genesis() if network is None else network(port)
        async with open_bank(DevChain(CHAIN, port), traders) as bank:
            await bank.deploy(made)
            addresses = [one.address for one in traders]
            await bank.hand_out(
                addresses, coins=Amount(WHOLE), base=Amount(1000), quote=Amount(5000 * WHOLE)
            )
            await bank.approve(addresses[:2], UNLIMITED)
            await bank.approve(addresses[:2], UNLIMITED, REGISTRY)
        signers = [*traders]
        async with open_evm_chain(config(port), MemoryIntents(), signers) as chain:
            found = World(port, made, chain)
            await found.send(ALICE, SETTLEMENT, settlement.list_call(made.markets[0]))
            await found.live()
            await mine(port, 3)
            yield found


async def digest_of(indexer: Indexer, block: int) -> bytes:
    return (await indexer.standings(block)).digest


async def test_what_the_chain_shows_of_three(tmp_path: Path) -> None:
    async with world() as chain:
        indexer = Indexer(chain.genesis, chain.chain, MemoryHistory())
        with pytest.raises(WorldError, match="not been read"):
            await indexer.standings()
        read_to = await indexer.catch_up()
        found = await indexer.standings()
        assert (found.block, found.hash) == (read_to.block, read_to.hash)
        by_account = {one.account: one for one in found.scores}
        assert set(by_account) == {one.address for one in (ALICE, BOB, POOR)}
        alice = by_account[ALICE.address]
        assert alice.bonds == alice.total == 1200 * 10**6
        assert [term.kind for term in found.terms(ALICE.address)] == [Kind.BOND, Kind.BOND]
        bob = by_account[BOB.address]
        assert (bob.total, bob.bonds) == (0, 0), "its key has forked"
        # 3 lots of base at 100 each, as the trade before: 300 units of 10^-12 are nothing yet.
        assert by_account[POOR.address].total == 0
        counts = await indexer._store.counts()
        assert counts == {"bonded": 3, "bound": 1, "settled": 1, "defaulted": 1, "slashed": 1}
        (binding,) = await indexer._store.bitcoin_bindings()
        assert (binding.subject, binding.other) == (BOB.address, KEY.address)
        assert binding.bitcoin_key == PublicKey(b"\4" + BITCOIN_POINT).format(compressed=True)


async def test_two_nodes_of_other_pages_stores_and_restarts_agree(tmp_path: Path) -> None:
    async with world() as chain:
        steady = Indexer(chain.genesis, chain.chain, MemoryHistory())
        contracts, path = contracts_of(chain.genesis), tmp_path / "events.sqlite"
        for _ in range(50):  # a page of three blocks, then another process
            async with open_sqlite_history(path, CHAIN, contracts) as store:
                if await Indexer(chain.genesis, chain.chain, store, 3).step():
                    break
        first = await steady.catch_up()
        await chain.register(
            ALICE, "bond(uint128,uint64)", WHOLE, await chain.now_s() + 366 * DAY_S
        )
        await mine(chain.port, 3)
        later = await steady.catch_up()
        async with open_sqlite_history(path, CHAIN, contracts) as store:
            halting = Indexer(chain.genesis, chain.chain, store, 2)
            assert await halting.catch_up() == later
            for block in (first.block // 2, first.block, later.block):
                assert await digest_of(halting, block) == await digest_of(steady, block)
            assert await digest_of(halting, first.block) != await digest_of(halting, later.block)


async def test_bonds_on_bitcoin_count_alike_at_two_nodes(tmp_path: Path) -> None:
    def network(port: int) -> Genesis:
        return attrs.evolve(genesis(), bitcoin_bonds=REGTEST, bitcoin_rate_numerator=600)

    async with (
        bitcoin_chains.kernel() as node,
        open_bitcoind(bitcoin_chains.config(node)) as backend,
        world(network) as chain,
    ):
        key = PrivateKey(bytes([46]) * 32)
        await chain.bind_on_bitcoin(ALICE, key)
        until_s = lock_times(await chain.now_s())[2]
        output = bond_output(key.public_key.format(compressed=True), until_s)
        await node.fund(output, 2_500_000)
        for _ in range(2):
            await node.pass_time(DAY_S)
            await node.mine(DEPTH)
        await rpc(chain.port, "evm_increaseTime", 2 * DAY_S)
        await mine(chain.port, 5)

        home = MemoryHistory()
        with pytest.raises(ConfigError, match="counts bonds on bip122"):
            Indexer(chain.genesis, chain.chain, home)
        bonds = BondReader(REGTEST, backend, MemoryBonds(), home)
        steady = Indexer(chain.genesis, chain.chain, home, bonds=bonds)
        await steady.catch_up()
        contracts = contracts_of(chain.genesis)
        for _ in range(99):  # a page each of a few blocks, then another process
            async with (
                open_sqlite_history(tmp_path / "events", CHAIN, contracts) as events,
                open_sqlite_bonds(tmp_path / "bonds", REGTEST, contracts) as kept,
            ):
                reader = BondReader(REGTEST, backend, kept, events, 29)
                halting = Indexer(chain.genesis, chain.chain, events, 7, reader)
                is_level = await halting.step()
                if await reader.step() and is_level:
                    found = await halting.standings()
                    break
        assert found == await steady.standings()
        (alice,) = [one for one in found.scores if one.account == ALICE.address]
        left = until_s // DAY_S - found.day
        on_home = 1200 * 10**6 * 363 // 365
        assert alice.bonds == pytest.approx(on_home + 1500 * 10**6 * left // 730, abs=2)
        kinds = [term.kind for term in found.terms(ALICE.address)]
        assert kinds == [Kind.BOND, Kind.BOND, Kind.BITCOIN_BOND]
        assert await steady.scores_of_peers() == {"12D3KooWalice": alice.total}
        # Two days before, the bond was younger than a day.
        early = await steady.standings(found.block - 5)
        assert [one.bonds for one in early.scores if one.account == ALICE.address] == [1200 * 10**6]


async def test_what_is_not_final_is_not_read() -> None:
    async with world() as chain:
        indexer = Indexer(chain.genesis, chain.chain, MemoryHistory())
        before = await indexer.catch_up()
        digest = await digest_of(indexer, before.block)
        snapshot = await rpc(chain.port, "evm_snapshot")
        # Past the adapter, which would see to it that the bond is mined again.
        sender = "0x" + ALICE.address.hex()
        selector = artifacts.load("Registry").selectors["bond(uint128,uint64)"]
        data = selector + encode(WHOLE, await chain.now_s() + 366 * DAY_S)
        call = {"from": sender, "to": "0x" + REGISTRY.hex(), "data": "0x" + data.hex()}
        await rpc(chain.port, "anvil_impersonateAccount", sender)
        sent = await rpc(chain.port, "eth_sendTransaction", call)
        assert (await receipt(chain.port, sent))["status"] == "0x1"
        await indexer.catch_up()
        await rpc(chain.port, "evm_revert", snapshot)
        await mine(chain.port, 5)
        assert (await indexer.catch_up()).block > before.block
        assert (await indexer._store.counts())["bonded"] == 3
        found = await indexer.standings()
        assert [one.bonds for one in found.scores if one.account == ALICE.address] == [1200 * 10**6]
        assert await digest_of(indexer, before.block) == digest


async def test_a_final_block_that_was_replaced_ends_it() -> None:
    async with world() as chain:
        store = MemoryHistory()
        snapshot = await rpc(chain.port, "evm_snapshot")
        await mine(chain.port, 5)
        await Indexer(chain.genesis, chain.chain, store).catch_up()
        await rpc(chain.port, "evm_revert", snapshot)
        await rpc(chain.port, "evm_increaseTime", 100)
        await mine(chain.port, 9)
        async with chain_on(chain.port) as again:
            indexer = Indexer(chain.genesis, again, store)
            with pytest.raises(ReorganisedError, match="remove the file"):
                await indexer.catch_up()
            await indexer.run()
            assert "is another one now" in str(indexer.why_not)


async def test_an_endpoint_that_leaves_out_an_event_is_outvoted() -> None:
    def forgets(method: str, params: list[Any], answer: Any) -> Any:
        return answer[:-1] if method == "eth_getLogs" and answer else answer

    async with world() as chain:
        liar = Tampered(chain.port, forgets)
        endpoints = [liar, Tampered(chain.port, honest), Tampered(chain.port, honest)]
        async with chain_on(endpoints=list(endpoints)) as seen:
            indexer = Indexer(chain.genesis, seen, MemoryHistory())
            await indexer.catch_up()
            assert (await indexer._store.counts())["slashed"] == 1
            (alarm,) = seen.alarms()
            assert liar.url in alarm and "eth_getLogs" in alarm
        async with chain_on(endpoints=list(endpoints[:2])) as seen:
            with pytest.raises(DisagreementError):
                await Indexer(chain.genesis, seen, MemoryHistory()).catch_up()
