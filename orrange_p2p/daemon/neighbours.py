"""Finding and keeping peers: greet whoever connects, remember our own, dial when few are there.

Who belongs to another network or speaks no common version is told from friends by its hello and
let go, with a line in the log that says why (protocol/06-peers.md).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
import trio
from attrs import define

import orrange_p2p
from orrange_p2p.core import hello
from orrange_p2p.core.errors import ConfigError, MalformedError, PeerError, WorldError
from orrange_p2p.core.hello import MAX_ADDRESSES, MAX_KNOWN, Hello, Versions, decode_hello
from orrange_p2p.core.ids import MarketId, PeerId
from orrange_p2p.daemon.peer_book import (
    PeerBook,
    RememberedPeer,
    is_local,
    name_of,
    reachable_from,
)
from orrange_p2p.ports import Clock, PeerInfo, Store, Transport

__all__ = ["Neighbours", "PeerRow"]

log = structlog.get_logger()

BOOK: Final = "peers"
"""Name of the peer book in the store."""
LOOK_EVERY_S: Final = 0.25
TARGET_PEERS: Final = 12
"""While fewer are connected, remembered ones are dialled. Twice a mesh's degree of six."""
DIALS_AT_ONCE: Final = 4
HELLO_TIMEOUT_S: Final = 5.0
HELLO_TRIES: Final = 3
EXCHANGE_MS: Final = 5 * 60_000
LONELY_EXCHANGE_MS: Final = 30_000
"""How often neighbours are asked again, and whom they know, while there are fewer than wanted."""
SAVE_MS: Final = 2000
GRACE_MS: Final = 500
"""Between the hello of a stranger and our hanging up: its answer has to reach it."""
STRANGER_MS: Final = 10 * 60_000
"""A peer of another network or version is not dialled for so long: it may have been updated."""
MAX_STRANGERS: Final = 1024


@define
class _Greeting:
    """What we know of a connected peer."""

    tries: int = 0
    due_ms: int = 0
    is_asking: bool = False
    let_go_ms: int = 0
    """When a stranger has had its answer."""
    hello: Hello | None = None


@define(frozen=True)
class PeerRow:
    """One peer as the operator sees it."""

    peer_id: PeerId
    is_connected: bool
    addresses: Sequence[str]
    versions: str
    agent: str
    markets: int
    seen_ms: int
    failures: int
    is_kept: bool


