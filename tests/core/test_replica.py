"""What follows from single facts, and that nothing a peer sends makes the replica grow."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from network import CHAINS, START_MS, WITNESS_KEYS, Author, Key, Network, make_genesis

from orrange_p2p.core import ticks
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.evidence import culprit
from orrange_p2p.core.ids import (
    ZERO32,
    Address,
    Digest,
    Epoch,
    Era,
    Lots,
    OrderId,
    Price,
    Round,
    Seq,
    TimeMs,
)
from orrange_p2p.core.operations import EvidenceKind, Operation, Place
from orrange_p2p.core.pacemaker import HELD_AHEAD
from orrange_p2p.core.replica import (
    MAX_EARLY_TICKS,
    MAX_REMEMBERED,
    MAX_WANTED,
    Effects,
    Replica,
    Taken,
)
from orrange_p2p.core.ticks import MAX_LISTED, Applied, HeadItem, Tick, TickBody
from orrange_p2p.crypto.hashes import sha256

SELL = Place(1, Price(100), Lots(1))
BUY = Place(0, Price(100), Lots(1))


class Desk:
    """One replica, and everybody else's signatures: facts are made by hand, round by round."""

    def __init__(self, witnesses: int = 4, is_open: bool = True, **parameters: int) -> None:
        self.genesis = make_genesis(witnesses, is_open=is_open, **parameters)
        self.market_id = self.genesis.markets[0].id
        self.replica = Replica(self.genesis, self.market_id)
        self.witnesses = range(witnesses)
        self.parents: tuple[Digest, ...] = ()
        self.round = 0
        self.era = 0
        self.effects: list[Effects] = []

    def author(self, number: int = 1) -> Author:
        return Author(Key(number), self.genesis, None)  # type: ignore[arg-type]

    def tick(
        self,
        witness: int,
        heads: Sequence[HeadItem] = (),
        *,
        round: int | None = None,
        era: int | None = None,
        parents: tuple[Digest, ...] | None = None,
        key: Key | None = None,
        reveal: bytes | None = None,
        twin: int = 0,
    ) -> Tick:
        round = self.round if round is None else round
        era = self.era if era is None else era
        if parents is None:
            parents = self.parents
        if reveal is None:
            position = era * self.genesis.parameters.rounds_per_era + round
            reveal = CHAINS[witness].reveal(position)
        body = TickBody(
            parents if round else (),
            tuple(sorted(heads)),
            TimeMs(START_MS + 250 * round + twin),
            Applied(Epoch(0), ZERO32),
            reveal,
        )
        key = key or WITNESS_KEYS[witness]
        draft = ticks.draft(
            self.genesis.separator, self.market_id, Era(era), Round(round), key.address, body
        )
        return draft.signed(key.sign(draft.digest))

    def next_round(self, *heads: HeadItem, listed_by: int = 4) -> list[Effects]:
        """Everyone ticks; the first ``listed_by`` witnesses list these entries."""
        made = [self.tick(w, heads if w < listed_by else ()) for w in self.witnesses]
        effects = [self.replica.add_tick(tick) for tick in made]
        self.effects += effects
        self.parents = tuple(sorted(tick.digest for tick in made))
        self.round += 1
        if self.replica.era != self.era:
            self.era, self.round, self.parents = self.replica.era, 0, ()
        return effects

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.next_round()

    def commit(self, *entries: Entry, listed_by: int = 4) -> None:
        self.next_round(*[head_of(entry) for entry in entries], listed_by=listed_by)
        self.rounds(5)


def head_of(*entries: Entry) -> HeadItem:
    return HeadItem(entries[0].author, entries[0].seq, tuple(entry.digest for entry in entries))


def fake_head(count: int, number: int, author: Address = Key(9).address) -> HeadItem:  # noqa: B008
    digests = [Digest(sha256(b"%d %d" % (number, at))) for at in range(count)]
    return HeadItem(author, Seq(0), tuple(digests))


# --- entries ---


def test_an_entry_is_held_then_listed_then_applied() -> None:
    desk, author = Desk(), Desk().author()
    entry = author.write([SELL])
    assert desk.replica.add_entry(entry) == Effects(Taken.HELD)
    assert desk.replica.holds_entry(entry.digest)
    assert desk.replica.logs.held(author.key.address) == (entry.digest,)
    assert desk.replica.fold.order(OrderId(author.key.address, Seq(0), 0)) is None
    desk.commit(entry)
    assert desk.replica.fold.order(OrderId(author.key.address, Seq(0), 0)) is not None
    assert not desk.replica.holds_entry(entry.digest)
    assert desk.replica.is_known_entry(entry.author, entry.seq, entry.digest)


