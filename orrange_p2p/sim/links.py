"""How a message spreads over gossipsub's mesh, computed for all nodes at once.

A node forwards a message to its mesh neighbours when it first comes, one copy after the other over
its uplink, which is busy with earlier messages for a while (a fluid queue). Its own messages it
sends to all its peers if these are no more than twelve, as production does; a network that small is
taken to be fully connected. A copy travels half the
measured round trip between the two countries, some percent more from one message to the next, or is
lost. At its next heartbeat a node tells some others, drawn anew each heartbeat, what it has; who
lacks it asks, and gets it one and a half round trips later. So an arrival is a shortest path over
links whose lengths are drawn for this message, found by relaxing all links until nothing changes.

Not modelled: joining and leaving meshes, peer scores, IDONTWANT, the choking of single links, TCP's
retransmissions (a lost copy is lost), the batching of records into frames. Processors are modelled
if ``copy_us`` says what a copy costs: a fluid queue, like an uplink, in which what arrives waits.

Arrays: ``N`` nodes, ``E`` directed links ordered by receiver; times are int32 microseconds after
the message was published, ``NEVER`` if it does not come. Everything is integers, so a seed gives
the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orrange_p2p.sim.engine import GOLDEN, Dice
from orrange_p2p.sim.latency import one_way_us
from orrange_p2p.sim.scenario import Scenario

__all__ = ["NEVER", "Links", "Spread"]

NEVER: Final = np.int32(2**30 - 1)
"""As a sum of two still fits, no sum has to be checked."""
HEARTBEAT_US: Final = 1_000_000
LAZY: Final = 6
"""Peers outside the mesh that a node tells of each message at its heartbeat (D_lazy)."""
DRAWS: Final = 8
"""Different draws of those, in turn."""
OVERHEAD_BYTES: Final = 160
"""Of a message beside its record: what gossipsub, noise and TCP add."""
JITTER_PERCENT: Final = 10
SLOWEST_US: Final = 2**22
"""The longest that one copy takes: four seconds."""
OWN_COPIES: Final = 12
"""Up to so many peers get a node's own messages at once, whether they are in its mesh or not."""
HELD_BACK: Final = 1024
"""``p2p.limits.Limits.inbound_peer_messages``: so many of a peer's messages wait at most."""
BUSY_US: Final = 2**28
"""The longest wait for an uplink: four and a half minutes."""

Times = NDArray[np.int32]
Flags = NDArray[np.bool_]


class Spread(NamedTuple):
    """What became of one message."""

    arrives_us: Times
    """(N,) after it was published."""
    copies: int
    """Sent over links, lost ones included."""
    lost: int
    duplicates: int
    """Copies that came to who had it already."""


class _Graph:
    """Directed links, at least one to each node.

    They are laid out by columns: first a link to every node, then a second one to every node that
    has two, and so on. So that each column is a prefix of the one before, nodes are renumbered by
    how many links lead to them (``seat``); the least over all links to a node is then a few minima
    of whole columns, ten times faster than ``minimum.reduceat``.
    """

    def __init__(self, sources: Sequence[Sequence[int]], way_us: Callable[[int, int], int]) -> None:
        by_degree = sorted(range(len(sources)), key=lambda node: -len(sources[node]))
        self.node = np.array(by_degree, np.intp)
        """By seat, which node sits there."""
        self.seat = np.empty(len(sources), np.intp)
        self.seat[self.node] = np.arange(len(sources))
        links: list[tuple[int, int]] = []
        self.columns: list[tuple[int, int]] = []
        """Of each column where it begins and how many links it has."""
        for column in range(len(sources[by_degree[0]])):
            part = [(sources[t][column], t) for t in by_degree if len(sources[t]) > column]
            self.columns.append((len(links), len(part)))
            links += part
        self.source = np.array([source for source, _ in links], np.intp)
        self.target = np.array([target for _, target in links], np.intp)
        self.way_us = np.array([way_us(*link) for link in links], np.int32)
        self.jitter_us = self.way_us * JITTER_PERCENT // 100
        self.seated_source = self.seat[self.source]
        self._by_link = np.empty(len(links), np.int32)

    def relax(self, arrives: Times, length: Times) -> bool:
        """Let messages go over each link once; whether that was of any use to anybody.

        ``arrives``: by seat; changed in place.
        """
        by_link, best = self._by_link, arrives.copy()
        np.take(arrives, self.seated_source, out=by_link, mode="clip")
        np.add(by_link, length, out=by_link)
        for first, count in self.columns:
            here = best[:count]
            np.minimum(here, by_link[first : first + count], out=here)
        if np.array_equal(best, arrives):
            return False
        arrives[:] = best
        return True


