"""Nodes read bonds off a Bitcoin chain, each in its own way, and know the same."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from coincurve import PrivateKey

sys.path += [str(Path(__file__).parents[1] / name) for name in ("chains", "core")]

from bitcoin_chains import KernelNode, config, kernel
from network import make_genesis

from orrange_p2p.chains.bitcoin.backend import Backend
from orrange_p2p.chains.bitcoin.config import REGTEST
from orrange_p2p.chains.bitcoin.rpc import open_bitcoind
from orrange_p2p.core.bitcoin_bonds import (
    BIND_WITHIN_S,
    DEPTH,
    MARGIN_S,
    MIN_BOND_SATS,
    BitcoinBond,
    bond_output,
    known_at,
    lock_times,
)
from orrange_p2p.core.errors import ConfigError, RefusedError, ReorganisedError, WorldError
from orrange_p2p.core.histories import ChainEvent, EventKind
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Place
from orrange_p2p.daemon.bond_reader import BondReader
from orrange_p2p.daemon.chain_config import parse_chains
from orrange_p2p.daemon.chains import NodeChain
from orrange_p2p.daemon.config import DataDir, NodeConfig
from orrange_p2p.daemon.serve import open_indexer
from orrange_p2p.ports.history import BondStore, ReadTo
from orrange_p2p.store.bonds_sqlite import open_sqlite_bonds
from orrange_p2p.store.history_memory import MemoryBonds, MemoryHistory

HOME = "eip155:31337"
ALICE, BOB = (Address(bytes([n]) * 20) for n in (1, 2))
KEYS = [PrivateKey(bytes([n]) * 32).public_key.format(compressed=True) for n in (51, 52, 53)]
DAY_S = 86_400


@attrs.frozen
class World:
    """A Bitcoin chain, and what the home chain was read to."""

    node: KernelNode
    backend: Backend
    home: MemoryHistory
    begin_s: int
    """The Bitcoin chain's time when the test began."""

    async def bind(self, *keys: bytes, at_s: int, owner: Address = ALICE) -> None:
        last = await self.home.read_to()
        block = 0 if last is None else last.block + 1
        events = [
            ChainEvent(Place(HOME, block, log), EventKind.BOUND, at_s, owner, bitcoin_key=key)
            for log, key in enumerate(keys)
        ]
        await self.home.append(events, ReadTo(block, bytes(32), at_s))

    async def lock(self, key: bytes, sats: int = MIN_BOND_SATS, month: int = 3) -> None:
        await self.node.fund(bond_output(key, lock_times(self.begin_s)[month]), sats)

    async def live_for(self, seconds: int, blocks: int = DEPTH) -> None:
        await self.node.pass_time(seconds)
        await self.node.mine(blocks)

    def reader(self, store: BondStore | None = None, page_blocks: int = 36) -> BondReader:
        return BondReader(REGTEST, self.backend, store or MemoryBonds(), self.home, page_blocks)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with kernel() as node, open_bitcoind(config(node)) as backend:
        begin_s = (await backend.best()).median_s
        yield World(node, backend, MemoryHistory(), begin_s)


async def bonds_of(reader: BondReader, time_s: int) -> list[BitcoinBond]:
    """Those that count at a block of the home chain stamped so."""
    await reader.catch_up()
    return known_at(await reader.bonds(time_s), time_s)


async def test_a_bond_counts_a_day_after_it_was_paid() -> None:
    async with world() as chain:
        await chain.bind(KEYS[0], at_s=chain.begin_s - 60)
        await chain.lock(KEYS[0], 250_000)
        await chain.lock(KEYS[1], 250_000)  # nobody's
        await chain.live_for(2 * DAY_S)
        now_s = chain.begin_s + 2 * DAY_S
        await chain.bind(at_s=now_s)
        reader = chain.reader()
        (bond,) = await bonds_of(reader, now_s)
        assert (bond.key, bond.sats) == (KEYS[0], 250_000)
        assert bond.locked_until_s == lock_times(chain.begin_s)[3]
        # What its place says is where it is.
        block_hash = await chain.backend.hash_at(bond.place.block)
        assert block_hash is not None
        outputs = [
            output
            for tx in (await chain.backend.block(block_hash)).transactions
            for output in tx.outputs
        ]
        assert outputs[bond.place.log].script == bond_output(bond.key, bond.locked_until_s)
        assert await bonds_of(reader, bond.time_s + MARGIN_S) == [bond]
        assert await bonds_of(reader, bond.time_s + MARGIN_S - 1) == []


async def test_a_key_that_is_bound_hours_later_is_in_time_and_after_that_not() -> None:
    async with world() as chain:
        for key in KEYS:
            await chain.lock(key)
        paid_s = (await chain.backend.best()).median_s
        await chain.bind(KEYS[0], at_s=paid_s - 60 + BIND_WITHIN_S)
        await chain.bind(KEYS[1], at_s=paid_s + 60 + BIND_WITHIN_S)
        await chain.live_for(2 * DAY_S)
        await chain.bind(KEYS[2], at_s=chain.begin_s + 2 * DAY_S)
        found = await bonds_of(chain.reader(), chain.begin_s + 2 * DAY_S)
        assert [one.key for one in found] == [KEYS[0]]


