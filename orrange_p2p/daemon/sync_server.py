"""Answering ``/orrange/sync/1`` for all markets, within what one peer may pull of us."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import trio

from orrange_p2p.core import sync
from orrange_p2p.core.errors import ForeignError, PeerError
from orrange_p2p.core.ids import MarketId, PeerId
from orrange_p2p.core.sync import CheckpointWanted, PartsWanted
from orrange_p2p.daemon.budgets import Budgets
from orrange_p2p.daemon.checkpointing import Checkpointing
from orrange_p2p.daemon.repair import Repair

SERVED_BYTES_PER_S: Final = 8.0 * 1024 * 1024
"""What one peer may pull of us, sustained."""
SERVED_BURST: Final = 64.0 * 1024 * 1024
"""At once; from there on answers are slowed down to the above."""
MAX_PACE_S: Final = 4.0
"""Who owes more asks for many pages at a time and waits for none: it is refused."""
LEAST_COST: Final = 64 * 1024
"""A request costs a stream and a look-up even if the answer is empty."""


class Served(NamedTuple):
    """What answers for one market."""

    repair: Repair
    checkpoints: Checkpointing


class SyncServer:
    """Answers ``/orrange/sync/1`` for every market of the node."""

    def __init__(self, served: Mapping[MarketId, Served], counters: Counter[str]) -> None:
        self._served = served
        self._counters = counters
        self._budgets: Budgets[PeerId] = Budgets(SERVED_BYTES_PER_S, SERVED_BURST)

    async def on_request(self, peer: PeerId, payload: bytes) -> bytes:
        """The transport's request handler. Raises ``PeerError`` for what is no request, and for
        one of a peer that is far over its budget."""
        request = sync.decode_request(payload)
        wait_s = self._budgets.charge(peer, LEAST_COST, trio.current_time())
        if wait_s > MAX_PACE_S:
            self._counters["sync_over_budget"] += 1
            raise PeerError("this peer asks for more than its share")
        if wait_s:
            self._counters["sync_paced"] += 1
            await trio.sleep(wait_s)
        served = self._served.get(request.market)
        if served is None:
            raise ForeignError("no such market here")
        self._counters["sync_served"] += 1
        if isinstance(request, CheckpointWanted | PartsWanted):
            reply = (await served.checkpoints.answer(request)).encode()
        else:
            reply = (await served.repair.answer(request)).encode()
        self._budgets.charge(peer, max(0, len(reply) - LEAST_COST), trio.current_time())
        return reply
