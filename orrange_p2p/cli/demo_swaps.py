"""Node processes that swap coins of a Bitcoin chain for a token of an EVM chain: the demo's other
market, and what `orrange bench swaps` measures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orrange_p2p.cli import cluster
from orrange_p2p.cli.chronicle import Chronicle
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.genesis import Genesis, Market, Parameters
from orrange_p2p.core.ids import Amount
from orrange_p2p.daemon.chain_config import parse_chains
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.daemon.keys import PlainKeys
from orrange_p2p.daemon.settlement_config import SwapConfig
from orrange_p2p.devnet.bank import UNLIMITED, Bank, open_bank
from orrange_p2p.devnet.bitcoin import CHAIN as BITCOIN
from orrange_p2p.devnet.chains import DevChain, fund_bitcoin, open_bitcoin_chain, open_chains
from orrange_p2p.devnet.contracts import HASH_TIMELOCK, QUOTE, REGISTRY

NUMBER: Final = 31337
BLOCK_TIME_S: Final = 1
LOT_SATS: Final = 10_000
"""Less than a lot would not pay for its claim."""
LOTS: Final = 100
PRICE: Final = 25_000
"""Ticks: cents for a whole coin."""
TICK: Final = 10 ** (QUOTE.decimals - 2) // (10**8 // LOT_SATS)
"""Smallest units of the token that a lot costs per cent of the coin's price."""
BITCOINS_SATS: Final = 500_000_000
COINS: Final = Amount(100 * 10**18)
TOKENS: Final = Amount(1_000_000 * 10**QUOTE.decimals)
MOST_FEES_SATS: Final = 20_000
"""Per swap: what a lock, a claim or a refund cost at the least rate, many times over."""
WAIT_S: Final = 120.0
"""For a trade to bind, and for each swap beside those that go on at the same time."""
LOOK_S: Final = 0.5
_ENDED: Final = ("swapped", "refunded", "unlocked", "lost")


@attrs.frozen
class SwapReport:
    """What the demo showed."""

    nodes: int
    market: str
    trades: int
    """That bound."""
    swapped: int
    """Those of them of which both sides hold the other's coins, for good."""
    both_locked: int
    """Those of which both chains showed a lock."""
    failed: int
    chains: list[str]
    agree: bool
    roots: list[str]
    seconds: float
    """From the last order to the last end."""
    balances_conserved: bool
    """Each node holds what its swaps say: to the unit in tokens, less fees in coins."""
    swaps: list[dict[str, Any]]
    """Each with its preimage, and both locks with transactions and blocks."""

    @property
    def is_as_it_should_be(self) -> bool:
        is_whole = self.agree and self.balances_conserved
        return is_whole and self.failed == 0 and self.swapped == self.trades > 0


