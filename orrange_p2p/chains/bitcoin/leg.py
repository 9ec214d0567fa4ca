"""The ``Leg`` port on Bitcoin (protocol/10-bitcoin.md), and what runs behind it.

One task looks for new heads and moves on what was begun. Each call of the port looks too, so what
it answers is of the newest head. All of them take turns.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from orrange_p2p.chains.bitcoin.backend import Backend
from orrange_p2p.chains.bitcoin.bonds import Bonds
from orrange_p2p.chains.bitcoin.config import BitcoinConfig, network_of
from orrange_p2p.chains.bitcoin.follower import Follower
from orrange_p2p.chains.bitcoin.ledger import Ledger
from orrange_p2p.chains.bitcoin.rpc import open_bitcoind
from orrange_p2p.chains.bitcoin.script import (
    MIN_LOCK_SATS,
    lock_output,
    lock_script,
    preimage_of,
)
from orrange_p2p.chains.bitcoin.sender import Sender, lock_cost, name_of
from orrange_p2p.chains.bitcoin.transactions import address_of, public_key, with_preimage
from orrange_p2p.chains.bitcoin.wallet import RECEIVE, KeyAt, Wallet
from orrange_p2p.core.errors import (
    CallerError,
    DeadlineError,
    MalformedError,
    RefusedError,
    UnreachableError,
)
from orrange_p2p.core.ids import Amount, MatchId
from orrange_p2p.core.swaps.legs import Lock, LockState, LockView
from orrange_p2p.ports.bitcoin import BitcoinStore, KeptBlock
from orrange_p2p.ports.legs import ChainTime

__all__ = ["BitcoinLeg", "open_bitcoin_leg"]

HORIZON_S: Final = 14 * 86_400
"""No lock was made longer before its timelock: an unknown one is looked for from there on."""
_LONGEST_PAUSE_S: Final = 30.0
_UNKNOWN: Final = bytes(32)
"""Stands where a claim lacks its secret."""


class BitcoinLeg:
    """Implements ``Leg``. Made by ``open_bitcoin_leg``."""

    def __init__(
        self,
        config: BitcoinConfig,
        backend: Backend,
        store: BitcoinStore,
        key_at: KeyAt,
        traders: int,
    ) -> None:
        self._config = config
        self._network = network_of(config.chain)
        self._store = store
        self._ledger = Ledger()
        self._wallet = Wallet(self._ledger, key_at, self._network.coin, traders)
        self._follower = Follower(backend, store, self._ledger, self._wallet)
        self._sender = Sender(config, backend, store, self._ledger, self._wallet)
        self._preimages: dict[bytes, bytes] = {}
        self._turn = trio.Lock()
        self._stepped: KeptBlock | None = None
        """The head that everything was moved on by."""
        self._looked = trio.Event()
        """Set, and replaced, at each new head."""
        self._hint = trio.Event()
        self.bonds = Bonds(
            config.chain,
            self._network.prefix,
            self._look,
            self._turn,
            backend,
            self._ledger,
            self._wallet,
            self._sender,
        )
        """Of the traders whose wallet this is."""

    async def restore(self) -> None:
        """What was kept. Once, before anything else."""
        kept = await self._store.load()
        self._follower.restore(kept)
        self._sender.restore(kept)
        self._preimages = {hashlib.sha256(one).digest(): one for one in kept.preimages}

    # --- the port ---

    @property
    def chain(self) -> str:
        return self._config.chain

    def party(self, trade: MatchId) -> bytes:
        return public_key(self._wallet.party(trade))

    async def now(self) -> ChainTime:
        async with self._turn:
            return _time(await self._look())

    async def heads(self) -> AsyncIterator[ChainTime]:
        seen: KeptBlock | None = None
        while True:
            looked = self._looked
            if self._stepped is not None and self._stepped != seen:
                seen = self._stepped
                yield _time(seen)
            else:
                await looked.wait()

    async def check(self, lock: Lock) -> None:
        self._check_ours(lock, lock.sender)
        if lock.amount < MIN_LOCK_SATS:
            raise RefusedError(
                f"a lock of {lock.amount} sat would not pay for its end: least {MIN_LOCK_SATS}"
            )
        async with self._turn:
            head = await self._look()
            rate = await self._sender.rate(6)
            held = sum(coin.value for coin in self._sender.spendable(head))
            if held < lock.amount + lock_cost(rate):
                raise RefusedError(
                    f"{held} sat are free; a lock of {lock.amount} sat and its fee take "
                    f"{lock.amount + lock_cost(rate)}"
                )

    async def lock(self, lock: Lock, *, by_s: int) -> None:
        self._check_ours(lock, lock.sender)
        if lock.amount < MIN_LOCK_SATS:
            raise RefusedError(f"a lock of {lock.amount} sat: least {MIN_LOCK_SATS}")
        async with self._turn:
            head = await self._look()
            await self._watch(lock)
            if name_of("cancel", lock) in self._sender.intents:
                raise CallerError("this lock was cancelled")
            # Also if it was made before this store was: twice would be one time too many.
            if name_of("lock", lock) in self._sender.intents or self._sender.found(lock):
                return
            await self._sender.begin_lock(lock, by_s, head)

    async def cancel(self, lock: Lock) -> None:
        self._check_ours(lock, lock.sender)
        async with self._turn:
            head = await self._look()
            await self._watch(lock)
            found = self._sender.found(lock)
            if name_of("cancel", lock) in self._sender.intents or (found and found.height):
                return
            await self._sender.begin_cancel(lock, head)

    async def view(self, lock: Lock) -> LockView:
        async with self._turn:
            head = await self._look()
            await self._watch(lock)
            return await self._view(lock, head)

    async def claim(self, lock: Lock, preimage: bytes, *, by_s: int) -> None:
        self._check_ours(lock, lock.recipient)
        if len(preimage) != 32 or hashlib.sha256(preimage).digest() != lock.hashlock:
            raise CallerError("this is not the secret of that lock")
        await self._end(lock, preimage, by_s)

    async def refund(self, lock: Lock) -> None:
        self._check_ours(lock, lock.sender)
        await self._end(lock, b"", 0)

    async def rescue(self, lock: Lock) -> bytes:
        ours = self._public(lock)
        async with self._turn:
            head = await self._look()
            await self._watch(lock)
            name = name_of("lock", lock)
            attempts = self._sender.attempts(name)
            if lock.sender == ours and attempts:
                await self._sender.mark_handed_out(name)
                mined = [one for one in attempts if self._ledger.height_of(one.txid)]
                return (mined or attempts)[-1].refund
            self._check_ours(lock, lock.sender if lock.sender == ours else lock.recipient)
            place = self._sender.found(lock)
            if place is None:
                raise RefusedError("nothing is locked yet that could be rescued")
            preimage = b"" if lock.sender == ours else _UNKNOWN
            rate = min(self._config.max_rate, 2 * await self._sender.rate(2))
            return self._sender.end_attempt(lock, preimage, rate, head, place, None).raw

    async def save(self, lock: Lock, rescue: bytes, preimage: bytes) -> None:
        if not rescue:
            raise RefusedError("the bundle has no signed transaction for this lock")
        raw = with_preimage(rescue, preimage) if preimage else rescue
        async with self._turn:
            await self._look()
            if why := await self._sender.forward(raw):
                raise RefusedError(f"the node does not take the rescue: {why}")

    # --- beside the port ---

    async def address(self) -> str:
        """Where to send coins to this wallet: another address once coins have come to it."""
        async with self._turn:
            await self._look()
            return address_of(self._wallet.unused(RECEIVE), self._network.prefix)

    async def balance(self) -> Amount:
        """What is free: not in locks, nor about to be spent."""
        async with self._turn:
            head = await self._look()
            return Amount(sum(coin.value for coin in self._sender.spendable(head)))

    def counters(self) -> dict[str, int]:
        """Running totals by name."""
        return {**self._sender.counts, "rewinds": self._follower.rewinds}

    def notes(self) -> dict[str, str]:
        """By intent, why the node does not take what was broadcast last; for people."""
        return dict(self._sender.notes)

    async def run(self) -> None:
        """Look for new heads, for ever. A node that cannot be reached is waited for."""
        failures = 0
        while True:
            pause = self._config.poll_interval_ms / 1000
            try:
                async with self._turn:
                    await self._look()
                failures = 0
            except (DeadlineError, MalformedError, RefusedError, UnreachableError):
                failures = min(failures + 1, 10)
                pause = min(_LONGEST_PAUSE_S, pause * 2**failures)
            await trio.sleep(pause)

    # --- with the turn taken ---

    async def _look(self) -> KeptBlock:
        head = await self._follower.look()
        if head != self._stepped:
            await self._sender.step(head)
            self._stepped = head
            self._looked.set()
            self._looked = trio.Event()
        return head

    async def _watch(self, lock: Lock) -> None:
        if lock.chain != self._config.chain:
            raise CallerError(f"this lock is on {lock.chain}, not on {self._config.chain}")
        await self._follower.watch(lock_output(lock), lock.timelock_s - HORIZON_S)

    async def _view(self, lock: Lock, head: KeptBlock) -> LockView:
        outputs = self._ledger.outputs(lock_output(lock))
        preimage = await self._preimage(lock)
        place = self._sender.found(lock)
        if place is None:
            problem = ""
            if outputs:
                problem = f"{outputs[0].value} sat are locked instead of {lock.amount}"
            return LockView(preimage=preimage, problem=problem)
        view = LockView(
            LockState.LOCKED,
            head.height - place.height + 1 if place.height else 0,
            preimage=preimage,
            locked_by=str(place.outpoint),
        )
        spend = self._ledger.spend(place.outpoint)
        if spend is None:
            return view
        claimed = bool(preimage_of(spend.tx, lock_script(lock), lock.hashlock))
        return view._replace(
            state=LockState.CLAIMED if claimed else LockState.REFUNDED,
            end_confirmations=head.height - spend.height + 1 if spend.height else 0,
            ended_by=spend.txid[::-1].hex(),
        )

    async def _preimage(self, lock: Lock) -> bytes:
        if lock.hashlock in self._preimages:
            return self._preimages[lock.hashlock]
        script = lock_script(lock)
        for output in self._ledger.outputs(lock_output(lock)):
            spend = self._ledger.spend(output.outpoint)
            if spend and (preimage := preimage_of(spend.tx, script, lock.hashlock)):
                await self._store.add_preimage(preimage)
                self._preimages[lock.hashlock] = preimage
                return preimage
        return b""

    async def _end(self, lock: Lock, preimage: bytes, by_s: int) -> None:
        async with self._turn:
            head = await self._look()
            if not preimage and head.median_s <= lock.timelock_s:
                raise CallerError(
                    f"it cannot go back before {lock.timelock_s}; the chain's time is "
                    f"{head.median_s}"
                )
            await self._watch(lock)
            if name_of("claim" if preimage else "refund", lock) in self._sender.intents:
                return
            place = self._sender.found(lock)
            if place is None:
                raise RefusedError("nothing is locked that could be taken")
            spend = self._ledger.spend(place.outpoint)
            if spend is not None and spend.height:
                return
            await self._sender.begin_end(lock, preimage, by_s, head, place)

    def _public(self, lock: Lock) -> bytes:
        return self.party(lock.trade)

    def _check_ours(self, lock: Lock, party: bytes) -> None:
        if party != self._public(lock):
            raise CallerError("this party of the lock is not us")


def _time(head: KeptBlock) -> ChainTime:
    return ChainTime(head.height, head.median_s)


@asynccontextmanager
async def open_bitcoin_leg(
    config: BitcoinConfig,
    store: BitcoinStore,
    key_at: KeyAt,
    *,
    traders: int = 1,
    backend: Backend | None = None,
) -> AsyncIterator[BitcoinLeg]:
    """A leg for as long as the block lasts, with the bonds of so many traders. ``backend`` replaces
    that of the configuration.

    Opening reaches for nothing: a node that is down now may be up later.
    """
    async with AsyncExitStack() as stack:
        if backend is None:
            backend = await stack.enter_async_context(open_bitcoind(config))
        leg = BitcoinLeg(config, backend, store, key_at, traders)
        await leg.restore()
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(leg.run)
        yield leg
        nursery.cancel_scope.cancel()
