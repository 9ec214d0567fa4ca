"""When a witness ticks and what it lists, by hand; then whole networks stop and go."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from simulated_witnesses import (
    ERA,
    SEED,
    Network,
    address,
    entry_digest,
    full_rounds,
    make_tick,
    run_of,
    table_of,
)

from orrange_p2p.core.clock import Clock
from orrange_p2p.core.ids import ZERO32, Address, Digest, Round, Seq, TimeMs
from orrange_p2p.core.pacemaker import (
    HELD_AHEAD,
    MAX_DOUBLINGS,
    RELIST_ROUNDS,
    HeldLogs,
    Pace,
    Pacemaker,
    TickDraft,
    Wait,
)
from orrange_p2p.core.ticks import Tick
from orrange_p2p.core.witnesses import WitnessTable

FOUR = table_of(1, 1, 1, 1)
ALICE, BOB = Address(b"A" * 20), Address(b"B" * 20)


class Bench:
    """One witness at the bench: its clock, its logs, and the hand that turns time."""

    def __init__(
        self,
        table: WitnessTable = FOUR,
        witness: int = 1,
        pace: Pace | None = None,
        last: int | None = None,
    ) -> None:
        self.who = address(witness)
        self.clock = Clock(table, ERA, SEED)
        self.logs = HeldLogs()
        signed = None if last is None else Round(last)
        self.pacemaker = Pacemaker(self.who, self.clock, self.logs, pace, signed)

    def add(self, ticks: Iterable[Tick]) -> None:
        for tick in ticks:
            self.clock.add(tick)

    def poll(self, now: int) -> TickDraft | Wait:
        return self.pacemaker.poll(TimeMs(now))

    def tick(self, now: int) -> Tick:
        """Poll, expect a draft, sign it."""
        draft = self.poll(now)
        assert isinstance(draft, TickDraft), draft
        self.pacemaker.note_ticked(draft, TimeMs(now))
        tick = make_tick(self.who, draft.round, draft.parents, draft.heads, time_ms=now)
        self.clock.add(tick)
        return tick


def led_by(witness: int, first: int = 0) -> int:
    """A round from ``first`` on that this witness leads."""
    round = first
    while FOUR.leader(SEED, Round(round)) != address(witness):
        round += 1
    return round


def test_a_lone_witness_ticks_every_250_ms() -> None:
    bench = Bench(table_of(1))
    assert bench.tick(1000).round == 0
    assert bench.poll(1000) == Wait(TimeMs(1250))
    assert bench.poll(1249) == Wait(TimeMs(1250))
    assert bench.tick(1250).round == 1
    assert bench.tick(1500).round == 2
    assert bench.clock.next_round == 1


def test_a_draft_that_was_not_signed_is_drafted_again() -> None:
    bench = Bench(table_of(1))
    assert bench.poll(0) == bench.poll(0) == TickDraft(Round(0), (), ())


def test_it_waits_for_a_quorum_without_a_deadline() -> None:
    bench = Bench()
    bench.tick(0)
    assert bench.poll(10**9) == Wait(None)
    bench.add([make_tick(2, 0)])
    assert bench.poll(10**9) == Wait(None)
    bench.add([make_tick(3, 0)])
    assert isinstance(bench.poll(10**9), TickDraft)


def regular(rounds: int) -> list[Tick]:
    """Full rounds of everybody; of the last one only the ticks of the others."""
    ticks = full_rounds(FOUR, rounds)
    return [t for t in ticks if t.round < rounds - 1 or t.witness != address(1)]


def entering(round: int, now: int) -> tuple[Bench, tuple[Tick, ...]]:
    """A witness that just ticked a round on a full DAG below it, and the parents it could take."""
    bench = Bench(last=round - 1)
    bench.add(full_rounds(FOUR, round))
    bench.poll(0)
    assert bench.tick(now).round == round
    return bench, bench.clock.ticks_of_round(Round(round - 1))


def test_it_waits_for_the_leader_until_the_timeout() -> None:
    round = led_by(3, first=2)
    bench, below = entering(round, 5000)
    bench.add(make_tick(w, round, below) for w in (2, 4))
    assert bench.poll(5100) == Wait(TimeMs(5250))
    assert bench.poll(5250) == Wait(TimeMs(6000))
    late = bench.poll(6000)
    assert isinstance(late, TickDraft)
    assert len(late.parents) == 3
    bench.add([make_tick(3, round, below)])
    early = bench.poll(5250)
    assert isinstance(early, TickDraft)
    assert len(early.parents) == 4


def test_it_waits_until_the_votes_about_the_last_leader_are_settled() -> None:
    """Three ticks, two of which support the last leader: the fourth decides, or the timeout."""
    round = next(
        r for r in range(2, 100)
        if FOUR.leader(SEED, Round(r)) == address(4) and FOUR.leader(SEED, Round(r + 1))[0] == 2
    )  # fmt: skip
    bench, here = entering(round + 1, 5000)
    without_leader = [t for t in here if t.witness != address(4)]
    bench.add([make_tick(2, round + 1, here), make_tick(3, round + 1, without_leader)])
    assert not bench.clock.is_vote_settled(Round(round))
    assert bench.poll(5250) == Wait(TimeMs(6000))
    bench.add([make_tick(4, round + 1, here)])
    assert bench.clock.is_vote_settled(Round(round))
    assert isinstance(bench.poll(5250), TickDraft)


def test_for_a_proven_equivocator_it_waits_neither_as_leader_nor_as_the_last_one() -> None:
    round = next(
        r for r in range(2, 100)
        if FOUR.leader(SEED, Round(r)) == address(4) and FOUR.leader(SEED, Round(r + 1))[0] == 2
    )  # fmt: skip
    bench, here = entering(round + 1, 5000)
    without_leader = [t for t in here if t.witness != address(4)]
    bench.add([make_tick(2, round + 1, here), make_tick(3, round + 1, without_leader)])
    assert bench.poll(5250) == Wait(TimeMs(6000))
    bench.add([make_tick(4, 0, twin=1)])
    assert isinstance(bench.poll(5250), TickDraft)

    bench, here = entering(round, 5000)
    bench.add(make_tick(w, round, here) for w in (2, 3))
    assert bench.poll(5250) == Wait(TimeMs(6000))
    bench.add([make_tick(4, 0, twin=1)])
    assert isinstance(bench.poll(5250), TickDraft)


def test_a_silent_leader_is_waited_for_again_when_commits_fail_to_come() -> None:
    """Seven witnesses of whom the last is down; nobody takes up a leader's tick for 12 rounds."""
    table = table_of(*[1] * 7)
    for stalled in (False, True):
        bench = Bench(table, last=10)
        previous: list[Tick] = []
        last = next(r for r in range(12, 100) if table.leader(SEED, Round(r)) == address(7))
        for round in range(last + 1):
            above = round > last - 12
            passed_over = table.leader(SEED, Round(round - 1)) if stalled and above else None
            parents = [t for t in previous if t.witness != passed_over]
            ticks = [make_tick(w, round, parents) for w in range(1, 7)]
            previous = ticks
            bench.add(t for t in ticks if round < last or t.witness != address(1))
        assert bench.tick(0).round == last
        step = bench.poll(250)
        if stalled:
            assert step == Wait(TimeMs(32_000))
        else:
            assert isinstance(step, TickDraft)


