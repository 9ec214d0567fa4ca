"""``orrange reputation`` at two nodes that read one chain, each for itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import attrs
import trio
from click.testing import CliRunner, Result

sys.path += [str(Path(__file__).parents[1] / name) for name in ("daemon", "chains")]

from evm_chains import CHAIN
from test_indexer import ALICE, BOB, genesis, world

from orrange_p2p.cli import cluster
from orrange_p2p.cli import main as cli
from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.daemon.chain_config import parse_chains
from orrange_p2p.devnet.contracts import REGISTRY, SETTLEMENT

NODES = 2


def typed(home: Path, *words: str) -> Result:
    return CliRunner().invoke(cli.main, ["reputation", *words, "--data-dir", str(home)])


def said(home: Path, *words: str) -> Any:
    done = typed(home, *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


async def test_two_nodes_say_the_same_of_everybody_and_the_chain_bears_them_out(
    tmp_path: Path,
) -> None:
    def network(port: int) -> Genesis:
        chains = parse_chains({CHAIN: {"endpoints": [f"ws://127.0.0.1:{port}"]}})
        parameters = attrs.evolve(cluster.WIDE, bond_unit=10**12)
        return cluster.make_network(
            tmp_path,
            genesis().markets[0],
            NODES,
            1,
            parameters,
            registry=REGISTRY,
            settlement=SETTLEMENT,
            chains=chains,
        )

    async with world(network) as chain, cluster.running(tmp_path, NODES, {}) as nodes:
        homes = [node.directory.path for node in nodes]
        pin = (await chain.chain.finalized()).number
        with trio.fail_after(30):
            for node in nodes:
                await until_read(node, pin)
        await trio.to_thread.run_sync(look, homes, pin)
    wrong(homes[0])


async def until_read(node: cluster.NodeProcess, block: int) -> None:
    while True:
        try:
            if (await node.client.call("reputation"))["block"] >= block:
                return
        except WorldError as error:  # not one block yet
            if "has not been read so far yet" not in str(error):
                raise
        await trio.sleep(0.2)


def look(homes: list[Path], pin: int) -> None:
    tables = [said(home, "verify", "--all", "--block", str(pin)) for home in homes]
    assert tables[0] == tables[1]
    assert tables[0]["equal"] is True and tables[0]["accounts"] == 3
    shown = said(homes[0], "show")
    alice = "0x" + ALICE.address.hex()
    assert shown["scores"][0]["account"] == alice
    (one,) = said(homes[1], "explain", alice)["scores"]
    assert one["total"] == "1200000000" and len(one["terms"]) == 2
    done = typed(homes[1], "verify", alice)
    assert done.exit_code == 0, done.output
    bob = said(homes[0], "explain", "0x" + BOB.address.hex())["scores"][0]
    assert bob["total"] == "0" and bob["terms"] == []
    nobody = said(homes[0], "explain", "0x" + "77" * 20)
    assert nobody["scores"] == []
    assert typed(homes[0], "verify").exit_code == 2
    assert typed(homes[0], "verify", alice, "--all").exit_code == 2
    assert typed(homes[0], "show", "0x12").exit_code == 2
    late = typed(homes[0], "show", "--block", "99999999")
    assert late.exit_code == 1 and "has not been read so far yet" in late.stderr


def wrong(home: Path) -> None:
    """Without its node there is nothing to ask."""
    done = typed(home, "show")
    assert done.exit_code == 3, done.output