class Links:
    """The mesh of a scenario's nodes, and what is wrong with it at the moment."""

    def __init__(self, scenario: Scenario, places: Sequence[int], hosts: Sequence[int]) -> None:
        """``places``: (N,) index of each node's country. ``hosts``: (N,) the node whose dice it
        uses, so that adding nodes at the end changes nothing for the others."""
        self._seed = np.uint64(Dice(scenario.seed, 0, "links").bits())
        self._matrix = one_way_us(scenario.places)
        if scenario.link_ms:
            self._matrix = [[scenario.link_ms * 1000] * len(row) for row in self._matrix]
        self._process_us = np.int32(scenario.process_us)
        self._places = places
        self.hosts = hosts
        self.count = len(places)
        self._scenario = scenario
        self.weave(self.count)
        self._lazy: dict[int, _Graph] = {}
        """By draw, made when they are needed first."""
        phases = [Dice(scenario.seed, host, "heartbeat").below(HEARTBEAT_US) for host in hosts]
        self._phase_us = np.array(phases, np.int64)
        self._loss = np.uint64(scenario.loss_ppm * 2**32 // 1_000_000)
        kept = (1_000_000 - scenario.loss_ppm) ** 3  # told, asked and answered
        self._lazy_loss = np.uint64((10**18 - kept) * 2**32 // 10**18)
        self._copy_us = scenario.copy_us
        self._busy_us = np.zeros(self.count, np.int64)
        """Of the processor: what it has still to do."""
        self._flood_us = np.zeros(self.count, np.int64)
        """Of what is looked at and goes no further."""
        self._byte_ns = 8_000_000 // scenario.bandwidth_kbps
        self._backlog_us = np.zeros(self.count, np.int64)
        self._backlog_at_us = 0
        self._numbers = 0
        self.side = np.zeros(self.count, np.int32)
        """Of a partition: nothing passes from one to another."""
        self.online = np.ones(self.count, np.bool_)
        self.mute = np.zeros(self.count, np.bool_)
        """Takes and does not forward."""
        self.hold_us = np.zeros(self.count, np.int32)
        """Every message on its way to this node, if its neighbours mean it ill; ``NEVER``: all."""
        self._closed: Flags | None = None
        self._is_lazy: bool = False
        self.note_changed()

    def way_us(self, source: int, target: int) -> int:
        """One way, on average."""
        return self._matrix[self._places[source]][self._places[target]]

    def weave(self, count: int) -> None:
        """Draw a mesh among the first ``count`` nodes; the others are in none."""
        self.mesh = _weave(self._scenario, count) + [[n] for n in range(count, self.count)]
        self._mesh = _Graph(self.mesh, self.way_us)
        turns = [{target: turn for turn, target in enumerate(row, 1)} for row in self.mesh]
        links = zip(self._mesh.source.tolist(), self._mesh.target.tolist(), strict=True)
        self._turn = np.array([turns[source][target] for source, target in links], np.int32)
        """By link: as which copy of its source it goes out, from 1."""

    def note_changed(self) -> None:
        """To be called when ``side``, ``online``, ``mute`` or ``hold_us`` were changed."""
        self._closed = self._closed_of(self._mesh)
        faults = self._closed is not None or bool(self.hold_us.any())
        self._is_lazy = self.count > LAZY and (faults or bool(self._loss > 0))

    def _closed_of(self, graph: _Graph) -> Flags | None:
        source, target = graph.source, graph.target
        closed: Flags = self.side[source] != self.side[target]
        closed |= ~self.online[source] | ~self.online[target] | self.mute[source]
        return closed if closed.any() else None

    def is_open(self, source: int, target: int) -> bool:
        """Whether the two can talk."""
        return bool(
            self.online[source] and self.online[target] and self.side[source] == self.side[target]
        )

    def spread(
        self, now_us: int, origin: int, size: int, first: Sequence[int] | None = None
    ) -> Spread:
        """Publish a message of ``size`` bytes. ``first``: tell these alone, and let them spread
        it, instead of the origin's neighbours."""
        number = self._numbers = self._numbers + 1
        self._drain(now_us)
        copy_us = min(max(1, (size + OVERHEAD_BYTES) * self._byte_ns // 1000), SLOWEST_US)
        arrives = np.full(self.count, NEVER, np.int32)
        arrives[origin] = 0
        mesh = self._mesh
        noise = self._noise(number, 0, len(mesh.source))
        length = self._turn * np.int32(copy_us)
        length += mesh.way_us
        length += mesh.jitter_us * (noise & np.uint64(255)).astype(np.int32) >> 8
        length += (np.minimum(self._backlog_us, BUSY_US).astype(np.int32) + self._process_us)[
            mesh.source
        ]
        lost = (noise >> np.uint64(32)) < self._loss if self._loss else None
        shut = _either(lost, self._closed)
        if first is not None:
            for other in first:
                if self.is_open(origin, other):
                    arrives[other] = min(arrives[other], self.way_us(origin, other))
            shut = _either(shut, mesh.source == origin)
        elif self.count <= OWN_COPIES + 1:
            self._send_to_all(number, origin, copy_us, arrives)
        if self._is_lazy:
            length += self.hold_us[mesh.target]
        if self._copy_us:
            length += np.minimum(self._busy_us, BUSY_US).astype(np.int32)[mesh.target]
        if shut is not None:
            length[shut] = NEVER
        np.minimum(length, NEVER, out=length)
        arrives = self._carry(arrives, length)
        if self._is_lazy:
            arrives = self._tell(now_us, number, arrives, length, -1 if first is None else origin)
        reached = int(np.count_nonzero(arrives < NEVER))
        sent = (arrives[mesh.source] < NEVER) & (mesh.source != mesh.target)
        if self._closed is not None:
            sent &= ~self._closed
        copies = max(0, int(np.count_nonzero(sent)) - (reached - 1))
        dropped = 0 if lost is None else int(np.count_nonzero(sent & lost))
        self._backlog_us += np.bincount(mesh.source[sent], minlength=self.count) * copy_us
        if self._copy_us:
            self._busy_us += np.bincount(mesh.target[sent], minlength=self.count) * self._copy_us
        return Spread(arrives, copies, dropped, max(0, copies - dropped - (reached - 1)))

    def burden(self, now_us: int, origin: int) -> None:
        """A message that its origin's neighbours look at, and neither take nor forward.

        Nodes take messages from their neighbours in turn and hold back whoever has too many waiting
        (``p2p.gossip``). So it delays nobody else's, as long as no more than half of them flood,
        but takes half of the processor from them while any of it waits.
        """
        if self._copy_us:
            self._drain(now_us)
            waiting = self._flood_us[self.mesh[origin]] + self._copy_us
            self._flood_us[self.mesh[origin]] = np.minimum(waiting, HELD_BACK * self._copy_us)

    def _send_to_all(self, number: int, origin: int, copy_us: int, arrives: Times) -> None:
        """The first copies of a message in a small network."""
        noise = self._noise(number, 2, self.count).tolist()
        others = [n for n in range(self.count) if n != origin and self.is_open(origin, n)]
        for turn, other in enumerate(others, 1):
            if self.mute[origin] or noise[other] >> 32 < int(self._loss):
                continue
            way_us = self.way_us(origin, other)
            jitter_us = way_us * JITTER_PERCENT // 100 * (noise[other] & 255) >> 8
            took_us = way_us + jitter_us + turn * copy_us + int(self._process_us)
            took_us += min(int(self._busy_us[other]), BUSY_US)
            arrives[other] = min(took_us + int(self.hold_us[other]), int(NEVER))

    def _carry(self, arrives: Times, length: Times) -> Times:
        """Shortest paths over the mesh from where ``arrives`` is known (Bellman and Ford's)."""
        seated = arrives[self._mesh.node]
        while self._mesh.relax(seated, length):
            pass
        return seated[self._mesh.seat]

    def _tell(self, now_us: int, number: int, arrives: Times, length: Times, silent: int) -> Times:
        """With what nodes tell each other at heartbeats; ``silent`` tells nobody."""
        draw = now_us // HEARTBEAT_US % DRAWS
        if draw not in self._lazy:
            self._lazy[draw] = _Graph(_told(self._scenario, self.count, draw), self.way_us)
        graph = self._lazy[draw]
        shut = (self._noise(number, 1, len(graph.source)) >> np.uint64(32)) < self._lazy_loss
        shut |= graph.source == silent
        if (closed := self._closed_of(graph)) is not None:
            shut |= closed
        base = 3 * graph.way_us + self.hold_us[graph.target]
        base[shut] = NEVER
        np.minimum(base, NEVER, out=base)
        phase = self._phase_us - now_us
        while True:
            wait = ((phase - arrives) % HEARTBEAT_US).astype(np.int32)
            heard = np.minimum(arrives + wait, NEVER)[graph.node]
            told = arrives[graph.node]
            graph.relax(heard, base)
            np.minimum(told, heard, out=told)
            if np.array_equal(told[graph.seat], arrives):
                return arrives
            arrives = self._carry(told[graph.seat], length)

    def _drain(self, now_us: int) -> None:
        passed_us = now_us - self._backlog_at_us
        np.maximum(self._backlog_us - passed_us, 0, out=self._backlog_us)
        if self._copy_us:
            shared = self._flood_us > 0
            mine_us = np.where(shared, (passed_us + 1) // 2, passed_us)
            worked_us = np.minimum(self._busy_us, mine_us)
            self._busy_us -= worked_us
            np.maximum(self._flood_us - (passed_us - worked_us), 0, out=self._flood_us)
        self._backlog_at_us = now_us

    def _noise(self, number: int, stream: int, count: int) -> NDArray[np.uint64]:
        """Counter-based (splitmix64's finish), one for each link."""
        return _mix(np.arange(count, dtype=np.uint64) + _origin(self._seed, number, stream))


def _origin(seed: np.uint64, number: int, stream: int) -> np.uint64:
    start = (int(seed) + (4 * number + stream) * GOLDEN) & (2**64 - 1)
    return np.uint64(int(_mix(np.array([start], np.uint64))[0]))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _weave(scenario: Scenario, count: int) -> list[list[int]]:
    """Mesh neighbours of each node: each chooses some, and a choice counts for both."""
    own = min((scenario.degree + 1) // 2, count - 1)
    neighbours: list[dict[int, None]] = [{} for _ in range(count)]
    for number in range(count):
        dice = Dice(scenario.seed, number, "mesh")
        # The ring keeps the mesh whole whatever is drawn.
        chosen = [(number + 1) % count] if count > 1 else []
        while len(chosen) < own:
            other = dice.below(count)
            if other != number and other not in chosen:
                chosen.append(other)
        for other in chosen:
            neighbours[number][other] = None
            neighbours[other][number] = None
    return [list(row) or [number] for number, row in enumerate(neighbours)]


def _either(one: Flags | None, other: Flags | None) -> Flags | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other


def _told(scenario: Scenario, count: int, draw: int) -> list[list[int]]:
    """By node who tells it of messages in one draw."""
    told: list[list[int]] = []
    for number in range(count):
        dice = Dice(scenario.seed, number, f"told {draw}")
        told.append([(number + 1 + dice.below(count - 1)) % count for _ in range(LAZY)])
    return told
