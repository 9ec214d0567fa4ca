"""Bonds of this wallet: paid, shown, and taken home when their time has come
(protocol/13-bitcoin-bonds.md).

A bond is sent as a lock is: kept before it is broadcast, replaced until it is deep enough, and
never twice under one name. What there is of bonds is read off the ledger, not off what was sent: a
bond that another wallet paid to our key, or that the seed alone remembers, is there as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import trio
from coincurve import PrivateKey, PublicKey

from orrange_p2p.chains.bitcoin.backend import Backend
from orrange_p2p.chains.bitcoin.ledger import Ledger, Output
from orrange_p2p.chains.bitcoin.script import MIN_LOCK_SATS, lock_output
from orrange_p2p.chains.bitcoin.sender import Sender, lock_cost, name_of
from orrange_p2p.chains.bitcoin.transactions import address_of, public_key
from orrange_p2p.chains.bitcoin.wallet import BondScript, Wallet
from orrange_p2p.core.bitcoin_bonds import MIN_BOND_SATS, bond_output, lock_times, show_month
from orrange_p2p.core.bond_proofs import BondProof
from orrange_p2p.core.errors import CallerError, InvalidError, RefusedError, UnreachableError
from orrange_p2p.core.ids import Amount, MatchId
from orrange_p2p.core.swaps.legs import Lock
from orrange_p2p.crypto import secp256k1
from orrange_p2p.crypto.bitcoin import OutPoint
from orrange_p2p.ports.bitcoin import KeptBlock

__all__ = ["Bonds", "OwnBond", "Plan", "find"]


class OwnBond(NamedTuple):
    """An output with one of our keys' bond scripts."""

    number: int
    """Of the trader whose it is."""
    key: bytes
    outpoint: OutPoint
    sats: int
    locked_until_s: int
    depth: int
    """Blocks from its own to the head, both counted; 0: it waits for one."""
    spent_by: bytes
    """Id of the transaction that took it home; empty: none."""
    spent_depth: int
    is_free: bool
    """Its time has come."""


class Plan(NamedTuple):
    """What making a bond would take."""

    address: str
    fee: Amount
    """About, at today's rate."""
    free: Amount
    """What the wallet can spend."""
    time_s: int
    """The chain's."""


