"""Bonds from the wallet's coins and back, on Bitcoin Core's own validation."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bitcoin_chains import REGTEST, Node, changed_witness, config, kernel, keys
from coincurve import PrivateKey
from embit import ec
from embit.descriptor import Descriptor
from embit.script import Script, Witness
from embit.transaction import Transaction, TransactionInput, TransactionOutput

sys.path.append(str(Path(__file__).parents[1] / "core"))

from network import make_genesis

from orrange_p2p.chains.bitcoin.bonds import OwnBond, find
from orrange_p2p.chains.bitcoin.leg import BitcoinLeg, open_bitcoin_leg
from orrange_p2p.chains.bitcoin.transactions import script_of
from orrange_p2p.core.bitcoin_bonds import (
    DEPTH,
    bond_descriptor,
    bond_output,
    lock_times,
    show_month,
)
from orrange_p2p.core.bond_proofs import BondProof, proof_digest
from orrange_p2p.core.errors import CallerError, InvalidError, RefusedError
from orrange_p2p.core.ids import Address
from orrange_p2p.crypto.bip32 import HARDENED
from orrange_p2p.crypto.bitcoin import OutPoint, decode_tx
from orrange_p2p.store.bitcoin_sqlite import open_sqlite_bitcoin

DAY_S = 86_400
GENESIS = make_genesis(4)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with kernel() as opened:
        yield opened


@asynccontextmanager
async def wallet(node: Node, path: Path, *, sats: int = 0) -> AsyncIterator[BitcoinLeg]:
    async with (
        open_sqlite_bitcoin(path / "wallet.sqlite", REGTEST) as store,
        open_bitcoin_leg(config(node), store, keys(0), traders=2) as leg,
    ):
        if sats:
            await node.fund(script_of(await leg.address(), "bcrt"), sats)
        yield leg


async def until_of(leg: BitcoinLeg, month: int = 1) -> int:
    return lock_times((await leg.now()).time_s)[month]


async def only(leg: BitcoinLeg) -> OwnBond:
    (bond,) = await leg.bonds.all()
    return bond


async def test_a_bond_is_locked_until_its_month_and_then_comes_home(
    node: Node, tmp_path: Path
) -> None:
    async with wallet(node, tmp_path, sats=1_000_000) as leg:
        until_s = await until_of(leg)
        plan = await leg.bonds.plan("mine", 1, 400_000, until_s)
        output = bond_output(leg.bonds.key(1), until_s)
        assert script_of(plan.address, "bcrt") == output and plan.free == 1_000_000
        for _ in range(2):
            await leg.bonds.create("mine", 1, 400_000, until_s)
            await leg.bonds.plan("mine", 1, 400_000, until_s)
        with pytest.raises(CallerError, match="name of another bond"):
            await leg.bonds.create("mine", 1, 500_000, until_s)
        bond = await only(leg)
        assert (bond.number, bond.sats, bond.depth, bond.is_free) == (1, 400_000, 0, False)
        assert 600_000 - plan.fee - 50 <= await leg.balance() < 600_000
        await node.mine(2)
        assert (await only(leg)).depth == 2
        with pytest.raises(CallerError, match=f"locked until {show_month(until_s)}-01"):
            await leg.bonds.spend(bond.outpoint)
        (intent,) = [one for one in leg._sender.intents if one.startswith("bond ")]
        early = leg._sender.attempts(intent)[-1].refund
        assert await node.refuses(early) == "non-final"

        await node.pass_time(until_s - (await leg.now()).time_s + 60)
        assert (await only(leg)).is_free
        await leg.bonds.spend(bond.outpoint)
        await leg.bonds.spend(bond.outpoint)
        assert (await only(leg)).spent_by
        await node.mine()
        bond = await only(leg)
        assert bond.spent_depth == 1
        assert 1_000_000 - 2_000 < await leg.balance() < 1_000_000
        with pytest.raises(CallerError, match="has no bond"):
            await leg.bonds.spend(OutPoint(bytes(32), 0))


async def test_what_bitcoin_core_refuses_of_a_bond(node: Node, tmp_path: Path) -> None:
    async with wallet(node, tmp_path, sats=1_000_000) as leg:
        until_s = await until_of(leg)
        await leg.bonds.create("mine", 1, 400_000, until_s)
        await leg.bonds.create("other", 2, 400_000, until_s)
        await node.mine()
        refunds = {
            leg._sender.intents[name].lock.sender: leg._sender.attempts(name)[-1].refund
            for name in leg._sender.intents
        }
        good, of_another = (refunds[leg.bonds.key(number)] for number in (1, 2))
        tx = decode_tx(good)
        # Bitcoin Core's interpreter, before and after the time.
        assert tx.locktime == until_s
        assert await node.refuses(good) == "non-final"
        assert "script" in await node.refuses(tx._replace(locktime=0).encoded())
        later = until_s - (await leg.now()).time_s + 60
        await node.pass_time(later)
        assert await node.refuses(good) == ""
        signature = decode_tx(of_another).inputs[0].witness[0]
        final = tx._replace(inputs=(tx.inputs[0]._replace(sequence=0xFFFFFFFF),))
        bad = {
            "another key's signature": changed_witness(good, 0, signature),
            "no signature": changed_witness(good, 0, b""),
            "a month earlier": tx._replace(
                locktime=lock_times((await leg.now()).time_s - later)[0]
            ),
            "locktimes ignored": final,
        }
        for why, one in bad.items():
            assert "script" in await node.refuses(one.encoded()), why


async def test_another_wallet_takes_a_bond_home_by_its_descriptor(
    node: Node, tmp_path: Path
) -> None:
    async with wallet(node, tmp_path, sats=1_000_000) as leg:
        until_s = await until_of(leg)
        await leg.bonds.create("mine", 1, 400_000, until_s)
        await node.mine()
        bond = await only(leg)
        described = Descriptor.from_string(bond_descriptor(bond.key, until_s))
        home = Script(b"\0\x14" + b"\x22" * 20)
        tx = Transaction(
            vin=[TransactionInput(bond.outpoint.txid[::-1], bond.outpoint.vout, sequence=0)],
            vout=[TransactionOutput(399_000, home)],
            locktime=until_s,
        )
        key = ec.PrivateKey(keys(0)((20307 + HARDENED, 1 + HARDENED, 1 + HARDENED)))
        script = described.witness_script()
        signature = key.sign(tx.sighash_segwit(0, script, 400_000)).serialize() + b"\1"
        tx.vin[0].witness = Witness([signature, script.data])
        assert await node.refuses(tx.serialize()) == "non-final"
        await node.pass_time(until_s - (await leg.now()).time_s + 60)
        await node.rpc("sendrawtransaction", tx.serialize().hex())
        await node.mine()
        assert (await only(leg)).spent_depth == 1
        with pytest.raises(CallerError, match="was spent by"):
            await leg.bonds.spend(bond.outpoint)


async def test_bonds_come_back_from_the_seed_alone_and_from_strangers(
    node: Node, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    async with wallet(node, tmp_path / "old", sats=1_000_000) as leg:
        until_s = await until_of(leg, 5)
        await leg.bonds.create("mine", 2, 400_000, until_s)
        await node.mine(20)
        # From any wallet that is told the address.
        await node.fund(bond_output(leg.bonds.key(1), until_s), 250_000)
        await node.fund(bond_output(leg.bonds.key(1), until_s), 9_999)
        before = await leg.bonds.all()
        found = [(one.number, one.sats) for one in before]
        assert found == [(1, 9_999), (1, 250_000), (2, 400_000)]
    async with wallet(node, tmp_path / "old") as leg:
        assert await leg.bonds.all() == before
    async with wallet(node, tmp_path / "new") as leg:
        assert await leg.bonds.all() == before
        await node.pass_time(until_s - (await leg.now()).time_s + 60)
        with pytest.raises(RefusedError, match="would not pay for their way home"):
            await leg.bonds.spend(before[0].outpoint)
        for one in before[1:]:
            await leg.bonds.spend(one.outpoint)
        await node.mine()
        assert [one.spent_depth for one in await leg.bonds.all()] == [0, 1, 1]


async def test_what_would_not_count_or_cannot_be_paid_is_refused(
    node: Node, tmp_path: Path
) -> None:
    async with wallet(node, tmp_path, sats=500_000) as leg:
        until_s = await until_of(leg)
        for number, sats, time_s, why in (
            (1, 99_999, until_s, "would not count: least 100000"),
            (1, 200_000, until_s + 1, "until the begin of a month from"),
            (1, 200_000, until_s + 4 * 365 * DAY_S, "until the begin of a month from"),
            (1, 200_000, until_s - 366 * DAY_S, "until the begin of a month from"),
            (3, 200_000, until_s, "wallet is of 2 traders"),
        ):
            with pytest.raises(CallerError, match=why):
                await leg.bonds.create("x", number, sats, time_s)
        with pytest.raises(RefusedError, match="500000 sat are free"):
            await leg.bonds.plan("mine", 1, 500_000, until_s)
        with pytest.raises(RefusedError, match="cannot be paid"):
            await leg.bonds.create("x", 1, 500_000, until_s)
        assert await leg.bonds.all() == [] and not leg._sender.intents


async def test_a_bond_survives_a_crash_a_replaced_block_and_a_full_mempool(
    node: Node, tmp_path: Path
) -> None:
    async with wallet(node, tmp_path, sats=1_000_000) as leg:
        until_s = await until_of(leg)
        await leg.bonds.create("mine", 1, 400_000, until_s)
        await node.rpc("devnet_drop")
    async with wallet(node, tmp_path) as leg:
        await leg.bonds.create("mine", 1, 400_000, until_s)
        await node.mine(3)
        bond = await only(leg)
        assert bond.depth == 3, "it was broadcast again at the first look"
        await node.reorganise(3)
        await leg.now()
        await node.rpc("devnet_drop")
        await node.mine(4)
        await leg.now()  # and at each block after that
        await node.mine()
        again = await only(leg)
        assert (again.outpoint, again.depth) == (bond.outpoint, 1)


async def test_a_proof_is_held_against_the_chain(node: Node, tmp_path: Path) -> None:
    async with wallet(node, tmp_path, sats=1_000_000) as leg:
        until_s = await until_of(leg)
        await leg.bonds.create("mine", 1, 400_000, until_s)
        account = Address(b"\x11" * 20)

        def proof_of(bond: OwnBond, **changes: int) -> BondProof:
            terms = {"sats": bond.sats, "locked_until_s": bond.locked_until_s} | changes
            digest = proof_digest(GENESIS, account, bond.outpoint, **terms)
            signature = leg.bonds.sign(bond.number, digest)
            made = (GENESIS.network_id, account, bond.key, *bond.outpoint, *terms.values())
            return BondProof(*made, signature)

        with pytest.raises(InvalidError, match="no block has"):
            await leg.bonds.verify(proof_of(await only(leg)))
        await node.mine(DEPTH)
        bond = find(await leg.bonds.all(), (await only(leg)).outpoint)
        good = proof_of(bond)
        good.verify(GENESIS)
        assert await leg.bonds.verify(good) == DEPTH
        # Signed well, and not what the chain has.
        for lie, why in (
            (proof_of(bond, sats=400_001), "has 400000 sat"),
            (proof_of(bond, locked_until_s=await until_of(leg, 2)), "not locked by this key"),
            (good._replace(vout=good.vout + 5), "no block has"),
        ):
            with pytest.raises(InvalidError, match=why):
                await leg.bonds.verify(lie)
        stranger = good._replace(key=PrivateKey(b"\x05" * 32).public_key.format(compressed=True))
        with pytest.raises(InvalidError, match="not locked by this key"):
            await leg.bonds.verify(stranger)
        await node.pass_time(until_s - (await leg.now()).time_s + 60)
        await leg.bonds.spend(bond.outpoint)
        await node.mine()
        with pytest.raises(InvalidError, match="no block has"):
            await leg.bonds.verify(good)
