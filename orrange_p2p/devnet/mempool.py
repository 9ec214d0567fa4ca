"""Transactions that wait for a block, by the rules of Bitcoin Core's mempool that swaps rest on.

Finality, missing and spent inputs, maturity, fees, dust, replacement by fee (BIP-125 as Core does
it since every transaction is replaceable) and, through the kernel, scripts. Reasons are Core's.
Not here: packages, limits of ancestors, the finer rules of what is standard.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.crypto.bitcoin import OutPoint, Tx, TxOut
from orrange_p2p.devnet.kernel import Kernel

__all__ = ["Mempool", "Refusal"]

MIN_RATE: Final = 1_000
"""Satoshis per 1,000 vbytes, to be forwarded and on top of what is replaced."""
DUST_SATS: Final = 294
MATURITY: Final = 100
MAX_WEIGHT: Final = 400_000
MAX_REPLACED: Final = 100
_FINAL: Final = 0xFFFFFFFF
_TIMES_FROM: Final = 500_000_000
_BLOCK_WEIGHT: Final = 3_990_000


class Refusal(Exception):
    """Why a transaction is not taken, in Core's words."""


class Output(NamedTuple):
    """An unspent output of the chain."""

    value: int
    script: bytes
    height: int
    coinbase: bool


class Entry(NamedTuple):
    tx: Tx
    fee: int

    @property
    def vsize(self) -> int:
        return self.tx.vsize


