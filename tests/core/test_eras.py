"""Eras whose witnesses are elected: handover, who joins and leaves, who reads late or wrongly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from network import CHAINS, START_MS, WITNESS_KEYS, Key, Network, Node, make_genesis
from test_checkpoints import Recorded, check_all
from test_invariants import EVENTS, check_accountability, check_agreement, check_logs

from orrange_p2p.core.errors import ConfigError, InvalidError, PeerError
from orrange_p2p.core.genesis import Author
from orrange_p2p.core.ids import Address, Era, TimeMs, Weight
from orrange_p2p.core.pacemaker import TickDraft, Wait
from orrange_p2p.core.roots import HaltReason
from orrange_p2p.core.roster import (
    CAP_FROM,
    Candidate,
    Pin,
    Roster,
    RosterRequest,
    Seat,
    Standing,
    capped,
    decode_roster,
    elect,
)

REGISTRY = Address(b"\x0e" * 20)
FAST = {"era_ms": 6000, "pin_ms": 3000, "handover_ms": 1500, "elected_witnesses": 5}
ELECTED = ((0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3, 4), (2, 3, 4, 5))
"""By era: one joins, one leaves, one is left out and another comes. The last stays."""
AUTHORS = [Key(1 + i).address for i in range(3)]
"""Of the simulated network."""


def roster(
    era: int, numbers: tuple[int, ...], weights: tuple[int, ...] = (), worth: int = 0
) -> Roster:
    each = weights or (1,) * len(numbers)
    seats = [
        Seat(WITNESS_KEYS[n].address, Weight(w), CHAINS[n].anchor, Era(0))
        for n, w in zip(numbers, each, strict=True)
    ]
    standings = tuple(Standing(author, worth, worth) for author in sorted(AUTHORS))
    return Roster(Era(era), Pin(era, bytes(32)), tuple(sorted(seats)), standings)


def by_schedule(request: RosterRequest) -> Roster:
    return roster(request.era, ELECTED[min(request.era, len(ELECTED) - 1)], worth=request.era)


def network_of(
    seed: int, elected: Callable[[RosterRequest], Roster] = by_schedule, **how: Any
) -> Network:
    return Network(seed, candidates=2, elect=elected, **{"registry": REGISTRY, **FAST, **how})


def run_to_era(network: Network, era: int) -> None:
    while min(node.replica.era for node in network.nodes) < era:
        assert network.now < 120_000, "the clock stands still"
        network.run(network.now + 1000)


# --- electing ---


def test_the_worthiest_are_elected_and_weigh_what_they_are_worth() -> None:
    anchors = [bytes([n]) * 32 for n in range(3)]
    candidates = [
        Candidate(Address(bytes([n]) * 20), worth, anchors[n], Era(2))
        for n, worth in enumerate((50, 0, 100))
    ]
    assert elect(candidates, 5) == (
        Seat(Address(bytes(20)), Weight(1 << 19), anchors[0], Era(2)),
        Seat(Address(b"\x02" * 20), Weight(1 << 20), anchors[2], Era(2)),
    )
    assert [seat.witness[0] for seat in elect(candidates, 1)] == [2]
    assert elect(candidates[1:2], 5) == ()


@given(st.lists(st.integers(1, 1 << 40), min_size=1, max_size=32))
def test_nobody_has_more_than_a_fourth_and_the_order_stays(worths: list[int]) -> None:
    weights = {Address(n.to_bytes(20, "big")): worth for n, worth in enumerate(worths)}
    shown = capped(weights)
    for one, other in pairwise(sorted(weights, key=weights.__getitem__)):
        assert shown[one] <= shown[other]
    if len(worths) < CAP_FROM:
        assert shown == weights
        return
    total = sum(shown.values())
    assert all(CAP_FROM * weight <= total for weight in shown.values())
    most = max(shown.values())
    assert all(shown[name] in (weight, most) for name, weight in weights.items())


@given(st.lists(st.integers(0, 1 << 60), max_size=40), st.integers(1, 32))
def test_an_election_does_not_depend_on_the_order_of_candidates(
    worths: list[int], seats: int
) -> None:
    candidates = [
        Candidate(Address(n.to_bytes(20, "big")), worth, bytes(32), Era(0))
        for n, worth in enumerate(worths)
    ]
    elected = elect(candidates, seats)
    assert elected == elect(candidates[::-1], seats)
    assert len(elected) == min(seats, sum(worth > 0 for worth in worths))
    if elected:
        Roster(Era(0), Pin(0, bytes(32)), elected, ())


def test_a_roster_survives_the_wire_and_rubbish_does_not_pass() -> None:
    whole = roster(3, (0, 1, 2), (5, 6, 7), worth=9)
    assert decode_roster(whole.encode()) == whole
    assert decode_roster(whole.encode()).digest == whole.digest
    with pytest.raises(PeerError):
        decode_roster(whole.encode()[:-1])
    for bad in (
        {"seats": ()},
        {"seats": whole.seats[::-1]},
        {"standings": whole.standings * 2},
        {"seats": (whole.seats[0]._replace(weight=Weight(0)),)},
        {"seats": (whole.seats[0]._replace(since=Era(4)),)},
    ):
        terms = {"era": whole.era, "pin": whole.pin, "seats": whole.seats, "standings": ()}
        with pytest.raises(InvalidError):
            Roster(**{**terms, **bad})  # type: ignore[arg-type]


def test_elections_need_a_registry_and_times_that_fit() -> None:
    with pytest.raises(ConfigError, match="registry"):
        make_genesis(4, elected_witnesses=5)
    for times in ({"handover_ms": 3000}, {"pin_ms": 6000}, {"elected_witnesses": 33}):
        with pytest.raises(ConfigError):
            make_genesis(4, registry=REGISTRY, **{**FAST, **times})


# --- eras ---


@pytest.mark.parametrize("seed", range(4))
def test_witnesses_join_and_leave_and_no_epoch_disagrees(seed: int) -> None:
    network = network_of(seed, loss=0.1)
    run_to_era(network, 4)
    network.settle()
    check_agreement(network)
    check_logs(network)
    assert network.refused == 0
    node = network.nodes[0]
    assert node.replica.era >= 4
    for epoch in node.epochs:
        era = epoch.facts.era
        assert epoch.facts.next_roster in (
            bytes(32),
            by_schedule(RosterRequest(Era(era + 1), 0)).digest,
        )  # type: ignore[arg-type]
    named = {e.facts.era for e in node.epochs if any(e.facts.next_roster)}
    assert {0, 1, 2, 3} <= named
    reported = {w for e in node.epochs if e.facts.era == 3 for w, _ in e.facts.reports}
    assert reported <= {WITNESS_KEYS[n].address for n in ELECTED[3]}
    assert len(reported) >= 3, "who joined takes part"


def test_what_authors_are_worth_follows_the_roster() -> None:
    network = network_of(5, is_open=False, listed=[Author(a, 7) for a in sorted(AUTHORS[:2])])
    network.run(4000)
    node = network.nodes[1]
    worths = {a: account.reputation for a, account in node.replica.fold.accounts.items()}
    assert worths and set(worths.values()) == {7}
    assert not node.replica.fold.is_eligible(AUTHORS[2])
    run_to_era(network, 2)
    network.run(network.now + 4000)
    fold = node.replica.fold
    assert {account.reputation for account in fold.accounts.values()} <= {node.replica.era}
    assert fold.is_eligible(AUTHORS[2]), "the registry knows it now"
    assert AUTHORS[2] in fold.accounts


@pytest.mark.parametrize("numbers", [(1,), (0, 1, 2, 3, 4, 5)])
def test_who_reads_the_chain_late_waits_and_is_no_less_right(numbers: tuple[int, ...]) -> None:
    network = network_of(6)
    for number in numbers:
        network.nodes[number].reads_within_ms = 12_000
    run_to_era(network, 3)
    network.settle()
    check_agreement(network)
    assert network.refused == 0


def test_who_reads_another_roster_is_contradicted_and_stops() -> None:
    """Its state names it, so a quorum's word for the state is one against it."""
    network = network_of(7, applied_interval_epochs=2, handover_ms=4000, pin_ms=5000)
    misled = network.nodes[3]

    class Misled(Node):
        def read_roster(self) -> None:
            wanted = self.replica.wanted_roster
            if wanted is not None:
                other = roster(wanted.era, (0, 1, 2, 3), (2, 1, 1, 1))
                self.epochs += self.replica.give_roster(other).epochs

    misled.__class__ = Misled
    for _ in range(40):
        network.run(network.now + 500)
        if misled.replica.halt is not None:
            break
    assert misled.replica.halt is not None
    assert misled.replica.halt.reason is HaltReason.CONTRADICTED
    assert all(node.replica.halt is None for node in network.nodes if node is not misled)


