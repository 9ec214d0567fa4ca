"""Atomic settlement: the life of a trade whose legs are one call (protocol/08-settlement.md).

All that changes where a trade stands is ``advance``, by the table ``TRANSITIONS``. The chain
decides: whoever sends a trade, in however many transactions, it settles at most once, and what a
block showed counts only once that block is final.
"""

from __future__ import annotations

import enum
from collections.abc import Container
from typing import Final, NamedTuple

from orrange_p2p.core.errors import IllegalTransitionError
from orrange_p2p.core.ids import Address, TimeMs
from orrange_p2p.core.swaps.binding import BoundTrade

__all__ = [
    "ENDED",
    "MAX_FAILURES",
    "TRANSITIONS",
    "Effect",
    "Event",
    "Fact",
    "Progress",
    "TradeState",
    "advance",
    "may_send",
]

MAX_FAILURES: Final = 8
"""So often a trade fails in transactions of ours with nobody to blame before it is abandoned."""


class TradeState(enum.IntEnum):
    """Where the settlement of a trade stands."""

    DUE = 0
    """Both signatures are kept; no transaction of ours carries it."""
    PUBLISHING = 1
    """Part of a named transaction of ours, which may have been broadcast."""
    SENT = 2
    """Kept by the chain's adapter, which sees to it that it is mined."""
    MINED = 3
    """Settled in a block that may still be replaced."""
    DENIED = 4
    """In a block that may still be replaced, the contract says by whom it does not settle."""
    SETTLED = 5
    """In a final block: both legs changed hands."""
    DEFAULTED = 6
    """In a final block: one side could not pay, or took its signature back."""
    ABANDONED = 7
    """It failed ``MAX_FAILURES`` times with nobody to blame."""
    EXPIRED = 8
    """A final block's time is past its expiry: it can settle no more, and nobody is to blame."""


ENDED: Final = frozenset(
    {TradeState.SETTLED, TradeState.DEFAULTED, TradeState.ABANDONED, TradeState.EXPIRED}
)
"""Nothing more is done about it here; the other party may still settle what is not settled."""


class Event(enum.IntEnum):
    """What can happen to it."""

    BATCHED = 0
    """A transaction of ours with it got its name."""
    KEPT = 1
    """The chain's adapter keeps that transaction."""
    LOST = 2
    """That transaction can tell of it no more: refused, reverted, or its nonce went elsewhere."""
    SHOWN_SETTLED = 3
    """A block has the contract's ``Settled``."""
    SHOWN_DEFAULT = 4
    """A block has ``Defaulted`` or ``Refused``: somebody is to blame."""
    SHOWN_FAILURE = 5
    """A block has ``Failed``: nobody is, by this alone."""
    TAKEN_BACK = 6
    """The block that showed it was replaced."""
    FINALIZED = 7
    """The block that showed it is final."""
    GIVEN_UP = 8
    """It failed too often."""
    OVERDUE = 9
    """A final block is past its expiry, and no block up to that one showed how it ended."""


class Effect(enum.IntEnum):
    """What follows."""

    PUBLISH = 0
    """Hand the named transaction to the chain's adapter: the same again is harmless."""
    TELL_SETTLED = 1
    TELL_DEFAULT = 2
    TELL_ABANDONED = 3
    TELL_EXPIRED = 4


