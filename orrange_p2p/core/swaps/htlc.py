"""A swap over two chains: one table for both parties (protocol/09-swaps.md, The table).

The *initiator* holds the secret and locks the long leg first; the *responder* locks the short one.
Each has an *own* lock and waits for the *other*. ``observe`` makes events of what the chains show
at their heads; ``advance`` is all that moves a swap; ``duty`` is what its state asks for at every
head, which the chains' adapters take any number of times. So a crash needs no treatment of its
own: the state that was kept last, and another look, are enough.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from orrange_p2p.core.errors import IllegalTransitionError
from orrange_p2p.core.swaps.legs import Lock, LockState, LockView
from orrange_p2p.core.swaps.schedule import ChainClass, Schedule

__all__ = [
    "ENDED",
    "TRANSITIONS",
    "Duty",
    "Role",
    "Sight",
    "Swap",
    "SwapEvent",
    "SwapProgress",
    "SwapState",
    "advance",
    "duty",
    "observe",
]


class Role(enum.IntEnum):
    """Which of the two parties we are."""

    INITIATOR = 0
    """Knows the secret; locks first, for longer."""
    RESPONDER = 1


class Swap(NamedTuple):
    """What both parties agreed on; nothing in it ever changes."""

    role: Role
    own: Lock
    """The leg that we lock."""
    other: Lock
    """The leg that is for us."""
    own_class: ChainClass
    other_class: ChainClass
    schedule: Schedule


class SwapState(enum.IntEnum):
    """Where a swap stands for us."""

    READY = 0
    """Nothing of ours is on its way."""
    LOCKING = 1
    """Our lock may have been sent; it is in no block."""
    CANCELLING = 2
    """It came too late, or the other's is gone: our lock shall not get into a block any more."""
    LOCKED = 3
    """Our lock is in a block."""
    CLAIMING = 4
    """The secret is out, or may be: we take what is ours by it."""
    REFUNDING = 5
    """Our lock's time has passed unclaimed: we take it back."""
    SWAPPED = 6
    """What was for us is ours, for good."""
    REFUNDED = 7
    """What we gave is ours again, for good."""
    UNLOCKED = 8
    """We never locked anything."""
    LOST = 9
    """The other has both. No chain that keeps within its class's bounds leads here."""


ENDED: Final = frozenset(
    {SwapState.SWAPPED, SwapState.REFUNDED, SwapState.UNLOCKED, SwapState.LOST}
)


class SwapEvent(enum.IntEnum):
    """What two heads can show."""

    MAY_LOCK = 0
    """It is our turn, in time."""
    CALLED_OFF = 1
    """It is too late for our lock, or the other's that it answers is gone."""
    OWN_LOCKED = 2
    """Our lock is in a block."""
    OWN_VANISHED = 3
    """Our lock is in no block any more."""
    MAY_CLAIM = 4
    """Initiator: the other's lock is deep, and it is time to show the secret. Both: it is out."""
    OWN_EXPIRED = 5
    """Our lock can go back, and nothing in sight claims it."""
    CLAIM_DEEP = 6
    """The other's lock is ours, at a depth that stays."""
    CLAIM_FAILED = 7
    """The other's lock went back to its sender, at a depth that stays, or never came."""
    REFUND_DEEP = 8
    """Our lock is ours again, at a depth that stays."""
    NEVER_LOCKED = 9
    """Our lock is not there, and its time passed so long ago that it never will be."""
    TAKEN = 10
    """Our lock is the other's, and the other's went back to it, both at a depth that stays."""


class Duty(enum.IntEnum):
    """What a state asks of a chain, at every head until it is left."""

    LOCK = 0
    CANCEL = 1
    CLAIM = 2
    REFUND = 3


