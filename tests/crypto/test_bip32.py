"""BIP-32's own first vector."""

from __future__ import annotations

import pytest

from orrange_p2p.crypto.bip32 import HARDENED, derive

SEED = bytes(range(16))


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        ((), "e8f32e723decf4051aefac8e2c93c9c5b214313817cdb01a1494b917c8436b35"),
        ((HARDENED,), "edb2e14f9ee77d26dd93b4ecede8d16ed408ce149b6cd80b0715a2d911a0afea"),
        (
            (HARDENED, 1, HARDENED + 2, 2, 1_000_000_000),
            "471b76e389e528d6de6d816857e012c5455051cad6660850e58372a6c3e6e7c8",
        ),
    ],
)
def test_keys_along_a_path(path: tuple[int, ...], secret: str) -> None:
    assert derive(SEED, path).hex() == secret
