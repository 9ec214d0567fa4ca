"""Whatever an endpoint answers becomes our types or a ``MalformedError``, nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.chains.evm import answers
from orrange_p2p.core.errors import MalformedError, RefusedError, RevertedError

HASH = "0x" + "ab" * 32
BLOCK = {"number": "0x10", "hash": HASH, "parentHash": HASH, "timestamp": "0x5"}
RECEIPT = {
    "transactionHash": HASH,
    "blockNumber": "0x10",
    "blockHash": HASH,
    "status": "0x1",
    "gasUsed": "0x5208",
    "effectiveGasPrice": "0x2",
}
LOG = {
    "address": "0x" + "cd" * 20,
    "topics": [HASH],
    "data": "0x",
    "blockNumber": "0x10",
    "blockHash": HASH,
    "transactionHash": HASH,
    "logIndex": "0x0",
}
HISTORY = {"baseFeePerGas": ["0x1", "0x9"], "reward": [["0x3"], ["0x4"]]}

DECODERS = [
    (answers.quantity, "0x1f"),
    (answers.data, "0x00ff"),
    (answers.hash32, HASH),
    (answers.block, BLOCK),
    (answers.receipt, RECEIPT),
    (answers.logs, [LOG]),
    (answers.fee_history, HISTORY),
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.from_regex(r"0x[0-9a-f]{0,70}", fullmatch=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


def test_what_is_well_formed_is_read() -> None:
    assert answers.block(BLOCK) == (16, b"\xab" * 32, b"\xab" * 32, 5)
    assert answers.receipt(RECEIPT).fee_wei == 42_000
    assert answers.logs([LOG])[0].topics == (b"\xab" * 32,)
    assert answers.fee_history(HISTORY) == (9, (3, 4))
    assert answers.maybe(answers.block)(None) is None


@given(json_values)
def test_any_other_value_is_malformed(value: Any) -> None:
    for decode, _ in DECODERS:
        with suppress(MalformedError):
            decode(value)


@given(st.data(), json_values)
def test_so_is_any_member_that_is_another(data: st.DataObject, value: Any) -> None:
    for decode, sample in DECODERS[3:]:
        members = dict(sample[0] if isinstance(sample, list) else sample)
        members[data.draw(st.sampled_from(sorted(members)))] = value
        with suppress(MalformedError):
            decode([members] if isinstance(sample, list) else members)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, "9" * 10_000, '{"a":' * 50_000, '["x\\"",' * 50_000, b"\xff", "\x00"],
)
def test_what_the_decoder_chokes_on_is_malformed(text: str | bytes) -> None:
    with pytest.raises(MalformedError):
        answers.parse(text)


def test_many_lists_are_not_deep_and_brackets_in_texts_do_not_count() -> None:
    assert answers.parse("[" + "[]," * 1000 + "0]")[-1] == 0
    assert answers.parse('["' + "[{" * 1000 + '"]') == ["[{" * 1000]


def test_errors_become_ours() -> None:
    with pytest.raises(RevertedError, match="execution reverted") as reverted:
        answers.result({"error": {"code": 3, "message": "execution reverted", "data": "0x0102"}})
    assert reverted.value.data == b"\x01\x02"
    with pytest.raises(RefusedError, match="nonce too low") as refused:
        answers.result({"error": {"code": -32000, "message": "nonce too low\x1b[2J" + "x" * 999}})
    assert refused.value.code == -32000
    assert len(str(refused.value)) == 200
    for message in ({}, {"error": 1}, {"error": "x", "result": "0x1"}):
        with pytest.raises(MalformedError):
            answers.result(message)


@given(json_values)
def test_so_does_any_error(error: Any) -> None:
    with pytest.raises((MalformedError, RefusedError)):
        answers.result({"error": error} if error is not None else {})


def test_logs_out_of_order_are_malformed() -> None:
    with pytest.raises(MalformedError, match="order"):
        answers.logs([LOG, LOG])
