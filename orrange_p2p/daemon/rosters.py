"""Rosters of one market, read off the home chain: given to the replica, and held against what a
peer shows that this node wants to join (protocol/12-eras.md)."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from orrange_p2p.core.errors import InvalidError, PeerError, WorldError
from orrange_p2p.core.roster import Pin, Roster, RosterRequest
from orrange_p2p.daemon.indexer import Indexer
from orrange_p2p.daemon.market import MarketNode

TRY_AGAIN_S: Final = 1.0
MAX_PIN_AGE_S: Final = 7 * 86_400
"""Half of the way out of a bond: whoever had a seat at a younger pin can still lose it."""

log = structlog.get_logger()


class Rosters:
    """Of one market."""

    def __init__(self, node: MarketNode, indexer: Indexer) -> None:
        self._node = node
        self._indexer = indexer
        self.why_not: str | None = None
        """Why the replica still waits for a roster, in words."""

    async def run(self) -> None:
        """Give the replica each roster that it wants, until cancelled."""
        node = self._node
        while True:
            changed = node.changed
            wanted = node.replica.wanted_roster
            if wanted is None:
                self.why_not = None
                await changed.wait()
                continue
            try:
                roster = await self._read(wanted)
            except (PeerError, WorldError) as error:
                self._note(f"the roster of era {wanted.era} cannot be read: {error}")
                await trio.sleep(TRY_AGAIN_S)
                continue
            try:
                await node.take_roster(roster)
            except InvalidError as error:
                self._note(str(error))
                await trio.sleep(TRY_AGAIN_S)
                continue
            log.info(
                "roster read",
                market=node.market_id.hex(),
                era=roster.era,
                block=roster.pin.block,
                witnesses=len(roster.seats),
                digest=roster.digest.hex(),
            )

    def _note(self, reason: str) -> None:
        if reason != self.why_not:
            log.warning("waiting for a roster", reason=reason)
        self.why_not = reason

    async def _read(self, wanted: RosterRequest) -> Roster:
        block = await self._indexer.block_at(wanted.pin_ms)
        election = await self._indexer.election(Pin(block.number, block.hash))
        return await trio.to_thread.run_sync(election.roster, self._node.market_id, wanted.era)

    async def check(self, roster: Roster, now_ms: int) -> None:
        """That a roster shown by a peer is what the home chain says, and that its witnesses still
        have something to lose.

        Raises ``InvalidError`` if not, ``WorldError`` and as the endpoints do if that cannot be
        told now.
        """
        election = await self._indexer.election(roster.pin)
        if now_ms // 1000 - election.time_s > MAX_PIN_AGE_S:
            raise InvalidError(
                f"a roster read at block {roster.pin.block}: its witnesses may have withdrawn "
                "their bonds since"
            )
        own = await trio.to_thread.run_sync(election.roster, self._node.market_id, roster.era)
        if own.digest != roster.digest:
            raise InvalidError(f"a roster of era {roster.era} that the home chain does not show")
