"""Which coins pay for a transaction: exactly if a set of them fits, else with change.

Branch and bound as in Bitcoin Core (Murch, "An Evaluation of Coin Selection Strategies", 2016): no
change output is cheaper now and later. If nothing fits, the smallest coin that is enough alone,
else the largest ones until it is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

__all__ = ["INPUT_VBYTES", "Selection", "fee_of", "select"]

OVERHEAD_VBYTES: Final = 11
INPUT_VBYTES: Final = 68
"""A P2WPKH input with a signature of 72 bytes."""
CHANGE_VBYTES: Final = 31
MIN_CHANGE_SATS: Final = 1_000
"""Less is left to the fee: it would cost about as much to spend."""
MAX_INPUTS: Final = 200
_TRIES: Final = 20_000


class Valued(Protocol):
    @property
    def value(self) -> int: ...


_C = TypeVar("_C", bound=Valued)


class Selection(NamedTuple):
    """Coins by their places, and what goes where."""

    places: tuple[int, ...]
    change: int
    """0: no such output."""
    fee: int


def fee_of(vbytes: int, rate: int) -> int:
    """``rate`` is in satoshis per 1,000 vbytes; rounded up, or a node might not forward it."""
    return -(-vbytes * rate // 1000)


def select(
    coins: Sequence[_C], amount: int, output_vbytes: int, rate: int, *, forced: int = 0
) -> Selection | None:
    """Coins for outputs of ``amount`` in all, the first ``forced`` ones among them in any case.

    None if they do not suffice.
    """
    each = fee_of(INPUT_VBYTES, rate)
    bare = fee_of(OVERHEAD_VBYTES + output_vbytes, rate) + amount
    must = range(forced)
    have = sum(coins[place].value - each for place in must)
    # What costs more to spend than it is worth is left alone.
    rest = sorted(
        (place for place in range(forced, len(coins)) if coins[place].value > each),
        key=lambda place: (-coins[place].value, place),
    )[: MAX_INPUTS - forced]
    values = [coins[place].value - each for place in rest]
    spare = fee_of(CHANGE_VBYTES, rate) + each
    exact = _exact(values, bare - have, spare)
    if exact is not None:
        return _made(coins, (*must, *(rest[one] for one in exact)), amount, 0)
    wanted = bare - have + fee_of(CHANGE_VBYTES, rate) + MIN_CHANGE_SATS
    chosen = _enough(values, wanted)
    if chosen is None:
        chosen = list(range(len(rest)))
        if sum(values) < bare - have:
            return None
        return _made(coins, (*must, *rest), amount, 0)
    places = (*must, *(rest[one] for one in chosen))
    vbytes = OVERHEAD_VBYTES + output_vbytes + CHANGE_VBYTES + INPUT_VBYTES * len(places)
    total = sum(coins[place].value for place in places)
    return _made(coins, places, amount, total - amount - fee_of(vbytes, rate))


def _made(coins: Sequence[_C], places: tuple[int, ...], amount: int, change: int) -> Selection:
    total = sum(coins[place].value for place in places)
    return Selection(places, change, total - amount - change)


def _enough(values: Sequence[int], wanted: int) -> list[int] | None:
    """``values`` descend."""
    if wanted <= 0:
        return []
    alone = [place for place, value in enumerate(values) if value >= wanted]
    if alone:
        return [alone[-1]]
    total, chosen = 0, []
    for place, value in enumerate(values):
        chosen.append(place)
        total += value
        if total >= wanted:
            return chosen
    return None


def _exact(values: Sequence[int], wanted: int, spare: int) -> list[int] | None:
    """Places whose values sum to ``wanted`` or up to ``spare`` more; the least waste that some
    thousand tries find."""
    if wanted <= 0:
        return [] if -wanted <= spare else None
    left = sum(values)
    best: tuple[int, list[int]] | None = None
    chosen: list[int] = []
    total, place = 0, 0
    for _ in range(_TRIES):
        hopeless = total + left < wanted or total > wanted + spare
        if not hopeless and total >= wanted:
            if best is None or total - wanted < best[0]:
                best = (total - wanted, list(chosen))
            hopeless = True
        if hopeless or place == len(values):
            while place > 0 and (not chosen or chosen[-1] != place - 1):
                place -= 1
                left += values[place]
            if not chosen:
                break
            # The last one taken is left out instead; it stays spent from ``left``.
            total -= values[chosen.pop()]
        else:
            left -= values[place]
            total += values[place]
            chosen.append(place)
            place += 1
    return None if best is None else best[1]
