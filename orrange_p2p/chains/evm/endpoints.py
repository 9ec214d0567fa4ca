"""Several endpoints of one chain as one: failover, and an alarm when they contradict each other.

An endpoint that fails is asked last for a while. One that is caught lying is not asked again until
the node restarts: by another chain id, another first block, another block where one was final, or
outvoted on a question put to all. If no majority says the same, nobody is believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import trio

from orrange_p2p.chains.evm import answers
from orrange_p2p.chains.evm.config import shown_url
from orrange_p2p.core.errors import (
    DeadlineError,
    DisagreementError,
    MalformedError,
    PeerError,
    RefusedError,
    RevertedError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.ports.chain import Block

__all__ = ["Ask", "Endpoint", "Endpoints"]

_T = TypeVar("_T")
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_RATE_LIMITS: Final = frozenset({429, -32005, -32097})
"""Codes with which endpoints say "not so fast"."""


class Endpoint(Protocol):
    """One place to ask. Errors as ``WebSocketEndpoint.request``'s."""

    @property
    def url(self) -> str: ...

    async def request(self, method: str, params: list[Any]) -> Any: ...


class _Member:
    """An endpoint and what we hold of it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.name = shown_url(endpoint.url)
        self.is_checked = False
        self.ban = ""
        """Why it is not used any more, if so."""
        self.failures = 0
        self.pause_until = 0.0


class Ask:
    """One endpoint, for questions whose answers have to fit together."""

    def __init__(self, endpoints: Endpoints, member: _Member) -> None:
        self._endpoints = endpoints
        self._member = member

    async def __call__(self, method: str, params: list[Any], decode: Callable[[object], _T]) -> _T:
        return await self._endpoints._ask(self._member, method, params, decode)


class Endpoints:
    """What all of ``chains.evm`` asks through.

    ``genesis`` is the hash of the chain's first block, None if it was never seen: then what the
    endpoints agree on is remembered. ``anchor`` is the newest block known to be final.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        chain_number: int,
        *,
        genesis: bytes | None = None,
        anchor: Block | None = None,
    ) -> None:
        self._members = [_Member(endpoint) for endpoint in endpoints]
        self._chain_number = chain_number
        self._learning = trio.Lock()
        self.genesis = genesis
        self.anchor = anchor
        self.alarms: list[str] = []
        """One line for each endpoint that is not used any more."""
        self.counts: Counter[str] = Counter()

    async def ask(self, method: str, params: list[Any], decode: Callable[[object], _T]) -> _T:
        """The answer of the first endpoint that gives one."""
        return await self.ask_one(lambda ask: ask(method, params, decode))

    async def ask_one(self, job: Callable[[Ask], Awaitable[_T]]) -> _T:
        """Run ``job`` against one endpoint; from its beginning against the next if that fails."""
        failures: list[tuple[_Member, WorldError | PeerError]] = []
        for member in await self._usable():
            try:
                return await job(Ask(self, member))
            except RevertedError:
                raise
            except (RefusedError, UnreachableError, DeadlineError, MalformedError) as error:
                self.counts["failovers"] += 1
                failures.append((member, error))
        raise self._none_answered(failures)

    async def ask_all(
        self, method: str, params: list[Any], decode: Callable[[object], _T]
    ) -> list[_T]:
        """The answers of all endpoints that give one, at least one."""
        return [answer for _, answer in await self._ask_all(method, params, decode)]

    async def agree(
        self, method: str, params: list[Any], decode: Callable[[object], _T | None]
    ) -> _T | None:
        """What all endpoints say; those that know nothing of it (null) or fail do not count.

        Who is outvoted is not asked again. Raises ``DisagreementError`` if there is no majority.
        """
        said = [
            (member, answer)
            for member, answer in await self._ask_all(method, params, decode)
            if answer is not None
        ]
        votes = Counter(answer for _, answer in said)
        if len(votes) < 2:
            return next(iter(votes), None)
        answer, support = votes.most_common(1)[0]
        has_majority = 2 * support > len(said)
        for member, other in said:
            if not has_majority or other != answer:
                self._ban(member, f"contradicts others on {method}{_shown(params)}")
        if has_majority:
            return answer
        raise DisagreementError(self._all_banned())

    async def broadcast(self, raw: bytes) -> tuple[bool, str]:
        """Offer a transaction to every endpoint: whether one took it, and else why not.

        That it is known already, or was mined, counts as not taken: the chain tells what became
        of it.
        """
        accepted: list[bytes] = []
        reasons: list[str] = []

        async def offer(member: _Member) -> None:
            try:
                params = ["0x" + raw.hex()]
                accepted.append(
                    await self._ask(member, "eth_sendRawTransaction", params, answers.hash32)
                )
            except (RefusedError, UnreachableError, DeadlineError, MalformedError) as error:
                reasons.append(str(error))

        members = await self._usable()
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(offer, member)
        return bool(accepted), "" if accepted else reasons[0]

    # --- one endpoint ---

    async def _ask(
        self, member: _Member, method: str, params: list[Any], decode: Callable[[object], _T]
    ) -> _T:
        self._refuse_banned(member)
        try:
            if not member.is_checked:
                await self._check(member)
            answer = decode(await member.endpoint.request(method, params))
        except RefusedError as error:
            if error.code in _RATE_LIMITS:
                self._pause(member)
            raise
        except (UnreachableError, DeadlineError, MalformedError):
            self._pause(member)
            # What answers next under that name may be another program.
            member.is_checked = False
            raise
        member.failures = 0
        return answer

    async def _check(self, member: _Member) -> None:
        """Whether it serves our chain at all."""
        request = member.endpoint.request
        number = answers.quantity(await request("eth_chainId", []))
        if number != self._chain_number:
            self._ban(member, f"serves chain {number}, not {self._chain_number}")
        if self.genesis is not None:
            if await self._hash_at(member, 0) not in (self.genesis, None):
                self._ban(member, "has another first block: another chain of the same number")
        # While we wait for the answer, another question may move the anchor on.
        if (anchor := self.anchor) is not None:
            if await self._hash_at(member, anchor.number) not in (anchor.hash, None):
                self._ban(member, f"has another block {anchor.number}, which was final")
        self._refuse_banned(member)
        member.is_checked = True

    async def _hash_at(self, member: _Member, number: int) -> bytes | None:
        """None if it has no such block: it lags, or keeps no old ones."""
        try:
            found = await member.endpoint.request("eth_getBlockByNumber", [hex(number), False])
        except RefusedError:
            return None
        block = answers.maybe(answers.block)(found)
        return None if block is None else block.hash

    def _pause(self, member: _Member) -> None:
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**member.failures)
        member.failures = min(member.failures + 1, 10)
        member.pause_until = trio.current_time() + pause
        self.counts["failures"] += 1

    @staticmethod
    def _refuse_banned(member: _Member) -> None:
        if member.ban:
            raise UnreachableError(f"{member.name} is not used any more: it {member.ban}")

    def _ban(self, member: _Member, reason: str) -> None:
        if not member.ban:
            member.ban = reason
            self.counts["bans"] += 1
            self.alarms.append(f"{member.name} {reason}: not used until the node restarts")

    # --- all of them ---

    async def _usable(self) -> Sequence[_Member]:
        """In the order to ask them: those that failed lately come last."""
        async with self._learning:
            if self.genesis is None:
                await self._learn_genesis()
        return self._in_order()

    def _in_order(self) -> Sequence[_Member]:
        members = [member for member in self._members if not member.ban]
        if not members:
            raise DisagreementError(self._all_banned())
        now = trio.current_time()
        return sorted(members, key=lambda member: member.pause_until > now)

    async def _learn_genesis(self) -> None:
        """The first time ever: what all that answer call the first block."""
        votes: list[tuple[_Member, bytes]] = []
        failures: list[tuple[_Member, WorldError | PeerError]] = []

        async def look(member: _Member) -> None:
            try:
                await self._check(member)
                found = await self._hash_at(member, 0)
                if found is not None:
                    votes.append((member, found))
            except (RefusedError, UnreachableError, DeadlineError, MalformedError) as error:
                failures.append((member, error))

        members = self._in_order()
        async with trio.open_nursery() as nursery:
            for member in members:
                nursery.start_soon(look, member)
        if not votes:
            self._in_order()
            raise self._none_answered(failures)
        found = {genesis for _, genesis in votes}
        if len(found) > 1:
            for member, _ in votes:
                self._ban(member, "has not the first block that another endpoint has")
            raise DisagreementError(self._all_banned())
        self.genesis = found.pop()

    async def _ask_all(
        self, method: str, params: list[Any], decode: Callable[[object], _T]
    ) -> list[tuple[_Member, _T]]:
        said: list[tuple[_Member, _T]] = []
        failures: list[tuple[_Member, WorldError | PeerError]] = []

        async def ask(member: _Member) -> None:
            try:
                said.append((member, await self._ask(member, method, params, decode)))
            except (RefusedError, UnreachableError, DeadlineError, MalformedError) as error:
                failures.append((member, error))

        members, now = await self._usable(), trio.current_time()
        awake = [member for member in members if member.pause_until <= now]
        async with trio.open_nursery() as nursery:
            for member in awake or members:
                nursery.start_soon(ask, member)
        if not said:
            raise self._none_answered(failures)
        return said

    def _none_answered(
        self, failures: Sequence[tuple[_Member, WorldError | PeerError]]
    ) -> WorldError:
        """The error of a question that nobody answered; a refusal says more than a silence."""
        for member, error in failures:
            if isinstance(error, RefusedError):
                return RefusedError(f"{member.name}: {error}", error.code)
        reasons = "; ".join(f"{member.name}: {error}" for member, error in failures)
        if failures and all(isinstance(error, DeadlineError) for _, error in failures):
            return DeadlineError(reasons)
        return UnreachableError(reasons or "no endpoint answers")

    def _all_banned(self) -> str:
        return (
            f"no endpoint of chain {self._chain_number} can be trusted: "
            + "; ".join(self.alarms)
            + ". Find out who is right, correct node.toml, restart"
        )


def _shown(params: list[Any]) -> str:
    return "(" + ", ".join(str(param)[:70] for param in params) + ")"