async def test_nothing_is_certain_before_both_chains_were_read_so_far() -> None:
    async with world() as chain:
        reader = chain.reader()
        now_s = chain.begin_s + 2 * DAY_S
        assert await bonds_of(reader, now_s) == [], "no key is bound: Bitcoin is not even read"
        assert reader.read_to is None
        await chain.bind(KEYS[0], at_s=chain.begin_s - 60)
        await chain.lock(KEYS[0])
        await chain.live_for(2 * DAY_S, blocks=DEPTH - 10)
        await chain.bind(at_s=now_s)
        with pytest.raises(WorldError, match="not been read so far yet"):
            await bonds_of(reader, now_s)
        # Now a block of the second day is deep. It is not read before the home chain was read to
        # some hours after it, but it shows where the first day's blocks end.
        await chain.node.mine(DEPTH)
        assert len(await bonds_of(reader, now_s)) == 1
        assert reader.read_to is not None and reader.read_to.time_s < now_s - MARGIN_S
        await chain.bind(at_s=now_s + DAY_S)
        await reader.catch_up()
        assert reader.read_to is not None
        assert reader.read_to.block == (await chain.backend.best()).height - DEPTH + 1


async def test_readers_of_other_pages_stores_and_restarts_agree(tmp_path: Path) -> None:
    async with world() as chain:
        await chain.bind(KEYS[0], at_s=chain.begin_s - 60)
        for month in range(4):
            await chain.lock(KEYS[month % 2], MIN_BOND_SATS + month, month)
            await chain.live_for(DAY_S, blocks=5)
            if month == 1:
                await chain.bind(KEYS[1], at_s=chain.begin_s + 2 * DAY_S, owner=BOB)
        await chain.live_for(DAY_S)
        now_s = chain.begin_s + 5 * DAY_S
        await chain.bind(at_s=now_s)
        steady = await bonds_of(chain.reader(), now_s)
        assert [one.sats - MIN_BOND_SATS for one in steady] == [0, 2, 3]
        path = tmp_path / "bonds.sqlite"
        for _ in range(50):  # a page of five blocks, then another process
            async with open_sqlite_bonds(path, REGTEST, b"contracts") as store:
                if await chain.reader(store, 5).step():
                    break
        async with open_sqlite_bonds(path, REGTEST, b"contracts") as store:
            assert await bonds_of(chain.reader(store, 7), now_s) == steady


async def test_blocks_that_are_replaced_above_the_depth_change_nothing() -> None:
    async with world() as chain:
        await chain.bind(KEYS[0], at_s=chain.begin_s - 60)
        await chain.lock(KEYS[0])
        await chain.live_for(2 * DAY_S)
        now_s = chain.begin_s + 2 * DAY_S
        await chain.bind(at_s=now_s)
        reader = chain.reader()
        before = await bonds_of(reader, now_s)
        # A bond in a block that is not deep yet is not read, and never was there.
        await chain.lock(KEYS[0], 777_777)
        await chain.node.reorganise(DEPTH - 1)
        await reader.catch_up()
        await chain.live_for(60, 2 * DEPTH)
        await chain.bind(at_s=now_s + 2 * DAY_S)
        assert await bonds_of(reader, now_s) == before
        assert await bonds_of(chain.reader(), now_s) == before


async def test_a_deep_block_that_was_replaced_ends_it() -> None:
    async with world() as chain:
        await chain.bind(KEYS[0], at_s=chain.begin_s - 60)
        await chain.live_for(2 * DAY_S)
        await chain.bind(at_s=chain.begin_s + 3 * DAY_S)
        reader = chain.reader()
        await reader.catch_up()
        await chain.node.reorganise(DEPTH + 1)
        await reader.catch_up()
        await chain.node.mine(2 * DEPTH)
        with pytest.raises(ReorganisedError, match="remove the file"):
            await reader.catch_up()
        await reader.run()
        assert "is another one now" in str(reader.why_not)


async def test_another_chain_than_the_networks_is_refused() -> None:
    async with world() as chain:
        mainnet = "bip122:000000000019d6689c085ae165831e93"
        reader = BondReader(mainnet, chain.backend, MemoryBonds(), chain.home)
        with pytest.raises(RefusedError, match="another one than"):
            await reader.step()


async def test_a_node_without_the_chain_of_bonds_knows_no_scores(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    without = NodeConfig(directory)
    plain = make_genesis(4, registry=Address(b"\x0e" * 20), bond_unit=10)
    counting = attrs.evolve(plain, bitcoin_bonds=REGTEST)
    home: Any = {plain.home_chain: NodeChain(None, None)}  # type: ignore[arg-type]
    async with open_indexer(without, plain, home) as indexer:
        assert indexer is not None and indexer.bonds is None
    directory.history.unlink()
    async with open_indexer(without, counting, home) as indexer:
        assert indexer is None
    # Who is elected it has to know, and does not begin.
    electing = attrs.evolve(
        counting, parameters=attrs.evolve(counting.parameters, elected_witnesses=4)
    )
    with pytest.raises(ConfigError, match=f"counts bonds on {REGTEST}, and this node does not"):
        async with open_indexer(without, electing, home):
            pass
    (chain,) = parse_chains({REGTEST: {"endpoint": "http://127.0.0.1:1"}})
    async with open_indexer(NodeConfig(directory, chains=(chain,)), electing, home) as indexer:
        assert indexer is not None and indexer.bonds is not None
