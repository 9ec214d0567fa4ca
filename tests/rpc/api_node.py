"""A node process with an HTTP API, for as long as tests want it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx

from orrange_p2p.client.plain import call
from orrange_p2p.core.errors import UnreachableError

ORRANGE = [sys.executable, "-m", "orrange_p2p.cli.main"]
START_S = 60.0


@attrs.frozen
class ApiNode:
    """One that runs."""

    home: Path
    url: str
    process: subprocess.Popen[bytes]

    @property
    def token(self) -> str:
        return (self.home / "api.cookie").read_text().strip()

    def http(self, token: str | None = None) -> httpx.Client:
        """A client with the owner's token, or this one; with none if it is empty."""
        chosen = self.token if token is None else token
        headers = {"Authorization": f"Bearer {chosen}"} if chosen else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def call(self, method: str, **params: Any) -> Any:
        return call(self.home / "rpc.sock", method, params)


@contextmanager
def api_node(home: Path, more: str = "") -> Iterator[ApiNode]:
    """A development node in ``home``; ``more``: lines of its table [api]."""
    arguments = ["--listen", "/ip4/127.0.0.1/tcp/0", "--api", "127.0.0.1:0"]
    init = [*ORRANGE, "init", "--dev", "--data-dir", str(home), *arguments]
    subprocess.run(init, check=True, capture_output=True)
    # Shorter rounds, and eras that fit their number: no test here is about how long they take.
    network = home / "network.toml"
    text = network.read_text()
    for usual, brisk in (
        ("\nmin_round_ms = 250\n", "\nmin_round_ms = 100\n"),
        ("\nera_ms = 3600000\n", "\nera_ms = 1000000\n"),
    ):
        assert usual in text
        text = text.replace(usual, brisk)
    network.write_text(text)
    with (home / "node.toml").open("a") as config:
        config.write(more)
    with (home / "log").open("wb") as log:
        run = [*ORRANGE, "run", "--data-dir", str(home)]
        process = subprocess.Popen(run, stdout=log, stderr=log)
    try:
        yield ApiNode(home, _url(home, process), process)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _url(home: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            said = call(home / "rpc.sock", "api")
            if call(home / "rpc.sock", "status")["markets"][0]["epoch"] > 0:
                return str(said["url"])
        except UnreachableError:
            pass
        time.sleep(0.1)
    raise AssertionError((home / "log").read_text()[-2000:])


def until(look: Callable[[], Any], wait_s: float = 15.0) -> Any:
    """What ``look`` finds, once it finds something."""
    end = time.monotonic() + wait_s
    while not (found := look()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.1)
    return found