def test_a_fact_that_comes_again_is_a_duplicate() -> None:
    desk, author = Desk(), Desk().author()
    entry = author.write([SELL])
    desk.replica.add_entry(entry)
    assert desk.replica.add_entry(entry).taken is Taken.DUPLICATE
    tick = desk.tick(0)
    assert desk.replica.add_tick(tick).taken is Taken.HELD
    assert desk.replica.add_tick(tick).taken is Taken.DUPLICATE
    desk.commit(entry)
    assert desk.replica.add_entry(entry) == Effects(Taken.DUPLICATE)


def test_entries_may_come_in_any_order() -> None:
    desk, author = Desk(), Desk().author()
    made = [author.write([SELL]) for _ in range(4)]
    for entry in reversed(made):
        assert desk.replica.add_entry(entry).taken is Taken.HELD
    assert desk.replica.logs.held(author.key.address) == tuple(e.digest for e in made)


def test_entries_of_who_does_not_count_are_useless() -> None:
    desk, author = Desk(is_open=False), Desk(is_open=False).author()
    assert desk.replica.add_entry(author.write([SELL])) == Effects(Taken.USELESS)
    desk.rounds(3)


def test_what_one_witness_lists_is_wanted_and_not_waited_for() -> None:
    desk = Desk()
    desk.next_round(fake_head(3, 0), listed_by=1)
    assert len(desk.replica.wanted_entries(10)) == 3
    assert len(desk.replica.wanted_entries(2)) == 2
    desk.rounds(6)
    assert desk.replica.epoch >= 3
    assert desk.replica.blocking() == ()
    wanted = desk.replica.wanted_entries(10)
    desk.replica.forget_wanted(wanted)
    assert desk.replica.wanted_entries(10) == ()


def test_an_entry_of_the_cut_that_is_missing_holds_the_epoch_back() -> None:
    desk, author = Desk(), Desk().author()
    first, second = author.write([SELL]), author.write([SELL])
    desk.next_round(head_of(first, second))
    desk.rounds(6)
    before = desk.replica.epoch
    assert desk.replica.committed_epoch > before + 1
    assert {m.digest for m in desk.replica.blocking()} == {first.digest, second.digest}
    assert set(desk.replica.wanted_entries(2)) == {first.digest, second.digest}
    assert desk.replica.add_entry(second).epochs == ()
    assert desk.replica.wanted_entries(2) == (first.digest,)
    effects = desk.replica.add_entry(first)
    assert [epoch.facts.epoch for epoch in effects.epochs] == list(
        range(before + 1, desk.replica.committed_epoch)
    )
    assert desk.replica.blocking() == ()


def test_the_order_of_arrival_is_not_the_order_of_the_epochs() -> None:
    roots = set()
    author = Desk().author()
    made = [author.write([SELL]), author.write([BUY])]
    for order in (made, made[::-1]):
        desk = Desk()
        for entry in order:
            desk.replica.add_entry(entry)
        desk.next_round(head_of(*made))
        desk.rounds(6)
        roots.add(desk.replica.root)
    assert len(roots) == 1


# --- forks ---


def forked(desk: Desk) -> tuple[Author, Entry, Entry]:
    author = desk.author()
    operations: list[Operation] = [SELL]
    twin = author.sign(0, Digest(ZERO32), [BUY])
    return author, author.write(operations), twin


def test_two_entries_of_one_number_are_evidence_at_once() -> None:
    desk = Desk()
    author, entry, twin = forked(desk)
    desk.replica.add_entry(entry)
    (proof,) = desk.replica.add_entry(twin).evidence
    assert proof.kind == EvidenceKind.FORK
    assert culprit(proof, desk.genesis.separator, desk.market_id) == author.key.address
    third = author.sign(0, Digest(ZERO32), [BUY, SELL])
    assert desk.replica.add_entry(third).evidence == (), "one proof is enough"


def test_the_second_side_of_a_fork_convicts_after_the_first_was_applied() -> None:
    desk = Desk()
    author, entry, twin = forked(desk)
    desk.replica.add_entry(entry)
    desk.commit(entry)
    assert not desk.replica.is_known_entry(twin.author, twin.seq, twin.digest)
    effects = desk.replica.add_entry(twin)
    assert effects.taken is Taken.DUPLICATE
    (proof,) = effects.evidence
    assert culprit(proof, desk.genesis.separator, desk.market_id) == author.key.address
    assert desk.replica.is_known_entry(twin.author, twin.seq, twin.digest), "proven once for all"