_S, _E = SwapState, SwapEvent
TRANSITIONS: Final[dict[tuple[SwapState, SwapEvent], SwapState]] = {
    (_S.READY, _E.MAY_LOCK): _S.LOCKING,
    (_S.READY, _E.CALLED_OFF): _S.UNLOCKED,
    (_S.LOCKING, _E.OWN_LOCKED): _S.LOCKED,
    (_S.LOCKING, _E.CALLED_OFF): _S.CANCELLING,
    (_S.LOCKING, _E.MAY_CLAIM): _S.CLAIMING,
    (_S.LOCKING, _E.REFUND_DEEP): _S.REFUNDED,
    (_S.CANCELLING, _E.OWN_LOCKED): _S.LOCKED,
    (_S.CANCELLING, _E.MAY_CLAIM): _S.CLAIMING,
    (_S.CANCELLING, _E.REFUND_DEEP): _S.REFUNDED,
    (_S.CANCELLING, _E.NEVER_LOCKED): _S.UNLOCKED,
    (_S.LOCKED, _E.OWN_VANISHED): _S.LOCKING,
    (_S.LOCKED, _E.MAY_CLAIM): _S.CLAIMING,
    (_S.LOCKED, _E.OWN_EXPIRED): _S.REFUNDING,
    (_S.LOCKED, _E.REFUND_DEEP): _S.REFUNDED,
    (_S.CLAIMING, _E.CLAIM_DEEP): _S.SWAPPED,
    (_S.CLAIMING, _E.CLAIM_FAILED): _S.REFUNDING,
    (_S.CLAIMING, _E.TAKEN): _S.LOST,
    (_S.REFUNDING, _E.REFUND_DEEP): _S.REFUNDED,
    (_S.REFUNDING, _E.MAY_CLAIM): _S.CLAIMING,
    (_S.REFUNDING, _E.NEVER_LOCKED): _S.UNLOCKED,
}
"""Everything that can happen; any other pair raises and changes nothing."""

_DUTIES: Final = {
    _S.LOCKING: Duty.LOCK,
    _S.CANCELLING: Duty.CANCEL,
    _S.CLAIMING: Duty.CLAIM,
    _S.REFUNDING: Duty.REFUND,
}


class SwapProgress(NamedTuple):
    """Where a swap stands; to be kept before anything is done about it."""

    state: SwapState = SwapState.READY
    preimage: bytes = b""
    """The secret, once a chain has shown it."""


class Sight(NamedTuple):
    """What the two chains show now."""

    own: LockView
    other: LockView
    own_time_s: int
    other_time_s: int
    can_lock: bool = False
    """Whether our chain would take our lock; looked at only while nothing was sent."""


def advance(progress: SwapProgress, event: SwapEvent, sight: Sight) -> SwapProgress:
    """Where a swap stands after an event. Raises ``IllegalTransitionError`` for what the table does
    not list."""
    target = TRANSITIONS.get((progress.state, event))
    if target is None:
        raise IllegalTransitionError(f"{event.name} of a swap that is {progress.state.name}")
    return SwapProgress(target, progress.preimage or sight.own.preimage or sight.other.preimage)


def duty(swap: Swap, progress: SwapProgress, sight: Sight) -> Duty | None:
    """What the state asks for at these heads; the same again does no harm."""
    state = progress.state
    if state is SwapState.REFUNDING and not _is_expired(swap, sight):
        return None
    if state is SwapState.CLAIMING and _is_too_late_to_reveal(swap, progress, sight):
        return None
    # What has ended could be locked a second time.
    if state is SwapState.LOCKING and sight.own.state > LockState.LOCKED:
        return None
    return _DUTIES.get(state)


def observe(swap: Swap, progress: SwapProgress, sight: Sight) -> SwapEvent | None:
    """What the heads say that the state has yet to follow; None if nothing.

    To be asked again after each event, since one head can bring several.
    """
    state = progress.state
    if state in ENDED:
        return None
    if state is SwapState.READY:
        return _before_locking(swap, sight)
    if state is SwapState.CLAIMING:
        return _while_claiming(swap, sight)
    # Before anything is concluded from a time that has passed: is the secret out, and of use?
    is_out = bool(sight.own.preimage or sight.other.preimage)
    is_taken = sight.own.state is LockState.CLAIMED
    if is_out and (is_taken or not _is_beyond_us(swap, sight)):
        return SwapEvent.MAY_CLAIM
    if _may_reveal(swap, state, sight):
        return SwapEvent.MAY_CLAIM
    if _refunded_for_good(swap.own_class, sight.own):
        return SwapEvent.REFUND_DEEP
    if state is SwapState.LOCKED:
        if sight.own.state is LockState.ABSENT or _is_unmined(sight.own):
            return SwapEvent.OWN_VANISHED
        if sight.own.state is LockState.LOCKED and _is_expired(swap, sight):
            return SwapEvent.OWN_EXPIRED
        return None
    if state is SwapState.REFUNDING:
        return SwapEvent.NEVER_LOCKED if _is_never_locked(swap, sight) else None
    return _while_locking(swap, state, sight)


