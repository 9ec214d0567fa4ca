"""What witnesses vouch for: checkpoints, and the alarm when they contradict one another.

Every tick reports the state root of an epoch its witness applied (protocol/03-clock.md, Applied
roots). Only reports in committed ticks count, so that every node reads the same ones in the same
order. Equal roots of a quorum are a checkpoint. Two roots of one epoch with more than a third of
the weight each mean that honest witnesses computed different states: matching stops. A root of a
quorum that is not ours means that it is our state that is wrong. One liar changes nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final, NamedTuple

from orrange_p2p.core.ids import Address, Digest, Epoch
from orrange_p2p.core.ticks import Applied, Tick
from orrange_p2p.core.vouchers import Voucher, voucher_of
from orrange_p2p.core.witnesses import WitnessTable

REMEMBERED: Final = 64
"""Reported epochs and own roots that are kept; older ones are settled or hopeless."""


class HaltReason(enum.Enum):
    """Why a market stands still here."""

    DIVERGED = "diverged"
    """Witnesses of more than a third each vouch for different roots of one epoch."""
    CONTRADICTED = "contradicted"
    """A quorum vouches for another root than ours."""


class Report(NamedTuple):
    """Who vouches for a root, and the first tick of each that says so: evidence."""

    root: bytes
    witnesses: tuple[Address, ...]
    ticks: tuple[Digest, ...]


class Halt(NamedTuple):
    """The market stands still from here on. ``reports`` are kept as evidence."""

    reason: HaltReason
    epoch: Epoch
    own_root: bytes
    reports: tuple[Report, ...]


class _Said(NamedTuple):
    tick: Digest
    voucher: Voucher


class RootReports:
    """Reports of committed ticks, by epoch and root."""

    def __init__(self, table: WitnessTable) -> None:
        self._table = table
        self._reports: dict[Epoch, dict[bytes, dict[Address, _Said]]] = {}
        self._own: dict[Epoch, bytes] = {}
        self.checkpoint = Applied(Epoch(0), bytes(32))
        """The latest epoch and root that a quorum vouches for and that we computed too."""
        self.vouchers: tuple[Voucher, ...] = ()
        """Those of the quorum for ``checkpoint``."""

    def begin_era(self, table: WitnessTable) -> None:
        """Other witnesses, other weights: what the former ones said of late epochs is void."""
        self._table = table
        self._reports.clear()

    def resume(self, applied: Applied, vouchers: tuple[Voucher, ...]) -> None:
        """Go on from a checkpoint."""
        self.checkpoint, self.vouchers = applied, vouchers
        self.note_own(*applied)

    def note_own(self, epoch: Epoch, root: bytes) -> None:
        """An epoch that is reported was applied here."""
        if len(self._own) >= REMEMBERED:
            del self._own[next(iter(self._own))]
        self._own[epoch] = root

    def absorb(self, ticks: Iterable[Tick], applied: Epoch) -> Halt | None:
        """Count the reports of newly committed ticks; why to stop, if there is a reason.

        Reports of epochs beyond ``applied``, the latest applied here, cannot be honest: these ticks
        were committed before such an epoch was.
        """
        for tick in ticks:
            epoch, root = tick.applied
            if not 0 < epoch <= applied or tick.witness not in self._table:
                continue
            if epoch not in self._reports and not self._has_room(epoch):
                continue
            by_root = self._reports.setdefault(epoch, {})
            if tick.witness in by_root.get(root, ()):
                continue
            by_root.setdefault(root, {})[tick.witness] = _Said(tick.digest, voucher_of(tick))
            halt = self._judge(epoch, by_root)
            if halt is not None:
                return halt
        return None

    def _has_room(self, epoch: Epoch) -> bool:
        """Old epochs give way to later ones, not the other way round."""
        if len(self._reports) < REMEMBERED:
            return True
        oldest = min(self._reports)
        if epoch < oldest:
            return False
        del self._reports[oldest]
        return True

    def _judge(self, epoch: Epoch, by_root: dict[bytes, dict[Address, _Said]]) -> Halt | None:
        table = self._table
        weights = {root: table.weight_of_set(said) for root, said in by_root.items()}
        supported = [root for root in sorted(by_root) if table.more_than_third(weights[root])]
        own = self._own.get(epoch)
        if len(supported) > 1:
            return self._halt(HaltReason.DIVERGED, epoch, supported)
        for root in supported:
            if weights[root] < table.quorum or own is None:
                continue
            if root != own:
                return self._halt(HaltReason.CONTRADICTED, epoch, [root])
            if epoch > self.checkpoint.epoch:
                self.checkpoint = Applied(epoch, root)
                said = by_root[root]
                self.vouchers = tuple([said[witness].voucher for witness in sorted(said)])
        return None

    def _halt(self, reason: HaltReason, epoch: Epoch, roots: list[bytes]) -> Halt:
        said = self._reports[epoch]
        reports = tuple(
            Report(
                root,
                tuple(sorted(said[root])),
                tuple(said[root][w].tick for w in sorted(said[root])),
            )
            for root in roots
        )
        return Halt(reason, epoch, self._own.get(epoch, b""), reports)
