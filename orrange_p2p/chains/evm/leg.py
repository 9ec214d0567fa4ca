"""The ``Leg`` port over an EVM chain: locks in a ``HashTimelock``, sent as intents.

Intents do most of what the port asks for: they are kept before they are broadcast, broadcast again,
offered more for, and survive a crash or a reorganisation. What is left is which call is due, and
what the contract shows. Claims that are in no block yet are not looked for: what a node's pool
holds is not asked of endpoints.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Final

from orrange_p2p.chains.evm import erc20, timelock
from orrange_p2p.chains.evm.chain import EvmChain
from orrange_p2p.core.errors import CallerError, RefusedError, UnreachableError
from orrange_p2p.core.ids import Address, Amount, MatchId
from orrange_p2p.core.swaps.legs import Lock, LockView
from orrange_p2p.ports.chain import Block, Intent, IntentState, Log, LogFilter
from orrange_p2p.ports.legs import ChainTime

__all__ = ["EvmLeg"]

LONGEST_S: Final = 3 * 86_400
"""No lock is made longer than this before its timelock: so far back logs are read."""
MAX_ATTEMPTS: Final = 16
"""Transactions for one call, each after the one before was mined and reverted, or lost its
nonce."""
_NOTHING: Final = Amount(0)
MAX_KNOWN: Final = 1024
"""Locks of which final logs are remembered; of others they are read again."""


class _Known:
    """Final logs of one hash, and up to where they were read."""

    def __init__(self, first: int) -> None:
        self.next = first
        self.logs: list[Log] = []


class EvmLeg:
    """Implements ``Leg``. ``account`` locks, pays all fees and receives; its key is the chain's."""

    def __init__(self, chain: EvmChain, contract: Address, account: Address) -> None:
        self._chain = chain
        self._contract = contract
        self._account = account
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    @property
    def chain(self) -> str:
        return self._chain.chain_id

    def party(self, trade: MatchId) -> bytes:
        return self._account

    async def now(self) -> ChainTime:
        return _time(await self._chain.head())

    async def heads(self) -> AsyncIterator[ChainTime]:
        async for head in self._chain.heads():
            yield _time(head)

    async def check(self, lock: Lock) -> None:
        token = timelock.terms(lock).token
        if lock.sender != self._account:
            raise CallerError("a lock of ours is sent by our own account")
        shown = "0x" + self._account.hex()
        if token == timelock.COIN:
            held = await self._chain.balance(self._account)
        else:
            held = await self._read(token, erc20.balance_call(self._account))
            allowed = await self._read(token, erc20.allowance_call(self._account, self._contract))
            if allowed < lock.amount:
                raise RefusedError(
                    f"{shown} allows 0x{self._contract.hex()} {allowed} of {lock.asset}, and this "
                    f"takes {lock.amount}: approve more"
                )
        if held < lock.amount:
            raise RefusedError(
                f"{shown} holds {held} of {lock.asset}, and this takes {lock.amount}"
            )

    async def lock(self, lock: Lock, *, by_s: int) -> None:
        data, value = timelock.lock_call(lock)
        await self._send("lock", lock, data, value)

    async def cancel(self, lock: Lock) -> None:
        """Nothing to do: once its timelock has passed the contract refuses it, and before that it
        can be refunded like any other."""

    async def view(self, lock: Lock) -> LockView:
        head = await self._chain.head()
        logs = await self._logs(lock, head)
        word = await self._chain.call_at(head, self._contract, timelock.locked_call(lock))
        shown = timelock.view(lock, logs, word, head)
        if shown is None:
            raise UnreachableError("the chain's answers are of different heads; at the next again")
        return shown

    async def claim(self, lock: Lock, preimage: bytes, *, by_s: int) -> None:
        if sha256(preimage).digest() != lock.hashlock or len(preimage) != 32:
            raise CallerError("not the preimage of this lock")
        await self._send("claim", lock, timelock.claim_call(lock, preimage))

    async def refund(self, lock: Lock) -> None:
        if (await self.now()).time_s < lock.timelock_s:
            raise CallerError("its timelock has not passed")
        await self._send("refund", lock, timelock.refund_call(lock))

    async def rescue(self, lock: Lock) -> bytes:
        """Empty: anybody can claim with the preimage and refund after the timelock."""
        return b""

    async def save(self, lock: Lock, rescue: bytes, preimage: bytes) -> None:
        """At our cost: whoever calls, the contract pays the right party."""
        if preimage:
            await self.claim(lock, preimage, by_s=lock.timelock_s)
        else:
            await self.refund(lock)

    async def _send(self, what: str, lock: Lock, data: bytes, value: Amount = _NOTHING) -> None:
        """By an intent named after the lock; by another one if that can do nothing any more."""
        # Named as the contract names it: whoever reuses a hash must not end what is another's.
        label = f"swap {what} {sha256(timelock.locked_call(lock)).hexdigest()}"
        for attempt in range(MAX_ATTEMPTS):
            name = f"{label} {attempt}"
            status = await self._chain.status(name)
            if status is None:
                intent = Intent(name, self._account, self._contract, data, value)
                await self._chain.submit(intent)
                return
            is_over = status.state in (IntentState.FAILED, IntentState.DROPPED)
            if not is_over and not status.reverted:
                return
        raise RefusedError(f"{label}: {MAX_ATTEMPTS} transactions failed; look at the chain")

    async def _read(self, token: Address, call: bytes) -> Amount:
        return erc20.read_amount(await self._chain.call(token, call))

    async def _logs(self, lock: Lock, head: Block) -> list[Log]:
        known = self._known.get(lock.hashlock)
        if known is None:
            first = await self._chain.first_block(lock.timelock_s - LONGEST_S)
            known = self._known[lock.hashlock] = _Known(first)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(lock.hashlock)
        final = await self._chain.finalized()
        wanted = LogFilter((self._contract,), (timelock.TOPICS,))
        first = known.next
        found = [
            log
            for log in await self._chain.logs(wanted, first, head.number)
            if timelock.is_of(log, lock.hashlock)
        ]
        shown = known.logs + found
        # Another look may have got further meanwhile.
        if first == known.next <= final.number <= head.number:
            known.logs += [log for log in found if log.block_number <= final.number]
            known.next = final.number + 1
        return shown


def _time(head: Block) -> ChainTime:
    return ChainTime(head.number, head.time_s)
