"""What the chain, and the mempool beyond it, show of the scripts that are watched.

Kept are the transactions that pay to them or spend from them, each with its height. All else is
read off these each time, so a reorganisation only takes transactions away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from orrange_p2p.crypto.bitcoin import OutPoint, Tx

__all__ = ["Ledger", "Output", "Spend"]


class Output(NamedTuple):
    """One that pays to a watched script."""

    outpoint: OutPoint
    value: int
    script: bytes
    height: int
    """Of its block; 0: it waits for one."""
    coinbase: bool


class Spend(NamedTuple):
    tx: Tx
    txid: bytes
    height: int
    """0: it waits for a block."""


class Ledger:
    """Not for changes from two tasks at once."""

    def __init__(self) -> None:
        self._watched: set[bytes] = set()
        self._heights: dict[bytes, int] = {}
        """Of every kept transaction that is in a block."""
        self._transactions: dict[bytes, Tx] = {}
        self._outputs: dict[bytes, dict[OutPoint, Output]] = {}
        """By script."""
        self._script_of: dict[OutPoint, bytes] = {}
        self._spenders: dict[OutPoint, set[bytes]] = {}

    # --- what is watched ---

    def watch(self, script: bytes) -> bool:
        """False if it was already."""
        is_new = script not in self._watched
        self._watched.add(script)
        return is_new

    def concerns(self, tx: Tx) -> bool:
        return any(one.spends in self._script_of for one in tx.inputs) or any(
            output.script in self._watched for output in tx.outputs
        )

    # --- what happens ---

    def add(self, tx: Tx, height: int) -> None:
        """In a block, or (0) waiting for one."""
        txid = tx.txid
        if height == 0 and txid in self._heights:
            return
        self._transactions[txid] = tx
        if height:
            self._heights[txid] = height
        for index, output in enumerate(tx.outputs):
            if output.script in self._watched:
                place = OutPoint(txid, index)
                self._script_of[place] = output.script
                self._outputs.setdefault(output.script, {})[place] = Output(
                    place, output.value, output.script, height, tx.is_coinbase
                )
        for one in tx.inputs:
            self._spenders.setdefault(one.spends, set()).add(txid)

    def connect(self, transactions: Iterable[Tx], height: int) -> list[Tx]:
        """Those of a block that concern us; later ones may spend earlier ones."""
        concerning = []
        for tx in transactions:
            if self.concerns(tx):
                self.add(tx, height)
                concerning.append(tx)
        return concerning

    def disconnect(self, height: int) -> None:
        """Blocks after ``height`` are gone."""
        for txid in [txid for txid, at in self._heights.items() if at > height]:
            self._remove(txid)

    def keep_waiting(self, txids: set[bytes]) -> None:
        """Of those that wait, only these still do."""
        for txid in self.waiting() - txids:
            self._remove(txid)

    def waiting(self) -> set[bytes]:
        return {txid for txid in self._transactions if txid not in self._heights}

    def _remove(self, txid: bytes) -> None:
        tx = self._transactions.pop(txid)
        self._heights.pop(txid, None)
        for index, output in enumerate(tx.outputs):
            place = OutPoint(txid, index)
            if self._script_of.pop(place, None) is not None:
                self._outputs[output.script].pop(place, None)
        for one in tx.inputs:
            spenders = self._spenders.get(one.spends, set())
            spenders.discard(txid)
            if not spenders:
                self._spenders.pop(one.spends, None)

    # --- what is asked ---

    def height_of(self, txid: bytes) -> int | None:
        """0: it waits for a block; None: it is not there."""
        return self._heights.get(txid, 0) if txid in self._transactions else None

    def mined(self) -> list[tuple[bytes, int]]:
        """All that is kept of blocks, by height."""
        return sorted(self._heights.items(), key=lambda one: one[1])

    def transaction(self, txid: bytes) -> Tx | None:
        return self._transactions.get(txid)

    def outputs(self, script: bytes) -> list[Output]:
        """Those in blocks first, in their order."""
        found = self._outputs.get(script, {}).values()
        return sorted(found, key=lambda one: (one.height == 0, one.height, one.outpoint))

    def all_outputs(self) -> Iterator[Output]:
        for outputs in self._outputs.values():
            yield from outputs.values()

    def spend(self, place: OutPoint) -> Spend | None:
        """What spends an output: in a block if anything there does."""
        spenders = self._spenders.get(place)
        if not spenders:
            return None
        txid = max(spenders, key=lambda one: (one in self._heights, one))
        return Spend(self._transactions[txid], txid, self._heights.get(txid, 0))
