"""What the local socket answers: the methods of one running node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import asdict

from orrange_p2p.core.errors import ConfigError, WorldError
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Address, Era, Lots, OrderId, Price, Seq, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.operations import (
    Amend,
    Cancel,
    CancelAll,
    Operation,
    Place,
    SelfTrade,
    Side,
    TimeInForce,
)
from orrange_p2p.core.proofs import prove_order
from orrange_p2p.core.reveals import CHAIN_LENGTH
from orrange_p2p.core.roster import Roster
from orrange_p2p.daemon.agreements import Agreements
from orrange_p2p.daemon.author import AuthorLog
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.node import Node
from orrange_p2p.ports.swaps import SwapRecord
from orrange_p2p.ports.trades import TradeRecord
from orrange_p2p.rpc.server import Method, Params

MAX_ROWS: Final = 1000
MAX_HANDOVERS: Final = 256
HANDOVER_BYTES: Final = 2 * 1024 * 1024
"""An answer is full from here on; one handover more fits."""
_DROPS: Final = ("_dropped", "_lost", "_refused", "over_budget", "over_buffer", "_declined")
"""How counters end of what a full queue or a spent budget has cost."""


def methods(node: Node) -> dict[str, Method]:
    """The table the socket serves. Each takes a mapping of parameters and returns JSON."""
    api = _Api(node)
    return {
        "status": api.status,
        "submit": api.submit,
        "book": api.book,
        "epochs": api.epochs,
        "commits": api.commits,
        "trades": api.trades,
        "order_proof": api.order_proof,
        "handovers": api.handovers,
        "peers": api.peers,
        "connect": api.connect,
        "stop": api.stop,
        "halt": api.halt,
        "resume": api.resume,
    }


class _Api:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def status(self, params: Params) -> Any:
        """Where the node is: peers, round, epoch, root, totals, queues, drops."""
        node = self._node
        counters = dict(sorted({**node.counters, **node.transport.counters()}.items()))
        return {
            "version": node.version,
            "network": node.genesis.name,
            "network_id": "0x" + node.genesis.network_id.hex(),
            "peer_id": node.transport.peer_id,
            "addresses": list(node.transport.addresses),
            "peers": [
                {"peer_id": peer.peer_id, "address": peer.address}
                for peer in node.transport.peers().values()
            ],
            "roles": list(node.roles),
            "halt": node.signing.halt.name.lower(),
            "signs_nothing": _why_not(node),
            "no_slashing": None if node.slashing is None else node.slashing.why_not,
            "authors": ["0x" + address.hex() for address in node.authors],
            "uptime_s": (node.clock.monotonic_ms() - node.started_ms) // 1000,
            "markets": [
                {
                    **_market_status(market, node.logs_of(market)),
                    **_checkpoint_status(node, market),
                    **_era_status(node, market),
                    "limits": _limits(market, node.logs_of(market)),
                    "no_ticks": _why_no_tick(node, market),
                    "settlement": await _settlement_status(market),
                    "no_settlement": _why_no_settlement(node, market),
                }
                for market in node.markets.values()
            ],
            "drops": {name: count for name, count in counters.items() if name.endswith(_DROPS)},
            "counters": counters,
        }

    async def submit(self, params: Params) -> Any:
        """Write operations into one of our logs; their order ids, once durable."""
        market = self._market(params)
        author = self._author(market, params)
        operations = [_operation(row) for row in _list(params, "operations")]
        if not operations:
            raise ConfigError("'operations' is empty")
        return [_order_id(name) for name in await author.submit(operations)]

    async def book(self, params: Params) -> Any:
        """The best levels of both sides: price in ticks, lots, number of orders."""
        market = self._market(params)
        levels = _integer(params, "levels", 20)
        book = market.replica.fold.book
        return {
            "epoch": market.replica.epoch,
            "bids": [list(map(str, row)) for row in book.depth(Side.BUY, levels)],
            "asks": [list(map(str, row)) for row in book.depth(Side.SELL, levels)],
        }

    async def epochs(self, params: Params) -> Any:
        """Applied epochs after ``since``, oldest first, at most 1,000."""
        since = _integer(params, "since", 0)
        rows = [stamp for stamp in self._market(params).epochs if stamp.epoch > since]
        return [
            {
                "epoch": stamp.epoch,
                "root": "0x" + stamp.root.hex(),
                "time_ms": stamp.time_ms,
                "durable_ms": stamp.durable_ms,
                "orders": stamp.placed,
                "matches": stamp.matches,
                "trades": stamp.trades,
            }
            for stamp in rows[:MAX_ROWS]
        ]

    async def commits(self, params: Params) -> Any:
        """Our own entries by the epoch that cut them, from epoch ``since`` + 1 on: whole epochs, so
        that whoever asks again after the last one misses nothing; about 1,000 entries at once."""
        since = _integer(params, "since", 0)
        rows = [commit for commit in self._market(params).commits if commit.epoch > since]
        if len(rows) > MAX_ROWS:
            last = rows[MAX_ROWS - 1].epoch
            rows = [commit for commit in rows if commit.epoch <= last]
        return [
            {
                "author": "0x" + commit.author.hex(),
                "seq": commit.seq,
                "submitted_ms": commit.submitted_ms,
                "epoch": commit.epoch,
            }
            for commit in rows
        ]

    async def trades(self, params: Params) -> Any:
        """Our trades after position ``since``, oldest first, at most 1,000, and where the
        settlement of each stands; none if this node settles none. ``block`` and ``tx_hash`` are of
        the transaction that showed how it ended, ``blamed`` is who did not pay in it."""
        market = self._market(params)
        since = _integer(params, "since", 0)
        keeper = market.keeper
        if keeper is None:
            return []
        if isinstance(keeper, Agreements):
            swaps = await keeper.swaps(since, MAX_ROWS)
            return [_swapped(market.market, *row) for row in swaps]
        rows = await keeper.trades(since, MAX_ROWS)
        return [_trade(market.market, *row) for row in rows]

    async def order_proof(self, params: Params) -> Any:
        """How an order stood in the latest certified state: an encoded ``OrderProof``."""
        market = self._market(params)
        certified = market.replica.certified
        if certified is None:
            raise WorldError("no state is certified here yet: ask again in a few seconds")
        proof = prove_order(certified.certificate, certified.view.orders, _order(params))
        return {
            "market": "0x" + market.market_id.hex(),
            "epoch": certified.header.epoch,
            "proof": "0x" + proof.encode().hex(),
        }

    async def handovers(self, params: Params) -> Any:
        """The handovers of era ``since`` and those after it without a gap, as many as fit: empty if
        this node has none of that era."""
        market, since = self._market(params), _integer(params, "since", 0)
        found: list[bytes] = []
        while len(found) < MAX_HANDOVERS and sum(map(len, found)) < HANDOVER_BYTES:
            handover = await market.handover(Era(since + len(found)))
            if handover is None:
                break
            found.append(handover)
        return {
            "market": "0x" + market.market_id.hex(),
            "since": since,
            "handovers": ["0x" + one.hex() for one in found],
        }

    async def peers(self, params: Params) -> Any:
        """Connected and remembered peers, and what they said of themselves."""
        return [asdict(row) for row in self._node.neighbours.rows()[:MAX_ROWS]]

    async def connect(self, params: Params) -> Any:
        """Dial a peer's multiaddr and stay connected; its peer id, once connected."""
        address = params.get("address")
        if not isinstance(address, str):
            raise ConfigError("'address' must be a multiaddr that ends in /p2p/<peer id>")
        return await self._node.connect(address)

    async def stop(self, params: Params) -> Any:
        """Leave in good order."""
        self._node.stop()
        return True

    async def halt(self, params: Params) -> Any:
        """The kill switch: cancel all, then sign nothing until ``resume``; how far that got."""
        done = await self._node.withdrawal.halt()
        return {"cancels_signed": done.signed, "cancels_committed": done.committed}

    async def resume(self, params: Params) -> Any:
        """End a halt; what still keeps the node from signing."""
        await self._node.withdrawal.resume()
        return {"signs_nothing": _why_not(self._node)}

    def _market(self, params: Params) -> MarketNode:
        return market_named(self._node, params)

    def _author(self, market: MarketNode, params: Params) -> AuthorLog:
        logs = self._node.logs_of(market)
        named = params.get("author")
        if named is None and len(logs) == 1:
            return next(iter(logs.values()))
        for address, log in logs.items():
            if named == "0x" + address.hex():
                return log
        raise ConfigError(f"no author {named!r} here; one of {['0x' + a.hex() for a in logs]}")


