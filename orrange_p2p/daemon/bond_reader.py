"""Reading Bitcoin: every bond of the keys that were bound in the registry, block by block
(protocol/13-bitcoin-bonds.md).

A block is read once it is deep, and once the home chain was read to some hours after its time: then
it is known which keys were bound in time. So what is kept depends on the two chains alone, however
often a node restarted, and no reorganisation above that depth changes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
import trio

from orrange_p2p.chains.bitcoin.backend import Backend, Header
from orrange_p2p.chains.bitcoin.rpc import open_bitcoind
from orrange_p2p.core.bitcoin_bonds import BIND_WITHIN_S, DEPTH, MARGIN_S, BitcoinBond, Watch
from orrange_p2p.core.errors import (
    DeadlineError,
    MalformedError,
    RefusedError,
    ReorganisedError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.daemon.config import NodeConfig
from orrange_p2p.ports.history import BondStore, HistoryStore, ReadTo

__all__ = ["BondReader", "open_bond_reader"]

PAGE_BLOCKS: Final = 36
"""A page of mainnet's blocks is read in some ten seconds."""
LOOK_S: Final = 2.0
TRY_AGAIN_S: Final = 5.0
TELL_S: Final = 10.0
"""How often is told how far it got, while there is much to read."""

log = structlog.get_logger()


class BondReader:
    """Of one Bitcoin chain, by one node that is believed: our own."""

    def __init__(
        self,
        chain: str,
        backend: Backend,
        store: BondStore,
        home: HistoryStore,
        page_blocks: int = PAGE_BLOCKS,
    ) -> None:
        """``home``: the events of the home chain, as they are read."""
        self.chain = chain
        self._backend = backend
        self._store = store
        self._home = home
        self._page_blocks = page_blocks
        self._watch = Watch()
        self._is_right_chain = False
        self.why_not: str | None = None
        """What keeps it from going on, in words."""
        self.read_to: ReadTo | None = None
        self._next_s: int | None = None
        """The time of the deep block after that, if the home chain has to be read further first."""

    async def run(self) -> None:
        """Follow the chain until cancelled. Ends, with an alarm, if a deep block was replaced."""
        told = trio.current_time()
        while True:
            try:
                is_level = await self.step()
                self.why_not = None
            except ReorganisedError as error:
                self.why_not = str(error)
                log.error("reading of bonds ends", reason=self.why_not)
                return
            except (DeadlineError, MalformedError, RefusedError, UnreachableError) as error:
                self.why_not = str(error)
                await trio.sleep(TRY_AGAIN_S)
                continue
            if is_level:
                await trio.sleep(LOOK_S)
            elif self.read_to is not None and trio.current_time() > told + TELL_S:
                told = trio.current_time()
                log.info("reading bonds", chain=self.chain, height=self.read_to.block)

    async def catch_up(self) -> None:
        """Read as far as there is something to read. Errors as ``step``'s."""
        while not await self.step():
            pass

    async def step(self) -> bool:
        """Read one page; whether there is no more for now.

        Raises ``ReorganisedError`` if a block that was read is another one now, and as the backend
        does.
        """
        await self._check_chain()
        home = await self._home.read_to()
        bindings = await self._home.bitcoin_bindings()
        if home is None or not bindings:
            return True
        best = await self._backend.best()
        deepest = best.height - DEPTH + 1
        last = self.read_to or await self._store.read_to()
        self.read_to = last
        if last is not None:
            if best.height < last.block:
                return True  # the node lags behind what was read before
            if await self._backend.hash_at(last.block) != last.hash:
                raise ReorganisedError(
                    f"block {last.block} of {self.chain} was {DEPTH} blocks deep and is another "
                    "one now: find out what happened to the chain; then remove the file of its "
                    "bonds, and they are read anew"
                )
        if last is None:
            # What was paid long before a key was bound does not count.
            first = await self._first_after(bindings[0].time_s - BIND_WITHIN_S, deepest)
        else:
            first = last.block + 1
        end = min(first + self._page_blocks - 1, deepest)
        for binding in bindings:
            self._watch.add(binding.bitcoin_key, binding.time_s)
        found: list[BitcoinBond] = []
        read_to, self._next_s = last, None
        for height in range(first, end + 1):
            header = await self._header(height)
            if read_to is not None and header.parent != read_to.hash:
                raise UnreachableError("blocks were replaced while they were read")
            if header.median_s + BIND_WITHIN_S > home.time_s:
                end, self._next_s = deepest, header.median_s
                break
            block = await self._backend.encoded_block(header.hash)
            where = (self.chain, height, header.median_s)
            found += await trio.to_thread.run_sync(self._watch.find, *where, block)
            read_to = ReadTo(height, header.hash, header.median_s)
        if read_to is not None and read_to != last:
            await self._store.append(found, read_to)
            self.read_to = read_to
        return end == deepest or first > deepest

    async def bonds(self, time_s: int) -> Sequence[BitcoinBond]:
        """All that were read, those among them that count at a block of the home chain stamped so.
        Raises ``WorldError`` while the chain was not read so far."""
        until_s = time_s - MARGIN_S
        bindings = await self._home.bitcoin_bindings()
        if bindings and bindings[0].time_s < until_s + BIND_WITHIN_S:
            last = self.read_to or await self._store.read_to()
            is_read = last is not None and last.time_s > until_s
            if not is_read and (self._next_s is None or self._next_s <= until_s):
                reason = f": {self.why_not}" if self.why_not else ""
                raise WorldError(f"bonds on {self.chain} have not been read so far yet{reason}")
        return await self._store.bonds()

    async def _header(self, height: int) -> Header:
        block_hash = await self._backend.hash_at(height)
        header = None if block_hash is None else await self._backend.header(block_hash)
        if header is None or header.height != height:
            raise UnreachableError("blocks were replaced while they were read")
        return header

    async def _first_after(self, time_s: int, deepest: int) -> int:
        """The first height of a later time; one above ``deepest`` if there is none yet."""
        low, high = 0, max(0, deepest + 1)
        while low < high:
            middle = (low + high) // 2
            if (await self._header(middle)).median_s <= time_s:
                low = middle + 1
            else:
                high = middle
        return low

    async def _check_chain(self) -> None:
        """CAIP-2 names a chain by its first block."""
        if self._is_right_chain:
            return
        first = await self._backend.hash_at(0)
        if first is None or first[::-1].hex()[:32] != self.chain.partition(":")[2]:
            raise RefusedError(f"the node's chain is another one than {self.chain}")
        self._is_right_chain = True


@asynccontextmanager
async def open_bond_reader(
    config: NodeConfig,
    genesis: Genesis,
    store: BondStore,
    home: HistoryStore,
    page_blocks: int = PAGE_BLOCKS,
) -> AsyncIterator[BondReader | None]:
    """A reader for as long as the block lasts; None where no bonds on Bitcoin count, or this node
    does not know their chain. A node that is down now may be up later."""
    chain = genesis.bitcoin_bonds
    found = next((one for one in config.bitcoin_chains if one.chain == chain), None)
    if found is None:
        yield None
        return
    async with open_bitcoind(found) as backend:
        yield BondReader(chain, backend, store, home, page_blocks)