def test_a_tick_left_behind_keeps_its_own_parent_where_a_quorum_needs_it() -> None:
    bench = Bench(last=0)
    previous: list[Tick] = []
    for round in range(60):
        previous = [make_tick(w, round, previous) for w in (2, 3, 4)]
        bench.add(previous)
    own = bench.tick(0)
    assert own.round == 59
    # Next round: with ours and all others, ours is left out; without one of the others it is not.
    full = bench.poll(10**6)
    assert isinstance(full, TickDraft)
    assert set(full.parents) == {t.digest for t in previous}
    short = Bench(last=58)
    short.add(t for r in range(59) for t in bench.clock.ticks_of_round(Round(r)))
    short.add(previous[:2])
    short.clock.add(own)
    short.pacemaker.note_ticked(TickDraft(Round(59), own.parents, ()), TimeMs(0))
    draft = short.poll(10**6)
    assert isinstance(draft, TickDraft)
    assert own.digest in draft.parents
    assert len(draft.parents) == 3


def test_the_timeout_doubles_without_commits_and_falls_back_with_one() -> None:
    bench = Bench()
    # Of each round only three ticks are seen, and the leader's is never among them.
    previous: list[Tick] = []
    timeouts = []
    for round in range(14):
        leader = FOUR.leader(SEED, Round(round))
        previous = [make_tick(w, round, previous) for w in FOUR.addresses if w != leader]
        bench.add(previous)
        timeouts.append(bench.pacemaker.leader_timeout_ms)
    assert timeouts[:4] == [1000] * 4
    assert timeouts[4:9] == [2000, 4000, 8000, 16000, 32000]
    assert max(timeouts) == 1000 << MAX_DOUBLINGS
    for round in range(14, 20):
        previous = [make_tick(w, round, previous) for w in FOUR.addresses]
        bench.add(previous)
    assert bench.pacemaker.leader_timeout_ms == 1000


