"""bitcoind's JSON-RPC. Everything that it answers is checked here before it goes further."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import httpx
import trio

from orrange_p2p.chains.bitcoin.backend import Found, Header
from orrange_p2p.chains.bitcoin.config import BitcoinConfig
from orrange_p2p.core import nesting
from orrange_p2p.core.errors import (
    ConfigError,
    DeadlineError,
    MalformedError,
    OversizedError,
    RefusedError,
    UnreachableError,
)
from orrange_p2p.crypto.bitcoin import (
    HEADER_BYTES,
    Block,
    OutPoint,
    Tx,
    TxOut,
    decode_block,
    decode_tx,
    double_sha256,
)

__all__ = ["BitcoindRpc", "open_bitcoind"]

MAX_ANSWER_BYTES: Final = 16 << 20
"""A block in hexadecimal is at most 8 MB; the ids of a full mempool are about as much."""
SCAN_S: Final = 1_800.0
_LIMITS: Final = httpx.Limits(max_connections=8, max_keepalive_connections=4)
_NOT_FOUND: Final = -5
_OUT_OF_RANGE: Final = -8
_ALREADY: Final = -27
_WARMING_UP: Final = -28
_SATS: Final = 10**8
_MAX_SATS: Final = 21_000_000 * _SATS


class BitcoindRpc:
    """Implements ``Backend``. Made by ``open_bitcoind``."""

    def __init__(self, config: BitcoinConfig, client: httpx.AsyncClient) -> None:
        self._config = config
        self._client = client

    async def best(self) -> Header:
        name = await self._call("getbestblockhash", [])
        header = await self.header(_hash(name))
        if header is None:
            raise MalformedError("the node does not know the head that it named")
        return header

    async def header(self, block_hash: bytes) -> Header | None:
        try:
            value = await self._call("getblockheader", [block_hash[::-1].hex()])
        except RefusedError as error:
            if error.code == _NOT_FOUND:
                return None
            raise
        fields = _object(value)
        parent = fields.get("previousblockhash")
        return Header(
            _integer(fields.get("height")),
            block_hash,
            bytes(32) if parent is None else _hash(parent),
            _integer(fields.get("time")),
            _integer(fields.get("mediantime")),
            fields.get("confirmations") != -1,
        )

    async def hash_at(self, height: int) -> bytes | None:
        try:
            return _hash(await self._call("getblockhash", [height]))
        except RefusedError as error:
            if error.code == _OUT_OF_RANGE:
                return None
            raise

    async def block(self, block_hash: bytes) -> Block:
        octets = await self.encoded_block(block_hash)
        return await trio.to_thread.run_sync(decode_block, octets)

    async def encoded_block(self, block_hash: bytes) -> bytes:
        octets = _octets(await self._call("getblock", [block_hash[::-1].hex(), 0]))
        if double_sha256(octets[:HEADER_BYTES]) != block_hash:
            raise MalformedError("the node's block is another one")
        return octets

    async def pool(self) -> list[bytes]:
        return [_hash(one) for one in _list(await self._call("getrawmempool", []))]

    async def waiting(self, txid: bytes) -> Tx | None:
        try:
            octets = _octets(await self._call("getrawtransaction", [txid[::-1].hex()]))
        except RefusedError as error:
            if error.code == _NOT_FOUND:
                return None
            raise
        tx = decode_tx(octets)
        if tx.txid != txid:
            raise MalformedError("the node's transaction is another one")
        return tx

    async def spenders(self, places: Sequence[OutPoint]) -> list[bytes]:
        if not places:
            return []
        asked = [{"txid": one.txid[::-1].hex(), "vout": one.vout} for one in places]
        answers = _list(await self._call("gettxspendingprevout", [asked]))
        names = [_object(one).get("spendingtxid") for one in answers]
        return [_hash(one) for one in names if one is not None]

    async def unspent_at(self, place: OutPoint) -> Found | None:
        answer = await self._call("gettxout", [place.txid[::-1].hex(), place.vout, False])
        if answer is None:
            return None
        fields = _object(answer)
        best = await self.header(_hash(fields.get("bestblock")))
        confirmations = _integer(fields.get("confirmations"))
        if best is None or not 1 <= confirmations <= best.height + 1:
            raise MalformedError("the node's output is in no block")
        script = _octets(_object(fields.get("scriptPubKey")).get("hex"))
        output = TxOut(_sats(fields.get("value")), script)
        return Found(place, output, best.height - confirmations + 1)

    async def send(self, raw: bytes) -> str:
        try:
            await self._call("sendrawtransaction", [raw.hex()])
        except RefusedError as error:
            if error.code == _WARMING_UP:
                raise
            return "" if error.code == _ALREADY else str(error)
        return ""

    async def rate(self, blocks: int) -> int | None:
        value = _object(await self._call("estimatesmartfee", [blocks])).get("feerate")
        return None if value is None else _sats(value)

    async def least_rate(self) -> int:
        return _sats(_object(await self._call("getmempoolinfo", [])).get("mempoolminfee"))

    async def unspent(self, scripts: Sequence[bytes]) -> list[Found]:
        wanted = [f"raw({script.hex()})" for script in scripts]
        answer = await self._call("scantxoutset", ["start", wanted], timeout_s=SCAN_S)
        found = []
        for one in map(_object, _list(_object(answer).get("unspents"))):
            place = OutPoint(_hash(one.get("txid")), _integer(one.get("vout")))
            output = TxOut(_sats(one.get("amount")), _octets(one.get("scriptPubKey")))
            found.append(Found(place, output, _integer(one.get("height"))))
        return [one for one in found if one.output.script in scripts]

    async def _call(self, method: str, params: list[Any], timeout_s: float | None = None) -> Any:
        timeout_s = timeout_s or self._config.timeout_ms / 1000
        call = {"jsonrpc": "1.0", "id": 1, "method": method, "params": params}
        try:
            with trio.fail_after(timeout_s):
                status, body = await self._post(call, timeout_s)
        except trio.TooSlowError:
            raise DeadlineError(f"no answer within {timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"no connection: {type(error).__name__}") from None
        if status in (401, 403):
            raise UnreachableError("the node does not take this password")
        if nesting.is_deep(body.decode("utf-8", "replace"), 32):
            raise MalformedError("the node's answer is nested too deep")
        try:
            # Amounts are written with a decimal point: never through a float.
            message = _object(json.loads(body, parse_float=Decimal))
        except (ValueError, RecursionError):
            raise MalformedError("the node's answer is no JSON") from None
        if (failure := message.get("error")) is not None:
            code = _object(failure).get("code")
            text = str(_object(failure).get("message"))[:300]
            code = code if isinstance(code, int) else 0
            if code == _WARMING_UP:
                raise UnreachableError(f"the node is starting: {text}")
            raise RefusedError(text, code)
        return message.get("result")

    async def _post(self, call: dict[str, Any], timeout_s: float) -> tuple[int, bytes]:
        auth = await self._auth()
        async with self._client.stream(
            "POST", self._config.endpoint, json=call, auth=auth, timeout=timeout_s
        ) as response:
            if "content-encoding" in response.headers:
                raise MalformedError("the node's answer is packed")
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise OversizedError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            return response.status_code, bytes(body)

    async def _auth(self) -> tuple[str, str] | None:
        """bitcoind writes a new cookie each time that it starts."""
        if not self._config.cookie_file:
            return None
        try:
            text = await trio.Path(self._config.cookie_file).read_text("ascii")
        except (OSError, ValueError):
            raise UnreachableError(
                "bitcoind's cookie file cannot be read: is it running?"
            ) from None
        name, _, password = text.strip().partition(":")
        return name, password


@asynccontextmanager
async def open_bitcoind(config: BitcoinConfig) -> AsyncIterator[BitcoindRpc]:
    """A backend for as long as the block lasts. Proxies of the environment are not used."""
    if config.cookie_file and not Path(config.cookie_file).is_absolute():
        raise ConfigError(f"cookie_file {config.cookie_file!r} is not an absolute path")
    async with httpx.AsyncClient(
        headers={"accept-encoding": "identity"}, limits=_LIMITS, trust_env=False
    ) as client:
        yield BitcoindRpc(config, client)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError("the node's answer is no object")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedError("the node's answer is no list")
    return value


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise MalformedError("the node's number is none, or out of range")
    return value


def _octets(value: object) -> bytes:
    try:
        if isinstance(value, str):
            return bytes.fromhex(value)
    except ValueError:
        pass
    raise MalformedError("the node's bytes are not hexadecimal")


def _hash(value: object) -> bytes:
    octets = _octets(value)
    if len(octets) != 32:
        raise MalformedError("the node's hash is not 32 bytes")
    return octets[::-1]


def _sats(value: object) -> int:
    """Of an amount in bitcoins."""
    if type(value) is int or isinstance(value, Decimal):
        try:
            sats = Decimal(value) * _SATS
            if 0 <= sats <= _MAX_SATS and sats == int(sats):
                return int(sats)
        except InvalidOperation:
            pass
    raise MalformedError("the node's amount is none")
