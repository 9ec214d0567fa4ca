"""The memory of seen messages stays bounded on busy nodes, and small on quiet ones."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from orrange_p2p.p2p.hardening.queues import SEEN_S, SeenIds


async def test_an_id_is_new_once() -> None:
    seen = SeenIds(10)
    assert seen.add(b"a") and not seen.add(b"a") and seen.has(b"a")


async def test_a_full_memory_forgets_the_oldest() -> None:
    seen = SeenIds(2)
    for name in (b"a", b"b", b"c"):
        seen.add(name)
    assert len(seen) == 2 and not seen.has(b"a") and seen.has(b"c")


async def test_a_quiet_node_forgets_with_time(autojump_clock: MockClock) -> None:
    seen = SeenIds(1_000_000)
    for number in range(1000):
        seen.add(number.to_bytes(2, "big"))
        await trio.sleep(1)
    assert SEEN_S <= len(seen) <= SEEN_S + 2
