"""Certificates: a state header that a quorum of witnesses stands for (protocol/02-merkle.md).

Whoever knows the witnesses of a network needs nothing else to be certain of a header, and so of all
that its roots commit to.
"""

from __future__ import annotations

from typing import NamedTuple

from orrange_p2p.core import codec, headers, vouchers
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import MarketId
from orrange_p2p.core.ticks import Applied
from orrange_p2p.core.vouchers import Voucher
from orrange_p2p.core.witnesses import WitnessTable


class Certificate(NamedTuple):
    """A header and those who stand for it."""

    header: StateHeader
    vouchers: tuple[Voucher, ...]
    """Of a quorum, ascending by witness."""

    def verify(self, genesis: Genesis, market: MarketId) -> None:
        """Raises ``PeerError`` unless a quorum of the network's witnesses stands for the header."""
        header = self.header
        if header.market != market:
            raise InvalidError("a certificate of another market")
        table = WitnessTable({w.address: w.weight for w in genesis.witnesses})
        applied = Applied(header.epoch, header.root)
        vouchers.verify_vouchers(self.vouchers, table, genesis.separator, market, applied)


def from_item(value: codec.Value) -> Certificate:
    """Raises ``MalformedError`` or ``InvalidError``."""
    record = codec.array(value, 2, "certificate")
    return Certificate(headers.from_item(record[0]), vouchers.from_items(record[1]))
