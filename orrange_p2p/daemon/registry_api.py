"""What the local socket answers about bonds and candidacies: how they stand, what a step would do,
and taking it (protocol/12-eras.md, Taking part).

A trader's account is the owner. Steps are intents of the home chain's adapter, kept before they are
broadcast; how far one is, ``wallet_sent`` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import trio

from orrange_p2p.chains.bitcoin.bonds import Bonds
from orrange_p2p.chains.evm import erc20, registry
from orrange_p2p.chains.evm.chain import EvmChain
from orrange_p2p.core.addresses import parse_address, show_address
from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.bitcoin_bonds import compressed
from orrange_p2p.core.election import Election
from orrange_p2p.core.errors import CallerError, ConfigError, MalformedError, RevertedError
from orrange_p2p.core.ids import ZERO32, Address, Amount, Digest, Era, MarketId
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.roster import Pin, Roster
from orrange_p2p.core.times import show_time
from orrange_p2p.core.units import show_amount
from orrange_p2p.daemon.chains import NodeChain
from orrange_p2p.daemon.indexer import Indexer
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.node import Node
from orrange_p2p.daemon.sending import account_of, amount_of, check_coins, name_of, status_row
from orrange_p2p.daemon.tokens import Token, Tokens
from orrange_p2p.ports import Signer
from orrange_p2p.ports.chain import Intent
from orrange_p2p.rpc.server import Method, Params

__all__ = ["methods"]

KINDS: Final = ("approve", "bond", "unbond", "withdraw", "bind", "allocate", "stand", "unstand")
_GAS: Final = 300_000
"""More than any of these calls takes: for telling beforehand what one may cost at most."""
_MAX_BOND: Final = (1 << 128) - 1


def methods(
    node: Node,
    home: NodeChain | None,
    indexer: Indexer | None,
    tokens: Tokens,
    traders: Sequence[Signer],
    witness: Signer | None,
    later_chain: Callable[[MarketId, Era], RevealChain] | None,
    bonds: Bonds | None,
) -> dict[str, Method]:
    """``registry``, ``registry_plan``, ``registry_send``. ``home``: the chain that the registry is
    on, ``indexer``: what reads it; None if this node does not. ``later_chain``: makes the witness's
    reveals from an era on. ``bonds``: the traders' on Bitcoin; None where they count nothing."""
    api = _RegistryApi(node, home, indexer, tokens, traders, witness, later_chain, bonds)
    return {"registry": api.status, "registry_plan": api.plan, "registry_send": api.send}


class _State(NamedTuple):
    """What the registry and the token say at the head."""

    token: Address
    named: Token
    bond: registry.BondState
    held: Amount
    allowed: Amount
    time_s: int
    """The head's."""
    is_paused: bool
    upgrade_from_s: int | None
    """From when a proposed upgrade may come into force; None if none is proposed."""

    def show(self, units: int) -> str:
        return f"{show_amount(units, self.named.decimals)} {self.named.symbol}"


class _Step(NamedTuple):
    """One call, and what it means."""

    to: Address
    data: bytes
    about: dict[str, Any]
    """What was chosen here."""
    notes: list[str]
    """What whoever takes the step should know."""
    needs_approval: bool = False