class SwapRun:
    """Node processes that swap with one another."""

    def __init__(
        self,
        base: Path,
        nodes: int,
        evm: str,
        as_json: bool,
        *,
        trades: int = 6,
        lost_percent: int = 0,
    ) -> None:
        """``lost_percent``: of the messages that gossip brings, each node loses so many."""
        self._base = base
        self._count = nodes
        self._evm = evm
        self._trades = trades
        self._extra = (
            {n: ["--lose", str(lost_percent)] for n in range(nodes)} if lost_percent else {}
        )
        self._console = Console(stderr=as_json)

    async def run(self) -> SwapReport:
        async with AsyncExitStack() as stack:
            self._tell(f"Starting two chains (Bitcoin regtest, {self._evm}) ...")
            chains = open_chains(self._evm, [NUMBER], first_port=0, block_time_s=BLOCK_TIME_S)
            (evm,) = await stack.enter_async_context(chains)
            bitcoin = await stack.enter_async_context(
                open_bitcoin_chain(port=0, block_time_s=BLOCK_TIME_S)
            )
            self._tell(f"Making keys for {self._count} nodes ...")
            market = _market(evm.chain)
            genesis = await trio.to_thread.run_sync(self._make_network, market, evm, bitcoin)
            self._tell("Deploying the contracts, giving each trader tokens ...")
            keys = [PlainKeys(DataDir(self._base / f"node-{n}")) for n in range(self._count)]
            bank = await stack.enter_async_context(open_bank(evm, [k.traders()[0] for k in keys]))
            await _fund(bank, genesis, keys)
            self._tell("Starting the nodes, giving each coins ...")
            nodes = await stack.enter_async_context(
                cluster.running(self._base, self._count, self._extra)
            )
            for node in nodes:
                wallet = await _coins(node)
                await fund_bitcoin(bitcoin, wallet["account"], BITCOINS_SATS)
            owners = [one.traders()[0].address for one in keys]
            return await self._swap(nodes, bank, owners, evm.chain)

    def _make_network(self, market: Market, evm: DevChain, bitcoin: DevChain) -> Genesis:
        found = {
            evm.chain: {"endpoints": [evm.websocket], "poll_interval_ms": 200},
            BITCOIN: {"endpoint": bitcoin.http, "poll_interval_ms": 200},
        }
        return cluster.make_network(
            self._base,
            market,
            self._count,
            1,
            Parameters(),
            registry=REGISTRY,
            chains=parse_chains(found),
            swaps=(SwapConfig(evm.chain, HASH_TIMELOCK),),
        )

    async def _swap(
        self, nodes: Sequence[NodeProcess], bank: Bank, owners: Sequence[Any], chain: str
    ) -> SwapReport:
        before = await self._holdings(nodes, bank, owners)
        self._tell(f"Trading: {self._trades} times, coins against the token ...")
        bound = 0
        for number in range(self._trades):
            seller, buyer = nodes[number % len(nodes)], nodes[(number + 1) % len(nodes)]
            for node, side in ((seller, "sell"), (buyer, "buy")):
                place = {"op": "place", "side": side, "price": str(PRICE + number)}
                await node.client.call("submit", {"operations": [{**place, "quantity": str(LOTS)}]})
            bound = await _until_bound(nodes, number + 1)
        started = trio.current_time()
        rows = await self._wait(nodes, bound)
        seconds = trio.current_time() - started
        chronicle = Chronicle(nodes)
        await chronicle.fetch()
        _, roots = chronicle.compare()
        by_trade: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_trade.setdefault(row["trade"], []).append(row)
        swapped = [
            pair
            for pair in by_trade.values()
            if len(pair) == 2 and {row["state"] for row in pair} == {"swapped"}
        ]
        after = await self._holdings(nodes, bank, owners)
        status = await nodes[0].status()
        shown = [await _both(nodes, pair) for pair in swapped]
        return SwapReport(
            nodes=len(nodes),
            market=f"BTC/{QUOTE.symbol}",
            trades=status["totals"].get("trades", 0),
            swapped=len(swapped),
            both_locked=sum(all(map(_has_both_locks, pair)) for pair in by_trade.values()),
            failed=len(by_trade) - len(swapped),
            chains=[BITCOIN, chain],
            agree=len(set(roots)) == 1,
            roots=roots,
            seconds=round(seconds, 1),
            balances_conserved=_add_up(before, after, rows),
            swaps=shown,
        )

    async def _holdings(
        self, nodes: Sequence[NodeProcess], bank: Bank, owners: Sequence[Any]
    ) -> list[tuple[int, int]]:
        """Sat and token units of each node, once its wallet has seen what it was given."""
        found = []
        for node, owner in zip(nodes, owners, strict=True):
            with trio.fail_after(WAIT_S):
                while True:
                    wallet = await _coins(node)
                    if int(wallet["amount"]):
                        break
                    await trio.sleep(LOOK_S)
            _, tokens = await bank.held(owner)
            found.append((int(wallet["amount"]), int(tokens)))
        return found

    async def _wait(self, nodes: Sequence[NodeProcess], bound: int) -> list[dict[str, Any]]:
        """All swaps, once each has ended at both sides."""
        told, rows = "", list[dict[str, Any]]()
        deadline = trio.current_time() + WAIT_S + 2 * self._trades
        while trio.current_time() < deadline:
            rows = [
                {**row, "node": node.number}
                for node in nodes
                for row in await node.client.call("swaps")
            ]
            states = [row["state"] for row in rows]
            text = ", ".join(f"{states.count(one)} {one}" for one in sorted(set(states)))
            if text != told:
                self._tell(f"  {text}")
                told = text
            if len(rows) == 2 * bound and all(state in _ENDED for state in states):
                return rows
            await trio.sleep(LOOK_S)
        why = "; ".join(sorted({row["problem"] for row in rows if row["problem"]}))
        raise WorldError(f"the swaps did not end within {WAIT_S:.0f} s: {told}. {why}")

    def _tell(self, text: str) -> None:
        self._console.print(text, highlight=False)