def test_who_was_away_ticks_the_highest_round_that_has_a_quorum() -> None:
    bench = Bench(last=3)
    bench.add(regular(20))
    draft = bench.poll(0)
    assert isinstance(draft, TickDraft)
    assert draft.round == 19
    assert set(draft.parents) == {t.digest for t in bench.clock.ticks_of_round(Round(18))}
    bench.tick(0)
    assert bench.poll(0) == Wait(TimeMs(250))


def test_no_round_up_to_the_last_signed_one_is_ticked_again() -> None:
    bench = Bench(last=30)
    assert bench.poll(0) == Wait(None)
    bench.add(regular(20))
    assert bench.poll(10**9) == Wait(None)
    assert bench.pacemaker.last_signed_round == 30
    bench.add(t for t in regular(40) if t.round >= 19)
    assert bench.tick(10**9).round == 39


def test_it_stops_at_the_end_of_the_era() -> None:
    bench = Bench(table_of(1), pace=Pace(rounds_per_era=2))
    assert [bench.tick(now).round for now in (0, 250)] == [0, 1]
    assert bench.poll(10**9) == Wait(None)


def test_its_own_tick_is_a_parent_and_an_equivocators_is_not() -> None:
    bench = Bench()
    own = bench.tick(0)
    bench.add([make_tick(w, 0) for w in (2, 3, 4)])
    bench.add([make_tick(4, 0, twin=1)])
    draft = bench.poll(1000)
    assert isinstance(draft, TickDraft)
    assert own.digest in draft.parents
    assert len(draft.parents) == 3


def test_a_silent_leader_is_not_waited_for_while_commits_go_on() -> None:
    """One of four has crashed: after some rounds its slots cost no timeout any more."""
    network = Network(table_of(1, 1, 1, 1), 0, seed=1, delay_ms=50, loss=0)
    network.run_rounds(10)
    network.honest[3].alive = False
    network.honest[3].poll = lambda: None  # type: ignore[method-assign]
    network.run_for(20_000)
    rounds = network.honest[0].clock.highest_quorum_round
    start = network.now
    network.honest = network.honest[:3]
    network.run_rounds(rounds + 40)
    assert network.now - start < 40 * 500
    assert network.disagreement() is None


# What ticks list.


