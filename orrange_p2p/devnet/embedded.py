"""An EVM chain inside this process: py-evm behind the JSON-RPC methods that a node asks for.

No mempool: a transaction is executed when it comes, so its nonce has to be its sender's next, and
none can be replaced. It forgets everything when it ends. Two blocks below the head are final.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.crypto.hashes import keccak256
from orrange_p2p.devnet.accounts import HD_PATH, MNEMONIC, accounts

__all__ = ["EmbeddedChain", "RpcError"]

COINS: Final = 10_000 * 10**18
FINAL_DEPTH: Final = 2
_CALL_GAS: Final = 16_000_000
_MAX_HISTORY: Final = 1024
_TIP_WEI: Final = 10**9


class RpcError(Exception):
    """What a JSON-RPC error carries."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class EmbeddedChain:
    """Not for two threads at a time. Raises ``ConfigError`` if the packages are not installed."""

    def __init__(self, number: int, *, mines_at_once: bool = True) -> None:
        """``mines_at_once``: a block with each transaction; else ``mine`` makes blocks."""
        try:
            from eth_tester import PyEVMBackend
        except ImportError:
            raise ConfigError(
                'the embedded chain is not installed: pip install "orrange-p2p[devnet]"'
            ) from None
        self.number = number
        self._mines_at_once = mines_at_once
        self._backend: Any = PyEVMBackend.from_mnemonic(
            MNEMONIC,
            num_accounts=len(accounts()),
            hd_path=HD_PATH,
            genesis_state_overrides={"balance": COINS},
        )
        # The class was made for this instance alone.
        type(self._backend.chain).chain_id = number
        self._methods: Mapping[str, Callable[..., Any]] = {
            "eth_chainId": lambda: hex(self.number),
            "net_version": lambda: str(self.number),
            "web3_clientVersion": lambda: "orrange-devnet/py-evm",
            "eth_accounts": lambda: [_hex(account.address) for account in accounts()],
            "eth_blockNumber": lambda: hex(self.head),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": self._reading(self._backend.get_balance),
            "eth_getTransactionCount": self._reading(self._backend.get_nonce),
            "eth_getCode": lambda account, tag="latest": _hex(
                self._backend.get_code(_bytes(account), self._at(tag))
            ),
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionReceipt": lambda name: self._receipts.get(_bytes(name)),
            "eth_getLogs": self._get_logs,
            "eth_feeHistory": self._fee_history,
            "eth_maxPriorityFeePerGas": lambda: hex(_TIP_WEI),
            "eth_gasPrice": lambda: hex(_TIP_WEI + self._base_fee(self.head)),
            "evm_mine": self.mine,
        }
        self._blocks: list[dict[str, Any]] = []
        self._numbers: dict[bytes, int] = {}
        self._receipts: dict[bytes, dict[str, Any]] = {}
        self._logs: list[tuple[int, dict[str, Any]]] = []
        self._sent: set[bytes] = set()
        self._take_blocks()

    @property
    def head(self) -> int:
        """Number of the newest block."""
        return len(self._blocks) - 1

    def block(self, number: int) -> dict[str, Any]:
        """A block as JSON-RPC shows it."""
        return self._blocks[number]

    def answer(self, method: str, params: list[Any]) -> Any:
        """The result of one request. Raises ``RpcError``, whatever the parameters are."""
        from eth_utils.exceptions import ValidationError

        call = self._methods.get(method)
        if call is None:
            raise RpcError(-32601, f"the method {method} does not exist here")
        try:
            return call(*params)
        except (
            *(TypeError, ValueError, LookupError, AttributeError, OverflowError),
            ValidationError,
        ) as error:
            raise RpcError(-32602, f"invalid parameters of {method}: {error}") from None

    def mine(self) -> str:
        """Make a block of what was sent since the last."""
        self._backend.mine_blocks(1)
        self._take_blocks()
        return "0x0"

    # --- blocks ---

    def _take_blocks(self) -> None:
        """Index what was mined: py-evm would search its blocks for every receipt."""
        pending = self._backend.chain.get_block().number
        for number in range(len(self._blocks), pending):
            block = self._backend.get_block_by_number(number, False)
            self._blocks.append(_shown_block(block))
            self._numbers[block["hash"]] = number
            count = 0
            for name in block["transactions"]:
                receipt = _shown_receipt(self._backend.get_transaction_receipt(name))
                self._receipts[name] = receipt
                for log in receipt["logs"]:
                    log["logIndex"] = hex(count)  # in the block; the backend counts anew in each
                    count += 1
                    self._logs.append((number, log))

    def _block_by_number(self, tag: str, full: bool = False) -> dict[str, Any] | None:
        number = self._tag(tag)
        return self._blocks[number] if 0 <= number <= self.head else None

    def _block_by_hash(self, name: str, full: bool = False) -> dict[str, Any] | None:
        number = self._numbers.get(_bytes(name))
        return None if number is None else self._blocks[number]

    def _tag(self, tag: str | dict[str, str]) -> int:
        """A block's number; it can be named by its hash too (EIP-1898)."""
        if isinstance(tag, dict):
            found = self._numbers.get(_bytes(tag["blockHash"]))
            if found is None:
                raise RpcError(-32000, "header for hash not found")
            return found
        if tag in ("latest", "pending"):
            return self.head
        if tag in ("finalized", "safe"):
            return max(0, self.head - FINAL_DEPTH)
        number = 0 if tag == "earliest" else int(tag, 16)
        if number < 0:
            raise RpcError(-32602, f"there is no block {number}")
        return number

    def _at(self, tag: str) -> str | int:
        """As the backend wants it."""
        if tag in ("latest", "pending"):
            return tag
        number = self._tag(tag)
        if number > self.head:
            raise RpcError(-32000, f"there is no block {number} yet")
        return number

    def _reading(self, read: Callable[..., int]) -> Callable[..., str]:
        return lambda account, tag="latest": hex(read(_bytes(account), self._at(tag)))

    def _base_fee(self, number: int) -> int:
        return int(self._blocks[number]["baseFeePerGas"], 16)

    def _fee_history(self, count: str | int, newest: str, percentiles: Any = None) -> Any:
        last = self._tag(newest)
        wanted = count if isinstance(count, int) else int(count, 16)
        numbers = range(max(0, last + 1 - min(wanted, _MAX_HISTORY)), last + 1)
        following = self._backend.get_base_fee("pending") if last == self.head else None
        fees = [self._base_fee(number) for number in numbers]
        fees.append(self._base_fee(last + 1) if following is None else following)
        history = {
            "oldestBlock": hex(numbers[0]),
            "baseFeePerGas": list(map(hex, fees)),
            "gasUsedRatio": [0.0 for _ in numbers],
        }
        if percentiles:
            history["reward"] = [[hex(_TIP_WEI) for _ in percentiles] for _ in numbers]
        return history

    # --- transactions ---

    def _send(self, raw: str) -> str:
        from eth.exceptions import PyEVMError
        from eth_utils.exceptions import ValidationError
        from rlp.exceptions import RLPException

        octets = _bytes(raw)
        name = keccak256(octets)
        if name in self._sent:
            raise RpcError(-32000, "already known")
        try:
            self._backend.send_raw_transaction(octets)
        except (PyEVMError, ValidationError, RLPException, IndexError) as error:
            raise RpcError(-32000, str(error)) from None
        self._sent.add(name)
        if self._mines_at_once:
            self.mine()
        return _hex(name)

    def _call(self, request: dict[str, Any], tag: str | dict[str, str] = "latest") -> str:
        header, transaction = self._spoofed(request, tag)
        return _hex(
            self._executed(lambda: self._backend.chain.get_transaction_result(transaction, header))
        )

    def _estimate(self, request: dict[str, Any], tag: str = "latest") -> str:
        header, transaction = self._spoofed(request, tag)
        return hex(self._executed(lambda: self._backend.chain.estimate_gas(transaction, header)))

    def _spoofed(self, request: dict[str, Any], tag: str | dict[str, str]) -> tuple[Any, Any]:
        """A transaction that nobody signed, and the block after which to try it."""
        from eth.vm.spoof import SpoofTransaction

        number = min(self._tag(tag), self.head)
        chain = self._backend.chain
        sender = _bytes(request.get("from", "0x" + "00" * 20))
        unsigned = chain.create_unsigned_transaction(
            nonce=self._backend.get_nonce(sender, number),
            gas_price=0,
            gas=int(request.get("gas", hex(_CALL_GAS)), 16),
            to=_bytes(request["to"]) if request.get("to") else b"",
            value=int(request.get("value", "0x0"), 16),
            data=_bytes(request.get("data") or request.get("input") or "0x"),
        )
        header = chain.get_canonical_block_header_by_number(number)
        return header, SpoofTransaction(unsigned, from_=sender)

    def _executed(self, call: Callable[[], Any]) -> Any:
        from eth.exceptions import PyEVMError, Revert
        from eth_utils.exceptions import ValidationError

        try:
            return call()
        except Revert as error:
            data = error.args[0] if error.args and isinstance(error.args[0], bytes) else b""
            raise RpcError(3, "execution reverted", _hex(data)) from None
        except (PyEVMError, ValidationError) as error:
            raise RpcError(-32000, str(error) or "execution failed") from None

    def _get_logs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        if name := wanted.get("blockHash"):
            number = self._numbers.get(_bytes(name))
            if number is None:
                raise RpcError(-32000, "unknown block")
            first = last = number
        else:
            first = self._tag(wanted.get("fromBlock", "latest"))
            last = self._tag(wanted.get("toBlock", "latest"))
        addresses = wanted.get("address") or []
        addresses = [addresses] if isinstance(addresses, str) else addresses
        known = {one.lower() for one in addresses}
        topics = [
            None if any_of is None else {any_of} if isinstance(any_of, str) else set(any_of)
            for any_of in wanted.get("topics") or []
        ]
        return [
            log
            for number, log in self._logs
            if first <= number <= last
            and (not known or log["address"] in known)
            and len(log["topics"]) >= len(topics)
            and all(
                any_of is None or topic in any_of
                for any_of, topic in zip(topics, log["topics"], strict=False)
            )
        ]


