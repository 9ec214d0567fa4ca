"""The demo and the node as a user meets them: real processes over loopback libp2p."""

from __future__ import annotations

import json
import lzma
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orrange_p2p.client import plain
from orrange_p2p.core.errors import OrrangeError
from orrange_p2p.devnet.anvil import anvil_program
from orrange_p2p.feeds.bitstamp import SAMPLE

needs_anvil = pytest.mark.skipif(
    anvil_program() is None, reason="no anvil: `make setup` installs it where there is npm"
)
ORRANGE = [sys.executable, "-m", "orrange_p2p.cli.main"]


def orrange(*arguments: object, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    command = [*ORRANGE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture
def short_feed(tmp_path: Path) -> Path:
    """The first minutes of the sample, with two lines broken on the way."""
    with lzma.open(SAMPLE, "rt", encoding="utf-8") as sample:
        lines = [line for _, line in zip(range(900), sample, strict=False)]
    lines[100] = lines[100][:30] + "\n"
    lines.insert(200, "not a line of a feed\n")
    feed = tmp_path / "short.log"
    feed.write_text("".join(lines), encoding="utf-8")
    return feed


def test_coins_of_bitcoin_are_swapped_for_tokens() -> None:
    done = orrange("demo", "--market", "btc", "--json", "--nodes", 2, timeout_s=240)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["trades"] == report["swapped"] == 6
    assert (report["failed"], report["agree"], report["balances_conserved"]) == (0, True, True)
    for swap in report["swaps"]:
        coins, tokens = swap["legs"]
        assert coins["chain"].startswith("bip122:") and tokens["chain"] == "eip155:31337"
        assert coins["amount"] == "1000000"
        for leg in (coins, tokens):
            assert leg["lock"] and leg["end"] and 0 < leg["block"] < leg["end_block"]
        # Whoever gave the slow chain's coins showed the secret first.
        assert len(swap["preimage"]) == 2 + 64


def test_four_processes_end_with_one_book(short_feed: Path) -> None:
    done = orrange("demo", "--json", "--speed", 60, "--feed", short_feed)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["nodes"] == 4
    assert report["agree"] is True
    assert len(report["roots"]) == 4
    assert len(set(report["roots"])) == 1
    assert report["epochs"] == report["root_epoch"] > 0
    assert report["orders"] > 50
    assert report["trades"] > 0
    assert report["trades"] + report["lapses"] <= report["matches"]
    assert report["broken_lines"] == 2
    # What the two parties signed is what the chain moved.
    assert report["chain"] == "eip155:31337"
    assert (report["settled"], report["failed"]) == (report["trades"], 0)
    assert 0 < report["transactions"] <= report["settled"]
    assert report["defaults"] == []
    assert report["balances_conserved"] is True
    holdings = report["holdings"]
    assert len({holding["trader"] for holding in holdings}) == 8
    for token in ("base", "quote"):
        before = [int(holding[f"{token}_before"]) for holding in holdings]
        after = [int(holding[f"{token}_after"]) for holding in holdings]
        assert sum(before) == sum(after)
        assert before != after
    assert 0 < report["commit_latency_ms"]["p50"] <= report["commit_latency_ms"]["p99"]


@needs_anvil
def test_who_withdrew_its_allowance_is_shown_by_the_chain(short_feed: Path) -> None:
    options = ("--nodes", 2, "--evm", "anvil", "--scenario", "default")
    done = orrange("demo", "--json", *options, "--speed", 120, "--feed", short_feed)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert 0 < report["failed"] == len(report["defaults"]) == report["trades"] - report["settled"]
    defaulter = report["holdings"][0]
    assert {default["blamed"] for default in report["defaults"]} == {defaulter["trader"]}
    assert all(default["block"] > 0 for default in report["defaults"])
    assert all(len(default["tx_hash"]) == 66 for default in report["defaults"])
    assert defaulter["base_before"] == defaulter["base_after"]
    assert defaulter["quote_before"] == defaulter["quote_after"]
    assert report["settled"] > 0
    assert report["balances_conserved"] is True


def test_a_sabotaged_node_is_found_out(short_feed: Path) -> None:
    options = ("--sabotage", "--evm", "none", "--speed", 60)
    done = orrange("demo", "--json", *options, "--feed", short_feed)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["agree"] is False
    assert len(set(report["roots"])) == 2
    assert (report["chain"], report["balances_conserved"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--feed", "/nowhere"], "feed /nowhere cannot be read"),
        (["--nodes", "0"], "0 is not in the range"),
        (["--speed", "0"], "0.0 is not in the range"),
        (["--scenario", "default", "--evm", "none"], "without a chain nobody can default"),
    ],
)
def test_what_the_demo_refuses(arguments: list[str], said: str) -> None:
    done = orrange("demo", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# --- orrange run ---


@contextmanager
def running(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A node that answers on its socket."""
    with (directory / "log").open("ab") as log:
        node = subprocess.Popen([*ORRANGE, "run", "--data-dir", directory], stdout=log, stderr=log)
    try:
        wait_for(lambda: status(directory) is not None, node)
        yield node
    finally:
        node.kill()
        node.wait()


def status(directory: Path) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = plain.call(directory / "rpc.sock", "status")
    except OrrangeError:
        return None
    return answer["markets"][0] | answer


def wait_for(condition: Any, node: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert node.poll() is None, "the node ended"
        assert time.monotonic() < deadline, "the node did not get there"
        time.sleep(0.05)


def submit(directory: Path, *operations: dict[str, Any]) -> list[dict[str, Any]]:
    named: list[dict[str, Any]] = plain.call(
        directory / "rpc.sock", "submit", {"operations": list(operations)}
    )
    return named


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "node"
    assert orrange("init", "--dev", "--data-dir", made, "--api", "none").returncode == 0
    config = made / "node.toml"
    config.write_text(config.read_text().replace("tcp/9771", "tcp/0"))
    return made


def test_what_was_acknowledged_survives_kill_9(directory: Path) -> None:
    with running(directory) as node:
        place = {"op": "place", "side": "buy", "price": "100", "quantity": "7"}
        assert submit(directory, place)[0]["seq"] == 0
        os.kill(node.pid, signal.SIGKILL)
        node.wait()
    with running(directory) as node:
        # The entry was durable and never cut: the node takes it up again by itself.
        wait_for(lambda: (status(directory) or {}).get("open_orders") == 1, node)
        assert submit(directory, place)[0]["seq"] == 1
        second = orrange("run", "--data-dir", directory)
        assert second.returncode == 1
        assert "in use by another process" in second.stderr
        before = time.monotonic()
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=10) == 0
        assert time.monotonic() - before < 5
    gone = orrange("status", "--data-dir", directory)
    assert gone.returncode == 3
    assert "no node is running" in gone.stderr


# --- orrange proof ---


def test_an_order_is_shown_by_the_witnesses_word(directory: Path) -> None:
    place = {"op": "place", "side": "buy", "price": "100", "quantity": "7"}
    with running(directory) as node:
        (name,) = submit(directory, place)
        live = f"{name['author']}/{name['seq']}/{name['position']}"

        def shown() -> dict[str, Any]:
            done = orrange("proof", live, "--data-dir", directory)
            return json.loads(done.stdout) if done.returncode == 0 else {}

        wait_for(lambda: shown().get("live"), node)
        found = shown()
        assert (found["side"], found["price"], found["quantity"]) == ("buy", "100", "7")
        assert (found["open"], found["reserved"], found["filled"]) == ("7", "0", "0")
        assert found["witnesses"] == "1 of 1"
        never = orrange("proof", live[:-1] + "9", "--data-dir", directory)
        assert json.loads(never.stdout)["live"] is False
        # Whoever has another network's file is not convinced.
        network = directory / "network.toml"
        text = network.read_text()
        network.write_text(text.replace('name = "development"', 'name = "another"'))
        refused = orrange("proof", live, "--data-dir", directory)
        network.write_text(text)
        assert refused.returncode == 1
        assert refused.stderr.startswith("orrange: ")
        assert "Traceback" not in refused.stderr
        typo = orrange("proof", "0x12/0/0", "--data-dir", directory)
        assert typo.returncode == 2
        assert "0x<author>/<entry>/<position>" in typo.stderr
    gone = orrange("proof", live, "--data-dir", directory)
    assert gone.returncode == 3


def test_a_port_in_use(directory: Path, tmp_path: Path) -> None:
    with running(directory) as node:
        address = (status(directory) or {})["addresses"][0].partition("/p2p/")[0]
        other = tmp_path / "other"
        orrange("init", "--dev", "--data-dir", other, "--listen", address)
        refused = orrange("run", "--data-dir", other)
        assert refused.returncode == 1
        assert "is taken by another process" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert node.poll() is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"op": "place", "side": "buy", "price": "0", "quantity": "1"}, "price and quantity"),
        ({"op": "place", "side": "up", "price": "1", "quantity": "1"}, "one of: buy, sell"),
        ({"op": "place", "side": "buy", "price": "1.5", "quantity": "1"}, "a whole number"),
        ({"op": "place", "side": "buy", "quantity": "1"}, "'price' must be a whole number"),
        ({"op": "place", "side": "buy", "price": "1", "quantity": "1", "tif": 1}, "key 'tif'"),
        ({"op": "sell everything"}, "one of: place, cancel"),
        ({"op": "cancel", "seq": -1, "position": 0}, "'seq' must be a whole number"),
        (7, "must be an object"),
    ],
)
def test_bad_operations_are_named_and_cost_nothing(one_node: Path, row: Any, said: str) -> None:
    with pytest.raises(OrrangeError, match=said):
        submit(one_node, row)
    assert (status(one_node) or {})["own_uncut"] == 0


@pytest.fixture(scope="module")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("shared") / "node"
    orrange(
        "init", "--dev", "--data-dir", made, "--listen", "/ip4/127.0.0.1/tcp/0", "--api", "none"
    )
    with running(made):
        yield made
