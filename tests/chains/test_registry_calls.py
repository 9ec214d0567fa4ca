"""What the registry is told, and its refusals in words."""

from __future__ import annotations

from itertools import product

from orrange_p2p.chains.evm import artifacts, registry
from orrange_p2p.core.ids import Address, Amount, Era, MarketId
from orrange_p2p.crypto.hashes import keccak256

KEY, OTHER = Address(b"\x01" * 20), Address(b"\x02" * 20)
GOLD, SILVER = MarketId(b"\x03" * 32), MarketId(b"\x04" * 32)


def test_what_the_moment_adds_does_not_make_another_request() -> None:
    same = [
        (registry.bond_call(Amount(5), 100), registry.bond_call(Amount(5), 101)),
        (registry.bind_call(KEY, b"", b"\x01" * 65), registry.bind_call(KEY, b"", b"\x02" * 65)),
        (
            registry.bind_call(KEY, b"", b"\x01" * 65, b"\x07" * 64, b"\x03" * 65),
            registry.bind_call(KEY, b"", b"\x02" * 65, b"\x07" * 64, b"\x04" * 65),
        ),
        (
            registry.stand_call(GOLD, KEY, b"\x05" * 32, Era(1)),
            registry.stand_call(GOLD, KEY, b"\x06" * 32, Era(2)),
        ),
    ]
    assert all(registry.is_same_request(*two) for two in same)
    different = [
        registry.bond_call(Amount(5), 100),
        registry.bond_call(Amount(6), 100),
        registry.unbond_call(Amount(5)),
        registry.bind_call(KEY, b"", bytes(65)),
        registry.bind_call(OTHER, b"", bytes(65)),
        registry.bind_call(KEY, b"peer", bytes(65)),
        registry.bind_call(KEY, b"", bytes(65), b"\x07" * 64, bytes(65)),
        registry.bind_call(KEY, b"", bytes(65), b"\x08" * 64, bytes(65)),
        registry.allocate_call(GOLD, KEY, Amount(5)),
        registry.allocate_call(GOLD, KEY, Amount(6)),
        registry.allocate_call(SILVER, KEY, Amount(5)),
        registry.stand_call(GOLD, KEY, b"\x05" * 32, Era(1)),
        registry.stand_call(GOLD, KEY, bytes(32), Era(0)),
        registry.stand_call(SILVER, KEY, b"\x05" * 32, Era(1)),
        registry.WITHDRAW,
    ]
    for first, second in product(different, repeat=2):
        assert registry.is_same_request(first, second) is (first == second)


def test_every_refusal_of_the_contract_has_words() -> None:
    """Those of bonds and keys: of slashing and the governor nobody is told here."""
    errors = {
        f"{one['name']}({','.join(field['type'] for field in one['inputs'])})"
        for one in artifacts.load("Registry").abi
        if one["type"] == "error"
    }
    told = {
        "BondsPaused()",
        "BadBond()",
        "NothingThere()",
        "TokenTakesFee()",
        "NotSigned(address)",
        "BadKey()",
        "Taken(address)",
        "NotYours(address)",
        "Convicted(address)",
    }
    assert told < errors
    for name in told:
        assert registry.refusal(keccak256(name.encode())[:4] + bytes(32)), name
    locked = keccak256(b"StillLocked(uint64)")[:4]
    assert "StillLocked(uint64)" in errors
    assert registry.refusal(locked + (86_400).to_bytes(32, "big")) == (
        "locked until 1970-01-02 00:00 UTC"
    )
    assert registry.refusal(locked + b"\xff" * 32) == f"locked until second {(1 << 256) - 1}"
    assert registry.refusal(locked) is registry.refusal(b"") is None
