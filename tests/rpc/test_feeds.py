"""Channels and their listeners: snapshots first, changes in order, nobody is waited for."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import trio
import trio.testing

from orrange_p2p.rpc.feeds import MAX_BEHIND, Feeds, Subscriber


def feeds_of(counters: Counter[str]) -> Feeds:
    feeds = Feeds(counters)
    feeds.open("book", "read", lambda: {"epoch": 1})
    feeds.open("tape", "read", list)
    return feeds


async def test_a_snapshot_comes_first_and_then_every_change() -> None:
    feeds = feeds_of(Counter())
    feeds.publish("book", {"epoch": 0})  # nobody listens yet
    one = Subscriber()
    feeds.join(one, ["book", "tape"])
    for epoch in (2, 3):
        feeds.publish("book", {"epoch": epoch})
    said = [json.loads(str(await one.next())) for _ in range(4)]
    assert [(row["channel"], row["type"]) for row in said] == [
        ("book", "snapshot"),
        ("tape", "snapshot"),
        ("book", "change"),
        ("book", "change"),
    ]
    assert [row["data"]["epoch"] for row in said if row["channel"] == "book"] == [1, 2, 3]
    feeds.leave(one)
    assert not feeds.is_heard("book")


async def test_who_does_not_read_is_cut_off_and_harms_nobody() -> None:
    counters: Counter[str] = Counter()
    feeds = feeds_of(counters)
    slow, quick = Subscriber(), Subscriber()
    feeds.join(slow, ["book"])
    feeds.join(quick, ["book"])
    for epoch in range(3 * MAX_BEHIND):
        feeds.publish("book", {"epoch": epoch})
        assert await quick.next() is not None
    assert slow.is_cut_off and await slow.next() is None
    assert not quick.is_cut_off and counters["api_slow_subscribers"] == 1
    feeds.leave(slow)
    feeds.leave(quick)


async def test_a_listener_waits_for_what_comes() -> None:
    feeds = feeds_of(Counter())
    one = Subscriber()
    feeds.join(one, ["tape"])
    assert await one.next() is not None
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            feeds.publish("tape", ["match"])

        nursery.start_soon(later)
        with trio.fail_after(5):
            assert json.loads(str(await one.next()))["data"] == ["match"]


def test_a_channel_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        feeds_of(Counter()).join(Subscriber(), ["nothing"])
