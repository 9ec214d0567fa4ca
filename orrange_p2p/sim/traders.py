"""Traders without intelligence: they write real, signed entries, and accept what they match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orrange_p2p.core import entries
from orrange_p2p.core.entries import Entry
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import ZERO32, Digest, Lots, Price, Seq
from orrange_p2p.core.matches import Match
from orrange_p2p.core.operations import Accept, Accepted, Operation, Place
from orrange_p2p.ports import Signer
from orrange_p2p.sim.engine import Dice

__all__ = ["Trader"]

MIDDLE: Final = 10_000
SPREAD: Final = 20
MOST_LOTS: Final = 20


class Trader:
    """The writer of one log, at one node."""

    def __init__(self, genesis: Genesis, signer: Signer, home: int, dice: Dice) -> None:
        self.home = home
        self.address = signer.address
        self._genesis = genesis
        self._signer = signer
        self._dice = dice
        self._next_seq = 0
        self._head = Digest(ZERO32)
        self._to_accept: list[Match] = []
        self._uncut: list[Entry] = []

    def uncut(self, first: int) -> list[Entry]:
        """Entries from this number on, which no epoch has cut; those before are forgotten."""
        self._uncut = [entry for entry in self._uncut if entry.seq >= first]
        return self._uncut

    @property
    def has_matches(self) -> bool:
        return bool(self._to_accept)

    def note(self, matches: Sequence[Match]) -> None:
        """Those of ours are accepted with the next entry."""
        self._to_accept += [
            match for match in matches if self.address in (match.maker.author, match.taker.author)
        ]

    def order(self) -> Operation:
        """Gode and Sunder's zero intelligence (1993), around a middle that stays."""
        dice = self._dice
        side = dice.below(2)
        away = dice.between(-SPREAD // 4, SPREAD)
        price = MIDDLE - away if side == 0 else MIDDLE + away
        return Place(side, Price(price), Lots(dice.between(1, MOST_LOTS)))

    def write(self, operations: Sequence[Operation]) -> Entry:
        """The next entry: these, and accepts of all that waits for one."""
        genesis, market_id = self._genesis, self._genesis.markets[0].id
        waiting, self._to_accept = self._to_accept, []
        all_operations = list(operations)
        if waiting:
            names = sorted(match.id for match in waiting)
            unsigned = Accept(tuple(Accepted(name, b"") for name in names), b"")
            signature = self._signer.sign(Digest(unsigned.digest(genesis.separator)))
            all_operations.append(unsigned._replace(signature=signature))
        draft = entries.draft(
            genesis.separator,
            market_id,
            self.address,
            Seq(self._next_seq),
            self._head,
            all_operations,
        )
        entry = draft.signed(self._signer.sign(draft.digest))
        self._next_seq += 1
        self._head = entry.digest
        self._uncut.append(entry)
        return entry