def test_a_fork_that_witnesses_list_freezes_its_author() -> None:
    desk = Desk()
    author, entry, twin = forked(desk)
    for fact in (entry, twin, author.write([SELL])):
        desk.replica.add_entry(fact)
    for witness in desk.witnesses:
        side = entry if witness < 2 else twin
        desk.replica.add_tick(desk.tick(witness, [head_of(side)]))
    desk.parents = tuple(
        sorted(tick.digest for tick in desk.replica.clock.ticks_of_round(Round(0)))
    )
    desk.round = 1
    desk.rounds(6)
    assert desk.replica.fold.is_frozen(author.key.address)
    assert desk.replica.add_entry(author.write([SELL])) == Effects(Taken.USELESS)
    assert not any(desk.replica.holds_entry(fact.digest) for fact in (entry, twin))
    assert size_of(desk.replica) == 0


def test_nothing_is_kept_of_the_sides_that_were_not_applied() -> None:
    desk, author = Desk(), Desk().author()
    for _ in range(3):
        seq, prev = author.next_seq, author.head
        twins = [author.sign(seq, prev, [BUY] * (2 + at)) for at in range(3)]
        entry = author.write([SELL])
        for fact in (twins[0], entry, *twins[1:]):
            desk.replica.add_entry(fact)
        desk.commit(entry)
    assert desk.replica.epoch > 3
    assert not desk.replica.fold.is_frozen(author.key.address), "nobody listed the other sides"
    assert size_of(desk.replica) == 0


def size_of(replica: Replica) -> int:
    """Entries held for one reason or another."""
    return len(replica._entries) + len(replica._first_of) + len(replica._twins)


# --- ticks ---


def test_a_tick_without_its_parents_waits_and_says_which_are_missing() -> None:
    desk = Desk()
    first = [desk.tick(w) for w in desk.witnesses]
    desk.parents = tuple(sorted(tick.digest for tick in first))
    effects = desk.replica.add_tick(desk.tick(0, round=1))
    assert effects.taken is Taken.WAITING
    assert set(effects.missing_ticks) == set(desk.parents) == set(desk.replica.wanted_ticks())
    for tick in first:
        assert desk.replica.add_tick(tick).taken is Taken.HELD
    assert desk.replica.wanted_ticks() == ()


def test_a_witness_that_ticks_twice_convicts_itself() -> None:
    desk = Desk()
    desk.replica.add_tick(desk.tick(2))
    (proof,) = desk.replica.add_tick(desk.tick(2, twin=1)).evidence
    accused = culprit(proof, desk.genesis.separator, desk.market_id)
    assert accused == WITNESS_KEYS[2].address


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (dict(key=Key(5)), "no witness"),
        (dict(reveal=bytes(32)), "hash chain"),
        (dict(round=512, parents=(Digest(bytes(32)),), reveal=bytes(32)), "past the era's last"),
        (dict(round=1, parents=(Digest(b"p" * 32),)), ""),
    ],
)
def test_ticks_that_are_objectively_wrong(how: dict, reason: str) -> None:
    desk = Desk()
    effects = desk.replica.add_tick(desk.tick(0, **how))
    assert effects.taken is (Taken.INVALID if reason else Taken.WAITING)
    assert reason in effects.reason


def test_parents_below_a_quorum_are_objectively_wrong() -> None:
    desk = Desk()
    desk.next_round()
    desk.parents = desk.parents[:2]
    effects = desk.replica.add_tick(desk.tick(0))
    assert effects.taken is Taken.INVALID
    assert "quorum" in effects.reason


@pytest.mark.parametrize("era", [1, 2, 3, 30])
def test_a_tick_of_a_later_era_is_no_fault_of_whoever_sent_it(era: int) -> None:
    assert Desk().replica.add_tick(Desk().tick(0, era=era)).taken is Taken.USELESS


def test_a_tick_far_above_what_is_held_is_no_fault_either() -> None:
    desk = Desk()
    tick = desk.tick(0, round=200, parents=(Digest(b"p" * 32),))
    assert desk.replica.add_tick(tick).taken is Taken.USELESS