def _shown_block(block: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": hex(block["number"]),
        "hash": _hex(block["hash"]),
        "parentHash": _hex(block["parent_hash"]),
        "timestamp": hex(block["timestamp"]),
        "miner": _hex(block["coinbase"]),
        "gasLimit": hex(block["gas_limit"]),
        "gasUsed": hex(block["gas_used"]),
        "baseFeePerGas": hex(block["base_fee_per_gas"]),
        "stateRoot": _hex(block["state_root"]),
        "transactions": [_hex(name) for name in block["transactions"]],
    }


def _shown_receipt(receipt: Mapping[str, Any]) -> dict[str, Any]:
    block = {"blockHash": _hex(receipt["block_hash"]), "blockNumber": hex(receipt["block_number"])}
    contract = receipt["contract_address"]
    transaction = {
        **block,
        "transactionHash": _hex(receipt["transaction_hash"]),
        "transactionIndex": hex(receipt["transaction_index"]),
    }
    return {
        **transaction,
        "from": _hex(receipt["from"]),
        "to": _hex(receipt["to"]) if receipt["to"] else None,
        "contractAddress": _hex(contract) if contract else None,
        "status": hex(receipt["status"]),
        "gasUsed": hex(receipt["gas_used"]),
        "cumulativeGasUsed": hex(receipt["cumulative_gas_used"]),
        "effectiveGasPrice": hex(receipt["effective_gas_price"]),
        "type": "0x2",
        "logs": [
            {
                **transaction,
                "address": _hex(log["address"]),
                "topics": [_hex(topic) for topic in log["topics"]],
                "data": _hex(log["data"]),
                "logIndex": hex(log["log_index"]),
                "removed": False,
            }
            for log in receipt["logs"]
        ],
    }


def _hex(octets: bytes) -> str:
    return "0x" + octets.hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
