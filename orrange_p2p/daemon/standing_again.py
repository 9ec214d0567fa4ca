"""A candidate's reveals last for a number of eras: before they end it stands again, with new ones.

Without that a network that elects its witnesses would stand still one after the other, and nobody
would have done anything wrong (protocol/12-eras.md, Taking part).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

import structlog
import trio

from orrange_p2p.chains.evm import registry
from orrange_p2p.core.errors import PeerError, RevertedError, WorldError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, Era, MarketId
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.roster import Pin
from orrange_p2p.daemon.indexer import Indexer
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.ports.chain import Chain, Intent, IntentState

RENEWED_ERAS: Final = 8
"""So many eras before the reveals end, or half of what they last."""
TRY_AGAIN_S: Final = 5.0
MINED_S: Final = 600.0

log = structlog.get_logger()


class StandingAgain:
    """Of one witness, in its markets, on the home chain."""

    def __init__(
        self,
        genesis: Genesis,
        indexer: Indexer,
        chain: Chain,
        owners: Collection[Address],
        witness: Address,
        later_chain: Callable[[MarketId, Era], RevealChain],
    ) -> None:
        """``owners``: accounts that this node signs for; one of them stands for ``witness``."""
        self._genesis = genesis
        self._indexer = indexer
        self._chain = chain
        self._owners = owners
        self._witness = witness
        self._later_chain = later_chain
        self.why_not: str | None = None
        """Why it cannot be told, or done, now."""

    async def run(self, markets: Iterable[MarketNode]) -> None:
        """Look once in each era of each market, until cancelled."""
        async with trio.open_nursery() as nursery:
            for node in markets:
                nursery.start_soon(self._follow, node)

    async def _follow(self, node: MarketNode) -> None:
        seen = Era(-1)
        while True:
            changed, era = node.changed, node.replica.era
            if era == seen:
                await changed.wait()
                continue
            try:
                await self.renew(node.market_id, era)
            except (WorldError, PeerError, RevertedError) as error:
                if str(error) != self.why_not:
                    log.warning("standing again waits", era=era, why=str(error))
                self.why_not = str(error)
                await trio.sleep(TRY_AGAIN_S)
                continue
            self.why_not, seen = None, era

    async def renew(self, market: MarketId, era: Era) -> bool:
        """Stand again in a market if the reveals of the present candidacy end soon; whether that
        was done. Raises as the indexer and the chain do."""
        last = self._indexer.read_to
        if last is None:
            raise WorldError("the home chain has not been read yet")
        lasts = self._genesis.parameters.chain_eras
        soon = min(RENEWED_ERAS, lasts // 2)
        election = await self._indexer.election(Pin(last.block, last.hash))
        for owner in self._owners:
            record = election.owner(owner)
            stands = None if record is None else record.stands.get(market)
            if stands is None or stands.key != self._witness:
                continue
            if stands.since + lasts - era > soon:
                return False
            await self._stand(owner, market, Era(era + 1))
            return True
        return False

    async def _stand(self, owner: Address, market: MarketId, since: Era) -> None:
        # Not before the next era: until then the present candidacy is the one that counts.
        made = await trio.to_thread.run_sync(self._later_chain, market, since)
        data = registry.stand_call(market, self._witness, made.anchor, since)
        name = f"stand {market.hex()} {since}"
        await self._chain.submit(Intent(name, owner, self._genesis.registry, data))
        status = await self._chain.wait(name, confirmations=1, timeout_s=MINED_S)
        if status.reverted or status.state is IntentState.DROPPED:
            raise RevertedError("the registry refused the candidacy: `orrange registry status`")
        log.info("stands again with new reveals", market=market.hex(), since=since)
