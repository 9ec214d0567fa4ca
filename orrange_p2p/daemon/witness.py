"""The witness's loop: poll the pacemaker, sign, make durable, only then send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog
import trio

from orrange_p2p.core import ticks
from orrange_p2p.core.ids import Era, TimeMs
from orrange_p2p.core.pacemaker import Pacemaker, Wait
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.ticks import Tick
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.signing import LOOK_EVERY_S, Signing
from orrange_p2p.ports import Record, RecordKind, Signer

log = structlog.get_logger()

WARNED_ERAS: Final = 8
"""With so few eras left in its chain of reveals a witness says so, once in each."""
OFFER_AGAIN_S: Final = 1.0
"""Without a tick of our own for this long, others may not have our last one."""


class WitnessLoop:
    """Ticks for one witness in one market."""

    def __init__(
        self,
        node: MarketNode,
        signer: Signer,
        chain: RevealChain,
        signing: Signing,
        later_chain: Callable[[Era], RevealChain] | None = None,
        twin_era: int | None = None,
    ) -> None:
        """``chain``: the one that begins with era 0. ``later_chain``: makes the one that begins
        with another era; it may take a second. ``twin_era``: from this era on every round gets two
        ticks, which costs the bond: for showing that it does."""
        self._node = node
        self._signing = signing
        self._signer = signer
        self._chain = chain
        self._later_chain = later_chain
        self._twin_era = twin_era
        self._strange_anchor = b""
        """Of reveals that are not ours, so that they are not computed again."""
        self._told_last = Era(0)
        """In which era somebody was told that its reveals end."""
        self._of: tuple[Replica, Era] | None = None
        self._pacemaker: Pacemaker | None = None
        self._last: Tick | None = None
        self._offered_at = trio.current_time()

    async def run(self) -> None:
        """Tick until cancelled."""
        node = self._node
        while True:
            changed = node.changed
            if self._signer.address not in node.replica.table:  # not elected for this era
                await changed.wait()
                continue
            if not await self._has_chain():
                await changed.wait()
                continue
            pacemaker = await self._current_pacemaker()
            if self._signing.why_no_tick(node.market_id, node.replica.era) is not None:
                with trio.move_on_after(LOOK_EVERY_S):
                    await changed.wait()
                continue
            now_ms = TimeMs(node.clock.monotonic_ms())
            step = pacemaker.poll(now_ms)
            if isinstance(step, Wait):
                until = self._offered_at + OFFER_AGAIN_S
                if step.until_ms is not None:
                    pause_s = max(0, step.until_ms - now_ms) / 1000
                    until = min(until, trio.current_time() + pause_s)
                with trio.move_on_at(until):
                    await changed.wait()
                self._offer_again()
                continue
            replica = node.replica
            era = replica.era
            reveal = self._chain.reveal(replica.reveal_position(self._signer.address, step.round))
            body = replica.tick_body(step, TimeMs(node.clock.wall_ms()), reveal)
            draft = ticks.draft(
                node.genesis.separator,
                node.market_id,
                era,
                step.round,
                self._signer.address,
                body,
            )
            tick = draft.signed(self._signer.sign(draft.digest))
            await node.store.append_own([Record.of_tick(tick)])
            pacemaker.note_ticked(step, now_ms)
            node.outbox.put(tick)
            if self._twin_era is not None and era >= self._twin_era:
                node.outbox.put(self._twin_of(tick))
            self._last, self._offered_at = tick, trio.current_time()
            await node.take_own(tick)

    def _twin_of(self, tick: Tick) -> Tick:
        body = tick.body._replace(time_ms=TimeMs(tick.time_ms + 1))
        draft = ticks.draft(
            self._node.genesis.separator,
            self._node.market_id,
            tick.era,
            tick.round,
            tick.witness,
            body,
        )
        return draft.signed(self._signer.sign(draft.digest))

    async def _has_chain(self) -> bool:
        """Whether we have the reveals that our seat promises."""
        replica = self._node.replica
        seat = replica.roster.seat_of(self._signer.address)
        if seat is not None:
            left = seat.since + self._node.genesis.parameters.chain_eras - replica.era
            self._tell_of_end(replica.era, left)
            if left <= 0:
                return False
        if seat is None or seat.anchor == self._chain.anchor:
            return seat is not None
        if seat.anchor == self._strange_anchor:
            return False
        if self._later_chain is not None:
            chain = await trio.to_thread.run_sync(self._later_chain, seat.since)
            if chain.anchor == seat.anchor:
                self._chain = chain
                return True
        self._strange_anchor = seat.anchor
        log.error(
            "this node is a witness and cannot sign: its seat promises reveals that are not of "
            "its secret; put the right key back, or stand anew",
            market=self._node.market_id.hex(),
            era=self._node.replica.era,
        )
        return False

    def _tell_of_end(self, era: Era, left: int) -> None:
        """A witness without reveals is silent, and a network without witnesses stands still."""
        is_elected = self._node.genesis.parameters.elected_witnesses > 0
        if era <= self._told_last or left > WARNED_ERAS:
            return
        chains = self._node.genesis.anchors(self._node.market_id).get(self._signer.address, ())
        if not is_elected and left > 0 and self._chain.anchor != (chains or (b"",))[-1]:
            return  # genesis has another one of ours
        self._told_last = era
        log.warning(
            "this witness can sign no more: its reveals are used up"
            if left <= 0
            else "the reveals of this witness end soon",
            market=self._node.market_id.hex(),
            eras_left=max(0, left),
            what_to_do="`orrange registry stand` in time"
            if is_elected
            else "found a new network with new anchors: `orrange init --chains` makes more",
        )

    def _offer_again(self) -> None:
        """Gossip the last tick anew if there was none since: one that was lost to everybody is
        nobody's parent, so nobody knows to ask for it."""
        now_s = trio.current_time()
        if now_s < self._offered_at + OFFER_AGAIN_S:
            return
        self._offered_at = now_s
        if self._last is not None and self._last.era == self._node.replica.era:
            self._node.counters["ticks_offered_again"] += 1
            self._node.outbox.put(self._last)

    async def _current_pacemaker(self) -> Pacemaker:
        replica = self._node.replica
        if self._pacemaker is None or self._of != (replica, replica.era):
            last = await self._node.store.own_position(
                RecordKind.TICK, self._node.market_id, self._signer.address
            )
            signed = None if last is None else (last.era, last.number)
            replica = self._node.replica  # another may have taken its place during the wait
            self._of = (replica, replica.era)
            self._pacemaker = replica.pacemaker(self._signer.address, signed)
        return self._pacemaker
