"""Bitcoin regtest chains to test on: the kernel's in this process, and bitcoind if there is one."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from orrange_p2p.chains.bitcoin.config import REGTEST, BitcoinConfig
from orrange_p2p.chains.bitcoin.leg import BitcoinLeg, open_bitcoin_leg
from orrange_p2p.chains.bitcoin.transactions import public_key
from orrange_p2p.core.errors import RefusedError
from orrange_p2p.core.ids import Amount, MatchId
from orrange_p2p.core.swaps.legs import Lock, LockState, LockView
from orrange_p2p.crypto.bip32 import HARDENED, derive
from orrange_p2p.crypto.bitcoin import OutPoint, Tx, TxOut, decode_tx, p2wpkh
from orrange_p2p.devnet.bitcoin import SEED
from orrange_p2p.devnet.faucet import funding
from orrange_p2p.devnet.rpc_server import open_bitcoin
from orrange_p2p.store.bitcoin_sqlite import open_sqlite_bitcoin

ASSET = f"{REGTEST}/slip44:0"
TRADE = MatchId(b"\x07" * 32)
SECRET = b"\x5a" * 32
HASHLOCK = hashlib.sha256(SECRET).digest()
SATS = Amount(200_000)
HOUR = 3_600


class Node:
    """A regtest node by its JSON-RPC, past the code under test."""

    def __init__(self, url: str, auth: tuple[str, str] | None = None) -> None:
        self.url = url
        self._mined = 0
        self._client = httpx.Client(trust_env=False, auth=auth, timeout=30)

    def call(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "1.0", "id": 1, "method": method, "params": params}
        answer = self._client.post(self.url, json=body).json()
        if answer.get("error"):
            raise RefusedError(answer["error"]["message"], answer["error"]["code"])
        return answer["result"]

    async def rpc(self, method: str, *params: Any) -> Any:
        return await trio.to_thread.run_sync(lambda: self.call(method, *params))

    async def mine(self, count: int = 1) -> list[str]:
        # Not generatetoaddress: its address would have to be made first.
        # To a script of its own each time, or a block that was taken back would be made again.
        self._mined += 1
        script = f"raw(02{self._mined:04x}7551)"
        return list(await self.rpc("generatetodescriptor", count, script))

    async def pass_time(self, seconds: int) -> None:
        """On the chain, not here: the median of its stamps."""
        best = await self.rpc("getblockheader", await self.rpc("getbestblockhash"))
        await self.rpc("setmocktime", max(best["time"], best["mediantime"]) + seconds)
        await self.mine(6)

    async def reorganise(self, depth: int) -> None:
        """Take blocks back; what they held waits again."""
        height = await self.rpc("getblockcount")
        await self.rpc("invalidateblock", await self.rpc("getblockhash", height - depth + 1))

    async def fund(self, script: bytes, sats: int) -> None:
        raise NotImplementedError

    async def refuses(self, raw: bytes) -> str:
        """Why it does not take a transaction; empty: it would."""
        (verdict,) = await self.rpc("testmempoolaccept", [raw.hex()])
        return "" if verdict["allowed"] else str(verdict["reject-reason"])


class KernelNode(Node):
    async def fund(self, script: bytes, sats: int) -> None:
        await self.rpc("devnet_fund", script.hex(), sats)


class Bitcoind(Node):
    async def fund(self, script: bytes, sats: int) -> None:
        """A block to ourselves, matured; it pays on what it does not need."""
        secret = b"\x01" * 32
        own = p2wpkh(public_key(secret))
        (name,) = await self.rpc("generatetodescriptor", 1, f"raw({own.hex()})")
        await self.mine(100)
        block = await self.rpc("getblock", name, 2)
        coinbase = decode_tx(bytes.fromhex(block["tx"][0]["hex"]))
        place = OutPoint(coinbase.txid, 0)
        value = coinbase.outputs[0].value
        tx = funding(place, TxOut(value, own), secret, TxOut(sats, script))
        await self.rpc("sendrawtransaction", tx.encoded().hex())
        await self.mine()


@asynccontextmanager
async def kernel() -> AsyncIterator[KernelNode]:
    async with open_bitcoin(mines_at_once=False) as port:
        yield KernelNode(f"http://127.0.0.1:{port}")


@contextmanager
def bitcoind(directory: Path) -> Iterator[Bitcoind]:
    program = shutil.which("bitcoind")
    assert program
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("-regtest", "-listen=0", "-dnsseed=0", "-server", "-rpcuser=a", "-rpcpassword=b")
    process = subprocess.Popen(
        [program, f"-datadir={directory}", f"-rpcport={port}", "-fallbackfee=0.00001", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    node = Bitcoind(f"http://a:b@127.0.0.1:{port}", ("a", "b"))
    try:
        for _ in range(200):
            try:
                node.call("getblockcount")
                break
            except (httpx.HTTPError, RefusedError):
                time.sleep(0.1)
        node.call("generatetodescriptor", 101, "raw(51)")
        yield node
    finally:
        process.terminate()
        process.wait(30)


def config(node: Node, **changes: Any) -> BitcoinConfig:
    return BitcoinConfig(REGTEST, node.url, poll_interval_ms=20, timeout_ms=5_000, **changes)


def keys(who: int) -> Any:
    """Alice is 0, Bob is 1."""
    return lambda path: derive(SEED, (who + HARDENED, *path))


@asynccontextmanager
async def leg_on(node: Node, path: Path, who: int, **changes: Any) -> AsyncIterator[BitcoinLeg]:
    async with (
        open_sqlite_bitcoin(path, REGTEST) as store,
        open_bitcoin_leg(config(node, **changes), store, keys(who)) as leg,
    ):
        yield leg


def wallet_of(leg: BitcoinLeg) -> bytes:
    return leg._wallet.fresh(0)


async def terms(alice: BitcoinLeg, bob: BitcoinLeg, *, hours: int = 12) -> Lock:
    """Alice locks, Bob may claim."""
    now = await alice.now()
    return Lock(
        *(REGTEST, ASSET, SATS, HASHLOCK, TRADE),
        alice.party(TRADE),
        bob.party(TRADE),
        now.time_s + hours * HOUR,
    )


def shows(view: LockView) -> tuple[LockState, int, int]:
    return view.state, view.confirmations, view.end_confirmations


def changed_witness(raw: bytes, place: int, item: bytes) -> Tx:
    """A transaction whose first input shows something else."""
    tx = decode_tx(raw)
    witness = list(tx.inputs[0].witness)
    witness[place] = item
    return tx._replace(inputs=(tx.inputs[0]._replace(witness=tuple(witness)),))
