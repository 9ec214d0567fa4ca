"""Swaps between two parties over real chains, in virtual time: the shortest ones first.

`make matrix` runs all of the courses of which some are run here.
"""

from __future__ import annotations

from pathlib import Path

import matrix
import pytest
from matrix import Case, Visited, cases, find_points, lose_store, quick, run_case
from swap_parties import Stage, WatchedBundles, WatchedIntents, World, holds

from orrange_p2p.core.swaps.htlc import TRANSITIONS, Role, SwapState
from orrange_p2p.store.bitcoin_sqlite import SqliteBitcoin

BTC_EVM = ("btc", "evm")


async def until_ended(world: World, most: int = 160) -> None:
    for _ in range(most):
        await world.step()
        assert not any(party.ill for party in world.parties)
        if all(party.has_ended or not party.is_running for party in world.parties):
            return
    states = [party.kept.progress.state.name for party in world.parties]
    raise AssertionError(f"stuck: {states}")


@pytest.mark.parametrize("pair", [BTC_EVM, ("evm", "evm2")])
async def test_two_parties_swap(stage: Stage, tmp_path: Path, pair: tuple[str, str]) -> None:
    async with stage.world(tmp_path, *pair) as world:
        await world.agree()
        await world.look(world.parties)
        await until_ended(world)
        assert {party.kept.progress.state for party in world.parties} == {SwapState.SWAPPED}
        alice, bob = await world.views()
        assert holds(alice, bob) == holds(bob, alice) == "the other's"
        for party in world.parties:
            assert party.kept.progress.preimage == world.parties[0].secret(party.name)
            assert party.kept.shown.own_lock and party.kept.shown.other_end
            assert not party.bundles.path(party.name).exists()


async def test_the_seed_and_the_bundle_alone_end_a_swap_on_an_empty_machine(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.world(tmp_path, *BTC_EVM) as world:
        await world.agree()
        while any(party.state is not SwapState.LOCKED for party in world.parties):
            await world.step()
            if any(party.state is SwapState.CLAIMING for party in world.parties):
                break
        for party in world.parties:
            party.kill()
            lose_store(party)
            assert not party.swaps._records
            await world.start(party)
            assert party.state is SwapState.CANCELLING
        await until_ended(world)
        assert {party.state for party in world.parties} == {SwapState.SWAPPED}


async def test_what_cannot_be_paid_is_never_locked_and_says_why(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.world(tmp_path, *BTC_EVM) as world:
        poor = 300_000_000
        await world.agree(
            lambda who, swap: (
                swap._replace(own=swap.own._replace(amount=type(swap.own.amount)(poor)))
                if who == 0
                else swap
            )
        )
        await world.look(world.parties)
        assert "1000000 sat are free" in world.parties[0].kept.problem
        await until_ended(world)
        assert {party.state for party in world.parties} == {SwapState.UNLOCKED}


async def test_some_courses_of_the_matrix(stage: Stage) -> None:
    """Each fault for one role or the other; who lives has its own coins or the other's."""
    points = await find_points(stage)
    assert len(list(cases(points))) >= 300
    chosen = [case for case in quick(list(cases(points))) if case.fault not in matrix.SCRIPTS]
    with Visited() as visited:
        for case in chosen[::3]:
            outcome = await run_case(stage, case, frozenset())
            assert not outcome.problem and not outcome.is_lost, outcome
    assert len(visited.rows & set(TRANSITIONS)) >= 6


@pytest.mark.parametrize("script", matrix.SCRIPTS)
async def test_courses_that_chains_within_their_bounds_do_not_take(
    stage: Stage, script: str
) -> None:
    """The last is beyond every bound: what matters is that the node says ``LOST``."""
    initiators = ("claim too late", "secret kept back", "everything taken")
    role = Role.INITIATOR if script in initiators else Role.RESPONDER
    outcome = await run_case(stage, Case(BTC_EVM, role, "start", script), frozenset())
    assert not outcome.problem
    if script in matrix.EXPECTED_LOSSES:
        assert outcome.states[role] == "LOST" and outcome.is_lost
    else:
        assert not outcome.is_lost, outcome


async def test_a_node_that_locks_without_a_bundle_is_caught(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WatchedBundles, "write", lambda self, bundle: None)
    case = Case(BTC_EVM, Role.INITIATOR, "swap LOCKED", "none")
    assert (await run_case(stage, case, frozenset())).problem == "locked without a bundle"


@pytest.mark.parametrize("store", [WatchedIntents, SqliteBitcoin])
async def test_an_adapter_that_broadcasts_what_it_has_not_kept_is_caught(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, store: type
) -> None:
    async def forget(*arguments: object) -> None:
        pass

    monkeypatch.setattr(store, "add", forget)
    case = Case(BTC_EVM, Role.INITIATOR, "swap LOCKED", "none")
    outcome = await run_case(stage, case, frozenset())
    assert outcome.problem == "sent a transaction that was not kept"


@pytest.mark.parametrize("state", [SwapState.LOCKING, SwapState.CLAIMING, SwapState.REFUNDING])
async def test_a_node_that_does_not_keep_what_it_is_about_to_do_is_caught(
    stage: Stage, state: SwapState
) -> None:
    fault = "counterparty silent" if state is SwapState.REFUNDING else "none"
    case = Case(BTC_EVM, Role.INITIATOR, "swap LOCKED", fault)
    outcome = await run_case(stage, case, frozenset({state}))
    assert outcome.problem or outcome.is_lost