class Neighbours:
    """The peers of one node. ``run`` does the work."""

    def __init__(
        self,
        transport: Transport,
        store: Store,
        clock: Clock,
        counters: Counter[str],
        *,
        network_id: bytes,
        markets: Sequence[MarketId],
        bootstrap: Sequence[str] = (),
        announce: Sequence[str] = (),
        versions: Versions = hello.VERSIONS,
    ) -> None:
        self._transport = transport
        self._store = store
        self._clock = clock
        self._counters = counters
        self._network_id = network_id
        self._markets = tuple(markets)
        self._announce = tuple(announce)
        self._bootstrap = tuple(bootstrap)
        self.versions = versions
        self._book = PeerBook()
        self._greetings: dict[PeerId, _Greeting] = {}
        self._strangers: dict[PeerId, int] = {}
        self._dialling: set[PeerId] = set()
        self._is_changed = False
        self._save_due_ms = 0

    # --- what the node asks ---

    def spoken(self) -> set[int]:
        """The wire versions in use with connected peers; our highest while there are none.

        A peer that said no hello counts as one that speaks what we do.
        """
        found = {
            common
            for greeting in self._greetings.values()
            if greeting.hello is not None
            and (common := self.versions.common(greeting.hello.versions)) is not None
        }
        is_unsure = any(greeting.hello is None for greeting in self._greetings.values())
        return found | ({self.versions.highest} if is_unsure or not found else set())

    def keep(self, address: str) -> None:
        """Stay connected with the peer at ``address``, and dial it again whenever it is lost."""
        peer_id = name_of(address)
        if peer_id and peer_id != self._transport.peer_id:
            peer = self._book.remember(peer_id)
            peer.add([address])
            peer.is_kept = True

    def hear(self, address: str) -> None:
        """A rumour from the local network: dialled while there are too few peers."""
        peer_id = name_of(address)
        if peer_id and peer_id != self._transport.peer_id:
            self._book.remember(peer_id).add([address])

    def favour(self, parts: Mapping[PeerId, float]) -> None:
        """What owners of peers are worth, 0 .. 1: of those that were found where they said, the
        worthier are kept longer and dialled earlier."""
        self._book.favour(parts)

    def rows(self) -> list[PeerRow]:
        """Connected and remembered peers, connected ones first."""
        connected = self._transport.peers()
        names = [*connected, *(p.peer_id for p in self._book.best_first())]
        return [self._row(name, connected.get(name)) for name in dict.fromkeys(names)]

    def _row(self, name: PeerId, info: PeerInfo | None) -> PeerRow:
        peer = self._book.get(name) or RememberedPeer(name)
        greeting = self._greetings.get(name)
        said = greeting.hello if greeting is not None else None
        addresses = [info.address] if info is not None and info.address else []
        return PeerRow(
            name,
            info is not None,
            list(dict.fromkeys(addresses + peer.addresses)),
            str(said.versions) if said else "",
            said.agent if said else "",
            len(said.markets) if said else 0,
            peer.seen_ms,
            peer.failures,
            peer.is_kept,
        )

    # --- the work ---

    async def run(self) -> None:
        """Greet, dial and remember until cancelled."""
        await self._load()
        self._transport.serve(hello.PROTOCOL, self._on_hello)
        async with trio.open_nursery() as nursery:
            while True:
                self._look(nursery)
                await self._save()
                await trio.sleep(LOOK_EVERY_S)

    async def _load(self) -> None:
        saved = await self._store.meta(BOOK)
        if saved is not None:
            try:
                self._book = PeerBook.decode(saved)
            except MalformedError as error:
                log.warning("remembered peers are unreadable and forgotten", error=str(error))
        for address in self._bootstrap:
            self.keep(address)

    async def _save(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if self._is_changed and self._save_due_ms <= now_ms:
            self._is_changed = False
            self._save_due_ms = now_ms + SAVE_MS
            await self._store.set_meta(BOOK, self._book.encode())

    def _look(self, nursery: trio.Nursery) -> None:
        """One turn: nothing here waits."""
        now_ms = self._clock.monotonic_ms()
        connected = self._transport.peers()
        for name in [name for name in self._greetings if name not in connected]:
            del self._greetings[name]
        for name, info in connected.items():
            greeting = self._greetings.setdefault(name, _Greeting())
            if self._why_not(greeting.hello):
                if greeting.let_go_ms <= now_ms:
                    greeting.let_go_ms = now_ms + 10 * GRACE_MS
                    nursery.start_soon(self._transport.disconnect, name)
            elif not greeting.is_asking and greeting.due_ms <= now_ms:
                greeting.is_asking = True
                nursery.start_soon(self._greet, name, info.address, greeting)
        is_lonely = len(connected) < TARGET_PEERS
        for peer in self._book.best_first():
            if len(self._dialling) >= DIALS_AT_ONCE:
                break
            is_due = peer.retry_ms <= now_ms and self._strangers.get(peer.peer_id, 0) <= now_ms
            is_free = peer.peer_id not in connected and peer.peer_id not in self._dialling
            if is_due and is_free and (peer.is_kept or is_lonely):
                self._dialling.add(peer.peer_id)
                nursery.start_soon(self._dial, peer)

    async def _dial(self, peer: RememberedPeer) -> None:
        """Try all addresses of a peer, the one that worked last time first."""
        try:
            for address in list(peer.addresses):
                try:
                    await self._transport.dial(address)
                except (WorldError, ConfigError) as error:
                    log.debug("dial failed", peer=peer.peer_id, address=address, error=str(error))
                    continue
                log.info("connected", peer=peer.peer_id, address=address)
                peer.add([address], first=True)
                peer.is_proven = True
                peer.failures = 0
                # A peer that hangs up at once is not dialled in a tight loop.
                peer.retry_ms = self._clock.monotonic_ms() + 1000
                return
            peer.failed(self._clock.monotonic_ms())
            self._counters["dials_failed"] += 1
        finally:
            self._dialling.discard(peer.peer_id)

    # --- hello ---

    def _hello(self, peer: PeerId) -> Hello:
        """What we say to ``peer``: of others, only addresses it could use."""
        info = self._transport.peers().get(peer)
        where = info.address if info is not None else ""
        known = [
            other.addresses[0]
            for other in self._book.best_first()
            if other.seen_ms and other.addresses and other.peer_id != peer
            if is_local(where) or not is_local(other.addresses[0])
        ]
        addresses = [*self._announce, *self._transport.addresses][:MAX_ADDRESSES]
        return Hello(
            self._network_id,
            self.versions,
            f"orrange/{orrange_p2p.__version__}",
            self._markets,
            tuple(addresses),
            tuple(random.sample(known[: 2 * MAX_KNOWN], min(len(known), MAX_KNOWN))),
        )

    async def _greet(self, peer: PeerId, where: str, greeting: _Greeting) -> None:
        now_ms = self._clock.monotonic_ms()
        is_lonely = len(self._greetings) < TARGET_PEERS
        greeting.due_ms = now_ms + (LONELY_EXCHANGE_MS if is_lonely else EXCHANGE_MS)
        try:
            payload = self._hello(peer).encode()
            reply = await self._transport.request(
                peer, hello.PROTOCOL, payload, timeout_s=HELLO_TIMEOUT_S
            )
            self._met(peer, where, greeting, decode_hello(reply))
        except WorldError:
            # It may still be starting. One that never says hello is heard, not remembered.
            greeting.tries += 1
            if greeting.tries < HELLO_TRIES:
                greeting.due_ms = now_ms + 1000 * greeting.tries
            else:
                self._counters["peers_without_hello"] += greeting.tries == HELLO_TRIES
        except PeerError as error:
            self._counters["hellos_malformed"] += 1
            log.warning("peer's hello is malformed", peer=peer, error=str(error))
            await self._transport.disconnect(peer)
        finally:
            greeting.is_asking = False

    async def _on_hello(self, peer: PeerId, payload: bytes) -> bytes:
        """The transport's request handler. Strangers are answered too, so that they can tell
        their operator."""
        said = decode_hello(payload)
        info = self._transport.peers().get(peer)
        if info is not None:
            greeting = self._greetings.setdefault(peer, _Greeting())
            if greeting.hello is None or greeting.hello.versions != said.versions:
                self._met(peer, info.address, greeting, said)
        return self._hello(peer).encode()

    def _met(self, peer: PeerId, where: str, greeting: _Greeting, said: Hello) -> None:
        greeting.hello = said
        if why_not := self._why_not(said):
            now_ms = self._clock.monotonic_ms()
            greeting.let_go_ms = now_ms + GRACE_MS
            self._counters["peers_strange"] += 1
            if self._strangers.get(peer, 0) <= now_ms:  # once, however often it comes back
                log.warning("peer is let go", peer=peer, address=where, agent=said.agent, **why_not)
            if len(self._strangers) >= MAX_STRANGERS:
                del self._strangers[next(iter(self._strangers))]
            self._strangers[peer] = now_ms + STRANGER_MS
            known = self._book.get(peer)
            if known is not None and not known.is_kept:
                self._book.forget(peer)
            return
        friend = self._book.remember(peer)
        self._is_changed = True
        friend.seen_ms = self._clock.wall_ms()
        friend.add([a for a in reachable_from(said.addresses, where) if name_of(a) == peer])
        for address in reachable_from(said.known, where):
            name = name_of(address)
            if name and name not in (peer, self._transport.peer_id):
                other = self._book.get(name)
                if other is None or not other.seen_ms:  # what we found out ourselves stands
                    self._book.remember(name).add([address])

    def _why_not(self, said: Hello | None) -> dict[str, str]:
        """Empty for one of ours; else what to log."""
        if said is None:
            return {}
        if said.network_id != self._network_id:
            return {
                "reason": "another network",
                "theirs": "0x" + said.network_id.hex(),
                "ours": "0x" + self._network_id.hex(),
                "what_to_do": "nothing, unless it should be ours: then compare the network.toml",
            }
        if self.versions.common(said.versions) is None:
            is_behind = said.versions.lowest > self.versions.highest
            return {
                "reason": "no common version",
                "theirs": str(said.versions),
                "ours": str(self.versions),
                "what_to_do": "update this node" if is_behind else "that node has to be updated",
            }
        return {}
