"""``orrange wallet``: a real node, a real chain, and amounts that add up afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from orrange_p2p.cli import cluster
from orrange_p2p.core.addresses import parse_address, show_address
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import Parameters
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.daemon.chain_config import parse_chains
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.daemon.datadir import DEVELOPMENT_MARKET
from orrange_p2p.daemon.keys import PlainKeys
from orrange_p2p.daemon.settlement_config import SettlingConfig, SwapConfig
from orrange_p2p.devnet.bank import open_bank
from orrange_p2p.devnet.chains import DevChain, open_chains
from orrange_p2p.devnet.contracts import BASE, HASH_TIMELOCK, QUOTE, REGISTRY, SETTLEMENT

ETHER = 10**18
TO = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


class Home:
    """A running node with a funded trader."""

    def __init__(self, path: Path, chain: DevChain) -> None:
        self.path = path
        self.chain = chain

    async def run(self, *arguments: str, code: int = 0) -> Any:
        """What a call prints as JSON; its error if it is to fail."""
        command = [sys.executable, "-m", "orrange_p2p.cli.main", "wallet", *arguments]
        done = await trio.run_process(
            [*command, "--data-dir", str(self.path)],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout) if code == 0 else done.stderr.decode()

    async def held(self, symbol: str) -> int:
        rows = await self.run("balance", "--json")
        return int(next(row for row in rows if row["symbol"] == symbol)["amount"])


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with open_chains("embedded", [31337], first_port=0, block_time_s=0.25) as (chain,):
        await trio.to_thread.run_sync(
            lambda: cluster.make_network(
                tmp_path,
                DEVELOPMENT_MARKET,
                1,
                1,
                Parameters(),
                registry=REGISTRY,
                chains=parse_chains(
                    {chain.chain: {"endpoints": [chain.websocket], "poll_interval_ms": 200}}
                ),
                settlements=(SettlingConfig(chain.chain, SETTLEMENT),),
                swaps=(SwapConfig(chain.chain, HASH_TIMELOCK),),
            )
        )
        directory = DataDir(tmp_path / "node-0")
        owner = PlainKeys(directory).traders()[0].address
        async with open_bank(chain) as bank:
            await bank.deploy(directory.load_genesis())
            await bank.hand_out(
                [owner], coins=Amount(10 * ETHER), base=Amount(500), quote=Amount(7 * ETHER)
            )
        async with cluster.running(tmp_path, 1, {}):
            yield Home(directory.path, chain)


async def test_what_is_approved_wrapped_and_sent_adds_up(home: Home) -> None:
    rows = await home.run("balance", "--json")
    coin, base, quote = rows
    # The node has paid for making its market known to the contract.
    assert coin["asset"] == "eip155:31337/slip44:60"
    assert 0 <= 10 * ETHER - int(coin["amount"]) < ETHER // 100
    assert (base["symbol"], base["amount"], quote["amount"]) == (
        BASE.symbol,
        "500",
        str(7 * ETHER),
    )
    assert {one["contract"]: one["amount"] for one in base["allowances"]} == {
        "Settlement": "0",
        "HashTimelock": "0",
    }
    told = await home.run("approve", QUOTE.symbol, "2.5", "--yes", code=2)
    assert "--contract is missing; of this chain: Settlement, HashTimelock" in told
    done = await home.run("approve", QUOTE.symbol, "2.5", "--contract", "Settlement", "--yes")
    assert done["state"] == "final" and int(done["fee"]) > 0
    await home.run("approve", QUOTE.symbol, "--unlimited", "--contract", "HashTimelock", "--yes")
    rows = await home.run("balance", "--json")
    assert [one["amount"] for one in rows[2]["allowances"]] == [
        str(25 * ETHER // 10),
        str((1 << 256) - 1),
    ]

    # The same name again does nothing a second time.
    for _ in range(2):
        await home.run("send", QUOTE.symbol, "1.25", TO, "--yes", "--id", "rent")
    assert await home.held(QUOTE.symbol) == 7 * ETHER - 125 * ETHER // 100
    assert (await home.run("sent", "rent"))["state"] == "final"

    before = await home.held("ETH")
    await home.run("deposit", QUOTE.symbol, "3", "--yes")
    assert await home.held(QUOTE.symbol) == 10 * ETHER - 125 * ETHER // 100
    await home.run("withdraw", QUOTE.symbol, "2", "--yes")
    after = await home.held("ETH")
    assert 0 < before - after - ETHER < ETHER // 100
    await home.run("send", "eth", "0.5", TO, "--yes")
    assert 0 < after - ETHER // 2 - await home.held("ETH") < ETHER // 100


async def test_what_cannot_be_done_is_told_and_nothing_is_sent(home: Home) -> None:
    before = await home.run("balance", "--json")
    for arguments, told in (
        (("send", "ETH", "1", TO), "nobody is there to confirm this: add --yes"),
        (("send", "ETH", "11", TO, "--yes"), "and with the fee this may take up to 11.0"),
        (("send", "ETH", "1.0000000000000000001", TO, "--yes"), "more than the 18 decimals"),
        (("send", "ETH", "1", TO.replace("C", "c"), "--yes"), "the checksum in its capitals"),
        (("send", "ETH", "1", "0x12", "--yes"), "is not an address"),
        (("send", "DOGE", "1", TO, "--yes"), f"known: ETH, {BASE.symbol}, {QUOTE.symbol}"),
        (("send", QUOTE.symbol, "8", TO, "--yes"), "the token's contract refuses this"),
        (("withdraw", QUOTE.symbol, "8", "--yes"), "the token's contract refuses this"),
        (("approve", QUOTE.symbol, "--yes"), "say AMOUNT or --unlimited"),
        (("send", "ETH", "1", TO, "--yes", "--trader", "2"), "of trader 2"),
        (("sent", "nothing"), "nothing was sent under the id nothing"),
    ):
        assert told in await home.run(*arguments, code=2), arguments
    plan = await home.run("send", "ETH", "1", TO, "--dry-run")
    assert plan["sent"] is False and int(plan["fee_at_most"]) > 0
    after = await home.run("balance", "--json")
    assert after[1:] == before[1:]  # of the coin the node pays for making its market known


def test_an_address_has_a_checksum() -> None:
    """The examples of EIP-55."""
    for text in (
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    ):
        address = parse_address(text)
        assert show_address(address) == text
        assert parse_address(text.lower()) == parse_address("0x" + text[2:].upper()) == address
        with pytest.raises(ConfigError, match="mistyped"):
            parse_address(text[:2] + text[2:].swapcase())
    with pytest.raises(ConfigError, match="is not an address"):
        parse_address("5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
    assert show_address(Address(bytes(20))) == "0x" + "0" * 40