class Bonds:
    """Of one wallet. ``look`` goes to the head, and is called with the turn taken."""

    def __init__(
        self,
        chain: str,
        prefix: str,
        look: Callable[[], Awaitable[KeptBlock]],
        turn: trio.Lock,
        backend: Backend,
        ledger: Ledger,
        wallet: Wallet,
        sender: Sender,
    ) -> None:
        self.chain = chain
        self._prefix = prefix
        self._look = look
        self._turn = turn
        self._backend = backend
        self._ledger = ledger
        self._wallet = wallet
        self._sender = sender

    def key(self, number: int) -> bytes:
        """The public key of a trader's bonds, compressed. Raises ``CallerError``."""
        return public_key(self._wallet.bond_secret(number))

    def point(self, number: int) -> bytes:
        """That key's x and y in 64 bytes, as the registry takes it. Raises ``CallerError``."""
        return PublicKey(self.key(number)).format(compressed=False)[1:]

    def sign(self, number: int, digest: bytes) -> bytes:
        """With that key: 65 bytes. Raises ``CallerError``."""
        return secp256k1.sign(PrivateKey(self._wallet.bond_secret(number)), digest)

    async def plan(self, name: str, number: int, sats: int, locked_until_s: int) -> Plan:
        """Raises ``CallerError`` for what would never count, ``RefusedError`` if the coins for it
        are not there. ``name``: if it was begun already, neither is looked at."""
        begun = name_of("bond", self._lock(name, self.key(number), sats, locked_until_s))
        async with self._turn:
            head = await self._look()
            is_new = begun not in self._sender.intents
            if is_new:
                _check(sats, locked_until_s, head)
            fee = lock_cost(await self._sender.rate(6))
            free = sum(coin.value for coin in self._sender.spendable(head))
            if is_new and free < sats + fee:
                raise RefusedError(
                    f"{free} sat are free; a bond of {sats} sat and its fee take {sats + fee}"
                )
            address = address_of(bond_output(self.key(number), locked_until_s), self._prefix)
            return Plan(address, Amount(fee), Amount(free), head.median_s)

    async def create(self, name: str, number: int, sats: int, locked_until_s: int) -> bytes:
        """Send a bond; the id of its transaction, which changes should it be replaced by one that
        offers more. Under one name nothing is sent twice. Errors as ``plan``'s."""
        lock = self._lock(name, self.key(number), sats, locked_until_s)
        intent = name_of("bond", lock)
        async with self._turn:
            head = await self._look()
            begun = self._sender.intents.get(intent)
            if begun is None:
                _check(sats, locked_until_s, head)
                await self._sender.begin_lock(lock, 0, head)
            elif begun.lock != lock:
                raise CallerError(f"{name!r} is the name of another bond")
            return self._sender.attempts(intent)[-1].txid

    async def all(self) -> list[OwnBond]:
        """Those that wait for a block first, then the youngest."""
        async with self._turn:
            return self._all(await self._look())

    async def spend(self, outpoint: OutPoint) -> bytes:
        """Take a bond home; the transaction's id. Raises ``CallerError`` before its time, and for
        what is none of ours or was spent."""
        async with self._turn:
            head = await self._look()
            bond = find(self._all(head), outpoint)
            intent = f"unbond {outpoint}"
            if intent not in self._sender.intents:
                if bond.spent_by:
                    raise CallerError(f"{outpoint} was spent by {bond.spent_by[::-1].hex()}")
                if not bond.is_free:
                    raise CallerError(
                        f"{outpoint} is locked until {show_month(bond.locked_until_s)}-01, 00:00 "
                        "UTC, by the chain's own time, which is an hour or two late"
                    )
                if not bond.depth:
                    raise CallerError(f"{outpoint} is in no block yet")
                if bond.sats < MIN_LOCK_SATS:
                    raise RefusedError(
                        f"{bond.sats} sat would not pay for their way home: least {MIN_LOCK_SATS}"
                    )
                lock = self._lock("", bond.key, bond.sats, bond.locked_until_s)
                outputs = self._ledger.outputs(lock_output(lock))
                place = next(one for one in outputs if one.outpoint == outpoint)
                await self._sender.begin_unbond(lock, head, place)
            return self._sender.attempts(intent)[-1].txid

    async def verify(self, proof: BondProof) -> int:
        """Hold a proof against the chain; how deep its output is. Raises ``InvalidError`` if it is
        not there, or another one."""
        found = await self._backend.unspent_at(proof.outpoint)
        if found is None:
            raise InvalidError(f"no block has an unspent output {proof.outpoint}")
        block_hash = await self._backend.hash_at(found.height)
        header = None if block_hash is None else await self._backend.header(block_hash)
        best = await self._backend.best()
        if header is None or best.height < found.height:
            raise UnreachableError("blocks were replaced meanwhile: try again")
        proof.verify_output(found.output, header.median_s)
        return best.height - found.height + 1

    def _lock(self, name: str, key: bytes, sats: int, locked_until_s: int) -> Lock:
        """A lock that nobody can claim."""
        asset, called = f"{self.chain}/slip44:0", hashlib.sha256(name.encode()).digest()
        return Lock(self.chain, asset, Amount(sats), b"", MatchId(called), key, b"", locked_until_s)

    def _all(self, head: KeptBlock) -> list[OwnBond]:
        found = []
        for script, of in self._wallet.bonds().items():
            found += [self._own(one, of, head) for one in self._ledger.outputs(script)]
        return sorted(found, key=lambda one: (one.depth, one.outpoint))

    def _own(self, output: Output, of: BondScript, head: KeptBlock) -> OwnBond:
        spend = self._ledger.spend(output.outpoint)
        return OwnBond(
            of.number,
            of.key,
            output.outpoint,
            output.value,
            of.locked_until_s,
            head.height - output.height + 1 if output.height else 0,
            b"" if spend is None else spend.txid,
            head.height - spend.height + 1 if spend is not None and spend.height else 0,
            head.median_s > of.locked_until_s,
        )


def find(bonds: Sequence[OwnBond], outpoint: OutPoint) -> OwnBond:
    """Raises ``CallerError`` if it is none of them."""
    for bond in bonds:
        if bond.outpoint == outpoint:
            return bond
    raise CallerError(f"this wallet has no bond {outpoint}")


def _check(sats: int, locked_until_s: int, head: KeptBlock) -> None:
    """Raises ``CallerError`` for what would never count."""
    if sats < MIN_BOND_SATS:
        raise CallerError(f"a bond of {sats} sat would not count: least {MIN_BOND_SATS}")
    times = lock_times(head.median_s)
    if locked_until_s not in times:
        raise CallerError(
            "a bond is locked until the begin of a month from "
            f"{show_month(times[0])} to {show_month(times[-1])}"
        )
