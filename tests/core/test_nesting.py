"""Nesting is counted before anything is decoded, whatever Python's recursion limit says."""

from __future__ import annotations

import json
import sys

import pytest

from orrange_p2p.core import jsonrpc
from orrange_p2p.core.errors import PeerError
from orrange_p2p.core.nesting import is_deep


@pytest.mark.parametrize(
    ("text", "is_too_deep"),
    [
        ("", False),
        ("[[[]]]", False),
        ("[[[[]]]]", True),
        ('{"a":[{"b":1}]}', False),
        ('{"a":[{"b":[]}]}', True),
        ("[],[],[],[],[]", False),
        (json.dumps(["[[[[[["] * 9), False),
        (json.dumps([r'\"[[[["', "\\", "[[[["]), False),
        ('"[[[[', True),
    ],
)
def test_more_than_three(text: str, is_too_deep: bool) -> None:
    assert is_deep(text, 3) is is_too_deep


@pytest.mark.parametrize("decode", [jsonrpc.decode_request, jsonrpc.decode_answer])
def test_the_local_api_survives_a_raised_recursion_limit(decode: object) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        for line in (b"[" * 500_000, b'{"a":' * 200_000):
            with pytest.raises((PeerError, jsonrpc.BadRequestError), match="nested too deeply"):
                decode(line)  # type: ignore[operator]
    finally:
        sys.setrecursionlimit(before)
