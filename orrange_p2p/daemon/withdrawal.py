"""Taking all our open orders back: when the operator halts the node, when it stops, when it is cut
off. Matches that stand already are not undone by it: a cancel beats fills of its own epoch and
later ones (protocol/04-book.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import structlog
import trio

from orrange_p2p.core.errors import WorldError
from orrange_p2p.core.ids import Address, MarketId, OrderId
from orrange_p2p.core.operations import CancelAll
from orrange_p2p.daemon.author import AuthorLog
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.signing import HaltState, Signing
from orrange_p2p.ports import Transport

HALT_S: Final = 10.0
"""An entry is committed in a second or two; a network that takes longer is not waited for."""
SHUTDOWN_S: Final = 3.0
"""The whole node leaves within five."""
ALONE_S: Final = 5.0
"""Without any peer for this long, it is cut off and not just reconnecting."""
LOOK_EVERY_S: Final = 0.5

log = structlog.get_logger()


class Cancelled(NamedTuple):
    """How far a cancel-all of all logs got."""

    signed: bool
    committed: bool


class Withdrawal:
    """The cancel-alls of one node, over all its markets and logs."""

    def __init__(
        self,
        markets: Mapping[MarketId, MarketNode],
        logs: Mapping[MarketId, Mapping[Address, AuthorLog]],
        signing: Signing,
        transport: Transport,
    ) -> None:
        self._markets = markets
        self._logs = logs
        self._signing = signing
        self._transport = transport
        self._halting = trio.Lock()

    async def cancel_all(self, within_s: float) -> Cancelled:
        """Sign a cancel-all in every log, and wait ``within_s`` seconds for them to be committed.

        What is signed is durable, and is offered to others until it commits, after a restart too.
        """
        signed: list[tuple[MarketNode, OrderId]] = []
        lacking = sum(map(len, self._logs.values()))
        with trio.move_on_after(within_s):
            for market_id, of_market in self._logs.items():
                for author in of_market.values():
                    if self._signing.is_merged(market_id) and not author.next_seq:
                        lacking -= 1  # without entries there are no orders
                        continue
                    try:
                        (name,) = await author.submit([CancelAll()])
                    except WorldError as error:
                        log.warning("no cancel", author=author.address.hex(), reason=str(error))
                        continue
                    signed.append((self._markets[market_id], name))
                    lacking -= 1
            for market, name in signed:
                while market.replica.logs.first_uncut(name.author) <= name.seq:
                    await market.changed.wait()
        committed = [m.replica.logs.first_uncut(name.author) > name.seq for m, name in signed]
        return Cancelled(not lacking, not lacking and all(committed))

    async def halt(self) -> Cancelled:
        """The kill switch: cancel all, then sign nothing more.

        Durable from its first moment. While a log lacks its cancel (a restored node has to wait
        before it signs), only that is signed, and it is tried again, after a restart too.
        """
        async with self._halting:
            if self._signing.halt is HaltState.ON:
                return Cancelled(True, True)
            await self._signing.set_halt(HaltState.CANCELLING)
            return await self._go_on_halting()

    async def _go_on_halting(self) -> Cancelled:
        done = await self.cancel_all(HALT_S)
        if done.signed:
            await self._signing.set_halt(HaltState.ON)
        return done

    async def resume(self) -> None:
        """End a halt, and a stop over a key in use elsewhere.

        What a restore keeps from being signed it does not free: no operator knows what was signed.
        """
        async with self._halting:
            await self._signing.forget_misuse()
            await self._signing.set_halt(HaltState.OFF)

    async def run(self, on_disconnect: bool) -> None:
        """Finish halts that could not be finished; if asked to, cancel all when cut off."""
        alone_since = trio.current_time()
        is_cancelled = False
        while True:
            await trio.sleep(LOOK_EVERY_S)
            if self._signing.halt is HaltState.CANCELLING:
                async with self._halting:
                    if self._signing.halt is HaltState.CANCELLING:
                        await self._go_on_halting()
            now = trio.current_time()
            if self._transport.peers():
                alone_since, is_cancelled = now, False
            elif on_disconnect and not is_cancelled and now - alone_since >= ALONE_S:
                log.warning("cut off: all orders are cancelled as soon as a peer hears us again")
                is_cancelled = (await self.cancel_all(LOOK_EVERY_S)).signed
