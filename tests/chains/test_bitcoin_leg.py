"""A lock on Bitcoin, from the coins for it to its end: on the kernel's chain and on bitcoind's."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bitcoin_chains import (
    SATS,
    SECRET,
    Node,
    bitcoind,
    changed_witness,
    kernel,
    leg_on,
    shows,
    terms,
    wallet_of,
)

from orrange_p2p.chains.bitcoin.leg import BitcoinLeg
from orrange_p2p.chains.bitcoin.transactions import script_of
from orrange_p2p.core.errors import CallerError, RefusedError
from orrange_p2p.core.swaps.legs import LockState
from orrange_p2p.crypto.bitcoin import TxOut, decode_tx

ABSENT, LOCKED, CLAIMED, REFUNDED = LockState


@pytest.fixture(params=["kernel", "bitcoind"])
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    if request.param == "kernel":
        async with kernel() as opened:
            yield opened
        return
    if shutil.which("bitcoind") is None:
        pytest.skip("SKIPPED: no bitcoind on the path")
    (tmp_path / "bitcoind").mkdir()
    with bitcoind(tmp_path / "bitcoind") as opened:
        yield opened


@asynccontextmanager
async def parties(
    node: Node, where: Path, *, sats: int = 1_000_000
) -> AsyncIterator[tuple[BitcoinLeg, BitcoinLeg]]:
    """Alice with coins, Bob without any."""
    async with leg_on(node, where / "alice", 0) as alice, leg_on(node, where / "bob", 1) as bob:
        await alice.now()
        await node.fund(wallet_of(alice), sats)
        yield alice, bob


async def test_a_lock_is_claimed_and_its_secret_is_seen_at_once(node: Node, tmp_path: Path) -> None:
    async with parties(node, tmp_path) as (alice, bob):
        lock = await terms(alice, bob)
        assert shows(await bob.view(lock)) == (ABSENT, 0, 0)
        await alice.check(lock)
        await alice.lock(lock, by_s=lock.timelock_s)
        await alice.lock(lock, by_s=lock.timelock_s)
        assert shows(await bob.view(lock)) == (LOCKED, 0, 0)
        await node.mine(3)
        assert shows(await bob.view(lock)) == (LOCKED, 3, 0)

        await bob.claim(lock, SECRET, by_s=lock.timelock_s)
        view = await alice.view(lock)
        assert (shows(view), view.preimage) == ((CLAIMED, 3, 0), SECRET)
        await node.mine(2)
        view = await alice.view(lock)
        assert (shows(view), view.preimage) == ((CLAIMED, 5, 2), SECRET)
        assert SATS - 1_000 < await bob.balance() < SATS
        assert 1_000_000 - SATS - 1_000 < await alice.balance() < 1_000_000 - SATS


async def test_a_lock_goes_back_after_its_time_and_not_before(node: Node, tmp_path: Path) -> None:
    async with parties(node, tmp_path) as (alice, bob):
        lock = await terms(alice, bob)
        await alice.lock(lock, by_s=lock.timelock_s)
        await node.mine()
        early = await alice.rescue(lock)
        assert await node.refuses(early) == "non-final"
        with pytest.raises(CallerError, match="cannot go back before"):
            await alice.refund(lock)
        await node.pass_time(13 * 3600)
        assert await node.refuses(early) == ""
        await alice.refund(lock)
        await alice.refund(lock)
        assert shows(await bob.view(lock)) == (REFUNDED, 7, 0)
        await node.mine()
        assert shows(await bob.view(lock)) == (REFUNDED, 8, 1)
        assert 1_000_000 - 2_000 < await alice.balance() < 1_000_000


async def test_what_bitcoin_core_refuses(node: Node, tmp_path: Path) -> None:
    async with parties(node, tmp_path) as (alice, bob):
        lock = await terms(alice, bob)
        await alice.lock(lock, by_s=lock.timelock_s)
        await node.mine()
        claim = await bob.rescue(lock)  # lacks the secret only
        good = changed_witness(claim, 1, SECRET)
        assert await node.refuses(good.encoded()) == ""
        refund = await alice.rescue(lock)
        stranger = decode_tx(claim).inputs[0].witness[0]
        bad = {
            "wrong preimage": changed_witness(claim, 1, b"\x5b" * 32),
            "31-byte preimage": changed_witness(claim, 1, SECRET[:31]),
            "33-byte preimage": changed_witness(claim, 1, SECRET + b"\0"),
            "the sender's signature on a claim": changed_witness(
                good.encoded(), 0, decode_tx(refund).inputs[0].witness[0]
            ),
            "the recipient's signature on a refund": changed_witness(refund, 0, stranger),
            "refund without its time": decode_tx(refund)._replace(locktime=0),
            "another amount than was signed": good._replace(
                outputs=(TxOut(good.outputs[0].value - 1, good.outputs[0].script),)
            ),
        }
        for why, tx in bad.items():
            reason = await node.refuses(tx.encoded())
            assert "script" in reason or reason == "non-final", (why, reason)
        await node.rpc("sendrawtransaction", good.encoded().hex())
        await node.mine()
        twice = good._replace(outputs=(TxOut(good.outputs[0].value, b"\0\x14" + b"\x22" * 20),))
        assert "missing" in await node.refuses(twice.encoded())


async def test_an_address_stays_until_coins_have_come_to_it(node: Node, tmp_path: Path) -> None:
    async with leg_on(node, tmp_path / "wallet.sqlite", 0) as leg:
        first = await leg.address()
        assert {await leg.address() for _ in range(30)} == {first}
        await node.fund(script_of(first, "bcrt"), 50_000)
        assert await leg.balance() == 50_000
        assert await leg.address() != first


async def test_blocks_from_before_a_wallets_first_look_can_be_replaced(
    node: Node, tmp_path: Path
) -> None:
    async with leg_on(node, tmp_path / "new.sqlite", 0) as leg:
        await node.fund(wallet_of(leg), 1_000_000)
    (tmp_path / "new.sqlite").unlink()
    async with leg_on(node, tmp_path / "new.sqlite", 0) as leg:
        assert await leg.balance() == 1_000_000
        await node.reorganise(2)
        await node.mine(3)
        assert await leg.balance() == 1_000_000


async def test_reorganisations_of_lock_and_claim_are_followed(node: Node, tmp_path: Path) -> None:
    async with parties(node, tmp_path) as (alice, bob):
        lock = await terms(alice, bob)
        await alice.lock(lock, by_s=lock.timelock_s)
        await node.mine(2)
        assert shows(await bob.view(lock)) == (LOCKED, 2, 0)
        await node.reorganise(2)
        assert shows(await bob.view(lock)) == (LOCKED, 0, 0)
        await node.mine()
        await bob.claim(lock, SECRET, by_s=lock.timelock_s)
        await node.mine(2)
        assert shows(await alice.view(lock)) == (CLAIMED, 3, 2)
        await node.reorganise(2)
        view = await alice.view(lock)
        assert (shows(view), view.preimage) == ((CLAIMED, 1, 0), SECRET)
        await node.mine()
        assert shows(await alice.view(lock)) == (CLAIMED, 2, 1)


async def test_a_lock_that_waits_can_be_cancelled_and_one_that_is_mined_cannot(
    node: Node, tmp_path: Path
) -> None:
    async with parties(node, tmp_path) as (alice, bob):
        lock = await terms(alice, bob)
        await alice.lock(lock, by_s=lock.timelock_s)
        await alice.cancel(lock)
        await node.mine(2)
        assert shows(await bob.view(lock)) == (ABSENT, 0, 0)
        assert 1_000_000 - 2_000 < await alice.balance() < 1_000_000
        with pytest.raises(CallerError, match="cancelled"):
            await alice.lock(lock, by_s=lock.timelock_s)

        other = lock._replace(timelock_s=lock.timelock_s + 1)
        await alice.lock(other, by_s=lock.timelock_s)
        await node.mine()
        await alice.cancel(other)
        await node.mine()
        assert shows(await bob.view(other)) == (LOCKED, 2, 0)


async def test_what_cannot_be_paid_is_refused(node: Node, tmp_path: Path) -> None:
    async with parties(node, tmp_path, sats=200_100) as (alice, bob):
        lock = await terms(alice, bob)
        with pytest.raises(RefusedError, match="200100 sat are free"):
            await alice.check(lock)
        with pytest.raises(RefusedError, match="cannot be paid"):
            await alice.lock(lock, by_s=lock.timelock_s)
        with pytest.raises(RefusedError, match="least 10000"):
            await alice.check(lock._replace(amount=type(SATS)(500)))
        with pytest.raises(CallerError, match="not us"):
            await bob.lock(lock, by_s=lock.timelock_s)
        with pytest.raises(RefusedError, match="nothing is locked"):
            await bob.claim(lock, SECRET, by_s=lock.timelock_s)
