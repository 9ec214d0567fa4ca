"""``orrange bond``: a node, both chains, and bitcoin that is locked, counted and taken home."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import attrs
import trio
from click.testing import CliRunner, Result

sys.path += [str(Path(__file__).parents[1] / name) for name in ("daemon", "chains")]

import bitcoin_chains
from evm_chains import CHAIN, mine, rpc
from test_indexer import World, genesis, world

from orrange_p2p.chains.bitcoin.config import REGTEST
from orrange_p2p.chains.bitcoin.transactions import script_of
from orrange_p2p.cli import cluster
from orrange_p2p.cli import main as cli
from orrange_p2p.core.bitcoin_bonds import DEPTH, lock_times, show_month
from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.daemon.chain_config import parse_chains
from orrange_p2p.daemon.keys import PlainKeys
from orrange_p2p.devnet.contracts import REGISTRY, SETTLEMENT

DAY_S = 86_400


class Home:
    """A node, and what people type there."""

    def __init__(self, node: cluster.NodeProcess, bitcoin: bitcoin_chains.Node) -> None:
        self.path = node.directory.path
        self.keys = PlainKeys(node.directory)
        self.node = node
        self.bitcoin = bitcoin

    def _typed(self, words: tuple[str, ...], text: str | None) -> Result:
        return CliRunner().invoke(cli.main, [*words, "--data-dir", str(self.path)], input=text)

    async def run(self, *words: str, text: str | None = None, code: int = 0) -> Any:
        """What a call prints as JSON; its error if it is to fail."""
        done = await trio.to_thread.run_sync(self._typed, words, text)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if code in (0, 1) else done.stderr

    async def bind(self, chain: World) -> None:
        """The trader's account binds itself and its bonds' key."""
        (trader,) = self.keys.traders()
        await rpc(chain.port, "anvil_setBalance", "0x" + trader.address.hex(), hex(10**18))
        words = ("registry", "bind", "1", "--bitcoin", "--wait", "0", "--yes", "--id", "bind")
        sent = [await self.run(*words) for _ in range(2)]
        assert sent[0]["tx_hash"] == sent[1]["tx_hash"]
        assert "id of something else" in await self.run(
            "registry", "bind", "1", "--yes", "--id", "bind", code=2
        )
        await mine(chain.port, 3)

    async def until_bound(self) -> dict[str, Any]:
        with trio.fail_after(20):
            while True:
                (key,) = (await self.node.client.call("bonds"))["keys"]
                if key["bound_to"]:
                    return dict(key)
                await trio.sleep(0.2)

    async def score(self) -> dict[str, Any]:
        """The trader's, once it has one."""
        account = "0x" + self.keys.traders()[0].address.hex()
        with trio.fail_after(40):
            while True:
                try:
                    said = await self.node.client.call("reputation", {"account": account})
                    if said["scores"][0]["terms"]:
                        return dict(said["scores"][0])
                except WorldError as error:
                    if "not been read so far" not in str(error):
                        raise
                await trio.sleep(0.3)


