"""A Bitcoin regtest chain inside this process: Bitcoin Core's own validation, kept in memory.

The kernel library checks blocks and scripts as every Core node does. It has no mempool and no
miner; ``mempool`` and this file add them. Its clock is set past its interface, by the name
that its C++ function has in the library, so the package is pinned to one version.
"""

from __future__ import annotations

import ctypes
import struct
import tempfile
import time
from typing import Any, Final

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.crypto.bitcoin import (
    Block,
    OutPoint,
    Tx,
    TxIn,
    TxOut,
    decode_block,
    double_sha256,
    merkle_root,
    var_bytes,
    var_int,
)

__all__ = ["Kernel"]

SUBSIDY_SATS: Final = 50 * 10**8
HALVING: Final = 150
_BITS: Final = 0x207FFFFF
_LIMIT: Final = 0x7FFFFF << 8 * (0x20 - 3)
_MEDIAN_OF: Final = 11
_COMMITMENT: Final = b"\x6a\x24\xaa\x21\xa9\xed"


class Kernel:
    """Blocks, validated. Not for two threads at a time."""

    def __init__(self) -> None:
        """Raises ``ConfigError`` if the package is not installed."""
        try:
            import pbk
            from pbk.capi.library import BITCOINKERNEL_LIB
        except ImportError:
            raise ConfigError(
                'the embedded chain is not installed: pip install "orrange-p2p[devnet]"'
            ) from None
        self._pbk: Any = pbk
        self._set_mock_time = BITCOINKERNEL_LIB._Z11SetMockTimel
        self._set_mock_time.argtypes, self._set_mock_time.restype = [ctypes.c_int64], None
        self._directory = tempfile.TemporaryDirectory(prefix="orrange-bitcoin-")
        self._mock_time_s = 0
        self._verdict = ""
        self._manager: Any = None
        self.blocks: list[Block] = []
        self._restart([])

    def close(self) -> None:
        """Let the library and its files go."""
        self._manager = None
        self._set_mock_time(0)
        self._directory.cleanup()

    # --- time ---

    @property
    def now_s(self) -> int:
        return self._mock_time_s or int(time.time())

    def set_time(self, time_s: int) -> None:
        """0: the machine's clock again."""
        self._mock_time_s = time_s
        self._set_mock_time(time_s)

    def median_time_s(self, height: int) -> int:
        """What timelocks of blocks after ``height`` are judged by (BIP-113)."""
        stamps = sorted(
            block.time_s for block in self.blocks[max(0, height + 1 - _MEDIAN_OF) : height + 1]
        )
        return stamps[len(stamps) // 2]

    # --- blocks ---

    @property
    def height(self) -> int:
        return len(self.blocks) - 1

    def connect(self, block: bytes) -> str:
        """The verdict on a block after the head: empty if it is the head now."""
        self._verdict = ""
        try:
            self._manager.process_block(self._pbk.Block(block))
        except self._pbk.ProcessBlockException:
            return self._verdict or "rejected"
        decoded = decode_block(block)
        chain = self._manager.get_active_chain()
        if bytes(chain.block_tree_entries[chain.height].block_hash) != decoded.hash:
            return self._verdict or "rejected"
        self.blocks.append(decoded)
        return ""

    def truncate(self, height: int) -> list[Block]:
        """Take back the blocks after ``height``, as invalidating the first of them would.

        The library cannot, so it starts again and is given the others.
        """
        gone = self.blocks[height + 1 :]
        kept = [_encoded(block) for block in self.blocks[1 : height + 1]]
        self._restart(kept)
        return gone

    def encoded(self, height: int) -> bytes:
        return _encoded(self.blocks[height])

    def make_block(self, script: bytes, transactions: list[Tx], fees: int, salt: int) -> bytes:
        """A block after the head, not yet connected."""
        height = self.height + 1
        value = (SUBSIDY_SATS >> height // HALVING) + fees
        wtxids = [bytes(32), *(double_sha256(tx.encoded()) for tx in transactions)]
        commitment = _COMMITMENT + double_sha256(merkle_root(wtxids) + bytes(32))
        spends = OutPoint(bytes(32), 0xFFFFFFFF)
        mark = _number_push(height) + var_bytes(struct.pack("<Q", salt))
        coinbase = Tx(
            2,
            (TxIn(spends, mark, 0xFFFFFFFF, (bytes(32),)),),
            (TxOut(value, script), TxOut(0, commitment)),
            0,
        )
        all_of_it = [coinbase, *transactions]
        root = merkle_root([tx.txid for tx in all_of_it])
        stamp = max(self.median_time_s(self.height) + 1, self.now_s)
        nonce = 0
        while True:
            fields = struct.pack("<III", stamp, _BITS, nonce)
            header = struct.pack("<i", 0x20000000) + self.blocks[-1].hash + root + fields
            if int.from_bytes(double_sha256(header), "little") <= _LIMIT:
                return _encoded(Block(header, tuple(all_of_it)))
            nonce += 1

    def script_error(self, tx: Tx, spent: list[TxOut]) -> str:
        """What Core's interpreter has against a transaction's witnesses; empty: nothing."""
        from pbk.script import PrecomputedTransactionData

        pbk = self._pbk
        outputs = [pbk.TransactionOutput(pbk.ScriptPubkey(one.script), one.value) for one in spent]
        whole = pbk.Transaction(tx.encoded())
        computed = PrecomputedTransactionData(whole, outputs)
        for place, one in enumerate(spent):
            script = pbk.ScriptPubkey(one.script)
            flags = pbk.ScriptVerificationFlags.ALL
            if not script.verify(one.value, whole, computed, place, flags):
                return f"mempool-script-verify-flag-failed, input {place}"
        return ""

    def _restart(self, blocks: list[bytes]) -> None:
        pbk = self._pbk
        self._manager = None
        options = pbk.ContextOptions()
        options.set_chainparams(pbk.ChainParameters(pbk.ChainType.REGTEST))
        options.set_validation_interface(
            pbk.ValidationInterfaceCallbacks(block_checked=self._checked)
        )
        where = tempfile.mkdtemp(dir=self._directory.name)
        files = pbk.ChainstateManagerOptions(pbk.Context(options), where, f"{where}/blocks")
        files.update_block_tree_db_in_memory(True)
        files.update_chainstate_db_in_memory(True)
        files.set_worker_threads_num(0)
        self._manager = pbk.ChainstateManager(files)
        entry = self._manager.get_active_chain().block_tree_entries[0]
        self.blocks = [decode_block(bytes(self._manager.blocks[entry]))]
        for block in blocks:
            verdict = self.connect(block)
            assert not verdict, verdict

    def _checked(self, _: Any, block: Any, state: Any) -> None:
        result = state.block_validation_result
        if result != self._pbk.BlockValidationResult.UNSET:
            self._verdict = str(result.name).lower()


def _encoded(block: Block) -> bytes:
    transactions = (tx.encoded() for tx in block.transactions)
    return block.header + var_int(len(block.transactions)) + b"".join(transactions)


def _number_push(number: int) -> bytes:
    """BIP-34 wants a height as the script's smallest push of it."""
    if number <= 16:
        return bytes((0x50 + number,)) if number else b"\0"
    return var_bytes(number.to_bytes(number.bit_length() // 8 + 1, "little"))
