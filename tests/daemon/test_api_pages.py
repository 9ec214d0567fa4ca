"""Pages of the local API: whoever asks on from the last row of one misses nothing."""

from __future__ import annotations

from test_node import Party, author_of, cluster, genesis_of, market_of

from orrange_p2p.core.ids import Epoch, Seq
from orrange_p2p.daemon.api import MAX_ROWS, methods
from orrange_p2p.daemon.market import OwnCommit
from orrange_p2p.p2p.memory import MemoryNetwork


async def test_commits_come_in_whole_epochs() -> None:
    parties = [Party(0)]
    async with cluster(parties, genesis_of(parties), MemoryNetwork()) as (node,):
        author = author_of(node).address
        sizes = {10**6: 10, 10**6 + 1: MAX_ROWS + 7, 10**6 + 2: 3}  # long after all real epochs
        rows = [(epoch, at) for epoch, count in sizes.items() for at in range(count)]
        market_of(node).commits.extend(
            OwnCommit(author, Seq(number), 0, Epoch(epoch))
            for number, (epoch, _) in enumerate(rows)
        )
        seen: list[int] = []
        since = 10**6 - 1
        while page := await methods(node)["commits"]({"since": since}):
            seen += [row["seq"] for row in page]
            since = page[-1]["epoch"]
        assert seen == list(range(len(rows)))
