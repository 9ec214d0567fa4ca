"""One of our own logs: operations in, signed durable entries out, one writer at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import islice
from typing import Final

import structlog
import trio

from orrange_p2p.core import codec, entries
from orrange_p2p.core.entries import MAX_ENTRY_BYTES, MAX_ENTRY_OPERATIONS
from orrange_p2p.core.errors import HaltedError, WorldError
from orrange_p2p.core.ids import ZERO32, Address, Digest, MatchId, OrderId, Seq
from orrange_p2p.core.matches import Match
from orrange_p2p.core.operations import (
    MAX_ACCEPTED,
    Accept,
    Accepted,
    Cancel,
    CancelAll,
    Evidence,
    EvidenceKind,
    Operation,
    parse,
    to_items,
)
from orrange_p2p.core.pacemaker import HELD_AHEAD
from orrange_p2p.daemon.exposure import Exposure
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.signing import Signing
from orrange_p2p.ports import Record, RecordKind, Signer

GATHER_S: Final = 0.02
"""Operations submitted within this time share an entry, and so a signature."""
OFFER_AGAIN_S: Final = 3.0
"""An entry is cut within about six rounds if all is well."""
TRY_AGAIN_S: Final = 1.0
ENTRY_OVERHEAD_BYTES: Final = 512

log = structlog.get_logger()


class _Submission:
    """Operations that must stand together in one entry, and who waits for them."""

    def __init__(self, operations: Sequence[Operation], is_awaited: bool) -> None:
        self.is_awaited = is_awaited
        self.operations = tuple(operations)
        self.only_cancels = all(isinstance(op, Cancel | CancelAll) for op in operations)
        self.size = sum(map(_size_of, operations))
        self.submitted_ms = 0
        self.done = trio.Event()
        self.named: tuple[OrderId, ...] = ()
        self.error: WorldError | None = None


def _size_of(operation: Operation) -> int:
    return len(codec.encode(to_items(operation)))


class AuthorLog:
    """The writer of one author's log in one market.

    Signs accepts for its own matches by itself: that is what makes a match binding.
    """

    def __init__(
        self,
        node: MarketNode,
        signer: Signer,
        signing: Signing,
        max_exposure_lots: int = 0,
        terms: Callable[[Match, Address], bytes] = lambda match, author: b"",
    ) -> None:
        """``max_exposure_lots``: as in ``Exposure``. ``terms``: what an accept says of settling."""
        self._terms = terms
        self._node = node
        self._signer = signer
        self._signing = signing
        self._separator = node.genesis.separator
        self._next_seq = Seq(0)
        self._head = Digest(ZERO32)
        self._waiting: deque[_Submission] = deque()
        self._to_accept: dict[MatchId, Match] = {}
        self._exposure = Exposure(signer.address, max_exposure_lots)
        self._declined: set[MatchId] = set()
        """Those of them that are over the limit, told once."""
        self._filled = trio.Event()

    @property
    def address(self) -> Address:
        return self._signer.address

    @property
    def next_seq(self) -> Seq:
        return self._next_seq

    @property
    def uncut(self) -> int:
        """Entries of ours that no epoch has cut yet, and operations that wait to be written."""
        first = self._node.replica.logs.first_uncut(self.address)
        return max(0, self._next_seq - first) + len(self._waiting)

    async def submit(self, operations: Sequence[Operation]) -> tuple[OrderId, ...]:
        """Write operations into the log; the places they got, once the entry is durable.

        All of them go into one entry. Raises ``MalformedError`` for an operation others would
        refuse, ``HaltedError`` while the market is halted, ``WorldError`` while the log is too far
        ahead of the cut or nothing may be signed.
        """
        for operation in operations:
            parse(codec.decode(codec.encode(to_items(operation)), MAX_ENTRY_BYTES))
        submission = self._enqueue(operations, is_awaited=True)
        await submission.done.wait()
        if submission.error is not None:
            raise submission.error
        return submission.named

    def _enqueue(self, operations: Sequence[Operation], is_awaited: bool) -> _Submission:
        submission = _Submission(operations, is_awaited)
        if len(operations) > MAX_ENTRY_OPERATIONS // 2:
            raise WorldError(f"at most {MAX_ENTRY_OPERATIONS // 2} operations at once")
        submission.submitted_ms = self._node.clock.monotonic_ms()
        self._waiting.append(submission)
        self._filled.set()
        return submission

    def accept(self, matches: Sequence[Match]) -> None:
        """Accept those of ``matches`` that are ours and lack it, with the next entries we write."""
        if not self._signing.is_merged(self._node.market_id):
            return  # those still pending then are looked at once it is
        for match in matches:
            if self.address in (match.maker.author, match.taker.author):
                if match.accepted_by(self.address):
                    self._exposure.note(match)
                else:
                    self._to_accept[match.id] = match
        if self._to_accept:
            self._filled.set()

    @property
    def unaccepted(self) -> int:
        """Pending matches of ours that we have not accepted."""
        pending = self._node.replica.fold.matches
        return sum(name in pending for name in self._to_accept)

    def report(self, proofs: Sequence[Evidence]) -> None:
        """Queue evidence of forks for the log, so that every node freezes their authors."""
        for proof in proofs:
            if proof.kind == EvidenceKind.FORK:
                self._enqueue([proof], is_awaited=False)

    async def run(self) -> None:
        """Write entries, and offer again those that nobody takes up, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._offer_again)
            nursery.start_soon(self._write_all)

    async def _offer_again(self) -> None:
        """Gossip entries anew that stay uncut: no witness that missed one knows to ask for it."""
        node = self._node
        stuck = Seq(-1)
        while True:
            await trio.sleep(OFFER_AGAIN_S)
            first = node.replica.logs.first_uncut(self.address)
            if first < self._next_seq and first == stuck:
                for record in await node.store.log(node.market_id, self.address, first):
                    node.counters["entries_offered_again"] += 1
                    node.outbox.put(node.decode(record))
            stuck = first

    async def _write_all(self) -> None:
        last = await self._node.store.own_position(
            RecordKind.ENTRY, self._node.market_id, self.address
        )
        if last is not None:
            self._next_seq, self._head = Seq(last.number + 1), last.digest
        while not self._signing.is_merged(self._node.market_id):
            self._refuse_waiting(self._why_no_entry())
            with trio.move_on_after(TRY_AGAIN_S):
                await self._node.changed.wait()
        self._follow_held()
        self.accept(list(self._node.replica.fold.matches.values()))
        while True:
            await self._filled.wait()
            await trio.sleep(GATHER_S)
            while self._waiting or self._to_accept:
                await self._write()
            self._filled = trio.Event()

    def _refuse_waiting(self, error: WorldError) -> None:
        for submission in self._waiting:
            submission.error = error
            submission.done.set()
        # Nobody waits for evidence, and it must not be lost: it stays for later, as accepts do.
        self._waiting = deque(s for s in self._waiting if not s.is_awaited)

    def _why_no_entry(self) -> WorldError:
        return WorldError(str(self._signing.why_no_entry(self._node.market_id)))

    def _why_not(self, only_cancels: bool) -> WorldError | None:
        """Why no entry may be signed now."""
        node = self._node
        if node.replica.halt is not None:
            reason = node.replica.halt.reason.value
            return HaltedError(f"the market is halted ({reason}); the node's log says more")
        uncut = self._next_seq - node.replica.logs.first_uncut(self.address)
        if uncut >= HELD_AHEAD - 1:
            return WorldError(
                f"{uncut} entries wait to be committed: too few witnesses are reachable"
            )
        ask = self._signing.why_no_cancel if only_cancels else self._signing.why_no_entry
        unsigned = ask(node.market_id)
        return None if unsigned is None else WorldError(unsigned)

    def _follow_held(self) -> None:
        """Go on after the last entry of ours that we hold, wherever it was signed: after a restore
        the store has it from the network, and another one under its number would be a fork."""
        logs = self._node.replica.logs
        held = logs.next_wanted(self.address)
        if held > self._next_seq:
            self._next_seq, self._head = held, logs.head(self.address)

    def _accepts(self) -> tuple[Accept, ...]:
        """One accept of matches that still wait for us and keep within the limit of exposure; its
        signature covers them all."""
        pending = self._node.replica.fold.matches
        for name in [name for name in self._to_accept if name not in pending]:
            del self._to_accept[name]
        self._declined &= pending.keys()
        chosen = sorted(islice(self._admitted(pending), MAX_ACCEPTED))
        if not chosen:
            return ()
        said = [Accepted(name, self._terms(pending[name], self.address)) for name in chosen]
        unsigned = Accept(tuple(said), b"")
        signature = self._signer.sign(Digest(unsigned.digest(self._separator)))
        return (unsigned._replace(signature=signature),)

    def _admitted(self, pending: Container[MatchId]) -> Iterator[MatchId]:
        for match in self._to_accept.values():
            if self._exposure.admits(match, pending):
                self._exposure.note(match)
                yield match.id
            elif match.id not in self._declined:
                self._declined.add(match.id)
                self._node.counters["accepts_declined"] += 1
                log.warning(
                    "match not accepted: its counterparty has max_exposure_lots pending",
                    match=match.id.hex(),
                    lots=match.quantity,
                )

    def _gather_cancels(self) -> list[_Submission]:
        chosen = [submission for submission in self._waiting if submission.only_cancels][:1]
        for submission in chosen:
            self._waiting.remove(submission)
        return chosen

    def _gather(self, accepts: tuple[Accept, ...]) -> list[_Submission]:
        batch: list[_Submission] = []
        count = len(accepts)
        size = ENTRY_OVERHEAD_BYTES + sum(map(_size_of, accepts))
        while self._waiting:
            following = self._waiting[0]
            count += len(following.operations)
            size += following.size
            if (batch or accepts) and (count > MAX_ENTRY_OPERATIONS or size > MAX_ENTRY_BYTES):
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _write(self) -> None:
        """One entry, or a refusal of what waits."""
        node = self._node
        only_cancels = self._signing.only_cancels
        refusal = self._why_not(only_cancels)
        if refusal is not None:
            self._refuse_waiting(refusal)
            with trio.move_on_after(TRY_AGAIN_S):
                await node.changed.wait()
            return
        accepts = () if only_cancels else self._accepts()
        batch = self._gather_cancels() if only_cancels else self._gather(accepts)
        operations = [operation for submission in batch for operation in submission.operations]
        operations += accepts
        if not operations:
            if only_cancels:
                self._refuse_waiting(self._why_no_entry())
            with trio.move_on_after(TRY_AGAIN_S):
                await node.changed.wait()
            return
        seq = self._next_seq
        draft = entries.draft(
            self._separator, node.market_id, self.address, seq, self._head, operations
        )
        entry = draft.signed(self._signer.sign(draft.digest))
        await node.store.append_own([Record.of_entry(entry)])
        self._next_seq, self._head = Seq(seq + 1), entry.digest
        for accept in accepts:
            for name, _ in accept.matches:
                self._to_accept.pop(name, None)
        if batch:
            node.note_submitted(entry, min(submission.submitted_ms for submission in batch))
        node.outbox.put(entry)
        await node.take_own(entry)
        position = 0
        for submission in batch:
            end = position + len(submission.operations)
            submission.named = tuple(OrderId(self.address, seq, p) for p in range(position, end))
            submission.done.set()
            position = end