class _RegistryApi:
    def __init__(
        self,
        node: Node,
        home: NodeChain | None,
        indexer: Indexer | None,
        tokens: Tokens,
        traders: Sequence[Signer],
        witness: Signer | None,
        later_chain: Callable[[MarketId, Era], RevealChain] | None,
        bonds: Bonds | None,
    ) -> None:
        self._bonds = bonds
        self._node = node
        self._genesis = node.genesis
        self._home = home
        self._indexer = indexer
        self._tokens = tokens
        self._accounts = [signer.address for signer in traders]
        self._later_chain = later_chain
        self._witness = witness
        self._signers = {signer.address: signer for signer in traders}
        if witness is not None:
            self._signers[witness.address] = witness

    # --- how things stand ---

    async def status(self, params: Params) -> Any:
        """An account's bond as the head shows it, and as of the last final block that was read:
        its keys, what backs them, where they stand, and what it is worth. Of a key somebody else
        answers for: who."""
        chain = self._chain()
        if params.get("account") is None:
            account = account_of(self._accounts, params)
        else:
            account = parse_address(str(params["account"]))
        state = await self._state(account)
        owner = registry.read_address(await self._ask(registry.owner_of_call(account)))
        bond = state.bond
        return {
            "chain": chain.chain_id,
            "registry": show_address(self._genesis.registry),
            "token": {
                "asset": self._asset(state.token),
                "symbol": state.named.symbol,
                "decimals": state.named.decimals,
            },
            "account": show_address(account),
            "owner": show_address(owner) if any(owner) and owner != account else None,
            "time_s": state.time_s,
            "paused": state.is_paused,
            "upgrade_from_s": state.upgrade_from_s,
            "held": str(state.held),
            "bond": {
                "amount": str(bond.amount),
                "locked_until_s": bond.locked_until_s,
                "unbonding": str(bond.unbonding),
                "withdrawable_at_s": bond.unbonded_at_s if bond.unbonding else None,
            },
            **await self._read(account),
        }

    async def _read(self, account: Address) -> dict[str, Any]:
        """What the events of final blocks say."""
        assert self._indexer is not None
        last = self._indexer.read_to
        nothing: list[Any] = []
        if last is None:
            return {
                "block": None,
                "why_not": self._indexer.why_not or "the home chain has not been read so far yet",
                "reputation": None,
                "keys": nothing,
                "allocations": nothing,
                "candidacies": nothing,
            }
        election = await self._indexer.election(Pin(last.block, last.hash))
        record = election.owner(account)
        scores = (await self._indexer.standings(last.block)).scores
        worth = next((one.total for one in scores if one.account == account), 0)
        found: dict[str, Any] = {
            "block": last.block,
            "why_not": self._indexer.why_not,
            "reputation": str(worth),
            "keys": nothing,
            "allocations": nothing,
            "candidacies": nothing,
        }
        if record is None:
            return found
        found["keys"] = [
            {
                "key": show_address(key),
                "name": self._name_of(key),
                "convicted": key in record.convicted,
            }
            for key in record.keys
        ]
        found["allocations"] = [
            {
                "market": "0x" + one.market.hex(),
                "key": show_address(one.key),
                "amount": str(one.said),
                "counted": str(one.counted),
            }
            for one in record.allocations
        ]
        found["candidacies"] = [
            await self._candidacy(election, MarketId(market), one.key, one.since)
            for market, one in record.stands.items()
        ]
        return found

    async def _candidacy(
        self, election: Election, market: MarketId, key: Address, since: int
    ) -> dict[str, Any]:
        node = self._node.markets.get(market)
        row: dict[str, Any] = {
            "market": "0x" + market.hex(),
            "key": show_address(key),
            "since": since,
            "last_era": since + self._genesis.parameters.chain_eras - 1,
            "era": None,
            "weight": None,
            "next_weight": None,
        }
        if node is not None:
            era = node.replica.era
            later = max(Era(era + 1), Era(since))
            row["era"] = era
            row["weight"] = _weight(node.replica.roster, key)
            if self._genesis.parameters.elected_witnesses:
                expected = await trio.to_thread.run_sync(election.roster, market, later)
                row["next_weight"] = _weight(expected, key)
        return row

    def _name_of(self, key: Address) -> str | None:
        """What this node calls a key of its own."""
        if self._witness is not None and key == self._witness.address:
            return "witness"
        return f"trader {self._accounts.index(key) + 1}" if key in self._accounts else None

    # --- taking a step ---

    async def plan(self, params: Params) -> Any:
        """What ``registry_send`` would do, and what it may cost: nothing is sent. Raises
        ``ConfigError`` for what the registry would refuse. ``sent``: it was already, by this id."""
        account, kind = account_of(self._accounts, params), str(params.get("kind"))
        chain = self._chain()
        state = await self._state(account)
        about: dict[str, Any] = {"chain": chain.chain_id, "account": show_address(account)}
        if await self._sent(params, account, state) is not None:
            return {**about, "sent": True, "steps": [kind], "fee_at_most": "0", "notes": []}
        step = await self._step(kind, account, state, params)
        steps = ["approve", kind] if step.needs_approval else [kind]
        fee = await check_coins(chain, account, Amount(0), _GAS * len(steps))
        if not step.needs_approval:
            await self._check(account, step)
        about |= {"sent": False, "steps": steps, "fee_at_most": str(fee), "notes": step.notes}
        return about | step.about

    async def send(self, params: Params) -> Any:
        """Take one step: ``id`` names it, and the same again is not done again."""
        account, chain = account_of(self._accounts, params), self._chain()
        state = await self._state(account)
        intent = await self._sent(params, account, state)
        if intent is None:
            step = await self._step(str(params.get("kind")), account, state, params)
            if step.needs_approval:
                raise ConfigError(
                    f"the registry may take only {state.show(state.allowed)}: approve it first"
                )
            await check_coins(chain, account, Amount(0), _GAS)
            await self._check(account, step)
            intent = Intent(name_of(params), account, step.to, step.data)
        return status_row(await chain.submit(intent))

    async def _sent(self, params: Params, account: Address, state: _State) -> Intent | None:
        """What was sent by this id, if anything was. Raises ``CallerError`` if it is something
        else."""
        assert self._home is not None
        record = await self._home.sent.get(name_of(params))
        if record is None:
            return None
        # What led to it has changed, by it: whether it is the same is all that is of interest.
        again = await self._step(str(params.get("kind")), account, state, params, is_again=True)
        sent = record.intent
        is_same = registry.is_same_request(sent.data, again.data)
        if (sent.sender, sent.to) != (account, again.to) or not is_same:
            raise CallerError(f"{params.get('id')!r} is the id of something else already")
        return sent

    async def _check(self, account: Address, step: _Step) -> None:
        try:
            await self._chain().call(step.to, step.data, sender=account)
        except RevertedError as error:
            who = "registry" if step.to == self._genesis.registry else "bond's token"
            why = registry.refusal(error.data) or str(error)
            raise ConfigError(f"the {who} refuses this: {why}") from None

    async def _step(
        self, kind: str, account: Address, state: _State, params: Params, *, is_again: bool = False
    ) -> _Step:
        """The call. Raises ``ConfigError`` for one that cannot be made; ``is_again``: not for what
        depends on how things stand."""
        contract = self._genesis.registry
        if kind == "approve":
            data = erc20.approve_call(contract, _bond_amount(params))
            return _Step(state.token, data, {}, [])
        if kind == "bond":
            return self._bond(account, state, params, is_again)
        if kind == "unbond":
            amount, notes = _bond_amount(params), []
            if not is_again:
                notes = _check_unbond(state, amount)
            return _Step(contract, registry.unbond_call(amount), {}, notes)
        if kind == "withdraw":
            if not is_again:
                _check_withdraw(state)
            about = {"amount": str(state.bond.unbonding)}
            return _Step(contract, registry.WITHDRAW, about, [])
        if kind == "bind":
            return await self._bind(account, params, is_again)
        if kind == "allocate":
            key, market = self._key(params), self._market(params)
            data = registry.allocate_call(market, key, _amount_up_to_bond(params))
            if not is_again:
                await self._check_owned(account, key)
            return _Step(contract, data, {"key": show_address(key)}, self._allocating(state, data))
        if kind == "stand":
            return await self._stand(account, params, is_again)
        if kind == "unstand":
            key, market = self._witness_key(), self._market(params)
            data = registry.stand_call(market, key, ZERO32, Era(0))
            note = "from the next era on whose witnesses are chosen after this"
            return _Step(contract, data, {"key": show_address(key)}, [note])
        raise ConfigError(f"'kind' is {kind!r}; one of: {', '.join(KINDS)}")

    def _bond(self, account: Address, state: _State, params: Params, is_again: bool) -> _Step:
        amount, until_s = _bond_amount(params), params.get("until_s")
        if type(until_s) is not int or not 0 < until_s < 1 << 63:
            raise ConfigError("'until_s' must be when the lock ends, in seconds since 1970")
        data = registry.bond_call(amount, until_s)
        if is_again:
            return _Step(self._genesis.registry, data, {}, [])
        if state.is_paused or state.upgrade_from_s is not None:
            why = "an upgrade is proposed" if state.upgrade_from_s else "its governor paused them"
            raise ConfigError(f"the registry takes no new bonds now: {why}")
        if until_s > state.time_s + registry.MAX_LOCK_S:
            raise ConfigError("a lock lasts at most 366 days")
        if until_s < state.bond.locked_until_s:
            raise ConfigError(
                f"the bond is locked until {show_time(state.bond.locked_until_s)}, and no lock "
                f"gets shorter: lock it for {_days_left(state)} days or more"
            )
        if state.held < amount:
            raise ConfigError(
                f"{show_address(account)} holds {state.show(state.held)} on "
                f"{self._chain().chain_id}, and this takes {state.show(amount)}"
            )
        notes = []
        if state.bond.amount and until_s > state.bond.locked_until_s:
            notes.append(f"what is bonded already, {state.show(state.bond.amount)}, is locked too")
        about = {"until_s": until_s, "token": show_address(state.token)}
        return _Step(self._genesis.registry, data, about, notes, state.allowed < amount)

    async def _bind(self, account: Address, params: Params, is_again: bool) -> _Step:
        key, point = self._key(params), b""
        about: dict[str, Any] = {"key": show_address(key)}
        notes = ["for ever: whatever this key signs, the account answers for with all of its bond"]
        number = params.get("trader", 1)
        if params.get("bitcoin"):
            bonds = self._bitcoin_bonds()
            point = bonds.point(number)
            about["bitcoin_key"] = bonds.key(number).hex()
            notes.append("bonds on Bitcoin by that key count for the account, and for nobody else")
        if not is_again:
            await self._check_bindable(account, key, point)
        nonce = registry.read_number(await self._ask(registry.nonce_call(account)))
        number_of_chain = evm_chain_id(self._genesis.home_chain)
        peer_id = self._node.transport.peer_id.encode()
        terms = (number_of_chain, self._genesis.registry, account, key, peer_id, nonce)
        digest = Digest(registry.binding_digest(*terms, point))
        consent = self._signers[key].sign(digest)
        bitcoin_consent = self._bitcoin_bonds().sign(number, digest) if point else b""
        data = registry.bind_call(key, peer_id, consent, point, bitcoin_consent)
        return _Step(self._genesis.registry, data, about, notes)

    async def _check_bindable(self, account: Address, key: Address, point: bytes) -> None:
        owner = registry.read_address(await self._ask(registry.owner_of_call(key)))
        if owner == account and not point:
            raise ConfigError(f"{show_address(key)} is bound to this account already")
        if any(owner) and owner != account:
            raise ConfigError(f"{show_address(owner)} answers for this key, for ever")
        assert self._indexer is not None
        for event in await self._indexer.bitcoin_bindings():
            if point and event.bitcoin_key == compressed(point):
                whose = "this account" if event.subject == account else show_address(event.subject)
                raise ConfigError(f"the key of these bonds on Bitcoin is bound to {whose} already")

    def _bitcoin_bonds(self) -> Bonds:
        if self._bonds is None:
            raise ConfigError(
                f"network {self._genesis.name!r} counts no bonds on Bitcoin, or node.toml does not "
                "name the endpoint of their chain"
            )
        return self._bonds

    def _allocating(self, state: _State, data: bytes) -> list[str]:
        amount = int.from_bytes(data[-32:], "big")
        if amount > state.bond.amount:
            return [f"only {state.show(state.bond.amount)} is bonded, and no more counts"]
        return []

    async def _stand(self, account: Address, params: Params, is_again: bool) -> _Step:
        key, market = self._witness_key(), self._market(params)
        assert self._later_chain is not None
        node = self._node.markets[market]
        since = Era(node.replica.era + 1)
        if is_again:
            data = registry.stand_call(market, key, b"\1" * 32, since)
            return _Step(self._genesis.registry, data, {}, [])
        self._check_level(node)
        await self._check_owned(account, key)
        chain = await trio.to_thread.run_sync(self._later_chain, market, since)
        parameters = self._genesis.parameters
        last = since + parameters.chain_eras - 1
        about = {
            "key": show_address(key),
            "since": since,
            "last_era": last,
            "anchor": "0x" + chain.anchor.hex(),
        }
        notes = []
        if not parameters.elected_witnesses:
            notes.append("this network elects nobody: its witnesses are those of genesis")
        data = registry.stand_call(market, key, chain.anchor, since)
        return _Step(self._genesis.registry, data, about, notes)

    def _check_level(self, node: MarketNode) -> None:
        """An era that is long over has a chain that ends too early."""
        behind_ms = self._node.clock.wall_ms() - node.replica.fold.time_ms
        if behind_ms > self._genesis.parameters.era_ms:
            raise ConfigError(
                "this node does not know the present era: it is still catching up, or the market "
                "stands still (`orrange status` tells)"
            )

    async def _check_owned(self, account: Address, key: Address) -> None:
        if registry.read_number(await self._ask(registry.convicted_call(key))):
            raise ConfigError(f"{show_address(key)} was convicted of cheating, for ever")
        if registry.read_address(await self._ask(registry.owner_of_call(key))) != account:
            raise ConfigError(
                f"{show_address(key)} is not bound to {show_address(account)}: `orrange registry "
                f"bind` comes first"
            )

    # --- what is meant ---

    def _key(self, params: Params) -> Address:
        """A key of this node: ``witness``, the number of a trader, or its address."""
        named = str(params.get("key"))
        if named == "witness":
            return self._witness_key()
        if named.isascii() and named.isdecimal():
            return account_of(self._accounts, {"trader": int(named[:9])})
        key = parse_address(named)
        if key not in self._signers:
            raise ConfigError(f"{named} is no key of this node: witness, or a trader's number")
        return key

    def _witness_key(self) -> Address:
        if self._witness is None:
            raise ConfigError("this node is no witness: give it the role in node.toml")
        return self._witness.address

    def _market(self, params: Params) -> MarketId:
        text = str(params.get("market"))
        for market in self._node.markets:
            if text == "0x" + market.hex():
                return market
        raise ConfigError(f"this node carries no market {text!r}")

    # --- asking the chain ---

    def _chain(self) -> EvmChain:
        genesis = self._genesis
        if not any(genesis.registry):
            raise ConfigError(f"network {genesis.name!r} has no registry: nobody bonds in it")
        if self._home is None or self._indexer is None:
            raise ConfigError(
                f"the registry is on {genesis.home_chain}, which this node does not read: name its "
                f'endpoints in node.toml under [chain."{genesis.home_chain}"]'
            )
        return self._home.chain

    async def _ask(self, data: bytes) -> bytes:
        return await self._chain().call(self._genesis.registry, data)

    def _asset(self, token: Address) -> str:
        return f"{self._genesis.home_chain}/erc20:0x{token.hex()}"

    async def _state(self, account: Address) -> _State:
        chain = self._chain()
        try:
            token = registry.read_address(await self._ask(registry.TOKEN))
            bond = registry.read_bond(await self._ask(registry.bond_of_call(account)))
            is_paused = registry.read_number(await self._ask(registry.PAUSED)) != 0
            proposed = any(await self._ask(registry.PROPOSED))
            from_s = registry.read_number(await self._ask(registry.PROPOSED_FROM))
        except (MalformedError, RevertedError) as error:
            raise ConfigError(
                f"at {show_address(self._genesis.registry)} on {chain.chain_id} is no registry "
                f"({error}): is this the network's chain?"
            ) from None
        named = await self._tokens.get(self._asset(token))
        if named is None:
            raise ConfigError(
                f"the bond's token {show_address(token)} does not tell its decimals: try again"
            )
        held = erc20.read_amount(await chain.call(token, erc20.balance_call(account)))
        spender = self._genesis.registry
        allowed = erc20.read_amount(await chain.call(token, erc20.allowance_call(account, spender)))
        time_s = (await chain.head()).time_s
        upgrade = from_s if proposed else None
        return _State(token, named, bond, held, allowed, time_s, is_paused, upgrade)