_S, _E = TradeState, Event
TRANSITIONS: Final[dict[tuple[TradeState, Event], tuple[TradeState, tuple[Effect, ...]]]] = {
    (_S.DUE, _E.BATCHED): (_S.PUBLISHING, (Effect.PUBLISH,)),
    (_S.DUE, _E.GIVEN_UP): (_S.ABANDONED, (Effect.TELL_ABANDONED,)),
    (_S.PUBLISHING, _E.KEPT): (_S.SENT, ()),
    (_S.PUBLISHING, _E.LOST): (_S.DUE, ()),
    (_S.SENT, _E.LOST): (_S.DUE, ()),
    **{
        (state, _E.OVERDUE): (_S.EXPIRED, (Effect.TELL_EXPIRED,))
        for state in (_S.DUE, _S.PUBLISHING, _S.SENT)
    },
    # The other party may have sent it, so a block can show it in any state.
    **{
        (state, _E.SHOWN_SETTLED): (_S.MINED, ())
        for state in _S
        if state not in (_S.MINED, _S.SETTLED)
    },
    **{(state, _E.SHOWN_DEFAULT): (_S.DENIED, ()) for state in (_S.DUE, _S.PUBLISHING, _S.SENT)},
    **{(state, _E.SHOWN_FAILURE): (_S.DUE, ()) for state in (_S.DUE, _S.PUBLISHING, _S.SENT)},
    # A later try tells that it had ended already; and a log may come twice, after a restart.
    **{
        (state, event): (state, ())
        for state in (_S.MINED, _S.SETTLED)
        for event in (_E.SHOWN_SETTLED, _E.SHOWN_DEFAULT, _E.SHOWN_FAILURE)
    },
    **{
        (state, event): (state, ())
        for state in (_S.DENIED, _S.DEFAULTED, _S.ABANDONED, _S.EXPIRED)
        for event in (_E.SHOWN_DEFAULT, _E.SHOWN_FAILURE)
    },
    # The transactions of the replaced block come back into a later one, as a rule.
    (_S.MINED, _E.TAKEN_BACK): (_S.SENT, ()),
    (_S.DENIED, _E.TAKEN_BACK): (_S.SENT, ()),
    (_S.MINED, _E.FINALIZED): (_S.SETTLED, (Effect.TELL_SETTLED,)),
    (_S.DENIED, _E.FINALIZED): (_S.DEFAULTED, (Effect.TELL_DEFAULT,)),
}
"""Everything that can happen; any other pair raises and changes nothing."""


class Progress(NamedTuple):
    """Where a trade stands, and on what grounds."""

    state: TradeState = TradeState.DUE
    intent: str = ""
    """The transaction of ours that carries it; empty if none does."""
    attempts: int = 0
    """Transactions of ours made for it, the present one included."""
    failures: int = 0
    """Of those that were mined and did not settle it, with nobody to blame."""
    block: int = 0
    """Number of the block that showed how it ended; 0 while none did."""
    blamed: Address = Address(b"")
    """Whose default that block shows; empty: nobody's."""
    tx_hash: bytes = b""
    """The transaction in it whose log is the evidence, whoever sent it."""


class Fact(NamedTuple):
    """An event, and what it says."""

    event: Event
    intent: str = ""
    """With ``BATCHED``."""
    block: int = 0
    """With ``SHOWN_SETTLED`` and ``SHOWN_DEFAULT``."""
    blamed: Address = Address(b"")
    """With ``SHOWN_DEFAULT``."""
    tx_hash: bytes = b""
    """With ``SHOWN_SETTLED`` and ``SHOWN_DEFAULT``."""


def advance(progress: Progress, fact: Fact) -> tuple[Progress, tuple[Effect, ...]]:
    """Where the trade stands after ``fact``. Raises ``IllegalTransitionError`` for what the table
    does not list."""
    found = TRANSITIONS.get((progress.state, fact.event))
    if found is None:
        raise IllegalTransitionError(f"{fact.event.name} of a trade that is {progress.state.name}")
    state, effects = found
    if fact.event is Event.BATCHED:
        attempts = progress.attempts + 1
        return progress._replace(state=state, intent=fact.intent, attempts=attempts), effects
    if state is progress.state:
        return progress, effects
    if state is TradeState.DUE:
        # Before it is kept nothing was sent: a chain that cannot be reached is no failure.
        was_tried = progress.intent != "" and (
            progress.state is TradeState.SENT or fact.event is Event.SHOWN_FAILURE
        )
        failures = progress.failures + was_tried
        return progress._replace(state=state, intent="", failures=failures), effects
    if state in (TradeState.MINED, TradeState.DENIED):
        _, _, block, blamed, tx_hash = fact
        shown = progress._replace(state=state, block=block, blamed=blamed, tx_hash=tx_hash)
        return shown, effects
    if fact.event is Event.TAKEN_BACK:
        hidden = progress._replace(state=state, block=0, blamed=Address(b""), tx_hash=b"")
        return hidden, effects
    return progress._replace(state=state), effects


def may_send(trade: BoundTrade, own: Container[Address], now_ms: int, fallback_ms: int) -> bool:
    """Whether it is the turn of a party with the keys ``own``: the maker's at once, the other's
    too once the maker had ``fallback_ms``. Both sending does no harm, it costs the second a fee.
    Nobody's once it has expired."""
    if now_ms >= trade.trade.expiry_ms:
        return False
    if trade.maker in own:
        return True
    is_party = trade.trade.buyer in own or trade.trade.seller in own
    return is_party and now_ms >= trade.bound_ms + TimeMs(fallback_ms)
