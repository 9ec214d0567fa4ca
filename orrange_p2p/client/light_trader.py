"""Trading without a node of one's own: a log that its author keeps and signs itself.

Nodes that nobody has to trust carry entries to the network and show its certified state. What is
signed is durable here before any of them sees it, so no crash and no lie makes a key sign twice
under one number. A match is accepted when a quorum of the witnesses shows it, which is also when
its deadline begins, and when it is of an order in the own log, at its price or a better one.

It trades in no market of swaps: a swap over two chains takes a node that watches
both of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import httpx
import structlog
import trio

from orrange_p2p.client.light import TIMEOUT_S, Found, LightClient, Verdict, Word, ask_node
from orrange_p2p.client.rosters import LateError, Trusted, Walk, octets
from orrange_p2p.core import entries
from orrange_p2p.core.entries import Entry, decode_entry
from orrange_p2p.core.errors import (
    ConfigError,
    InvalidError,
    MalformedError,
    PeerError,
    RefusedError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import ZERO32, Address, Digest, MarketId, MatchId, OrderId, Seq
from orrange_p2p.core.matches import Match
from orrange_p2p.core.operations import (
    MAX_ACCEPTED,
    Accept,
    Accepted,
    Amend,
    Operation,
    Place,
    Side,
)
from orrange_p2p.core.proofs import decode_account_proof, verify_account
from orrange_p2p.ports import Record, RecordKind, Signer, Store

__all__ = ["LightTrader", "Submitted"]

LOOK_S: Final = 1.0
"""How often is looked for matches: the deadline of one is some sixteen seconds."""
MAX_WAITING: Final = 30
"""Entries that are not certified as cut; a node shows and takes few more."""
_CONFLICT: Final = 409

log = structlog.get_logger()


class _Known(NamedTuple):
    """How far a node knows our log."""

    next_seq: Seq
    head: Digest
    entries: tuple[Entry, ...]
    """Those that are not certified as cut."""
    is_frozen: bool


class Submitted(NamedTuple):
    """Where operations stand now, and what each node said."""

    names: tuple[OrderId, ...]
    words: tuple[Word, ...]


class LightTrader:
    """One author in one market, over several nodes. ``open`` it before use."""

    def __init__(
        self,
        genesis: Genesis,
        market: MarketId,
        urls: Sequence[str],
        signer: Signer,
        store: Store,
        *,
        is_store_complete: bool = True,
        trusted: Mapping[MarketId, Trusted] | None = None,
    ) -> None:
        """``is_store_complete``: the store knows all that the key has signed. If it does not, the
        nodes have to tell, every one of them. ``trusted``: as of ``LightClient``. Raises
        ``ConfigError`` for no node, or for a market of swaps."""
        self.market = genesis.market(market)
        if self.market.settlement == "htlc":
            raise ConfigError("this market settles by swaps over two chains: run a node for it")
        self._genesis = genesis
        self._market_id = market
        self._client = LightClient(genesis, urls, trusted=trusted)
        self._signer = signer
        self._store = store
        self._is_store_complete = is_store_complete
        self._writing = trio.Lock()
        self._next_seq = Seq(0)
        self._head = Digest(ZERO32)
        self._certified_seq = Seq(0)
        """All before it is in the certified state."""
        self._accepted: set[MatchId] = set()
        self._declined: set[MatchId] = set()

    @property
    def author(self) -> Address:
        """Whose log it is."""
        return self._signer.address

    @property
    def urls(self) -> tuple[str, ...]:
        """Of the nodes."""
        return self._client.urls

    @urls.setter
    def urls(self, urls: Sequence[str]) -> None:
        self._client = LightClient(self._genesis, urls, trusted=self._client.trusted)

    @property
    def trusted(self) -> dict[MarketId, Trusted]:
        """How far the witnesses were followed."""
        return self._client.trusted

    @property
    def next_seq(self) -> Seq:
        """Number of the next entry."""
        return self._next_seq

    async def open(self) -> tuple[Word, ...]:
        """Learn where the log stands, here and in the network; what each node is worth.

        Raises ``UnreachableError`` if too few nodes answer, ``WorldError`` if the author is frozen.
        """
        owner = self._signer.address
        last = await self._store.own_position(RecordKind.ENTRY, self._market_id, owner)
        if last is not None:
            self._next_seq, self._head = Seq(last.number + 1), last.digest
        known, words = await self._ask_all()
        silent = [word for word in words if word.url not in known]
        if not known or (silent and not self._is_store_complete):
            told = "; ".join(f"{word.url}: {word.reason}" for word in silent)
            raise UnreachableError(
                f"how far this key has signed is not known here, so every node has to tell: {told}"
                if known
                else f"no node tells how far the log goes: {told}"
            )
        if any(one.is_frozen for one in known.values()):
            raise WorldError("this author is frozen: its key has signed two entries of one number")
        newest = max(known.values(), key=lambda one: one.next_seq)
        if newest.next_seq > self._next_seq:
            await self._adopt(newest)
        for one in known.values():
            for entry in one.entries:
                self._note_accepts(entry.operations)
        return words

    async def _adopt(self, known: _Known) -> None:
        """Go on after what the network has of us: it was signed before this store began."""
        kept = [entry for entry in known.entries if entry.seq >= self._next_seq]
        await self._store.append_own([Record.of_entry(entry) for entry in kept])
        self._next_seq, self._head = known.next_seq, known.head

    # --- what we say ---

    async def submit(self, operations: Sequence[Operation]) -> Submitted:
        """Sign operations in one entry, and hand it to every node.

        Raises ``InvalidError`` for what others would refuse, ``WorldError`` if too much waits to
        be committed: then nothing is signed. Raises ``UnreachableError`` if no node took it: it is
        signed and kept, and handed in again by the next call or by ``run``.
        """
        async with self._writing:
            waiting = self._next_seq - self._certified_seq
            if waiting >= MAX_WAITING:
                raise WorldError(f"{waiting} entries wait to be committed: try again in a while")
            draft = entries.draft(
                self._genesis.separator,
                self._market_id,
                self._signer.address,
                self._next_seq,
                self._head,
                operations,
            )
            entry = draft.signed(self._signer.sign(draft.digest))
            await self._store.append_own([Record.of_entry(entry)])
            self._next_seq, self._head = Seq(entry.seq + 1), entry.digest
            self._note_accepts(operations)
        words = await self._hand_in(entry)
        if not any(word.verdict is Verdict.SOUND for word in words):
            told = "; ".join(f"{word.url}: {word.reason}" for word in words)
            raise UnreachableError(
                f"no node took entry {entry.seq}, which is signed and kept; it is handed in again "
                f"with the next one: {told}"
            )
        places = range(len(operations))
        names = tuple(OrderId(self._signer.address, entry.seq, place) for place in places)
        return Submitted(names, words)

    async def place(self, order: Place) -> OrderId:
        """Place an order. Errors as ``submit``'s."""
        return (await self.submit([order])).names[0]

    async def hand_in(self) -> tuple[Word, ...]:
        """Hand in again what the network has not certified as cut."""
        return await self._hand_in(None)

    async def _hand_in(self, newest: Entry | None) -> tuple[Word, ...]:
        words: dict[str, Word] = {}

        async def hand_to(http: httpx.AsyncClient, url: str) -> None:
            try:
                if newest is None or not await self._takes(http, url, newest):
                    walk = self._client.walk(http, url, self._market_id)
                    known = await self._ask(http, url, walk)
                    for entry in await self._own_from(known.next_seq):
                        await self._give(http, url, entry)
                words[url] = Word(url, Verdict.SOUND)
            except LateError as error:
                words[url] = Word(url, Verdict.STALE, str(error))
            except PeerError as error:
                words[url] = Word(url, Verdict.LIES, str(error))
            except WorldError as error:
                words[url] = Word(url, Verdict.SILENT, str(error))

        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as http,
            trio.open_nursery() as nursery,
        ):
            for url in self.urls:
                nursery.start_soon(hand_to, http, url)
        return tuple(words[url] for url in self.urls)

    async def _takes(self, http: httpx.AsyncClient, url: str, entry: Entry) -> bool:
        """False if the node cannot take it now, perhaps for what it lacks before it."""
        try:
            await self._give(http, url, entry)
        except RefusedError as error:
            if error.code != _CONFLICT:
                raise
            return False
        return True

    async def _give(self, http: httpx.AsyncClient, url: str, entry: Entry) -> None:
        body = {"market": f"0x{self._market_id.hex()}", "entry": f"0x{entry.encoded.hex()}"}
        await ask_node(http, "POST", f"{url}/v1/entries", json=body)

    async def _own_from(self, first: Seq) -> list[Entry]:
        records = await self._store.log(self._market_id, self._signer.address, first)
        separator = self._genesis.separator
        return [decode_entry(record.encoded, separator, self._market_id) for record in records]

    # --- what nodes know of us ---

    async def _ask_all(self) -> tuple[dict[str, _Known], tuple[Word, ...]]:
        known: dict[str, _Known] = {}
        words: dict[str, Word] = {}

        async def ask_one(http: httpx.AsyncClient, url: str) -> None:
            try:
                known[url] = await self._ask(http, url, walks[url])
                words[url] = Word(url, Verdict.SOUND)
            except LateError as error:
                words[url] = Word(url, Verdict.STALE, str(error))
            except PeerError as error:
                words[url] = Word(url, Verdict.LIES, str(error))
            except (RefusedError, UnreachableError) as error:
                words[url] = Word(url, Verdict.SILENT, str(error))

        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as http,
            trio.open_nursery() as nursery,
        ):
            walks = {url: self._client.walk(http, url, self._market_id) for url in self.urls}
            for url in self.urls:
                nursery.start_soon(ask_one, http, url)
        self._client.agree(self._market_id, [walks[url] for url in known])
        return known, tuple(words[url] for url in self.urls)

    async def _ask(self, http: httpx.AsyncClient, url: str, walk: Walk) -> _Known:
        """Raises ``PeerError`` if what the node says of our log does not hold."""
        author = self._signer.address
        params = {"market": f"0x{self._market_id.hex()}"}
        said = await ask_node(http, "GET", f"{url}/v1/logs/0x{author.hex()}", params=params)
        proof = decode_account_proof(octets(said.get("proof")))
        roster = await walk.roster(proof.certificate)
        account = verify_account(self._genesis, self._market_id, author, proof, roster)
        if account is not None and account.frozen:
            raise WorldError("this author is frozen: its key has signed two entries of one number")
        seq, head = (
            (Seq(0), Digest(ZERO32)) if account is None else (account.next_seq, account.head)
        )
        self._certified_seq = max(self._certified_seq, seq)
        rows = said.get("entries")
        if not isinstance(rows, list):
            raise MalformedError("'entries' is no list")
        found: list[Entry] = []
        for row in rows:
            entry = decode_entry(octets(row), self._genesis.separator, self._market_id)
            entry.verify()
            if entry.author != author:
                raise InvalidError("an entry of another author")
            if entry.seq == seq and entry.prev == head:
                found.append(entry)
                seq, head = Seq(seq + 1), entry.digest
        return _Known(seq, head, tuple(found), account is not None and account.frozen)

    # --- matches ---

    async def run(self) -> None:
        """Accept matches, and hand in again what the network lost, until cancelled."""
        while True:
            try:
                await self.accept_pending()
                if self._next_seq > self._certified_seq:
                    await self.hand_in()
            except (WorldError, PeerError) as error:
                log.warning("not reached", reason=str(error))
            await trio.sleep(LOOK_S)

    async def accept_pending(self) -> tuple[Match, ...]:
        """Accept every certified match of ours that we have not accepted; those."""
        found = await self._client.matches(self._market_id)
        assert found.matches is not None
        mine = [match for match in found.matches.matches if self._waits_for_us(match)]
        chosen = [match for match in mine if await self._admits(match)][:MAX_ACCEPTED]
        if chosen:
            said = sorted(Accepted(match.id, b"") for match in chosen)
            unsigned = Accept(tuple(said), b"")
            signature = self._signer.sign(Digest(unsigned.digest(self._genesis.separator)))
            await self.submit([unsigned._replace(signature=signature)])
        return tuple(chosen)

    def _waits_for_us(self, match: Match) -> bool:
        is_ours = self._signer.address in (match.maker.author, match.taker.author)
        return is_ours and match.id not in self._accepted | self._declined

    async def _admits(self, match: Match) -> bool:
        """Whether one of our orders asked for it. A quorum says so; we look nevertheless."""
        is_maker = match.maker.author == self._signer.address
        name = match.maker if is_maker else match.taker
        side = match.maker_side if is_maker else Side(1 - match.maker_side)
        order = await self._order(name)
        if order is not None and order.side == side and match.quantity <= order.quantity:
            worse = match.price - order.price if side is Side.BUY else order.price - match.price
            if worse <= 0:
                return True
        self._declined.add(match.id)
        log.warning("match not accepted: no order in this log asked for it", order=str(name))
        return False

    async def _order(self, name: OrderId) -> Place | None:
        for entry in await self._own_from(name.seq):
            if entry.seq == name.seq and name.position < len(entry.operations):
                operation = entry.operations[name.position]
                if isinstance(operation, Amend):
                    return operation.order
                return operation if isinstance(operation, Place) else None
        return None

    def _note_accepts(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if isinstance(operation, Accept):
                self._accepted.update(name for name, _ in operation.matches)

    async def orders(self) -> Found:
        """The certified book; our orders are those of our address in it."""
        return await self._client.book(self._market_id)
