"""Trades settle on a real chain: what the log carries is what the contract checks."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chains")]

from evm_chains import CHAIN, NUMBER, anvil, config, mine, rpc
from test_node import Party, author_of, genesis_of, market_of

from orrange_p2p.bench import gas
from orrange_p2p.chains.evm import artifacts
from orrange_p2p.chains.evm.abi import encode
from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.chains.evm.settlement import settle_call
from orrange_p2p.core.genesis import Genesis, Market
from orrange_p2p.core.ids import Address, Amount, Epoch, Lots, Price, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.operations import Place
from orrange_p2p.core.swaps.atomic import Progress, TradeState
from orrange_p2p.core.swaps.binding import BoundTrade, Consent, Taken
from orrange_p2p.crypto.eip712 import signing_digest
from orrange_p2p.daemon.api import methods
from orrange_p2p.daemon.node import Node, running
from orrange_p2p.daemon.settlement_config import SettlingConfig
from orrange_p2p.daemon.settling import Settling
from orrange_p2p.daemon.system import SystemClock
from orrange_p2p.p2p.memory import MemoryNetwork
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.intents_memory import MemoryIntents
from orrange_p2p.store.memory import MemoryStore

FUNDS = 10**24
NOBODY = Address(bytes(20))
PARTIES = [Party(n) for n in range(4)]
MAKER, TAKER = PARTIES[0].trader, PARTIES[1].trader
FINAL = {TradeState.SETTLED: 1}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orrange_p2p.daemon.settling.LOOK_S", 0.02)
    monkeypatch.setattr("orrange_p2p.daemon.settling.TRY_AGAIN_S", 0.05)
    monkeypatch.setattr("orrange_p2p.daemon.open_trades.FIRST_REST_S", 0.1)
    if not gas.BOLTZ.exists():
        pytest.skip("the packages of contracts/evm are not installed: run `make setup`")


class World:
    """A chain with two tokens, the contract, and a market between the tokens."""

    def __init__(self, port: int, chain: EvmChain) -> None:
        self.port = port
        self.chain = chain
        self.rpc = gas.Anvil(f"http://127.0.0.1:{port}")
        deployer = self.rpc.call("eth_accounts")[0]
        self.tokens = [
            self.rpc.deploy(
                deployer,
                gas._boltz("TestERC20") + encode(bytearray(name), bytearray(name), 18, 10**30),
            )
            for name in (b"BASE", b"QUOTE")
        ]
        base, quote = (f"{CHAIN}/erc20:{token}" for token in self.tokens)
        self.market = Market(base, quote, 1, 1, "atomic", "evm", 1, 1, 1)
        self.genesis: Genesis = attrs.evolve(genesis_of(PARTIES), markets=(self.market,))
        network = (NUMBER, self.genesis.registry, self.genesis.network_id)
        artifact = artifacts.load("Settlement")
        self.contract = self.rpc.deploy(
            deployer, artifact.bytecode + encode(*network, 0, 0, bytes(20))
        )
        for party in PARTIES:
            owner = "0x" + party.trader.address.hex()
            self.rpc.call("anvil_setBalance", owner, hex(10**20))
            self.rpc.call("anvil_impersonateAccount", owner)
            for token in self.tokens:
                transfer = gas._call_boltz(
                    "TestERC20", "transfer(address,uint256)", party.trader.address, FUNDS
                )
                self.rpc.send(deployer, token, transfer)
            self.approve(party.trader, FUNDS)
        self._numbers = itertools.count()

    def approve(self, owner: MemorySigner, amount: int) -> None:
        for token in self.tokens:
            data = gas._call_boltz(
                "TestERC20", "approve(address,uint256)", gas._octets(self.contract), amount
            )
            self.rpc.send("0x" + owner.address.hex(), token, data)
        self.rpc.call("anvil_stopImpersonatingAccount", "0x" + owner.address.hex())

    def held(self, signer: MemorySigner) -> tuple[int, int]:
        """Base and quote."""
        call = gas._call_boltz("TestERC20", "balanceOf(address)", signer.address)
        base, quote = (
            int(self.rpc.call("eth_call", {"to": token, "data": "0x" + call.hex()}, "latest"), 16)
            for token in self.tokens
        )
        return base, quote

    def trade(
        self,
        seller: MemorySigner = TAKER,
        *,
        bound_ms: int | None = None,
        lifetime_ms: int = 3_600_000,
    ) -> BoundTrade:
        """The maker buys 3 for 700; two signatures."""
        now_ms = SystemClock().wall_ms() if bound_ms is None else bound_ms
        fill = sha256(b"%d" % next(self._numbers)).digest()
        trade = Trade(
            self.market.id,
            fill,
            MAKER.address,
            seller.address,
            Amount(3),
            Amount(700),
            Epoch(1),
            TimeMs(SystemClock().wall_ms() + lifetime_ms),
        )
        digest = signing_digest(self.genesis.separator, trade.id)
        sides = [
            Consent(NOBODY, (), signer.sign(digest))  # type: ignore[arg-type]
            for signer in (MAKER, seller)
        ]
        return BoundTrade(trade, MAKER.address, TimeMs(now_ms), *sides)

    def settling(
        self, signer: MemorySigner, store: MemoryStore, *, chain: Any = None, trades: Any = None
    ) -> Settling:
        return Settling(
            SettlingConfig(CHAIN, Address(gas._octets(self.contract)), gather_ms=10),
            self.genesis,
            self.market.id,
            trades=trades or store,
            store=store,
            chain=chain or self.chain,
            own=[signer.address],
            payer=signer.address,
            clock=SystemClock(),
            counters=Counter(),
        )

    async def counted(self, store: MemoryStore) -> dict[int, int]:
        return dict(await store.count_trades(self.market.id))


@asynccontextmanager
async def world(*more: MemorySigner, mines: bool = True) -> AsyncIterator[World]:
    """``more``: who sends transactions, too. ``mines``: a block follows another, so that all
    becomes final."""
    senders = [*(party.trader for party in PARTIES), *more]
    async with (
        anvil() as port,
        open_evm_chain(config(port), MemoryIntents(), senders) as chain,
        trio.open_nursery() as nursery,
    ):
        made = World(port, chain)
        if mines:
            nursery.start_soon(keep_mining, port)
        yield made
        nursery.cancel_scope.cancel()


async def keep_mining(port: int) -> None:
    while True:
        await mine(port)
        await trio.sleep(0.05)


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    with trio.fail_after(seconds):
        while not await condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def settle_all(world: World, store: MemoryStore, states: dict[TradeState, int]) -> None:
    async def done() -> bool:
        return await world.counted(store) == states

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.settling(MAKER, store).run)
        await until(done)
        nursery.cancel_scope.cancel()


async def test_a_trade_settles_and_becomes_final() -> None:
    async with world() as chain:
        store = MemoryStore()
        await store.keep_bindings(chain.market.id, Taken({}, (chain.trade(),), ()))
        await settle_all(chain, store, FINAL)
        assert chain.held(MAKER) == (FUNDS + 3, FUNDS - 700)
        assert chain.held(TAKER) == (FUNDS - 3, FUNDS + 700)


async def test_who_withdrew_its_allowance_defaults_and_the_rest_of_the_batch_settles() -> None:
    async with world() as chain:
        poor = PARTIES[2].trader
        chain.rpc.call("anvil_impersonateAccount", "0x" + poor.address.hex())
        chain.approve(poor, 0)
        store = MemoryStore()
        trades = (chain.trade(), chain.trade(poor), chain.trade())
        await store.keep_bindings(chain.market.id, Taken({}, trades, ()))
        await settle_all(chain, store, {TradeState.SETTLED: 2, TradeState.DEFAULTED: 1})
        (record,) = await store.unsettled_trades(chain.market.id)
        assert record.trade == trades[1]
        assert (record.progress.blamed, record.progress.attempts) == (poor.address, 1)
        assert chain.held(MAKER) == (FUNDS + 6, FUNDS - 1400)
        assert chain.held(poor) == (FUNDS, FUNDS)


async def test_the_other_party_sends_when_the_maker_does_not() -> None:
    async with world() as chain, trio.open_nursery() as nursery:
        store = MemoryStore()
        now_ms = SystemClock().wall_ms()
        late, fresh = chain.trade(bound_ms=now_ms - 120_000), chain.trade(bound_ms=now_ms)
        await store.keep_bindings(chain.market.id, Taken({}, (late, fresh), ()))
        nursery.start_soon(chain.settling(TAKER, store).run)

        async def settled() -> bool:
            return await chain.counted(store) == {TradeState.DUE: 1, TradeState.SETTLED: 1}

        await until(settled)
        assert chain.held(TAKER) == (FUNDS - 3, FUNDS + 700)
        nursery.cancel_scope.cancel()


async def test_a_trade_that_nobody_settled_in_time_expires_by_the_chain_s_time() -> None:
    """Our own clock has not moved: it is the final block's stamp that counts."""
    async with world(mines=False) as chain, trio.open_nursery() as nursery:
        store = MemoryStore()
        brief, long = chain.trade(lifetime_ms=600_000), chain.trade(lifetime_ms=7_200_000)
        await store.keep_bindings(chain.market.id, Taken({}, (brief, long), ()))
        taker = chain.settling(TAKER, store)  # whose turn it is not
        nursery.start_soon(taker.run)
        await until(lambda: read_any(taker))
        await rpc(chain.port, "evm_increaseTime", 3_600)
        await mine(chain.port)
        late = (await chain.chain.head()).number
        await until(lambda: read_past(taker, late - 1))
        assert await chain.counted(store) == {TradeState.DUE: 2}  # that block may be replaced
        nursery.start_soon(keep_mining, chain.port)

        async def expired() -> bool:
            return await chain.counted(store) == {TradeState.DUE: 1, TradeState.EXPIRED: 1}

        await until(expired)
        (left,) = await store.unsettled_trades(chain.market.id)
        assert left.trade == long
        assert taker._counters["settlements_sent"] == 0
        assert taker._counters["trades_expired"] == 1
        nursery.cancel_scope.cancel()


