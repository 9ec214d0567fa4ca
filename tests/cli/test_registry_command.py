"""``orrange registry``: from a bond to a seat and out again, at a real node and registry."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from click.testing import CliRunner, Result

sys.path += [str(Path(__file__).parents[1] / name) for name in ("daemon", "chains")]

from evm_chains import CHAIN, NUMBER, anvil, mine, rpc
from test_node import Party, genesis_of

from orrange_p2p.chains.evm import artifacts
from orrange_p2p.cli import cluster
from orrange_p2p.cli import main as cli
from orrange_p2p.cli.cluster import NodeProcess
from orrange_p2p.client.rosters import read_trusted
from orrange_p2p.core.addresses import show_address
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Parameters
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.daemon import registry_api
from orrange_p2p.daemon.api_config import ApiConfig
from orrange_p2p.daemon.chain_config import parse_chains
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.daemon.datadir import DEVELOPMENT_MARKET
from orrange_p2p.daemon.keys import PlainKeys
from orrange_p2p.daemon.node import Node
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.daemon.tokens import Tokens
from orrange_p2p.devnet.bank import open_bank
from orrange_p2p.devnet.chains import DevChain
from orrange_p2p.devnet.contracts import QUOTE, REGISTRY, SETTLEMENT, deployer
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.ports.chain import Intent

UNIT = 10**QUOTE.decimals
DAY_S = 86_400
MARKET = "0x" + DEVELOPMENT_MARKET.id.hex()
NOW = ("--yes", "--wait", "0")
"""Nobody waits until it is final."""


class Home:
    """A running node whose first trader has coins and 100 tokens, the second nothing."""

    def __init__(self, node: NodeProcess, port: int, bank: Any) -> None:
        self.node = node
        self.port = port
        self.bank = bank
        self.keys = PlainKeys(node.directory)

    def typed(self, *words: str) -> Result:
        where = ["--data-dir", str(self.node.directory.path)]
        return CliRunner().invoke(cli.main, ["registry", *words, *where])

    async def said(self, *words: str) -> Any:
        done = await trio.to_thread.run_sync(lambda: self.typed(*words, "--json"))
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    async def refused(self, *words: str) -> str:
        done = await trio.to_thread.run_sync(lambda: self.typed(*words))
        assert done.exit_code == 2, (words, done.output)
        return done.stderr

    async def mined(self, *words: str) -> Any:
        """A step that is in a block."""
        name = (await self.said(*words, *NOW))["id"]
        while True:
            status = await self.node.client.call("wallet_sent", {"id": name})
            if status["block"] is not None:
                assert status["state"] in ("mined", "final"), status
                return status
            await trio.sleep(0.05)

    async def pass_days(self, days: int) -> None:
        await rpc(self.port, "evm_increaseTime", days * DAY_S)
        await mine(self.port)

    async def govern(self, signature: str, argument: bytes) -> None:
        data = artifacts.load("Registry").selectors[signature] + argument.rjust(32, b"\0")
        await self.bank.send([Intent("", deployer.address, REGISTRY, data)])


@asynccontextmanager
async def home(tmp_path: Path, *options: str, **parameters: int) -> AsyncIterator[Home]:
    async with anvil(NUMBER, *options) as port:
        chain = DevChain(CHAIN, port)
        endpoints = {"endpoints": [chain.websocket], "poll_interval_ms": 100}
        genesis = await trio.to_thread.run_sync(
            lambda: cluster.make_network(
                tmp_path,
                DEVELOPMENT_MARKET,
                1,
                2,
                Parameters(bond_unit=10**12, **parameters),
                registry=REGISTRY,
                settlement=SETTLEMENT,
                chains=parse_chains({CHAIN: endpoints}),
                api=ApiConfig(port=0, public=True),
            )
        )
        owner = PlainKeys(DataDir(tmp_path / "node-0")).traders()[0].address
        async with open_bank(chain) as bank:
            await bank.deploy(genesis)
            quote = Amount(100 * UNIT)
            await bank.hand_out([owner], coins=Amount(10**18), base=Amount(0), quote=quote)
            async with cluster.running(tmp_path, 1, {}) as (node,):
                yield Home(node, port, bank)


async def test_from_a_bond_to_a_seat(tmp_path: Path) -> None:
    # A block is final three seconds after it was mined, read a second later; then there are two
    # seconds in which the next roster is vouched for.
    times = {"era_ms": 6_500, "pin_ms": 6_400, "handover_ms": 2_000, "rounds_per_era": 1024}
    elections = {"elected_witnesses": 1, "min_round_ms": 50, "applied_interval_epochs": 2}
    async with home(tmp_path, "--block-time", "1", **times, **elections) as at:
        # The witness of genesis weighs 1; elected, what the worthiest candidate weighs.
        assert [one["weight"] for one in (await at.node.status())["witnesses"]] == [1]
        await at.said("bind", "witness", *NOW)
        await at.mined("bond", "80", "--days", "300")
        await at.said("allocate", MARKET, "witness", "all", *NOW)
        await at.mined("stand", MARKET)
        with trio.fail_after(60):
            while True:
                status = await at.node.status()
                if status["witnesses"][0]["weight"] > 1 and status["round"] > 8:
                    break
                await trio.sleep(0.1)
        witness = "0x" + at.keys.witness().address.hex()
        assert status["witnesses"] == [{"witness": witness, "weight": 1 << 20}]
        (stands,) = (await at.said("status"))["candidacies"]
        assert (stands["weight"], stands["next_weight"]) == (1 << 20, 1 << 20)
        # Its reveals are those of the chain that it stood with: the clock goes on.
        assert 1 <= stands["since"] <= status["era"]
        assert stands["last_era"] == stands["since"] + 1023
        assert status["seat"] == {"weight": 1 << 20, "last_era": stands["last_era"]}
        await follow(at, tmp_path / "followed.json", status["era"])


async def follow(at: Home, kept: Path, era: int) -> None:
    """Who knows genesis alone is led to the witness that was elected, by the one before it."""
    url = (await at.node.client.call("api"))["url"]
    network = str(at.node.directory.network)
    words = ["light", "book", "--network", network, "--node", url, "--followed", str(kept)]
    genesis = at.node.directory.load_genesis()
    with trio.fail_after(60):
        while True:
            done = await trio.to_thread.run_sync(CliRunner().invoke, cli.main, [*words, "--json"])
            assert done.exit_code == 0, done.output
            assert [one["verdict"] for one in json.loads(done.stdout)["nodes"]] == ["sound"]
            trusted = read_trusted(kept, genesis)[genesis.markets[0].id]
            if trusted.era >= era:
                break
            await trio.sleep(0.2)
    again = await trio.to_thread.run_sync(CliRunner().invoke, cli.main, words)
    assert again.exit_code == 0
    begun = [*words[:-2], "--roster", f"{trusted.era}:0x{trusted.digest.hex()}", "--json"]
    done = await trio.to_thread.run_sync(CliRunner().invoke, cli.main, begun)
    assert done.exit_code == 0, done.output
    begun[-2] = f"{trusted.era}:0x{bytes(32).hex()}"
    done = await trio.to_thread.run_sync(CliRunner().invoke, cli.main, begun)
    assert done.exit_code == 3 and "that was committed to" in done.stderr
    order = "0x" + at.keys.traders()[0].address.hex() + "/0/0"
    proof = ["proof", order, "--data-dir", str(at.node.directory.path), "--json"]
    done = await trio.to_thread.run_sync(CliRunner().invoke, cli.main, proof)
    assert done.exit_code == 0 and json.loads(done.stdout)["live"] is False


async def test_in_and_out_and_what_is_told_on_the_way(tmp_path: Path) -> None:
    async with home(tmp_path, "--mixed-mining", "--block-time", "1") as at:
        owner, witness = (
            show_address(one.address) for one in (at.keys.traders()[0], at.keys.witness())
        )
        for words, why in (
            (("bond", "5", "--days", "30"), "nobody is there to confirm this: add --yes"),
            (("bond", "101", "--days", "30", "--yes"), "holds 100 tUSD on eip155:31337, and this"),
            (("bond", "0", "--days", "30", "--yes"), "nothing is nothing to bond"),
            (("bond", "5", "--days", "367", "--yes"), "is not in the range 1<=x<=366"),
            (("bond", "5", "--days", "30", "--yes", "--trader", "2"), "holds 0 tUSD"),
            (("bind", "1", "--yes", "--trader", "2"), "holds 0 coins on eip155:31337"),
            (("unbond", "1", "--yes"), "0 tUSD is bonded, which is less"),
            (("withdraw", "--yes"), "there is nothing to withdraw"),
            (("allocate", MARKET, "witness", "5", "--yes"), "`orrange registry bind` comes first"),
            (("stand", MARKET, "--yes"), "`orrange registry bind` comes first"),
            (("bind", "0x" + "77" * 20, "--yes"), "is no key of this node"),
            (("stand", "GOLD/USD", "--yes"), "there is no market 'GOLD/USD'"),
        ):
            assert why in await at.refused(*words), words

        plan = await at.said("bond", "80", "--days", "30", "--dry-run")
        assert plan["steps"] == ["approve", "bond"] and plan["sent"] is False
        assert (await at.said("status"))["bond"]["amount"] == "0"
        for _ in range(2):  # by the same id once
            done = await at.said("bond", "80", "--days", "30", "--yes", "--id", "first")
            assert done["state"] == "final"
        other = await at.refused("bond", "79", "--days", "30", "--yes", "--id", "first")
        assert "'first' is the id of something else already" in other
        said = await at.said("status")
        assert (said["bond"]["amount"], said["held"]) == (str(80 * UNIT), str(20 * UNIT))
        assert 29 * DAY_S < said["bond"]["locked_until_s"] - said["time_s"] <= 30 * DAY_S
        await at.mined("bind", "witness")
        await at.mined("bind", "1")
        assert "is bound to this account already" in await at.refused("bind", witness, "--yes")
        await at.mined("allocate", MARKET, "witness", "60")
        await at.mined("allocate", MARKET, "1", "60")
        await at.mined("stand", MARKET)
        for words, why in (
            (("unbond", "all", "--yes"), "the bond is locked until "),
            (("bond", "1", "--days", "9", "--yes"), "and no lock gets shorter: lock it for 30 day"),
        ):
            assert why in await at.refused(*words), words
        said = await until_read(at, "candidacies")
        assert [(one["key"], one["name"]) for one in said["keys"]] == [
            (witness, "witness"),
            (owner, "trader 1"),
        ]
        assert [(int(one["amount"]), int(one["counted"])) for one in said["allocations"]] == [
            (60 * UNIT, 60 * UNIT),
            (60 * UNIT, 20 * UNIT),
        ]
        assert said["candidacies"][0]["key"] == witness
        assert int(said["reputation"]) > 0
        assert (await at.said("status", witness))["owner"] == owner
        shown = await trio.to_thread.run_sync(at.typed, "status")
        assert shown.exit_code == 0

        await at.govern("pauseBonds(bool)", b"\1")
        told = await at.refused("bond", "1", "--days", "60", "--yes")
        assert "takes no new bonds now: its governor paused them" in told

        await at.mined("unstand", MARKET)
        await at.pass_days(31)
        await at.mined("unbond", "all")
        assert "can be withdrawn from" in await at.refused("withdraw", "--yes")
        await at.pass_days(15)
        await at.mined("withdraw")
        said = await at.said("status")
        assert (said["bond"]["amount"], said["held"]) == ("0", str(100 * UNIT))


async def test_where_there_is_nothing_to_bond_in() -> None:
    party = Party(1)
    for registry, why in (
        (Address(bytes(20)), "network 'test' has no registry: nobody bonds in it"),
        (REGISTRY, r'name its endpoints in node.toml under [chain."eip155:31337"]'),
    ):
        genesis = attrs.evolve(genesis_of([party]), registry=registry)
        async with MemoryNetwork().open_transport("alone") as transport:
            node = Node(genesis, party.store, transport, SystemClock())
            nobody = (None, None, None)
            methods = registry_api.methods(node, None, None, Tokens({}), [party.trader], *nobody)
            for name, params in (
                ("registry", {}),
                ("registry_plan", {"kind": "withdraw", "id": "one"}),
                ("registry_send", {"kind": "withdraw", "id": "one"}),
            ):
                with pytest.raises(ConfigError, match=re.escape(why)):
                    await methods[name](params)


async def until_read(at: Home, what: str) -> Any:
    """Until final blocks show it."""
    with trio.fail_after(30):
        while True:
            said = await at.said("status")
            if said[what]:
                return said
            await trio.sleep(0.1)
