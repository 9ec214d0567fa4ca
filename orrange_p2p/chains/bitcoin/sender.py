"""What is to happen on the chain once: signed, kept, broadcast, replaced until it is deep enough.

An intent is kept with every transaction that was signed for it. What became of it is read off the
ledger, never remembered: a crash or a reorganisation needs no treatment of its own. All attempts
of a lock share their inputs, and so does its cancellation: at most one of them can be mined.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from orrange_p2p.chains.bitcoin.backend import Backend
from orrange_p2p.chains.bitcoin.coins import CHANGE_VBYTES, MIN_CHANGE_SATS, fee_of, select
from orrange_p2p.chains.bitcoin.config import BitcoinConfig
from orrange_p2p.chains.bitcoin.fees import (
    blocks_left,
    first_rate,
    next_rate,
    replacement_fee,
    target,
)
from orrange_p2p.chains.bitcoin.ledger import Ledger, Output
from orrange_p2p.chains.bitcoin.script import DUST_SATS, is_bond, lock_output, lock_script
from orrange_p2p.chains.bitcoin.transactions import Coin, pay, spend_bond, spend_lock
from orrange_p2p.chains.bitcoin.wallet import CHANGE, RECEIVE, Wallet
from orrange_p2p.core.errors import RefusedError
from orrange_p2p.core.swaps.legs import Lock
from orrange_p2p.crypto.bitcoin import OutPoint, TxOut, decode_tx
from orrange_p2p.ports.bitcoin import (
    BitcoinAttempt,
    BitcoinIntent,
    BitcoinStore,
    Kept,
    KeptBlock,
)

__all__ = ["LOCK_VBYTES", "Sender", "name_of"]

LOCK_VBYTES: Final = 43
"""A P2WSH output."""
_TRIES: Final = 8
_RESCUE_FACTOR: Final = 2
"""What is signed long before it is sent offers more than today's rate."""


def name_of(kind: str, lock: Lock) -> str:
    """A lock's script is its own; that of bonds is one for all of a month."""
    return f"{kind} {(lock.trade if is_bond(lock) else lock_output(lock)[2:]).hex()}"