def test_whoever_joins_at_a_checkpoint_of_any_era_goes_on_alike() -> None:
    recorded = Recorded(
        8, candidates=2, elect=by_schedule, **{"registry": REGISTRY, **FAST}, max_delay_ms=60
    )
    recorded.run(26_000)
    recorded.network.settle()
    assert recorded.node.replica.era >= 3
    check_all(recorded, 10)


def test_a_roster_that_the_state_does_not_name_is_refused() -> None:
    recorded = Recorded(
        9, candidates=2, elect=by_schedule, **{"registry": REGISTRY, **FAST}, max_delay_ms=60
    )
    recorded.run(9000)
    named = [s for s in recorded.checkpoints.values() if any(s.header.next_roster)]
    assert named, "some checkpoint is of an epoch that names the next roster"
    checkpoint = named[0].checkpoint
    blobs = {name: named[0].part(name) for name in named[0].names}
    other = dict(blobs)
    other[checkpoint.header.next_roster] = roster(1, (0, 1)).encode()
    with pytest.raises(PeerError):
        checkpoint.rosters(other)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        checkpoint.rosters({})


def test_a_certificate_of_a_later_era_needs_its_roster() -> None:
    recorded = Recorded(
        10, candidates=2, elect=by_schedule, **{"registry": REGISTRY, **FAST}, max_delay_ms=60
    )
    recorded.run(26_000)
    network = recorded.network
    genesis, market = network.genesis, network.market_id
    later = [s for s in recorded.checkpoints.values() if s.header.era == 2]
    first = [s for s in recorded.checkpoints.values() if s.header.era == 0]
    first[0].certificate.verify(genesis, market)
    for state in later:
        with pytest.raises(InvalidError):
            state.certificate.verify(genesis, market)
        with pytest.raises(InvalidError):
            state.certificate.verify(genesis, market, roster(2, (0, 1, 2)))
        vouching = by_schedule(RosterRequest(state.certificate.vouched_in, TimeMs(0)))
        state.certificate.verify(genesis, market, vouching)


