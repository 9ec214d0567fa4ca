"""Keeps the ledger at the head: block by block, back again when blocks were replaced, and the
mempool beyond it."""

from __future__ import annotations

from collections import deque
from typing import Final

from orrange_p2p.chains.bitcoin.backend import Backend, Header
from orrange_p2p.chains.bitcoin.ledger import Ledger
from orrange_p2p.chains.bitcoin.wallet import Wallet
from orrange_p2p.core.errors import ReorganisedError, UnreachableError
from orrange_p2p.crypto.bitcoin import OutPoint, Tx, decode_tx
from orrange_p2p.ports.bitcoin import BitcoinStore, Kept, KeptBlock

__all__ = ["Follower"]

BEGIN_BLOCKS: Final = 12
"""Below the head at which a new file begins: two hours, deeper than blocks get replaced."""
MAX_POOL_STEP: Final = 500
"""Waiting transactions that are fetched at one look; the others at the next ones. What spends a
watched output is found without this, so a secret is never late."""
MAX_SEEN: Final = 1 << 20


class Follower:
    """``look`` is for one task at a time."""

    def __init__(
        self, backend: Backend, store: BitcoinStore, ledger: Ledger, wallet: Wallet
    ) -> None:
        self._backend = backend
        self._store = store
        self._ledger = ledger
        self._wallet = wallet
        self._trail: deque[KeptBlock] = deque(maxlen=2_016)
        self._scripts: set[bytes] = set()
        self._seen: set[bytes] = set()
        self.rewinds = 0

    def restore(self, kept: Kept) -> None:
        """What was known before."""
        self._trail.extend(kept.blocks)
        if self._trail:
            self._wallet.watch_bonds(self._trail[-1].median_s)
        for script in kept.scripts:
            self._scripts.add(script)
            self._ledger.watch(script)
        for height, raw in kept.transactions:
            self._ledger.connect([decode_tx(raw)], height)
            self._wallet.extend()

    @property
    def head(self) -> KeptBlock | None:
        """Of the last look."""
        return self._trail[-1] if self._trail else None

    async def look(self) -> KeptBlock:
        """Go to the head. Every step is kept before the next, so it can be cut off anywhere."""
        best = await self._backend.best()
        if not self._trail:
            await self._begin(best)
        while (head := self._trail[-1]).hash != best.hash:
            if await self._backend.hash_at(head.height) != head.hash:
                await self._rewind()
                continue
            block_hash = await self._backend.hash_at(head.height + 1)
            if block_hash is None:
                break  # between two answers the head went back; it is looked for again
            await self._connect(block_hash, head)
        await self._look_at_pool()
        return self._trail[-1]

    async def watch(self, script: bytes, since_s: int) -> None:
        """Also what was in blocks stamped ``since_s`` or later."""
        if script in self._scripts:
            return
        head = self.head
        assert head is not None
        self._ledger.watch(script)
        found = []
        for height in range(await self._first_since(since_s, head.height), head.height + 1):
            for tx in self._ledger.connect(await self._transactions(height), height):
                found.append((height, tx.encoded()))
        await self._store.watch(script, found)
        self._scripts.add(script)
        self._seen.clear()
        await self._look_at_pool()

    async def _begin(self, best: Header) -> None:
        """A new file: coins that the seed has already are found by asking for them once.

        Followed are the newest blocks already, or the first one replaced would end it.
        """
        first = best
        if best.height > BEGIN_BLOCKS:
            block_hash = await self._backend.hash_at(best.height - BEGIN_BLOCKS)
            header = None if block_hash is None else await self._backend.header(block_hash)
            if header is None:
                raise UnreachableError("the chain went back meanwhile; looked at again")
            first = header
        self._wallet.watch_bonds(best.median_s)
        known = -1
        while (scripts := self._wallet.watched()) and len(scripts) != known:
            known = len(scripts)
            heights = {one.height for one in await self._backend.unspent(scripts)}
            for height in sorted(heights):
                if height <= first.height:
                    self._ledger.connect(await self._transactions(height), height)
            self._wallet.extend()
        found = []
        for txid, height in self._ledger.mined():
            tx = self._ledger.transaction(txid)
            assert tx is not None
            found.append((height, tx.encoded()))
        await self._take(KeptBlock(first.height, first.hash, first.median_s), found)

    async def _connect(self, block_hash: bytes, head: KeptBlock) -> None:
        header = await self._backend.header(block_hash)
        if header is None or header.parent != head.hash:
            return  # replaced meanwhile
        block = await self._backend.block(block_hash)
        self._wallet.watch_bonds(header.median_s)
        concerning = self._ledger.connect(block.transactions, header.height)
        self._wallet.extend()
        kept = KeptBlock(header.height, header.hash, header.median_s)
        await self._take(kept, [(kept.height, tx.encoded()) for tx in concerning])

    async def _take(self, block: KeptBlock, found: list[tuple[int, bytes]]) -> None:
        await self._store.connect(block, found)
        self._trail.append(block)

    async def _rewind(self) -> None:
        if len(self._trail) < 2:
            raise ReorganisedError("the Bitcoin chain is another one than before: look at the node")
        self.rewinds += 1
        height = self._trail[-2].height
        await self._store.disconnect(height)
        self._trail.pop()
        self._ledger.disconnect(height)
        # What was mined waits again, perhaps: it has to be fetched once more.
        self._seen.clear()

    async def _look_at_pool(self) -> None:
        names = await self._backend.pool()
        waiting = set(names)
        self._ledger.keep_waiting(waiting)
        if len(self._seen) > MAX_SEEN:
            self._seen &= waiting
        places = [one.outpoint for one in self._ledger.all_outputs() if self._is_open(one.outpoint)]
        urgent = await self._backend.spenders(places)
        others = [txid for txid in names if txid not in self._seen][:MAX_POOL_STEP]
        for txid in (*urgent, *others):
            if self._ledger.height_of(txid) is not None:
                continue
            tx = await self._backend.waiting(txid)
            if tx is not None and self._ledger.concerns(tx):
                self._ledger.add(tx, 0)
                self._wallet.extend()
            self._seen.add(txid)

    def _is_open(self, place: OutPoint) -> bool:
        spend = self._ledger.spend(place)
        return spend is None or spend.height == 0

    async def _first_since(self, since_s: int, last: int) -> int:
        low, high = 0, last + 1
        while low < high:
            middle = (low + high) // 2
            block_hash = await self._backend.hash_at(middle)
            header = None if block_hash is None else await self._backend.header(block_hash)
            if header is None:
                raise UnreachableError("blocks were replaced during the look for a lock")
            if header.median_s < since_s:
                low = middle + 1
            else:
                high = middle
        return low

    async def _transactions(self, height: int) -> tuple[Tx, ...]:
        block_hash = await self._backend.hash_at(height)
        if block_hash is None:
            raise UnreachableError("blocks were replaced during the look for a lock")
        return (await self._backend.block(block_hash)).transactions
