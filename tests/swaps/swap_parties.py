"""Two parties of a swap over real chains, in virtual time, with faults.

The chains are anvil and a Bitcoin regtest node on Core's own validation; the parties are what a
node runs: both legs' adapters on their files, and ``Swapping``. Only time is not real: a step is
ten minutes on both chains, a block of Bitcoin's and fifty of Ethereum's. A party's process can die
at any write it makes, and comes up again from what it kept.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio
from attrs import evolve
from bitcoin_chains import KernelNode, keys, wallet_of
from bitcoin_chains import config as bitcoin_config
from evm_chains import anvil, rpc
from evm_chains import config as evm_config

from orrange_p2p.chains.bitcoin.config import REGTEST
from orrange_p2p.chains.bitcoin.leg import HORIZON_S, open_bitcoin_leg
from orrange_p2p.chains.bitcoin.rpc import BitcoindRpc, open_bitcoind
from orrange_p2p.chains.bitcoin.transactions import public_key
from orrange_p2p.chains.evm import erc20
from orrange_p2p.chains.evm.chain import EvmChain, open_evm_chain
from orrange_p2p.chains.evm.leg import EvmLeg
from orrange_p2p.chains.evm.websocket import WebSocketEndpoint
from orrange_p2p.core.errors import UnreachableError
from orrange_p2p.core.genesis import Market
from orrange_p2p.core.ids import Amount, Epoch, MatchId, TimeMs
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.operations import Side
from orrange_p2p.core.swaps.agreement import Deal, SwapTerms, agree, role_of
from orrange_p2p.core.swaps.htlc import ENDED, Role, Swap, SwapProgress, SwapState
from orrange_p2p.core.swaps.legs import Lock, LockState, LockView
from orrange_p2p.daemon.bundles import Bundle, Bundles
from orrange_p2p.daemon.swapping import Swapping, SwapTools
from orrange_p2p.devnet.accounts import accounts
from orrange_p2p.devnet.bank import UNLIMITED, open_bank
from orrange_p2p.devnet.chains import DevChain
from orrange_p2p.devnet.contracts import BASE, HASH_TIMELOCK
from orrange_p2p.devnet.rpc_server import open_bitcoin
from orrange_p2p.ports.chain import Intent
from orrange_p2p.ports.legs import ChainTime, Leg
from orrange_p2p.ports.swaps import Shown, SwapRecord
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.bitcoin_sqlite import SqliteBitcoin, open_sqlite_bitcoin
from orrange_p2p.store.intents_memory import MemoryIntents
from orrange_p2p.store.swaps_memory import MemorySwaps

SLOW_MS: Final = 60_000
"""Nobody has to look for heads by itself: a party looks when it is told to."""
STEP_S: Final = 600
BLOCK_S: Final = 24
"""Sixty-four of them in less than the half hour that the class allows."""
FIRST, SECOND = "eip155:31337", "eip155:31338"
OWNERS = tuple(MemorySigner(one.secret) for one in accounts()[:3])
"""Alice, Bob, and somebody who watches."""
SATS, TOKENS = Amount(200_000), Amount(5_000)
FUNDS_SATS, FUNDS_TOKENS = 1_000_000, 1_000_000
_CHAINS: Final = {"btc": REGTEST, "evm": FIRST, "evm2": SECOND}
_ASSETS: Final = {
    "btc": f"{REGTEST}/slip44:0",
    "evm": BASE.asset(FIRST),
    "evm2": BASE.asset(SECOND),
}


def market_of(base: str, quote: str) -> Market:
    """Of two kinds of chain: ``btc``, ``evm`` or ``evm2``."""
    timing = f"{base.rstrip('2')}-{quote.rstrip('2')}"
    return Market(_ASSETS[base], _ASSETS[quote], 1, 1, "htlc", timing, 1, 1, 1)


class Killed(Exception):
    """The process died."""


class Ill(Exception):
    """A party acted on what it had not kept."""


class Chains:
    """Both chains, and their common time."""

    def __init__(self, bitcoin: KernelNode | None, ports: dict[str, int], time_s: int) -> None:
        self.bitcoin = bitcoin
        self.ports = ports
        self.time_s = time_s
        self.spike_until_s: dict[str, int] = {}
        """Per chain, until when blocks are full and dear."""
        self._snapshots: dict[str, list[tuple[int, str]]] = {name: [] for name in ports}
        """Anvil's own way to replace blocks has lost some of their states by then."""

    async def step(self, times: int = 1) -> None:
        """Ten minutes pass, so many times."""
        for port in self.ports.values():
            head = await rpc(port, "eth_getBlockByNumber", "latest", False)
            self.time_s = max(self.time_s, int(head["timestamp"], 16))
        is_dear = any(self.time_s < until_s for until_s in self.spike_until_s.values())
        times = 1 if is_dear else times
        for _ in range(times):
            self.time_s += STEP_S
            await self._mine_bitcoin()
        await self._mine_others(times)

    async def _mine_bitcoin(self) -> None:
        if self.bitcoin is not None:
            is_dear = self.time_s < self.spike_until_s.get(REGTEST, 0)
            await self.bitcoin.rpc("devnet_fees", *((120_000, 100_000) if is_dear else (None, 0)))
            await self.bitcoin.rpc("setmocktime", self.time_s)
            await self.bitcoin.mine()

    async def _mine_others(self, times: int) -> None:
        for chain, port in self.ports.items():
            # A long stride is one while nothing happens: nobody counts its blocks.
            count = STEP_S // BLOCK_S if times == 1 else 3
            first = self.time_s - (count - 1) * BLOCK_S
            if self.time_s < self.spike_until_s.get(chain, 0):
                # A base fee falls by an eighth with each empty block: it is set anew for each.
                for number in range(count):
                    await rpc(port, "anvil_setNextBlockBaseFeePerGas", hex(60 * 10**9))
                    await rpc(port, "evm_setNextBlockTimestamp", first + number * BLOCK_S)
                    await rpc(port, "evm_mine")
            else:
                await rpc(port, "evm_setNextBlockTimestamp", first)
                await rpc(port, "evm_mine")
                await rpc(port, "anvil_mine", hex(count - 2), hex(BLOCK_S))
                await self.remember(chain)
                await rpc(port, "evm_mine")

    async def remember(self, chain: str) -> None:
        """So that what follows can be replaced."""
        port = self.ports[chain]
        head = int(await rpc(port, "eth_blockNumber"), 16)
        self._snapshots[chain].append((head, await rpc(port, "evm_snapshot")))

    async def reorganise(self, chain: str, depth: int, *, is_hostile: bool) -> None:
        """Replace the newest blocks. What they held waits again, or, hostile, is forgotten."""
        if chain == REGTEST:
            assert self.bitcoin is not None
            await self.bitcoin.reorganise(depth)
            if is_hostile:
                await self.bitcoin.rpc("devnet_drop")
            await self.bitcoin.mine(depth + 1)
            return
        port = self.ports[chain]
        head = int(await rpc(port, "eth_blockNumber"), 16)
        # The oldest one that is no deeper, or the newest: each transaction has a block of its own.
        kept = self._snapshots[chain]
        deep = [place for place, one in enumerate(kept) if head - one[0] <= depth]
        place = deep[0] if deep else len(kept) - 1
        first, snapshot = kept[place]
        del kept[place:]
        raws = []
        for number in range(first + 1, head + 1) if not is_hostile else ():
            block = await rpc(port, "eth_getBlockByNumber", hex(number), True)
            for one in block["transactions"]:
                raws.append(await rpc(port, "eth_getRawTransactionByHash", one["hash"]))
        await rpc(port, "evm_revert", snapshot)
        await rpc(port, "evm_setNextBlockTimestamp", self.time_s + 1)
        for raw in raws:
            await rpc(port, "eth_sendRawTransaction", raw)
        await rpc(port, "anvil_mine", hex(head - first + 1), hex(1))

    async def settle_down(self) -> None:
        """Until anvil has mined what it took: it takes a transaction, and then mines."""
        for chain, port in self.ports.items():
            if self.time_s < self.spike_until_s.get(chain, 0):
                continue
            with trio.move_on_after(2):
                while (await rpc(port, "txpool_status"))["pending"] != "0x0":  # noqa: ASYNC110
                    await trio.sleep(0.005)


