"""``orrange bench gas``: what our contracts cost, beside what Boltz ships, on one chain in one run.

Each operation is a transaction of its own on a fresh anvil, sent by the party whose money moves;
Boltz's contracts and the token come from the bytecode in its npm package, which ``make setup``
installs for the tests. Gas is what the receipt says, refunds deducted.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

import attrs
from coincurve import PrivateKey

from orrange_p2p.chains.evm import artifacts
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.core import codec
from orrange_p2p.core.errors import ConfigError, DeadlineError
from orrange_p2p.core.genesis import DOMAIN_NAME, PROTOCOL_VERSION, Market
from orrange_p2p.core.ids import MAX_UINT63, Address, Amount, Epoch, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.crypto.eip712 import domain_separator, signing_digest
from orrange_p2p.crypto.hashes import keccak256
from orrange_p2p.crypto.secp256k1 import address_of, sign

NODE_MODULES: Final = Path(__file__).parents[2] / "contracts" / "evm" / "node_modules"
BOLTZ: Final = NODE_MODULES / "boltz-core" / "out"
AMOUNT: Final = 10**16
BATCHES: Final = (1, 10, 100)
SETTLED: Final = (
    "0x" + keccak256(b"Settled(bytes32,bytes32,address,address,uint256,uint256,uint256)").hex()
)
START_SECONDS: Final = 10
CALL_SECONDS: Final = 30


class Anvil:
    """A local chain that signs for its own accounts."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, *params: object) -> Any:
        """One JSON-RPC call; raises ``ConfigError`` with what the chain said against it."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        request = Request(self._url, body.encode(), {"Content-Type": "application/json"})  # noqa: S310
        with urlopen(request, timeout=CALL_SECONDS) as answer:  # noqa: S310
            reply = json.load(answer)
        if "error" in reply:
            raise ConfigError(f"{method}: {reply['error'].get('message')}")
        return reply["result"]

    def send(self, sender: str, to: str | None, data: bytes, value: int = 0) -> dict[str, Any]:
        """The receipt of a transaction that must succeed."""
        transaction = {"from": sender, "data": "0x" + data.hex(), "value": hex(value)}
        if to is not None:
            transaction["to"] = to
        name = self.call("eth_sendTransaction", transaction)
        limit = monotonic() + CALL_SECONDS
        receipt: dict[str, Any] | None = None
        while receipt is None:
            receipt = self.call("eth_getTransactionReceipt", name)
            if monotonic() > limit:
                raise DeadlineError("anvil does not mine")
        if int(receipt["status"], 16) != 1:
            raise ConfigError(f"the transaction to {to} failed")
        return receipt

    def deploy(self, sender: str, code: bytes) -> str:
        """The address of a new contract."""
        address: str = self.send(sender, None, code)["contractAddress"]
        return address

    def now(self) -> int:
        """The time of the last block."""
        return int(self.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)


@contextmanager
def anvil() -> Iterator[Anvil]:
    """A fresh chain on the loopback; raises ``ConfigError`` where none is installed."""
    binary = next(NODE_MODULES.glob("@foundry-rs/anvil-*/bin/anvil"), None)
    if binary is None:
        raise ConfigError("anvil is not installed: run `make setup` in the project's sources")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--hardfork", "prague", "--silent"]
    process = subprocess.Popen([str(binary), *options])  # noqa: S603
    try:
        chain = Anvil(f"http://127.0.0.1:{port}")
        limit = monotonic() + START_SECONDS
        while True:
            try:
                chain.call("eth_chainId")
                break
            except URLError:
                if monotonic() > limit:
                    raise DeadlineError("anvil did not start") from None
                sleep(0.02)
        yield chain
    finally:
        process.terminate()
        process.wait()


def main(as_json: bool) -> int:
    """Measure, print, and fail if an operation of a lock costs more than Boltz's."""
    with anvil() as chain:
        locks = measure_locks(chain)
        per_trade = measure_settlement(chain)
    worst = max(row["ratio"] for row in locks.values())
    if as_json:
        print(json.dumps({"locks": locks, "worst_ratio": worst, "gas_per_trade": per_trade}))
    else:
        print(f"{'':14}{'ours':>9}{'Boltz':>9}{'ratio':>8}")
        for name, row in locks.items():
            print(f"{name:14}{row['ours']:>9,}{row['boltz']:>9,}{row['ratio']:>8.3f}")
        for size, gas in per_trade.items():
            print(f"{f'a trade of {size}':14}{gas:>9,}")
    if worst > 1:
        print("an operation costs more than Boltz's", file=sys.stderr)
    return int(worst > 1)