async def test_a_trade_that_settled_before_its_time_is_not_said_to_have_expired() -> None:
    """Settled before this node read anything, and looked at after the expiry."""
    async with world() as chain, trio.open_nursery() as nursery:
        maker_store, taker_store = MemoryStore(), MemoryStore()
        trade = chain.trade(lifetime_ms=600_000)
        for store in (maker_store, taker_store):
            await store.keep_bindings(chain.market.id, Taken({}, (trade,), ()))
        await settle_all(chain, maker_store, FINAL)
        await rpc(chain.port, "evm_increaseTime", 3_600)
        taker = chain.settling(TAKER, taker_store)
        nursery.start_soon(taker.run)
        await until(lambda: is_final(chain, taker_store))
        assert taker._counters["settlements_sent"] == 0
        nursery.cancel_scope.cancel()


async def test_both_may_send_and_it_settles_once() -> None:
    async with world() as chain, trio.open_nursery() as nursery:
        stores = [MemoryStore(), MemoryStore()]
        trade = chain.trade(bound_ms=0)
        for signer, store in zip((MAKER, TAKER), stores, strict=True):
            await store.keep_bindings(chain.market.id, Taken({}, (trade,), ()))
            nursery.start_soon(chain.settling(signer, store).run)

        async def settled() -> bool:
            return [await chain.counted(store) for store in stores] == [FINAL, FINAL]

        await until(settled)
        assert chain.held(MAKER) == (FUNDS + 3, FUNDS - 700)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_node_that_learns_of_its_trade_after_the_chain_told_of_it(restarts: bool) -> None:
    """The other party's node was quicker, or ours was away: there is nothing left to send."""
    async with world() as chain, trio.open_nursery() as nursery:
        maker_store, taker_store = MemoryStore(), MemoryStore()
        taker = chain.settling(TAKER, taker_store)
        trade = chain.trade(bound_ms=0)
        await maker_store.keep_bindings(chain.market.id, Taken({}, (trade,), ()))
        with trio.CancelScope() as process:
            async with trio.open_nursery() as running:
                running.start_soon(taker.run)
                # Where it begins is kept before anything is settled.
                await until(lambda: read_any(taker))
                await settle_all(chain, maker_store, FINAL)
                read = (await chain.chain.head()).number
                await until(lambda: read_past(taker, read))
                if restarts:
                    process.cancel()
                else:
                    await taker_store.keep_bindings(chain.market.id, Taken({}, (trade,), ()))
                    taker.note([trade])
                    await until(lambda: is_final(chain, taker_store))
                    process.cancel()
        if restarts:
            taker = chain.settling(TAKER, taker_store)
            nursery.start_soon(taker.run)
            await until(lambda: read_past(taker, read))
            await taker_store.keep_bindings(chain.market.id, Taken({}, (trade,), ()))
            taker.note([trade])
            await until(lambda: is_final(chain, taker_store))
        assert taker._counters["settlements_sent"] == 0
        nursery.cancel_scope.cancel()


