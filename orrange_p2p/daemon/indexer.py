"""Reading the home chain: every final event that reputation is made of, page by page.

Only final blocks are read, a page is kept together with how far it goes, and all endpoints have to
say the same of it. So a crash costs at most one page's reading, and no reorganisation, no page size
and no single liar changes what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
import trio

from orrange_p2p.chains.evm import history
from orrange_p2p.chains.evm.chain import EvmChain
from orrange_p2p.core.bitcoin_bonds import BitcoinBond
from orrange_p2p.core.election import Election
from orrange_p2p.core.errors import (
    ConfigError,
    DeadlineError,
    DisagreementError,
    InvalidError,
    MalformedError,
    RefusedError,
    ReorganisedError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.histories import ChainEvent, Standings, standings
from orrange_p2p.core.ids import PeerId, TimeMs
from orrange_p2p.core.roster import Pin
from orrange_p2p.daemon.bond_reader import BondReader
from orrange_p2p.ports.chain import Block, Log
from orrange_p2p.ports.history import HistoryStore, ReadTo

__all__ = ["Indexer", "contracts_of"]

PAGE_BLOCKS: Final = 2_000
LOOK_S: Final = 1.0
TRY_AGAIN_S: Final = 5.0
TELL_S: Final = 10.0
"""How often is told how far it got, while there is much to read."""

log = structlog.get_logger()


def contracts_of(genesis: Genesis) -> bytes:
    """Whose events are read: names the content of a store. Empty where there is nothing to read."""
    return genesis.registry + genesis.settlement if any(genesis.registry) else b""


class Indexer:
    """Of a network's home chain."""

    def __init__(
        self,
        genesis: Genesis,
        chain: EvmChain,
        store: HistoryStore,
        page_blocks: int = PAGE_BLOCKS,
        bonds: BondReader | None = None,
    ) -> None:
        """``bonds``: reads those on Bitcoin, of the keys in the same store. Raises ``ConfigError``
        for a network without a registry, and where bonds on Bitcoin count and nothing reads them.
        """
        if not contracts_of(genesis):
            raise ConfigError("this network has no registry: there is nothing to read")
        counted = genesis.bitcoin_bonds
        if counted and bonds is None:
            raise ConfigError(
                f"network {genesis.name!r} counts bonds on {counted}, and this node does not read "
                f'it: name its endpoint under [chain."{counted}"]'
            )
        self.bonds = bonds if counted else None
        self._genesis = genesis
        self._chain = chain
        self._store = store
        self._page_blocks = page_blocks
        self._filter = history.filter_of(genesis.registry, genesis.settlement)
        self.why_not: str | None = None
        """What keeps it from going on, in words."""
        self.read_to: ReadTo | None = None
        self.advanced = trio.Event()
        """Set, and replaced by a fresh one, after each page."""

    async def run(self) -> None:
        """Follow the chain until cancelled. Ends, with an alarm, if a final block was replaced:
        then somebody has to find out what happened to the chain, and remove the store."""
        while True:
            try:
                is_level = await self.step()
                self.why_not = None
            except ReorganisedError as error:
                self.why_not = str(error)
                log.error("indexing ends", reason=self.why_not)
                return
            except (
                UnreachableError,
                DeadlineError,
                DisagreementError,
                MalformedError,
                RefusedError,
            ) as error:
                self.why_not = str(error)
                await trio.sleep(TRY_AGAIN_S)
                continue
            if is_level:
                await trio.sleep(LOOK_S)

    async def catch_up(self) -> ReadTo:
        """Read up to the newest final block, that one is the answer; then bonds on Bitcoin. Errors
        as ``step``'s."""
        told = trio.current_time()
        while not await self.step():
            if self.read_to is not None and trio.current_time() > told + TELL_S:
                told = trio.current_time()
                log.info("indexing", block=self.read_to.block)
        if self.bonds is not None:
            await self.bonds.catch_up()
        assert self.read_to is not None
        return self.read_to

    async def step(self) -> bool:
        """Read one page; whether there is no more.

        Raises ``ReorganisedError`` if a block that was read and final is another one now, and as
        the endpoints do.
        """
        final = await self._chain.finalized()
        last = self.read_to or await self._store.read_to()
        if last is not None:
            self.read_to = last
            if final.number < last.block:
                return True  # the endpoints lag behind what was read before
            if (await self._chain.agreed_block(last.block)).hash != last.hash:
                raise ReorganisedError(
                    f"block {last.block} of {self._chain.chain_id} was read as final and is "
                    "another one now: find out what happened to the chain; then remove the file "
                    "of its events, and they are read anew"
                )
            if final.number == last.block:
                return True
        first = 0 if last is None else last.block + 1
        end = min(first + self._page_blocks - 1, final.number)
        logs = await self._chain.agreed_logs(self._filter, first, end)
        upto = final if end == final.number else await self._chain.agreed_block(end)
        events = await self._events(logs, upto)
        read_to = ReadTo(upto.number, upto.hash, upto.time_s)
        await self._store.append(events, read_to)
        self.read_to = read_to
        self.advanced.set()
        self.advanced = trio.Event()
        return end == final.number

    async def _events(self, logs: Sequence[Log], upto: Block) -> list[ChainEvent]:
        times = {upto.number: upto.time_s}
        events = []
        for one in logs:
            if one.block_number not in times:
                block = await self._chain.agreed_block(one.block_number)
                if block.hash != one.block_hash:
                    raise MalformedError("a log of another block than the chain's")
                times[block.number] = block.time_s
            registry, settlement = self._genesis.registry, self._genesis.settlement
            time_s = times[one.block_number]
            event = history.read(one, self._chain.chain_id, time_s, registry, settlement)
            if event is not None:
                events.append(event)
        return events

    async def block_at(self, time_ms: TimeMs) -> Block:
        """The last final block that is stamped no later. Raises ``WorldError`` while it is not
        certain: the chain has to be read to a later one. And as the endpoints do."""
        last = self.read_to
        if last is None or last.time_s * 1000 <= time_ms:
            raise self._not_yet()
        number = await self._chain.first_block(time_ms // 1000 + 1) - 1
        if number < 0:
            raise WorldError("the home chain is younger than the block that is looked for")
        block = await self._chain.agreed_block(number)
        following = await self._chain.agreed_block(number + 1)
        if not block.time_s * 1000 <= time_ms < following.time_s * 1000:
            raise MalformedError(f"an endpoint has another time for block {number} than the others")
        return block

    async def election(self, pin: Pin) -> Election:
        """What rosters at this block are made of. Raises ``WorldError`` if it was not read yet,
        ``InvalidError`` if the chain has another block there, and as the endpoints do."""
        last = self.read_to
        if last is None or pin.block > last.block:
            raise self._not_yet()
        block = await self._chain.agreed_block(pin.block)
        if block.hash != pin.hash:
            raise InvalidError(f"block {pin.block} of the home chain is another one")
        bonds = await self._bonds(block.time_s)
        events = await self._store.events(pin.block)
        return await trio.to_thread.run_sync(
            Election, self._genesis, pin, block.time_s, events, bonds
        )

    async def _bonds(self, time_s: int) -> Sequence[BitcoinBond]:
        return () if self.bonds is None else await self.bonds.bonds(time_s)

    async def scores_of_peers(self) -> dict[PeerId, int]:
        """What the owners of other nodes are worth, as far as they say which those are. Errors as
        ``standings``'s."""
        bindings = await self._store.peer_bindings()
        if not bindings:
            return {}
        made = await self.standings()
        found = made.of_peers(bindings)
        return {PeerId(name): score for name, score in found.items()}

    async def bitcoin_bindings(self) -> Sequence[ChainEvent]:
        """Which Bitcoin keys were bound, in the order in which they were."""
        return await self._store.bitcoin_bindings()

    def _not_yet(self) -> WorldError:
        reason = f": {self.why_not}" if self.why_not else ""
        return WorldError(f"the home chain has not been read so far yet{reason}")

    async def standings(self, block: int | None = None) -> Standings:
        """All scores at a block that was read, the last one if none is named. Raises
        ``WorldError`` for one that was not read yet."""
        last = await self._store.read_to()
        if last is None or (block is not None and block > last.block):
            raise self._not_yet()
        pin = last
        if block is not None and block != last.block:
            found = await self._chain.agreed_block(block)
            pin = ReadTo(found.number, found.hash, found.time_s)
        bonds = await self._bonds(pin.time_s)
        events = await self._store.events(pin.block)
        return await trio.to_thread.run_sync(
            standings, self._genesis, self._chain.chain_id, *pin, events, bonds
        )
