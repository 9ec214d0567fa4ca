"""State headers: read back as written, refused otherwise; the root names every field."""

from __future__ import annotations

import pytest
from fold_history import ANNA, BERT, History, buy, sell

from orrange_p2p.core import codec
from orrange_p2p.core.errors import InvalidError, MalformedError, OversizedError
from orrange_p2p.core.headers import MAX_HEADER_BYTES, StateHeader, decode_header


@pytest.fixture(scope="module")
def header() -> StateHeader:
    history = History()
    history.write(ANNA, sell(100, 5))
    history.write(BERT, buy(100, 3))
    history.close()
    history.close(reports=[(0, 1), (1, 1)])
    found = history.fold.header
    assert found is not None and found.reported
    return found


def test_read_back(header: StateHeader) -> None:
    assert decode_header(header.encode()) == header
    assert len(header.encode()) < MAX_HEADER_BYTES


def test_the_root_is_the_folds_and_names_every_field(header: StateHeader) -> None:
    history = History()
    outcome = history.close()
    first = history.fold.header
    assert first is not None and first.root == outcome.root == history.fold.root
    roots = {header.root}
    for name in StateHeader._fields:
        value = getattr(header, name)
        if isinstance(value, bytes):
            other: object = bytes([value[0] ^ 1]) + value[1:]
        else:
            other = value + 1 if isinstance(value, int) else ()
        roots.add(header._replace(**{name: other}).root)
    assert len(roots) == len(StateHeader._fields) + 1


def test_an_era_closes_when_its_time_is_reached(header: StateHeader) -> None:
    assert not header._replace(time_ms=header.era_end_ms - 1).closes_era
    assert header._replace(time_ms=header.era_end_ms).closes_era


def test_refuses(header: StateHeader) -> None:
    items = list(header)
    for at, item in enumerate(items):
        for wrong in (None, -1 if isinstance(item, int) else b"", 1 << 63):
            changed = [*items[:at], wrong, *items[at + 1 :]]
            with pytest.raises(MalformedError):
                decode_header(codec.encode(changed) if wrong != -1 else b"\x20")
    with pytest.raises(MalformedError):
        decode_header(header.encode() + b"\0")
    with pytest.raises(OversizedError):
        decode_header(bytes(MAX_HEADER_BYTES + 1))
    with pytest.raises(InvalidError, match="ascending"):
        decode_header(header._replace(reported=header.reported[::-1]).encode())