def _before_locking(swap: Swap, sight: Sight) -> SwapEvent | None:
    times, now = swap.schedule, _short_time(swap, sight)
    if swap.role is Role.INITIATOR:
        if now > times.lock_long_by_s:
            return SwapEvent.CALLED_OFF
        return SwapEvent.MAY_LOCK if sight.can_lock else None
    if now > times.lock_short_by_s:
        return SwapEvent.CALLED_OFF
    # A chain whose time runs further ahead than its class allows would shorten our time to claim.
    is_honest_time = sight.other_time_s <= now + swap.other_class.ahead_s
    if sight.can_lock and is_honest_time and _is_deep(swap.other_class, sight.other):
        return SwapEvent.MAY_LOCK
    return None


def _while_locking(swap: Swap, state: SwapState, sight: Sight) -> SwapEvent | None:
    if sight.own.state is LockState.LOCKED and sight.own.confirmations > 0:
        return SwapEvent.OWN_LOCKED
    if state is SwapState.CANCELLING:
        return SwapEvent.NEVER_LOCKED if _is_never_locked(swap, sight) else None
    times, now = swap.schedule, _short_time(swap, sight)
    if swap.role is Role.INITIATOR:
        return SwapEvent.CALLED_OFF if now > times.long_deep_by_s else None
    if now > times.short_deep_by_s or sight.other.state is not LockState.LOCKED:
        return SwapEvent.CALLED_OFF
    return None


def _while_claiming(swap: Swap, sight: Sight) -> SwapEvent | None:
    other = sight.other
    if other.state is LockState.CLAIMED and _has_depth(swap.other_class, other.end_confirmations):
        return SwapEvent.CLAIM_DEEP
    if not _is_beyond_us(swap, sight):
        return None
    own = sight.own
    if own.state is not LockState.CLAIMED:
        return SwapEvent.CLAIM_FAILED
    return SwapEvent.TAKEN if _has_depth(swap.own_class, own.end_confirmations) else None


def _is_beyond_us(swap: Swap, sight: Sight) -> bool:
    """Whether the other's lock can never be claimed any more."""
    other = sight.other
    if other.state is LockState.ABSENT:
        return _is_past(swap.other, swap.other_class, sight.other_time_s)
    return _refunded_for_good(swap.other_class, other)


def _may_reveal(swap: Swap, state: SwapState, sight: Sight) -> bool:
    return (
        swap.role is Role.INITIATOR
        and state is SwapState.LOCKED
        and _is_deep(swap.other_class, sight.other)
        and _short_time(swap, sight) <= swap.schedule.reveal_by_s
    )


def _is_too_late_to_reveal(swap: Swap, progress: SwapProgress, sight: Sight) -> bool:
    """Whether a secret that is not out yet, as far as anybody can see, would come out so late that
    the other could take its lock back and ours by it. We were down for longer than we may be, just
    after we had kept that we would show it. Had we sent the claim before, it goes on by itself."""
    if progress.preimage or sight.own.preimage or sight.other.preimage:
        return False
    return sight.other_time_s > swap.other.timelock_s - swap.other_class.confirm_s


def _short_time(swap: Swap, sight: Sight) -> int:
    return sight.other_time_s if swap.role is Role.INITIATOR else sight.own_time_s


def _is_expired(swap: Swap, sight: Sight) -> bool:
    return sight.own_time_s >= swap.own.timelock_s


def _is_never_locked(swap: Swap, sight: Sight) -> bool:
    is_past = _is_past(swap.own, swap.own_class, sight.own_time_s)
    return sight.own.state is LockState.ABSENT and is_past


def _is_past(lock: Lock, chain: ChainClass, time_s: int) -> bool:
    """Whether a lock that is not there will not come: nobody would send it, a chain may refuse."""
    return time_s >= lock.timelock_s + chain.confirm_s + chain.ahead_s


def _is_unmined(view: LockView) -> bool:
    return view.state is LockState.LOCKED and view.confirmations == 0


def _is_deep(chain: ChainClass, view: LockView) -> bool:
    is_sound = view.state is LockState.LOCKED and not view.problem
    return is_sound and _has_depth(chain, view.confirmations)


def _refunded_for_good(chain: ChainClass, view: LockView) -> bool:
    return view.state is LockState.REFUNDED and _has_depth(chain, view.end_confirmations)


def _has_depth(chain: ChainClass, confirmations: int) -> bool:
    return confirmations >= chain.confirmations
