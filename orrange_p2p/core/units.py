"""Amounts as people write them: exact decimals of whole coins, to and from smallest units.

Nothing is rounded on the way in. What does not fit is an error that names what would.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import attrs

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Amount, Lots, Price
from orrange_p2p.core.operations import MAX_QUANTITY

__all__ = ["MAX_DECIMALS", "Units", "parse_amount", "show_amount"]

MAX_DECIMALS: Final = 77
"""Of a token: more digits than 2^256 has are no amount of anything."""
_DECIMAL: Final = re.compile(r"([0-9]{1,78})(?:\.([0-9]{1,78}))?|\.([0-9]{1,78})")


def parse_amount(text: str, decimals: int) -> Amount:
    """So many coins in smallest units. Raises ``ConfigError`` for what is no amount of them."""
    numerator, scale = _parse(text)
    amount, rest = divmod(numerator * 10**decimals, scale)
    if rest:
        raise ConfigError(f"{text} has more than the {decimals} decimals that this coin has")
    if amount >= 1 << 256:
        raise ConfigError(f"{text} is more than any coin has")
    return Amount(amount)


def show_amount(amount: int, decimals: int) -> str:
    """The same amount in coins, without zeros at its end."""
    whole, rest = divmod(amount, 10**decimals)
    digits = str(rest).rjust(decimals, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


@attrs.frozen
class Units:
    """What a market's lots and ticks are in coins."""

    market: Market
    base_decimals: int
    quote_decimals: int

    def lots(self, text: str) -> Lots:
        """A quantity of base coins in lots. Raises ``ConfigError`` that names the nearest ones."""
        numerator, scale = _parse(text)
        per_lot = self.market.lot_size * scale
        return Lots(
            self._whole(text, numerator * 10**self.base_decimals, per_lot, "lot", self.show_lots)
        )

    def price(self, text: str) -> Price:
        """Quote coins for one base coin, in ticks. Raises ``ConfigError`` likewise."""
        numerator, scale = _parse(text)
        ticks, coins = self._tick()
        return Price(
            self._whole(text, numerator * coins, scale * ticks, "price tick", self.show_price)
        )

    def show_lots(self, lots: int) -> str:
        """Lots in base coins."""
        return show_amount(lots * self.market.lot_size, self.base_decimals)

    def show_price(self, price: int) -> str:
        """Ticks in quote coins for one base coin; as a fraction if no decimal is exact."""
        ticks, coins = self._tick()
        numerator = price * ticks
        for decimals in range(MAX_DECIMALS):
            amount, rest = divmod(numerator * 10**decimals, coins)
            if not rest:
                return show_amount(amount, decimals)
        return f"{numerator}/{coins}"

    def show_total(self, lots: int, price: int) -> str:
        """What so many lots cost at a price, in quote coins."""
        return show_amount(lots * price * self.market.tick_size, self.quote_decimals)

    def _tick(self) -> tuple[int, int]:
        """One tick in quote coins for one base coin, as a fraction."""
        market = self.market
        return (
            market.tick_size * 10**self.base_decimals,
            market.lot_size * 10**self.quote_decimals,
        )

    @staticmethod
    def _whole(
        text: str, numerator: int, denominator: int, what: str, show: Callable[[int], str]
    ) -> int:
        count, rest = divmod(numerator, denominator)
        if count > MAX_QUANTITY:
            raise ConfigError(f"{text} is too much: at most {show(MAX_QUANTITY)}")
        if not rest and count:
            return count
        nearest = [show(one) for one in (count, count + 1) if one]
        if not numerator:
            raise ConfigError(f"{text} is nothing: the least here is {nearest[-1]}")
        raise ConfigError(
            f"{text} is no multiple of this market's {what}, {show(1)}: "
            f"the nearest {'are' if len(nearest) > 1 else 'is'} {' and '.join(nearest)}"
        )


def _parse(text: str) -> tuple[int, int]:
    """A decimal as numerator and power of ten."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is no amount such as 12 or 0.5")
    whole, part, alone = match.groups()
    digits = part or alone or ""
    return int((whole or "") + digits), 10 ** len(digits)
