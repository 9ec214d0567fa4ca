"""Checkpoints: certified states that a node can start from (protocol/02-merkle.md, Checkpoints).

A checkpoint is a certified state header and the skeletons of the three maps whose roots the header
holds. It names every part of the state, so whoever knows the witnesses can fetch the state from
anybody, piece by piece, and needs to trust none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from typing import Final, NamedTuple

from orrange_p2p.core import certificates, codec, parts
from orrange_p2p.core.accounts import ACCOUNT_KEY_BYTES, ORDER_KEY_BYTES
from orrange_p2p.core.certificates import Certificate
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import Era, MarketId
from orrange_p2p.core.matches import MATCH_KEY_BYTES, MAX_SAID_BYTES, terms_named
from orrange_p2p.core.merkle import MapView
from orrange_p2p.core.parts import Skeleton
from orrange_p2p.core.roster import Roster, decode_roster
from orrange_p2p.core.state import Leaves, StateView
from orrange_p2p.core.vouchers import Voucher

CHECKPOINT_EPOCHS: Final = 256
"""How often a checkpoint is kept: of every so many epochs the first certified one."""
MAX_CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
MAX_PENDING: Final = 8
"""Reported epochs whose state is kept while it waits for its quorum."""
MAX_KEPT: Final = 2
"""Checkpoints kept: whoever is fetching the last but one has until the next to finish."""


class Checkpoint(NamedTuple):
    """A certified header, and what its maps consist of."""

    certificate: Certificate
    orders: Skeleton
    matches: Skeleton
    accounts: Skeleton

    @property
    def header(self) -> StateHeader:
        return self.certificate.header

    @property
    def part_names(self) -> tuple[bytes, ...]:
        """Everything to fetch, each once, before the terms are known."""
        skeletons = (self.orders, self.matches, self.accounts)
        found = [name for skeleton in skeletons for name in parts.names(skeleton)]
        return tuple(dict.fromkeys([*found, *self.header.rosters]))

    def encode(self) -> bytes:
        return codec.encode(self)

    def verify(self, genesis: Genesis, market: MarketId, roster: Roster | None = None) -> None:
        """Raises ``PeerError`` unless a quorum of the witnesses stands for this state. ``roster``:
        as of ``Certificate.verify``."""
        header = self.header
        if header.epoch % genesis.parameters.applied_interval_epochs:
            raise InvalidError("a checkpoint of an epoch that no witness reports")
        for name in ("orders", "matches", "accounts"):
            if parts.skeleton_root(getattr(self, name)) != getattr(header, name):
                raise InvalidError(f"the skeleton of the {name} is not that of the header")
        self.certificate.verify(genesis, market, roster)

    def check_part(self, name: bytes, data: bytes) -> None:
        """Raises ``PeerError`` if ``data`` is not the part of that name, one of ``part_names``."""
        if name in self.header.rosters:
            _roster(name, data)
            return
        for skeleton, key_bytes in self._maps():
            if name in skeleton:
                parts.decode_part(data, name, key_bytes)
                return
        raise InvalidError("not a part of the checkpoint")

    def rosters(self, blobs: Mapping[bytes, bytes]) -> dict[Era, Roster]:
        """Those that the header names, by era. Errors as ``leaves``'."""
        found = [_roster(name, blobs[name]) for name in self.header.rosters]
        eras = [roster.era for roster in found]
        if eras != [self.header.era, self.header.era + 1][: len(found)]:
            raise InvalidError("the rosters of a checkpoint are of other eras")
        return {Era(roster.era): roster for roster in found}

    def terms_named(self, blobs: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
        """What else to fetch, once all parts are here: the terms of matches, by their SHA-256."""
        leaves = parts.leaves_of(self.matches, blobs, MATCH_KEY_BYTES)
        return tuple(dict.fromkeys(name for _, leaf in leaves for name in terms_named(leaf)))

    def leaves(self, blobs: Mapping[bytes, bytes]) -> Leaves:
        """The whole state. ``blobs``: parts and terms by name.

        Raises ``PeerError`` for one that is not what its name says, ``KeyError`` for a missing one.
        """
        orders, matches, accounts = (
            parts.leaves_of(skeleton, blobs, key_bytes) for skeleton, key_bytes in self._maps()
        )
        terms = {}
        for name in self.terms_named(blobs):
            check_terms(name, blobs[name])
            terms[name] = blobs[name]
        return Leaves(orders, matches, accounts, terms)

    def _maps(self) -> tuple[tuple[Skeleton, int], ...]:
        return (
            (self.orders, ORDER_KEY_BYTES),
            (self.matches, MATCH_KEY_BYTES),
            (self.accounts, ACCOUNT_KEY_BYTES),
        )


def _roster(name: bytes, data: bytes) -> Roster:
    roster = decode_roster(data)
    if roster.digest != name:
        raise InvalidError("this is not the roster of that name")
    return roster


def check_terms(name: bytes, data: bytes) -> None:
    """Raises ``InvalidError`` if ``data`` are not the terms of that name."""
    if len(data) > MAX_SAID_BYTES or sha256(data).digest() != name:
        raise InvalidError("these are not the terms of that name")


def decode_checkpoint(data: bytes) -> Checkpoint:
    """Raises ``OversizedError``, ``MalformedError`` or ``InvalidError``."""
    record = codec.array(codec.decode_canonical(data, MAX_CHECKPOINT_BYTES), 4, "checkpoint")
    return Checkpoint(
        certificates.from_item(record[0]),
        parts.skeleton_from_items(record[1]),
        parts.skeleton_from_items(record[2]),
        parts.skeleton_from_items(record[3]),
    )


class CertifiedState:
    """A state that a quorum vouches for, held whole: what others are served from.

    Its views do not change, so worker threads may read it while the fold goes on.
    """

    def __init__(
        self, view: StateView, beside: Mapping[bytes, bytes], vouchers: tuple[Voucher, ...]
    ) -> None:
        """``beside``: by their SHA-256 what the state names and its maps do not hold: terms of
        matches, rosters."""
        self.view = view
        self.certificate = Certificate(view.header, vouchers)
        self._beside = beside

    @property
    def header(self) -> StateHeader:
        return self.view.header

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The first call walks the whole state."""
        orders, matches, accounts = (skeleton for skeleton, _ in self._split)
        return Checkpoint(self.certificate, orders, matches, accounts)

    def roster(self, digest: bytes) -> bytes | None:
        """The encoded roster of this digest, if the state goes on by it."""
        return self._beside.get(digest) if digest in self.header.rosters else None

    @property
    def names(self) -> tuple[bytes, ...]:
        """Everything that ``part`` answers for."""
        return tuple(dict.fromkeys((*self.checkpoint.part_names, *self._beside)))

    def part(self, name: bytes) -> bytes | None:
        """The encoded part, terms or roster of that name."""
        for _, found in self._split:
            if name in found:
                return parts.encode_part(found[name])
        return self._beside.get(name)

    @cached_property
    def _split(self) -> tuple[tuple[Skeleton, dict[bytes, MapView]], ...]:
        view = self.view
        return tuple([parts.split(tree) for tree in (view.orders, view.matches, view.accounts)])


class Snapshots:
    """The states of reported epochs: those that wait for their quorum, and those that have it."""

    def __init__(self, checkpoint_epochs: int) -> None:
        self._interval = checkpoint_epochs
        self._pending: dict[int, tuple[StateView, dict[bytes, bytes]]] = {}
        self.latest: CertifiedState | None = None
        """The latest certified state: proofs come from it."""
        self.kept: tuple[CertifiedState, ...] = ()
        """Checkpoints that joining nodes may be fetching, oldest first."""
        self._last_kept = 0

    def resume(self, epoch: int) -> None:
        """Nothing before ``epoch`` is at hand; it is a checkpoint itself."""
        self._last_kept = epoch // self._interval

    def add(self, view: StateView, beside: dict[bytes, bytes]) -> None:
        """The state of an epoch that witnesses report; ``beside`` as in ``CertifiedState``."""
        if len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[view.header.epoch] = (view, beside)

    def certify(self, epoch: int, vouchers: tuple[Voucher, ...]) -> None:
        """A quorum vouches for the root that the epoch has here too."""
        found = self._pending.get(epoch)
        if found is None:
            return  # it took longer than the states of so many later epochs are kept
        self.latest = CertifiedState(*found, vouchers)
        self._pending = {e: waiting for e, waiting in self._pending.items() if e > epoch}
        if epoch // self._interval > self._last_kept:
            self._last_kept = epoch // self._interval
            self.kept = (*self.kept, self.latest)[-MAX_KEPT:]
