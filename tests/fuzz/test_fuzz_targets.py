"""The fuzzer's targets hold for its seeds, and for these cut short, spoiled and joined.

`make fuzz` looks further, guided by coverage. What it finds becomes a vector before it is fixed.
"""

from __future__ import annotations

import random

import pytest
from fuzz_targets import TARGETS, seeds

ROUNDS = 3
LONGEST = 4096


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_their_neighbours(target: str) -> None:
    dice = random.Random(target)
    check = TARGETS[target]
    known = [seed[:LONGEST] for seed in seeds(target)]
    assert known
    for seed in known:
        check(seed)
        for _ in range(ROUNDS):
            check(spoiled(seed, dice))
            check(seed[: dice.randrange(len(seed) + 1)])
            check(seed + dice.choice(known)[: dice.randrange(64)])


def spoiled(seed: bytes, dice: random.Random) -> bytes:
    octets = bytearray(seed or b"\x00")
    for _ in range(dice.randint(1, 4)):
        octets[dice.randrange(len(octets))] = dice.randrange(256)
    return bytes(octets)