def measure_locks(chain: Anvil) -> dict[str, dict[str, Any]]:
    """Gas of lock, claim and refund, of coin and token, here and there."""
    accounts: list[str] = chain.call("eth_accounts")
    deployer, sender, recipient = accounts[:3]
    ours = chain.deploy(deployer, artifacts.load("HashTimelock").bytecode)
    ether_swap = chain.deploy(deployer, _boltz("EtherSwap"))
    erc20_swap = chain.deploy(deployer, _boltz("ERC20Swap"))
    token = chain.deploy(
        sender, _boltz("TestERC20") + encode(bytearray(b"Token"), bytearray(b"T"), 18, 10**24)
    )
    approve = "approve(address,uint256)"
    for spender in (ours, erc20_swap):
        chain.send(sender, token, _call_boltz("TestERC20", approve, _octets(spender), 2**256 - 1))
    # Both parties hold some of the token before and after: no first or last touch of a balance,
    # also not of the contracts'.
    transfer = "transfer(address,uint256)"
    for holder in (recipient, ours, erc20_swap):
        chain.send(sender, token, _call_boltz("TestERC20", transfer, _octets(holder), AMOUNT))
    own = artifacts.load("HashTimelock").selectors
    a, b, t = _octets(sender), _octets(recipient), _octets(token)
    trade = sha256(b"trade").digest()
    gas: dict[str, dict[str, Any]] = {}

    def row(name: str, ours: int, boltz: int) -> None:
        gas[name] = {"ours": ours, "boltz": boltz, "ratio": round(ours / boltz, 4)}

    def used(who: str, to: str, data: bytes, value: int = 0) -> int:
        return int(chain.send(who, to, data, value)["gasUsed"], 16)

    def own_call(signature: str, *values: Any) -> bytes:
        return own[signature] + encode(*values)

    for number, end in enumerate(("claim", "refund")):
        preimage = sha256(b"%d" % number).digest()
        hashlock = sha256(preimage).digest()
        # Theirs counts blocks, ours seconds: either is over before the refund below.
        block = int(chain.call("eth_blockNumber"), 16) + 1000
        time = chain.now() + 1000
        come_from = a + time.to_bytes(12, "big")
        what = t + time.to_bytes(12, "big")
        to = b + AMOUNT.to_bytes(12, "big")

        def coin(boltz: str, *values: Any) -> bytes:
            return _call_boltz("EtherSwap", boltz, *values)

        def tokens(boltz: str, *values: Any) -> bytes:
            return _call_boltz("ERC20Swap", boltz, *values)

        row(
            "lock coin",
            used(
                sender,
                ours,
                own_call("lock(bytes32,bytes32,address,uint256)", hashlock, trade, b, time),
                AMOUNT,
            ),
            used(
                sender,
                ether_swap,
                coin("lock(bytes32,address,uint256)", hashlock, b, block),
                AMOUNT,
            ),
        )
        row(
            "lock token",
            used(
                sender,
                ours,
                own_call("lockToken(bytes32,bytes32,bytes32,bytes32)", what, hashlock, trade, to),
            ),
            used(
                sender,
                erc20_swap,
                tokens(
                    "lock(bytes32,uint256,address,address,uint256)", hashlock, AMOUNT, t, b, block
                ),
            ),
        )
        if end == "claim":
            row(
                "claim coin",
                used(recipient, ours, own_call("claim(bytes32,bytes32)", preimage, come_from)),
                used(
                    recipient,
                    ether_swap,
                    coin("claim(bytes32,uint256,address,uint256)", preimage, AMOUNT, a, block),
                ),
            )
            row(
                "claim token",
                used(
                    recipient,
                    ours,
                    own_call("claimToken(address,bytes32,bytes32)", t, preimage, come_from),
                ),
                used(
                    recipient,
                    erc20_swap,
                    tokens(
                        "claim(bytes32,uint256,address,address,uint256)",
                        preimage,
                        AMOUNT,
                        t,
                        a,
                        block,
                    ),
                ),
            )
        else:
            chain.call("anvil_mine", hex(1001), "0x1")
            row(
                "refund coin",
                used(sender, ours, own_call("refund(bytes32,bytes32)", hashlock, come_from)),
                used(
                    sender,
                    ether_swap,
                    coin("refund(bytes32,uint256,address,uint256)", hashlock, AMOUNT, b, block),
                ),
            )
            row(
                "refund token",
                used(
                    sender,
                    ours,
                    own_call("refundToken(address,bytes32,bytes32)", t, hashlock, come_from),
                ),
                used(
                    sender,
                    erc20_swap,
                    tokens(
                        "refund(bytes32,uint256,address,address,uint256)",
                        hashlock,
                        AMOUNT,
                        t,
                        b,
                        block,
                    ),
                ),
            )
    return gas


