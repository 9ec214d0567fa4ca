"""A whole book by the word of the witnesses, for who trusts no node (protocol/02-merkle.md).

A node hands over a certificate and the leaves of a map: of live orders, or of pending matches. The
leaves hash to a root that is in the certified header, so not one of them can be made up, changed or
left out: what is verified here is the map after that epoch, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from orrange_p2p.core import parts
from orrange_p2p.core.accounts import ORDER_KEY_BYTES, Account, LiveOrder
from orrange_p2p.core.certificates import Certificate
from orrange_p2p.core.entries import GROUP
from orrange_p2p.core.errors import InvalidError, MalformedError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import Address, MarketId
from orrange_p2p.core.matches import MATCH_KEY_BYTES, RECORD_BYTES, Match, MatchGroup
from orrange_p2p.core.operations import Side
from orrange_p2p.core.roster import Roster

__all__ = ["VerifiedBook", "VerifiedMatches", "verify_book", "verify_matches"]


class VerifiedBook(NamedTuple):
    """The live orders after the epoch of ``header``."""

    header: StateHeader
    orders: tuple[LiveOrder, ...]
    """Ascending by name. Their owners are taken to be their authors."""

    def depth(self, side: Side, levels: int) -> list[tuple[int, int, int]]:
        """(price, lots, orders) of the best levels, as a node's own book tells them."""
        found: dict[int, tuple[int, int]] = {}
        for order in self.orders:
            if order.side == side and order.open > 0 and not order.ended:
                lots, count = found.get(order.price, (0, 0))
                found[order.price] = lots + order.open, count + 1
        best = sorted(found, reverse=side is Side.BUY)[:levels]
        return [(price, *found[price]) for price in best]


def verify_book(
    genesis: Genesis,
    market: MarketId,
    certificate: Certificate,
    leaves: Sequence[tuple[bytes, bytes]],
    roster: Roster | None = None,
) -> VerifiedBook:
    """Raises ``PeerError`` that says why these show no state of this market. ``roster``: as of
    ``Certificate.verify``."""
    certificate.verify(genesis, market, roster)
    header = certificate.header
    if not _hash_to(leaves, ORDER_KEY_BYTES, header.orders):
        raise InvalidError("these are not the orders that the witnesses vouch for")
    orders: list[LiveOrder] = []
    accounts: dict[Address, Account] = {}
    for key, leaf in leaves:
        author = Address(key[:20])
        account = accounts.setdefault(author, Account(author, 0, 0, 0))
        seq, group = int.from_bytes(key[20:28], "big"), int.from_bytes(key[28:], "big")
        orders += account.group_for(seq, group * GROUP).load(leaf, author)
    return VerifiedBook(header, tuple(orders))


class VerifiedMatches(NamedTuple):
    """The matches that were pending after the epoch of ``header``."""

    header: StateHeader
    matches: tuple[Match, ...]
    """Ascending by epoch and ordinal; what the sides said in their accepts is not filled in."""


def verify_matches(
    genesis: Genesis,
    market: MarketId,
    certificate: Certificate,
    leaves: Sequence[tuple[bytes, bytes]],
    roster: Roster | None = None,
) -> VerifiedMatches:
    """As ``verify_book``."""
    certificate.verify(genesis, market, roster)
    header = certificate.header
    if not _hash_to(leaves, MATCH_KEY_BYTES, header.matches):
        raise InvalidError("these are not the matches that the witnesses vouch for")
    return VerifiedMatches(header, tuple(_matches(genesis, market, leaves)))


def _matches(
    genesis: Genesis, market: MarketId, leaves: Sequence[tuple[bytes, bytes]]
) -> Iterator[Match]:
    terms = genesis.market(market)
    for key, leaf in leaves:
        group = MatchGroup.of_key(key)
        for start in range(0, len(leaf), RECORD_BYTES):
            yield Match.of_record(terms, market, group, leaf[start : start + RECORD_BYTES])


def _hash_to(leaves: Sequence[tuple[bytes, bytes]], key_bytes: int, root: bytes) -> bool:
    if any(len(key) != key_bytes for key, _ in leaves):
        raise MalformedError("a key of the map has another length")
    if any(first[0] >= second[0] for first, second in pairwise(leaves)):
        raise MalformedError("leaves are not in ascending order of their keys, each once")
    return parts.map_of([leaves], key_bytes).root() == root
