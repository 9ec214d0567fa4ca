"""I1, I2, I5 and I6 over a network of real replicas: whatever is delivered whenever to whomever."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from network import Network, Node, disagreement, what_of
from simulated_witnesses import ERA, SEED, address, make_tick, table_of

from orrange_p2p.core.clock import Clock
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.evidence import culprit
from orrange_p2p.core.fold import EpochFacts, EpochOutcome, Fold
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import ZERO32, Address, MarketId, TimeMs, Weight
from orrange_p2p.core.operations import Cancel, CancelAll, EvidenceKind
from orrange_p2p.core.pacemaker import HeldLogs, Pace, Pacemaker, TickDraft
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.ticks import Tick


def check_agreement(network: Network) -> None:
    """I1: the epochs of all honest nodes, in all their lives, are prefixes of the longest."""
    assert disagreement(network) == ""


def check_accountability(network: Network) -> None:
    """I6: evidence verifies offline and convicts the guilty alone; nobody guilty gets away."""
    separator, market_id = network.genesis.separator, network.market_id
    forked, equivocated = guilty(network)
    convicted: dict[int, set[Address]] = {
        EvidenceKind.FORK: set(),
        EvidenceKind.EQUIVOCATION: set(),
    }
    frozen: set[Address] = set()
    for node in network.honest:
        for proof in node.evidence:
            convicted[proof.kind].add(culprit(proof, separator, market_id))
        frozen |= {a for epoch in node.epochs for a in epoch.outcome.frozen}
    assert convicted[EvidenceKind.FORK] <= forked
    assert convicted[EvidenceKind.EQUIVOCATION] <= equivocated
    assert frozen <= forked, "somebody innocent is frozen"
    assert forked <= convicted[EvidenceKind.FORK] | frozen


def guilty(network: Network) -> tuple[set[Address], set[Address]]:
    """Who signed two records under one name, among all that any honest node received."""
    names: dict[tuple[object, ...], set[bytes]] = {}
    for node in network.honest:
        for digest, fact in node.durable.items():
            if isinstance(fact, Entry):
                names.setdefault(("entry", fact.author, fact.seq), set()).add(digest)
            else:
                names.setdefault(("tick", fact.witness, fact.era, fact.round), set()).add(digest)
    twice = [name for name, digests in names.items() if len(digests) > 1]
    forked = {Address(name[1]) for name in twice if name[0] == "entry"}  # type: ignore[arg-type]
    return forked, {Address(name[1]) for name in twice if name[0] == "tick"}  # type: ignore[arg-type]


def check_logs(network: Network) -> None:
    """Every log that was applied is one chain."""
    for node in network.honest:
        heads: dict[Address, tuple[int, bytes]] = {}
        for epoch in node.epochs:
            for entry in epoch.facts.entries:
                assert (entry.seq, entry.prev) == heads.get(entry.author, (0, ZERO32))
                heads[entry.author] = (entry.seq + 1, entry.digest)


# --- the shortest ones ---


def test_four_nodes_compute_the_same_epochs() -> None:
    network = Network(1)
    network.run(6000)
    check_agreement(network)
    assert min(len(node.epochs) for node in network.nodes) >= 12
    last = network.nodes[0].epochs
    assert sum(len(epoch.outcome.matches) for epoch in last) > 10
    assert sum(len(epoch.outcome.trades) for epoch in last) > 3
    assert network.refused == 0


def test_an_epoch_is_what_its_leader_says_and_its_seed_what_the_next_one_reveals() -> None:
    """Whoever can choose the content of an epoch cannot know by what it will be sorted."""
    network = Network(13, era_ms=3000)
    network.run(10_000)
    node = network.nodes[0]
    for epoch, following in pairwise(node.epochs):
        leader, next_leader = node.durable[epoch.facts.leader], node.durable[following.facts.leader]
        assert isinstance(leader, Tick) and isinstance(next_leader, Tick)
        assert (leader.era, leader.round) == (epoch.facts.era, epoch.facts.round)
        assert epoch.facts.reveal == next_leader.reveal != leader.reveal
        assert epoch.facts.time_ms <= following.facts.time_ms


def test_one_of_four_may_be_down() -> None:
    network = Network(2)
    network.nodes[3].crash()
    network.run(16_000)
    check_agreement(network)
    assert min(len(node.epochs) for node in network.nodes[:3]) >= 8


def test_without_a_quorum_nothing_is_applied_and_with_one_it_goes_on() -> None:
    network = Network(3)
    network.run(4000)
    for node in network.nodes[2:]:
        node.crash()
    network.run(4500)
    before = [len(node.epochs) for node in network.nodes[:2]]
    network.run(10_000)
    assert [len(node.epochs) for node in network.nodes[:2]] == before
    assert any(node.replica.logs.authors() for node in network.nodes[:2]), "entries still spread"
    network.nodes[2].start()
    network.settle()
    check_agreement(network)
    assert len(network.nodes[0].epochs) >= before[0] + 3


def test_neither_half_of_a_parted_network_goes_on_alone() -> None:
    network = Network(4)
    network.run(3000)
    network.part([0, 1], [2, 3])
    network.run(4000)
    before = [len(node.epochs) for node in network.nodes]
    network.run(9000)
    assert [len(node.epochs) for node in network.nodes] == before
    network.settle()
    check_agreement(network)
    check_logs(network)


def test_the_larger_part_goes_on_and_the_smaller_catches_up() -> None:
    network = Network(5, witnesses=7)
    network.part([0, 1, 2, 3, 4], [5, 6])
    network.run(16_000)  # two of seven leaders are gone: which rounds they lead is drawn
    assert len(network.nodes[0].epochs) >= 5
    assert len(network.nodes[6].epochs) <= 1
    network.settle()
    check_agreement(network)
    assert len(network.nodes[6].epochs) == len(network.nodes[0].epochs)


def test_lying_witnesses_are_found_out_and_change_nothing() -> None:
    network = Network(6, witnesses=7, liars=2, loss=0.05)
    network.run(8000)
    network.settle()
    check_agreement(network)
    check_accountability(network)
    liars = {node.key.address for node in network.nodes[:2]}
    assert guilty(network)[1] == liars
    proofs = network.nodes[-1].evidence
    assert {culprit(p, network.genesis.separator, network.market_id) for p in proofs} == liars


@pytest.mark.parametrize("seed", range(6))
def test_a_forking_author_is_frozen_in_the_same_epoch_for_all(seed: int) -> None:
    network = Network(seed, authors=3)
    network.run(2000)
    forker = network.authors[2]
    network.fork(forker)
    network.run(4000)
    network.exchange()  # by now somebody shows both sides to somebody
    network.run(8000)
    network.settle()
    check_agreement(network)
    check_accountability(network)
    check_logs(network)
    frozen_in = {
        tuple(e.facts.epoch for e in node.epochs if forker.key.address in e.outcome.frozen)
        for node in network.nodes
    }
    assert len(frozen_in) == 1
    assert len(frozen_in.pop()) == 1


@pytest.mark.parametrize("rounds_before", [0, 1, 3])
@pytest.mark.parametrize("rounds_without", [1, 3, 15])
def test_a_witness_left_behind_by_a_liar_ticks_what_the_others_wait_for(
    rounds_before: int, rounds_without: int
) -> None:
    """The others got ahead with a liar's help. Once it is proven false they cannot go on without
    the honest one, and it has only its own last round to build on."""
    clock = Clock(table_of(1, 1, 1, 1), ERA, SEED)
    pacemaker = Pacemaker(address(4), clock, HeldLogs(), Pace(250, 1000))
    last: list[Tick] = []
    now = 0

    def tick_of_the_honest_one(expected_round: int) -> Tick:
        nonlocal now
        now += 100_000
        step = pacemaker.poll(TimeMs(now))
        assert isinstance(step, TickDraft)
        assert step.round == expected_round
        pacemaker.note_ticked(step, TimeMs(now))
        tick = make_tick(4, step.round, step.parents)
        clock.add(tick)
        return tick

    for round in range(rounds_before + rounds_without):
        ticks = [make_tick(witness, round, last) for witness in (1, 2, 3)]
        if round < rounds_before:
            for tick in ticks:
                clock.add(tick)
            ticks.append(tick_of_the_honest_one(round))
        for tick in ticks:
            clock.add(tick)
        last = ticks
    twin = make_tick(1, 0, time_ms=1)
    assert clock.add(twin).equivocations
    for round in range(rounds_before, rounds_before + rounds_without + 1):
        tick_of_the_honest_one(round)


def test_eras_follow_each_other_and_a_lagging_node_follows_them() -> None:
    network = Network(7, era_ms=2000, rounds_per_era=64)
    network.run(3000)
    network.nodes[3].crash()
    # A leader that is gone costs its timeouts, and which rounds it leads is drawn anew each era.
    for until_ms in range(4000, 60_000, 1000):
        network.run(until_ms)
        if network.nodes[0].replica.era >= 3:
            break
    assert network.nodes[0].replica.era >= 3
    assert network.nodes[3].replica.era <= 1
    network.nodes[3].start()
    network.settle()
    check_agreement(network)
    assert network.nodes[3].replica.era == network.nodes[0].replica.era
    eras = [epoch.facts.era for epoch in network.nodes[0].epochs]
    assert eras == sorted(eras)
    assert network.refused == 0, "who is behind must not blame those ahead"


# --- I5: resume ---


@pytest.mark.parametrize("era_ms", [3_600_000, 2500])
def test_a_replica_rebuilt_from_any_part_of_its_facts_goes_on_to_the_same_epochs(
    era_ms: int,
) -> None:
    network = Network(8, loss=0.1, era_ms=era_ms)
    network.run(3000)
    network.fork(network.authors[1])
    network.run(8000)
    original = network.nodes[1]
    facts = list(original.durable.values())
    for cut in range(0, len(facts), len(facts) // 12):
        copy = Node(network, 1)
        network.dice.shuffle(before := facts[:cut])
        copy.take_all(before)
        for fact in facts[cut:]:
            copy.take(fact)
        copy.take_all(facts)
        assert [*map(what_of, copy.epochs)] == [*map(what_of, original.epochs)]


def test_a_restarted_witness_signs_no_round_twice() -> None:
    network = Network(9)
    for _ in range(12):
        network.run(network.now + 700)
        node = network.dice.choice(network.nodes)
        node.crash()
        network.run(network.now + network.dice.randint(25, 600))
        node.start()
    network.settle()
    check_agreement(network)
    assert guilty(network) == (set(), set())


# --- whatever happens ---

NODES = st.integers(0, 6)
EVENTS = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 6)),
    st.tuples(st.just("run"), st.integers(1, 6)),
    st.tuples(st.just("part"), st.sets(NODES, max_size=4)),
    st.tuples(st.just("heal"), st.just(0)),
    st.tuples(st.just("crash"), NODES),
    st.tuples(st.just("start"), NODES),
    st.tuples(st.just("fork"), st.integers(0, 2)),
)
SCENARIOS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1 << 16),
        "witnesses": st.sampled_from([4, 4, 7]),
        "liars": st.integers(0, 2),
        "loss": st.sampled_from([0.0, 0.1, 0.3]),
        "max_delay_ms": st.sampled_from([50, 400, 1500]),
        "era_ms": st.sampled_from([3_600_000, 3000]),
        "events": st.lists(EVENTS, min_size=3, max_size=12),
    }
)


def play(scenario: dict[str, Any], replica_class: Any = Replica) -> Iterator[Network]:
    """The network after each event, and in the end when it has come to rest."""
    how = {name: scenario[name] for name in ("loss", "max_delay_ms", "era_ms", "witnesses")}
    liars = min(scenario["liars"], (scenario["witnesses"] - 1) // 3)
    network = Network(scenario["seed"], liars=liars, replica_class=replica_class, **how)
    count = len(network.nodes)
    for what, argument in scenario["events"]:
        if what == "part":
            network.part([], [number % count for number in sorted(argument)])
        elif what == "heal":
            network.part()
        elif what == "crash":
            network.nodes[argument % count].crash()
        elif what == "start" and not network.nodes[argument % count].alive:
            network.nodes[argument % count].start()
        elif what == "fork":
            network.fork(network.authors[argument])
        network.run(network.now + 500 * (argument if what == "run" else 1))
        yield network
    network.settle()
    yield network


def check_scenario(scenario: dict[str, Any], replica_class: Any = Replica) -> None:
    network = None
    for network in play(scenario, replica_class):
        check_agreement(network)
    assert network is not None
    check_logs(network)
    check_accountability(network)
    assert network.refused == 0, "nothing here is objectively invalid"
    # What was delivered does not matter, only that it was: everyone ends with the same.
    assert len({len(node.epochs) for node in network.honest}) == 1


@settings(
    max_examples=200,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(SCENARIOS)
def test_honest_nodes_agree_whatever_happens(scenario: dict[str, Any]) -> None:
    check_scenario(scenario)


# --- the checks can fail ---


def weak_replica(genesis: Genesis, market_id: MarketId) -> Replica:
    """Half the weight is taken for a quorum."""
    replica = Replica(genesis, market_id)
    replica.table.quorum = Weight(replica.table.total // 2)
    return replica


def is_caught(scenario: dict[str, Any], replica_class: Any) -> bool:
    try:
        check_scenario(scenario, replica_class)
    except AssertionError:
        return True
    return False


def test_a_quorum_of_half_the_weight_is_caught_by_the_same_test() -> None:
    assert find_failure(weak_replica) is not None


def find_failure(replica_class: Any) -> dict[str, Any] | None:
    try:
        return find(
            SCENARIOS,
            lambda scenario: is_caught(scenario, replica_class),
            settings=settings(
                max_examples=60,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except NoSuchExample:
        return None


def test_the_search_for_failures_finds_none_in_the_real_thing() -> None:
    with_few = settings(max_examples=5, derandomize=True, database=None, phases=[Phase.generate])
    with pytest.raises(NoSuchExample):
        find(SCENARIOS, lambda scenario: is_caught(scenario, Replica), settings=with_few)


class IgnoringCancels:
    """A fold that loses cancels on the way in."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fold, name)

    def apply(self, facts: EpochFacts) -> EpochOutcome:
        entries = [
            Entry(
                entry.header,
                entry.digest,
                tuple(op for op in entry.operations if not isinstance(op, Cancel | CancelAll)),
                entry.signature,
                entry.encoded,
            )
            for entry in facts.entries
        ]
        return self._fold.apply(facts._replace(entries=tuple(entries)))


def test_a_node_whose_fold_ignores_cancels_is_caught() -> None:
    network = Network(10)
    network.run(100, write_every_ms=0)
    replica = network.nodes[0].replica
    replica.fold = IgnoringCancels(replica.fold)  # type: ignore[assignment]
    network.run(8000)
    with pytest.raises(AssertionError, match="epoch"):
        check_agreement(network)


class Impatient:
    """A fold that counts only authors of whom something is held here just now."""

    def __init__(self, replica: Replica) -> None:
        self._fold = replica.fold
        self._logs = replica.logs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fold, name)

    def is_eligible(self, author: Address) -> bool:
        return bool(self._logs.held(author)) and self._fold.is_eligible(author)


def impatient_replica(genesis: Genesis, market_id: MarketId) -> Replica:
    replica = Replica(genesis, market_id)
    replica.fold = Impatient(replica)  # type: ignore[assignment]
    return replica


def test_a_cut_that_depends_on_what_has_arrived_is_caught() -> None:
    assert find_failure(impatient_replica) is not None
