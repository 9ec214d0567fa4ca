"""One leg of a swap on a real EVM chain: locked, claimed, taken back, reorganised, forged."""

from __future__ import annotations

import pytest
from evm_chains import mine, rpc
from swap_chains import ALICE, BOB, HELD, SECRET, Place, swap_chain

from orrange_p2p.chains.evm import erc20, timelock
from orrange_p2p.core.errors import CallerError, RefusedError, RevertedError
from orrange_p2p.core.ids import Amount
from orrange_p2p.core.swaps.legs import Lock, LockState, LockView
from orrange_p2p.devnet.contracts import BASE, HASH_TIMELOCK
from orrange_p2p.ports.chain import Intent


async def test_a_lock_is_seen_claimed_and_paid() -> None:
    async with swap_chain(31337) as place:
        lock = await place.lock()
        assert await place.view(lock) == LockView()
        await place.alice.leg.check(lock)
        await place.alice.leg.lock(lock, by_s=0)
        await place.settle_down()
        await mine(place.port, 2)
        shown = await place.view(lock)
        assert (shown.state, shown.confirmations, shown.preimage) == (LockState.LOCKED, 3, b"")
        with pytest.raises(CallerError):
            await place.bob.leg.claim(lock, bytes(32), by_s=0)
        await place.bob.leg.claim(lock, SECRET, by_s=0)
        await place.bob.leg.claim(lock, SECRET, by_s=0)
        shown = await place.view(lock)
        assert (shown.state, shown.end_confirmations) == (LockState.CLAIMED, 1)
        assert shown.preimage == SECRET and shown.ended_by and shown.locked_by
        assert await place.held(BOB.address) == HELD + lock.amount
        await place.pass_time(3600)
        with pytest.raises(RevertedError):
            await place.alice.leg.refund(lock)


async def test_a_lock_goes_back_after_its_time_and_not_before() -> None:
    async with swap_chain(31337) as place:
        lock = await place.lock()
        await place.alice.leg.lock(lock, by_s=0)
        with pytest.raises(CallerError):
            await place.alice.leg.refund(lock)
        await place.pass_time(3601)
        await place.alice.leg.refund(lock)
        shown = await place.view(lock)
        assert (shown.state, shown.end_confirmations) == (LockState.REFUNDED, 1)
        assert await place.held(ALICE.address) == HELD


async def test_a_replaced_block_takes_the_lock_back_and_it_is_made_again() -> None:
    async with swap_chain(31337) as place:
        lock = await place.lock()
        before = await rpc(place.port, "evm_snapshot")
        await place.alice.leg.lock(lock, by_s=0)
        assert (await place.view(lock)).state is LockState.LOCKED
        await rpc(place.port, "evm_setAutomine", False)
        await rpc(place.port, "evm_revert", before)
        assert await place.bob.leg.view(lock) == LockView()
        await rpc(place.port, "evm_setAutomine", True)
        await mine(place.port)
        # The transaction is broadcast again at the next head; nobody asks for it.
        async for _ in place.alice.leg.heads():
            if (await place.view(lock)).state is LockState.LOCKED:
                break


async def test_locks_with_other_terms_do_not_count_and_say_why() -> None:
    async with swap_chain(31337) as place:
        agreed = await place.lock()
        made = agreed._replace(amount=Amount(999))
        await place.alice.leg.lock(made, by_s=0)
        shown = await place.view(agreed)
        assert (shown.state, shown.problem) == (LockState.ABSENT, "its amount is 999")
        late = agreed._replace(timelock_s=agreed.timelock_s + 1)
        assert "timelock" in (await place.view(late)).problem


async def test_ending_another_lock_of_the_same_hash_does_not_end_ours() -> None:
    async with swap_chain(31337) as place:
        lock = await place.lock()
        decoy = lock._replace(sender=BOB.address, timelock_s=await place.time_s() + 60)
        await place.bob.leg.lock(decoy, by_s=0)
        await place.alice.leg.lock(lock, by_s=0)
        await place.pass_time(61)
        await place.bob.leg.refund(decoy)
        assert (await place.view(decoy)).state is LockState.REFUNDED
        assert (await place.view(lock)).state is LockState.LOCKED


async def test_locks_that_share_a_hash_are_claimed_each() -> None:
    async with swap_chain(31337) as place:
        first = await place.lock()
        second = first._replace(amount=Amount(5), timelock_s=first.timelock_s + 1)
        for lock in (first, second):
            await place.alice.leg.lock(lock, by_s=0)
            await place.settle_down()
            await place.bob.leg.claim(lock, SECRET, by_s=0)
        assert await place.held(BOB.address) == HELD + first.amount + 5


async def test_the_chains_own_coin() -> None:
    async with swap_chain(31337) as place:
        lock = await place.lock(asset=f"{place.name}/slip44:60", amount=Amount(10**15))
        await place.alice.leg.check(lock)
        await place.alice.leg.lock(lock, by_s=0)
        assert (await place.view(lock)).state is LockState.LOCKED
        await place.bob.leg.claim(lock, SECRET, by_s=0)
        assert (await place.view(lock)).preimage == SECRET


async def test_what_cannot_be_paid_is_refused_before_anything_is_sent() -> None:
    async with swap_chain(31337) as place:
        rich = await place.lock(amount=Amount(HELD + 1))
        with pytest.raises(RefusedError, match="holds"):
            await place.alice.leg.check(rich)
        await _revoke(place)
        with pytest.raises(RefusedError, match="approve"):
            await place.alice.leg.check(await place.lock())


async def _revoke(place: Place) -> None:
    call = erc20.approve_call(HASH_TIMELOCK, 0)
    await place.alice.chain.submit(Intent("revoke", ALICE.address, BASE.address, call))
    await place.settle_down()


@pytest.mark.parametrize(
    "changes",
    [
        {"asset": "eip155:2/slip44:60"},
        {"asset": "eip155:1/erc721:0x00"},
        {"amount": Amount(1 << 96)},
        {"amount": Amount(0)},
        {"recipient": bytes(20)},
        {"recipient": bytes(33)},
        {"hashlock": bytes(31)},
        {"timelock_s": 1 << 96},
    ],
)
def test_what_the_contract_cannot_hold_is_our_callers_fault(changes: dict[str, object]) -> None:
    lock = Lock(
        *("eip155:1", "eip155:1/slip44:60", Amount(1), bytes(32), bytes(32)),  # type: ignore[arg-type]
        *(b"s" * 20, b"r" * 20, 1),
    )
    assert timelock.terms(lock)
    with pytest.raises(CallerError):
        timelock.terms(lock._replace(**changes))  # type: ignore[arg-type]