def chain(author: Address, length: int, side: str = "") -> list[tuple[Seq, Digest, Digest]]:
    """(number, digest, prev) of an author's entries."""
    digests = [entry_digest(author, seq, side) for seq in range(length)]
    prevs = [Digest(ZERO32), *digests]
    return [(Seq(seq), digest, prevs[seq]) for seq, digest in enumerate(digests)]


def test_a_tick_lists_what_is_new_beyond_its_own_parent() -> None:
    bench = Bench(table_of(1))
    entries = chain(ALICE, 5)
    digests = [digest for _, digest, _ in entries]
    for entry in entries[:2]:
        assert bench.logs.note_entry(ALICE, *entry)
    assert bench.tick(0).heads == (run_of(ALICE, 0, digests[:2]),)
    assert bench.tick(250).heads == ()
    bench.logs.note_entry(ALICE, *entries[3])
    assert bench.tick(500).heads == (), "number 2 is missing"
    bench.logs.note_entry(ALICE, *entries[2])
    assert bench.tick(750).heads == (run_of(ALICE, 2, digests[2:4]),)
    bench.logs.note_cut(ALICE, Seq(4), digests[3])
    bench.logs.note_entry(ALICE, *entries[4])
    assert bench.tick(1000).heads == (run_of(ALICE, 4, digests[4:]),)


def test_what_stays_uncut_is_listed_again_after_32_rounds() -> None:
    bench = Bench(table_of(1))
    entries = chain(ALICE, 3)
    listed: dict[int, tuple[int, int]] = {}
    for round in range(100):
        if round in (0, 10, 40):
            bench.logs.note_entry(ALICE, *entries[len(listed) and (1 if round == 10 else 2)])
        for head in bench.tick(250 * round).heads:
            listed[round] = (head.first_seq, len(head.digests))
    again = RELIST_ROUNDS
    assert listed == {0: (0, 1), 10: (1, 1), again: (0, 2), 40: (2, 1), 2 * again: (0, 3),
                      3 * again: (0, 3)}  # fmt: skip


def test_without_its_own_parent_a_tick_lists_everything_uncut() -> None:
    bench = Bench(last=3)
    for entry in chain(ALICE, 4):
        bench.logs.note_entry(ALICE, *entry)
    bench.logs.note_cut(ALICE, Seq(1), entry_digest(ALICE, 0))
    bench.add(regular(10))
    (head,) = bench.tick(0).heads
    assert (head.first_seq, len(head.digests)) == (1, 3)
    # The others go on for two rounds without our tick.
    previous = [t for t in bench.clock.ticks_of_round(Round(9)) if t.witness != address(1)]
    for round in (10, 11):
        previous = [make_tick(w, round, previous) for w in (2, 3, 4)]
        bench.add(previous)
    (again,) = bench.tick(100).heads
    assert again == head


def test_a_full_tick_leaves_the_rest_to_the_next_and_starves_nobody() -> None:
    bench = Bench(table_of(1), pace=Pace(max_listed=4))
    for author in (ALICE, BOB):
        for entry in chain(author, 6):
            bench.logs.note_entry(author, *entry)
    lists = [
        [(head.author, head.first_seq, len(head.digests)) for head in bench.tick(t).heads]
        for t in range(0, 1000, 250)
    ]
    assert lists == [[(ALICE, 0, 4)], [(BOB, 0, 4)], [(ALICE, 4, 2), (BOB, 4, 2)], []]


def test_what_was_listed_in_a_tick_left_behind_is_listed_again() -> None:
    """Also what the first tick without its own parent has no room for."""
    bench = Bench(pace=Pace(max_listed=1))
    for author in (ALICE, BOB):
        bench.logs.note_entry(author, *chain(author, 1)[0])
    assert bench.tick(0).heads[0].author == ALICE
    previous = [make_tick(w, 0) for w in (2, 3, 4)]
    bench.add(previous)
    assert bench.tick(1000).heads[0].author == BOB
    for round in (1, 2, 3):
        previous = [make_tick(w, round, previous) for w in (2, 3, 4)]
        bench.add(previous)
    assert bench.tick(1000).heads[0].author == ALICE
    bench.add(make_tick(w, 4, bench.clock.ticks_of_round(Round(3))) for w in (2, 3, 4))
    own = bench.tick(1000)
    assert (own.round, own.heads[0].author) == (4, BOB)


