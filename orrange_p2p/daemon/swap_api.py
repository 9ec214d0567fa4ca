"""What the local socket answers about swaps over two chains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import MarketId, MatchId
from orrange_p2p.core.operations import Side
from orrange_p2p.core.swaps.legs import Lock, LockView
from orrange_p2p.daemon.api import MAX_ROWS, market_named
from orrange_p2p.daemon.bundles import Bundle
from orrange_p2p.daemon.node import Node
from orrange_p2p.daemon.swapping import Swapping
from orrange_p2p.ports.legs import ChainTime
from orrange_p2p.ports.swaps import SwapRecord, SwapStore
from orrange_p2p.rpc.server import Method, Params

__all__ = ["methods"]


def methods(node: Node, swaps: SwapStore) -> Mapping[str, Method]:
    """``swaps``, ``swap``, ``swap_bundle``, ``swap_resume``."""
    api = _SwapApi(node, swaps)
    return {
        "swaps": api.swaps,
        "swap": api.swap,
        "swap_bundle": api.bundle,
        "swap_resume": api.resume,
    }


class _SwapApi:
    def __init__(self, node: Node, swaps: SwapStore) -> None:
        self._node = node
        self._swaps = swaps

    async def swaps(self, params: Params) -> Any:
        """Our swaps in a market after position ``since``, oldest first, at most 1,000."""
        market = market_named(self._node, params)
        since = params.get("since", 0)
        if type(since) is not int or since < 0:
            raise ConfigError(f"'since' must be a whole number, not {since!r}")
        rows = await self._swaps.swaps(market.market_id, since, limit=MAX_ROWS)
        return [{"position": position, **_row(record)} for position, record in rows]

    async def swap(self, params: Params) -> Any:
        """One swap, and what its chains show of both locks now; null where a chain is silent."""
        record = await self._record(params)
        swapping = self._driver(record.deal.trade.market)
        views: list[Any] = [None, None]
        if record.swap is not None:
            views = [await swapping.view(lock) for lock in (record.swap.own, record.swap.other)]
        own, other = [None if view is None else _view(*view) for view in views]
        return {**_row(record), "own_view": own, "other_view": other}

    async def bundle(self, params: Params) -> Any:
        """A swap's recovery bundle, as text to be kept or handed to a watchtower."""
        record = await self._record(params)
        bundle = await self._driver(record.deal.trade.market).export(record.deal.id)
        if bundle is None:
            raise ConfigError(f"there never was anything to lock: {record.problem}")
        return bundle.encode()

    async def resume(self, params: Params) -> Any:
        """Go on with the swap of a bundle, from another machine or after a lost store."""
        text = params.get("bundle")
        if not isinstance(text, str):
            raise ConfigError("'bundle' must be the text of a bundle")
        bundle = Bundle.decode(text)
        is_new = await self._driver(bundle.deal.trade.market).resume(bundle)
        return {"trade": "0x" + bundle.name.hex(), "is_new": is_new}

    async def _record(self, params: Params) -> SwapRecord:
        named = params.get("trade")
        text = named.removeprefix("0x") if isinstance(named, str) else ""
        try:
            prefix = bytes.fromhex(text)
        except ValueError:
            prefix = b""
        if not prefix:
            raise ConfigError(f"'trade' must be the id of a trade, or how it begins: not {named!r}")
        if len(prefix) == 32:
            record = await self._swaps.get(MatchId(prefix))
            if record is not None:
                return record
        found = [one async for one in self._beginning(prefix)]
        if len(found) != 1:
            how = "no swap begins" if not found else f"{len(found)} swaps begin"
            raise ConfigError(f"{how} with 0x{prefix.hex()}")
        return found[0]

    async def _beginning(self, prefix: bytes) -> AsyncIterator[SwapRecord]:
        for market_id in self._node.markets:
            since = 0
            while page := await self._swaps.swaps(market_id, since):
                since = page[-1][0]
                for _, record in page:
                    if record.deal.id.startswith(prefix):
                        yield record

    def _driver(self, market_id: MarketId) -> Swapping:
        market = self._node.markets.get(market_id)
        swapping = None if market is None else self._node.swapping_of(market)
        if swapping is None:
            raise ConfigError(
                f"this node does not swap in market 0x{market_id.hex()}: node.toml has to name it, "
                "and both of its chains"
            )
        return swapping


def _row(record: SwapRecord) -> dict[str, Any]:
    deal, swap, progress, shown, problem = record
    row: dict[str, Any] = {
        "trade": "0x" + deal.id.hex(),
        "market": "0x" + deal.trade.market.hex(),
        "bound_ms": deal.bound_ms,
        "side": "buy" if deal.side is Side.BUY else "sell",
        "state": progress.state.name.lower(),
        "problem": problem or None,
        "role": None,
        "hashlock": None,
        "preimage": "0x" + progress.preimage.hex() if progress.preimage else None,
        "gives": None,
        "gets": None,
    }
    if swap is not None:
        row |= {
            "role": swap.role.name.lower(),
            "hashlock": "0x" + swap.own.hashlock.hex(),
            "gives": dict(_leg(swap.own, shown.own_lock, shown.own_end)),
            "gets": dict(_leg(swap.other, shown.other_lock, shown.other_end)),
            "schedule": swap.schedule._asdict(),
        }
    return row


def _leg(lock: Lock, locked_by: str, ended_by: str) -> Iterator[tuple[str, Any]]:
    yield "chain", lock.chain
    yield "asset", lock.asset
    yield "amount", str(lock.amount)
    yield "timelock_s", lock.timelock_s
    yield "lock", locked_by or None
    yield "end", ended_by or None


def _view(head: ChainTime, view: LockView) -> dict[str, Any]:
    def block(depth: int) -> int | None:
        return head.height - depth + 1 if depth else None

    return {
        "state": view.state.name.lower(),
        "confirmations": view.confirmations,
        "block": block(view.confirmations),
        "end_confirmations": view.end_confirmations,
        "end_block": block(view.end_confirmations),
        "problem": view.problem or None,
    }