def market_named(node: Node, params: Params) -> MarketNode:
    """The market that a request names; it need not, where there is only one."""
    markets = node.markets
    named = params.get("market")
    if named is None and len(markets) == 1:
        return next(iter(markets.values()))
    for market_id, market in markets.items():
        if named == "0x" + market_id.hex():
            return market
    raise ConfigError(f"no market {named!r} here; one of {['0x' + m.hex() for m in markets]}")


def _why_not(node: Node) -> str | None:
    """Why no entry is signed, in words; None if all is well."""
    reasons = {node.signing.why_no_entry(market_id) for market_id in node.markets} - {None}
    return next(iter(reasons), None)


def _why_no_settlement(node: Node, market: MarketNode) -> str | None:
    """Why trades cannot be settled now; None if they can, or are not by this node."""
    if market.market.settlement == "htlc":
        swapping = node.swapping_of(market)
        if swapping is not None:
            return swapping.why_not
        return "this node has not both chains of the market" if node.authors else None
    reasons = (one.why_not for one in node.settling_of(market))
    return next((reason for reason in reasons if reason is not None), None)


def _why_no_tick(node: Node, market: MarketNode) -> str | None:
    """Why a witness does not tick; None if it does, or is none."""
    if "witness" not in node.roles:
        return None
    return node.signing.why_no_tick(market.market_id, market.replica.era)