Watch = Callable[[str], Awaitable[None]]
"""Told the name of a write just before it and, with ``!`` behind it, just after."""


class WatchedSwaps(MemorySwaps):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch
        self.forgets: frozenset[SwapState] = frozenset()
        """States that a node with a fault does not keep."""

    async def record(
        self, name: MatchId, progress: SwapProgress, shown: Shown, problem: str
    ) -> None:
        if progress.state in self.forgets:
            return
        before = self._records[name].progress.state
        label = progress.state.name if progress.state != before else "shown"
        await self._watch(f"swap {label}")
        await super().record(name, progress, shown, problem)
        await self._watch(f"swap {label}!")


class WatchedBundles(Bundles):
    def __init__(self, folder: Path, kill: Callable[[str], None]) -> None:
        super().__init__(folder)
        self._kill = kill

    def write(self, bundle: Bundle) -> None:
        self._kill("bundle")
        super().write(bundle)
        self._kill("bundle!")


class WatchedIntents(MemoryIntents):
    def __init__(self, watch: Watch, chain: str) -> None:
        super().__init__()
        self._watch = watch
        self._chain = chain

    async def add(self, record: Any) -> None:
        label = f"{self._chain} {record.intent.name.rsplit(' ', 2)[0]}"
        await self._watch(label)
        await super().add(record)
        await self._watch(label + "!")


