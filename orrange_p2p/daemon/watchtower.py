"""A watchtower: it ends swaps of others in their favour, by their bundles, without their keys.

By the same table as the parties (protocol/09-swaps.md): what the chains show says whether a lock is
to be claimed with a secret that came out, or to go back. It never locks, and never shows a secret
that is not out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog

from orrange_p2p.core.errors import CallerError, PeerError, StoreError, WorldError
from orrange_p2p.core.ids import MatchId
from orrange_p2p.core.swaps.htlc import (
    ENDED,
    Duty,
    Sight,
    Swap,
    SwapProgress,
    SwapState,
    advance,
    duty,
    observe,
)
from orrange_p2p.core.swaps.legs import LockState
from orrange_p2p.daemon.bundles import Bundle
from orrange_p2p.ports.legs import Leg

__all__ = ["Watched", "Watchtower"]

log = structlog.get_logger()


class Watched(NamedTuple):
    """A swap that is watched, and where it stands for its party."""

    bundle: Bundle
    progress: SwapProgress = SwapProgress(SwapState.CANCELLING)
    problem: str = ""
    """Why nothing could be done for it at the last look."""

    @property
    def has_ended(self) -> bool:
        return self.progress.state in ENDED


class Watchtower:
    """Keeps nothing: everything follows from the bundles and the chains."""

    def __init__(self, legs: Mapping[str, Leg]) -> None:
        """``legs``: by CAIP-2 id; the tower's own accounts pay the fees on EVM chains."""
        self._legs = legs
        self._watched: dict[MatchId, Watched] = {}

    @property
    def watched(self) -> list[Watched]:
        return list(self._watched.values())

    def take(self, bundles: Iterable[Bundle]) -> None:
        """Watch these; a newer bundle of a swap takes the place of an older one."""
        for bundle in bundles:
            kept = self._watched.get(bundle.name)
            if kept is None:
                self._watched[bundle.name] = Watched(bundle)
            elif not kept.has_ended:
                self._watched[bundle.name] = kept._replace(bundle=bundle)

    async def look(self) -> None:
        """Look at all chains once, and do what can be done."""
        for name, one in list(self._watched.items()):
            if one.has_ended:
                continue
            missing = {one.bundle.swap.own.chain, one.bundle.swap.other.chain} - self._legs.keys()
            if missing:
                problem = f"node.toml names no way to {', '.join(sorted(missing))}"
                self._watched[name] = one._replace(problem=problem)
                continue
            try:
                self._watched[name] = await self._look_at(one)
            except StoreError:
                raise
            except (WorldError, PeerError, CallerError) as error:
                if str(error) != one.problem:
                    log.warning("cannot help a swap now", trade=name.hex(), why=str(error))
                self._watched[name] = self._watched[name]._replace(problem=str(error))

    async def _look_at(self, one: Watched) -> Watched:
        bundle, progress = one.bundle, one.progress
        times = bundle.swap.schedule._replace(reveal_by_s=0)  # no secret is ours to show
        swap: Swap = bundle.swap._replace(schedule=times)
        own, other = self._legs[swap.own.chain], self._legs[swap.other.chain]
        # Both after their chain's time: what a passed time allows is looked up no earlier.
        own_time, other_time = await own.now(), await other.now()
        own_view, other_view = await own.view(swap.own), await other.view(swap.other)
        sight = Sight(own_view, other_view, own_time.time_s, other_time.time_s)
        while (event := observe(swap, progress, sight)) is not None:
            progress = advance(progress, event, sight)
            log.info(
                "watched swap goes on",
                trade=bundle.name.hex(),
                what=event.name,
                state=progress.state.name,
            )
        self._watched[bundle.name] = one._replace(progress=progress)
        asked = duty(swap, progress, sight)
        if asked is Duty.CLAIM and other_view.state is LockState.LOCKED:
            await other.save(swap.other, bundle.other_rescue, progress.preimage)
        elif asked is Duty.REFUND and own_view.state is LockState.LOCKED:
            await own.save(swap.own, bundle.own_rescue, b"")
        return Watched(bundle, progress)