class Sender:
    """For one task at a time."""

    def __init__(
        self,
        config: BitcoinConfig,
        backend: Backend,
        store: BitcoinStore,
        ledger: Ledger,
        wallet: Wallet,
    ) -> None:
        self._config = config
        self._backend = backend
        self._store = store
        self._ledger = ledger
        self._wallet = wallet
        self.intents: dict[str, BitcoinIntent] = {}
        self._attempts: dict[str, list[BitcoinAttempt]] = {}
        self.notes: dict[str, str] = {}
        """Why what was broadcast last is not waiting in the node's mempool."""
        self.counts: Counter[str] = Counter()

    def restore(self, kept: Kept) -> None:
        """What was begun before."""
        self.intents = {intent.name: intent for intent in kept.intents}
        for name, attempt in kept.attempts:
            self._attempts.setdefault(name, []).append(attempt)
            for raw in filter(None, (attempt.raw, attempt.refund)):
                self._wallet.handed_out(one.script for one in decode_tx(raw).outputs)

    def attempts(self, name: str) -> list[BitcoinAttempt]:
        return self._attempts.get(name, [])

    def own(self) -> set[bytes]:
        """Ids of what we signed ourselves."""
        return {one.txid for attempts in self._attempts.values() for one in attempts}

    def place_of(self, intent: BitcoinIntent) -> Output | None:
        """What an intent ends."""
        if not intent.name.startswith("unbond "):
            return self.found(intent.lock)
        spends = decode_tx(self.attempts(intent.name)[0].raw).inputs[0].spends
        outputs = self._ledger.outputs(lock_output(intent.lock))
        return next((one for one in outputs if one.outpoint == spends), None)

    def found(self, lock: Lock) -> Output | None:
        """The output that is this lock: the first with exactly its amount."""
        outputs = self._ledger.outputs(lock_output(lock))
        return next((one for one in outputs if one.value == lock.amount), None)

    async def rate(self, left: int) -> int:
        """What to offer now for being mined within ``left`` blocks."""
        return first_rate(
            await self._backend.rate(target(left)),
            await self._backend.least_rate(),
            self._config.min_rate,
            self._config.max_rate,
        )

    def spendable(self, head: KeptBlock) -> list[Coin]:
        """Coins that nothing of ours is about to spend."""
        reserved = {
            one.spends
            for name, intent in self.intents.items()
            if not intent.done
            for attempt in self.attempts(name)
            for one in decode_tx(attempt.raw).inputs
        }
        return self._wallet.coins(head.height, reserved, self.own())

    # --- beginning ---

    async def begin_lock(self, lock: Lock, by_s: int, head: KeptBlock) -> None:
        """Raises ``RefusedError``, with nothing kept, if there are not the coins for it."""
        intent = BitcoinIntent(name_of("bond" if is_bond(lock) else "lock", lock), lock, by_s=by_s)
        rate = await self.rate(blocks_left(by_s, head.median_s) if by_s else 12)
        attempt = self._lock_attempt(lock, rate, head, None)
        if attempt is None:
            held = sum(coin.value for coin in self.spendable(head))
            raise RefusedError(
                f"a lock of {lock.amount} sat and its fee at {rate} sat/kvB cannot be paid: "
                f"{held} sat are free"
            )
        await self._keep(intent, attempt)

    async def begin_cancel(self, lock: Lock, head: KeptBlock) -> None:
        """Spend the coins of a lock to ourselves; where there is none, keep that none may come."""
        intent = BitcoinIntent(name_of("cancel", lock), lock)
        attempts = self.attempts(name_of("lock", lock))
        attempt = None
        if attempts:
            rate = max(await self.rate(1), attempts[-1].rate * 5 // 4)
            attempt = self._cancel_attempt(lock, rate, head, max(one.fee for one in attempts))
        await self._keep(intent._replace(done=attempt is None), attempt)

    async def begin_end(
        self, lock: Lock, preimage: bytes, by_s: int, head: KeptBlock, place: Output
    ) -> None:
        """A claim with the preimage, or without one a refund."""
        kind = "claim" if preimage else "refund"
        intent = BitcoinIntent(name_of(kind, lock), lock, preimage, by_s)
        rate = await self.rate(blocks_left(by_s, head.median_s) if by_s else 12)
        await self._keep(intent, self.end_attempt(lock, preimage, rate, head, place, None))

    async def begin_unbond(self, lock: Lock, head: KeptBlock, place: Output) -> None:
        """Take home one output of a bond whose time has come."""
        intent = BitcoinIntent(f"unbond {place.outpoint}", lock)
        await self._keep(
            intent, self.end_attempt(lock, b"", await self.rate(12), head, place, None)
        )

    async def mark_handed_out(self, name: str) -> None:
        intent = self.intents[name]._replace(handed_out=True)
        await self._store.add(intent, None)
        self.intents[name] = intent

    async def _keep(self, intent: BitcoinIntent, attempt: BitcoinAttempt | None) -> None:
        """First on disk, then to the network."""
        await self._store.add(intent, attempt)
        self.intents[intent.name] = intent
        if attempt is not None:
            self._attempts.setdefault(intent.name, []).append(attempt)
            await self._broadcast(intent.name)

    async def _broadcast(self, name: str) -> None:
        raw = self._attempts[name][-1].raw
        self.notes[name] = await self._backend.send(raw)
        if not self.notes[name]:
            self.notes.pop(name)
            self._ledger.add(decode_tx(raw), 0)

    async def forward(self, raw: bytes) -> str:
        """Broadcast what somebody else signed; why the node does not take it, or empty."""
        return await self._backend.send(raw)

    # --- going on ---

    async def step(self, head: KeptBlock) -> None:
        """Move on everything by what the chain shows at a new head."""
        for intent in list(self.intents.values()):
            if intent.done:
                continue
            kind = intent.name.partition(" ")[0]
            if kind in ("claim", "refund", "unbond"):
                await self._step_end(intent, head)
            else:
                await self._step_payment(intent, kind, head)

    async def _step_payment(self, intent: BitcoinIntent, kind: str, head: KeptBlock) -> None:
        attempts = self.attempts(intent.name)
        inputs = decode_tx(attempts[0].raw).inputs
        spends = [self._ledger.spend(one.spends) for one in inputs]
        mined = [spend.height for spend in spends if spend is not None and spend.height]
        if mined:
            if head.height - min(mined) + 1 >= self._config.finality_depth:
                await self._finish(intent)
            return
        if kind == "lock" and name_of("cancel", intent.lock) in self.intents:
            return
        last = attempts[-1]
        rate = await self._next_rate(intent, last, head)
        attempt = None
        if rate > last.rate:
            if kind == "cancel":
                attempt = self._cancel_attempt(intent.lock, rate, head, last.fee)
            elif kind == "child":
                attempt = self._child_attempt(intent.lock, rate, head, last)
            elif intent.handed_out and await self._add_child(intent.lock, rate, head):
                pass
            else:
                attempt = self._lock_attempt(intent.lock, rate, head, last)
        await self._go_on(intent, attempt)

    async def _step_end(self, intent: BitcoinIntent, head: KeptBlock) -> None:
        place = self.place_of(intent)
        if place is None:
            return  # the lock's block was replaced; it comes again, or never was worth anything
        spend = self._ledger.spend(place.outpoint)
        if spend is not None and spend.height:
            if head.height - spend.height + 1 >= self._config.finality_depth:
                await self._finish(intent)
            return
        last = self.attempts(intent.name)[-1]
        attempt = None
        if decode_tx(last.raw).inputs[0].spends != place.outpoint:
            attempt = self.end_attempt(intent.lock, intent.preimage, last.rate, head, place, None)
        elif (rate := await self._next_rate(intent, last, head)) > last.rate:
            attempt = self.end_attempt(intent.lock, intent.preimage, rate, head, place, last)
        await self._go_on(intent, attempt)

    async def _go_on(self, intent: BitcoinIntent, attempt: BitcoinAttempt | None) -> None:
        if attempt is None:
            await self._broadcast(intent.name)
        else:
            self.counts["replacements"] += 1
            await self._keep(intent, attempt)

    async def _finish(self, intent: BitcoinIntent) -> None:
        done = intent._replace(done=True)
        await self._store.add(done, None)
        self.intents[intent.name] = done

    async def _next_rate(self, intent: BitcoinIntent, last: BitcoinAttempt, head: KeptBlock) -> int:
        waited = head.height - last.height
        if waited < 1:
            return last.rate
        left = blocks_left(intent.by_s, head.median_s) if intent.by_s else 12
        now = await self.rate(left)
        patience = self._config.bump_after_blocks
        return next_rate(last.rate, now, waited, left, patience, self._config.max_rate)

    # --- signing ---

    def _lock_attempt(
        self, lock: Lock, rate: int, head: KeptBlock, last: BitcoinAttempt | None
    ) -> BitcoinAttempt | None:
        """None if the coins, or the cap, do not allow it."""
        output = TxOut(lock.amount, lock_output(lock))
        forced: list[Coin] = []
        change_script = b""
        if last is not None:
            tx = decode_tx(last.raw)
            known = [self._wallet.coin(one.spends) for one in tx.inputs]
            forced = [coin for coin in known if coin is not None]
            if len(forced) < len(known):
                return None
            change_script = next((o.script for o in tx.outputs[1:]), b"")
        coins = [*forced, *self.spendable(head)]
        for _ in range(_TRIES):
            made = select(coins, lock.amount, LOCK_VBYTES, rate, forced=len(forced))
            if made is None:
                return None
            chosen = [coins[place] for place in made.places]
            outputs = [output]
            if made.change:
                change_script = change_script or self._wallet.fresh(CHANGE)
                outputs.append(TxOut(made.change, change_script))
            raw = pay(chosen, outputs)
            vsize = decode_tx(raw).vsize
            if last is None or made.fee >= replacement_fee(vsize, last.rate + 1, last.fee):
                return self._locked(lock, raw, made.fee, rate, head)
            rate = rate * 5 // 4
            if rate > self._config.max_rate:
                return None
        return None

    def _locked(
        self, lock: Lock, raw: bytes, fee: int, rate: int, head: KeptBlock
    ) -> BitcoinAttempt:
        """With the transaction that takes it back: nothing is locked without a way out."""
        txid = decode_tx(raw).txid
        place = Output(OutPoint(txid, 0), lock.amount, lock_output(lock), 0, False)
        rescue_rate = min(self._config.max_rate, rate * _RESCUE_FACTOR)
        refund = self.end_attempt(lock, b"", rescue_rate, head, place, None)
        return BitcoinAttempt(txid, raw, fee, rate, head.height, refund.raw)

    def _cancel_attempt(
        self, lock: Lock, rate: int, head: KeptBlock, replaced_fee: int
    ) -> BitcoinAttempt | None:
        lock_attempts = self.attempts(name_of("lock", lock))
        known = [self._wallet.coin(one.spends) for one in decode_tx(lock_attempts[0].raw).inputs]
        coins = [coin for coin in known if coin is not None]
        if not coins:
            return None
        total = sum(coin.value for coin in coins)
        own = self.attempts(name_of("cancel", lock))
        script = decode_tx(own[0].raw).outputs[0].script if own else self._wallet.fresh(CHANGE)
        rate = min(rate, self._config.max_rate)
        vsize = decode_tx(pay(coins, [TxOut(total - DUST_SATS, script)])).vsize + len(coins)
        fee = replacement_fee(vsize, rate, replaced_fee)
        if total - fee < DUST_SATS:
            return None
        raw = pay(coins, [TxOut(total - fee, script)])
        return BitcoinAttempt(decode_tx(raw).txid, raw, fee, rate, head.height)

    def end_attempt(
        self,
        lock: Lock,
        preimage: bytes,
        rate: int,
        head: KeptBlock,
        place: Output,
        last: BitcoinAttempt | None,
    ) -> BitcoinAttempt:
        """Its fee is taken from what it brings home, so it needs no other coin."""
        coin = Coin(place.outpoint, place.value, self._wallet.secret_of(lock))
        script = lock_script(lock)
        home = self._wallet.fresh(RECEIVE)
        if last is not None:
            home = decode_tx(last.raw).outputs[0].script

        def made(fee: int) -> bytes:
            output = TxOut(place.value - fee, home)
            if is_bond(lock):
                return spend_bond(coin, script, output, locked_until_s=lock.timelock_s)
            secret = preimage or None
            return spend_lock(coin, script, output, preimage=secret, timelock_s=lock.timelock_s)

        vsize = decode_tx(made(DUST_SATS)).vsize + 1
        fee = fee_of(vsize, rate) if last is None else replacement_fee(vsize, rate, last.fee)
        raw = made(min(fee, place.value - DUST_SATS))
        return BitcoinAttempt(
            decode_tx(raw).txid, raw, min(fee, place.value - DUST_SATS), rate, head.height
        )

    # --- children that pay for their parent (CPFP) ---

    async def _add_child(self, lock: Lock, rate: int, head: KeptBlock) -> bool:
        """Speed a lock up without changing its id, which others build on."""
        name = name_of("child", lock)
        if name in self.intents:
            return True
        attempt = self._child_attempt(lock, rate, head, None)
        if attempt is None:
            return False
        by_s = self.intents[name_of("lock", lock)].by_s
        await self._keep(BitcoinIntent(name, lock, by_s=by_s), attempt)
        self.counts["children"] += 1
        return True

    def _child_attempt(
        self, lock: Lock, rate: int, head: KeptBlock, last: BitcoinAttempt | None
    ) -> BitcoinAttempt | None:
        """Both together pay ``rate``."""
        parent = self.attempts(name_of("lock", lock))[-1]
        tx = decode_tx(parent.raw)
        if len(tx.outputs) < 2:
            return None
        coin = self._wallet.coin(OutPoint(parent.txid, 1))
        if coin is None:
            return None
        home = self._wallet.fresh(CHANGE) if last is None else decode_tx(last.raw).outputs[0].script
        vsize = decode_tx(pay([coin], [TxOut(coin.value - DUST_SATS, home)])).vsize + 1
        fee = max(fee_of(tx.vsize + vsize, rate) - parent.fee, fee_of(vsize, rate))
        if last is not None:
            fee = max(fee, replacement_fee(vsize, rate, last.fee))
        if coin.value - fee < MIN_CHANGE_SATS:
            return None
        raw = pay([coin], [TxOut(coin.value - fee, home)])
        return BitcoinAttempt(decode_tx(raw).txid, raw, fee, rate, head.height)


def lock_cost(rate: int) -> int:
    """The fee of a lock from one coin with change."""
    return fee_of(11 + 68 + LOCK_VBYTES + CHANGE_VBYTES, rate)