def test_early_ticks_of_the_next_era_are_taken_when_it_begins() -> None:
    desk = Desk(era_ms=1000)
    for witness in desk.witnesses:
        early = desk.tick(witness, era=1, round=0)
        desk.replica.add_tick(early)
        desk.replica.add_tick(early)
    while desk.replica.era == 0:
        desk.next_round()
    assert len(desk.replica.clock.ticks_of_round(Round(0))) == 4
    assert desk.replica.add_tick(desk.tick(0, era=0, round=0)).taken is Taken.USELESS
    assert desk.replica.previous_clock is not None


def test_the_first_rounds_of_an_era_count_however_long_the_last_one_was() -> None:
    desk, author = Desk(era_ms=30_000), Desk(era_ms=30_000).author()
    first, second = author.write([SELL]), author.write([SELL])
    desk.replica.add_entry(first)
    desk.commit(first)
    while desk.replica.era == 0:
        desk.next_round()
    desk.replica.add_entry(second)
    desk.commit(second)
    assert desk.replica.fold.accounts[author.key.address].next_seq == 2


# --- floods ---


def test_a_hundred_thousand_made_up_listings_stay_within_bounds() -> None:
    desk = Desk()
    for number in range(25):
        lie = fake_head(MAX_LISTED, number)
        honest = [desk.tick(w) for w in desk.witnesses[1:]]
        liars = desk.tick(0, [lie])
        for tick in (liars, *honest):
            desk.replica.add_tick(tick)
        desk.parents = tuple(sorted(tick.digest for tick in (liars, *honest)))
        desk.round += 1
    assert len(desk.replica.wanted_entries(1 << 30)) == MAX_WANTED
    assert desk.replica.epoch >= 15, "and stop nothing"


def test_entries_listed_by_a_third_are_asked_for_first_in_any_flood() -> None:
    desk, author = Desk(), Desk().author()
    entry = author.write([SELL])
    desk.next_round(head_of(entry))
    for number in range(6):
        flood = [fake_head(MAX_LISTED, number)]
        made = [desk.tick(w, flood if w == 0 else ()) for w in desk.witnesses]
        for tick in made:
            desk.replica.add_tick(tick)
        desk.parents = tuple(sorted(tick.digest for tick in made))
        desk.round += 1
    assert desk.replica.wanted_entries(1) == (entry.digest,)


def test_one_witness_cannot_fill_the_room_for_early_ticks() -> None:
    desk = Desk()
    for number in range(MAX_EARLY_TICKS + 100):
        desk.replica.add_tick(desk.tick(0, era=1, round=0, twin=number))
    desk.replica.add_tick(desk.tick(0, era=1, round=0, key=Key(3)))
    assert len(desk.replica._early) == MAX_EARLY_TICKS // 4
    desk.replica.add_tick(desk.tick(1, era=1, round=0))
    assert len(desk.replica._early) == MAX_EARLY_TICKS // 4 + 1


def test_entries_far_ahead_of_the_cut_are_not_held() -> None:
    desk, author = Desk(), Desk().author()
    prev = Digest(b"p" * 32)
    for seq in range(1, HELD_AHEAD + 200):
        desk.replica.add_entry(author.sign(seq, prev, [SELL]))
    assert size_of(desk.replica) <= 2 * HELD_AHEAD


def test_an_author_of_countless_twins_fills_nothing() -> None:
    desk, author = Desk(), Desk().author()
    for number in range(300):
        desk.replica.add_entry(author.sign(0, Digest(ZERO32), [SELL] * (1 + number)))
    assert size_of(desk.replica) <= 8


def test_what_is_remembered_of_applied_entries_is_bounded() -> None:
    desk, author = Desk(), Desk().author()
    entry = author.write([SELL])
    replica = desk.replica
    for seq in range(1, MAX_REMEMBERED + 1):
        replica._remembered[author.key.address, Seq(seq)] = entry
    replica.add_entry(entry)
    desk.commit(entry)
    assert len(replica._remembered) == MAX_REMEMBERED
    kept = replica._remembered[author.key.address, Seq(0)]
    assert (kept.operations, kept.encoded) == ((), b""), "no more than proves the signature"


def test_a_long_run_leaves_nothing_behind() -> None:
    """What the clock, the cut and the logs hold follows the window, not the length of the run."""
    network = Network(12, witnesses=4)
    network.run(60_000)
    node = network.nodes[0]
    assert len(node.epochs) > 150
    clock = node.replica.clock
    assert len(clock) <= 4 * (64 + 8)
    assert clock.orphan_count == 0
    assert size_of(node.replica) < 40
    assert len(node.replica.wanted_entries(1 << 30)) < 40
