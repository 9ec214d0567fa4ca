"""From one era's witnesses to the next: what a follower is shown (protocol/12-eras.md, Followers).

Who trusts an era's roster needs one thing to know the next: a header that these witnesses vouch for
during the era and that names the next roster's digest. The roster itself comes along.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from orrange_p2p.core import certificates, codec
from orrange_p2p.core.certificates import MAX_CERTIFICATE_BYTES, Certificate
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import ZERO32, Era, MarketId
from orrange_p2p.core.roster import MAX_ROSTER_BYTES, Roster, decode_roster

__all__ = ["MAX_HANDOVER_BYTES", "Handover", "decode_handover", "is_handover"]

MAX_HANDOVER_BYTES: Final = MAX_ROSTER_BYTES + MAX_CERTIFICATE_BYTES + 64


def is_handover(certificate: Certificate) -> bool:
    """Whether it names the next era's roster by the word of the era's own witnesses."""
    header = certificate.header
    is_own = all(voucher.era == header.era for voucher in certificate.vouchers)
    return header.next_roster != ZERO32 and is_own


class Handover(NamedTuple):
    """The end of an era, for who knows its witnesses."""

    certificate: Certificate
    roster: bytes
    """That of the next era, encoded."""

    @property
    def era(self) -> Era:
        """The one that ends."""
        return self.certificate.header.era

    def encode(self) -> bytes:
        return codec.encode(self)

    def follow(self, genesis: Genesis, market: MarketId, known: Roster) -> Roster:
        """The roster after ``known``. Raises ``PeerError`` that says where the chain breaks."""
        header = self.certificate.header
        if header.era != known.era:
            raise InvalidError(
                f"a handover of era {header.era} where that of era {known.era} has to come"
            )
        if not is_handover(self.certificate):
            raise InvalidError(
                f"a handover whose certificate of era {header.era} names no roster, or is not of "
                "that era's witnesses alone"
            )
        self.certificate.verify(genesis, market, known)
        return self.following(header.next_roster)

    def following(self, digest: bytes) -> Roster:
        """The roster that it carries. Raises ``PeerError`` if that is not the one of this digest
        and of the next era."""
        roster = decode_roster(self.roster)
        if roster.digest != digest or roster.era != self.era + 1:
            raise InvalidError(f"not the roster of era {self.era + 1} that was committed to")
        return roster


def decode_handover(data: bytes) -> Handover:
    """The roster in it is not looked at. Raises ``OversizedError``, ``MalformedError`` or
    ``InvalidError``."""
    record = codec.array(codec.decode_canonical(data, MAX_HANDOVER_BYTES), 2, "handover")
    roster = codec.octets_upto(record[1], MAX_ROSTER_BYTES, "roster of handover")
    return Handover(certificates.from_item(record[0]), roster)
