"""A wallet's account lets a node trade for it: in the book, and on a real chain."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_account import Account
from eth_account.messages import encode_typed_data

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chains")]

from evm_chains import CHAIN
from test_node import author_of, market_of
from test_settling import FUNDS, PARTIES, TAKER, _impatient, until, world

from orrange_p2p.bench import gas
from orrange_p2p.core.errors import ConfigError, SignatureError, WorldError
from orrange_p2p.core.ids import Address, Lots, Price
from orrange_p2p.core.operations import Place
from orrange_p2p.core.swaps.atomic import TradeState
from orrange_p2p.daemon.delegation_api import methods
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.settlement_config import SettlingConfig
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.rpc.server import Method
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.memory import MemoryStore

__all__ = ["_impatient"]

OWNER = PARTIES[0].trader
"""The network lists it; the key is in a wallet, not at the node."""
WALLET = Account.from_key(bytes([101]) * 32)
SESSION = MemorySigner(b"\x77" * 32)
DAY_MS = 86_400_000


def signed(plan: dict[str, Any]) -> str:
    """As a wallet signs: from the typed data alone, by a library of somebody else's."""
    message = encode_typed_data(full_message=plan["typed_data"])
    return "0x" + WALLET.sign_message(message).signature.hex().removeprefix("0x")


async def delegate(table: dict[str, Method], wish: dict[str, Any]) -> dict[str, Any]:
    plan: dict[str, Any] = await table["delegation_plan"](wish)
    await table["delegation"]({**wish, "seq": plan["seq"], "signature": signed(plan)})
    return plan


async def test_a_wallet_delegates_its_account_pays_and_it_takes_that_back() -> None:
    async with world(SESSION) as chain, AsyncExitStack() as stack:
        owner = "0x" + OWNER.address.hex()
        assert WALLET.address.lower() == owner
        chain.rpc.call("anvil_impersonateAccount", owner)
        chain.approve(OWNER, 0)
        chain.rpc.call("anvil_setBalance", "0x" + SESSION.address.hex(), hex(10**20))
        settling = SettlingConfig(CHAIN, Address(gas._octets(chain.contract)), gather_ms=10)
        network, nodes, store = MemoryNetwork(), list[Node](), MemoryStore()
        for number, party in enumerate(PARTIES):
            transport = await stack.enter_async_context(network.open_transport(f"n{number}"))
            node = Node(
                chain.genesis,
                store if number == 0 else MemoryStore(),
                transport,
                SystemClock(),
                bootstrap=[one.transport.addresses[0] for one in nodes],
                witness=(party.witness, {chain.market.id: party.chain}),
                traders=[SESSION if number == 0 else party.trader],
                trades=store if number == 0 else None,
                settling=[(settling, chain.chain)] if number == 0 else [],
            )
            nodes.append(await stack.enter_async_context(running(node)))
        table = methods(nodes[0], [SESSION], [OWNER.address], [settling])
        wish = {
            "owner": WALLET.address,
            "session": "0x" + SESSION.address.hex(),
            "cap": "8",
            "spend": "900",
            "expiry_ms": SystemClock().wall_ms() + DAY_MS,
        }
        assert await table["delegations"]({}) == []
        await refusals(table, wish)
        plan = await delegate(table, wish)

        async def is_active() -> bool:
            return [row["active"] for row in await table["delegations"]({})] == [True]

        await until(is_active)
        assert [one["what"] for one in plan["calls"]] == [
            "let the contract move base",
            "let the contract move quote",
            "pay for its trades",
        ]
        chain.rpc.call("anvil_impersonateAccount", owner)
        for one in plan["calls"]:
            assert one["chain_id"] == 31337
            chain.rpc.send(owner, one["to"], bytes.fromhex(one["data"][2:]))

        await author_of(nodes[0]).submit([Place(0, Price(100), Lots(3))])
        with trio.fail_after(20):
            while market_of(nodes[1]).replica.fold.book.best(0) != 100:
                await market_of(nodes[1]).changed.wait()
        await author_of(nodes[1]).submit([Place(1, Price(100), Lots(3))])

        async def settled() -> bool:
            return await chain.counted(store) == {TradeState.SETTLED: 1}

        await until(settled)
        assert chain.held(OWNER) == (FUNDS + 3, FUNDS - 300)
        assert chain.held(SESSION) == (0, 0)
        assert chain.held(TAKER) == (FUNDS - 3, FUNDS + 300)

        plan = await delegate(table, {**wish, "expiry_ms": 0})
        (call,) = plan["calls"]
        assert call["what"] == "stop paying"
        chain.rpc.send(owner, call["to"], bytes.fromhex(call["data"][2:]))

        async def is_over() -> bool:
            return [row["active"] for row in await table["delegations"]({})] == [False]

        await until(is_over)


async def refusals(table: dict[str, Method], wish: dict[str, Any]) -> None:
    for changes, reason in (
        ({"owner": "0x" + TAKER.address.hex()}, "may own no key of this node"),
        ({"session": "0x" + TAKER.address.hex()}, "no trader of this node"),
        ({"cap": "0"}, "say a 'cap'"),
        ({"cap": "half"}, "'cap' must be a whole number"),
        ({"expiry_ms": wish["expiry_ms"] + 400 * DAY_MS}, "within a year"),
    ):
        with pytest.raises(ConfigError, match=reason):
            await table["delegation_plan"]({**wish, **changes})
    plan = await table["delegation_plan"](wish)
    good = {**wish, "seq": plan["seq"], "signature": signed(plan)}
    with pytest.raises(WorldError, match="begin again"):
        await table["delegation"]({**good, "seq": plan["seq"] + 1})
    for other in ({"cap": "9"}, {"signature": "0x" + "11" * 64 + "1b"}):
        with pytest.raises(SignatureError):
            await table["delegation"]({**good, **other})


async def test_a_listed_author_is_nobody_s_session_key() -> None:
    async with world() as chain, AsyncExitStack() as stack:
        transport = await stack.enter_async_context(MemoryNetwork().open_transport("alone"))
        node = Node(chain.genesis, MemoryStore(), transport, SystemClock(), traders=[TAKER])
        table = methods(node, [TAKER], [OWNER.address], [])
        wish = {
            "owner": WALLET.address,
            "session": "0x" + TAKER.address.hex(),
            "cap": "8",
            "expiry_ms": SystemClock().wall_ms() + DAY_MS,
        }
        with pytest.raises(WorldError, match="lists this trader key"):
            await table["delegation_plan"](wish)
