"""What a node keeps of its own trades, while the log behind them may go."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from test_node import MARKET, Party, genesis_of, market_of, trade, until

from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.swaps.binding import BoundTrade, Consent
from orrange_p2p.crypto import keccak_tree
from orrange_p2p.crypto.eip712 import StructType, signing_digest
from orrange_p2p.crypto.secp256k1 import recover
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports.trades import TradeRecord

TRADES = StructType("Trades(bytes32 root)")


@asynccontextmanager
async def settling_cluster(parties: list[Party], genesis: Genesis) -> AsyncIterator[list[Node]]:
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        names: list[str] = []
        for number, party in enumerate(parties):
            transport = await stack.enter_async_context(network.open_transport(f"n{number}"))
            node = Node(
                genesis,
                party.store,
                transport,
                SystemClock(),
                bootstrap=names,
                witness=(party.witness, {MARKET.id: party.chain}),
                traders=[party.trader],
                trades=party.store,
            )
            nodes.append(await stack.enter_async_context(running(node)))
            names.append(transport.addresses[0])
        yield nodes


def signer(genesis: Genesis, bound: BoundTrade, consent: Consent) -> bytes:
    what = bytes(bound.id)
    if consent.path:
        what = TRADES.hash((keccak_tree.root_by_proof(what, consent.path),))
    return recover(signing_digest(genesis.separator, what), consent.signature)


async def test_both_parties_keep_what_settles_their_trade_and_others_do_not() -> None:
    parties = [Party(n) for n in range(4)]
    genesis = genesis_of(parties)
    kept: list[Sequence[TradeRecord]] = []
    async with settling_cluster(parties, genesis) as nodes:
        for price in (100, 101):
            await trade(nodes, price)
        await until(lambda: all(market_of(n).totals["trades"] == 2 for n in nodes), nodes)
        for party in parties:
            kept.append(await party.store.unsettled_trades(MARKET.id))
            assert await party.store.consents(MARKET.id) == {}
    assert kept[0] == kept[1]
    assert kept[2] == kept[3] == []
    assert [bound.trade.base_amount for bound, _ in kept[0]] == [4, 4]
    for bound, _ in kept[0]:
        assert signer(genesis, bound, bound.buyer) == parties[0].trader.address
        assert signer(genesis, bound, bound.seller) == parties[1].trader.address
    async with settling_cluster(parties, genesis) as nodes:
        assert market_of(nodes[0]).totals["trades"] == 2
        assert [await p.store.unsettled_trades(MARKET.id) for p in parties] == kept
