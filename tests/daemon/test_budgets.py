"""What one peer may cost: signature checks by gossip, bytes by sync."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import trio.testing

from orrange_p2p.core import entries, sync
from orrange_p2p.core.allowances import ENTRY_COST_BYTES, Allowances
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.errors import PeerError
from orrange_p2p.core.frames import Frame
from orrange_p2p.core.ids import ZERO32, Digest, Lots, MarketId, PeerId, Price, Seq
from orrange_p2p.core.operations import Place
from orrange_p2p.daemon import budgets
from orrange_p2p.daemon.budgets import Budgets
from orrange_p2p.daemon.intake import CHECKS_BURST, CHECKS_PER_S, Fact, Intake
from orrange_p2p.daemon.sync_server import LEAST_COST, SERVED_BURST, Served, SyncServer
from orrange_p2p.ports import Verdict
from orrange_p2p.signers.memory import MemorySigner

MARKET = MarketId(b"m" * 32)
SEPARATOR = b"s" * 32
ALICE, BOB = PeerId("alice"), PeerId("bob")


def test_a_bucket_runs_dry_and_fills_again() -> None:
    bucket: Budgets[PeerId] = Budgets(per_s=10, burst=20)
    assert bucket.spend(ALICE, 20, 0.0)
    assert not bucket.spend(ALICE, 1, 0.0)
    assert bucket.spend(BOB, 20, 0.0)
    assert bucket.spend(ALICE, 10, 1.0)
    assert not bucket.spend(ALICE, 21, 1000.0)
    assert bucket.spend(ALICE, 20, 1000.0)


def test_debts_are_bounded_and_told_in_seconds() -> None:
    bucket: Budgets[PeerId] = Budgets(per_s=10, burst=20)
    assert bucket.charge(ALICE, 20, 0.0) == 0
    assert bucket.charge(ALICE, 10, 0.0) == 1.0
    assert bucket.charge(ALICE, 1000, 0.0) == 2.0
    assert not bucket.spend(ALICE, 1, 2.0)
    assert bucket.spend(ALICE, 1, 2.1)


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MAX_BUCKETS", 3)
    bucket: Budgets[PeerId] = Budgets(per_s=1, burst=2)
    for number in range(10):
        assert bucket.spend(PeerId(str(number)), 2, 0.0)
    assert len(bucket._left) == 3
    assert not bucket.spend(PeerId("9"), 1, 0.0)


def entry_of(signer: MemorySigner, seq: int, *, forged: bool = False) -> Entry:
    prev = Digest(b"p" * 32 if seq else ZERO32)
    draft = entries.draft(
        SEPARATOR, MARKET, signer.address, Seq(seq), prev, [Place(0, Price(1), Lots(1))]
    )
    return draft.signed(signer.sign(Digest(b"x" * 32) if forged else draft.digest))


async def test_gossip_of_a_peer_over_budget_is_ignored_but_a_flood_of_lies_is_rejected(
    autojump_clock: trio.testing.MockClock,
) -> None:
    taken: list[Fact] = []

    async def take(batch: Sequence[tuple[PeerId, Fact]]) -> None:
        taken.extend(fact for _, fact in batch)

    counters: Counter[str] = Counter()
    intake = Intake(SEPARATOR, MARKET, take, lambda _: True, lambda _: False, counters)
    signer = MemorySigner(b"k" * 32)
    known = Frame((entry_of(signer, 0).encoded,), ()).encode()
    fresh = Frame((entry_of(signer, 1).encoded,), ()).encode()
    forged = Frame((entry_of(signer, 2, forged=True).encoded,) * 1000, ()).encode()
    assert await intake.on_gossip(ALICE, known) is Verdict.ACCEPT
    for _ in range(20):  # most of them for the price of one check each
        assert await intake.on_gossip(ALICE, forged) is Verdict.REJECT
    rejected = int(CHECKS_BURST - 1) // 1000
    assert counters["over_budget"] == 20 - rejected
    # The rest of its bucket, then nothing; what is known costs nothing; others are not concerned.
    rest = Frame((entry_of(signer, 3, forged=True).encoded,) * 191, ()).encode()
    assert await intake.on_gossip(ALICE, rest) is Verdict.REJECT
    assert await intake.on_gossip(ALICE, fresh) is Verdict.IGNORE
    assert counters["over_budget"] == 21 - rejected
    assert await intake.on_gossip(ALICE, known) is Verdict.IGNORE
    assert counters["over_budget"] == 21 - rejected
    assert await intake.on_gossip(BOB, fresh) is Verdict.ACCEPT
    await trio.sleep(1.1 * 1000 / CHECKS_PER_S)
    assert await intake.on_gossip(ALICE, forged) is Verdict.REJECT


async def test_what_an_author_signs_beyond_its_share_counts_as_new_when_it_comes_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def take(batch: Sequence[tuple[PeerId, Fact]]) -> None:
        raise AssertionError

    held: set[Digest] = set()
    counters: Counter[str] = Counter()
    intake = Intake(
        SEPARATOR, MARKET, take, lambda _: True, lambda fact: fact.digest in held, counters
    )
    flooder, honest = MemorySigner(b"k" * 32), MemorySigner(b"h" * 32)
    flood = [entry_of(flooder, seq) for seq in range(10)]
    cost = ENTRY_COST_BYTES + len(flood[9].encoded)
    intake._allowances = Allowances(cost, 3 * cost + 1)
    frame = Frame(tuple([entry.encoded for entry in flood]), ())
    assert await intake.admit(ALICE, frame) == 4
    assert counters["author_over_budget"] == 6
    # Whoever brings it: the author pays, nobody else, and no peer is to blame.
    other = Frame((flood[9].encoded, entry_of(honest, 0).encoded), ())
    assert await intake.admit(BOB, other) == 1
    assert await intake.on_gossip(BOB, Frame((flood[8].encoded,), ()).encode()) is Verdict.IGNORE
    # What we ask for, since others list it, is let in at once; the rest later.
    assert await intake.admit_pulled(BOB, Frame((flood[4].encoded,), ())) == 1
    await trio.sleep(2.1)
    assert await intake.admit(ALICE, frame) == 2
    # Who sends old entries again, of which we hold the outcome, spends nobody's share.
    old = [entry_of(flooder, seq) for seq in range(20, 30)]
    held.update(entry.digest for entry in old)
    await trio.sleep(1)
    assert await intake.admit(BOB, Frame(tuple([entry.encoded for entry in old]), ())) == 0
    assert await intake.admit(ALICE, frame) == 1


async def test_a_peer_that_asks_without_end_is_slowed_down_then_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class NothingHeld:
        """A market that answers with nothing."""

        async def answer(self, request: sync.Request) -> sync.Reply:
            return sync.Reply(Frame((), ()), more=False)

    counters: Counter[str] = Counter()
    server = SyncServer({MARKET: Served(NothingHeld(), None)}, counters)  # type: ignore[arg-type]
    request = sync.encode_request(sync.StatusWanted(MARKET))
    burst = int(SERVED_BURST // LEAST_COST)
    started = trio.current_time()
    for _ in range(burst):
        await server.on_request(ALICE, request)
    assert trio.current_time() == started
    for _ in range(200):
        await server.on_request(ALICE, request)
    assert trio.current_time() - started == pytest.approx(200 / 128)
    assert counters["sync_paced"] == 200
    assert not counters["sync_over_budget"]
    refused = 0

    async def ask() -> None:
        nonlocal refused
        try:
            await server.on_request(ALICE, request)
        except PeerError:
            refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(ask)
    assert 400 < refused == counters["sync_over_budget"] < 600
    await server.on_request(BOB, request)
