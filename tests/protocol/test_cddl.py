"""The schemas in protocol/cddl accept every valid vector and refuse the structurally invalid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cbor2
import pycddl
import pytest
from cddl_check import Rules

PROTOCOL = Path(__file__).resolve().parents[2] / "protocol"
RULES = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PROTOCOL.glob("cddl/*.cddl")))


CHECKED = Rules(RULES)


def accepts(rule: str, data: bytes) -> bool:
    return CHECKED.accepts(rule, data)


def vectors(name: str) -> Any:
    return json.loads((PROTOCOL / "vectors" / name).read_text(encoding="utf-8"))


def octets(shown: str) -> bytes:
    assert shown.startswith("0x")
    return bytes.fromhex(shown[2:])


RECORDS = [
    ("Entry", "entry.json", "valid", "invalid"),
    ("Tick", "tick.json", "valid", "invalid"),
    ("Voucher", "voucher.json", "valid", "invalid"),
    ("Checkpoint", "checkpoint.json", "valid", "invalid"),
    ("Handover", "handover.json", "valid", "invalid"),
    ("OrderProof", "order_proof.json", "valid", "invalid"),
    ("Frame", "frame.json", "valid", "invalid"),
    ("SyncRequest", "sync.json", "valid_requests", "invalid_requests"),
    ("Hello", "hello.json", "valid", "invalid"),
    ("Reply", "sync.json", "valid_replies", "invalid_replies"),
    ("CheckpointPage", "sync.json", "valid_checkpoint_pages", "invalid_checkpoint_pages"),
    ("Parts", "sync.json", "valid_parts", "invalid_parts"),
    ("SwapTerms", "swap.json", "valid", "invalid"),
    ("BondProof", "bitcoin_bond.json", "valid", "invalid"),
]

# Malformed, but not in a way that a schema can see: other encodings of the same data, and rules
# between two fields. Should a schema learn to see one, its name has to go from here.
BEYOND_A_SCHEMA = {
    "trailing_byte",
    "no_roster",
    "not_minimal",
    "key_uncompressed",
    "operation: accept_descending",
    "operation: accept_twice",
    "operation: place_post_only_ioc",
    "operation: place_post_only_fok",
    "operation: place_post_only_min",
    "operation: place_post_only_slip",
    "operation: place_min_quantity",
    "range_backwards",
    "versions_backwards",
    "agent_control",
    "rounds_backwards",
    "too_many_rounds",
    "page_no_frame",
}


def test_the_schemas_are_cddl_to_somebody_else_too() -> None:
    for rule in sorted(CHECKED.names()):
        pycddl.Schema(f"start = {rule}\n{RULES}")
    with pytest.raises(ValueError, match="missing"):
        pycddl.Schema(f"start = [ missing ]\n{RULES}")


@pytest.mark.parametrize("rule", ["Frame", "Reply"])
def test_somebody_else_accepts_records_without_groups(rule: str) -> None:
    schema = pycddl.Schema(f"start = {rule}\n{RULES}")
    ((file, key),) = [(file, key) for name, file, key, _ in RECORDS if name == rule]
    for case in vectors(file)[key]:
        schema.validate_cbor(octets(case["input"]))


@pytest.mark.parametrize(("rule", "file", "valid", "_"), RECORDS)
def test_accepts_every_valid_record(rule: str, file: str, valid: str, _: str) -> None:
    cases = vectors(file)[valid]
    assert cases
    for case in cases:
        assert accepts(rule, octets(case["input"]))


@pytest.mark.parametrize(("rule", "file", "_", "invalid"), RECORDS)
def test_refuses_every_malformed_record(rule: str, file: str, _: str, invalid: str) -> None:
    for case in vectors(file)[invalid]:
        if case["error"] == "malformed" and isinstance(case["input"], str):
            expected = case["name"] in BEYOND_A_SCHEMA
            assert accepts(rule, octets(case["input"])) == expected, case["name"]


def test_the_names_beyond_a_schema_exist() -> None:
    names = {case["name"] for _, file, _, key in RECORDS for case in vectors(file)[key]}
    assert names >= BEYOND_A_SCHEMA


def test_genesis_and_markets() -> None:
    for case in vectors("genesis.json")["valid"]:
        encoded = octets(case["encoded"])
        assert accepts("Genesis", encoded)
        record = cbor2.loads(encoded)
        for market in record[8]:
            assert accepts("Market", cbor2.dumps(market))
        for at in range(len(record)):
            if at < 10:  # without the eleventh no bonds on Bitcoin count
                assert not accepts("Genesis", cbor2.dumps(record[:at] + record[at + 1 :]))
            assert not accepts("Genesis", cbor2.dumps([*record[:at], None, *record[at + 1 :]]))
        record[8][0][4] = "barter"
        assert not accepts("Genesis", cbor2.dumps(record))


def test_bodies_of_ticks() -> None:
    for case in vectors("tick.json")["valid"]:
        assert accepts("TickBody", octets(case["body_encoded"]))


def test_signed_headers_of_evidence() -> None:
    rules = ("SignedEntryHeader", "SignedTickHeader")
    for case in vectors("evidence.json")["valid"]:
        right, wrong = rules if case["input"]["kind"] == 0 else rules[::-1]
        for part in ("first", "second"):
            header = octets(case["input"][part])
            assert accepts(right, header)
            assert not accepts(wrong, header)
            assert not accepts(right, header[:-1])


def test_leaves_of_the_state() -> None:
    seen = 0
    for story in vectors("book.json")["valid"]:
        for _, value in story["leaves"]["accounts"]:
            seen += 1
            assert accepts("AccountLeaf", octets(value))
            shorter = cbor2.loads(octets(value))[:-1]
            assert not accepts("AccountLeaf", cbor2.dumps(shorter))
    assert seen > 0


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("uint63", 1 << 63),
        ("uint63", -1),
        ("uint63", True),
        ("uint63", 1.0),
        ("quantity", 0),
        ("quantity", (1 << 62) + 1),
        ("address", bytes(19)),
        ("signature", bytes(64)),
        ("bool01", False),
        ("digest", "0" * 32),
    ],
)
def test_the_shared_types_bite(rule: str, value: object) -> None:
    assert not accepts(rule, cbor2.dumps(value))
