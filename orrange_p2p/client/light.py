"""A light client: asks any number of nodes that it trusts none of, and says which of them lies.

It knows the network's file. What a node says counts as far as a quorum of the network's witnesses
vouches for it; the newest such state of all that answer is taken. A node whose answer does not hold
lies; one whose answer is much older than another's withholds, or is cut off.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs
import httpx
import trio

from orrange_p2p.client.rosters import LateError, RosterChain, Trusted, Walk, octets
from orrange_p2p.core.accounts import LiveOrder
from orrange_p2p.core.certificates import Certificate, decode_certificate
from orrange_p2p.core.errors import (
    ConfigError,
    MalformedError,
    PeerError,
    RefusedError,
    UnreachableError,
)
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import Era, MarketId, OrderId
from orrange_p2p.core.light import VerifiedBook, VerifiedMatches, verify_book, verify_matches
from orrange_p2p.core.proofs import decode_proof, verify_order

__all__ = ["Found", "LightClient", "Verdict", "Word", "ask_node"]

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
TIMEOUT_S: Final = 15.0
STALE_MS: Final = 30_000
"""A state this much older than the newest one that is shown is held back, or its node is."""


class Verdict(enum.StrEnum):
    """What became of a node's word."""

    SOUND = "sound"
    STALE = "stale"
    LIES = "lies"
    SILENT = "silent"


class Word(NamedTuple):
    """One node's answer, judged."""

    url: str
    verdict: Verdict
    reason: str = ""
    epoch: int = 0


class Found(NamedTuple):
    """The newest state that anybody could show, and everybody's word. Of ``book``, ``matches`` and
    ``order`` that one which was asked for; ``order`` is None also if it was not live."""

    header: StateHeader
    book: VerifiedBook | None
    matches: VerifiedMatches | None
    order: LiveOrder | None
    words: tuple[Word, ...]

    @property
    def epoch(self) -> int:
        return self.header.epoch

    @property
    def time_ms(self) -> int:
        return self.header.time_ms

    @property
    def liars(self) -> tuple[Word, ...]:
        return tuple(word for word in self.words if word.verdict is Verdict.LIES)


@attrs.frozen
class _Answer:
    header: StateHeader
    book: VerifiedBook | None = None
    matches: VerifiedMatches | None = None
    order: LiveOrder | None = None


