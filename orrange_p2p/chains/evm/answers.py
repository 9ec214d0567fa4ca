"""From an endpoint's JSON to our types, or ``MalformedError``; nothing is taken on trust.

Each function takes a result as the JSON decoder left it: any value at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

from orrange_p2p.core.errors import MalformedError, RefusedError, RevertedError
from orrange_p2p.core.ids import Address
from orrange_p2p.core.nesting import is_deep
from orrange_p2p.ports.chain import Block, Log

__all__ = [
    "MAX_ANSWER_BYTES",
    "FeeHistory",
    "Receipt",
    "block",
    "data",
    "fee_history",
    "hash32",
    "logs",
    "maybe",
    "parse",
    "quantity",
    "receipt",
    "result",
    "text",
]

_T = TypeVar("_T")
_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")
_DATA: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_MAX_NUMBER: Final = (1 << 63) - 1
_MAX_TEXT: Final = 200
MAX_LOGS: Final = 100_000
MAX_ANSWER_BYTES: Final = 8 << 20
"""A larger answer is never decoded; a range of logs is then asked for in smaller pieces."""
MAX_DEPTH: Final = 32
"""A bracket, or a text, in which brackets do not count."""
_REVERT: Final = re.compile(r"revert|invalid opcode|out of gas", re.IGNORECASE)


class Receipt(NamedTuple):
    """What a block says of a transaction in it."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    succeeded: bool
    gas_used: int
    gas_price_wei: int

    @property
    def fee_wei(self) -> int:
        """What the sender paid for its execution."""
        return self.gas_used * self.gas_price_wei


class FeeHistory(NamedTuple):
    """The next block's base fee, and what recent transactions gave on top."""

    next_base_fee_wei: int
    rewards_wei: tuple[int, ...]


def parse(message: bytes | str) -> Any:
    """JSON, or ``MalformedError``: also for nesting and numbers that the decoder cannot take."""
    try:
        text = message if isinstance(message, str) else message.decode()
        if is_deep(text, MAX_DEPTH):
            raise MalformedError("the endpoint's answer is nested too deeply")
        return json.loads(text)
    except ValueError:
        raise MalformedError("the endpoint's answer is not JSON") from None


def text(value: object) -> str:
    """An endpoint's words, short enough and fit to be shown."""
    if not isinstance(value, str):
        return "without a reason"
    shown = "".join(char if char.isprintable() else " " for char in value[:_MAX_TEXT])
    return shown.strip() or "without a reason"


def result(message: Mapping[str, Any]) -> Any:
    """What a JSON-RPC answer holds. Raises ``RevertedError`` or ``RefusedError`` for an error."""
    error = message.get("error")
    if error is None:
        if "result" not in message:
            raise MalformedError("the endpoint's answer has neither result nor error")
        return message["result"]
    if not isinstance(error, Mapping):
        raise MalformedError("the endpoint's error is no object")
    reason, code = text(error.get("message")), error.get("code")
    if code == 3 or _REVERT.search(reason):
        found = error.get("data")
        is_bytes = isinstance(found, str) and _DATA.fullmatch(found)
        raise RevertedError(reason, data(found) if is_bytes else b"")
    raise RefusedError(reason, code if isinstance(code, int) and abs(code) < 1 << 31 else 0)


def quantity(value: object) -> int:
    """An integer below 2^256."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise MalformedError("the endpoint's answer holds no quantity where one belongs")
    return int(value, 16)


def data(value: object) -> bytes:
    """Bytes of any length."""
    if not isinstance(value, str) or not _DATA.fullmatch(value):
        raise MalformedError("the endpoint's answer holds no bytes where they belong")
    return bytes.fromhex(value[2:])


def simulated(value: object) -> tuple[tuple[bool, bytes], ...]:
    """What each call of the one block of an ``eth_simulateV1`` did: whether it succeeded, and its
    answer."""
    if not isinstance(value, list) or len(value) != 1:
        raise MalformedError("the endpoint answers with no simulated block")
    calls = _object(value[0]).get("calls")
    if not isinstance(calls, list):
        raise MalformedError("the endpoint answers with no simulated calls")
    rows = [_object(call) for call in calls]
    return tuple((row.get("status") == "0x1", data(row.get("returnData", "0x"))) for row in rows)


def hash32(value: object) -> bytes:
    """32 bytes."""
    found = data(value)
    if len(found) != 32:
        raise MalformedError("the endpoint's answer holds no hash where one belongs")
    return found


def maybe(decode: Callable[[object], _T]) -> Callable[[object], _T | None]:
    """Null stands for "there is none"."""
    return lambda value: None if value is None else decode(value)


def block(value: object) -> Block:
    """A block's header; its transactions are not looked at."""
    members = _object(value)
    return Block(
        _number(members.get("number")),
        hash32(members.get("hash")),
        hash32(members.get("parentHash")),
        _number(members.get("timestamp")),
    )


def receipt(value: object) -> Receipt:
    """A receipt; its logs are not looked at."""
    members = _object(value)
    status = quantity(members.get("status"))
    if status not in (0, 1):
        raise MalformedError("the endpoint's receipt has a status that is neither 0 nor 1")
    return Receipt(
        hash32(members.get("transactionHash")),
        _number(members.get("blockNumber")),
        hash32(members.get("blockHash")),
        status == 1,
        _number(members.get("gasUsed")),
        quantity(members.get("effectiveGasPrice")),
    )


def logs(value: object) -> tuple[Log, ...]:
    """The logs of one block or of a range, in order."""
    if not isinstance(value, list) or len(value) > MAX_LOGS:
        raise MalformedError("the endpoint's logs are no list, or too many")
    found = tuple(map(_log, value))
    places = [(log.block_number, log.log_index) for log in found]
    if any(one >= other for one, other in pairwise(places)):
        raise MalformedError("the endpoint's logs are out of order")
    return found


def fee_history(value: object) -> FeeHistory:
    """The answer to ``eth_feeHistory`` with one percentile."""
    members = _object(value)
    base_fees, rewards = members.get("baseFeePerGas"), members.get("reward") or []
    if not isinstance(base_fees, list) or not base_fees or not isinstance(rewards, list):
        raise MalformedError("the endpoint's fee history has no base fees")
    paid = [quantity(one[0]) for one in rewards if isinstance(one, list) and one]
    return FeeHistory(quantity(base_fees[-1]), tuple(paid))


def _log(value: object) -> Log:
    members = _object(value)
    topics = members.get("topics")
    if not isinstance(topics, list) or len(topics) > 4:
        raise MalformedError("the endpoint's log has no list of topics")
    address = data(members.get("address"))
    if len(address) != 20:
        raise MalformedError("the endpoint's log has no address")
    return Log(
        Address(address),
        tuple(map(hash32, topics)),
        data(members.get("data")),
        _number(members.get("blockNumber")),
        hash32(members.get("blockHash")),
        hash32(members.get("transactionHash")),
        _number(members.get("logIndex")),
    )


def _number(value: object) -> int:
    """A quantity that counts or measures something we store: below 2^63."""
    found = quantity(value)
    if found > _MAX_NUMBER:
        raise MalformedError("the endpoint's answer holds a number beyond 2^63")
    return found


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise MalformedError("the endpoint's answer is no object")
    return value