class WatchedEndpoint:
    """Nothing is broadcast on an EVM chain that the store has not got."""

    def __init__(self, endpoint: WebSocketEndpoint, intents: MemoryIntents) -> None:
        self.url = endpoint.url
        self._endpoint = endpoint
        self._intents = intents

    async def request(self, method: str, params: list[Any]) -> Any:
        if method == "eth_sendRawTransaction":
            kept = [
                "0x" + attempt.raw.hex()
                for record in self._intents._records.values()
                for attempt in record.attempts
            ]
            if params[0] not in kept:
                raise Ill("sent a transaction that was not kept")
        return await self._endpoint.request(method, params)


class WatchedBackend:
    """Nothing is broadcast on Bitcoin that the store has not got."""

    def __init__(self, backend: BitcoindRpc, store: SqliteBitcoin) -> None:
        self._backend = backend
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def send(self, raw: bytes) -> str:
        kept = await self._store.load()
        if raw not in [attempt.raw for _, attempt in kept.attempts]:
            raise Ill("sent a transaction that was not kept")
        return await self._backend.send(raw)


class WatchedLeg:
    """A leg whose endpoint can be down; and nothing is sent that was not kept before."""

    def __init__(self, leg: Leg, party: Party) -> None:
        self._leg = leg
        self._party = party

    @property
    def chain(self) -> str:
        return self._leg.chain

    def party(self, trade: MatchId) -> bytes:
        return self._leg.party(trade)

    def _reach(self) -> None:
        if self._party.chains.time_s < self._party.down_until_s.get(self.chain, 0):
            raise UnreachableError("the endpoint is down")

    def _expect(self, what: str, *states: SwapState) -> None:
        kept = self._party.kept
        if kept.progress.state not in states:
            raise Ill(f"{what} in state {kept.progress.state.name}")

    async def now(self) -> ChainTime:
        self._reach()
        return await self._leg.now()

    async def heads(self) -> AsyncIterator[ChainTime]:
        async for head in self._leg.heads():
            yield head

    async def check(self, lock: Lock) -> None:
        self._reach()
        await self._leg.check(lock)

    async def view(self, lock: Lock) -> LockView:
        self._reach()
        return await self._leg.view(lock)

    async def lock(self, lock: Lock, *, by_s: int) -> None:
        self._reach()
        self._expect("locked", SwapState.LOCKING)
        if not self._party.bundles.path(lock.trade).exists():
            raise Ill("locked without a bundle")
        await self._leg.lock(lock, by_s=by_s)

    async def cancel(self, lock: Lock) -> None:
        self._reach()
        self._expect("cancelled", SwapState.CANCELLING)
        await self._leg.cancel(lock)

    async def claim(self, lock: Lock, preimage: bytes, *, by_s: int) -> None:
        self._reach()
        self._expect("claimed", SwapState.CLAIMING)
        await self._leg.claim(lock, preimage, by_s=by_s)

    async def refund(self, lock: Lock) -> None:
        self._reach()
        self._expect("took back", SwapState.REFUNDING)
        await self._leg.refund(lock)

    async def rescue(self, lock: Lock) -> bytes:
        self._reach()
        return await self._leg.rescue(lock)

    async def save(self, lock: Lock, rescue: bytes, preimage: bytes) -> None:
        raise Ill("a party does not save itself")


