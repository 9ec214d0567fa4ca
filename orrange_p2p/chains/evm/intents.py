"""Transactions that are to happen once: nonces, broadcast, replacement, finality.

What is kept is the intent, its nonce and every signed attempt; what became of it is read off the
chain at each new head, so a crash or a reorganisation needs no treatment of its own. All attempts
of an intent have one nonce: at most one of them can be mined.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

import trio

from orrange_p2p.chains.evm import answers, fees
from orrange_p2p.chains.evm.answers import Receipt
from orrange_p2p.chains.evm.config import EvmConfig
from orrange_p2p.chains.evm.endpoints import Endpoints
from orrange_p2p.chains.evm.fees import Offer
from orrange_p2p.chains.evm.transactions import Transaction, sign
from orrange_p2p.core.errors import CallerError, MalformedError, RefusedError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.ports import Signer
from orrange_p2p.ports.chain import (
    Attempt,
    Block,
    Fees,
    Intent,
    IntentRecord,
    IntentState,
    IntentStatus,
    IntentStore,
    Outcome,
)

__all__ = ["Intents"]

MAX_PENDING: Final = 256
"""Per sender; a node that gets further behind has to wait, not to queue."""
MAX_DATA_BYTES: Final = 120 * 1024
"""Nodes do not forward transactions of more than 128 KiB."""
MAX_GAS: Final = 1 << 24
"""Of one transaction, by EIP-7825."""
_MAX_NAME: Final = 128
_GAP_HEADS: Final = 3
"""A gap before our nonces that lasts so many heads will not close by itself."""
_PLAIN_TRANSFER_GAS: Final = 21_000


class Intents:
    """The sending half of an EVM chain. ``step`` is called at every new head."""

    def __init__(
        self,
        config: EvmConfig,
        endpoints: Endpoints,
        store: IntentStore,
        signers: Mapping[Address, Signer],
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._store = store
        self._signers = signers
        self._turns: defaultdict[Address, trio.Lock] = defaultdict(trio.Lock)
        """One task at a time chooses a sender's nonces and replaces its transactions."""
        self._notes: dict[str, str] = {}
        """Why pending intents wait."""
        self._gap_heads: Counter[Address] = Counter()
        self.counts: Counter[str] = Counter()

    async def fees(self) -> Fees:
        """What a transaction sent now would offer."""
        history = await self._endpoints.ask(
            "eth_feeHistory", ["0x5", "latest", [50]], answers.fee_history
        )
        return fees.suggested(
            history,
            floor_wei=self._config.min_priority_fee_wei,
            cap_wei=self._config.max_fee_wei,
        )

    async def submit(self, intent: Intent, head: Block) -> IntentStatus:
        """``Chain.submit``."""
        self._check(intent)
        async with self._turns[intent.sender]:
            record = await self._store.get(intent.name)
            if record is None:
                record = await self._begin(intent, head)
            elif record.intent != intent:
                raise CallerError(f"intent {intent.name!r} is another transaction already")
        return await self.status(record, head)

    async def status(self, record: IntentRecord, head: Block) -> IntentStatus:
        """How an intent stands, seen from ``head``."""
        if (outcome := record.outcome) is not None:
            return IntentStatus(
                record.intent.name,
                outcome.state,
                record.nonce,
                outcome.tx_hash,
                len(record.attempts),
                outcome.block,
                max(1, head.number - outcome.block[0] + 1),
                outcome.state is IntentState.FAILED,
                outcome.fee_wei,
            )
        receipt = await self._mined(record)
        if receipt is None:
            return IntentStatus(
                record.intent.name,
                IntentState.PENDING,
                record.nonce,
                record.attempts[-1].tx_hash,
                len(record.attempts),
                note=self._notes.get(record.intent.name, ""),
            )
        return IntentStatus(
            record.intent.name,
            IntentState.MINED,
            record.nonce,
            receipt.tx_hash,
            len(record.attempts),
            (receipt.block_number, receipt.block_hash),
            max(1, head.number - receipt.block_number + 1),
            not receipt.succeeded,
            Amount(receipt.fee_wei),
        )

    async def step(self, head: Block, final: Block) -> None:
        """Move every pending intent on by what the chain says now."""
        pending = await self._store.pending()
        for sender, records in groupby(pending, key=lambda record: record.intent.sender):
            if sender not in self._signers:
                continue  # its key was taken out of the configuration; it waits
            async with self._turns[sender]:
                await self._step_sender(sender, list(records), head, final)

    # --- beginning ---

    def _check(self, intent: Intent) -> None:
        if not 0 < len(intent.name) <= _MAX_NAME or not intent.name.isprintable():
            raise CallerError(f"an intent's name has 1 to {_MAX_NAME} printable characters")
        if intent.sender not in self._signers:
            raise CallerError(f"no key of 0x{intent.sender.hex()} is configured for this chain")
        if len(intent.data) > MAX_DATA_BYTES:
            raise CallerError(f"a transaction of {len(intent.data)} bytes; most {MAX_DATA_BYTES}")
        if not 0 <= intent.value < 1 << 256:
            raise CallerError("a value is 0 to 2^256-1")
        if intent.gas_limit is not None and not 0 < intent.gas_limit <= MAX_GAS:
            raise CallerError(f"a gas limit is 1 to {MAX_GAS}")

    async def _begin(self, intent: Intent, head: Block) -> IntentRecord:
        """Choose nonce and fee, sign, keep, and only then broadcast."""
        pending = await self._store.pending()
        if sum(one.intent.sender == intent.sender for one in pending) >= MAX_PENDING:
            raise CallerError(
                f"{MAX_PENDING} transactions of 0x{intent.sender.hex()} wait to be mined; "
                "more have to wait outside"
            )
        gas_limit = intent.gas_limit or await self._gas(intent)
        offer = _offer(await self.fees())
        await self._check_funds(intent, intent.value + gas_limit * offer.max_fee_wei)
        # Somebody else may have used the key meanwhile: the chain's count counts too.
        nonce = max(
            await self._store.next_nonce(intent.sender), await self._count(intent.sender, "latest")
        )
        attempt = self._attempt(intent, nonce, gas_limit, offer, head)
        record = IntentRecord(intent, nonce, gas_limit, (attempt,))
        await self._store.add(record)
        await self._broadcast(record)
        return record

    async def _check_funds(self, intent: Intent, cost: int) -> None:
        """One that cannot be paid would hold up all that come after it."""
        params = [_hex(intent.sender), "latest"]
        funds = await self._endpoints.ask("eth_getBalance", params, answers.quantity)
        if funds < cost:
            raise RefusedError(
                f"{_hex(intent.sender)} holds {funds} wei, and this could take {cost}"
            )

    async def _gas(self, intent: Intent) -> int:
        call = {"from": _hex(intent.sender), "value": hex(intent.value)}
        if intent.to is not None:
            call["to"] = _hex(intent.to)
        if intent.data:
            call["data"] = _hex(intent.data)
        estimate = await self._endpoints.ask("eth_estimateGas", [call], answers.quantity)
        # A quarter more, since the state may change until it is mined; a plain transfer's is exact.
        return min(MAX_GAS, estimate if not intent.data else estimate + estimate // 4)

    def _attempt(
        self, intent: Intent, nonce: int, gas_limit: int, offer: Offer, head: Block
    ) -> Attempt:
        transaction = Transaction(
            self._config.number, nonce, offer, gas_limit, intent.to, intent.value, intent.data
        )
        tx_hash, raw = sign(transaction, self._signers[intent.sender])
        return Attempt(tx_hash, raw, offer.max_fee_wei, offer.priority_fee_wei, head.number)

    async def _broadcast(self, record: IntentRecord) -> None:
        """Offer the newest attempt; that nobody takes it is noted, and tried again later."""
        _, self._notes[record.intent.name] = await self._endpoints.broadcast(
            record.attempts[-1].raw
        )

    # --- going on ---

    async def _step_sender(
        self, sender: Address, records: Sequence[IntentRecord], head: Block, final: Block
    ) -> None:
        count = await self._count(sender, "latest")
        waiting = [record for record in records if record.nonce >= count]
        for record in records:
            if record.nonce < count:
                await self._conclude(record, final)
        if waiting:
            await self._close_gap(sender, count, waiting[0].nonce, head)
            if waiting[0].nonce == count:
                waiting[0] = await self._replaced(waiting[0], head)
        for record in waiting:
            await self._broadcast(record)

    async def _conclude(self, record: IntentRecord, final: Block) -> None:
        """Its nonce is used: by which transaction, and for good?"""
        name = record.intent.name
        receipt = await self._mined(record)
        if receipt is not None:
            if receipt.block_number > final.number:
                return
            # For ever is not said on the word of one endpoint.
            agreed = await self._receipt(receipt.tx_hash, by_all=True)
            if agreed is None or agreed.block_number > final.number:
                return
            state = IntentState.FINAL if agreed.succeeded else IntentState.FAILED
            place = (agreed.block_number, agreed.block_hash)
            outcome = Outcome(state, agreed.tx_hash, place, Amount(agreed.fee_wei))
        else:
            self._notes[name] = "another transaction took its nonce"
            used = await self._endpoints.agree(
                "eth_getTransactionCount", [_hex(record.intent.sender), hex(final.number)], _count
            )
            if used is None or used <= record.nonce:
                return
            for attempt in record.attempts:
                if await self._receipt(attempt.tx_hash, by_all=True) is not None:
                    return
            place = (final.number, final.hash)
            outcome = Outcome(IntentState.DROPPED, record.attempts[-1].tx_hash, place, Amount(0))
        await self._store.conclude(name, outcome)
        self._notes.pop(name, None)
        self.counts[outcome.state.value] += 1

    async def _replaced(self, record: IntentRecord, head: Block) -> IntentRecord:
        """The next of its sender to be mined, with a higher offer if it has waited too long."""
        last = record.attempts[-1]
        if head.number - last.head < self._config.bump_after_blocks:
            return record
        offer = fees.replacement(
            Offer(last.max_fee_wei, last.priority_fee_wei),
            await self.fees(),
            cap_wei=self._config.max_fee_wei,
        )
        if offer is None:
            return record
        attempt = self._attempt(record.intent, record.nonce, record.gas_limit, offer, head)
        await self._store.add_attempt(record.intent.name, attempt)
        self.counts["replacements"] += 1
        return record._replace(attempts=(*record.attempts, attempt))

    async def _close_gap(self, sender: Address, count: int, first: int, head: Block) -> None:
        """Fill a nonce before ours that nobody is going to use, or ours would wait for ever.

        It arises when somebody else's transaction with our key was mined, counted, and then lost
        in a reorganisation.
        """
        self._gap_heads[sender] = self._gap_heads[sender] + 1 if count < first else 0
        if self._gap_heads[sender] < _GAP_HEADS:
            return
        nothing = Intent(f"gap {_hex(sender)} {count}", sender, sender)
        gas_limit = _PLAIN_TRANSFER_GAS
        attempt = self._attempt(nothing, count, gas_limit, _offer(await self.fees()), head)
        record = IntentRecord(nothing, count, gas_limit, (attempt,))
        await self._store.add(record)
        self.counts["gaps"] += 1
        self._gap_heads[sender] = 0
        await self._broadcast(record)

    # --- asking ---

    async def _mined(self, record: IntentRecord) -> Receipt | None:
        """The receipt of whichever attempt is in a block."""
        for attempt in reversed(record.attempts):
            receipt = await self._receipt(attempt.tx_hash)
            if receipt is not None:
                return receipt
        return None

    async def _receipt(self, tx_hash: bytes, *, by_all: bool = False) -> Receipt | None:
        def decode(value: object) -> Receipt | None:
            receipt = answers.maybe(answers.receipt)(value)
            if receipt is not None and receipt.tx_hash != tx_hash:
                raise MalformedError("the endpoint's receipt is of another transaction")
            return receipt

        asking = self._endpoints.agree if by_all else self._endpoints.ask
        return await asking("eth_getTransactionReceipt", [_hex(tx_hash)], decode)

    async def _count(self, sender: Address, tag: str) -> int:
        """How many transactions of a sender were mined: its next nonce."""
        return await self._endpoints.ask("eth_getTransactionCount", [_hex(sender), tag], _count)


def _count(value: object) -> int:
    found = answers.quantity(value)
    if found >= 1 << 63:
        raise MalformedError("the endpoint's count is beyond 2^63")
    return found


def _offer(now: Fees) -> Offer:
    return Offer(now.max_fee_wei, now.priority_fee_wei)


def _hex(octets: bytes) -> str:
    return "0x" + octets.hex()
