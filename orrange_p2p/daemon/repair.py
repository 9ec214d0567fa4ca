"""Pulling what gossip did not bring, and serving it to others: ``/orrange/sync/1``.

Gossip loses messages whatever one does; log heads and parents make the gaps visible. This task asks
connected peers in turn, gives a fact some time to arrive by itself first, and gives up on what
nobody has, unless the cut needs it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog
import trio

from orrange_p2p.core import gaps, sync
from orrange_p2p.core.errors import DeadlineError, PeerError, WorldError
from orrange_p2p.core.frames import FLUSH_BYTES, Frame
from orrange_p2p.core.gaps import Gaps
from orrange_p2p.core.ids import Address, Digest, Era, PeerId, Round, Seq
from orrange_p2p.core.pacemaker import HELD_AHEAD
from orrange_p2p.core.sync import (
    EntriesWanted,
    LogRange,
    RecordsRequest,
    RecordsWanted,
    Reply,
    RoundsWanted,
    StatusWanted,
)
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.ports import Record, RecordKind

REQUEST_TIMEOUT_S: Final = 5.0
MOVE_S: Final = 1.0
"""What was pulled has gone through store and replica by then, or will not move the clock."""
LOOK_EVERY_S: Final = 0.2
STALL_MS: Final = 2000
"""Without a new round for this long, ask a peer where it is."""
PAGE_ROUNDS: Final = 64
MAX_RANGES_SERVED: Final = 16
PAGE_BYTES: Final = 8 * FLUSH_BYTES
FIND_AT_ONCE: Final = 32
"""Digests looked up together. A record has up to 64 KiB, so all of a request could be 64 MiB."""
SHUN_MS: Final = 60_000
"""Whoever served a page with an invalid record is not asked for this long, and whoever let a
question pass its deadline only if nobody else is there."""
MAX_SHUNNED: Final = 1024

log = structlog.get_logger()


class Repair:
    """The sync side of one market: client and server."""

    def __init__(self, node: MarketNode) -> None:
        self._node = node
        self._gaps = Gaps()
        self._turn = 0
        self._shunned: dict[PeerId, int] = {}
        """Until when, of peers that served us what is invalid."""
        self._slow: dict[PeerId, int] = {}
        """The same, of peers that let us wait."""
        self._last_position = (Era(0), -1)
        self._moved_ms = 0
        self.is_paused = False
        """While a whole state is fetched, what lies between is not worth asking for."""

    # --- client ---

    async def run(self) -> None:
        """Look for gaps until cancelled.

        Two tasks, since catching up waits for the clock to move, and the clock may be waiting for
        a record that is missing.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._repeat, self._fetch_missing)
            nursery.start_soon(self._repeat, self._catch_up)

    async def _repeat(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            with trio.move_on_after(LOOK_EVERY_S):
                await self._node.changed.wait()
                await trio.sleep(LOOK_EVERY_S / 4)
            if not self.is_paused:
                await look()

    async def _fetch_missing(self) -> None:
        node = self._node
        now_ms = node.clock.monotonic_ms()
        due = self._gaps.note_missing(node.replica, now_ms)
        peer = self._next_peer()
        if not due or peer is None:
            return
        self._gaps.note_asked(node.replica, due, now_ms, len(node.transport.peers()))
        await self._pull(peer, RecordsWanted(node.market_id, due))

    async def _catch_up(self) -> None:
        """Pull rounds in pages when others are further, or the clock has stood still for long."""
        node = self._node
        now_ms = node.clock.monotonic_ms()
        here = self._position()
        if here != self._last_position:
            self._last_position, self._moved_ms = here, now_ms
        is_stalled = now_ms - self._moved_ms >= STALL_MS
        if not is_stalled and not self.is_behind():
            return
        peer = self._next_peer()
        if peer is None:
            return
        if is_stalled:
            self._moved_ms = now_ms
            await self._pull(peer, StatusWanted(node.market_id))
        while True:
            era, round = self._position()
            first = max(0, round - 1)
            wanted = RoundsWanted(node.market_id, era, Round(first), Round(first + PAGE_ROUNDS - 1))
            if not await self._pull(peer, wanted) or not await self._has_moved(era, round):
                return
            if not self.is_behind():
                return

    async def ask_all_for_logs(self, authors: Iterable[Address]) -> int:
        """Ask every peer for what follows in these logs; how many records were new."""
        node = self._node
        firsts = [(author, node.replica.logs.next_wanted(author)) for author in authors]
        ranges = [LogRange(author, first, Seq(first + HELD_AHEAD)) for author, first in firsts]
        request = EntriesWanted(node.market_id, tuple(ranges[: sync.MAX_RANGES]))
        fresh = 0

        async def ask(peer: PeerId) -> None:
            nonlocal fresh
            fresh += await self._pull(peer, request)

        async with trio.open_nursery() as nursery:
            for peer in node.transport.peers():
                nursery.start_soon(ask, peer)
        return fresh

    def _position(self) -> tuple[Era, int]:
        return self._node.replica.era, self._node.replica.clock.highest_quorum_round

    def is_behind(self) -> bool:
        """Whether witnesses of more than a third, so an honest one, are some rounds further."""
        return gaps.is_behind(self._node.replica, self._node.heard)

    async def _has_moved(self, era: Era, round: int) -> bool:
        """Wait until what was pulled has moved the clock; False if it does not in time."""
        with trio.move_on_after(MOVE_S):
            while self._position() == (era, round):
                await self._node.changed.wait()
        return self._position() != (era, round)

    async def _pull(self, peer: PeerId, request: RecordsRequest) -> int:
        """Ask one peer for one page; how many records were new. A failure costs only this turn."""
        node = self._node
        node.counters["sync_requests"] += 1
        try:
            payload = await node.transport.request(
                peer, sync.PROTOCOL, sync.encode_request(request), timeout_s=REQUEST_TIMEOUT_S
            )
            page = sync.decode_reply(payload).frame
            fresh = await node.intake.admit_pulled(peer, page)
        except DeadlineError:
            node.counters["sync_slow"] += 1
            log.info("slow peer asked last for a while", peer=peer, after_s=REQUEST_TIMEOUT_S)
            _remember(self._slow, peer, node.clock.monotonic_ms() + SHUN_MS)
            return 0
        except WorldError:
            node.counters["sync_failed"] += 1
            return 0
        except PeerError as error:
            node.counters[f"rejected_{type(error).__name__}"] += 1
            log.warning("peer not asked for a while", peer=peer, reason=str(error))
            self.shun(peer)
            return 0
        node.counters["sync_records"] += fresh
        return fresh

    def _next_peer(self) -> PeerId | None:
        peers = self.peers()
        if not peers:
            return None
        self._turn += 1
        return peers[self._turn % len(peers)]

    def peers(self) -> list[PeerId]:
        """Whom to ask: all peers but those that lied lately, and of them those that answer in
        time, if there are any: it may be our own line that is slow."""
        now_ms = self._node.clock.monotonic_ms()
        peers = sorted(self._node.transport.peers())
        honest = [peer for peer in peers if self._shunned.get(peer, now_ms) <= now_ms]
        return [peer for peer in honest if self._slow.get(peer, now_ms) <= now_ms] or honest

    def hurry(self) -> None:
        """Ask now where the others are."""
        self._moved_ms = self._node.clock.monotonic_ms() - STALL_MS
        self._last_position = self._position()

    def shun(self, peer: PeerId) -> None:
        """Do not ask a peer that served what is invalid for a while."""
        self._node.counters["sync_shunned"] += 1
        _remember(self._shunned, peer, self._node.clock.monotonic_ms() + SHUN_MS)

    # --- server ---

    async def answer(self, request: RecordsRequest) -> Reply:
        """One page of what a peer asks for."""
        node = self._node
        if isinstance(request, RecordsWanted):
            return await self._find(request.digests)
        if isinstance(request, EntriesWanted):
            found: list[Record] = []
            for wanted in request.ranges[:MAX_RANGES_SERVED]:
                kept = await node.store.log(node.market_id, wanted.author, wanted.first_seq)
                found += [record for record in kept if record.number <= wanted.last_seq]
                if _is_full(found):
                    break
            return _page(found)
        if isinstance(request, RoundsWanted):
            rounds = await node.store.rounds(node.market_id, request.era, request.first_round)
            return _page([tick for tick in rounds if tick.number <= request.last_round])
        clock = node.replica.clock
        top = clock.highest_round
        latest = [
            t for r in range(max(0, top - 2), top + 1) for t in clock.ticks_of_round(Round(r))
        ]
        return _page([Record.of_tick(tick) for tick in latest])

    async def _find(self, digests: Sequence[Digest]) -> Reply:
        node = self._node
        found: list[Record] = []
        for at in range(0, len(digests), FIND_AT_ONCE):
            found += await node.store.find(node.market_id, digests[at : at + FIND_AT_ONCE])
            if _is_full(found):
                break
        return _page(found)


def _remember(until: dict[PeerId, int], peer: PeerId, ms: int) -> None:
    if len(until) >= MAX_SHUNNED:
        del until[next(iter(until))]
    until.pop(peer, None)
    until[peer] = ms


def _is_full(found: Sequence[Record]) -> bool:
    return sum(len(record.encoded) for record in found) > PAGE_BYTES


def _page(found: Sequence[Record]) -> Reply:
    entries: list[bytes] = []
    ticks: list[bytes] = []
    size = 0
    for record in found:
        size += len(record.encoded)
        if size > PAGE_BYTES and (entries or ticks):
            return Reply(Frame(tuple(entries), tuple(ticks)), more=True)
        (entries if record.kind is RecordKind.ENTRY else ticks).append(record.encoded)
    return Reply(Frame(tuple(entries), tuple(ticks)), more=False)
