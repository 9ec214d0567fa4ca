"""Following a network's witnesses from era to era, on nobody's word but theirs.

A client begins with genesis, or with the digest of a later era's roster that it has from somebody
it trusts or from its own last visit. Nodes hand over, for each era, what its witnesses said of the
next (protocol/12-eras.md, Followers). Each node's chain is walked for itself, and two that differ
are both refused: each was signed by witnesses who had a quorum, so no one can tell which to trust.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import trio

from orrange_p2p.core.certificates import Certificate
from orrange_p2p.core.errors import (
    ConfigError,
    DisagreementError,
    InvalidError,
    MalformedError,
    RefusedError,
)
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.handovers import Handover, decode_handover
from orrange_p2p.core.ids import Era, MarketId, TimeMs
from orrange_p2p.core.roster import Roster, of_genesis

__all__ = [
    "Fetch",
    "LateError",
    "RosterChain",
    "Trusted",
    "Walk",
    "keep_trusted",
    "octets",
    "read_trusted",
]

Fetch = Callable[[Era], Awaitable[Mapping[str, Any]]]
"""A node's answer on the handovers of an era and those after it."""
KEPT: Final = 4
"""Rosters of the latest eras: a node may be an era behind another."""


class Trusted(NamedTuple):
    """An era's roster by its digest, and when the client was sure of it."""

    era: Era
    digest: bytes
    time_ms: TimeMs
    """Epoch time of what named it; of genesis its start; 0 if somebody else said so."""


class LateError(InvalidError):
    """What a node shows is of an era that the client knows to be over."""


class _Step(NamedTuple):
    roster: Roster
    time_ms: TimeMs


class Walk:
    """One node's chain of rosters, from where the client is sure."""

    def __init__(
        self,
        genesis: Genesis,
        market: MarketId,
        known: Mapping[Era, _Step],
        trusted: Trusted | None,
        fetch: Fetch,
    ) -> None:
        self._genesis = genesis
        self._market = market
        self._trusted = trusted
        self._fetch = fetch
        self.steps = dict(known)

    async def roster(self, certificate: Certificate) -> Roster | None:
        """The one that judges a certificate; None where nobody is elected: genesis does.

        Raises ``PeerError`` for a chain that breaks, ``LateError`` for a certificate of an era that
        is over, ``RefusedError`` if the node does not have the handovers, and as the fetching.
        """
        if not self._genesis.parameters.elected_witnesses:
            return None
        era = certificate.vouched_in
        if not self.steps:
            await self._begin()
        newest = max(self.steps)
        if era < newest and era not in self.steps:
            raise LateError(
                f"it shows a state of era {era}, and era {newest} is known to have begun"
            )
        while newest < era:
            newest = await self._page(newest, era)
        return self.steps[era].roster

    async def _begin(self) -> None:
        """Where a client starts that has followed nobody yet."""
        trusted = self._trusted
        if trusted is None or trusted.era == 0:
            first = of_genesis(self._genesis, self._market)
            self.steps = {first.era: _Step(first, self._genesis.start_ms)}
            return
        before = Era(trusted.era - 1)
        handovers = await self._handovers(before)
        if handovers[0].era != before:
            raise InvalidError(f"a handover of another era than {before}, which was asked for")
        roster = await trio.to_thread.run_sync(handovers[0].following, trusted.digest)
        self.steps = {roster.era: _Step(roster, trusted.time_ms)}

    async def _page(self, newest: Era, last: Era) -> Era:
        """Go on by one answer; the newest era then, at most ``last``."""
        for handover in await self._handovers(newest):
            if newest >= last:
                break
            known = self.steps[newest].roster
            roster = await trio.to_thread.run_sync(
                handover.follow, self._genesis, self._market, known
            )
            newest = roster.era
            self.steps[newest] = _Step(roster, handover.certificate.header.time_ms)
        return newest

    async def _handovers(self, since: Era) -> list[Handover]:
        said = await self._fetch(since)
        rows = said.get("handovers")
        if not isinstance(rows, list):
            raise MalformedError("'handovers' is no list")
        if not rows:
            raise RefusedError(
                f"it cannot show how era {since} named the next: it came later, or the clock stood "
                "still then; ask a node that was there, or name a later roster that you trust"
            )
        return [decode_handover(octets(row)) for row in rows]


class RosterChain:
    """The rosters of one market, as far as the client is sure of them."""

    def __init__(self, genesis: Genesis, market: MarketId, trusted: Trusted | None = None) -> None:
        """``trusted``: where to begin; None: with genesis. Raises ``ConfigError`` for another
        first roster than that of genesis."""
        if trusted is not None and trusted.era == 0:
            if trusted.digest != of_genesis(genesis, market).digest:
                raise ConfigError("the roster that is trusted for era 0 is not that of genesis")
        self._genesis = genesis
        self._market = market
        self._trusted = trusted
        self._steps: dict[Era, _Step] = {}

    def walk(self, fetch: Fetch) -> Walk:
        """To judge what one node says."""
        return Walk(self._genesis, self._market, self._steps, self._trusted, fetch)

    def agree(self, walks: Iterable[Walk]) -> None:
        """Take over what nodes showed whose answers held. Raises ``DisagreementError``, and takes
        nothing, if two show different rosters of one era."""
        merged = dict(self._steps)
        for walk in walks:
            for era, step in walk.steps.items():
                if merged.setdefault(era, step).roster.digest != step.roster.digest:
                    raise DisagreementError(
                        f"two chains of witnesses, each signed by a quorum, lead to different "
                        f"rosters of era {era}: believe neither; ask whom you trust for the "
                        f"roster of an era, and begin with it"
                    )
        self._steps = {era: merged[era] for era in sorted(merged)[-KEPT:]}

    @property
    def trusted(self) -> Trusted | None:
        """Where the next client may begin; None if nothing was followed yet."""
        if not self._steps:
            return self._trusted
        era = max(self._steps)
        step = self._steps[era]
        return Trusted(era, step.roster.digest, step.time_ms)


def octets(text: object) -> bytes:
    """What hexadecimal text says. Raises ``MalformedError``."""
    if isinstance(text, str):
        try:
            return bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            pass
    raise MalformedError(f"{str(text)[:40]!r} is not hexadecimal")


# --- between two visits ---


def read_trusted(path: Path, genesis: Genesis) -> dict[MarketId, Trusted]:
    """What ``keep_trusted`` wrote; nothing if there is no file. Raises ``ConfigError`` for one that
    cannot be used."""
    try:
        said = json.loads(path.read_text())
        if said["network_id"] != genesis.network_id.hex():
            raise ConfigError(f"{path} is of another network")
        return {
            MarketId(bytes.fromhex(market)): Trusted(
                Era(int(row["era"])), bytes.fromhex(row["roster"]), TimeMs(int(row["time_ms"]))
            )
            for market, row in said["markets"].items()
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} does not say how far witnesses were followed") from None


def keep_trusted(path: Path, genesis: Genesis, trusted: Mapping[MarketId, Trusted]) -> None:
    """Write how far the witnesses of markets were followed, whole or not at all. Raises
    ``ConfigError`` where that cannot be written."""
    rows = {
        market.hex(): {"era": one.era, "roster": one.digest.hex(), "time_ms": one.time_ms}
        for market, one in trusted.items()
    }
    text = json.dumps({"network_id": genesis.network_id.hex(), "markets": rows}, indent=1)
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_text(text + "\n")
        os.replace(beside, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
