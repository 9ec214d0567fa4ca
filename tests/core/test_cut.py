"""The cut: one author's log by hand, forks, then the same cuts on every node of a network."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_witnesses import (
    ERA,
    SEED,
    Network,
    Node,
    address,
    entry_digest,
    make_tick,
    run_of,
    table_of,
)

from orrange_p2p.core.clock import Clock, CommitPoint
from orrange_p2p.core.cut import (
    FRESH_LOG,
    Cut,
    CutFork,
    CutRun,
    Extension,
    LogHead,
    MissingEntry,
)
from orrange_p2p.core.dag import WINDOW_ROUNDS
from orrange_p2p.core.errors import IllegalTransitionError
from orrange_p2p.core.ids import ZERO32, Address, Digest, Round, Seq
from orrange_p2p.core.pacemaker import Pace
from orrange_p2p.core.ticks import HeadItem, Tick

FOUR = table_of(1, 1, 1, 1)
ALICE, BOB = Address(b"A" * 20), Address(b"B" * 20)


class Logs:
    """The entries that exist: honest chains, and the other sides of forks."""

    def __init__(self) -> None:
        self.prevs: dict[Digest, Digest] = {}

    def chain(self, author: Address, length: int, side: str = "", fork_at: int = 0) -> list[Digest]:
        digests: list[Digest] = []
        for seq in range(length):
            digest = entry_digest(author, seq, side if seq >= fork_at else "")
            self.prevs[digest] = digests[-1] if digests else Digest(ZERO32)
            digests.append(digest)
        return digests


def everyone(author: Address) -> bool:
    return True


def heard(round: int, *lists: tuple[int, Sequence[HeadItem]]) -> list[Tick]:
    """A history: ticks of one round by these witnesses with these heads, and a leader above."""
    ticks = [make_tick(witness, round, heads=tuple(heads)) for witness, heads in lists]
    return [*ticks, make_tick(1, round + 1)]


def step(cut: Cut, logs: Logs, *args: Any, **kwargs: Any) -> Extension:
    cut.absorb(heard(*args, **kwargs))
    return cut.extend(logs.prevs.get, everyone)


def test_an_entry_counts_when_more_than_a_third_list_it() -> None:
    logs, cut = Logs(), Cut(FOUR)
    a = logs.chain(ALICE, 2)
    assert step(cut, logs, 0, (1, [run_of(ALICE, 0, a)])) == Extension()
    second = step(cut, logs, 1, (2, [run_of(ALICE, 0, a)]))
    assert second.runs == (CutRun(ALICE, Seq(0), tuple(a)),)
    assert cut.head_of(ALICE) == LogHead(Seq(2), a[1])
    assert cut.head_of(BOB) == FRESH_LOG


def test_one_witness_counts_once_however_often_it_lists() -> None:
    logs, cut = Logs(), Cut(FOUR)
    a = logs.chain(ALICE, 1)
    for round in range(10):
        assert not step(cut, logs, round, (1, [run_of(ALICE, 0, a)])).runs


def test_authors_come_in_ascending_order_and_gaps_wait() -> None:
    logs, cut = Logs(), Cut(FOUR)
    a, b = logs.chain(ALICE, 5), logs.chain(BOB, 3)
    lists = [run_of(BOB, 0, b[:1]), run_of(ALICE, 0, a[:2]), run_of(ALICE, 3, a[3:])]
    extension = step(cut, logs, 0, (1, lists), (2, lists))
    assert extension.runs == (
        CutRun(ALICE, Seq(0), tuple(a[:2])),
        CutRun(BOB, Seq(0), tuple(b[:1])),
    )
    gap = [run_of(ALICE, 2, a[2:3])]
    assert step(cut, logs, 1, (3, gap), (4, gap)).runs == (CutRun(ALICE, Seq(2), tuple(a[2:])),)


def test_missing_entries_are_named_with_who_has_them_and_nothing_changes() -> None:
    logs, cut = Logs(), Cut(FOUR)
    a, b = logs.chain(ALICE, 2), logs.chain(BOB, 1)
    lists = [run_of(ALICE, 0, a), run_of(BOB, 0, b)]
    cut.absorb(heard(0, (2, lists), (4, lists)))
    extension = cut.extend({b[0]: ZERO32}.get, everyone)  # type: ignore[arg-type]
    holders = (address(2), address(4))
    assert extension.missing == (
        MissingEntry(ALICE, Seq(0), a[0], holders),
        MissingEntry(ALICE, Seq(1), a[1], holders),
    )
    assert (extension.runs, extension.forks) == ((), ())
    assert cut.heads() == {}
    with pytest.raises(IllegalTransitionError):
        cut.absorb(heard(1))
    assert len(cut.extend(logs.prevs.get, everyone).runs) == 2
    with pytest.raises(IllegalTransitionError):
        cut.extend(logs.prevs.get, everyone)


def test_who_is_not_eligible_waits() -> None:
    logs, cut = Logs(), Cut(FOUR)
    lists = [run_of(ALICE, 0, logs.chain(ALICE, 1))]
    cut.absorb(heard(0, (1, lists), (2, lists)))
    assert cut.extend(logs.prevs.get, lambda author: author != ALICE) == Extension()
    assert step(cut, logs, 1).runs, "eligible later, while the listings are in the window"


def test_two_supported_digests_are_a_fork_and_freeze_the_author() -> None:
    logs, cut = Logs(), Cut(FOUR)
    one, two = logs.chain(ALICE, 3), logs.chain(ALICE, 3, "other", fork_at=1)
    b = logs.chain(BOB, 1)
    extension = step(
        cut, logs, 0,
        (1, [run_of(ALICE, 0, one)]), (2, [run_of(ALICE, 0, one), run_of(BOB, 0, b)]),
        (3, [run_of(ALICE, 0, two)]), (4, [run_of(ALICE, 0, two), run_of(BOB, 0, b)]),
    )  # fmt: skip
    assert extension.forks == (CutFork(ALICE, Seq(1), tuple(sorted((one[1], two[1])))),)
    assert extension.runs == (CutRun(BOB, Seq(0), tuple(b)),), "nothing of Alice in that epoch"
    assert cut.frozen == (ALICE,)
    assert step(cut, logs, 1, (1, [run_of(ALICE, 0, one)]), (2, [run_of(ALICE, 0, one)])) == (
        Extension()
    )


def test_an_entry_that_does_not_chain_is_a_fork() -> None:
    logs, cut = Logs(), Cut(FOUR)
    one, two = logs.chain(ALICE, 3), logs.chain(ALICE, 3, "other", fork_at=1)
    lists = [run_of(ALICE, 0, one[:2])]
    assert step(cut, logs, 0, (1, lists), (2, lists)).runs
    lists = [run_of(ALICE, 2, two[2:])]
    extension = step(cut, logs, 1, (3, lists), (4, lists))
    assert (extension.runs, extension.forks) == ((), (CutFork(ALICE, Seq(2), (two[2],)),))
    assert cut.is_frozen(ALICE)


def test_an_author_that_forks_within_an_epoch_gets_nothing_of_it_cut() -> None:
    logs, cut = Logs(), Cut(FOUR)
    one, two = logs.chain(ALICE, 3), logs.chain(ALICE, 3, "other", fork_at=1)
    lists = [run_of(ALICE, 0, [one[0], one[1], two[2]])]
    extension = step(cut, logs, 0, (1, lists), (2, lists))
    assert (extension.runs, extension.forks) == ((), (CutFork(ALICE, Seq(2), (two[2],)),))
    assert cut.head_of(ALICE) == FRESH_LOG


def test_a_late_second_digest_of_an_applied_number_is_a_fork() -> None:
    logs, cut = Logs(), Cut(FOUR)
    one, two = logs.chain(ALICE, 1), logs.chain(ALICE, 1, "other")
    lists = [run_of(ALICE, 0, one)]
    assert step(cut, logs, 0, (1, lists), (2, lists)).runs
    other = [run_of(ALICE, 0, two)]
    assert not step(cut, logs, 40, (3, other)).forks
    extension = step(cut, logs, 60, (4, other))
    assert extension.forks == (CutFork(ALICE, Seq(0), tuple(sorted((one[0], two[0])))),)


def test_support_leaves_with_the_window() -> None:
    logs, cut = Logs(), Cut(FOUR)
    lists = [run_of(ALICE, 0, logs.chain(ALICE, 1))]
    step(cut, logs, 0, (1, lists))
    step(cut, logs, WINDOW_ROUNDS + 2)  # its leader is the previous one of the next
    assert not step(cut, logs, WINDOW_ROUNDS + 3, (2, lists)).runs
    assert cut.support(ALICE, Seq(0)) == {lists[0].digests[0]: (address(2),)}
    assert step(cut, logs, WINDOW_ROUNDS + 4, (1, lists)).runs, "listed again"


def test_a_new_era_keeps_heads_and_frozen_and_starts_counting_afresh() -> None:
    logs, cut = Logs(), Cut(FOUR)
    a, b = logs.chain(ALICE, 2), logs.chain(BOB, 1)
    step(cut, logs, 90, (1, [run_of(ALICE, 0, a[:1])]), (2, [run_of(ALICE, 0, a)]))
    cut.freeze(BOB)
    cut.begin_era(table_of(1, 1, 10))
    assert cut.heads() == {ALICE: LogHead(Seq(1), a[0])}
    assert not step(cut, logs, 0, (1, [run_of(ALICE, 1, a[1:])])).runs
    assert step(cut, logs, 1, (3, [run_of(ALICE, 1, a[1:]), run_of(BOB, 0, b)])).runs == (
        CutRun(ALICE, Seq(1), (a[1],)),
    )


def test_memory_follows_the_window() -> None:
    logs, cut = Logs(), Cut(FOUR)
    for round in range(0, 600, 2):
        made_up = run_of(Address(round.to_bytes(20)), 0, [entry_digest(ALICE, round)])
        a = run_of(ALICE, round, logs.chain(ALICE, round + 2)[round:])
        step(cut, logs, round, (1, [a, made_up]), (2, [a]))
        assert len(cut._lines) <= WINDOW_ROUNDS + 8
        assert len(cut._buckets) <= WINDOW_ROUNDS + 8
    assert cut.head_of(ALICE).next_seq == 600
    assert len(cut._lines[ALICE].slots) <= WINDOW_ROUNDS + 8


# Against the definition.


def naive_cuts(histories: list[list[Tick]], logs: Logs) -> list[tuple[Any, Any]]:
    """From the words of the specification: every epoch counts the whole window again."""
    heads: dict[Address, tuple[int, bytes]] = {}
    frozen: set[Address] = set()
    seen: list[Tick] = []
    floor = 0
    epochs: list[tuple[Any, Any]] = []
    for history in histories:
        seen += history
        listed: dict[Address, dict[int, dict[Digest, set[Address]]]] = {}
        for tick in seen:
            if tick.round >= floor:
                for head in tick.heads:
                    for seq, digest in enumerate(head.digests, head.first_seq):
                        slots = listed.setdefault(head.author, {}).setdefault(seq, {})
                        slots.setdefault(digest, set()).add(tick.witness)
        runs, forks = [], []
        for author in sorted(set(listed) - frozen):
            supported = {
                seq: sorted(d for d, who in slot.items() if 3 * FOUR.weight_of_set(who) > 4)
                for seq, slot in listed[author].items()
            }
            doubles = sorted(seq for seq, digests in supported.items() if len(digests) > 1)
            if doubles:
                forks.append((author, doubles[0], tuple(supported[doubles[0]])))
                continue
            first, head = heads.get(author, (0, ZERO32))
            run: list[Digest] = []
            while supported.get(first + len(run)):
                (digest,) = supported[first + len(run)]
                if logs.prevs[digest] != (run[-1] if run else head):
                    forks.append((author, first + len(run), (digest,)))
                    run = []
                    break
                run.append(digest)
            if run:
                runs.append((author, first, tuple(run)))
                heads[author] = (first + len(run), run[-1])
        frozen |= {fork[0] for fork in forks}
        epochs.append((tuple(runs), tuple(forks)))
        floor = history[-1].round - 64
    return epochs


@settings(max_examples=200, derandomize=True)
@given(st.integers(0, 1 << 32))
def test_the_incremental_cut_is_the_naive_one(seed: int) -> None:
    chance = random.Random(seed)
    logs = Logs()
    authors = [Address(bytes([65 + i]) * 20) for i in range(4)]
    sides = [
        (author, logs.chain(author, 8, side, fork_at=chance.randint(0, 7)))
        for author in authors
        for side in (("", "x", "y") if author == authors[0] else ("", "x"))
    ]
    straight = {author: logs.chain(author, 8) for author in authors}
    histories: list[list[Tick]] = []
    round = 0
    for _ in range(chance.randint(1, 25)):
        history: list[Tick] = []
        for witness in FOUR.addresses:
            for _ in range(chance.randint(0, 2)):
                heads: dict[Address, HeadItem] = {}
                for author in authors:
                    chain = straight[author]
                    if chance.random() < 0.08:
                        chain = chance.choice([c for a, c in sides if a == author])
                    first = chance.randint(0, 7)
                    if chance.random() < 0.4:
                        heads[author] = run_of(author, first, chain[first : first + 4])
                past = max(0, round - chance.choice((0, 1, 2, 30, 70)))
                history.append(make_tick(witness, past, heads=[heads[a] for a in sorted(heads)]))
        history.append(make_tick(1, round + 1))
        histories.append(history)
        round += chance.choice((1, 1, 2, 20))
    cut = Cut(FOUR)
    for history, (runs, forks) in zip(histories, naive_cuts(histories, logs), strict=True):
        cut.absorb(history)
        # Entries arrive late and in no order: the outcome must be the same.
        store: dict[Digest, Digest] = {}
        extension = cut.extend(store.get, everyone)
        while extension.missing:
            fetched = chance.choice(extension.missing).digest
            store[fetched] = logs.prevs[fetched]
            extension = cut.extend(store.get, everyone)
        assert extension == Extension(runs, (), forks)


# On a network.


def trade(network: Network, authors: int, length: int, forkers: int = 0) -> dict[Address, int]:
    """Give every honest node the authors' entries, late, in no order; forkers' sides differ."""
    chance = network.chance
    lengths: dict[Address, int] = {}
    logs = Logs()
    for number in range(authors):
        author = Address(bytes([100 + number]) * 20)
        lengths[author] = length
        sides = [logs.chain(author, length)]
        if number < forkers:
            sides.append(logs.chain(author, length, "other", fork_at=length // 2))
        for index, node in enumerate(network.honest):
            # Half of them first get the one side; in the end everybody has everything.
            for order in range(len(sides)):
                side = sides[(index + order) % len(sides)]
                for seq, digest in enumerate(side):
                    at = network.now + 150 * seq + chance.randrange(3000) + 4000 * order
                    network.at(at, lambda a=(node, author, seq, digest): note(*a))
    network.entries = logs.prevs

    def note(node: Node, author: Address, seq: int, digest: Digest) -> None:
        if not node.cut.is_frozen(author):
            node.logs.note_entry(author, Seq(seq), digest, logs.prevs[digest])

    return lengths


@settings(max_examples=12, derandomize=True)
@given(st.integers(0, 1 << 32))
def test_every_node_cuts_the_same(seed: int) -> None:
    network = Network(table_of(1, 1, 1, 1), seed % 2, seed)
    lengths = trade(network, authors=4, length=20, forkers=2)
    assert network.run_rounds(60)
    assert network.disagreement() is None
    longest = max((node.extensions for node in network.honest), key=len)
    for node in network.honest:
        assert node.extensions == longest[: len(node.extensions)]
        for author in sorted(lengths)[2:]:
            assert node.cut.head_of(author).next_seq == lengths[author], "everything gets in"
    frozen = {fork.author for extension in longest for fork in extension.forks}
    assert frozen <= set(sorted(lengths)[:2]), "nobody honest is frozen"


def test_forkers_are_frozen_at_the_same_epoch_for_everyone() -> None:
    frozen_in: list[int] = []
    for seed in range(10):
        network = Network(table_of(1, 1, 1, 1), 0, seed)
        trade(network, authors=2, length=20, forkers=1)
        assert network.run_rounds(60)
        epochs = {
            tuple(i for i, extension in enumerate(node.extensions) if extension.forks)
            for node in network.honest
        }
        assert len(epochs) == 1
        frozen_in += epochs.pop()
    assert len(frozen_in) >= 8, "two of four held each side, so the clock itself sees the fork"


def test_a_late_joiner_cuts_what_veterans_cut() -> None:
    """From the checkpoint's heads and the window's ticks alone."""
    network = Network(table_of(1, 1, 1, 1), 0, seed=8, delay_ms=300, loss=0.0)
    trade(network, authors=3, length=200, forkers=1)
    assert network.run_rounds(100)
    veteran = network.honest[0]
    point = veteran.clock.last_committed
    assert point is not None
    joiner = Clock(veteran.table, ERA, SEED, resume_at=CommitPoint(*point))
    cut = Cut(veteran.table, veteran.cut.heads(), veteran.cut.frozen)
    for round in range(veteran.clock.first_round_kept, veteran.clock.highest_round + 1):
        for tick in veteran.clock.ticks_of_round(Round(round)):
            joiner.add(tick)
    cut.prime(joiner.covered_ticks())
    done = len(veteran.extensions)
    decided = []
    assert network.run_rounds(150)
    for tick in sorted(veteran.received.values(), key=lambda tick: tick.round):
        decided += joiner.add(tick).decided
    extensions = []
    for each in decided:
        if each.leader is not None:
            cut.absorb(each.history)
            extensions.append(cut.extend(network.entries.get, everyone))
    assert len(extensions) > 40
    assert extensions == veteran.extensions[done : done + len(extensions)]
    assert any(extension.runs for extension in extensions)


def test_a_full_tick_lists_the_rest_in_the_next() -> None:
    network = Network(table_of(1, 1, 1, 1), 0, seed=2, delay_ms=100, pace=Pace(max_listed=5))
    lengths = trade(network, authors=6, length=12)
    assert network.run_rounds(90)
    for node in network.honest:
        assert all(
            sum(len(head.digests) for head in tick.heads) <= 5 for tick in node.received.values()
        )
        assert {a: node.cut.head_of(a).next_seq for a in lengths} == lengths
