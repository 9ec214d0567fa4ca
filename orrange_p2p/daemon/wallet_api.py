"""What the local socket answers about coins on chains: what there is, and what is sent.

Sending is by intents of the chain's adapter: kept before they are broadcast, offered more for until
they are mined, and under the name that the caller chose never done twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from orrange_p2p.chains.bitcoin.leg import BitcoinLeg
from orrange_p2p.chains.evm import erc20
from orrange_p2p.chains.evm.chain import EvmChain
from orrange_p2p.core.errors import ConfigError, MalformedError, RevertedError, WorldError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.daemon.chains import NodeChain
from orrange_p2p.daemon.config import NodeConfig
from orrange_p2p.daemon.sending import (
    account_of,
    address_of,
    amount_of,
    check_coins,
    name_of,
    status_row,
)
from orrange_p2p.daemon.tokens import Token, Tokens
from orrange_p2p.ports.chain import Intent
from orrange_p2p.rpc.server import Method, Params

__all__ = ["methods"]

KINDS: Final = ("send", "approve", "deposit", "withdraw")
_COIN: Final = "slip44:60"
_TRANSFER_GAS: Final = 100_000
"""More than any of these calls takes: for telling beforehand what one may cost at most."""


def methods(
    config: NodeConfig,
    genesis: Genesis,
    accounts: Sequence[Address],
    chains: Mapping[str, NodeChain],
    tokens: Tokens,
    wallets: Mapping[str, BitcoinLeg],
) -> Mapping[str, Method]:
    """``wallet``, ``wallet_plan``, ``wallet_send``, ``wallet_sent``. ``accounts``: the traders', in
    their order."""
    api = _WalletApi(config, genesis, accounts, chains, tokens, wallets)
    return {
        "wallet": api.wallet,
        "wallet_plan": api.plan,
        "wallet_send": api.send,
        "wallet_sent": api.sent,
    }


class _Wish(NamedTuple):
    """What is to be sent."""

    chain: EvmChain
    account: Address
    asset: str
    to: Address
    data: bytes
    value: Amount


class _WalletApi:
    def __init__(
        self,
        config: NodeConfig,
        genesis: Genesis,
        accounts: Sequence[Address],
        chains: Mapping[str, NodeChain],
        tokens: Tokens,
        wallets: Mapping[str, BitcoinLeg],
    ) -> None:
        self._config = config
        self._genesis = genesis
        self._accounts = accounts
        self._chains = chains
        self._tokens = tokens
        self._wallets = wallets

    async def wallet(self, params: Params) -> Any:
        """What each trader holds on each chain: coins, and the tokens of this network's markets
        with what the contracts may move of them. A chain that cannot be asked says why."""
        rows = []
        for name, node_chain in self._chains.items():
            for number, account in enumerate(self._accounts, 1):
                for asset in self._assets(name):
                    row = await self._held(node_chain.chain, account, asset)
                    rows.append({"trader": number, "account": "0x" + account.hex(), **row})
        for chain, leg in self._wallets.items():
            asset = f"{chain}/slip44:0"
            row = {"trader": None, "account": None, "chain": chain, "asset": asset}
            row |= _named(await self._tokens.get(asset))
            try:
                free = str(await leg.balance())
                row |= {"account": await leg.address(), "amount": free, "problem": None}
            except WorldError as error:
                row |= {"amount": None, "problem": str(error)}
            rows.append({**row, "allowances": []})
        return rows

    def _assets(self, chain: str) -> list[str]:
        found = {f"{chain}/{_COIN}": None}
        for market in self._genesis.markets:
            for asset in (market.base, market.quote):
                if (token := erc20.token_of(asset)) is not None and token[0] == chain:
                    found[asset] = None
        return list(found)

    async def _held(self, chain: EvmChain, account: Address, asset: str) -> dict[str, Any]:
        row: dict[str, Any] = {"chain": chain.chain_id, "asset": asset}
        row |= _named(await self._tokens.get(asset))
        try:
            token = erc20.token_of(asset)
            if token is None:
                held, allowances = await chain.balance(account), []
            else:
                held = erc20.read_amount(await chain.call(token[1], erc20.balance_call(account)))
                allowances = [
                    {
                        "contract": name,
                        "address": "0x" + spender.hex(),
                        "amount": str(await _allowance(chain, token[1], account, spender)),
                    }
                    for name, spender in self._spenders(chain.chain_id)
                ]
            return {**row, "amount": str(held), "allowances": allowances, "problem": None}
        except (WorldError, MalformedError) as error:
            return {**row, "amount": None, "allowances": [], "problem": str(error)}

    def _spenders(self, chain: str) -> Iterator[tuple[str, Address]]:
        for settlement in self._config.settlements:
            if settlement.chain == chain:
                yield "Settlement", settlement.contract
        for swap in self._config.swaps:
            if swap.chain == chain:
                yield "HashTimelock", swap.contract

    async def plan(self, params: Params) -> Any:
        """What ``wallet_send`` would do, and what it may cost: nothing is sent. Raises
        ``RevertedError`` if the chain already says that it would fail."""
        wish = self._wish(params)
        fee = await self._check(wish)
        return {
            "chain": wish.chain.chain_id,
            "account": "0x" + wish.account.hex(),
            "asset": wish.asset,
            "to": "0x" + wish.to.hex(),
            "fee_at_most": str(fee),
        }

    async def send(self, params: Params) -> Any:
        """Send, approve, wrap or unwrap: ``id`` names it, and the same again is not done again."""
        wish = self._wish(params)
        name = name_of(params)
        if await wish.chain.status(name) is None:
            await self._check(wish)
        intent = Intent(name, wish.account, wish.to, wish.data, wish.value)
        return status_row(await wish.chain.submit(intent))

    async def sent(self, params: Params) -> Any:
        """How something that was sent stands; null if nothing was under this ``id``."""
        status = await self._chain(params).status(name_of(params))
        return None if status is None else status_row(status)

    def _wish(self, params: Params) -> _Wish:
        chain = self._chain(params)
        account = account_of(self._accounts, params)
        kind, asset = params.get("kind"), str(params.get("asset"))
        amount = amount_of(params)
        if kind not in KINDS:
            raise ConfigError(f"'kind' is {kind!r}; one of: {', '.join(KINDS)}")
        token = erc20.token_of(asset)
        if token is not None and token[0] != chain.chain_id:
            raise ConfigError(f"{asset} is not on {chain.chain_id}")
        if token is None:
            if asset != f"{chain.chain_id}/{_COIN}":
                raise ConfigError(f"{asset!r} is no asset of {chain.chain_id}")
            if kind != "send":
                raise ConfigError("only tokens are approved, and wrapped by a token's contract")
            return _Wish(chain, account, asset, address_of(params, "to"), b"", amount)
        contract = token[1]
        if kind == "send":
            data = erc20.transfer_call(address_of(params, "to"), amount)
        elif kind == "approve":
            spender = address_of(params, "to")
            if spender not in [one for _, one in self._spenders(chain.chain_id)]:
                raise ConfigError(
                    f"0x{spender.hex()} is none of the contracts of {chain.chain_id} in node.toml"
                )
            data = erc20.approve_call(spender, amount)
        elif kind == "deposit":
            return _Wish(chain, account, asset, contract, erc20.DEPOSIT, amount)
        else:
            data = erc20.withdraw_call(amount)
        return _Wish(chain, account, asset, contract, data, Amount(0))

    async def _check(self, wish: _Wish) -> Amount:
        fee = await check_coins(wish.chain, wish.account, wish.value, _TRANSFER_GAS)
        if wish.data and not wish.value:
            try:
                await wish.chain.call(wish.to, wish.data, sender=wish.account)
            except RevertedError as error:
                raise ConfigError(f"the token's contract refuses this: {error}") from None
        return fee

    def _chain(self, params: Params) -> EvmChain:
        named = params.get("chain")
        if named is None and len(self._chains) == 1:
            return next(iter(self._chains.values())).chain
        found = self._chains.get(str(named))
        if found is None:
            raise ConfigError(f"no chain {named!r} in node.toml; one of: {list(self._chains)}")
        return found.chain


async def _allowance(chain: EvmChain, token: Address, account: Address, spender: Address) -> Amount:
    return erc20.read_amount(await chain.call(token, erc20.allowance_call(account, spender)))


def _named(token: Token | None) -> dict[str, Any]:
    if token is None:
        return {"symbol": None, "decimals": None}
    return {"symbol": token.symbol, "decimals": token.decimals}