def test_a_witness_that_begins_again_signs_nothing_in_an_era_it_left() -> None:
    """It comes up in the first era, and stays there until it has read the next one's roster."""
    network = network_of(11)
    run_to_era(network, 2)
    node = network.nodes[1]
    assert node.signed is not None and node.signed[0] >= 1
    fresh = network.make_replica(node)
    pacemaker = fresh.pacemaker(node.key.address, node.signed)  # type: ignore[arg-type]
    for now_ms in range(0, 60_000, 1000):
        assert isinstance(pacemaker.poll(TimeMs(START_MS + now_ms)), Wait)
    assert isinstance(fresh.pacemaker(node.key.address, None).poll(TimeMs(START_MS)), TickDraft)


# --- whatever happens ---

SCENARIOS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1 << 16),
        "liars": st.integers(0, 1),
        "loss": st.sampled_from([0.0, 0.1]),
        "reads_within_ms": st.sampled_from([100, 2000, 9000]),
        "elected": st.lists(st.sets(st.integers(0, 5), min_size=4), min_size=1, max_size=4),
        "events": st.lists(EVENTS, min_size=3, max_size=10),
    }
)


@settings(
    max_examples=30,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(SCENARIOS)
def test_honest_nodes_agree_over_eras_whatever_happens(scenario: dict[str, Any]) -> None:

    def elected(request: RosterRequest) -> Roster:
        sets = scenario["elected"]
        return roster(request.era, tuple(sorted(sets[min(request.era, len(sets)) - 1])))

    network = network_of(scenario["seed"], elected, liars=scenario["liars"], loss=scenario["loss"])
    for node in network.nodes:
        node.reads_within_ms = scenario["reads_within_ms"]
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
        network.run(network.now + 1000 * (argument if what == "run" else 1))
        check_agreement(network)
    network.settle()
    check_agreement(network)
    check_logs(network)
    check_accountability(network)
    assert network.refused == 0, "nothing here is objectively invalid"
