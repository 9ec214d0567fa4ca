"""A watchtower ends swaps for parties that never come back, on real chains, without their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from swap_parties import Party, Stage, World, holds

from orrange_p2p.core.errors import RefusedError
from orrange_p2p.core.swaps.htlc import Role, SwapState
from orrange_p2p.daemon.bundles import read_bundle
from orrange_p2p.daemon.watchtower import Watchtower

PAIRS = [("btc", "evm"), ("evm", "evm2")]


class Tower(Party):
    """Somebody else's legs: a wallet of its own, without coins, and an account for fees."""

    def __init__(self, world: World, folder: Path, pair: tuple[str, str]) -> None:
        super().__init__(2, world.chains, folder, *pair)
        folder.mkdir()
        self.hands_on = True


@asynccontextmanager
async def tower_of(world: World, folder: Path, pair: tuple[str, str]) -> AsyncIterator[Watchtower]:
    tower = Tower(world, folder, pair)
    async with tower._legs() as legs:
        yield Watchtower(legs)


async def until(world: World, *wanted: tuple[Party, SwapState]) -> None:
    for _ in range(60):
        if all(party.state is state for party, state in wanted):
            return
        await world.step()
    raise AssertionError([party.state for party, _ in wanted])


async def watch(world: World, tower: Watchtower, *running: Party) -> SwapState:
    for _ in range(200):
        await world.chains.step(1 if running else 3)
        await world.look(running)
        for _ in range(2):
            await tower.look()
            await world.chains.settle_down()
        (one,) = tower.watched
        if one.has_ended:
            return one.progress.state
    raise AssertionError(tower.watched)


@pytest.mark.parametrize("pair", PAIRS)
async def test_what_the_secret_opens_is_claimed_for_a_responder_that_is_away(
    stage: Stage, tmp_path: Path, pair: tuple[str, str]
) -> None:
    async with (
        stage.world(tmp_path, *pair) as world,
        tower_of(world, tmp_path / "t", pair) as tower,
    ):
        alice, bob = world.parties
        await world.agree()
        await world.look(world.parties)
        await until(world, (bob, SwapState.LOCKED))
        tower.take([read_bundle(bob.bundles.path(bob.name))])
        bob.kill()
        assert await watch(world, tower, alice) is SwapState.SWAPPED
        views = await world.views()
        assert holds(*views) == holds(*reversed(views)) == "the other's"
        assert alice.state is SwapState.SWAPPED


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("pair", PAIRS)
async def test_what_nobody_claims_goes_back_to_a_party_that_is_away(
    stage: Stage, tmp_path: Path, pair: tuple[str, str], role: Role
) -> None:
    async with (
        stage.world(tmp_path, *pair) as world,
        tower_of(world, tmp_path / "t", pair) as tower,
    ):
        party, other = world.parties[role], world.parties[1 - role]
        await world.agree()
        await world.look(world.parties)
        await until(world, (party, SwapState.LOCKED))
        bundle = read_bundle(party.bundles.path(party.name))
        tower.take([bundle])
        party.kill()
        other.kill()
        swap = bundle.swap
        if swap.own.chain.startswith("bip122"):
            with pytest.raises(RefusedError, match="does not take the rescue"):
                await tower._legs[swap.own.chain].save(swap.own, bundle.own_rescue, b"")
        assert await watch(world, tower) is SwapState.REFUNDED
        views = await world.views()
        assert holds(*(views if role is Role.INITIATOR else reversed(views))) == "its own"


async def test_a_chain_that_the_tower_cannot_reach_is_told(stage: Stage, tmp_path: Path) -> None:
    async with stage.world(tmp_path, "evm", "evm2") as world:
        bob = world.parties[1]
        await world.agree()
        await world.look(world.parties)
        await until(world, (bob, SwapState.LOCKED))
        tower = Watchtower({})
        tower.take([read_bundle(bob.bundles.path(bob.name))] * 2)
        await tower.look()
        (one,) = tower.watched
        assert one.problem == "node.toml names no way to eip155:31337, eip155:31338"
        assert not one.has_ended