def _weight(roster: Roster, key: Address) -> int | None:
    seat = roster.seat_of(key)
    return None if seat is None else seat.weight


def _amount_up_to_bond(params: Params) -> Amount:
    amount = amount_of(params)
    if amount > _MAX_BOND:
        raise ConfigError("that is more than a bond can be")
    return amount


def _bond_amount(params: Params) -> Amount:
    amount = _amount_up_to_bond(params)
    if not amount:
        raise ConfigError("nothing is nothing to bond")
    return amount


def _days_left(state: _State) -> int:
    """Until the lock ends, rounded up."""
    return -(-(state.bond.locked_until_s - state.time_s) // 86_400)


def _check_unbond(state: _State, amount: Amount) -> list[str]:
    bond = state.bond
    if amount > bond.amount:
        raise ConfigError(f"{state.show(bond.amount)} is bonded, which is less")
    if state.time_s < bond.locked_until_s and state.upgrade_from_s is None:
        raise ConfigError(f"the bond is locked until {show_time(bond.locked_until_s)}")
    notes = [
        f"it can be withdrawn from {show_time(state.time_s + registry.UNBONDING_S)} on, and can "
        "be slashed until it is; it backs no key any more"
    ]
    if bond.unbonding:
        notes.append(f"what is on its way out, {state.show(bond.unbonding)}, starts again with it")
    return notes


def _check_withdraw(state: _State) -> None:
    bond = state.bond
    if not bond.unbonding:
        raise ConfigError("there is nothing to withdraw: `orrange registry unbond` comes first")
    if state.time_s < bond.unbonded_at_s:
        raise ConfigError(
            f"{state.show(bond.unbonding)} can be withdrawn from {show_time(bond.unbonded_at_s)} on"
        )
