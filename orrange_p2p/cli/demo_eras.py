"""The demo of elected witnesses: two join, one leaves, one cheats and is slashed, and all the while
every node computes the same epochs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from rich.console import Console
from rich.table import Table

from orrange_p2p.bench.replay import MARKET
from orrange_p2p.cli import cluster
from orrange_p2p.cli.chronicle import Chronicle
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.genesis import Genesis, Market, Parameters
from orrange_p2p.core.ids import Address, Amount, Era
from orrange_p2p.daemon import datadir
from orrange_p2p.daemon.chain_config import parse_chains
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.daemon.keys import PlainKeys
from orrange_p2p.devnet.bank import Bank, open_bank
from orrange_p2p.devnet.bonds import Bonds, Candidacy
from orrange_p2p.devnet.chains import DevChain, open_chains
from orrange_p2p.devnet.contracts import BASE, QUOTE, REGISTRY, SETTLEMENT

NUMBER: Final = 31337
BLOCK_TIME_S: Final = 1
FOUNDERS: Final = 4
"""Witnesses of genesis; two more join."""
NODES: Final = FOUNDERS + 2
LEAVER, CHEAT, REPORTERS = 0, 1, range(2, NODES)
CHEATS_FROM: Final = 1
"""The era in which the cheat begins to sign two ticks in each round."""
TIMES: Final = Parameters(
    era_ms=14_000,
    pin_ms=6_000,
    handover_ms=2_500,
    rounds_per_era=1024,
    elected_witnesses=8,
    bond_unit=10**12,
)
"""Eras of an hour, in seconds."""
COINS: Final = Amount(100 * 10**18)
BOND: Final = Amount(1_000 * 10**QUOTE.decimals)
LOCK_S: Final = 300 * 86_400
WAIT_S: Final = 150.0
LOOK_S: Final = 0.5
AFTER_ROUNDS: Final = 16
"""Of the last era that are waited for: its clock runs."""


@attrs.frozen
class EraSeen:
    """Who kept the clock of one era."""

    era: int
    roster_block: int
    """Of the home chain, at which the roster was read; 0 for that of genesis."""
    witnesses: list[str]


@attrs.frozen
class EraReport:
    """What the demo showed."""

    nodes: int
    epochs: int
    agree: bool
    """Whether every node has the same root at every epoch that all have."""
    roots: list[str]
    eras: int
    """In which all nodes lived."""
    joined: int
    left: int
    slashed: int
    """Witnesses whose bond is gone on the chain."""
    bond_before: str
    bond_after: str
    """The cheat's, in smallest units of the bond's token."""
    reporter_share: str
    """What the one that showed the proof got of it."""
    orders: int
    rosters: list[EraSeen]

    @property
    def is_as_it_should_be(self) -> bool:
        changes = (self.joined, self.left, self.slashed)
        return self.agree and changes == (2, 1, 1) and self.eras >= 3 and self.bond_after == "0"


class EraRun:
    """Node processes that elect their witnesses on a chain."""

    def __init__(self, base: Path, evm: str, as_json: bool) -> None:
        self._base = base
        self._evm = evm
        self._console = Console(stderr=as_json)
        self._directories = [DataDir(base / f"node-{n}") for n in range(NODES)]
        self._keys = [PlainKeys(directory) for directory in self._directories]
        self._seen: dict[int, EraSeen] = {}

    async def run(self) -> EraReport:
        async with AsyncExitStack() as stack:
            self._tell(f"Starting a chain ({self._evm}) ...")
            chains = open_chains(self._evm, [NUMBER], first_port=0, block_time_s=BLOCK_TIME_S)
            (chain,) = await stack.enter_async_context(chains)
            self._tell(f"Making keys for {NODES} nodes, {FOUNDERS} of them witnesses ...")
            genesis = await trio.to_thread.run_sync(self._make_network, chain)
            owners = [one.traders()[0] for one in self._keys]
            bank = await stack.enter_async_context(open_bank(chain, owners))
            self._tell("Deploying the contracts; every node bonds and stands for witness ...")
            bonds = await self._bond(bank, genesis)
            extra = {CHEAT: ["--twins-from", str(CHEATS_FROM)]}
            self._tell("Starting the nodes ...")
            nodes = await stack.enter_async_context(cluster.running(self._base, NODES, extra))
            return await self._watch(nodes, bank, bonds, genesis)

    def _tell(self, text: str) -> None:
        self._console.print(text, highlight=False)

    # --- setting up ---

    def _make_network(self, chain: DevChain) -> Genesis:
        market = attrs.evolve(
            MARKET,
            base=BASE.asset(chain.chain),
            quote=QUOTE.asset(chain.chain),
            settlement="atomic",
            timing="evm-evm",
        )
        whole = cluster.make_network(
            self._base,
            market,
            NODES,
            1,
            TIMES,
            registry=REGISTRY,
            settlement=SETTLEMENT,
            chains=parse_chains(
                {chain.chain: {"endpoints": [chain.websocket], "poll_interval_ms": 500}}
            ),
        )
        founders = {one.witness().address for one in self._keys[:FOUNDERS]}
        genesis = attrs.evolve(
            whole, witnesses=tuple(one for one in whole.witnesses if one.address in founders)
        )
        for directory in self._directories:
            directory.network.unlink()
            datadir.write_network(directory, genesis)
        return genesis

    async def _bond(self, bank: Bank, genesis: Genesis) -> Bonds:
        await bank.deploy(genesis)
        bonds, market = Bonds(bank, NUMBER), genesis.markets[0]
        owners = [one.traders()[0] for one in self._keys]
        addresses = [owner.address for owner in owners]
        await bank.hand_out(addresses, coins=COINS, base=Amount(0), quote=BOND)
        await bonds.bond(addresses, BOND, genesis.start_ms // 1000 + LOCK_S)
        await bonds.bind(
            (owner.address, key)
            for owner, keys in zip(owners, self._keys, strict=True)
            for key in (owner, keys.witness())
        )
        half = Amount(BOND // 2)
        await bonds.allocate(
            (owner, market.id, key, half)
            for number, owner in enumerate(addresses)
            for key in (owner, self._witness(number))
        )
        stands = await trio.to_thread.run_sync(self._candidacies, addresses, market)
        await bonds.stand(stands)
        return bonds

    def _witness(self, number: int) -> Address:
        return self._keys[number].witness().address

    def _candidacies(self, owners: Sequence[Address], market: Market) -> list[Candidacy]:
        """The founders with the chains that genesis names, the others with chains of their own."""
        made = []
        for number, (owner, keys) in enumerate(zip(owners, self._keys, strict=True)):
            since = Era(0 if number < FOUNDERS else 1)
            chain = datadir.reveal_chain(keys.reveal_secret(), market.id, since)
            witness = self._witness(number)
            made.append(Candidacy(owner, market.id, witness, chain.anchor, since))
        return made

    # --- what happens ---

    async def _watch(
        self, nodes: Sequence[NodeProcess], bank: Bank, bonds: Bonds, genesis: Genesis
    ) -> EraReport:
        market = genesis.markets[0].id
        owners = [one.traders()[0].address for one in self._keys]
        before = [await bonds.slashable(owner) for owner in owners]
        held = [(await bank.held(owner))[1] for owner in owners]
        chronicle = Chronicle(nodes)
        remaining = {self._witness(number) for number in REPORTERS}
        with trio.move_on_after(WAIT_S) as deadline:
            await self._until(nodes, chronicle, lambda era: era.era >= 1)
            self._tell("Era 1: two have joined. Node 0 steps back, node 1 signs twice ...")
            step = {"kind": "unstand", "market": "0x" + market.hex(), "id": "back"}
            await nodes[LEAVER].client.call("registry_send", step)  # `orrange registry unstand`
            await self._until(
                nodes, chronicle, lambda era: set(era.witnesses) == set(map(_hex, remaining))
            )
            self._tell("Whoever is left keeps the clock ...")
            for number in REPORTERS:
                await self._order(nodes[number], owners[number])
            await self._until_round(nodes, max(self._seen))
        await self._look(nodes, chronicle)
        if deadline.cancelled_caught:
            self._tell(f"It took longer than {WAIT_S:.0f} s: this is how far it came.")
        after = [await bonds.slashable(owner) for owner in owners]
        epoch, roots = chronicle.compare()
        shares = [(await bank.held(o))[1] - was for o, was in zip(owners, held, strict=True)]
        sets = [set(self._seen[era].witnesses) for era in sorted(self._seen)]
        convicted = {_hex(self._witness(n)) for n in range(NODES) if after[n] < before[n]}
        ever, now = set.union(*sets), sets[-1]
        return EraReport(
            nodes=NODES,
            epochs=epoch,
            agree=len(set(roots)) == 1,
            roots=roots,
            eras=1 + min(s["era"] for s in await _all(nodes)),
            joined=len(ever - sets[0]),
            left=len(ever - now - convicted),
            slashed=len(convicted - now),
            bond_before=str(before[CHEAT]),
            bond_after=str(after[CHEAT]),
            reporter_share=str(max(shares)),
            orders=(await nodes[LEAVER].status())["totals"].get("orders", 0),
            rosters=[self._seen[era] for era in sorted(self._seen)],
        )

    async def _order(self, node: NodeProcess, author: Address) -> None:
        place = {"op": "place", "side": "buy", "price": "1", "quantity": "1"}
        await node.client.call("submit", {"author": _hex(author), "operations": [place]})

    async def _until(
        self, nodes: Sequence[NodeProcess], chronicle: Chronicle, is_there: Any
    ) -> None:
        """Until every node lives in an era of which this holds."""
        while True:
            eras = await self._look(nodes, chronicle)
            if all(map(is_there, eras)):
                return
            await trio.sleep(LOOK_S)

    async def _until_round(self, nodes: Sequence[NodeProcess], era: int) -> None:
        """Until every node has seen some rounds of an era."""
        while True:
            states = await _all(nodes)
            if all((state["era"], state["round"]) >= (era, AFTER_ROUNDS) for state in states):
                return
            await trio.sleep(LOOK_S)

    async def _look(self, nodes: Sequence[NodeProcess], chronicle: Chronicle) -> list[EraSeen]:
        await chronicle.fetch()
        eras = []
        for status in await _all(nodes):
            names = [one["witness"] for one in status["witnesses"]]
            eras.append(EraSeen(status["era"], status["roster_block"], names))
        for era in eras:
            if self._seen.setdefault(era.era, era) != era:
                raise WorldError(f"two nodes have different witnesses in era {era.era}")
        return eras


async def _all(nodes: Sequence[NodeProcess]) -> list[dict[str, Any]]:
    return [await node.status() for node in nodes]


def _hex(address: Address) -> str:
    return "0x" + address.hex()


def to_json(report: EraReport) -> str:
    return json.dumps(attrs.asdict(report), separators=(",", ":"))


def show_eras(report: EraReport) -> None:
    """For people."""
    console = Console()
    table = Table(title="Who kept the clock")
    table.add_column("era", justify="right")
    table.add_column("read at block", justify="right")
    table.add_column("witnesses")
    for seen in report.rosters:
        table.add_row(
            str(seen.era),
            str(seen.roster_block) if seen.roster_block else "genesis",
            " ".join(name[:8] for name in seen.witnesses),
        )
    console.print(table)
    unit = 10**QUOTE.decimals
    console.print(
        f"{report.joined} joined, {report.left} left, {report.slashed} was slashed: its bond of "
        f"{int(report.bond_before) / unit:,.2f} {QUOTE.symbol} is "
        f"{int(report.bond_after) / unit:,.2f}, and {int(report.reporter_share) / unit:,.2f} went "
        "to the node that showed the proof.",
        highlight=False,
    )
    if report.agree:
        console.print(f"{report.epochs} epochs over {report.eras} eras: the same at every node.")
    else:
        console.print(f"The roots of epoch {report.epochs} differ.", style="bold red")
