"""The indexer without its network: a chain's logs from an endpoint's JSON to disk, and to scores.

Measured on one core: pages of logs as an endpoint answers them are parsed, checked and decoded and
appended to the store, each page flushed with how far it goes. Then all of it is read back, put
together into histories and scored. What is not in it is waiting for endpoints and asking for the
times of blocks.
"""

from __future__ import annotations

import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import click
import trio

from orrange_p2p.bench.ingest import cores, on_core, rare_collection
from orrange_p2p.bench.one_market import one_market
from orrange_p2p.bench.replay import MARKET
from orrange_p2p.chains.evm import answers, history
from orrange_p2p.core import reputation
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.histories import day_of, histories, table_digest
from orrange_p2p.core.ids import Address
from orrange_p2p.ports.history import ReadTo
from orrange_p2p.store.history_sqlite import open_sqlite_history

CHAIN: Final = "eip155:31337"
REGISTRY, SETTLEMENT = Address(b"\x0e" * 20), Address(b"\x0f" * 20)
PAGE: Final = 10_000
"""Logs of one answer."""
LOGS_OF_A_BLOCK: Final = 100
START_S: Final = 1_700_000_000
BLOCK_S: Final = 12


def network() -> Genesis:
    """With rates by which every trade counts."""
    market = attrs.evolve(MARKET, rate_denominator=1)
    return attrs.evolve(one_market(market, 0), registry=REGISTRY, settlement=SETTLEMENT)


def pages(events: int, accounts: int, market: bytes) -> Iterator[str]:
    """What an endpoint answers, page by page: one bond in ten events, the rest trades."""
    dice = random.Random(7)  # noqa: S311  a workload, no secret
    names = [dice.randbytes(20).hex() for _ in range(accounts)]
    hashes = "0x" + "ab" * 32
    bonded, settled = ("0x" + topic.hex() for topic in (history.BONDED, history.SETTLED))
    for start in range(0, events, PAGE):
        rows = []
        for number in range(start, min(start + PAGE, events)):
            owner = names[number % accounts]
            if number % 10 == 0:
                contract, topic = REGISTRY, [bonded, "0x" + "00" * 12 + owner]
                until_s = START_S + dice.randint(1, 500) * 86_400
                data = f"{dice.randint(1, 10**9):064x}{until_s:064x}"
            else:
                contract, topic = SETTLEMENT, [settled, f"0x{number:064x}", "0x" + market.hex()]
                other = names[dice.randrange(accounts)]
                words = [10, 1000, dice.randint(100, 10**6)]
                data = "".join(
                    ["00" * 12, owner, "00" * 12, other, *(f"{word:064x}" for word in words)]
                )
            rows.append(
                {
                    "address": "0x" + contract.hex(),
                    "topics": topic,
                    "data": "0x" + data,
                    "blockNumber": hex(number // LOGS_OF_A_BLOCK),
                    "blockHash": hashes,
                    "transactionHash": hashes,
                    "logIndex": hex(number % LOGS_OF_A_BLOCK),
                }
            )
        yield json.dumps(rows)


async def run(events: int, accounts: int) -> dict[str, Any]:
    """The figures."""
    genesis = network()
    indexing = 0.0
    with tempfile.TemporaryDirectory(prefix="orrange-bench-") as folder:
        path = Path(folder) / "events.sqlite"
        async with open_sqlite_history(path, CHAIN, b"bench") as store:
            last = 0
            for page in pages(events, accounts, genesis.markets[0].id):
                start = time.perf_counter()
                decoded = [
                    event
                    for log in answers.logs(json.loads(page))
                    if (event := _read(log)) is not None
                ]
                last = decoded[-1].place.block
                await store.append(decoded, ReadTo(last, bytes(32), START_S + last * BLOCK_S))
                indexing += time.perf_counter() - start
            start = time.perf_counter()
            kept = await store.events(last)
            loading = time.perf_counter() - start
    day = day_of(START_S + last * BLOCK_S)
    start = time.perf_counter()
    made = histories(genesis, kept)
    folding = time.perf_counter() - start
    start = time.perf_counter()
    scores = [reputation.score(made[account], day) for account in sorted(made)]
    scoring = time.perf_counter() - start
    start = time.perf_counter()
    digest = table_digest(day, scores, kept)
    hashing = time.perf_counter() - start
    return {
        "events": len(kept),
        "events_per_s": round(len(kept) / indexing),
        "accounts": len(scores),
        "load_s": round(loading, 2),
        "histories_s": round(folding, 2),
        "score_s": round(scoring, 2),
        "digest_s": round(hashing, 2),
        "digest": "0x" + digest.hex(),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _read(log: Any) -> Any:
    time_s = START_S + log.block_number * BLOCK_S
    return history.read(log, CHAIN, time_s, REGISTRY, SETTLEMENT)


def main(as_json: bool, *, events: int, accounts: int) -> int:
    """Run it and print what it found."""
    with on_core(cores()[-1]), rare_collection():
        figures = trio.run(partial(run, events, accounts))
    if as_json:
        click.echo(json.dumps(figures))
    else:
        for name, value in figures.items():
            click.echo(f"{name:<14} {value:,}" if isinstance(value, int) else f"{name:<14} {value}")
    return 0
