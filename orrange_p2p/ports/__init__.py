"""The ports: what the node needs from the world, as Protocols.

Adapters implement them (``p2p``, ``store``, ``signers``, ``chains``) and import no other adapter;
``daemon`` wires them together. Each port has a conformance suite under ``tests/ports``
that every adapter passes. What settlement needs of a chain stands apart, in ``ports.chain``.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from orrange_p2p.core.entries import Entry
from orrange_p2p.core.ids import Address, Digest, Epoch, Era, MarketId, PeerId, Round, Seq, TimeMs
from orrange_p2p.core.ticks import Tick

__all__ = [
    "CheckpointRecord",
    "Clock",
    "Entropy",
    "EpochRecord",
    "GossipHandler",
    "OwnPosition",
    "PeerInfo",
    "PruneLine",
    "Record",
    "RecordKind",
    "RequestHandler",
    "Signer",
    "Store",
    "Transport",
    "Verdict",
]


class Clock(Protocol):
    """Time from outside. The core never reads it; it is handed over as an argument."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, as far as this machine knows."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds from an arbitrary start; never runs backwards."""
        ...


class Entropy(Protocol):
    """Secret randomness from outside."""

    def token(self, size: int) -> bytes:
        """``size`` unpredictable bytes."""
        ...


class Signer(Protocol):
    """Holds one secp256k1 key and signs digests; the key itself never leaves it.

    A digest is a record's (EIP-712) or a transaction's; the signer cannot tell them apart.
    """

    @property
    def address(self) -> Address:
        """The author or witness this key speaks for."""
        ...

    def sign(self, digest: Digest) -> bytes:
        """65 bytes ``r || s || v`` with low s and v in {27, 28} over a 32-byte digest."""
        ...


class Verdict(enum.Enum):
    """What a gossip handler says of a message, with gossipsub's meaning."""

    ACCEPT = "accept"
    """Valid: deliver and forward."""
    IGNORE = "ignore"
    """Of no use now (old, early, over budget): do not forward, do not blame."""
    REJECT = "reject"
    """Objectively invalid: do not forward, and the sending peer pays."""


GossipHandler = Callable[[PeerId, bytes], Awaitable[Verdict]]
"""Called with the peer that handed the message over (not its first sender) and its payload."""

RequestHandler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Called with the asking peer and its request; the returned bytes are the reply.

A ``PeerError`` resets the stream and blames the peer.
"""


class PeerInfo(NamedTuple):
    """One connected peer."""

    peer_id: PeerId
    address: str
    """The multiaddr it is connected on, as text; empty if the adapter has none."""
    topics: tuple[str, ...]
    """Topics it is subscribed to, as far as we heard."""


class Transport(Protocol):
    """Gossip and direct requests between nodes.

    Gossip is lossy and unordered; the application repairs gaps. No bytes from a peer make any
    of these calls raise anything but ``PeerError`` and ``WorldError``.
    """

    @property
    def peer_id(self) -> PeerId:
        """Our own name on the network."""
        ...

    @property
    def addresses(self) -> Sequence[str]:
        """Multiaddrs (with ``/p2p/<peer id>``) under which others can dial us."""
        ...

    async def dial(self, address: str) -> PeerId:
        """Connect to a multiaddr that ends in ``/p2p/<peer id>``; a no-op if connected.

        Raises ``ConfigError`` for an address that cannot be parsed, ``UnreachableError`` or
        ``DeadlineError`` if it cannot be reached.
        """
        ...

    async def disconnect(self, peer: PeerId) -> None:
        """Close all connections to ``peer``; a no-op if there are none."""
        ...

    def peers(self) -> Mapping[PeerId, PeerInfo]:
        """The peers connected right now."""
        ...

    async def subscribe(self, topic: str, handler: GossipHandler) -> None:
        """Join ``topic``; ``handler`` judges and takes every message of others, once per id.

        Our own messages do not come back. One handler per topic.
        """
        ...

    async def publish(self, topic: str, payload: bytes) -> None:
        """Hand ``payload`` to the mesh. Returns when queued; raises ``OversizedError`` past
        the adapter's message limit, ``WorldError`` after the transport has closed."""
        ...

    def serve(self, protocol: str, handler: RequestHandler) -> None:
        """Answer requests on a stream protocol such as ``/orrange/sync/1``."""
        ...

    async def request(
        self, peer: PeerId, protocol: str, payload: bytes, *, timeout_s: float
    ) -> bytes:
        """One request, one reply, on a stream of its own.

        Raises ``UnreachableError`` if the peer is not connected, resets or does not speak the
        protocol, ``DeadlineError`` after ``timeout_s`` seconds, ``OversizedError`` for a reply
        past the adapter's limit.
        """
        ...

    def favour(self, parts: Mapping[PeerId, float]) -> None:
        """What the owners of these peers are worth, in parts of the worthiest (0 .. 1): at best a
        small advantage, instead of what was said before. Peers need not be connected."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Running totals (drops, rejects, bytes) by name; nothing is dropped uncounted."""
        ...


class RecordKind(enum.IntEnum):
    """The two kinds of signed facts."""

    ENTRY = 0
    TICK = 1


class Record(NamedTuple):
    """A signed fact as the store keeps it: where it belongs, its name and its bytes."""

    kind: RecordKind
    market: MarketId
    signer: Address
    """The author or the witness."""
    era: Era
    """0 for an entry."""
    number: int
    """The seq of an entry, the round of a tick."""
    digest: Digest
    encoded: bytes

    @classmethod
    def of_entry(cls, entry: Entry) -> Record:
        """The record of a verified entry."""
        header = entry.header
        return cls(
            RecordKind.ENTRY,
            header.market,
            header.author,
            Era(0),
            header.seq,
            entry.digest,
            entry.encoded,
        )

    @classmethod
    def of_tick(cls, tick: Tick) -> Record:
        """The record of a verified tick."""
        header = tick.header
        return cls(
            RecordKind.TICK,
            header.market,
            header.witness,
            header.era,
            header.round,
            tick.digest,
            tick.encoded,
        )