class Mempool:
    """The mempool, and the unspent outputs that it stands on."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.entries: dict[bytes, Entry] = {}
        self.spent_by: dict[OutPoint, bytes] = {}
        self.unspent: dict[OutPoint, Output] = {}
        self.rebuild()

    def rebuild(self) -> None:
        """After blocks were taken back: read the chain anew, and take what was there again."""
        waiting = [entry.tx for entry in self.entries.values()]
        self.unspent = {}
        for height in range(1, self._kernel.height + 1):  # the first block's cannot be spent
            self._apply(height)
        self.readmit(waiting)

    def readmit(self, transactions: list[Tx]) -> None:
        """What is no longer valid is left out."""
        self.entries, self.spent_by = {}, {}
        for tx in transactions:
            try:
                self.add(tx)
            except Refusal:
                continue

    def connected(self) -> None:
        """The head is a new block: what it holds, or contradicts, waits no longer."""
        self._apply(self._kernel.height)
        mined = {tx.txid for tx in self._kernel.blocks[-1].transactions}
        self.readmit([e.tx for txid, e in self.entries.items() if txid not in mined])

    def _apply(self, height: int) -> None:
        for tx in self._kernel.blocks[height].transactions:
            for one in tx.inputs:
                self.unspent.pop(one.spends, None)
            txid = tx.txid
            for index, output in enumerate(tx.outputs):
                if not output.script.startswith(b"\x6a"):
                    place = OutPoint(txid, index)
                    self.unspent[place] = Output(*output, height, tx.is_coinbase)

    # --- admission ---

    def add(self, tx: Tx) -> bytes:
        """Its txid. Raises ``Refusal``."""
        txid = tx.txid
        if txid in self.entries:
            return txid
        if tx.is_coinbase:
            raise Refusal("coinbase")
        if tx.weight > MAX_WEIGHT:
            raise Refusal("tx-size")
        if any(o.value < DUST_SATS and o.script[:1] != b"\x6a" for o in tx.outputs):
            raise Refusal("dust")
        if not self._is_final(tx):
            raise Refusal("non-final")
        if len({one.spends for one in tx.inputs}) < len(tx.inputs):
            raise Refusal("bad-txns-inputs-duplicate")
        spent = [self._coin(one.spends, txid) for one in tx.inputs]
        fee = sum(one.value for one in spent) - sum(one.value for one in tx.outputs)
        if fee < 0:
            raise Refusal("bad-txns-in-belowout")
        if fee * 1000 < MIN_RATE * tx.vsize:
            raise Refusal(f"min relay fee not met, {fee} < {MIN_RATE * tx.vsize // 1000}")
        replaced = self._replaced(tx, fee)
        if error := self._kernel.script_error(tx, spent):
            raise Refusal(error)
        for gone in replaced:
            self._drop(gone)
        self.entries[txid] = Entry(tx, fee)
        for one in tx.inputs:
            self.spent_by[one.spends] = txid
        return txid

    def _is_final(self, tx: Tx) -> bool:
        """In the next block (BIP-113)."""
        if tx.locktime == 0 or all(one.sequence == _FINAL for one in tx.inputs):
            return True
        if tx.locktime < _TIMES_FROM:
            return tx.locktime < self._kernel.height + 1
        return tx.locktime < self._kernel.median_time_s(self._kernel.height)

    def _coin(self, place: OutPoint, txid: bytes) -> TxOut:
        output = self.unspent.get(place)
        if output is not None:
            if output.coinbase and self._kernel.height + 1 - output.height < MATURITY:
                raise Refusal("bad-txns-premature-spend-of-coinbase")
            return TxOut(output.value, output.script)
        parent = self.entries.get(place.txid)
        if parent is None or place.vout >= len(parent.tx.outputs):
            if any(one.txid == txid for one in self.unspent):
                raise Refusal("txn-already-known")
            raise Refusal("bad-txns-inputs-missingorspent")
        return parent.tx.outputs[place.vout]

    def _replaced(self, tx: Tx, fee: int) -> list[bytes]:
        """What it takes the place of, descendants included."""
        direct = {self.spent_by[one.spends] for one in tx.inputs if one.spends in self.spent_by}
        if not direct:
            return []
        all_of_them: list[bytes] = []
        waiting = sorted(direct)
        while waiting:
            txid = waiting.pop()
            if txid not in all_of_them:
                all_of_them.append(txid)
                waiting += self._children(txid)
        if any(one.spends.txid in all_of_them for one in tx.inputs):
            raise Refusal("bad-txns-spends-conflicting-tx")
        if len(all_of_them) > MAX_REPLACED:
            raise Refusal("too many potential replacements")
        old = sum(self.entries[txid].fee for txid in all_of_them)
        if any(
            fee * self.entries[txid].vsize <= self.entries[txid].fee * tx.vsize for txid in direct
        ):
            raise Refusal("insufficient fee, rejecting replacement: new feerate is not higher")
        if (fee - old) * 1000 < MIN_RATE * tx.vsize:
            raise Refusal("insufficient fee, rejecting replacement: not enough additional fees")
        return all_of_them

    def _children(self, txid: bytes) -> list[bytes]:
        outputs = range(len(self.entries[txid].tx.outputs))
        places = (OutPoint(txid, index) for index in outputs)
        return [self.spent_by[place] for place in places if place in self.spent_by]

    def _drop(self, txid: bytes) -> None:
        entry = self.entries.pop(txid)
        for one in entry.tx.inputs:
            self.spent_by.pop(one.spends, None)

    # --- the next block ---

    def template(self, min_rate: int = 0) -> tuple[list[Tx], int]:
        """Transactions for the next block, parents first, and their fees.

        With ``min_rate`` only those that pay so much, together with the parents that still wait.
        """
        chosen: dict[bytes, Entry] = {}
        weight = 0
        for txid, entry in self.entries.items():
            package = [one for one in self._ancestors(txid) if one not in chosen]
            fees = sum(self.entries[one].fee for one in package)
            size = sum(self.entries[one].vsize for one in package)
            if fees * 1000 < min_rate * size:
                continue
            if weight + 4 * size > _BLOCK_WEIGHT:
                continue
            if not all(self._is_final(self.entries[one].tx) for one in package):
                continue
            weight += 4 * size
            chosen.update((one, self.entries[one]) for one in package)
            del entry
        return [one.tx for one in chosen.values()], sum(one.fee for one in chosen.values())

    def _ancestors(self, txid: bytes) -> list[bytes]:
        """Oldest first, itself last."""
        found: list[bytes] = []
        for one in self.entries[txid].tx.inputs:
            if one.spends.txid in self.entries:
                found += (up for up in self._ancestors(one.spends.txid) if up not in found)
        return [*found, txid]