def _market_status(market: MarketNode, logs: Mapping[Address, AuthorLog]) -> dict[str, Any]:
    replica = market.replica
    clock = replica.clock
    fold = replica.fold
    bid, ask = fold.book.best(Side.BUY), fold.book.best(Side.SELL)
    return {
        "market": "0x" + market.market_id.hex(),
        "base": market.market.base,
        "quote": market.market.quote,
        "era": replica.era,
        "round": clock.highest_quorum_round,
        "lag_rounds": _lag(market),
        "undecided_rounds": clock.undecided_rounds,
        "epoch": replica.epoch,
        "committed_epoch": replica.committed_epoch,
        "epoch_age_ms": _age_ms(market),
        "root": "0x" + replica.root.hex(),
        "open_orders": fold.live_order_count,
        "pending_matches": len(fold.matches),
        "checkpoint_epoch": replica.checkpoint.epoch,
        "halted": None if replica.halt is None else replica.halt.reason.value,
        "best_bid": None if bid is None else str(bid),
        "best_ask": None if ask is None else str(ask),
        "own_uncut": sum(log.uncut for log in logs.values()),
        "own_unaccepted": sum(log.unaccepted for log in logs.values()),
        "totals": dict(market.totals),
        "intake_queue": market.intake.queued,
        "outbox_bytes": market.outbox.pending_bytes,
        "blocking_entries": len(replica.blocking()),
    }


def _lag(market: MarketNode) -> int | None:
    """How many rounds others are further, as far as we heard; None if in a later era."""
    heard = max(market.heard.values(), default=(0, -1))
    if heard[0] > market.replica.era:
        return None
    is_ours = heard[0] == market.replica.era
    return max(0, heard[1] - market.replica.clock.highest_quorum_round) if is_ours else 0


def _age_ms(market: MarketNode) -> int | None:
    """How long ago the latest epoch was applied here; None if there is none since the start."""
    if not market.epochs:
        return None
    return market.clock.monotonic_ms() - market.epochs[-1].durable_ms


def _era_status(node: Node, market: MarketNode) -> dict[str, Any]:
    """Who keeps the clock, by which block of the home chain, and why nobody does."""
    roster = market.replica.roster
    rosters = node.rosters.get(market.market_id)
    return {
        "roster_block": roster.pin.block,
        "witnesses": [
            {"witness": "0x" + seat.witness.hex(), "weight": seat.weight} for seat in roster.seats
        ],
        "no_roster": None if rosters is None else rosters.why_not,
        "seat": _seat(node, roster),
    }


def _seat(node: Node, roster: Roster) -> dict[str, int] | None:
    """This node's own, and until which era its reveals last; None without one."""
    seat = None if node.witness_address is None else roster.seat_of(node.witness_address)
    if seat is None:
        return None
    lasts = CHAIN_LENGTH // node.genesis.parameters.rounds_per_era
    return {"weight": seat.weight, "last_era": seat.since + lasts - 1}


def _limits(market: MarketNode, authors: Iterable[Address]) -> list[dict[str, Any]]:
    """What our traders may still do. Stakes are in smallest units of quote."""
    tick_size, rows = market.market.tick_size, []
    for author in authors:
        left = market.replica.fold.headroom(author)
        row = {
            "author": "0x" + author.hex(),
            "in_lane": left.in_lane,
            "halved": left.halved,
            "operations_left": left.operations,
            "orders": left.orders,
            "most_orders": left.share.most_orders(left.halved),
        }
        if left.stake is not None:
            most = "order_stake" if left.in_lane else "most_stake"
            row |= {"stake": str(left.stake * tick_size), most: str(left.share.stake * tick_size)}
        rows.append(row)
    return rows


def _checkpoint_status(node: Node, market: MarketNode) -> dict[str, Any]:
    joining = node.joining[market.market_id]
    return {
        "kept_checkpoint": node.checkpoints_of(market).epoch,
        "joining": None if joining.progress is None else joining.progress._asdict(),
        "joined_at": joining.joined_at,
        "joined_bytes": joining.bytes_fetched,
        "joined_from_peers": len(joining.sources),
    }


async def _settlement_status(market: MarketNode) -> dict[str, int] | None:
    """How many of our trades stand where; None if this node settles none."""
    return None if market.keeper is None else await market.keeper.standing()


