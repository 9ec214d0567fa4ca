"""Attacks that need no network to be simulated: what they bring follows from the home chain alone.

A reckoning is named, has figures, and a hash of them: on every machine the same.
"""

from __future__ import annotations

import json
from fractions import Fraction
from hashlib import sha256
from typing import Any, Final

import attrs

from orrange_p2p.core.genesis import Genesis, Parameters, Witness
from orrange_p2p.core.ids import Address, TimeMs, Weight
from orrange_p2p.sim.homechain import MARKET

__all__ = ["TRADED", "elected_genesis", "reckoned", "rounded"]


TRADED: Final = attrs.evolve(MARKET, volatility_ppm=40_000)
"""Its price moves by 4 % a day: so much is exposure worth."""


def elected_genesis(seats: int = 32) -> Genesis:
    """A network that elects its witnesses, with production's parameters."""
    witness = Witness(Address(b"\x01" * 20), Weight(1), (bytes(32),))
    return Genesis(
        name="reckoned",
        home_chain="eip155:31337",
        registry=Address(b"\x0e" * 20),
        start_ms=TimeMs(0),
        open=False,
        parameters=Parameters(elected_witnesses=seats),
        witnesses=(witness,),
        authors=(),
        markets=(TRADED,),
    )


def reckoned(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Figures under their name, with their hash."""
    named = {"attack": name, **figures}
    text = json.dumps(named, sort_keys=True, separators=(",", ":"))
    return {**named, "hash": sha256(text.encode()).hexdigest()}


def rounded(value: Fraction) -> float:
    """To four digits after the point, ties to even."""
    return float(round(value, 4))
