"""What a node tells of its own orders: at every moment something, and of each one thing."""

from __future__ import annotations

import pytest
import trio
from test_node import MARKET, Party, author_of, cluster, genesis_of, market_of, until

from orrange_p2p.core.ids import Lots, MarketId, Price
from orrange_p2p.core.operations import Cancel, Place
from orrange_p2p.daemon import order_api
from orrange_p2p.daemon.tokens import Tokens
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports import EpochRecord
from orrange_p2p.store.memory import MemoryStore

pytestmark = pytest.mark.usefixtures("one_clock")


class SlowStore(MemoryStore):
    """A disk on which an epoch's record takes as long as one likes."""

    def __init__(self) -> None:
        super().__init__()
        self.may_record = trio.Event()
        self.may_record.set()
        self.asked = trio.Event()

    def hold(self) -> None:
        """From the next epoch on."""
        self.may_record, self.asked = trio.Event(), trio.Event()

    async def record_epoch(self, market: MarketId, record: EpochRecord) -> None:
        self.asked.set()
        await self.may_record.wait()
        await super().record_epoch(market, record)


async def test_an_order_that_ends_is_known_before_its_epoch_is_on_disk() -> None:
    party = Party(0)
    party.store = store = SlowStore()
    async with cluster([party], genesis_of([party]), MemoryNetwork()) as nodes:
        (node,) = nodes
        fold = market_of(node).replica.fold
        orders = order_api.methods(node, Tokens({}))["orders"]
        (name,) = await author_of(node).submit([Place(0, Price(100), Lots(5))])
        asked = {"market": "0x" + MARKET.id.hex(), "orders": [str(name)]}
        await until(lambda: bool(node.own_orders[MARKET.id].live(fold)), nodes)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                store.hold()
                nursery.start_soon(author_of(node).submit, [Cancel(name.seq, name.position)])
                await store.asked.wait()
                while node.own_orders[MARKET.id].live(fold):
                    store.may_record.set()
                    store.hold()
                    await store.asked.wait()
                (row,) = await orders(asked)
                store.may_record.set()
        assert (row["state"], row["reason"]) == ("ended", "user")