def _market(chain: str) -> Market:
    return Market(
        base=f"{BITCOIN}/slip44:0",
        quote=QUOTE.asset(chain),
        tick_size=TICK,
        lot_size=LOT_SATS,
        settlement="htlc",
        timing="dev-dev",
        rate_numerator=1,
        rate_denominator=1,
        volatility_ppm=50_000,
    )


async def _fund(bank: Bank, genesis: Genesis, keys: Sequence[PlainKeys]) -> None:
    owners = [one.traders()[0].address for one in keys]
    await bank.deploy(genesis)
    await bank.hand_out(owners, coins=COINS, base=Amount(0), quote=TOKENS)
    await bank.approve(owners, UNLIMITED, HASH_TIMELOCK)


async def _coins(node: NodeProcess) -> dict[str, Any]:
    """The row of a node's Bitcoin wallet."""
    rows = await node.client.call("wallet")
    return next(row for row in rows if row["chain"] == BITCOIN)


async def _until_bound(nodes: Sequence[NodeProcess], most: int) -> int:
    """Wait for a match of each so far to bind or lapse; how many have bound."""
    with trio.move_on_after(WAIT_S):
        while True:
            totals = (await nodes[0].status())["totals"]
            bound = int(totals.get("trades", 0))
            if bound + totals.get("lapses", 0) >= most:
                return bound
            await trio.sleep(LOOK_S / 4)
    raise WorldError(f"of {most} matches some neither bound nor lapsed within {WAIT_S:.0f} s")


def _has_both_locks(row: Mapping[str, Any]) -> bool:
    return all(row[leg] is not None and row[leg]["lock"] for leg in ("gives", "gets"))


async def _both(nodes: Sequence[NodeProcess], pair: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One swap with both of its locks, each as told by who took it: the other one may have ended
    before it saw that."""
    legs, preimages = [], []
    for row in pair:
        full = await nodes[row["node"]].client.call("swap", {"trade": row["trade"]})
        view = full["other_view"]
        legs.append({**full["gets"], "block": view["block"], "end_block": view["end_block"]})
        preimages.append(full["preimage"])
    legs.sort(key=lambda leg: leg["chain"] != BITCOIN)
    return {
        "trade": pair[0]["trade"],
        "sides": [one["node"] for one in sorted(pair, key=lambda one: one["role"])],
        "preimage": next(filter(None, preimages), None),
        "legs": legs,
    }


def _add_up(
    before: Sequence[tuple[int, int]],
    after: Sequence[tuple[int, int]],
    rows: Sequence[Mapping[str, Any]],
) -> bool:
    """Whether each node's change is what its swaps brought, and no token came or went."""
    is_good = sum(tokens for _, tokens in before) == sum(tokens for _, tokens in after)
    for number, (had, has) in enumerate(zip(before, after, strict=True)):
        owed = [0, 0]
        own = [row for row in rows if row["node"] == number and row["state"] == "swapped"]
        for row in own:
            for sign, leg in ((-1, row["gives"]), (1, row["gets"])):
                owed[leg["chain"] != BITCOIN] += sign * int(leg["amount"])
        fees = had[0] + owed[0] - has[0]
        is_good &= has[1] - had[1] == owed[1] and 0 <= fees <= MOST_FEES_SATS * len(own)
    return is_good


def show_swaps(report: SwapReport) -> None:
    """All of it, for people."""
    console = Console(highlight=False)
    for swap in report.swaps:
        seller, buyer = swap["sides"]
        title = f"{swap['trade'][:18]}…  node {seller} gave coins, node {buyer} tokens"
        table = Table(title=Text(title), title_justify="left")
        for column in ("chain", "amount", "locked by", "in block", "taken by", "in block"):
            table.add_column(column, overflow="fold")
        for leg in swap["legs"]:
            table.add_row(
                leg["chain"][:20],
                leg["amount"],
                str(leg["lock"])[:20],
                str(leg["block"]),
                str(leg["end"])[:20],
                str(leg["end_block"]),
            )
        console.print(table)
        console.print(f"preimage {swap['preimage']}\n")
    colour = "red" if report.failed else "green"
    console.print(
        f"[{colour}]{report.swapped} of {report.trades} trades swapped[/] in "
        f"{report.seconds} s, {report.failed} failed."
    )
    kept = "add up" if report.balances_conserved else "do not add up"
    console.print(f"Balances before and after {kept}.")
    same = "All roots are equal." if report.agree else "The roots differ."
    console.print(same)


def to_json(report: SwapReport) -> str:
    return json.dumps(attrs.asdict(report), separators=(",", ":"))