async def test_a_trade_that_ended_before_this_node_read_anything_is_settled_all_the_same() -> None:
    """Settlement was set up here only now: the log is behind us, and the contract still knows."""
    async with world() as chain:
        maker_store, taker_store = MemoryStore(), MemoryStore()
        trade = chain.trade(bound_ms=0)
        for store in (maker_store, taker_store):
            await store.keep_bindings(chain.market.id, Taken({}, (trade,), ()))
        await settle_all(chain, maker_store, FINAL)
        async with trio.open_nursery() as nursery:
            taker = chain.settling(TAKER, taker_store)
            nursery.start_soon(taker.run)
            await until(lambda: is_final(chain, taker_store))
            nursery.cancel_scope.cancel()
        assert taker._counters["settlements_sent"] == 1
        ((_, record),) = await taker_store.trades(chain.market.id)
        receipt = chain.rpc.call("eth_getTransactionReceipt", "0x" + record.progress.tx_hash.hex())
        assert receipt["from"] == "0x" + TAKER.address.hex()


async def read_any(settling: Settling) -> bool:
    return settling._read_to >= 0


async def read_past(settling: Settling, number: int) -> bool:
    return settling._read_to > number


async def is_final(world: World, store: MemoryStore) -> bool:
    return await world.counted(store) == FINAL