def measure_settlement(chain: Anvil) -> dict[str, int]:
    """Gas per trade of batches, each trade with two signatures of its own.

    Both parties have traded before: no trade here pays for the first touch of a balance.
    """
    deployer: str = chain.call("eth_accounts")[0]
    chain_id = int(chain.call("eth_chainId"), 16)
    names = {}
    for name in (b"BASE", b"QUOTE"):
        arguments = encode(bytearray(name), bytearray(name), 18, 10**30)
        names[name] = chain.deploy(deployer, _boltz("TestERC20") + arguments)
    registry, network = Address(bytes(range(20))), sha256(b"network").digest()
    artifact = artifacts.load("Settlement")
    settlement = chain.deploy(
        deployer, artifact.bytecode + encode(chain_id, registry, network, 0, 0, bytes(20))
    )
    market = Market(
        f"eip155:{chain_id}/erc20:{names[b'BASE']}",
        f"eip155:{chain_id}/erc20:{names[b'QUOTE']}",
        1, 10**15, "atomic", "evm", 1, 1, 1,
    )  # fmt: skip
    record = codec.encode(attrs.astuple(market))
    chain.send(deployer, settlement, artifact.selectors["list(bytes)"] + encode(bytearray(record)))
    buyer, seller = (PrivateKey(sha256(name).digest()) for name in (b"buyer", b"seller"))
    for key, paid in ((buyer, b"QUOTE"), (seller, b"BASE")):
        owner = "0x" + _address(key).hex()
        chain.call("anvil_setBalance", owner, hex(10**20))
        chain.call("anvil_impersonateAccount", owner)
        for token in names.values():
            transfer = _call_boltz("TestERC20", "transfer(address,uint256)", _octets(owner), 10**27)
            chain.send(deployer, token, transfer)
        approve = _call_boltz(
            "TestERC20", "approve(address,uint256)", _octets(settlement), 2**256 - 1
        )
        chain.send(owner, names[paid], approve)
    separator = domain_separator(DOMAIN_NAME, PROTOCOL_VERSION, chain_id, registry, network)

    def signed(number: int) -> tuple[Any, ...]:
        trade = Trade(
            market.id,
            sha256(b"fill %d" % number).digest(),
            _address(buyer),
            _address(seller),
            Amount(3 * market.lot_size),
            Amount(number + 1),
            Epoch(7),
            TimeMs(MAX_UINT63),
        )
        digest = signing_digest(separator, trade.id)
        sides: list[Any] = [
            (bytes(20), [], bytearray(sign(key, digest))) for key in (buyer, seller)
        ]
        return (tuple(trade), *sides)

    call = next(name for name in artifact.selectors if name.startswith("settle("))
    gas, number = {}, 0
    for size in BATCHES:
        batch = [signed(number + place) for place in range(size)]
        number += size
        receipt = chain.send(deployer, settlement, artifact.selectors[call] + encode(batch))
        if sum(log["topics"][0] == SETTLED for log in receipt["logs"]) != size:
            raise ConfigError("a trade did not settle")
        gas[str(size)] = int(receipt["gasUsed"], 16) // size
    return gas


def _address(key: PrivateKey) -> Address:
    return Address(address_of(key.public_key))


def _octets(address: str) -> bytes:
    return bytes.fromhex(address.removeprefix("0x"))


def _boltz_json(contract: str) -> dict[str, Any]:
    try:
        built: dict[str, Any] = json.loads(
            (BOLTZ / f"{contract}.sol" / f"{contract}.json").read_text()
        )
    except OSError as error:
        raise ConfigError(
            f"Boltz's contracts are not installed: run `make setup` ({error})"
        ) from None
    return built


def _boltz(contract: str) -> bytes:
    return _octets(_boltz_json(contract)["bytecode"]["object"])


def _call_boltz(contract: str, signature: str, *values: Any) -> bytes:
    selector: str = _boltz_json(contract)["methodIdentifiers"][signature]
    return bytes.fromhex(selector) + encode(*values)