class OwnPosition(NamedTuple):
    """The last entry or tick that one of our own keys signed in a market."""

    era: Era
    number: int
    digest: Digest


class EpochRecord(NamedTuple):
    """What the store keeps of an applied epoch."""

    epoch: Epoch
    root: bytes
    leader: Digest
    """Digest of the committed leader's tick."""
    time_ms: TimeMs


class CheckpointRecord(NamedTuple):
    """A checkpoint as the store keeps it."""

    epoch: Epoch
    encoded: bytes
    parts: tuple[bytes, ...]
    """Names of the parts it consists of; several checkpoints share them."""


class PruneLine(NamedTuple):
    """What a kept checkpoint makes idle: all that lies before."""

    epoch: Epoch
    """Epochs and checkpoints before it may go."""
    era: Era
    round: Round
    """Ticks of earlier eras, and of earlier rounds of this one."""
    logs: tuple[tuple[Address, Seq], ...]
    """(author, first seq that stays); a log not named here stays."""


class Store(Protocol):
    """What a node must not forget: signed facts in the order they came, and what it signed itself.

    Every write returns only after it would survive a power failure; concurrent writes share one
    flush. A cancelled write may or may not have happened. What is written is trusted to be
    verified. A disk that fails raises ``StoreError`` and leaves nothing half written.
    """

    async def append(self, records: Sequence[Record]) -> None:
        """Keep ``records``, in order, all or none. A digest that is there is passed over."""
        ...

    async def append_own(self, records: Sequence[Record]) -> None:
        """Keep what our own keys signed, together with how far they have signed; then send it.

        Raises ``CallerError`` and keeps nothing if a key has signed something else under that
        number or a later one: so no key signs twice, whatever the caller does and whenever the
        process dies. The very record of the last position may be appended again.
        Our own records that came back from others after a restore pass through here too.
        """
        ...

    async def own_position(
        self, kind: RecordKind, market: MarketId, signer: Address
    ) -> OwnPosition | None:
        """The last position ``append_own`` kept for a key; None if it never signed."""
        ...

    async def record_epoch(self, market: MarketId, record: EpochRecord) -> None:
        """Note an applied epoch. The same again is a no-op; another root or leader for a noted
        epoch raises ``CallerError``, since the fold is the same on every run."""
        ...

    async def epochs(
        self, market: MarketId, first: Epoch, *, limit: int = 1024
    ) -> Sequence[EpochRecord]:
        """Noted epochs from ``first`` on, ascending, at most ``limit``."""
        ...

    async def latest_epoch(self, market: MarketId) -> EpochRecord | None:
        """The highest noted epoch."""
        ...

    async def keep_parts(self, market: MarketId, parts: Mapping[bytes, bytes]) -> None:
        """Keep parts of a checkpoint by name, in place of what is under that name: who fetched
        them anew found it damaged. Hand over a few at a time: others wait meanwhile."""
        ...

    async def held_parts(self, market: MarketId, names: Sequence[bytes]) -> set[bytes]:
        """Which of these parts are kept."""
        ...

    async def part(self, market: MarketId, name: bytes) -> bytes | None:
        """One part."""
        ...

    async def keep_checkpoint(self, market: MarketId, record: CheckpointRecord) -> None:
        """Keep a checkpoint whose parts are all kept. The newest one again is a no-op.

        Raises ``CallerError``, and keeps nothing, if a part is missing or a newer one is kept.
        """
        ...

    async def checkpoint(self, market: MarketId) -> CheckpointRecord | None:
        """The newest checkpoint; all its parts are there."""
        ...

    async def drop_checkpoints(self, market: MarketId) -> None:
        """Forget all checkpoints and parts, and the epochs noted: the state here was wrong."""
        ...

    async def drop_epochs(self, market: MarketId, after: Epoch) -> None:
        """Forget the epochs noted after this one: they are computed anew."""
        ...

    async def prune(self, market: MarketId, line: PruneLine, *, limit: int = 256) -> int:
        """Forget up to ``limit`` records, epochs, checkpoints and parts that lie before the line;
        how many it were. Call again, others come in between, until it says 0.

        Where our own keys stand is never forgotten. Raises ``CallerError`` unless a checkpoint at
        or past the line's epoch is kept.
        """
        ...

    def load(self, market: MarketId) -> AsyncIterator[Sequence[Record]]:
        """All that was kept of a market when the iteration began, in the order of appending; in
        pages."""
        ...

    async def find(self, market: MarketId, digests: Sequence[Digest]) -> Sequence[Record]:
        """The records of these digests that are kept, in the order asked for."""
        ...

    async def log(
        self, market: MarketId, author: Address, first_seq: Seq, *, limit: int = 256
    ) -> Sequence[Record]:
        """Entries of an author from ``first_seq`` on, ascending by seq, at most ``limit``.

        A page ends early after 512 KiB; a forking author may have several for one seq.
        """
        ...

    async def rounds(
        self, market: MarketId, era: Era, first_round: Round, *, limit: int = 256
    ) -> Sequence[Record]:
        """Ticks of an era from ``first_round`` on, ascending by round, at most ``limit``.

        A page ends early after 512 KiB.
        """
        ...

    async def meta(self, name: str) -> bytes | None:
        """A small value kept under a name."""
        ...

    async def set_meta(self, name: str, value: bytes) -> None:
        """Keep a small value under a name. Names beginning with ``store.`` are the adapter's."""
        ...
