"""The node's page in a real browser, at a node that trades and settles for real."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from api_node import api_node

from orrange_p2p.signers.memory import MemorySigner

PAGE = Path(__file__).parent / "page"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
ETHERS = Path(__file__).parents[2] / "contracts" / "evm" / "node_modules" / "ethers"
WALLET_KEY = "0x" + "65" * 32
WALLET = "0x" + MemorySigner(b"\x65" * 32).address.hex()
WALLET_STEPS = [
    "logged in by the wallet",
    "a typo is told",
    "the key is the account's",
    "fits a phone",
    "taken back",
]
STEPS = [
    "a wrong code opens nothing",
    "logged in",
    "a typo is told",
    "an order is in the book",
    "an order is taken back",
    "a trade is bound",
    "a trade is settled",
    "fits a phone",
    "everything has a name",
    "logged out",
]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
    pytest.mark.skipif(
        not (PAGE / "node_modules" / ".installed").exists(),
        reason=f"not installed: npm ci --prefix {PAGE}",
    ),
]


def address_of(said: Path, demo: subprocess.Popen[bytes]) -> str:
    """Of the page, once the demo has settled and stays up."""
    until = time.monotonic() + 150
    while time.monotonic() < until and demo.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+/app/#[0-9a-f]+", said.read_text())
        if found is not None and "Ctrl-C ends" in said.read_text():
            return found[0]
        time.sleep(0.3)
    raise AssertionError(said.read_text()[-2000:])


def test_a_trader_logs_in_places_sees_matches_settles_and_cancels(tmp_path: Path) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    said = tmp_path / "demo.out"
    command = [sys.executable, "-m", "orrange_p2p.cli.main", "demo", "--keep"]
    with said.open("wb") as out:
        demo = subprocess.Popen(
            [*command, "--nodes", "2", "--speed", "120"], stdout=out, stderr=out
        )
    try:
        address = address_of(said, demo)
        done = subprocess.run(
            ["node", str(PAGE / "page.mjs"), str(CHROMIUM), address, str(SHOTS)],
            capture_output=True,
            text=True,
            timeout=240,
        )
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(30)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert [row["step"] for row in rows] == STEPS
    assert rows[-1]["complaints"] == []
    assert all((SHOTS / f"page{kind}.png").stat().st_size > 10_000 for kind in ("", "-dark"))


@pytest.mark.skipif(not ETHERS.exists(), reason="no ethers: run `make setup` where there is Node")
def test_a_browser_wallet_logs_in_and_lets_a_trader_key_act_for_it(tmp_path: Path) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    with api_node(tmp_path / "home", f'wallets = ["{WALLET}"]\n') as node:
        script = [str(PAGE / "wallet.mjs"), str(CHROMIUM), f"{node.url}/app/", str(SHOTS)]
        done = subprocess.run(
            ["node", *script, WALLET_KEY], capture_output=True, text=True, timeout=120
        )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert [row["step"] for row in rows] == WALLET_STEPS
    assert rows[-1]["complaints"] == []
