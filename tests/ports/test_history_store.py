"""What every store of chain events does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orrange_p2p.core.bitcoin_bonds import BitcoinBond
from orrange_p2p.core.errors import CallerError, ConfigError
from orrange_p2p.core.histories import ChainEvent, EventKind
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Place
from orrange_p2p.crypto.bitcoin import OutPoint
from orrange_p2p.ports.history import BondStore, HistoryStore, ReadTo
from orrange_p2p.store.bonds_sqlite import open_sqlite_bonds
from orrange_p2p.store.history_memory import MemoryBonds, MemoryHistory
from orrange_p2p.store.history_sqlite import open_sqlite_history

CHAIN = "eip155:1"
ME = Address(b"\x01" * 20)


@asynccontextmanager
async def store_of(kind: str, path: Path) -> AsyncIterator[HistoryStore]:
    if kind == "memory":
        yield MemoryHistory()
        return
    async with open_sqlite_history(path / "events.sqlite", CHAIN, b"contracts") as store:
        yield store


def at(block: int, log: int = 0, amount: int = 2**255) -> ChainEvent:
    return ChainEvent(
        Place(CHAIN, block, log), EventKind.SETTLED, 5, ME, ME, amount, 2**64 - 1, b"m" * 32, 7, 8
    )


def to(block: int) -> ReadTo:
    return ReadTo(block, bytes([block]) * 32, 1000 + block)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_pages_follow_each_other(kind: str, tmp_path: Path) -> None:
    async with store_of(kind, tmp_path) as store:
        assert await store.read_to() is None
        assert await store.counts() == {}
        first, second = [at(0), at(3, 1), at(3, 2)], [at(9)]
        await store.append(first, to(5))
        await store.append([], to(8))
        await store.append(second, to(9))
        assert await store.read_to() == to(9)
        assert list(await store.events(9)) == [*first, *second]
        assert list(await store.events(8)) == first
        assert await store.counts() == {"settled": 4}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_does_not_go_on_is_refused_and_nothing_of_it_kept(
    kind: str, tmp_path: Path
) -> None:
    async with store_of(kind, tmp_path) as store:
        await store.append([at(4)], to(5))
        for events, upto in (([], 5), ([at(6)], 4), ([at(6), at(5)], 7), ([at(6), at(8)], 7)):
            with pytest.raises(CallerError):
                await store.append(events, to(upto))
        assert await store.read_to() == to(5)
        assert list(await store.events(99)) == [at(4)]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_keys_on_bitcoin_are_found_without_reading_all(kind: str, tmp_path: Path) -> None:
    async with store_of(kind, tmp_path) as store:
        bound = at(4)._replace(kind=EventKind.BOUND, bitcoin_key=b"\2" * 33)
        await store.append([at(2), bound, bound._replace(place=Place(CHAIN, 4, 9))], to(5))
        found = await store.bitcoin_bindings()
        assert [one.place.log for one in found] == [0, 9] and found[0] == bound


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_claims_to_peers_are_found_without_reading_all(kind: str, tmp_path: Path) -> None:
    async with store_of(kind, tmp_path) as store:
        bound = at(4)._replace(kind=EventKind.BOUND, peer_id=b"12D3KooW")
        await store.append([at(2), bound], to(5))
        assert list(await store.peer_bindings()) == [bound]


async def test_a_file_outlives_the_process_and_knows_whose_events_it_has(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    async with open_sqlite_history(path, CHAIN, b"contracts") as store:
        await store.append([at(4)], to(5))
    async with open_sqlite_history(path, CHAIN, b"contracts") as store:
        assert await store.read_to() == to(5) and list(await store.events(5)) == [at(4)]
    with pytest.raises(ConfigError, match="other contracts"):
        async with open_sqlite_history(path, CHAIN, b"others"):
            pass


# --- bonds on Bitcoin ---


@asynccontextmanager
async def bonds_of(
    kind: str, path: Path, contracts: bytes = b"contracts"
) -> AsyncIterator[BondStore]:
    if kind == "memory":
        yield MemoryBonds()
        return
    async with open_sqlite_bonds(path / "bonds.sqlite", "bip122:1", contracts) as store:
        yield store


def bond(height: int, number: int = 0) -> BitcoinBond:
    place, outpoint = Place("bip122:1", height, number), OutPoint(b"t" * 32, 2**32 - 1)
    return BitcoinBond(place, 5, b"\2" * 33, outpoint, 21 * 10**14, 2**32 - 1)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_pages_of_bonds_follow_each_other(kind: str, tmp_path: Path) -> None:
    async with bonds_of(kind, tmp_path) as store:
        assert await store.read_to() is None and list(await store.bonds()) == []
        await store.append([bond(0), bond(3, 1), bond(3, 2)], to(5))
        for bonds, upto in (([], 5), ([bond(6)], 4), ([bond(6), bond(5)], 7)):
            with pytest.raises(CallerError):
                await store.append(bonds, to(upto))
        await store.append([bond(6)], to(6))
        assert await store.read_to() == to(6)
        assert list(await store.bonds()) == [bond(0), bond(3, 1), bond(3, 2), bond(6)]


async def test_a_file_of_bonds_outlives_the_process(tmp_path: Path) -> None:
    async with bonds_of("sqlite", tmp_path) as store:
        await store.append([bond(4)], to(5))
    async with bonds_of("sqlite", tmp_path) as store:
        assert await store.read_to() == to(5) and list(await store.bonds()) == [bond(4)]
    with pytest.raises(ConfigError, match="other contracts"):
        async with bonds_of("sqlite", tmp_path, b"others"):
            pass
