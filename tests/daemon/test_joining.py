"""Checkpoints in whole nodes: kept, pruned behind, started from, joined at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import pytest
import trio
from test_node import (
    MARKET,
    Party,
    author_of,
    common_roots,
    genesis_of,
    market_of,
    until,
)

from orrange_p2p.core import sync
from orrange_p2p.core.checkpoints import decode_checkpoint
from orrange_p2p.core.fold import Fold
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Epoch, Era, Lots, MarketId, PeerId, Price, Round
from orrange_p2p.core.operations import Place
from orrange_p2p.core.sync import CheckpointPage, CheckpointWanted, Parts, PartsWanted
from orrange_p2p.daemon.market import corrupt
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.p2p.memory import MemoryNetwork, MemoryTransport
from orrange_p2p.ports import CheckpointRecord
from orrange_p2p.store.memory import MemoryStore

INTERVAL = 8


pytestmark = pytest.mark.usefixtures("quick_checkpoints")


class Net:
    """Witnesses that keep a checkpoint every 8 epochs."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        self.network = MemoryNetwork()
        self.parties = [Party(n) for n in range(4)]
        self.genesis: Genesis = genesis_of(self.parties)
        self.nodes: list[Node] = []

    async def transport(self, name: str) -> MemoryTransport:
        return await self.stack.enter_async_context(self.network.open_transport(name))

    async def start(self, sabotaged: int = -1, **how: bool) -> None:
        for number, party in enumerate(self.parties):
            is_sick = number == sabotaged
            self.nodes.append(
                await self.add(f"n{number}", party, is_sick=is_sick, is_witness=True, **how)
            )

    async def add(self, name: str, party: Party, **how: bool) -> Node:
        node = self.make(await self.transport(name), party, **how)
        return await self.stack.enter_async_context(running(node))

    def make(
        self,
        transport: MemoryTransport,
        party: Party,
        *,
        is_sick: bool = False,
        is_witness: bool = False,
        is_connected: bool = True,
        is_chronic: bool = True,
        is_archive: bool = False,
    ) -> Node:
        """``is_chronic``: it computes the same epochs wrong however often it does."""
        broken: list[Fold] = []
        first = Epoch(0)

        def break_it(fold: Fold) -> None:
            nonlocal first
            if not fold.live_order_count or fold in broken or (broken and not is_chronic):
                return
            first = first or fold.epoch
            if fold.epoch <= -(-first // INTERVAL) * INTERVAL:  # and not where it may join
                broken.append(fold)
                corrupt(fold)

        return Node(
            self.genesis,
            party.store,
            transport,
            SystemClock(),
            bootstrap=[node.transport.addresses[0] for node in self.nodes if is_connected],
            witness=(party.witness, {MARKET.id: party.chain}) if is_witness else None,
            traders=[party.trader] if is_witness else (),
            after_apply=break_it if is_sick else None,
            checkpoint_epochs=INTERVAL,
            archive=is_archive,
        )

    async def place(self, count: int) -> None:
        for at in range(count):
            author = author_of(self.nodes[at % len(self.nodes)])
            await author.submit([Place(0, Price(1 + at + p), Lots(5)) for p in range(10)])

    async def until_pruned(self) -> None:
        """No peer has the beginning any more."""
        with trio.fail_after(20):
            while any([await self._has_beginning(party) for party in self.parties]):
                await market_of(self.nodes[0]).changed.wait()

    async def _has_beginning(self, party: Party) -> bool:
        ticks = await party.store.rounds(MARKET.id, Era(0), Round(0))
        return any(tick.number == 0 for tick in ticks)


async def test_who_joins_when_all_have_pruned_has_the_same_root_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orrange_p2p.daemon.joining.PARTS_AT_ONCE", 1)  # two parts, two sources
    # Once is enough: on a busy machine peers are soon as far ahead again as makes a join worth it.
    monkeypatch.setattr("orrange_p2p.daemon.joining.AHEAD_EPOCHS", 1 << 20)
    async with AsyncExitStack() as stack:
        net = Net(stack)
        await net.start()
        await net.place(8)
        await net.until_pruned()
        late = await net.add("late", Party(9))
        await until(lambda: late.joining[MARKET.id].joined_at is not None, net.nodes)
        joined_at = late.joining[MARKET.id].joined_at
        assert joined_at is not None
        await net.place(4)
        replica = market_of(late).replica
        await until(lambda: market_of(late).totals["orders"] >= 40, net.nodes)
        assert market_of(late).replica is replica
        assert replica.epoch > joined_at
        assert replica.fold.live_order_count == 120
        assert len(common_roots([*net.nodes, late])) == 1
        assert late.counters["join_lies"] == 0
        assert len(late.joining[MARKET.id].sources) > 1


@pytest.fixture
def quick_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `quick_checkpoints`: a cut-off of a second here is one of many seconds elsewhere."""
    monkeypatch.setattr("orrange_p2p.daemon.joining.STALLED_MS", 300)
    monkeypatch.setattr("orrange_p2p.daemon.joining.REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr("orrange_p2p.daemon.repair.REQUEST_TIMEOUT_S", 0.5)


@pytest.mark.usefixtures("quick_stalls")
async def test_an_archive_that_was_cut_off_leaves_out_nothing_that_peers_have() -> None:
    async with AsyncExitStack() as stack:
        net = Net(stack)
        await net.start(is_archive=True)
        await net.place(4)
        *others, alone = net.nodes
        market = market_of(alone)
        await until(lambda: market.totals["orders"] == 40, net.nodes)
        net.network.partition([node.transport for node in others])
        cut_off_at = market.replica.epoch
        await until(lambda: market_of(others[0]).replica.epoch >= cut_off_at + 40, others)
        net.network.heal()
        epoch = market_of(others[0]).replica.epoch
        # Epochs that are applied together are noted one after the other, and stamped then.
        await until(lambda: market.epochs[-1].epoch >= epoch, others)
        assert alone.counters["joins"] == 0
        applied = await net.parties[3].store.epochs(MARKET.id, Epoch(1))
        assert [record.epoch for record in applied][: epoch - 1] == list(range(1, epoch))
        assert len(common_roots(net.nodes)) == 1


@pytest.mark.usefixtures("quick_stalls")
async def test_an_archive_joins_where_the_history_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orrange_p2p.daemon.joining.ARCHIVE_PATIENCE_MS", 1000)
    async with AsyncExitStack() as stack:
        net = Net(stack)
        await net.start()
        await net.place(8)
        await net.until_pruned()
        late = await net.add("late", Party(9), is_archive=True)
        await until(joined(late), net.nodes)
        assert market_of(late).replica.fold.live_order_count == 80


async def test_a_restart_starts_at_the_own_checkpoint_and_reads_the_rest() -> None:
    parties = [Party(n) for n in range(4)]
    async with AsyncExitStack() as stack:
        net = Net(stack)
        net.parties = parties
        net.genesis = genesis_of(parties)
        await net.start()
        await net.place(8)
        await net.until_pruned()
        epoch = market_of(net.nodes[0]).replica.epoch
    async with AsyncExitStack() as stack:
        again = Net(stack)
        again.parties, again.genesis = parties, net.genesis
        await again.start()
        market = market_of(again.nodes[0])
        assert market.replica.fold.live_order_count == 80
        await again.place(4)
        await until(lambda: market.replica.fold.live_order_count == 120, again.nodes)
        assert market.replica.epoch > epoch
        assert len(common_roots(again.nodes)) == 1
        assert again.nodes[0].counters["joins"] == 0


async def test_who_computes_wrong_twice_takes_the_state_of_the_quorum() -> None:
    async with AsyncExitStack() as stack:
        net = Net(stack)
        await net.start(sabotaged=2)
        await net.place(8)
        sick = net.nodes[2]
        await until(lambda: sick.counters["joins"] == 1, net.nodes)
        assert (sick.counters["recomputed"], sick.counters["halts"]) == (1, 2)
        await net.place(4)
        await until(lambda: market_of(sick).replica.fold.live_order_count == 120, net.nodes)
        assert market_of(sick).replica.halt is None
        assert len(common_roots(net.nodes)) == 1
        evidence = await net.parties[2].store.meta(f"contradicted.{MARKET.id.hex()}")
        assert evidence is not None and b"own_root" in evidence


async def test_liars_are_dropped_and_the_others_serve() -> None:
    async with AsyncExitStack() as stack:
        net = Net(stack)
        await net.start()
        await net.place(8)
        await net.until_pruned()
        lie = ""
        liar = await net.transport("liar")
        honest = net.nodes[0].checkpoints_of(market_of(net.nodes[0]))

        async def serve(peer: PeerId, payload: bytes) -> bytes:
            request = sync.decode_request(payload)
            assert honest.newest is not None
            if isinstance(request, CheckpointWanted):
                page = await honest.answer(request)
                assert isinstance(page, CheckpointPage)
                if lie == "checkpoint":  # the right form, and nobody stands for it
                    checkpoint = decode_checkpoint(honest.newest.encoded)
                    header = checkpoint.header
                    higher = header._replace(epoch=Epoch(header.epoch + 800))
                    forged = checkpoint._replace(
                        certificate=checkpoint.certificate._replace(header=higher)
                    ).encode()
                    return CheckpointPage(
                        higher.epoch, len(forged), forged if request.epoch else b""
                    ).encode()
                if lie == "size":
                    return CheckpointPage(Epoch(8000), 3, b"abc"[: 3 * request.epoch]).encode()
                if lie == "epoch":
                    return CheckpointPage(
                        Epoch(8000),
                        len(honest.newest.encoded),
                        honest.newest.encoded if request.epoch else b"",
                    ).encode()
                return page.encode()
            if isinstance(request, PartsWanted):
                names = [bytes(32)] if lie == "unasked" else request.names
                return Parts(tuple((name, b"\x80") for name in names)).encode()
            return sync.Reply(sync.Frame((), ()), False).encode()

        liar.serve(sync.PROTOCOL, serve)
        for number, kind in enumerate(("checkpoint", "size", "epoch", "part", "unasked")):
            lie = kind
            transport = await net.transport(f"late{number}")
            late = net.make(transport, Party(9), is_connected=False)
            await late.connect(liar.addresses[0])
            async with running(late):
                await until(lied_to(late), net.nodes)
                for node in net.nodes:
                    await late.connect(node.transport.addresses[0])
                await until(joined(late), net.nodes)
                assert late.counters["sync_shunned"] >= 1
                assert market_of(late).replica.fold.live_order_count == 80


def lied_to(node: Node) -> Callable[[], bool]:
    return lambda: node.counters["join_lies"] > 0


def joined(node: Node) -> Callable[[], bool]:
    return lambda: node.joining[MARKET.id].joined_at is not None


class Killed(Exception):
    """The process died."""


class DyingStore(MemoryStore):
    """What is written stays; the process dies just before or just after a write."""

    def __init__(self) -> None:
        super().__init__()
        self.lives = 0
        """Writes until the end."""

    async def _write(self, write: Awaitable[None]) -> None:
        self.lives -= 1
        if self.lives <= 0:
            write.close()  # type: ignore[attr-defined]
            raise Killed
        await write

    async def keep_parts(self, market: MarketId, parts: Mapping[bytes, bytes]) -> None:
        await self._write(super().keep_parts(market, parts))

    async def keep_checkpoint(self, market: MarketId, record: CheckpointRecord) -> None:
        await self._write(super().keep_checkpoint(market, record))


async def test_a_join_killed_at_any_write_is_finished_by_the_next_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orrange_p2p.daemon.joining.PARTS_AT_ONCE", 1)
    async with AsyncExitStack() as stack:
        net = Net(stack)
        await net.start()
        await net.place(8)
        await net.until_pruned()
        party = Party(9)
        store = party.store = DyingStore()
        deaths = 0
        late = None
        while late is None or not joined(late)():
            store.lives = deaths + 1
            transport = await net.transport(f"life{deaths}")
            late = net.make(transport, party)
            try:
                async with running(late):
                    await until(joined(late), net.nodes)
            except* Killed:
                deaths += 1
        assert deaths >= 2
        assert market_of(late).replica.fold.live_order_count == 80