def _trade(market: Market, position: int, record: TradeRecord) -> dict[str, Any]:
    (trade, maker, bound_ms, _, _), progress = record
    return {
        "position": position,
        **_bound(market, trade, maker, bound_ms),
        "state": progress.state.name.lower(),
        "failures": progress.failures,
        "block": progress.block or None,
        "tx_hash": "0x" + progress.tx_hash.hex() if progress.tx_hash else None,
        "blamed": "0x" + progress.blamed.hex() if progress.blamed else None,
    }


def _swapped(market: Market, position: int, record: SwapRecord) -> dict[str, Any]:
    """A trade that a swap settles: what ``swaps`` says more of."""
    trade, maker, bound_ms, _ = record.deal
    return {
        "position": position,
        **_bound(market, trade, maker, bound_ms),
        "state": record.progress.state.name.lower(),
        "failures": 0,
        "block": None,
        "tx_hash": record.shown.other_end or record.shown.own_end or None,
        "blamed": None,
    }


def _bound(market: Market, trade: Trade, maker: Address, bound_ms: TimeMs) -> dict[str, Any]:
    lots = trade.base_amount // market.lot_size
    return {
        "id": "0x" + trade.id.hex(),
        "buyer": "0x" + trade.buyer.hex(),
        "seller": "0x" + trade.seller.hex(),
        "maker": "0x" + maker.hex(),
        "base_amount": str(trade.base_amount),
        "quote_amount": str(trade.quote_amount),
        "lots": str(lots),
        "price": str(trade.quote_amount // (lots * market.tick_size)),
        "epoch": trade.epoch,
        "bound_ms": bound_ms,
    }


def _order_id(name: OrderId) -> dict[str, Any]:
    return {"author": "0x" + name.author.hex(), "seq": name.seq, "position": name.position}


def _order(params: Params) -> OrderId:
    name = params.get("order")
    try:
        return OrderId.parse(str(name))
    except ValueError as error:
        raise ConfigError(f"'order': {error}") from None


def _list(params: Params, name: str) -> list[Any]:
    value = params.get(name)
    if not isinstance(value, list):
        raise ConfigError(f"{name!r} must be a list")
    return value


def _integer(row: Params, name: str, default: int | None = None) -> int:
    """A non-negative integer, as a JSON number or as decimal digits in a string."""
    value = row.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if type(value) is not int or value < 0:
        raise ConfigError(f"{name!r} must be a whole number, not {value!r}")
    return value


def _choice(row: Params, name: str, kinds: Any, default: Any) -> int:
    value = row.get(name)
    if value is None and default is not None:
        return int(default)
    try:
        return int(kinds[str(value).upper()])
    except KeyError:
        known = ", ".join(kind.name.lower() for kind in kinds)
        raise ConfigError(f"{name!r} is {value!r}; one of: {known}") from None


_PLACE_KEYS: Final = {
    "op",
    "side",
    "price",
    "quantity",
    "time_in_force",
    "expiry",
    "post_only",
    "self_trade",
    "min_quantity",
    "max_slippage",
    "min_reputation",
}
_TARGET_KEYS: Final = {"op", "seq", "position"}


def _operation(row: Any) -> Operation:
    if not isinstance(row, Mapping):
        raise ConfigError("an operation must be an object with the key 'op'")
    kind = row.get("op")
    known = {
        "place": _PLACE_KEYS,
        "cancel": _TARGET_KEYS,
        "cancel_all": {"op"},
        "amend": _PLACE_KEYS | _TARGET_KEYS,
    }.get(str(kind))
    if known is None:
        raise ConfigError(f"'op' is {kind!r}; one of: place, cancel, cancel_all, amend")
    unknown = sorted(set(row) - known)
    if unknown:
        raise ConfigError(f"{kind}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    if kind == "cancel_all":
        return CancelAll()
    if kind == "place":
        return _place(row)
    seq, position = Seq(_integer(row, "seq")), _integer(row, "position")
    return Cancel(seq, position) if kind == "cancel" else Amend(seq, position, _place(row))


def _place(row: Params) -> Place:
    slippage = row.get("max_slippage")
    return Place(
        _choice(row, "side", Side, None),
        Price(_integer(row, "price")),
        Lots(_integer(row, "quantity")),
        _choice(row, "time_in_force", TimeInForce, TimeInForce.GTC),
        _integer(row, "expiry", 0),
        int(bool(row.get("post_only", False))),
        _choice(row, "self_trade", SelfTrade, SelfTrade.CANCEL_NEWEST),
        Lots(_integer(row, "min_quantity", 0)),
        None if slippage is None else _integer(row, "max_slippage"),
        _integer(row, "min_reputation", 0),
    )