class LightClient:
    """Of one network, over several nodes."""

    def __init__(
        self,
        genesis: Genesis,
        urls: Sequence[str],
        stale_ms: int = STALE_MS,
        trusted: Mapping[MarketId, Trusted] | None = None,
    ) -> None:
        """``urls``: where the HTTP APIs of public nodes are. Raises ``ConfigError`` for none.
        ``stale_ms``: so much older than another's a state is held back. ``trusted``: of markets
        with elected witnesses the rosters to begin with; without, that of genesis."""
        if not urls:
            raise ConfigError("a light client needs a node to ask, better several")
        self.genesis = genesis
        self.stale_ms = stale_ms
        self.urls = tuple(dict.fromkeys(url.rstrip("/") for url in urls))
        self._chains = {
            market.id: RosterChain(genesis, market.id, (trusted or {}).get(market.id))
            for market in genesis.markets
        }

    @property
    def trusted(self) -> dict[MarketId, Trusted]:
        """How far the witnesses of each market were followed."""
        found = {market: chain.trusted for market, chain in self._chains.items()}
        return {market: one for market, one in found.items() if one is not None}

    def walk(self, http: httpx.AsyncClient, url: str, market: MarketId) -> Walk:
        """What judges the word of one node."""

        async def fetch(since: Era) -> dict[str, Any]:
            params = {"market": f"0x{market.hex()}", "since": since}
            return await ask_node(http, "GET", f"{url}/v1/handovers", params=params)

        return self._chains[market].walk(fetch)

    def agree(self, market: MarketId, walks: Iterable[Walk]) -> None:
        """Go on by what nodes showed whose word held. Raises ``DisagreementError``."""
        self._chains[market].agree(walks)

    async def book(self, market: MarketId) -> Found:
        """The book of a market. Raises ``UnreachableError`` if nobody shows a state that holds,
        ``ConfigError`` for no market of the network, ``DisagreementError`` if two chains of elected
        witnesses are shown."""

        async def ask(http: httpx.AsyncClient, url: str, walk: Walk) -> _Answer:
            certificate, leaves = await self._leaves(http, f"{url}/v1/certified", market, "orders")
            roster = await walk.roster(certificate)
            book = await trio.to_thread.run_sync(
                verify_book, self.genesis, market, certificate, leaves, roster
            )
            return _Answer(book.header, book)

        return await self._ask_all(market, ask)

    async def matches(self, market: MarketId) -> Found:
        """The pending matches of a market. Raises likewise."""

        async def ask(http: httpx.AsyncClient, url: str, walk: Walk) -> _Answer:
            path = f"{url}/v1/certified/matches"
            certificate, leaves = await self._leaves(http, path, market, "matches")
            roster = await walk.roster(certificate)
            matches = await trio.to_thread.run_sync(
                verify_matches, self.genesis, market, certificate, leaves, roster
            )
            return _Answer(matches.header, matches=matches)

        return await self._ask_all(market, ask)

    async def _leaves(
        self, http: httpx.AsyncClient, url: str, market: MarketId, name: str
    ) -> tuple[Certificate, list[tuple[bytes, bytes]]]:
        said = await ask_node(http, "GET", url, params={"market": f"0x{market.hex()}"})
        leaves = [(octets(key), octets(leaf)) for key, leaf in _rows(said, name)]
        return decode_certificate(octets(said.get("certificate"))), leaves

    async def order(self, market: MarketId, order: OrderId) -> Found:
        """How an order stands. Raises likewise."""

        async def ask(http: httpx.AsyncClient, url: str, walk: Walk) -> _Answer:
            params = {"market": f"0x{market.hex()}"}
            said = await ask_node(http, "GET", f"{url}/v1/proofs/{order}", params=params)
            proof = decode_proof(octets(said.get("proof")))
            roster = await walk.roster(proof.certificate)
            found = verify_order(self.genesis, market, order, proof, roster)
            return _Answer(proof.certificate.header, order=found)

        return await self._ask_all(market, ask)

    async def _ask_all(self, market: MarketId, ask: Any) -> Found:
        self.genesis.market(market)
        answers: dict[str, _Answer] = {}
        words: dict[str, Word] = {}

        async def ask_one(http: httpx.AsyncClient, url: str) -> None:
            try:
                answers[url] = await ask(http, url, walks[url])
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
            # All begin where this client is sure now: what one node shows judges no other's word.
            walks = {url: self.walk(http, url, market) for url in self.urls}
            for url in self.urls:
                nursery.start_soon(ask_one, http, url)
        if not answers:
            told = "; ".join(f"{word.url}: {word.reason}" for word in words.values())
            raise UnreachableError(f"no node shows a state that holds: {told}")
        self.agree(market, [walks[url] for url in answers])
        best = max(answers.values(), key=lambda one: one.header.epoch)
        for url, answer in answers.items():
            words[url] = _judge(url, answer, best, self.stale_ms)
        ordered = tuple(words[url] for url in self.urls)
        return Found(best.header, best.book, best.matches, best.order, ordered)


def _judge(url: str, answer: _Answer, best: _Answer, stale_ms: int) -> Word:
    header = answer.header
    if header.epoch == best.header.epoch and header.root != best.header.root:
        # Two certified headers of one epoch: more than a third of the witnesses signed both.
        return Word(url, Verdict.LIES, "certified another state of this epoch", header.epoch)
    late_ms = best.header.time_ms - header.time_ms
    if late_ms > stale_ms:
        reason = f"shows a state that is {late_ms // 1000} s older than another node's"
        return Word(url, Verdict.STALE, reason, header.epoch)
    return Word(url, Verdict.SOUND, "", header.epoch)


async def ask_node(
    http: httpx.AsyncClient, method: str, url: str, **request: Any
) -> dict[str, Any]:
    """The JSON object that a node answers. Raises ``UnreachableError``, ``MalformedError`` for
    something else, or for an answer that refuses ``RefusedError`` with its status."""
    try:
        async with http.stream(method, url, **request) as answer:
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise MalformedError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreachableError(str(error) or type(error).__name__) from None
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedError("the answer is not JSON") from None
    if not isinstance(said, dict):
        raise MalformedError("the answer is no object")
    if answer.status_code not in (200, 201):
        reason = f"it answers {answer.status_code}: {str(said.get('message'))[:300]}"
        raise RefusedError(reason, answer.status_code)
    return said


def _rows(said: dict[str, Any], name: str) -> list[tuple[object, object]]:
    rows = said.get(name)
    if not isinstance(rows, list) or not all(isinstance(r, list) and len(r) == 2 for r in rows):
        raise MalformedError(f"{name!r} is no list of pairs")
    return [(row[0], row[1]) for row in rows]
