"""A light client that follows elected witnesses, over HTTP, past servers that break the chain."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

sys.path.append(str(Path(__file__).parents[1] / "core"))

from test_eras import by_schedule, network_of, roster
from test_handovers import ERAS, GENESIS, HANDOVERS, MARKET, NETWORK, TIMES, lived

from orrange_p2p.client.light import LightClient, Verdict
from orrange_p2p.client.light_trader import LightTrader
from orrange_p2p.client.rosters import Trusted, keep_trusted, read_trusted
from orrange_p2p.core import codec
from orrange_p2p.core.checkpoints import CertifiedState
from orrange_p2p.core.errors import ConfigError, DisagreementError, UnreachableError
from orrange_p2p.core.handovers import Handover
from orrange_p2p.core.ids import Address, Era, MarketId, TimeMs
from orrange_p2p.core.proofs import prove_account
from orrange_p2p.core.roster import RosterRequest
from orrange_p2p.rpc.http_server import http_listening
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.memory import MemoryStore

PAGE = 2
"""Handovers in an answer, so that it takes several."""
Serve = Callable[[int], list[Handover]]


def certified(network: Any = NETWORK) -> CertifiedState:
    found = network.nodes[0].replica.certified
    assert found is not None and found.certificate.vouched_in >= ERAS
    return found  # type: ignore[no-any-return]


def honest(since: int) -> list[Handover]:
    return HANDOVERS[since : since + PAGE]


@asynccontextmanager
async def node(serve: Serve = honest, state: CertifiedState | None = None) -> AsyncIterator[Any]:
    """One that shows a certified book and handovers; its address, and what it was asked."""
    app, shown, asked = FastAPI(openapi_url=None), state or certified(), []

    @app.get("/v1/certified")
    async def book(market: str) -> Any:
        return {
            "certificate": "0x" + codec.encode(shown.certificate).hex(),
            "orders": [[key.hex(), leaf.hex()] for key, leaf in shown.view.orders.items()],
        }

    @app.get("/v1/handovers")
    async def handovers(market: str, since: int) -> Any:
        asked.append(since)
        return {"handovers": ["0x" + one.encode().hex() for one in serve(since)]}

    @app.get("/v1/logs/{author}")
    async def log(author: str, market: str) -> Any:
        name = Address(bytes.fromhex(author[2:]))
        proof = prove_account(shown.certificate, shown.view.accounts, name)
        return {"proof": "0x" + proof.encode().hex(), "entries": []}

    async with http_listening(app, "127.0.0.1", 0) as url:
        yield url, asked


def trusted_of(era: int) -> Trusted:
    digest = by_schedule(RosterRequest(Era(era), TimeMs(0))).digest
    return Trusted(Era(era), digest, TimeMs(0))


async def test_it_walks_from_genesis_once_and_then_goes_on_from_there(tmp_path: Path) -> None:
    async with node() as (url, asked):
        light = LightClient(GENESIS, [url])
        for _ in range(2):
            found = await light.book(MARKET)
            assert found.book is not None and found.words[0].verdict is Verdict.SOUND
        now = certified().certificate.vouched_in
        assert asked == list(range(0, now, PAGE)), "not a second time"
        (reached,) = light.trusted.values()
        assert reached[:2] == trusted_of(now)[:2]

        # Kept, and begun there.
        kept = tmp_path / "followed.json"
        assert read_trusted(kept, GENESIS) == {}
        keep_trusted(kept, GENESIS, light.trusted)
        assert read_trusted(kept, GENESIS) == light.trusted
        asked.clear()
        again = LightClient(GENESIS, [url], trusted=read_trusted(kept, GENESIS))
        assert (await again.book(MARKET)).epoch == found.epoch
        assert asked == [now - 1]
        for text in ("{}", "[]", "no", json.dumps({"network_id": "00", "markets": {}})):
            kept.write_text(text)
            with pytest.raises(ConfigError, match=r"followed\.json"):
                read_trusted(kept, GENESIS)


async def test_it_begins_with_a_roster_that_somebody_trusted_names() -> None:
    async with node() as (url, asked):
        light = LightClient(GENESIS, [url], trusted={MARKET: trusted_of(2)})
        assert (await light.book(MARKET)).words[0].verdict is Verdict.SOUND
        assert asked[0] == 1
        wrong = trusted_of(2)._replace(digest=bytes(32))
        with pytest.raises(UnreachableError, match="not the roster of era 2 that was committed to"):
            await LightClient(GENESIS, [url], trusted={MARKET: wrong}).book(MARKET)
        other = Trusted(Era(0), bytes(32), TimeMs(0))
        with pytest.raises(ConfigError):
            await light.book(MarketId(bytes(32)))
        with pytest.raises(ConfigError, match="not that of genesis"):
            LightClient(GENESIS, [url], trusted={MARKET: other})


def skips(since: int) -> list[Handover]:
    return HANDOVERS[since + 1 : since + 2]


def forges(since: int) -> list[Handover]:
    """The last roster is one of its own making."""
    return [
        one if one.era < 2 else one._replace(roster=roster(3, (0, 1, 2)).encode())
        for one in honest(since)
    ]


def weighs_little(since: int) -> list[Handover]:
    return [
        one._replace(
            certificate=one.certificate._replace(vouchers=one.certificate.vouchers[: one.era < 2])
        )
        for one in honest(since)
    ]


@pytest.mark.parametrize(
    ("serve", "verdict", "why"),
    [
        (skips, Verdict.LIES, "a handover of era 1 where that of era 0 has to come"),
        (lambda since: honest(0), Verdict.LIES, "a handover of era 0 where that of era 2"),
        (forges, Verdict.LIES, "not the roster of era 3 that was committed to"),
        (weighs_little, Verdict.LIES, ""),
        (lambda since: honest(since) if since < 2 else [], Verdict.SILENT, "how era 2 named the"),
        (lambda since: [], Verdict.SILENT, "it came later, or the clock stood still"),
    ],
)
async def test_a_server_that_breaks_the_chain_is_told_and_gone_around(
    serve: Serve, verdict: Verdict, why: str
) -> None:
    async with node() as (sound, _), node(serve) as (broken, _):
        found = await LightClient(GENESIS, [broken, sound]).book(MARKET)
        assert [word.verdict for word in found.words] == [verdict, Verdict.SOUND]
        assert why in found.words[0].reason
        with pytest.raises(UnreachableError, match="no node shows a state that holds"):
            await LightClient(GENESIS, [broken]).book(MARKET)


async def test_who_trades_over_strangers_nodes_follows_as_well() -> None:
    """What a node says of the own log counts by the witnesses of its era."""
    author = MemorySigner((1).to_bytes(32, "big"))  # the network's first
    account = NETWORK.nodes[0].replica.fold.accounts[author.address]
    async with node() as (url, _), node(forges) as (broken, _):
        light = LightTrader(GENESIS, MARKET, [broken, url], author, MemoryStore())
        words = await light.open()
        assert [word.verdict for word in words] == [Verdict.LIES, Verdict.SOUND]
        assert 0 < light.next_seq <= account.next_seq
        assert light.trusted[MARKET][:2] == trusted_of(certified().certificate.vouched_in)[:2]
        with pytest.raises(UnreachableError, match="no node tells how far the log goes"):
            await LightTrader(GENESIS, MARKET, [broken], author, MemoryStore()).open()


async def test_a_state_of_an_era_that_is_over_is_stale() -> None:
    old = network_of(1, **TIMES)
    while min(n.replica.era for n in old.nodes) < 1:
        old.run(old.now + 1000)
    shown = old.nodes[0].replica.certified
    assert shown is not None and shown.certificate.vouched_in < ERAS
    async with node() as (url, _), node(state=shown) as (late, _):
        light = LightClient(GENESIS, [url], trusted={MARKET: trusted_of(ERAS)})
        await light.book(MARKET)
        both = LightClient(GENESIS, [late, url], trusted=light.trusted)
        found = await both.book(MARKET)
        assert [word.verdict for word in found.words] == [Verdict.STALE, Verdict.SOUND]
        assert f"era {ERAS} is known to have begun" in found.words[0].reason


async def test_of_two_chains_that_a_quorum_signed_neither_is_believed() -> None:
    """Witnesses that have nothing to lose any more sign another history."""

    def otherwise(request: RosterRequest) -> Any:
        return roster(request.era, (0, 1, 2, 3), worth=77)

    other, (kept, *_) = lived(elect=otherwise)
    assert other.genesis.network_id == GENESIS.network_id
    async with AsyncExitStack() as stack:
        honest_url, _ = await stack.enter_async_context(node())
        forked_url, _ = await stack.enter_async_context(
            node(lambda since: kept[since : since + PAGE], certified(other))
        )
        for urls in ([honest_url, forked_url], [forked_url, honest_url]):
            with pytest.raises(DisagreementError, match="different rosters of era 1"):
                await LightClient(GENESIS, urls).book(MARKET)
        # With one era that one is sure of, it is plain who lies.
        sure = LightClient(GENESIS, [forked_url, honest_url], trusted={MARKET: trusted_of(1)})
        found = await sure.book(MARKET)
        assert [word.verdict for word in found.words] == [Verdict.LIES, Verdict.SOUND]
