"""Followers of elected witnesses: from one era's roster to the next, and what breaks the chain."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

sys.path.append(str(Path(__file__).parents[1] / "protocol"))

from cddl_check import Rules
from network import Network, Node
from test_eras import by_schedule, network_of, roster

from orrange_p2p.core.certificates import Certificate
from orrange_p2p.core.errors import InvalidError, PeerError
from orrange_p2p.core.handovers import Handover, decode_handover, is_handover
from orrange_p2p.core.ids import Era, TimeMs
from orrange_p2p.core.roster import RosterRequest, of_genesis

ERAS = 4
TIMES = {"applied_interval_epochs": 2, "handover_ms": 2500}
"""Several epochs are vouched for between naming the next roster and the era's end."""


def lived(seed: int = 1, elect: Any = by_schedule) -> tuple[Network, list[list[Handover]]]:
    """A network some way into its last era, and what each of its nodes kept of those before."""
    network = network_of(seed, elect, **TIMES)
    kept: list[list[Handover]] = [[] for _ in network.nodes]
    while min(_vouched_in(node) for node in network.nodes) < ERAS:
        assert network.now < 120_000, "the clock stands still"
        network.run(network.now + 1000)
        for node, handovers in zip(network.nodes, kept, strict=True):
            handovers += node.replica.take_handovers()
    return network, kept


def _vouched_in(node: Node) -> int:
    state = node.replica.certified
    return 0 if state is None else state.certificate.vouched_in


NETWORK, KEPT = lived()
GENESIS, MARKET = NETWORK.genesis, NETWORK.market_id
HANDOVERS = KEPT[0]
FIRST = of_genesis(GENESIS, MARKET)


def elected(era: int) -> bytes:
    return by_schedule(RosterRequest(Era(era), TimeMs(0))).digest


def test_from_genesis_to_the_present_by_the_word_of_each_eras_witnesses() -> None:
    assert len({elected(era) for era in range(1, ERAS)}) == ERAS - 1
    for kept in KEPT:
        known = FIRST
        for handover in kept:
            known = decode_handover(handover.encode()).follow(GENESIS, MARKET, known)
            assert known.digest == elected(known.era)
        assert known.era >= ERAS
        assert [one.era for one in kept] == list(range(len(kept)))


def test_it_can_be_begun_at_a_digest_that_one_trusts() -> None:
    known = HANDOVERS[1].following(elected(2))
    assert HANDOVERS[2].follow(GENESIS, MARKET, known).digest == elected(3)
    for digest in (elected(1), elected(3), bytes(32)):
        with pytest.raises(InvalidError, match="not the roster of era 2"):
            HANDOVERS[1].following(digest)


def touched(handover: Handover, **header: object) -> Handover:
    certificate = handover.certificate
    changed = certificate.header._replace(**header)  # type: ignore[arg-type]
    return handover._replace(certificate=certificate._replace(header=changed))


def fewer(handover: Handover) -> Handover:
    """One voucher: less than a quorum."""
    certificate = handover.certificate
    return handover._replace(certificate=certificate._replace(vouchers=certificate.vouchers[:1]))


BROKEN: dict[str, tuple[Callable[[Handover], Handover], str]] = {
    "a roster that was not committed": (
        lambda one: one._replace(roster=roster(2, (0, 1, 2)).encode()),
        "not the roster of era 2",
    ),
    "a roster in another encoding": (lambda one: one._replace(roster=one.roster + b"\0"), ""),
    "too little weight": (fewer, "quorum"),
    "a header that names another": (
        lambda one: touched(one, next_roster=roster(2, (0, 1, 2)).digest)._replace(
            roster=roster(2, (0, 1, 2)).encode()
        ),
        "",
    ),
    "a header that names none": (
        lambda one: touched(one, next_roster=bytes(32)),
        "names no roster",
    ),
    "under another roster": (lambda one: touched(one, roster=bytes([1]) * 32), "another roster"),
    "one era skipped": (lambda one: HANDOVERS[2], "of era 2 where that of era 1 has to come"),
    "one era again": (lambda one: HANDOVERS[0], "of era 0 where that of era 1 has to come"),
    "the era before, renamed": (lambda one: touched(HANDOVERS[0], era=Era(1)), ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_chain_is_refused_and_says_where(name: str) -> None:
    known = HANDOVERS[0].follow(GENESIS, MARKET, FIRST)
    HANDOVERS[1].follow(GENESIS, MARKET, known)
    change, why = BROKEN[name]
    with pytest.raises(PeerError, match=why or None):
        change(HANDOVERS[1]).follow(GENESIS, MARKET, known)


def test_another_market_another_network_and_other_witnesses_are_refused() -> None:
    known = HANDOVERS[0].follow(GENESIS, MARKET, FIRST)
    with pytest.raises(InvalidError, match="another market"):
        HANDOVERS[1].follow(GENESIS, bytes(32), known)  # type: ignore[arg-type]
    with pytest.raises(PeerError):
        HANDOVERS[1].follow(attrs.evolve(GENESIS, name="another"), MARKET, known)
    with pytest.raises(PeerError):
        HANDOVERS[1].follow(GENESIS, MARKET, roster(1, (0, 1, 2)))


def test_the_next_eras_word_for_the_last_epochs_is_no_handover() -> None:
    """Who does not know the next era's witnesses cannot take theirs for it."""
    certificate = HANDOVERS[1].certificate
    late = tuple(one._replace(era=Era(2)) for one in certificate.vouchers[:1])
    mixed = Certificate(certificate.header, (*late, *certificate.vouchers[1:]))
    assert is_handover(certificate) and not is_handover(mixed)
    known = HANDOVERS[0].follow(GENESIS, MARKET, FIRST)
    with pytest.raises(InvalidError, match="not of that era's witnesses alone"):
        HANDOVERS[1]._replace(certificate=mixed).follow(GENESIS, MARKET, known)


def test_the_schema_accepts_what_nodes_hand_over() -> None:
    files = sorted((Path(__file__).parents[2] / "protocol" / "cddl").glob("*.cddl"))
    rules = Rules("\n".join(path.read_text(encoding="utf-8") for path in files))
    for one in HANDOVERS:
        assert rules.accepts("Handover", one.encode())
        assert rules.accepts("Roster", one.roster)
    assert not rules.accepts("Roster", HANDOVERS[0].encode())
    assert not rules.accepts("Handover", HANDOVERS[0]._replace(roster=b"").encode())


def test_rubbish_is_refused() -> None:
    whole = HANDOVERS[0].encode()
    for bad in (b"", b"\x80", whole[:-1], whole + b"\0", bytes(400_000)):
        with pytest.raises(PeerError):
            decode_handover(bad)


def test_where_nobody_is_elected_there_is_no_handover() -> None:
    network = Network(3)
    network.run(12_000)
    assert all(node.replica.certified for node in network.nodes)
    assert not any(node.replica.take_handovers() for node in network.nodes)


def test_a_few_are_kept_for_who_does_not_take_them() -> None:
    network = network_of(4, **TIMES)
    while min(node.replica.era for node in network.nodes) < 6:
        assert network.now < 120_000
        network.run(network.now + 1000)
    taken = network.nodes[0].replica.take_handovers()
    assert [one.era for one in taken][-1] >= 5 and len(taken) == 4
