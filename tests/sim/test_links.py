"""How messages spread: the relaxed arrays against a queue that follows every copy."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrange_p2p.sim import links as links_module
from orrange_p2p.sim.links import NEVER, OVERHEAD_BYTES, Links, Spread
from orrange_p2p.sim.scenario import Scenario

PLACES = ("US", "DE", "JP")


def links_of(scenario: Scenario) -> Links:
    numbers = range(scenario.nodes)
    return Links(scenario, [n % len(scenario.places) for n in numbers], numbers)


def network(**changes: object) -> Scenario:
    return Scenario(nodes=16, degree=4, places=PLACES).evolved(**changes)


def followed(links: Links, spread_number: int, origin: int, size: int) -> dict[int, int]:
    """When each node is reached, by following every copy in the order of time."""
    mesh = links._mesh
    noise = links._noise(spread_number, 0, len(mesh.source)).tolist()
    copy_us = max(1, (size + OVERHEAD_BYTES) * links._byte_ns // 1000)
    out: dict[int, list[tuple[int, int]]] = {}
    for number, (source, target) in enumerate(
        zip(mesh.source.tolist(), mesh.target.tolist(), strict=True)
    ):
        if noise[number] >> 32 < int(links._loss):
            continue
        if links.side[source] != links.side[target] or links.mute[source]:
            continue
        if not (links.online[source] and links.online[target]):
            continue
        way_us = links.way_us(source, target)
        jitter_us = way_us * links_module.JITTER_PERCENT // 100 * (noise[number] & 255) >> 8
        turn = links.mesh[source].index(target) + 1
        length = way_us + jitter_us + turn * copy_us + int(links._process_us)
        out.setdefault(source, []).append((target, length))
    reached: dict[int, int] = {}
    queue = [(0, origin)]
    while queue:
        time_us, node = heapq.heappop(queue)
        if node in reached:
            continue
        reached[node] = time_us
        for target, length in out.get(node, ()):
            heapq.heappush(queue, (time_us + length, target))
    return reached


@given(
    seed=st.integers(0, 1000),
    origin=st.integers(0, 15),
    size=st.integers(1, 100_000),
    mute=st.sets(st.integers(0, 15), max_size=6),
    offline=st.sets(st.integers(0, 15), max_size=4),
    sides=st.sampled_from([1, 2, 3]),
)
@settings(max_examples=60)
def test_arrivals_are_those_of_copies_followed_one_by_one(
    seed: int, origin: int, size: int, mute: set[int], offline: set[int], sides: int
) -> None:
    links = links_of(network(seed=seed))
    links.mute[list(mute - {origin})] = True
    links.online[list(offline - {origin})] = False
    links.side[:] = np.arange(16) % sides
    links.note_changed()
    links._is_lazy = False
    spread = links.spread(0, origin, size)
    expected = followed(links, 1, origin, size)
    assert {n: int(t) for n, t in enumerate(spread.arrives_us) if t < NEVER} == expected


def test_what_links_lose_heartbeats_bring() -> None:
    lossy = links_of(network(loss_ppm=600_000))
    spreads = [lossy.spread(number * 10_000_000, 0, 300) for number in range(50)]
    assert sum(one.lost for one in spreads) > 100
    reached = [int((one.arrives_us < NEVER).sum()) for one in spreads]
    lossy._is_lazy = False
    alone = [lossy.spread(10**9 + n * 10_000_000, 0, 300) for n in range(50)]
    assert sum(reached) > sum(int((one.arrives_us < NEVER).sum()) for one in alone)
    late = [int(one.arrives_us[one.arrives_us < NEVER].max()) for one in spreads]
    assert max(late) > 1_000_000, "a heartbeat later"


def test_a_busy_uplink_makes_messages_wait_and_drains() -> None:
    links = links_of(network(bandwidth_kbps=1000))
    first, second = links.spread(0, 0, 50_000), links.spread(0, 0, 50_000)
    later = links.spread(60_000_000, 0, 50_000)
    assert total(second) > total(first)
    assert abs(total(later) - total(first)) < total(second) - total(first)


def total(spread: Spread) -> int:
    return int(spread.arrives_us.astype(np.int64).sum())


def test_only_those_who_are_told_spread_it() -> None:
    links = links_of(network())
    told = links.spread(0, 0, 300, first=[5])
    assert int(told.arrives_us[5]) == links.way_us(0, 5)
    assert (told.arrives_us < NEVER).all()
    assert int(links.spread(0, 0, 300, first=[]).arrives_us[1:].min()) == NEVER


@pytest.mark.parametrize(("delay_us", "is_reached"), [(int(NEVER), False), (700_000, True)])
def test_an_eclipsed_node_hears_late_or_never(delay_us: int, is_reached: bool) -> None:
    links = links_of(network())
    before = int(links.spread(0, 0, 300).arrives_us[7])
    links.hold_us[7] = delay_us
    links.note_changed()
    after = int(links.spread(0, 0, 300).arrives_us[7])
    assert (after < int(NEVER)) is is_reached
    assert after > before + 600_000


def test_one_node_alone_reaches_itself() -> None:
    links = links_of(Scenario(nodes=1, witnesses=1, degree=1))
    spread = links.spread(0, 0, 300)
    assert spread.arrives_us.tolist() == [0] and spread.copies == spread.duplicates == 0


def test_copies_and_duplicates_add_up() -> None:
    links = links_of(network())
    spread = links.spread(0, 3, 300)
    sent = sum(len(row) for row in links.mesh)
    assert spread.copies == sent - 15  # nobody sends back to whom it has it from
    assert spread.duplicates == spread.copies - 15 and spread.lost == 0


def test_in_a_small_network_the_first_copies_go_to_everybody() -> None:
    scenario = Scenario(nodes=13, degree=4, link_ms=50)
    arrives = links_of(scenario).spread(0, 0, 300).arrives_us
    assert arrives.max() < 60_000
    larger = links_of(scenario.evolved(nodes=14)).spread(0, 0, 300).arrives_us
    assert larger.max() > 100_000
