"""Every course that a swap of one honest party can take, on two abstract chains, step by step.

A step is one block on each chain. An adversary moves: which of our transactions get into a block,
and when, within what the chains' classes promise; blocks that are replaced; our node down, or
crashing after it acted and before it kept what it had not kept yet; and all that the counterparty
may do. All courses are walked at once, as the set of situations that each step can lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cache
from typing import NamedTuple

from orrange_p2p.core.ids import Amount, MatchId
from orrange_p2p.core.swaps.htlc import (
    ENDED,
    Duty,
    Role,
    Sight,
    Swap,
    SwapEvent,
    SwapProgress,
    SwapState,
    advance,
    duty,
    observe,
)
from orrange_p2p.core.swaps.legs import Lock, LockState, LockView
from orrange_p2p.core.swaps.schedule import ChainClass, Schedule

DEPTH = 2
"""Confirmations; one block can be replaced."""
DELAY = 2
"""Steps within which what we keep broadcasting is in a block."""
CONFIRM = 2 * (DELAY + 1) + DEPTH
"""A block is replaced once, after which all begins anew."""
OUTAGE = 2
"""Steps for which our node may be down in all."""
CLASS = ChainClass(DEPTH, CONFIRM, 0, 0, OUTAGE)
SECRET = b"\x05" * 32
LOSS = "neither its own coins nor the other's"


def times() -> Schedule:
    lock_long_by = 1
    long_deep_by = lock_long_by + CONFIRM
    lock_short_by = long_deep_by + 1
    short_deep_by = lock_short_by + CONFIRM
    reveal_by = short_deep_by + 1
    short_timelock = reveal_by + OUTAGE + CONFIRM
    long_timelock = short_timelock + CONFIRM + OUTAGE + CONFIRM + 1
    return Schedule(
        *(lock_long_by, long_deep_by, lock_short_by, short_deep_by),
        *(reveal_by, short_timelock, long_timelock),
    )


def swap_of(role: Role, schedule: Schedule, chain: ChainClass = CLASS) -> Swap:
    def lock(timelock_s: int) -> Lock:
        names = ("eip155:1", "eip155:1/slip44:60", Amount(1), bytes(32), MatchId(bytes(32)))
        return Lock(*names, b"s", b"r", timelock_s)

    long, short = lock(schedule.long_timelock_s), lock(schedule.short_timelock_s)
    own, other = (long, short) if role is Role.INITIATOR else (short, long)
    return Swap(role, own, other, chain, chain, schedule)


class Chain(NamedTuple):
    """One leg. Depths: 0 in no block, 1 in the newest, and so on to ``DEPTH``."""

    lock: int = 0
    end: str = ""
    """C claimed, R refunded."""
    end_depth: int = 0
    reorganisations: int = 1
    """That are still to come at most."""

    def view(self) -> LockView:
        if not self.lock:
            return LockView()
        if not self.end:
            return LockView(LockState.LOCKED, self.lock)
        state = LockState.CLAIMED if self.end == "C" else LockState.REFUNDED
        secret = SECRET if self.end == "C" else b""
        return LockView(state, self.lock, self.end_depth, secret)

    def older(self) -> Chain:
        deeper = min(DEPTH, self.lock + 1) if self.lock else 0
        end_depth = min(DEPTH, self.end_depth + 1) if self.end else 0
        return self._replace(lock=deeper, end_depth=end_depth)

    def replaced(self) -> Chain | None:
        """With the newest block replaced by an empty one, if that changes anything."""
        if not self.reorganisations:
            return None
        fewer = self.reorganisations - 1
        if self.end and self.end_depth < DEPTH:
            return self._replace(end="", end_depth=0, reorganisations=fewer)
        if self.lock and self.lock < DEPTH and not self.end:
            return self._replace(lock=0, reorganisations=fewer)
        return None


class Situation(NamedTuple):
    own: Chain = Chain()
    other: Chain = Chain()
    is_lock_sent: bool = False
    """And in no block."""
    claim_age: int = -1
    """Since when our claim is broadcast and in no block; -1: it is not."""
    refund_age: int = -1
    memory: SwapProgress = SwapProgress()
    disk: SwapProgress = SwapProgress()
    is_shown: bool = False
    """Whether the counterparty knows the secret."""
    outage: int = OUTAGE


class World:
    def __init__(
        self,
        swap: Swap,
        unkept: Collection[SwapState] = (),
        look: Callable[[Swap, SwapProgress, Sight], SwapEvent | None] = observe,
    ) -> None:
        """``unkept``: states that a node with a fault enters without keeping that it did."""
        self.swap = swap
        self.unkept = frozenset(unkept)
        self.visited: set[tuple[SwapState, SwapEvent]] = set()
        self._look = cache(look)

    def outcomes(self) -> set[Situation]:
        """All situations long after the last timelock."""
        is_initiator = self.swap.role is Role.INITIATOR
        now = {Situation(is_shown=not is_initiator)}
        for time in range(1, self.swap.schedule.long_timelock_s + 4 * CONFIRM):
            now = {
                after
                for before in now
                for moved in self._chains(before, time)
                for after in self._node(moved, time)
            }
        return now

    # --- chains and counterparty ---

    def _chains(self, before: Situation, time: int) -> Iterator[Situation]:
        for own in self._own(before, time):
            yield from self._other(own, time)

    def _own(self, at: Situation, time: int) -> Iterator[Situation]:
        chain = at.own
        if (replaced := chain.replaced()) is not None:
            is_lock_sent = at.is_lock_sent or not replaced.lock
            yield at._replace(own=replaced, is_lock_sent=is_lock_sent)
        older = chain.older()
        is_expired = time >= self.swap.own.timelock_s
        is_open = bool(chain.lock) and not chain.end
        if at.is_lock_sent and not is_expired:
            yield at._replace(own=older._replace(lock=1), is_lock_sent=False)
        if is_open and at.refund_age >= 0:
            yield at._replace(own=older._replace(end="R", end_depth=1), refund_age=-1)
        if is_open and at.is_shown:
            yield at._replace(own=older._replace(end="C", end_depth=1))
        if at.refund_age < DELAY:  # while a lock may wait for ever: its fee was too low
            refund_age = at.refund_age + (at.refund_age >= 0)
            yield at._replace(own=older, refund_age=refund_age)

    def _other(self, at: Situation, time: int) -> Iterator[Situation]:
        chain = at.other
        if (replaced := chain.replaced()) is not None:
            # What a leg began goes on: a claim that was taken back is broadcast again.
            is_begun = at.claim_age >= 0 or chain.end == "C"
            yield at._replace(other=replaced, claim_age=0 if is_begun else -1)
        older = chain.older()
        is_expired = time >= self.swap.other.timelock_s
        is_open = bool(chain.lock) and not chain.end
        if not chain.lock and not is_expired:
            yield at._replace(other=older._replace(lock=1))
        if is_open and at.claim_age >= 0:
            yield at._replace(other=older._replace(end="C", end_depth=1), claim_age=-1)
        if is_open and is_expired:
            yield at._replace(other=older._replace(end="R", end_depth=1))
        if at.claim_age < DELAY or not is_open:
            claim_age = min(DELAY, at.claim_age + 1) if at.claim_age >= 0 else -1
            yield at._replace(other=older, claim_age=claim_age)

    # --- our node ---

    def _node(self, at: Situation, time: int) -> Iterator[Situation]:
        if at.outage:
            # Down, and then from what it kept; nobody broadcasts meanwhile what was sent.
            names = ("claim_age", "refund_age")
            ages = {name: age - (age > 0) for name in names for age in (getattr(at, name),)}
            yield at._replace(memory=at.disk, outage=at.outage - 1, **ages)
        sight = Sight(at.own.view(), at.other.view(), time, time, can_lock=True)
        memory, disk = at.memory, at.disk
        while (event := self._look(self.swap, memory, sight)) is not None:
            self.visited.add((memory.state, event))
            memory = advance(memory, event, sight)
            if memory.state not in self.unkept:
                disk = memory
        asked = duty(self.swap, memory, sight)
        claim_age, refund_age = at.claim_age, at.refund_age
        is_shown = at.is_shown
        if asked is Duty.CLAIM:
            is_shown = True
            if not at.other.end:
                claim_age = max(0, claim_age)
        elif claim_age >= 0 and memory.state is not SwapState.CLAIMING:
            claim_age = -1  # withheld from the chain, not from the counterparty
        if asked is Duty.REFUND and not at.own.end:
            refund_age = max(0, refund_age)
        elif refund_age > 0:
            refund_age = 0
        yield at._replace(
            is_lock_sent=at.is_lock_sent or (asked is Duty.LOCK and not at.own.lock),
            claim_age=claim_age,
            refund_age=refund_age,
            memory=memory,
            disk=disk,
            is_shown=is_shown,
        )


def fault(at: Situation) -> str:
    """What is wrong with how a course ended; empty if nothing."""
    has_own = not at.own.lock or at.own.end == "R"
    has_other = at.other.end == "C"
    if not has_own and not has_other:
        return LOSS
    if at.memory.state not in ENDED:
        return "stuck"
    return ""