class Party:
    """One side of the swap: what survives a crash, and the process that may be running."""

    def __init__(self, who: int, chains: Chains, folder: Path, base: str, quote: str) -> None:
        self.who = who
        self.side = Side.SELL if who == 0 else Side.BUY
        self.chains = chains
        self.folder = folder
        self.market = market_of(base, quote)
        self.names = [_CHAINS[base], _CHAINS[quote]]
        self.on_write: Watch = _nothing
        self.swaps = WatchedSwaps(self._write)
        self.bundles = WatchedBundles(
            folder / "swaps", lambda label: trio.from_thread.run(self._write, label)
        )
        self.intents = {
            name: WatchedIntents(self._write, name) for name in chains.ports if name in self.names
        }
        self.hands_on = False
        """Whether it broadcasts what others have signed, as a watchtower does."""
        self.down_until_s: dict[str, int] = {}
        self.counters: Counter[str] = Counter()
        self.is_running = False
        self.ill = ""
        """What it did that it must not do."""
        self.name = MatchId(bytes(32))
        self._commands, self._work = trio.open_memory_channel[trio.Event](0)
        self._scope = trio.CancelScope()
        self._over = trio.Event()
        """Set once its last life has let go of everything."""
        self._over.set()
        self._evm: list[EvmChain] = []

    @property
    def kept(self) -> SwapRecord:
        return self.swaps._records[self.name]

    @property
    def state(self) -> SwapState | None:
        """None if it knows of no swap."""
        record = self.swaps._records.get(self.name)
        return None if record is None else record.progress.state

    @property
    def has_ended(self) -> bool:
        return self.kept.progress.state in ENDED

    def secret(self, trade: MatchId) -> bytes:
        return hashlib.sha256(b"secret of %d" % self.who + trade).digest()

    async def _write(self, label: str) -> None:
        await self.on_write(label)

    # --- its process ---

    @asynccontextmanager
    async def _legs(self) -> AsyncIterator[dict[str, Leg]]:
        legs: dict[str, Leg] = {}
        self._evm = []
        async with AsyncExitStack() as stack:
            for name in self.names:
                if name == REGTEST:
                    assert self.chains.bitcoin is not None
                    store = await stack.enter_async_context(
                        open_sqlite_bitcoin(self.folder / "bitcoin.sqlite", REGTEST)
                    )
                    settings = evolve(bitcoin_config(self.chains.bitcoin), poll_interval_ms=SLOW_MS)
                    bitcoind = await stack.enter_async_context(open_bitcoind(settings))
                    backend: Any = bitcoind
                    if not self.hands_on:
                        backend = WatchedBackend(bitcoind, store)
                    legs[name] = await stack.enter_async_context(
                        open_bitcoin_leg(settings, store, keys(self.who), backend=backend)
                    )
                else:
                    port = self.chains.ports[name]
                    settings_ = evolve(evm_config(port, chain=name), poll_interval_ms=SLOW_MS)
                    owner = OWNERS[self.who]
                    sockets = await stack.enter_async_context(trio.open_nursery())
                    stack.callback(sockets.cancel_scope.cancel)
                    socket = WebSocketEndpoint(f"ws://127.0.0.1:{port}", 5, sockets)
                    # By an endpoint of its own, which tells of no heads: fifty come in a step.
                    intents = self.intents[name]
                    endpoint = WatchedEndpoint(socket, intents)
                    chain = await stack.enter_async_context(
                        open_evm_chain(settings_, intents, [owner], endpoints=[endpoint])
                    )
                    self._evm.append(chain)
                    legs[name] = EvmLeg(chain, HASH_TIMELOCK, owner.address)
            yield legs

    async def run(self, task_status: Any) -> None:
        """One life."""
        was_started = False
        self._over = trio.Event()
        try:
            with trio.CancelScope() as self._scope:
                async with self._legs() as legs:
                    watched = {name: WatchedLeg(leg, self) for name, leg in legs.items()}
                    tools = SwapTools(self.swaps, watched, self.secret, self.bundles)
                    swapping = Swapping(self.market, self.market.id, tools, self.counters)
                    self.legs, self.swapping = legs, swapping
                    self.is_running = True
                    await swapping.take_up()
                    was_started = True
                    task_status.started()
                    async for done in self._work:
                        for chain in self._evm:
                            await chain._look()
                        await swapping.look()
                        done.set()
        except* Killed:
            pass
        except* Ill as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self.ill = str(error)
        finally:
            self.is_running = False
            self._over.set()
            if not was_started:
                task_status.started()

    async def look(self) -> None:
        """Let it look at its swaps; it may die of it."""
        done = trio.Event()
        if self.is_running:
            await self._commands.send(done)
            while self.is_running and not done.is_set():
                with trio.move_on_after(0.02):
                    await done.wait()

    def kill(self) -> None:
        self._scope.cancel()
        self.is_running = False

    # --- before the swap ---

    async def terms(self, trade: MatchId) -> SwapTerms:
        gives, gets = (self.legs[name] for name in self.names)
        if self.side is Side.BUY:
            gives, gets = gets, gives
        hashlock = b""
        if role_of(self.market, self.side) is Role.INITIATOR:
            hashlock = hashlib.sha256(self.secret(trade)).digest()
        return SwapTerms(gives.party(trade), gets.party(trade), hashlock)