async def test_a_replaced_block_is_no_settlement() -> None:
    async with world(mines=False) as chain, trio.open_nursery() as nursery:
        store = MemoryStore()
        await store.keep_bindings(chain.market.id, Taken({}, (chain.trade(),), ()))
        nursery.start_soon(chain.settling(MAKER, store).run)

        async def mined() -> bool:
            return await chain.counted(store) == {TradeState.MINED: 1}

        async def taken_back() -> bool:
            return (await chain.counted(store)).get(TradeState.MINED) is None

        async def settled() -> bool:
            return await chain.counted(store) == FINAL

        await until(mined)
        await rpc(chain.port, "evm_setAutomine", False)
        await rpc(chain.port, "anvil_reorg", 1, [])
        await mine(chain.port)
        await until(taken_back)
        nursery.start_soon(keep_mining, chain.port)
        await until(settled)
        assert chain.held(MAKER) == (FUNDS + 3, FUNDS - 700)
        nursery.cancel_scope.cancel()


async def test_strangers_who_make_calls_fail_change_nothing() -> None:
    async with world() as chain, trio.open_nursery() as nursery:
        store = MemoryStore()
        trade = chain.trade(bound_ms=SystemClock().wall_ms())
        await store.keep_bindings(chain.market.id, Taken({}, (trade,), ()))
        nursery.start_soon(chain.settling(TAKER, store).run)  # whose turn it is not
        forged = trade._replace(buyer=Consent(NOBODY, (), bytes(65)))
        stranger = chain.rpc.call("eth_accounts")[3]
        for _ in range(10):
            chain.rpc.send(stranger, chain.contract, settle_call([forged]))
        read = (await chain.chain.head()).number

        async def final() -> bool:
            return (await chain.chain.finalized()).number > read

        await until(final)
        (record,) = await store.unsettled_trades(chain.market.id)
        assert record.progress == Progress()
        nursery.cancel_scope.cancel()


async def test_who_cannot_pay_the_fee_is_told_and_goes_on_once_it_can() -> None:
    async with world() as chain, trio.open_nursery() as nursery:
        store = MemoryStore()
        await store.keep_bindings(chain.market.id, Taken({}, (chain.trade(),), ()))
        settling = chain.settling(MAKER, store)
        nursery.start_soon(settling.run)
        await until(lambda: is_final(chain, store))
        assert settling.why_not is None
        owner = "0x" + MAKER.address.hex()
        chain.rpc.call("anvil_setBalance", owner, "0x1")
        trade = chain.trade()
        await store.keep_bindings(chain.market.id, Taken({}, (trade,), ()))
        settling.note([trade])

        async def told() -> bool:
            return f"{owner} holds 1 wei" in (settling.why_not or "")

        async def all_final() -> bool:
            return await chain.counted(store) == {TradeState.SETTLED: 2}

        await until(told)
        chain.rpc.call("anvil_setBalance", owner, hex(10**20))
        await until(all_final)
        assert settling.why_not is None
        nursery.cancel_scope.cancel()


class Crash:
    """Stands in front of a port, and ends the process at the n-th step: before it or after it."""

    def __init__(self, steps: int, scope: trio.CancelScope) -> None:
        self.left = steps
        self._scope = scope

    def before(self, port: Any, *methods: str) -> Any:
        return _Stepped(self, port, methods)

    async def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            self._scope.cancel()
            await trio.sleep_forever()


class _Stepped:
    def __init__(self, crash: Crash, port: Any, methods: tuple[str, ...]) -> None:
        self._crash, self._port, self._methods = crash, port, methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name not in self._methods:
            return found

        async def stepped(*arguments: Any, **named: Any) -> Any:
            await self._crash.step()
            answer = await found(*arguments, **named)
            await self._crash.step()
            return answer

        return stepped


