"""Certificates: a state header that a quorum of witnesses stands for (protocol/02-merkle.md).

Whoever knows the witnesses of a network needs nothing else to be certain of a header, and so of all
that its roots commit to.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core import codec, headers, vouchers
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import Era, MarketId
from orrange_p2p.core.roster import Roster, of_genesis
from orrange_p2p.core.ticks import Applied
from orrange_p2p.core.vouchers import Voucher
from orrange_p2p.core.witnesses import WitnessTable

MAX_CERTIFICATE_BYTES: Final = 64 * 1024


class Certificate(NamedTuple):
    """A header and those who stand for it."""

    header: StateHeader
    vouchers: tuple[Voucher, ...]
    """Of a quorum, ascending by witness."""

    @property
    def vouched_in(self) -> Era:
        """The era whose roster judges it: that of the ticks that vouch."""
        return max((voucher.era for voucher in self.vouchers), default=self.header.era)

    def verify(self, genesis: Genesis, market: MarketId, roster: Roster | None = None) -> None:
        """Raises ``PeerError`` unless a quorum of witnesses stands for the header.

        ``roster``: the one whose word counts, of the header's era, or of the next for a header at
        its era's end. None is that of genesis: good for every era where nobody is elected, and else
        for the first.
        """
        header = self.header
        if header.market != market:
            raise InvalidError("a certificate of another market")
        table = WitnessTable({w.address: w.weight for w in genesis.witnesses})
        if genesis.parameters.elected_witnesses:
            roster = roster or of_genesis(genesis, market)
            table = roster.table
            if header.era not in (roster.era, roster.era - 1):
                raise InvalidError(f"a certificate of era {header.era} by that of {roster.era}")
            if header.era == roster.era and header.roster != roster.digest:
                raise InvalidError("a certificate under another roster")
        applied = Applied(header.epoch, header.root)
        vouchers.verify_vouchers(self.vouchers, table, genesis.separator, market, applied)


def decode_certificate(data: bytes) -> Certificate:
    """Raises ``OversizedError``, ``MalformedError`` or ``InvalidError``."""
    return from_item(codec.decode_canonical(data, MAX_CERTIFICATE_BYTES))


def from_item(value: codec.Value) -> Certificate:
    """Raises ``MalformedError`` or ``InvalidError``."""
    record = codec.array(value, 2, "certificate")
    return Certificate(headers.from_item(record[0]), vouchers.from_items(record[1]))