def test_of_a_fork_the_side_held_first_is_listed() -> None:
    logs = HeldLogs()
    one, two = chain(ALICE, 3), chain(ALICE, 3, "other")
    logs.note_entry(ALICE, *one[0])
    for entry in two:
        logs.note_entry(ALICE, *entry)
    assert logs.held(ALICE) == (one[0][1],)
    logs.note_entry(ALICE, *one[1])
    assert logs.held(ALICE) == (one[0][1], one[1][1])
    logs.note_cut(ALICE, Seq(1), two[0][1])
    assert logs.held(ALICE) == (two[1][1], two[2][1]), "the cut went the other way"
    logs.drop(ALICE)
    assert logs.authors() == []


def test_held_logs_are_bounded() -> None:
    logs = HeldLogs()
    assert not logs.note_entry(ALICE, Seq(HELD_AHEAD), Digest(bytes(32)), Digest(bytes(32)))
    loose = [Digest(bytes([n]) * 32) for n in range(1, 9)]
    assert [logs.note_entry(ALICE, Seq(5), d, d) for d in loose] == [True, True] + [False] * 6
    first = chain(ALICE, 1)[0]
    assert logs.note_entry(ALICE, *first)
    assert not logs.note_entry(ALICE, *first), "already held"
    logs.note_cut(ALICE, Seq(7), loose[0])
    assert not logs.note_entry(ALICE, *first), "already cut"
    assert logs.next_wanted(ALICE) == 7


# Networks.


@pytest.mark.parametrize(("n", "down"), [(4, 2), (7, 3), (3, 1)])
def test_below_a_quorum_it_halts_and_resumes_by_itself(n: int, down: int) -> None:
    network = Network(table_of(*[1] * n), 0, seed=n, delay_ms=400)
    assert network.run_rounds(15)
    asleep = network.honest[:down]
    for node in asleep:
        node.alive = False
    network.run_for(5_000)
    awake = network.honest[down:]
    before = [len(node.slots) for node in awake]
    rounds = [node.clock.highest_round for node in awake]
    network.run_for(300_000)
    assert [len(node.slots) for node in awake] == before
    assert max(node.clock.highest_round for node in awake) <= max(rounds) + 1
    for node in asleep:
        node.alive = True
        network.at(network.now, node.poll)
    assert network.run_rounds(max(rounds) + 30)
    assert network.disagreement() is None
    assert all(len(node.slots) > max(before) + 15 for node in network.honest)


def test_a_witness_that_nobody_heard_for_long_is_taken_back() -> None:
    """It could receive and not send for 100 rounds; then it starts afresh and is built upon."""
    network = Network(table_of(1, 1, 1, 1), 0, seed=6, delay_ms=100, loss=0)
    assert network.run_rounds(10)
    mute = network.honest[0].who
    network.cut_off = lambda sender, receiver: sender == mute
    assert network.run_rounds(110)
    network.cut_off = lambda sender, receiver: False
    assert network.run_rounds(140)
    other = network.honest[1].clock
    assert other.last_committed is not None
    assert other.last_covered_round(mute) > other.last_committed.round - 6
    assert network.disagreement() is None


def test_latency_of_a_regular_network() -> None:
    """A leader commits two rounds after its own; a round takes 250 ms or the slowest message."""
    network = Network(table_of(*[1] * 4), 0, seed=4, delay_ms=100, loss=0)
    start = network.now
    assert network.run_rounds(100)
    assert network.now - start < 100 * 300
    assert all(len(node.slots) >= 98 for node in network.honest)
    assert all(slot[1] is not None for node in network.honest for slot in node.slots)