async def _nothing(label: str) -> None:
    pass


class World:
    """A swap between two parties. Alice, 0, sells base."""

    def __init__(self, chains: Chains, parties: Sequence[Party], nursery: trio.Nursery) -> None:
        self.chains = chains
        self.parties = parties
        self._nursery = nursery

    async def start(self, party: Party) -> None:
        await party._over.wait()
        await self._nursery.start(party.run)

    async def agree(self, changes: Callable[[int, Swap], Swap] = lambda who, swap: swap) -> None:
        """Both accept the trade; ``changes``: what a hostile one makes of it."""
        alice, bob = self.parties
        trade = Trade(
            alice.market.id,
            hashlib.sha256(b"%d" % self.chains.time_s).digest(),
            OWNERS[1].address,
            OWNERS[0].address,
            SATS if alice.names[0] == REGTEST else TOKENS,
            TOKENS,
            Epoch(1),
            TimeMs(1),
        )
        bound_ms = TimeMs(1000 * self.chains.time_s)
        said = [await party.terms(trade.id) for party in self.parties]
        for party, other in ((alice, bob), (bob, alice)):
            deal = Deal(trade, OWNERS[1].address, bound_ms, party.side)
            swap = agree(party.market, deal, said[party.who], said[other.who].encode())
            party.name = trade.id
            await party.swaps.keep([SwapRecord(deal, changes(party.who, swap))])

    async def step(self, times: int = 1) -> bool:
        """Ten minutes pass, so many times, and whoever runs looks; whether a swap went on."""
        await self.chains.step(times)
        return await self.look(self.parties)

    async def look(self, parties: Sequence[Party]) -> bool:
        """These look until they have nothing to do; whether a swap went on."""
        moved = False
        for _ in range(6):
            before = [party.state for party in parties]
            for party in parties:
                await party.look()
            await self.chains.settle_down()
            if before == [party.state for party in parties]:
                break
            moved = True
        return moved

    async def views(self) -> tuple[LockView, LockView]:
        """What the chains show of Alice's lock and of Bob's, by eyes of their own."""
        swap = self.parties[0].kept.swap
        assert swap is not None
        eye = Party(2, self.chains, self.parties[0].folder / "eye", "btc", "evm")
        eye.names = self.parties[0].names
        eye.folder.mkdir(exist_ok=True)
        eye.intents = {name: MemoryIntents() for name in self.chains.ports}  # type: ignore[misc]
        async with _eye_legs(eye) as legs:
            return (
                await legs[swap.own.chain].view(swap.own),
                await legs[swap.other.chain].view(swap.other),
            )


