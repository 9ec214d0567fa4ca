"""Driving swaps: at every head of either chain a look at both locks, and what the table asks for.

What a look concludes is kept before anything is done about it, and what is done is done again at
the next look for as long as the state asks for it (protocol/09-swaps.md). So there is no place at
which a crash, an endpoint that is down or a replaced block needs a treatment of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import structlog
import trio

from orrange_p2p.core.errors import (
    CallerError,
    DeadlineError,
    PeerError,
    RefusedError,
    StoreError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import MarketId, MatchId
from orrange_p2p.core.swaps.agreement import chain_of
from orrange_p2p.core.swaps.htlc import (
    ENDED,
    Duty,
    Role,
    Sight,
    Swap,
    SwapProgress,
    SwapState,
    advance,
    duty,
    observe,
)
from orrange_p2p.core.swaps.legs import Lock, LockState, LockView
from orrange_p2p.daemon.bundles import Bundle, Bundles
from orrange_p2p.ports.legs import ChainTime, Leg
from orrange_p2p.ports.swaps import Shown, SwapRecord, SwapStore

__all__ = ["SwapTools", "Swapping"]

log = structlog.get_logger()

LOOK_S: Final = 15.0
"""How often is looked though no head came: an endpoint that is stuck shows none."""
TRY_AGAIN_S: Final = 5.0
"""After a chain that could not be reached."""
_TAKEN: Final = (SwapState.LOCKED, SwapState.CLAIMING, SwapState.REFUNDING)


class SwapTools(NamedTuple):
    """What a node swaps with."""

    store: SwapStore
    legs: Mapping[str, Leg]
    """By CAIP-2 id."""
    secret: Callable[[MatchId], bytes]
    """Ours for a match: always the same 32 bytes, from the seed."""
    bundles: Bundles


class _Rescues(NamedTuple):
    """What the bundle of a swap holds, and of which of our locks."""

    locked_by: str
    own: bytes
    other: bytes


class Swapping:
    """The swaps of one market. They come from ``Agreements``, through the store."""

    def __init__(
        self,
        market: Market,
        market_id: MarketId,
        tools: SwapTools,
        counters: Counter[str],
    ) -> None:
        self._market_id = market_id
        self._swaps, legs, self._secret, self._bundles = tools
        self._legs = {chain: legs[chain] for chain in map(chain_of, (market.base, market.quote))}
        self._counters = counters
        self._wake = trio.Event()
        self._rescues: dict[MatchId, _Rescues] = {}
        self._troubles: dict[str, str] = {}
        """What does not work now, by chain."""

    @property
    def market_id(self) -> MarketId:
        return self._market_id

    @property
    def why_not(self) -> str | None:
        """Why swaps cannot go on now, in words; None if all is well."""
        return next(iter(self._troubles.values()), None)

    def note(self) -> None:
        """There is something to look at."""
        self._wake.set()

    async def run(self) -> None:
        """Bring swaps to their ends until cancelled."""
        await self.take_up()
        async with trio.open_nursery() as nursery:
            for leg in self._legs.values():
                nursery.start_soon(self._follow, leg)
            while True:
                self._wake = trio.Event()
                await self.look()
                with trio.move_on_after(LOOK_S):
                    await self._wake.wait()

    async def take_up(self) -> None:
        """Bundles of swaps that the store does not know: it was lost, or they are from elsewhere.

        They go on where nothing is locked afresh.
        """
        bundles = await trio.to_thread.run_sync(self._bundles.all)
        for bundle in bundles:
            if bundle.deal.trade.market == self._market_id:
                await self.resume(bundle)

    async def resume(self, bundle: Bundle) -> bool:
        """Go on with a swap of a bundle; whether it was new here."""
        if await self._swaps.get(bundle.name) is not None:
            return False
        cancelling = SwapProgress(SwapState.CANCELLING)
        await trio.to_thread.run_sync(self._bundles.write, bundle)
        await self._swaps.keep([SwapRecord(bundle.deal, bundle.swap, cancelling)])
        log.info("swap taken up from its bundle", trade=bundle.name.hex())
        self.note()
        return True

    async def export(self, name: MatchId) -> Bundle | None:
        """The bundle of a swap as it is now; None for one that is not known or had no locks."""
        record = await self._swaps.get(name)
        if record is None or record.swap is None:
            return None
        rescues = self._rescues.get(name, _Rescues("", b"", b""))
        return Bundle(record.deal, record.swap, rescues.own, rescues.other)

    async def view(self, lock: Lock) -> tuple[ChainTime, LockView] | None:
        """A chain's head, and what it shows of a lock; None if it cannot be asked."""
        leg = self._legs[lock.chain]
        try:
            while True:
                head = await leg.now()
                view = await leg.view(lock)
                if await leg.now() == head:
                    return head, view
        except StoreError:
            raise
        except (WorldError, PeerError, CallerError):
            return None

    async def _follow(self, leg: Leg) -> None:
        """Look again at each new head."""
        while True:
            try:
                async for _ in leg.heads():
                    self._wake.set()
            except StoreError:
                raise
            except (WorldError, PeerError) as error:
                self._trouble(leg.chain, str(error))
            await trio.sleep(TRY_AGAIN_S)

    async def look(self) -> None:
        """Look at all open swaps once."""
        records = await self._swaps.open(self._market_id)
        times: dict[str, ChainTime] = {}
        if records:
            for chain, leg in self._legs.items():
                try:
                    times[chain] = await leg.now()
                    self._troubles.pop(chain, None)
                except StoreError:
                    raise
                except (WorldError, PeerError) as error:
                    self._trouble(chain, str(error))
        for record in records:
            swap = record.swap
            if swap is None or not {swap.own.chain, swap.other.chain} <= times.keys():
                continue
            try:
                await self._look_at(record, swap, times)
            except StoreError:
                raise
            except (UnreachableError, DeadlineError) as error:
                self._counters["swap_retries"] += 1
                log.info("swap looked at again later", trade=record.deal.id.hex(), why=str(error))
            except (WorldError, PeerError, CallerError) as error:
                self._counters["swap_refusals"] += 1
                await self._tell(record, str(error))

    def _trouble(self, chain: str, why: str) -> None:
        if self._troubles.get(chain) != why:
            log.warning("chain of swaps cannot be asked", chain=chain, why=why)
        self._troubles[chain] = why

    async def _tell(self, record: SwapRecord, why: str) -> None:
        """Keep why a swap does not go on, for people."""
        if why != record.problem:
            name = record.deal.id
            log.warning("swap does not go on", trade=name.hex(), why=why)
            kept = await self._swaps.get(name) or record
            await self._swaps.record(name, kept.progress, kept.shown, why)

    async def _look_at(
        self, record: SwapRecord, swap: Swap, times: Mapping[str, ChainTime]
    ) -> None:
        name, progress = record.deal.id, record.progress
        own, other = self._legs[swap.own.chain], self._legs[swap.other.chain]
        problem = ""
        can_lock = False
        if progress.state is SwapState.READY:
            try:
                await own.check(swap.own)
                can_lock = True
            except (RefusedError, CallerError) as error:
                problem = str(error)
        # Both after their chain's time: what a passed time allows is looked up no earlier.
        own_view, other_view = await own.view(swap.own), await other.view(swap.other)
        own_time, other_time = times[swap.own.chain], times[swap.other.chain]
        sight = Sight(own_view, other_view, own_time.time_s, other_time.time_s, can_lock)
        while (event := observe(swap, progress, sight)) is not None:
            before = progress.state
            progress = advance(progress, event, sight)
            log.info(
                "swap goes on",
                trade=name.hex(),
                what=event.name,
                before=before.name,
                state=progress.state.name,
            )
        shown = Shown(
            own_view.locked_by, own_view.ended_by, other_view.locked_by, other_view.ended_by
        )
        problem = problem or other_view.problem
        if progress.state is SwapState.LOCKING and record.progress.state is SwapState.READY:
            # From here on there may be a lock, and whoever has this file and the seed can end it.
            await trio.to_thread.run_sync(self._bundles.write, Bundle(record.deal, swap))
        if (progress, shown, problem) != record[2:]:
            await self._swaps.record(name, progress, shown, problem)
        if progress.state in ENDED:
            self._counters[f"swaps_{progress.state.name.lower()}"] += 1
            log.info("swap ended", trade=name.hex(), how=progress.state.name)
            self._rescues.pop(name, None)
            await trio.to_thread.run_sync(self._bundles.remove, name)
            return
        await self._act(swap, progress, sight)
        if progress.state in _TAKEN:
            await self._keep_rescues(record, swap, sight)

    async def _act(self, swap: Swap, progress: SwapProgress, sight: Sight) -> None:
        """Do what the state asks for; again does no harm."""
        own, other = self._legs[swap.own.chain], self._legs[swap.other.chain]
        asked = duty(swap, progress, sight)
        times = swap.schedule
        if asked is Duty.LOCK:
            is_initiator = swap.role is Role.INITIATOR
            deep_by_s = times.long_deep_by_s if is_initiator else times.short_deep_by_s
            await own.lock(swap.own, by_s=deep_by_s - swap.own_class.behind_s)
        elif asked is Duty.CANCEL:
            await own.cancel(swap.own)
        elif asked is Duty.CLAIM:
            preimage = progress.preimage or self._secret(swap.own.trade)
            # In a block so early that it is deep before the sender could take it back.
            by_s = swap.other.timelock_s - swap.other_class.confirm_s
            if sight.other.state is LockState.LOCKED:
                await other.claim(swap.other, preimage, by_s=by_s)
        elif asked is Duty.REFUND and sight.own.state is LockState.LOCKED:
            await own.refund(swap.own)

    async def _keep_rescues(self, record: SwapRecord, swap: Swap, sight: Sight) -> None:
        """Put into the bundle what a watchtower needs, once both locks are in blocks."""
        name = record.deal.id
        kept = self._rescues.get(name)
        locked_by = sight.own.locked_by + sight.other.locked_by
        if kept is not None and kept.locked_by == locked_by:
            return
        own = other = b""
        if sight.own.state is LockState.LOCKED and sight.own.confirmations:
            own = await self._legs[swap.own.chain].rescue(swap.own)
        if sight.other.state is LockState.LOCKED and sight.other.confirmations:
            other = await self._legs[swap.other.chain].rescue(swap.other)
        if own or other:
            bundle = Bundle(record.deal, swap, own, other)
            await trio.to_thread.run_sync(self._bundles.write, bundle)
        self._rescues[name] = _Rescues(locked_by, own, other)
