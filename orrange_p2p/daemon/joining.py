"""Joining late: a state that a quorum stands for, fetched piecewise from several peers at once.

For a node that starts empty, that has fallen far behind, or that a quorum contradicts. Whoever
sends a piece that is not what its name says is asked no more; what arrived is kept over a restart.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import structlog
import trio

from orrange_p2p.core import sync
from orrange_p2p.core.checkpoints import Checkpoint, check_terms, decode_checkpoint
from orrange_p2p.core.errors import InvalidError, PeerError, WorldError
from orrange_p2p.core.ids import Epoch, PeerId
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.roots import Halt, HaltReason
from orrange_p2p.core.roster import Roster, decode_roster
from orrange_p2p.core.sync import CheckpointPage, CheckpointWanted, PartsWanted
from orrange_p2p.daemon.checkpointing import Checkpointing
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.repair import REQUEST_TIMEOUT_S, Repair
from orrange_p2p.daemon.rosters import Rosters
from orrange_p2p.ports import CheckpointRecord

LOOK_EVERY_S: Final = 1.0
ASK_EVERY_S: Final = 3.0
FIRST_LOOK_S: Final = 0.05
STARTING_S: Final = 15.0
"""So long after the start we ask whatever our clock says: an empty node cannot tell it is late."""
GATHER_S: Final = 0.25
"""From the first peer to the first question: others connect meanwhile."""
STALLED_MS: Final = 5000
"""Without a new epoch for so long, what comes next may be pruned everywhere."""
ARCHIVE_PATIENCE_MS: Final = 20_000
"""An archive joins at a state only when peers are known to be further for so long and what lies
between does not come: after a mere cut-off they still have it, and a join would leave it out."""
AHEAD_EPOCHS: Final = 64
"""From so many epochs on, fetching a state beats computing it."""
MAX_ASKED: Final = 8
MAX_SOURCES: Final = 6
PARTS_AT_ONCE: Final = 4
"""Asked for in one request: what a reply holds if they are full."""
TERMS_AT_ONCE: Final = 128

log = structlog.get_logger()


class Offer(NamedTuple):
    """A checkpoint that a peer says it has."""

    epoch: Epoch
    size: int
    peer: PeerId


class Progress(NamedTuple):
    """How far a join has got, for whoever watches."""

    epoch: Epoch
    fetched: int
    wanted: int


class Joining:
    """Brings one market to a checkpoint of others when that is the way to go."""

    def __init__(
        self,
        node: MarketNode,
        repair: Repair,
        checkpoints: Checkpointing,
        is_archive: bool,
        rosters: Rosters | None = None,
    ) -> None:
        """``rosters``: where witnesses are elected, what tells who they are."""
        self._node = node
        self._repair = repair
        self._checkpoints = checkpoints
        self._is_archive = is_archive
        self._rosters = rosters
        self.progress: Progress | None = None
        """None while no join is under way."""
        self.joined_at: Epoch | None = None
        """The checkpoint at which this process joined last."""
        self.sources: set[PeerId] = set()
        """Who served a piece of it."""
        self.bytes_fetched = 0
        self._recomputed: Halt | None = None
        """The contradiction after which we computed our state anew last."""
        self._epoch = Epoch(0)
        self._moved_ms = node.clock.monotonic_ms()
        self._behind_ms = self._moved_ms
        """Since when peers are known to be further and no epoch comes."""

    async def run(self) -> None:
        """Look whether to join, and do, until cancelled."""
        node = self._node
        self._repair.is_paused = True  # so that a late node replays nothing before it has asked
        started = trio.current_time()
        with trio.move_on_after(STARTING_S):
            while True:
                if node.transport.peers():
                    break
                await trio.sleep(FIRST_LOOK_S)
            await trio.sleep(GATHER_S)
        while True:
            is_starting = trio.current_time() < started + STARTING_S
            asked_at = trio.current_time()
            await self._look(is_starting)
            self._repair.is_paused = False
            await trio.sleep_until(asked_at + (LOOK_EVERY_S if is_starting else ASK_EVERY_S))

    async def _look(self, is_starting: bool) -> None:
        now_ms = self._node.clock.monotonic_ms()
        epoch = self._node.replica.epoch
        if epoch != self._epoch:
            self._epoch, self._moved_ms, self._behind_ms = epoch, now_ms, now_ms
        if not self._repair.is_behind():
            self._behind_ms = now_ms
        halt = self._node.replica.halt
        if halt is not None and halt.reason is not HaltReason.CONTRADICTED:
            return  # honest witnesses disagree: there is nobody to believe
        if halt is not None and (self._recomputed is None or self._recomputed.epoch != halt.epoch):
            self._recomputed = halt
            await self._recompute(halt)
            return
        is_stalled = halt is not None or now_ms - self._moved_ms >= STALLED_MS
        if not (is_stalled or is_starting or self._repair.is_behind()):
            return
        # With nothing of its own a node cannot lose by it, and may find that all have pruned.
        least = Epoch(epoch + 1 if is_stalled or epoch == 0 else epoch + AHEAD_EPOCHS)
        if halt is not None:
            least = Epoch(max(halt.epoch, 1))
        elif self._is_archive and now_ms - self._behind_ms < ARCHIVE_PATIENCE_MS:
            return  # as long as peers have the history, an archive takes it
        offers = [offer for offer in await self._offers() if offer.epoch >= least]
        for offer in sorted(offers, reverse=True):
            if await self._join(offer, halt):
                return

    async def _offers(self) -> list[Offer]:
        """The newest checkpoint of each of several peers."""
        offers: list[Offer] = []

        async def ask(peer: PeerId) -> None:
            page = await self._page(peer, Epoch(0), 0)
            if page is not None and page.epoch > 0:
                offers.append(Offer(page.epoch, page.size, peer))

        async with trio.open_nursery() as nursery:
            for peer in self._repair.peers()[:MAX_ASKED]:
                nursery.start_soon(ask, peer)
        return offers

    async def _page(self, peer: PeerId, epoch: Epoch, offset: int) -> CheckpointPage | None:
        """None for a peer that does not answer, or not as it should."""
        request = CheckpointWanted(self._node.market_id, epoch, offset)
        try:
            return sync.decode_checkpoint_page(await self._ask(peer, request))
        except WorldError:
            return None
        except PeerError as error:
            self._blame(peer, error)
            return None

    async def _ask(self, peer: PeerId, request: sync.Request) -> bytes:
        node = self._node
        node.counters["sync_requests"] += 1
        reply = await node.transport.request(
            peer, sync.PROTOCOL, sync.encode_request(request), timeout_s=REQUEST_TIMEOUT_S
        )
        self.bytes_fetched += len(reply)
        return reply

    def _blame(self, peer: PeerId, error: PeerError) -> None:
        self._node.counters["join_lies"] += 1
        log.warning("peer dropped while joining", peer=peer, reason=str(error))
        self._repair.shun(peer)

    # --- one attempt ---

    async def _join(self, offer: Offer, halt: Halt | None) -> bool:
        """Whether we stand at the offered checkpoint now."""
        node = self._node
        self.bytes_fetched, self.sources = 0, set()
        checkpoint = await self._checkpoint(offer)
        if checkpoint is None:
            return False
        self._repair.is_paused = True
        log.info("joining", epoch=offer.epoch, parts=len(checkpoint.part_names), behind=self._epoch)
        try:
            async with self._checkpoints.lock:
                if halt is not None:
                    await self._give_up_own(halt)
                await self._take(checkpoint)
        except PeerError as error:
            self._blame(offer.peer, error)
            return False
        except WorldError as error:
            node.counters["joins_failed"] += 1
            log.warning("joining failed, tried again later", reason=str(error))
            return False
        finally:
            self.progress = None
        node.counters["joins"] += 1
        self.joined_at = offer.epoch
        log.info("joined", epoch=offer.epoch, root=node.replica.root.hex(), live=True)
        self._repair.hurry()
        return True

    async def _checkpoint(self, offer: Offer) -> Checkpoint | None:
        """Fetch and verify it; None if it is gone meanwhile, or none that a quorum stands for."""
        node = self._node
        data = bytearray()
        while len(data) < offer.size:
            page = await self._page(offer.peer, offer.epoch, len(data))
            if page is None or page.epoch != offer.epoch or not page.page:
                return None
            data += page.page
        try:
            checkpoint = decode_checkpoint(bytes(data))
            if checkpoint.header.epoch != offer.epoch:
                raise InvalidError("the checkpoint of another epoch than offered")
            roster = await self._roster(offer.peer, checkpoint)
            await trio.to_thread.run_sync(checkpoint.verify, node.genesis, node.market_id, roster)
        except PeerError as error:
            self._blame(offer.peer, error)
            return None
        except WorldError as error:
            log.warning("cannot join yet", epoch=offer.epoch, reason=str(error))
            return None
        self.sources.add(offer.peer)
        return checkpoint

    async def _roster(self, peer: PeerId, checkpoint: Checkpoint) -> Roster | None:
        """The one by which to judge a checkpoint, of which the home chain says the same as the
        peer; None for that of genesis."""
        node, header = self._node, checkpoint.header
        era = checkpoint.certificate.vouched_in
        if self._rosters is None or era == 0:
            return None
        known = node.replica.roster
        if known.era == era:
            return known
        named = dict(zip((header.era, header.era + 1), header.rosters, strict=False))
        if era not in named:
            raise InvalidError("a checkpoint that does not name the roster of those who vouch")
        got = await self._pieces(peer, (named[era],), checkpoint.check_part)
        if named[era] not in got:
            raise WorldError("the peer does not hand over the checkpoint's roster")
        roster = decode_roster(got[named[era]])
        if roster.era != era:
            raise InvalidError(f"a roster of era {roster.era} where that of {era} is named")
        await self._rosters.check(roster, node.clock.wall_ms())
        return roster

    # --- contradicted ---

    async def _recompute(self, halt: Halt) -> None:
        """The state here is wrong: keep who says so, and compute it once more from our own disk.

        If memory was at fault, that ends it, and nobody's word is needed.
        """
        node = self._node
        log.error("this node's state was wrong: computed anew", epoch=halt.epoch)
        async with self._checkpoints.lock:
            await self._keep_evidence(halt)
            await node.forget_rosters()
            replica = await self._checkpoints.load()
            await node.store.drop_epochs(node.market_id, replica.epoch)
            await node.adopt(replica)
        node.counters["recomputed"] += 1
        log.info("computed anew", epoch=node.replica.epoch, root=node.replica.root.hex())
        self._repair.hurry()

    async def _keep_evidence(self, halt: Halt) -> None:
        node = self._node
        evidence = {
            "epoch": halt.epoch,
            "own_root": halt.own_root.hex(),
            "reports": [
                [r.root.hex(), [w.hex() for w in r.witnesses], [tick.hex() for tick in r.ticks]]
                for r in halt.reports
            ],
        }
        name = f"contradicted.{node.market_id.hex()}"
        await node.store.set_meta(name, json.dumps(evidence).encode())

    async def _give_up_own(self, halt: Halt) -> None:
        """It came out wrong again: forget what a restart would start from."""
        await self._node.store.drop_checkpoints(self._node.market_id)
        self._checkpoints.newest = None
        log.error("this node's state is wrong again: it takes the quorum's", epoch=halt.epoch)

    async def _take(self, checkpoint: Checkpoint) -> None:
        """Fetch the state, make it durable, and go on from it.

        Raises ``WorldError`` when no peer has what is missing.
        """
        node = self._node
        epoch, names = checkpoint.header.epoch, checkpoint.part_names
        blobs: dict[bytes, bytes] = {}
        await self._fetch(epoch, names, checkpoint.check_part, PARTS_AT_ONCE, blobs)
        terms = await trio.to_thread.run_sync(checkpoint.terms_named, blobs)
        await self._fetch(epoch, terms, check_terms, TERMS_AT_ONCE, blobs)
        replica = await trio.to_thread.run_sync(
            Replica.resume, node.genesis, node.market_id, checkpoint, blobs, node.checkpoint_epochs
        )
        record = CheckpointRecord(epoch, checkpoint.encode(), (*names, *terms))
        await node.store.keep_checkpoint(node.market_id, record)
        self._checkpoints.note_start(record, replica)
        await node.adopt(replica)

    async def _fetch(
        self,
        epoch: Epoch,
        names: Iterable[bytes],
        check: Callable[[bytes, bytes], None],
        at_once: int,
        blobs: dict[bytes, bytes],
    ) -> None:
        """Bring the pieces of these names into ``blobs``, and to disk, from whoever has them."""
        node = self._node
        wanted = tuple(names)
        for name in await node.store.held_parts(node.market_id, wanted):
            part = await node.store.part(node.market_id, name)
            if part is not None and await trio.to_thread.run_sync(_is_sound, name, part, check):
                blobs[name] = part
        todo = deque(name for name in wanted if name not in blobs)
        self.progress = Progress(epoch, len(wanted) - len(todo), len(wanted))
        under_way = 0

        async def fetch_from(peer: PeerId) -> None:
            nonlocal under_way
            while todo or under_way:
                if not todo:
                    await trio.sleep(FIRST_LOOK_S)  # another's share may come back
                    continue
                some = tuple([todo.popleft() for _ in range(min(at_once, len(todo)))])
                under_way += len(some)
                got: Mapping[bytes, bytes] = {}
                try:
                    got = await self._pieces(peer, some, check)
                    await node.store.keep_parts(node.market_id, got)
                    blobs.update(got)
                finally:
                    under_way -= len(some)
                    todo.extend(name for name in some if name not in got)
                self.progress = Progress(epoch, len(wanted) - len(todo) - under_way, len(wanted))
                if not got:
                    return  # it is slow, lies, or has not got them: the others go on
                self.sources.add(peer)

        async with trio.open_nursery() as nursery:
            for peer in self._repair.peers()[:MAX_SOURCES]:
                nursery.start_soon(fetch_from, peer)
        if todo:
            raise WorldError(f"{len(todo)} pieces of the state of epoch {epoch} are nowhere")

    async def _pieces(
        self, peer: PeerId, names: tuple[bytes, ...], check: Callable[[bytes, bytes], None]
    ) -> Mapping[bytes, bytes]:
        """What a peer has of these, each checked; empty for one not to be asked again."""
        try:
            reply = await self._ask(peer, PartsWanted(self._node.market_id, names))
            got = dict(sync.decode_parts(reply).parts)
            if not got.keys() <= set(names):
                raise InvalidError("a piece that was not asked for")
            await trio.to_thread.run_sync(_check_all, got, check)
        except WorldError as error:
            self._node.counters["join_slow"] += 1
            log.warning("peer dropped while joining", peer=peer, reason=str(error))
            return {}
        except PeerError as error:
            self._blame(peer, error)
            return {}
        return got


def _is_sound(name: bytes, part: bytes, check: Callable[[bytes, bytes], None]) -> bool:
    """Whether a piece from our own disk is still what was written there."""
    try:
        check(name, part)
    except PeerError:
        return False
    return True


def _check_all(got: Mapping[bytes, bytes], check: Callable[[bytes, bytes], None]) -> None:
    for name, data in got.items():
        check(name, data)
