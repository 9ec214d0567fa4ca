"""A Bitcoin regtest node inside this process: the methods of bitcoind that a node asks for.

Names, shapes and error codes are bitcoind's, so what runs against this runs against bitcoind. Its
money is worth nothing; it forgets everything when it ends. ``devnet_*`` methods are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from hashlib import pbkdf2_hmac
from typing import Any, Final

from coincurve import PrivateKey

from orrange_p2p.core.errors import MalformedError
from orrange_p2p.crypto.bip32 import HARDENED, derive
from orrange_p2p.crypto.bitcoin import OutPoint, Tx, TxOut, decode_tx, p2wpkh
from orrange_p2p.devnet.accounts import MNEMONIC
from orrange_p2p.devnet.embedded import RpcError
from orrange_p2p.devnet.kernel import Kernel
from orrange_p2p.devnet.mempool import MATURITY, MIN_RATE, Mempool, Refusal

__all__ = ["CHAIN", "SEED", "BitcoinNode", "faucet_script"]

CHAIN: Final = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"
SEED: Final = pbkdf2_hmac("sha512", MNEMONIC.encode(), b"mnemonic", 2048)
"""Of words that everybody knows: who has them holds the first 100 blocks' coins."""
_PREFIX: Final = "bcrt"
_FAUCET: Final = (84 + HARDENED, 1 + HARDENED, HARDENED, 0, 0)
_MISC, _TYPE, _INVALID, _NO_ADDRESS, _DESERIALIZATION = -1, -3, -8, -5, -22
_REJECTED: Final = -26
_ALREADY: Final = -27
_VERSION: Final = 310000


@cache
def faucet_script() -> bytes:
    """Where the coins of the first blocks lie."""
    return p2wpkh(PrivateKey(derive(SEED, _FAUCET)).public_key.format(compressed=True))


