"""The limit on what one counterparty can hold pending."""

from __future__ import annotations

from test_node import Party, author_of, cluster, genesis_of, market_of, until
from test_signing import one_more, orders, parties_of, place

from orrange_p2p.p2p.memory import MemoryNetwork


async def test_a_match_over_the_limit_for_a_counterparty_is_not_accepted() -> None:
    parties = parties_of(4)
    careful, other = Party(9), Party(8)
    genesis = genesis_of(parties, traders=[*parties, careful, other])
    network = MemoryNetwork()
    async with (
        cluster(parties, genesis, network) as nodes,
        one_more(careful, genesis, network, nodes, max_exposure_lots=5) as node,
        one_more(other, genesis, network, [*nodes, node]) as counterparty,
    ):
        await place(node, lots=4)
        await place(node, lots=6)
        await until(lambda: orders(counterparty) == 2, [counterparty])
        await place(counterparty, side=1, lots=10)
        await until(lambda: market_of(nodes[0]).totals["trades"] == 1, nodes)
        await until(lambda: node.counters["accepts_declined"] == 1, [node])
        assert author_of(node).unaccepted == 1
        await until(lambda: market_of(nodes[0]).totals["lapses"] == 1, nodes)
        assert author_of(counterparty).unaccepted == 0