async def test_a_crash_between_any_two_steps_settles_once_all_the_same() -> None:
    async with world() as chain:
        for steps in itertools.count(1):
            store = MemoryStore()
            await store.keep_bindings(chain.market.id, Taken({}, (chain.trade(),), ()))
            with trio.CancelScope() as process:
                crash = Crash(steps, process)
                settling = chain.settling(
                    MAKER,
                    store,
                    trades=crash.before(store, "record_progress"),
                    chain=crash.before(chain.chain, "submit"),
                )
                async with trio.open_nursery() as nursery:

                    async def settled(store: MemoryStore = store) -> bool:
                        return await chain.counted(store) == FINAL

                    nursery.start_soon(settling.run)
                    await until(settled)
                    process.cancel()
            await settle_all(chain, store, FINAL)
            assert chain.held(MAKER) == (FUNDS + 3 * steps, FUNDS - 700 * steps)
            if crash.left > 0:
                break
        assert steps >= 9


async def test_a_contract_of_another_network_is_told_and_nothing_is_sent() -> None:
    async with world() as chain:
        chain.contract = chain.tokens[0]
        store = MemoryStore()
        await store.keep_bindings(chain.market.id, Taken({}, (chain.trade(),), ()))
        settling = chain.settling(MAKER, store)
        with trio.fail_after(10):
            await settling.run()
        assert settling._counters == {"settling_stopped": 1}
        assert "no Settlement, or refuses" in (settling.why_not or "")
        assert await chain.counted(store) == {TradeState.DUE: 1}


async def test_what_two_nodes_traded_settles_by_what_their_logs_say() -> None:
    async with world() as chain, AsyncExitStack() as stack:
        network = MemoryNetwork()
        contract = Address(gas._octets(chain.contract))
        settling = SettlingConfig(CHAIN, contract, gather_ms=10)
        names: list[str] = []
        nodes: list[Node] = []
        stores = [MemoryStore() for _ in PARTIES]
        for number, (party, store) in enumerate(zip(PARTIES, stores, strict=True)):
            transport = await stack.enter_async_context(network.open_transport(f"n{number}"))
            node = Node(
                chain.genesis,
                store,
                transport,
                SystemClock(),
                bootstrap=names,
                witness=(party.witness, {chain.market.id: party.chain}),
                traders=[party.trader],
                trades=store,
                settling=[(settling, chain.chain)],
            )
            nodes.append(await stack.enter_async_context(running(node)))
            names.append(transport.addresses[0])
        buyer, seller = (author_of(node) for node in nodes[:2])
        await buyer.submit([Place(0, Price(100), Lots(10)), Place(0, Price(99), Lots(10))])
        market = market_of(nodes[1])
        with trio.fail_after(20):
            while market.replica.fold.book.best(0) != 100:
                await market.changed.wait()
        # Three matches at once: their accepts are one signature for each side.
        await seller.submit([Place(1, Price(90), Lots(lots)) for lots in (4, 5, 6)])

        async def settled() -> bool:
            counts = [await chain.counted(store) for store in stores[:2]]
            bound = market_of(nodes[0]).totals["trades"]
            return bound >= 3 and counts == [{TradeState.SETTLED: bound}] * 2

        await until(settled)
        base, quote = chain.held(MAKER)
        assert base == FUNDS + 15
        assert quote == FUNDS - (10 * 100 + 5 * 99)
        assert chain.held(TAKER) == (FUNDS - 15, 2 * FUNDS - quote)
        assert await chain.counted(stores[2]) == {}
        told = [(await methods(node)["status"]({}))["markets"][0]["settlement"] for node in nodes]
        settled_count = market_of(nodes[0]).totals["trades"]
        assert told == [{"settled": settled_count}] * 2 + [{}] * 2
        rows = await methods(nodes[1])["trades"]({})
        assert len(rows) == settled_count
        assert sum(int(row["base_amount"]) for row in rows) == 15
        for row in rows:
            assert (row["state"], row["blamed"]) == ("settled", None)
            receipt = chain.rpc.call("eth_getTransactionReceipt", row["tx_hash"])
            assert int(receipt["blockNumber"], 16) == row["block"]
        last = rows[-1]["position"]
        assert await methods(nodes[1])["trades"]({"since": last}) == []
        assert await methods(nodes[2])["trades"]({}) == []
        assert nodes[1].counters["settlements_sent"] == 0