class BitcoinNode:
    """Not for two threads at a time. Raises ``ConfigError`` if the package is not installed."""

    def __init__(self, *, mines_at_once: bool = False, time_s: int = 0) -> None:
        """``mines_at_once``: a block with each transaction. ``time_s``: its clock, 0 for ours."""
        self._mines_at_once = mines_at_once
        self._kernel = Kernel()
        self._kernel.set_time(time_s)
        self._mempool = Mempool(self._kernel)
        self._rate: int | None = None
        self._min_rate = 0
        self._salt = 0
        self._methods: Mapping[str, Callable[..., Any]] = {
            "getblockchaininfo": self._info,
            "getnetworkinfo": lambda: {"version": _VERSION, "subversion": "/orrange-devnet/"},
            "getblockcount": lambda: self.head,
            "getbestblockhash": lambda: _hex(self._kernel.blocks[-1].hash),
            "getblockhash": self._block_hash,
            "getblockheader": self._block_header,
            "getblock": self._block,
            "getrawmempool": lambda: [_hex(txid) for txid in self._mempool.entries],
            "getmempoolinfo": lambda: {
                "size": len(self._mempool.entries),
                "mempoolminfee": MIN_RATE / 10**8,
                "minrelaytxfee": MIN_RATE / 10**8,
                "incrementalrelayfee": MIN_RATE / 10**8,
            },
            "getmempoolentry": self._mempool_entry,
            "getrawtransaction": self._raw_transaction,
            "gettxspendingprevout": self._spending,
            "scantxoutset": self._scan,
            "gettxout": self._unspent,
            "estimatesmartfee": self._estimate,
            "sendrawtransaction": self._send,
            "testmempoolaccept": self._test,
            "generatetodescriptor": self._generate,
            "invalidateblock": self._invalidate,
            "setmocktime": self._set_mock_time,
            "devnet_mine": lambda count=1: [self.mine() for _ in range(count)],
            "devnet_submitblock": self._submit,
            "devnet_fees": self._set_fees,
            "devnet_fund": self._fund,
            "devnet_drop": self._drop,
        }
        for _ in range(MATURITY + 1):
            self.mine()

    def close(self) -> None:
        self._kernel.close()

    @property
    def head(self) -> int:
        return self._kernel.height

    def block(self, number: int) -> dict[str, Any]:
        """A block's header as JSON-RPC shows it."""
        return self._block_header(_hex(self._kernel.blocks[number].hash))

    def answer(self, method: str, params: list[Any]) -> Any:
        """The result of one request. Raises ``RpcError``, whatever the parameters are."""
        call = self._methods.get(method)
        if call is None:
            raise RpcError(-32601, "Method not found")
        try:
            return call(*params)
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            raise RpcError(_TYPE, f"invalid parameters of {method}: {error}") from None

    def mine(self) -> str:
        """A block of what waits and pays enough."""
        transactions, fees = self._mempool.template(self._min_rate)
        return self._mine(transactions, fees)

    def _mine(self, transactions: list[Tx], fees: int = 0, script: bytes | None = None) -> str:
        self._salt += 1
        script = faucet_script() if script is None else script
        block = self._kernel.make_block(script, transactions, fees, self._salt)
        if verdict := self._kernel.connect(block):
            raise RpcError(-25, f"TestBlockValidity failed: {verdict}")
        self._mempool.connected()
        return _hex(self._kernel.blocks[-1].hash)

    # --- reading ---

    def _info(self) -> dict[str, Any]:
        return {
            "chain": "regtest",
            "blocks": self.head,
            "headers": self.head,
            "bestblockhash": _hex(self._kernel.blocks[-1].hash),
            "mediantime": self._kernel.median_time_s(self.head),
            "initialblockdownload": False,
            "pruned": False,
        }

    def _block_hash(self, height: int) -> str:
        if not 0 <= height <= self.head:
            raise RpcError(_INVALID, "Block height out of range")
        return _hex(self._kernel.blocks[height].hash)

    def _height_of(self, name: str) -> int:
        wanted = bytes.fromhex(name)[::-1]
        for height in range(self.head, -1, -1):
            if self._kernel.blocks[height].hash == wanted:
                return height
        raise RpcError(_NO_ADDRESS, "Block not found")

    def _block_header(self, name: str) -> dict[str, Any]:
        height = self._height_of(name)
        block = self._kernel.blocks[height]
        return {
            "hash": name,
            "confirmations": self.head - height + 1,
            "height": height,
            "time": block.time_s,
            "mediantime": self._kernel.median_time_s(height),
            **({"previousblockhash": _hex(block.parent)} if height else {}),
        }

    def _block(self, name: str, verbosity: int = 1) -> Any:
        if verbosity != 0:
            raise RpcError(_INVALID, "only verbosity 0 is served here")
        return self._kernel.encoded(self._height_of(name)).hex()

    def _mempool_entry(self, name: str) -> dict[str, Any]:
        entry = self._mempool.entries.get(bytes.fromhex(name)[::-1])
        if entry is None:
            raise RpcError(_NO_ADDRESS, "Transaction not in mempool")
        return {"vsize": entry.vsize, "fees": {"base": entry.fee / 10**8}}

    def _raw_transaction(self, name: str) -> str:
        entry = self._mempool.entries.get(bytes.fromhex(name)[::-1])
        if entry is None:
            raise RpcError(_NO_ADDRESS, "No such mempool transaction")
        return entry.tx.encoded().hex()

    def _spending(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answers = []
        for one in outputs:
            place = OutPoint(bytes.fromhex(one["txid"])[::-1], one["vout"])
            spender = self._mempool.spent_by.get(place)
            answers.append({**one, **({"spendingtxid": _hex(spender)} if spender else {})})
        return answers

    def _scan(self, action: str, descriptors: list[str]) -> dict[str, Any]:
        wanted = {bytes.fromhex(_raw_descriptor(one)) for one in descriptors}
        found = [
            {
                "txid": _hex(place.txid),
                "vout": place.vout,
                "scriptPubKey": output.script.hex(),
                "amount": output.value / 10**8,
                "height": output.height,
            }
            for place, output in self._mempool.unspent.items()
            if output.script in wanted
        ]
        return {"success": True, "height": self.head, "unspents": found}

    def _unspent(self, name: str, vout: int, with_mempool: bool = True) -> dict[str, Any] | None:
        place = OutPoint(bytes.fromhex(name)[::-1], vout)
        output = self._mempool.unspent.get(place)
        if output is None or (with_mempool and place in self._mempool.spent_by):
            return None
        return {
            "bestblock": _hex(self._kernel.blocks[-1].hash),
            "confirmations": self.head - output.height + 1,
            "value": output.value / 10**8,
            "scriptPubKey": {"hex": output.script.hex()},
            "coinbase": output.coinbase,
        }

    def _estimate(self, blocks: int, mode: str = "") -> dict[str, Any]:
        if self._rate is None:
            return {"errors": ["Insufficient data or no feerate found"], "blocks": blocks}
        return {"feerate": self._rate / 10**8, "blocks": blocks}

    # --- sending ---

    def _send(self, raw: str) -> str:
        tx = _decoded(raw)
        try:
            txid = self._mempool.add(tx)
        except Refusal as refusal:
            if str(refusal) == "txn-already-known":
                raise RpcError(_ALREADY, "Transaction outputs already in utxo set") from None
            code = -25 if "missingorspent" in str(refusal) else _REJECTED
            raise RpcError(code, str(refusal)) from None
        if self._mines_at_once:
            self.mine()
        return _hex(txid)

    def _test(self, raws: list[str]) -> list[dict[str, Any]]:
        """One at a time; nothing stays."""
        answers = []
        for raw in raws:
            tx = _decoded(raw)
            before = [entry.tx for entry in self._mempool.entries.values()]
            try:
                self._mempool.add(tx)
                answers.append({"txid": _hex(tx.txid), "allowed": True})
            except Refusal as refusal:
                reason = {"allowed": False, "reject-reason": str(refusal)}
                answers.append({"txid": _hex(tx.txid), **reason})
            self._mempool.readmit(before)
        return answers

    # --- making blocks ---

    def _generate(self, count: int, descriptor: str) -> list[str]:
        script = bytes.fromhex(_raw_descriptor(descriptor))
        names = []
        for _ in range(count):
            transactions, fees = self._mempool.template(self._min_rate)
            names.append(self._mine(transactions, fees, script))
        return names

    def _submit(self, raws: list[str]) -> str:
        """A block of exactly these transactions, valid or not: past the mempool's own checks."""
        return self._mine([_decoded(raw) for raw in raws])

    def _invalidate(self, name: str) -> None:
        height = self._height_of(name)
        if height == 0:
            raise RpcError(_MISC, "the first block stays")
        gone = self._kernel.truncate(height - 1)
        waiting = [entry.tx for entry in self._mempool.entries.values()]
        self._mempool.rebuild()
        back = [tx for block in gone for tx in block.transactions if not tx.is_coinbase]
        self._mempool.readmit([*back, *waiting])

    def _drop(self) -> None:
        """Forget what waits, as a full mempool or a restart would."""
        self._mempool.readmit([])

    def _set_mock_time(self, time_s: int) -> None:
        if not 0 <= time_s < 1 << 32:
            raise RpcError(_INVALID, "Mocktime must be in the range of a block's stamp")
        self._kernel.set_time(time_s)

    def _set_fees(self, estimate: int | None, least: int = 0) -> None:
        """What is estimated, and what is mined at least: satoshis per 1,000 vbytes."""
        self._rate, self._min_rate = estimate, least

    def _fund(self, target: str, sats: int) -> str:
        """Pay from the coins of the first blocks to an address or a script, and mine it."""
        from orrange_p2p.chains.bitcoin.transactions import script_of
        from orrange_p2p.devnet.faucet import funding

        place, output = next(
            (place, output)
            for place, output in self._mempool.unspent.items()
            if output.script == faucet_script()
            and self.head + 1 - output.height >= MATURITY
            and output.value > sats + 10_000
            and place not in self._mempool.spent_by
        )
        secret = derive(SEED, _FAUCET)
        coin = (place, TxOut(output.value, output.script))
        is_address = target.startswith(_PREFIX)
        script = script_of(target, _PREFIX) if is_address else bytes.fromhex(target)
        tx = funding(*coin, secret, TxOut(sats, script))
        self._mempool.add(tx)
        self._mine([tx])
        return _hex(tx.txid)


def _decoded(raw: str) -> Tx:
    try:
        return decode_tx(bytes.fromhex(raw))
    except MalformedError:
        raise RpcError(_DESERIALIZATION, "TX decode failed") from None


def _raw_descriptor(text: str) -> str:
    head, _, rest = text.partition("(")
    script, end, _ = rest.partition(")")
    if head != "raw" or not end:
        raise RpcError(_NO_ADDRESS, "only raw(...) descriptors are served here")
    return script


def _hex(octets: bytes) -> str:
    return octets[::-1].hex()
