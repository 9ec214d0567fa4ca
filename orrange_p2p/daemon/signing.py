"""Whether this node's own keys may sign now, and in plain words why not.

Three things close this door. The operator's halt. A record that our own key signed and we did not:
the key is in use elsewhere. And a store that is older than what its keys have signed, or new
although they have signed: it was restored, or lost; then nothing is signed before the network has
told how far the keys had got (``merge``). All of it stands in the store, so neither a crash nor a
restart opens the door.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Collection, Sequence
from typing import Final

import structlog
import trio

from orrange_p2p.core.ids import Address, Era, MarketId, Round, Seq
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.repair import Repair
from orrange_p2p.ports import Clock, Record, RecordKind, Store

RESTORED: Final = "signing.restored"
"""Names the restore, or the loss, after which the store began; in no other store."""
_HALT: Final = "signing.halt"
_MISUSE: Final = "signing.misuse"
_MERGED: Final = "signing.merged."

FRESH_MARGIN_MS: Final = 5000
"""Ticks stamped this long after our start were signed after it, and after all that our keys signed
before it had time to arrive; as long as clocks agree as well as that."""
RECENT_ROUNDS: Final = 4
LOOK_EVERY_S: Final = 0.5
TELL_EVERY_S: Final = 30.0

log = structlog.get_logger()


def restored() -> dict[str, bytes]:
    """What to keep in a store of which nobody knows what its keys have signed since."""
    return {RESTORED: secrets.token_bytes(16)}


class HaltState(enum.Enum):
    """The kill switch."""

    OFF = b""
    CANCELLING = b"cancelling"
    """Only cancels are signed, and the ticks that commit them, until every log has its cancel."""
    ON = b"on"
    """Nothing is signed."""


class Signing:
    """The door that every signature of this node passes. ``load`` it before use."""

    def __init__(self, store: Store, clock: Clock, own: Collection[Address]) -> None:
        self._store = store
        self._clock = clock
        self._own = frozenset(own)
        self.halt = HaltState.OFF
        self.is_leaving = False
        """The node takes its orders back before it stops: no new ones meanwhile."""
        self.misuse: str | None = None
        """In words, that a key of ours is in use elsewhere."""
        self._restore: bytes | None = None
        self._merged_era: dict[MarketId, int] = {}
        """No tick of ours in this era of that market, or an earlier one."""

    async def load(self, markets: Sequence[MarketId]) -> None:
        """Read what the store says."""
        self.halt = HaltState(await self._store.meta(_HALT) or b"")
        self.misuse = (await self._store.meta(_MISUSE) or b"").decode() or None
        self._restore = await self._store.meta(RESTORED)
        for market in markets:
            kept = await self._store.meta(_MERGED + market.hex())
            if kept is not None and kept[8:] == self._restore:
                self._merged_era[market] = int.from_bytes(kept[:8], "big", signed=True)

    # --- the questions ---

    def is_merged(self, market: MarketId) -> bool:
        """Whether we know how far our keys had signed in this market."""
        return self._restore is None or market in self._merged_era

    @property
    def only_cancels(self) -> bool:
        """Whether orders are being taken back, and nothing else is signed but what that needs."""
        return self.halt is HaltState.CANCELLING or (self.is_leaving and self.halt is HaltState.OFF)

    def why_no_entry(self, market: MarketId) -> str | None:
        """Why no entry may be signed in a market; None if it may."""
        if self.halt is HaltState.ON:
            return "this node is halted by its operator: `orrange resume` lets it sign again"
        if self.halt is HaltState.CANCELLING:
            return "this node is being halted by its operator: only cancels are signed"
        if self.is_leaving:
            return "this node is stopping: only cancels are signed"
        return self._why_not_sure(market)

    def why_no_cancel(self, market: MarketId) -> str | None:
        """The same for an entry of nothing but cancels: it goes through while halting."""
        return self._why_not_sure(market) if self.only_cancels else self.why_no_entry(market)

    def _why_not_sure(self, market: MarketId) -> str | None:
        if self.misuse is not None:
            return self.misuse
        if not self.is_merged(market):
            return (
                "this store was restored, or begun anew: nothing is signed before a quorum of the "
                "other witnesses has told what these keys signed since"
            )
        return None

    def why_no_tick(self, market: MarketId, era: Era) -> str | None:
        """Why no tick may be signed in an era of a market."""
        reason = self.why_no_cancel(market)
        if reason is None and self._restore is not None:
            barred = self._merged_era[market]
            if era <= barred:
                return f"this store was restored: no tick is signed before era {barred + 1}"
        return reason

    # --- the kill switch ---

    async def set_halt(self, state: HaltState) -> None:
        """Durable on return."""
        await self._store.set_meta(_HALT, state.value)
        self.halt = state
        log.warning("halt", state=state.name.lower())

    # --- a key in two places ---

    async def check(self, market: MarketNode, record: Record) -> None:
        """Look at a record that came from outside: one signed by our key but not here ends all
        signing.

        An echo of our own is in the store, applied, or pruned; and nobody else can make one.
        """
        if record.signer not in self._own or self.misuse is not None:
            return
        name, store = market.market_id, self._store
        if not self.is_merged(name):
            return
        if record.kind is RecordKind.TICK:
            if record.era <= self._merged_era.get(name, -1):
                return  # as likely from before the restore
        elif market.replica.is_known_entry(record.signer, Seq(record.number), record.digest):
            return
        last = await store.own_position(record.kind, name, record.signer)
        if await store.find(name, [record.digest]):
            return
        is_past = last is not None and (record.era, record.number) <= last[:2]
        if is_past and not await self._has_other(record):
            return
        kind = "an entry" if record.kind is RecordKind.ENTRY else "a tick"
        self.misuse = (
            f"the key 0x{record.signer.hex()} signed {kind} that this node does not know: it is in "
            "use in another place as well, so this node signs nothing any more; stop the other "
            "one, then `orrange resume`"
        )
        await store.set_meta(_MISUSE, self.misuse.encode())
        log.error("key in use elsewhere", number=record.number, what_to_do=self.misuse)

    async def _has_other(self, record: Record) -> bool:
        """Whether another record is kept under the same number of the same key."""
        store = self._store
        if record.kind is RecordKind.ENTRY:
            from_here = await store.log(record.market, record.signer, Seq(record.number), limit=1)
        else:
            from_here = await store.rounds(record.market, record.era, Round(record.number))
        return any(
            kept.signer == record.signer and kept.number == record.number for kept in from_here
        )

    async def forget_misuse(self) -> None:
        """The operator's word that the other place is no more."""
        await self._store.set_meta(_MISUSE, b"")
        self.misuse = None

    # --- after a restore ---

    async def merge(self, market: MarketNode, repair: Repair) -> None:
        """After a restore: wait until witnesses of a quorum have told what our keys signed.

        That is: ticks that a quorum of others signed after our start are in our graph with all
        their ancestors, we hold every entry of ours that one of them lists, every peer has been
        asked for further ones, and no epoch waits for entries. Ticks stay barred for the whole era,
        since those of ours may be held by few. Where nobody else is a witness there is nobody to
        ask and nobody to mislead.
        """
        if self.is_merged(market.market_id):
            return
        since_ms = self._clock.wall_ms() + FRESH_MARGIN_MS
        table = market.replica.table
        is_alone = table.weight_of_set(w for w in self._own if w in table) == table.total
        tell_at = trio.current_time()
        while not is_alone:
            if self._is_told(market, since_ms) and not await repair.ask_all_for_logs(self._own):
                break
            if trio.current_time() >= tell_at:
                log.warning(
                    "restored: waiting for other witnesses to tell what our keys signed",
                    market=market.market_id.hex(),
                )
                tell_at += TELL_EVERY_S
            await trio.sleep(LOOK_EVERY_S)
        era = -1 if is_alone else market.replica.era
        assert self._restore is not None
        name = _MERGED + market.market_id.hex()
        await self._store.set_meta(name, era.to_bytes(8, "big", signed=True) + self._restore)
        self._merged_era[market.market_id] = era
        log.info("restored: own logs are complete", market=market.market_id.hex(), era=era)

    def _is_told(self, market: MarketNode, since_ms: int) -> bool:
        replica = market.replica
        clock = replica.clock
        top = clock.highest_round
        fresh: set[Address] = {
            tick.witness
            for round in range(max(0, top - RECENT_ROUNDS), top + 1)
            for tick in clock.ticks_of_round(Round(round))
            if tick.time_ms >= since_ms and tick.witness not in self._own
        }
        table = replica.table
        return (
            table.weight_of_set(fresh) >= table.quorum
            and not replica.blocking()
            and not any(replica.lacks_entry_of(author) for author in self._own)
        )
