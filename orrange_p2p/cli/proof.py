"""``orrange proof``: what the network's witnesses know of one order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import trio

from orrange_p2p.cli.ask import ask
from orrange_p2p.cli.options import (
    ORDER_ID,
    data_dir_option,
    echo_json,
    json_option,
    wants_json,
)
from orrange_p2p.client.rosters import RosterChain
from orrange_p2p.core.accounts import LiveOrder
from orrange_p2p.core.certificates import Certificate
from orrange_p2p.core.errors import InvalidError, MalformedError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Era, MarketId, OrderId
from orrange_p2p.core.operations import Side
from orrange_p2p.core.proofs import OrderProof, decode_proof, verify_order
from orrange_p2p.core.roster import Roster
from orrange_p2p.daemon.config import DataDir
from orrange_p2p.daemon.system import SystemClock


@click.command("proof")
@click.argument("order", type=ORDER_ID)
@click.option("--market", metavar="ID", help="0x and 64 digits; needed if the node has several.")
@data_dir_option
@json_option
def command(order: OrderId, market: str | None, data_dir: Path, as_json: bool) -> None:
    """Show how ORDER stands by the word of a quorum of witnesses.

    ORDER is 0x<author>/<entry>/<position>, as `submit` names it. The running node gives the proof;
    it is verified here against the network's file alone, so the node is not taken at its word. But
    it may show an old state: `age_s` says how old.

    Exit status 1 if the proof does not hold, 3 if no node is running.
    """
    genesis = DataDir(data_dir).load_genesis()
    params: dict[str, Any] = {"order": str(order)}
    if market is not None:
        params["market"] = market
    answer = ask(data_dir, "order_proof", params)
    try:
        proof = decode_proof(bytes.fromhex(answer["proof"].removeprefix("0x")))
        market_id = MarketId(bytes.fromhex(answer["market"].removeprefix("0x")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"the node's answer is no proof: {error}") from None
    if market not in (None, answer["market"]):
        raise InvalidError(f"the node answers for market {answer['market']}, not {market}")
    genesis.market(market_id)
    roster = _roster(data_dir, genesis, market_id, proof.certificate)
    found = verify_order(genesis, market_id, order, proof, roster)
    witnesses = len(genesis.witnesses if roster is None else roster.seats)
    shown = _shown(witnesses, order, proof, found)
    if wants_json(as_json):
        echo_json({**shown, "proof": answer["proof"]})
    else:
        width = max(map(len, shown))
        for name, value in shown.items():
            click.echo(f"{name:<{width}}  {value}")


def _roster(
    data_dir: Path, genesis: Genesis, market: MarketId, certificate: Certificate
) -> Roster | None:
    """Of those who vouch, followed from genesis by what each era's witnesses said of the next."""

    async def fetch(since: Era) -> dict[str, Any]:
        params = {"market": "0x" + market.hex(), "since": since}
        said: dict[str, Any] = await trio.to_thread.run_sync(ask, data_dir, "handovers", params)
        return said

    return trio.run(RosterChain(genesis, market).walk(fetch).roster, certificate)


def _shown(
    witnesses: int, name: OrderId, proof: OrderProof, order: LiveOrder | None
) -> dict[str, Any]:
    header, vouchers = proof.certificate
    shown: dict[str, Any] = {
        "order": str(name),
        "live": order is not None,
        "epoch": header.epoch,
        "age_s": max(0, (SystemClock().wall_ms() - header.time_ms) // 1000),
        "root": "0x" + header.root.hex(),
        "witnesses": f"{len(vouchers)} of {witnesses}",
    }
    if order is not None:
        shown |= {
            "side": Side(order.side).name.lower(),
            "price": str(order.price),
            "quantity": str(order.quantity),
            "open": str(order.open),
            "reserved": str(order.reserved),
            "filled": str(order.filled),
        }
    return shown
