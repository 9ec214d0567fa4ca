"""A network of one market inside one process: what replay and the ingest bench run on."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from coincurve import PrivateKey

from orrange_p2p.core.entries import Entry, draft
from orrange_p2p.core.fold import EpochFacts, Fold
from orrange_p2p.core.genesis import Genesis, Market, Parameters, Witness
from orrange_p2p.core.ids import (
    MAX_UINT63,
    ZERO32,
    Address,
    Digest,
    Epoch,
    Era,
    Round,
    Seq,
    TimeMs,
    Weight,
)
from orrange_p2p.core.operations import Operation
from orrange_p2p.crypto import secp256k1

_NEVER: Final = 1 << 40


def one_market(market: Market, start_ms: int) -> Genesis:
    """An open network of this market alone, whose limits never bite."""
    return Genesis(
        name="one market",
        home_chain="eip155:31337",
        registry=Address(bytes(20)),
        start_ms=TimeMs(start_ms),
        open=True,
        parameters=Parameters(
            operations_per_round=1 << 20,
            operations_burst=_NEVER,
            open_orders=_NEVER,
            order_lifetime_ms=_NEVER,
        ),
        witnesses=(Witness(Address(bytes(19) + b"\x01"), Weight(1), (ZERO32,)),),
        authors=(),
        markets=(market,),
    )


def new_fold(genesis: Genesis) -> Fold:
    """Its market before the first epoch."""
    return Fold(genesis, genesis.markets[0].id)


def next_epoch(fold: Fold, entries: Sequence[Entry], time_ms: int) -> EpochFacts:
    """What a committed leader would have made of these entries. Nobody reports any epoch as
    applied, so no match ever has to be accepted: it stays pending, its quantity reserved."""
    number = fold.epoch + 1
    return EpochFacts(
        Epoch(number),
        Era(0),
        Digest(ZERO32),
        TimeMs(MAX_UINT63),
        Round(number),
        Digest(ZERO32),
        TimeMs(max(time_ms, fold.time_ms)),
        number.to_bytes(32, "big"),
        tuple(sorted(entries, key=lambda entry: (entry.author, entry.seq))),
    )


class LogWriter:
    """An author with its log; the key follows from the name, so every run signs the same."""

    def __init__(self, genesis: Genesis, name: str) -> None:
        self._separator = genesis.separator
        self._market = genesis.markets[0].id
        self._key = PrivateKey(sha256(b"orrange one market " + name.encode()).digest())
        self.address = Address(secp256k1.address_of(self._key.public_key))
        self.next_seq = Seq(0)
        self._prev = Digest(ZERO32)

    def write(self, operations: Sequence[Operation]) -> Entry:
        """The next entry, signed."""
        unsigned = draft(
            self._separator, self._market, self.address, self.next_seq, self._prev, operations
        )
        self.next_seq = Seq(self.next_seq + 1)
        self._prev = unsigned.digest
        return unsigned.signed(secp256k1.sign(self._key, unsigned.digest))
