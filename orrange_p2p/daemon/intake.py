"""What arrives: bytes to verified facts to durable ones (protocol/05-gossip.md, Validation).

Size, decoding, canonical form, duplicates, signatures; then the store; then the replica. Nothing is
remembered as seen before it is verified, and nothing reaches the replica before it is durable.
What could never count, by a stranger or far ahead, costs its signature check and no disk; nor does
what an author signs beyond its share, until somebody lists it and we ask for it.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import trio

from orrange_p2p.core.allowances import Allowances
from orrange_p2p.core.entries import Entry, decode_entry
from orrange_p2p.core.errors import PeerError
from orrange_p2p.core.frames import MAX_FRAME_RECORDS, Frame, decode_frame
from orrange_p2p.core.ids import Address, MarketId, PeerId
from orrange_p2p.core.roster import Roster
from orrange_p2p.core.ticks import Tick, decode_tick
from orrange_p2p.crypto.hashes import sha256
from orrange_p2p.crypto.secp256k1 import verify_batch
from orrange_p2p.daemon.budgets import Budgets
from orrange_p2p.ports import Verdict

Fact = Entry | Tick

QUEUE_BATCHES: Final = 256
MAX_REMEMBERED: Final = 1 << 13
"""Copies of a record arrive within seconds of each other; this is a quarter of a minute at 10,000
orders a second, 32 to an entry, with their accepts."""
CHECKS_PER_S: Final = 4000.0
"""Signature checks that one peer's gossip may cost, sustained: a tenth of a core. An honest peer
that forwards 10,000 orders a second, 32 to an entry, needs a twelfth of it."""
CHECKS_BURST: Final = 2.0 * MAX_FRAME_RECORDS
"""At once: any frame fits."""
THREAD_FROM: Final = 8
"""From this many signatures on, a worker thread is cheaper than holding the event loop up."""


class Verified:
    """A bounded memory of records whose signature was checked, by the hash of their bytes."""

    def __init__(self) -> None:
        self._seen: dict[bytes, None] = {}

    def __contains__(self, name: bytes) -> bool:
        return name in self._seen

    def discard(self, name: bytes) -> None:
        self._seen.pop(name, None)

    def add(self, name: bytes) -> None:
        if len(self._seen) >= MAX_REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[name] = None


class Intake:
    """The way in for one market, from gossip and from sync alike."""

    def __init__(
        self,
        separator: bytes,
        market: MarketId,
        take: Callable[[Sequence[tuple[PeerId, Fact]]], Awaitable[None]],
        is_wanted: Callable[[Fact], bool],
        is_held: Callable[[Fact], bool],
        counters: Counter[str],
        owner_of: Callable[[Address], Address] = lambda author: author,
        divided_by: Callable[[], Roster | None] = lambda: None,
    ) -> None:
        """``owner_of``: whose account an author's entries are on. ``divided_by``: by whose
        reputation the whole is divided, where it is."""
        self._separator = separator
        self._market = market
        self._take = take
        self._is_wanted = is_wanted
        self._is_held = is_held
        self._counters = counters
        self._verified = Verified()
        self._budgets: Budgets[PeerId] = Budgets(CHECKS_PER_S, CHECKS_BURST)
        self._owner_of = owner_of
        self._divided_by = divided_by
        self._allowances = Allowances()
        self._threads = trio.CapacityLimiter(2)
        self._send, self._receive = trio.open_memory_channel[list[tuple[PeerId, Fact]]](
            QUEUE_BATCHES
        )

    @property
    def queued(self) -> int:
        """Verified batches waiting for the store."""
        return self._receive.statistics().current_buffer_used

    async def on_gossip(self, peer: PeerId, payload: bytes) -> Verdict:
        """The transport's gossip handler. It waits while the queue is full: the backpressure."""
        self._counters["frames_in"] += 1
        self._counters["bytes_in"] += len(payload)
        try:
            fresh = await self.admit(peer, decode_frame(payload))
        except PeerError as error:
            self._counters[f"rejected_{type(error).__name__}"] += 1
            return Verdict.REJECT
        return Verdict.ACCEPT if fresh else Verdict.IGNORE

    async def admit(self, peer: PeerId, frame: Frame) -> int:
        """Verify a gossiped frame's records and queue those not seen before; their number.

        None is taken from a peer that has spent its budget; but one record is checked, whichever,
        so that a flood of bad frames is rejected and not just ignored. Raises ``PeerError`` if a
        record is objectively invalid; then none is taken.
        """
        unseen = [
            (encoded, decode)
            for encoded, decode in self._records(frame)
            if sha256(encoded) not in self._verified
        ]
        self._counters["records_duplicate"] += len(frame.entries) + len(frame.ticks) - len(unseen)
        if not self._budgets.spend(peer, len(unseen), trio.current_time()):
            self._counters["over_budget"] += 1
            encoded, decode = secrets.choice(unseen)
            decode(encoded, self._separator, self._market).verify()
            return 0
        fresh = [decode(encoded, self._separator, self._market) for encoded, decode in unseen]
        await self._verify(fresh)
        lacking = [fact for fact in fresh if not self._is_held(fact)]
        self._counters["records_duplicate"] += len(fresh) - len(lacking)
        wanted = self._wanted(lacking)
        return await self._queue(peer, [fact for fact in wanted if self._is_within_share(fact)])

    async def admit_pulled(self, peer: PeerId, frame: Frame) -> int:
        """The same for a page we asked for: all that we do not hold is queued, seen before or not.

        A record that came too early was verified and then passed over; now it is wanted. So is
        what its author brought beyond its share: somebody lists it.
        """
        facts = [
            decode(encoded, self._separator, self._market)
            for encoded, decode in self._records(frame)
        ]
        lacking = [fact for fact in facts if not self._is_held(fact)]
        await self._verify([f for f in lacking if sha256(f.encoded) not in self._verified])
        return await self._queue(peer, self._wanted(lacking))

    def _is_within_share(self, fact: Fact) -> bool:
        """Whether its author may bring this now. If not it is as if it had not come: the author's
        node offers it again, and then it has to count as new."""
        if isinstance(fact, Tick):
            return True
        roster = self._divided_by()
        if roster is not None:
            self._allowances.take_roster(roster)
        now_us = int(trio.current_time() * 1_000_000)
        if self._allowances.spend(self._owner_of(fact.author), len(fact.encoded), now_us):
            return True
        self._counters["author_over_budget"] += 1
        self._verified.discard(sha256(fact.encoded))
        return False

    def _records(self, frame: Frame) -> Iterator[tuple[bytes, Callable[..., Fact]]]:
        for encoded in frame.entries:
            yield encoded, decode_entry
        for encoded in frame.ticks:
            yield encoded, decode_tick

    def _wanted(self, facts: Sequence[Fact]) -> list[Fact]:
        wanted = [fact for fact in facts if self._is_wanted(fact)]
        self._counters["records_unwanted"] += len(facts) - len(wanted)
        return wanted

    async def _queue(self, peer: PeerId, facts: Sequence[Fact]) -> int:
        if facts:
            self._counters["records_in"] += len(facts)
            await self._send.send([(peer, fact) for fact in facts])
        return len(facts)

    async def _verify(self, facts: Sequence[Fact]) -> None:
        if len(facts) < THREAD_FROM:
            for fact in facts:
                fact.verify()
        else:
            claims = [claim for fact in facts for claim in fact.claims]
            verdicts = await trio.to_thread.run_sync(verify_batch, claims, limiter=self._threads)
            if not all(verdicts):
                for fact in facts:
                    fact.verify()
        for fact in facts:
            self._verified.add(sha256(fact.encoded))

    async def run(self) -> None:
        """Hand batches on until cancelled, as many at once as wait: they share one disk flush."""
        while True:
            batch = await self._receive.receive()
            while self._receive.statistics().current_buffer_used and len(batch) < 1024:
                batch = batch + self._receive.receive_nowait()
            await self._take(batch)
