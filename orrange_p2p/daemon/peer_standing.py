"""Nodes of owners who have something to lose are heard and dialled a little sooner.

A small term, and never a necessary one: whoever has no score is served like everybody else
(protocol/06-peers.md, Standing).
"""

from __future__ import annotations

from typing import Final

import trio

from orrange_p2p.core.errors import PeerError, WorldError
from orrange_p2p.daemon.indexer import Indexer
from orrange_p2p.daemon.neighbours import Neighbours
from orrange_p2p.ports import Transport

LOOK_S: Final = 600.0
"""Scores change by the day."""
TRY_AGAIN_S: Final = 5.0
MOST: Final = 4096
"""The best so many peers are told apart from the others."""


class PeerStanding:
    """Of all peers, as far as the registry knows whose they are."""

    def __init__(self, indexer: Indexer, transport: Transport, neighbours: Neighbours) -> None:
        self._indexer = indexer
        self._transport = transport
        self._neighbours = neighbours

    async def run(self) -> None:
        """Tell the transport and the neighbours, again and again, until cancelled."""
        while True:
            try:
                scores = await self._indexer.scores_of_peers()
            except (WorldError, PeerError):
                await trio.sleep(TRY_AGAIN_S)  # the indexer says why, in ``orrange status``
                continue
            best = sorted(scores.items(), key=lambda one: (-one[1], one[0]))[:MOST]
            parts = {peer: score / best[0][1] for peer, score in best}
            self._transport.favour(parts)
            self._neighbours.favour(parts)
            await trio.sleep(LOOK_S)