@asynccontextmanager
async def _eye_legs(eye: Party) -> AsyncIterator[dict[str, Leg]]:
    eye.who = 1
    async with eye._legs() as legs:
        yield legs


def holds(own: LockView, other: LockView) -> str:
    """What a party has in the end."""
    has_own = own.state in (LockState.ABSENT, LockState.REFUNDED)
    has_other = other.state is LockState.CLAIMED
    return {
        (True, True): "both",
        (True, False): "its own",
        (False, True): "the other's",
        (False, False): "nothing" if own.state is LockState.CLAIMED else "nothing yet",
    }[has_own, has_other]


class Stage:
    """Chains that outlive a swap: each gets a Bitcoin node of its own, and the same anvils."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._snapshots: dict[str, str] = {}

    @asynccontextmanager
    async def world(self, folder: Path, base: str = "btc", quote: str = "evm") -> Any:
        names = [_CHAINS[base], _CHAINS[quote]]
        ports = {name: port for name, port in self._ports.items() if name in names}
        for name, port in ports.items():
            if name in self._snapshots:
                await rpc(port, "evm_revert", self._snapshots[name])
            self._snapshots[name] = await rpc(port, "evm_snapshot")
        head = await rpc(next(iter(ports.values())), "eth_getBlockByNumber", "latest", False)
        time_s = int(head["timestamp"], 16)
        async with AsyncExitStack() as stack:
            bitcoin = None
            if REGTEST in names:
                # Older than any lock could be: nobody reads these blocks when it looks for one.
                start_s = time_s - 2 * HORIZON_S
                port = await stack.enter_async_context(
                    open_bitcoin(mines_at_once=False, time_s=start_s)
                )
                bitcoin = KernelNode(f"http://127.0.0.1:{port}")
                for number in range(12):
                    await bitcoin.rpc("setmocktime", time_s - (12 - number) * STEP_S)
                    await bitcoin.mine()
            chains = Chains(bitcoin, ports, time_s)
            for name, port in ports.items():
                await chains.remember(name)
                await rpc(port, "evm_mine")
            parties = []
            for who in range(2):
                own = folder / str(who)
                own.mkdir()
                parties.append(Party(who, chains, own, base, quote))
            nursery = await stack.enter_async_context(trio.open_nursery())
            world = World(chains, parties, nursery)
            for party in parties:
                await world.start(party)
            if bitcoin is not None:
                await bitcoin.fund(wallet_of(parties[0].legs[REGTEST]), FUNDS_SATS)  # type: ignore[arg-type]
            yield world
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_stage(numbers: Sequence[int] = (31337,)) -> AsyncIterator[Stage]:
    """Anvils with the contracts and two traders' tokens on them."""
    ports: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        for number in numbers:
            port = await stack.enter_async_context(
                anvil(number, "--prune-history", "500", slots_in_epoch=32)
            )
            name = f"eip155:{number}"
            ports[name] = port
            async with open_bank(DevChain(name, port)) as bank:
                await bank.deploy(None)
                await bank.hand_out(
                    [one.address for one in OWNERS[:2]],
                    coins=Amount(10**18),
                    base=Amount(FUNDS_TOKENS),
                    quote=Amount(FUNDS_TOKENS),
                )
            for owner in OWNERS[:2]:
                await _approve(name, port, owner)
            await rpc(port, "anvil_mine", hex(70))
        yield Stage(ports)


async def _approve(name: str, port: int, owner: MemorySigner) -> None:
    call = erc20.approve_call(HASH_TIMELOCK, UNLIMITED)
    async with open_evm_chain(evm_config(port, chain=name), MemoryIntents(), [owner]) as chain:
        await chain.submit(Intent("approve", owner.address, BASE.address, call))
        await chain.wait("approve", confirmations=1, timeout_s=10)


def bitcoin_key(who: int, trade: MatchId) -> bytes:
    return public_key(keys(who)(()))
