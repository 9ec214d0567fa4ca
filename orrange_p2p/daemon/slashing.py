"""Whoever forks or equivocates loses its bond: proofs go to the registry by themselves.

What convicts is in the store as two signed records, so after a restart it is found again, and the
transaction has a name of its own: at no point can a proof be lost, or paid for twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import structlog
import trio

from orrange_p2p.chains.evm import registry
from orrange_p2p.core import evidence
from orrange_p2p.core.errors import MalformedError, PeerError, RevertedError, WorldError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, MarketId
from orrange_p2p.core.operations import Evidence
from orrange_p2p.ports.chain import Chain, Intent, IntentState

TURNS: Final = 8
"""Reporters take turns over so many blocks: the first one's transaction spares the others theirs
(protocol/decisions/0022-taking-turns-at-slashing.md)."""
MAX_BLOCK_S: Final = 30.0
"""A turn lasts no longer, also on a chain that stands still."""
LOOK_S: Final = 0.5
TRY_AGAIN_S: Final = 5.0
MINED_S: Final = 600.0
MAX_OPEN: Final = 256
"""Culprits at a time; the fold and the clock name each once."""

log = structlog.get_logger()


class Slashing:
    """Of one node, on its network's home chain."""

    def __init__(
        self, genesis: Genesis, chain: Chain, payer: Address, counters: Counter[str]
    ) -> None:
        """``payer``: whose transactions show the proofs, and who gets the reporter's share."""
        self._genesis = genesis
        self._chain = chain
        self._payer = payer
        self._counters = counters
        self._open: dict[Address, Evidence] = {}
        """By culprit, what is still to be shown."""
        self._closed: set[Address] = set()
        self._noted = trio.Event()
        self.why_not: str | None = None
        """Why a proof cannot be shown now, in words."""

    def note(self, market: MarketId, proofs: Sequence[Evidence]) -> None:
        """Take new proofs of one market."""
        for proof in proofs:
            try:
                culprit = evidence.culprit(proof, self._genesis.separator, market)
            except PeerError as error:  # ours are made from verified records
                log.error("evidence shows nothing", reason=str(error))
                continue
            if culprit not in self._closed and len(self._open) < MAX_OPEN:
                self._open.setdefault(culprit, proof)
                self._noted.set()

    @property
    def is_busy(self) -> bool:
        """Whether a proof is still to be shown."""
        return bool(self._open)

    async def run(self) -> None:
        """Show every proof to the registry, until cancelled."""
        while True:
            await self._noted.wait()
            self._noted = trio.Event()
            for culprit, proof in list(self._open.items()):
                await self._until_shown(culprit, proof)
                del self._open[culprit]
                self._closed.add(culprit)

    async def _until_shown(self, culprit: Address, proof: Evidence) -> None:
        while True:
            try:
                await self._show(culprit, proof)
            except RevertedError as error:
                # The registry itself: another's proof came first, or it is no such registry.
                log.warning("the registry refuses a proof", culprit=_hex(culprit), why=str(error))
                self._counters["slashes_lost"] += 1
                return
            except (WorldError, MalformedError) as error:
                if str(error) != self.why_not:
                    log.warning("a proof waits", culprit=_hex(culprit), why=str(error))
                self.why_not = str(error)
                await trio.sleep(TRY_AGAIN_S)
            else:
                self.why_not = None
                return

    async def _show(self, culprit: Address, proof: Evidence) -> None:
        name = f"slash {culprit.hex()}"
        if await self._chain.status(name) is None:
            owner = registry.read_address(await self._ask(registry.owner_of_call(culprit)))
            if not any(owner) or not await self._loses(owner):
                log.warning("convicted, and nothing to lose", culprit=_hex(culprit))
                return
            await self._await_turn(culprit)
            if any(await self._ask(registry.convicted_call(culprit))):
                self._counters["slashes_lost"] += 1
                log.info("another node has shown the proof", culprit=_hex(culprit))
                return
            self._counters["slashes_sent"] += 1
        data = registry.slash_call(self._genesis.network_id, proof)
        await self._chain.submit(Intent(name, self._payer, self._genesis.registry, data))
        status = await self._chain.wait(name, confirmations=1, timeout_s=MINED_S)
        if status.reverted or status.state is IntentState.DROPPED:
            self._counters["slashes_lost"] += 1
            log.info("another node was faster with the proof", culprit=_hex(culprit))
            return
        self._counters["slashes_won"] += 1
        log.warning("a bond is slashed", culprit=_hex(culprit), tx=status.tx_hash.hex())

    async def _loses(self, owner: Address) -> bool:
        bond = registry.read_bond(await self._ask(registry.bond_of_call(owner)))
        return bond.slashable > 0

    async def _await_turn(self, culprit: Address) -> None:
        """Nobody knows who else reports: a number drawn from both names spreads all over the
        turns, differently for each culprit."""
        turn = sha256(culprit + self._payer).digest()[0] % TURNS
        until = (await self._chain.head()).number + turn
        with trio.move_on_after(turn * MAX_BLOCK_S):
            while (await self._chain.head()).number < until:
                if any(await self._ask(registry.convicted_call(culprit))):
                    return
                await trio.sleep(LOOK_S)

    async def _ask(self, data: bytes) -> bytes:
        return await self._chain.call(self._genesis.registry, data)


def _hex(address: Address) -> str:
    return "0x" + address.hex()
