"""The state header: what an epoch left behind, in one record (protocol/02-merkle.md, State root).

Its hash is the state root that witnesses vouch for. It holds the roots of the three maps and all
else that decides how the market goes on, so that header and maps together are a complete state.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.errors import InvalidError
from orrange_p2p.core.ids import ZERO32, Address, Digest, Epoch, Era, MarketId, Round, TimeMs
from orrange_p2p.core.witnesses import MAX_WITNESSES

MAX_HEADER_BYTES: Final = 4096


class StateHeader(NamedTuple):
    """The state of a market after ``epoch``."""

    market: MarketId
    epoch: Epoch
    era: Era
    era_opened_by: Digest
    """The leader that closed the era before; zero for era 0."""
    era_end_ms: TimeMs
    """The first leader whose epoch time reaches this closes the era."""
    roster: bytes
    """Digest of the era's roster: who keeps the clock, and what authors are worth. Zero where
    nobody is elected and that is in genesis."""
    next_roster: bytes
    """Of the next era's, once it is due; else zero."""
    round: Round
    """Round of the committed leader."""
    leader: Digest
    seed: bytes
    time_ms: TimeMs
    """Epoch time."""
    orders: bytes
    """Root of the map of live orders, as are the next two of theirs."""
    matches: bytes
    accounts: bytes
    reported: tuple[tuple[Address, Epoch], ...]
    """Per witness, ascending, the latest epoch it is known to have applied."""
    seen: Epoch
    """The latest epoch a quorum was ever known to have applied."""
    previous: bytes
    """The root of the epoch before; zero for epoch 1."""

    @property
    def root(self) -> bytes:
        """The state root: SHA-256 of the encoded header."""
        return sha256(self.encode()).digest()

    @property
    def rosters(self) -> tuple[bytes, ...]:
        """Digests of the rosters that the state goes on by; none where nobody is elected."""
        return tuple([name for name in (self.roster, self.next_roster) if name != ZERO32])

    @property
    def closes_era(self) -> bool:
        """Whether the next epoch is the first of a new era, opened by this one's leader."""
        return self.time_ms >= self.era_end_ms

    def encode(self) -> bytes:
        return codec.encode(self)


def decode_header(data: bytes) -> StateHeader:
    """Raises ``OversizedError``, ``MalformedError`` or ``InvalidError``."""
    return from_item(codec.decode_canonical(data, MAX_HEADER_BYTES))


def from_item(value: codec.Value) -> StateHeader:
    """Raises ``MalformedError`` or ``InvalidError``."""
    record = codec.array(value, 17, "state header")
    reported = codec.items(record[14], MAX_WITNESSES, "reported of header")
    header = StateHeader(
        MarketId(codec.octets(record[0], 32, "market of header")),
        Epoch(codec.uint(record[1], "epoch of header")),
        Era(codec.uint(record[2], "era of header")),
        Digest(codec.octets(record[3], 32, "era_opened_by of header")),
        TimeMs(codec.uint(record[4], "era_end_ms of header")),
        codec.octets(record[5], 32, "roster of header"),
        codec.octets(record[6], 32, "next_roster of header"),
        Round(codec.uint(record[7], "round of header")),
        Digest(codec.octets(record[8], 32, "leader of header")),
        codec.octets(record[9], 32, "seed of header"),
        TimeMs(codec.uint(record[10], "time of header")),
        codec.octets(record[11], 32, "orders of header"),
        codec.octets(record[12], 32, "matches of header"),
        codec.octets(record[13], 32, "accounts of header"),
        tuple([_report(item) for item in reported]),
        Epoch(codec.uint(record[15], "seen of header")),
        codec.octets(record[16], 32, "previous of header"),
    )
    witnesses = [witness for witness, _ in header.reported]
    if witnesses != sorted(set(witnesses)):
        raise InvalidError("reports are not in ascending order of witnesses, each once")
    return header


def _report(value: codec.Value) -> tuple[Address, Epoch]:
    item = codec.array(value, 2, "report")
    witness = Address(codec.octets(item[0], 20, "witness of report"))
    return witness, Epoch(codec.uint(item[1], "epoch of report"))