async def test_bitcoin_is_locked_counted_proved_and_taken_home(tmp_path: Path) -> None:
    async with bitcoin_chains.kernel() as bitcoin:

        def network(port: int) -> Genesis:
            tables: dict[str, Any] = {
                CHAIN: {"endpoints": [f"ws://127.0.0.1:{port}"], "poll_interval_ms": 100},
                REGTEST: {"endpoint": bitcoin.url, "poll_interval_ms": 50},
            }
            return cluster.make_network(
                tmp_path,
                genesis().markets[0],
                1,
                1,
                attrs.evolve(cluster.WIDE, bond_unit=10**12),
                registry=REGISTRY,
                settlement=SETTLEMENT,
                bitcoin_bonds=REGTEST,
                chains=parse_chains(tables),
            )

        async with world(network) as chain, cluster.running(tmp_path, 1, {}) as (node,):
            home = Home(node, bitcoin)
            head_s = (await bitcoin.rpc("getblockheader", await bitcoin.rpc("getbestblockhash")))[
                "mediantime"
            ]
            until_s = lock_times(head_s)[2]
            month = show_month(until_s)
            create = ("bond", "create", "0.004", "--until", month)

            # What a newcomer does wrong.
            told = await home.run(*create, "--yes", code=2)
            assert (
                "does not show the key of this trader's bonds" in told
                and "registry bind 1 --bitcoin" in told
            )
            await home.bind(chain)
            key = await home.until_bound()
            assert key["bound_to"] == key["account"]
            again = await home.run("registry", "bind", "1", "--bitcoin", "--yes", code=2)
            assert "bound to this account already" in again
            for words, why in (
                (create, "0 sat are free"),
                (("bond", "create", "0.004", "--until", "2020-01"), "begin of a month from"),
                (("bond", "create", "0.004", "--until", "soon"), "'soon' is no month"),
                (("bond", "create", "0.0001", "--until", month), "least 100000"),
                (("bond", "create", "0.004", "--until", month, "--trader", "2"), "must be 1 to 1"),
                (("bond", "spend", "no", "--yes"), "'no' is no output"),
            ):
                code = 1 if "free" in why else 2
                done = await trio.to_thread.run_sync(home._typed, words, None)
                assert (done.exit_code, why in done.stderr) == (code, True), done.output

            (row,) = [row for row in await node.client.call("wallet") if row["chain"] == REGTEST]
            await bitcoin.fund(script_of(row["account"], "bcrt"), 1_000_000)
            plan = await home.run(*create, "--dry-run")
            assert plan["sent"] is False and plan["free"] == 1_000_000
            assert "nobody is there to confirm" in await home.run(*create, code=2)
            sent = [await home.run(*create, "--yes", "--id", "one") for _ in range(2)]
            assert sent[0]["txid"] == sent[1]["txid"] and sent[0]["address"] == plan["address"]
            (bond,) = (await home.run("bond", "list"))["bonds"]
            told = await home.run("bond", "prove", bond["outpoint"], code=2)
            assert "is in no block yet: there is nothing to prove" in told
            await bitcoin.mine(1)
            (bond,) = (await home.run("bond", "list"))["bonds"]
            assert (bond["sats"], bond["locked_until_s"], bond["free"]) == (400_000, until_s, False)
            assert "is locked until" in await home.run(
                "bond", "spend", bond["outpoint"], "--yes", code=2
            )

            proof = await home.run("bond", "prove", bond["outpoint"])
            verify = ("bond", "verify", "-")
            true = await home.run(*verify, text=json.dumps(proof))
            assert (true["valid"], true["deep"], true["bound_to"]) == (True, False, key["account"])
            for field, value in (
                ("record", proof["record"][:-2] + "00"),
                ("record", "0x"),
                ("sats", 400_001),
                ("account", "0x" + "11" * 20),
            ):
                lie = await home.run(*verify, text=json.dumps({**proof, field: value}), code=1)
                assert lie["valid"] is False and lie["why"]
            assert "has no proof" in await home.run(*verify, text="[]", code=2)

            # Two days later it counts: 0.004 bitcoin at a micro-unit a satoshi.
            for _ in range(2):
                await bitcoin.pass_time(DAY_S)
                await bitcoin.mine(DEPTH)
            await rpc(chain.port, "evm_increaseTime", 2 * DAY_S)
            await mine(chain.port, 5)
            score = await home.score()
            (term,) = score["terms"]
            assert term["kind"] == "bitcoin_bond" and term["chain"] == REGTEST
            assert 0 < int(term["value"]) == int(score["total"]) < 200_000
            assert (await home.run("reputation", "verify", "--all"))["equal"] is True

            await bitcoin.pass_time(until_s - head_s)
            await home.run("bond", "spend", bond["outpoint"], "--yes")
            await bitcoin.mine(1)
            (bond,) = (await home.run("bond", "list"))["bonds"]
            assert bond["free"] and bond["spent_depth"] == 1
            assert (await home.run(*verify, text=json.dumps(proof), code=1))["valid"] is False
