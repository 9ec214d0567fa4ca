"""Trading for a wallet: its account owns what a trader key of this node does, within limits.

Two things make it so, and the wallet signs both. An entry in the account's own log binds the trader
key as its session key (protocol/04-book.md, Delegations): from then on the key's orders are the
account's. And on the chain, ``Settlement`` is told to let the account pay for the key's trades, up
to so many lots and a time, out of what the account approves (protocol/07-evm-contracts.md).

Only accounts that the configuration names may be owners: a bound key is its owner's for good.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from orrange_p2p.chains.evm import erc20, settlement
from orrange_p2p.core import entries
from orrange_p2p.core.accounts import delegation_digest
from orrange_p2p.core.addresses import parse_address, show_address
from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.entries import UnsignedEntry
from orrange_p2p.core.errors import ConfigError, WorldError
from orrange_p2p.core.ids import ZERO32, Address, Digest, Lots, Seq
from orrange_p2p.core.operations import Delegate
from orrange_p2p.core.typed_data import entry_typed_data
from orrange_p2p.daemon.api import market_named
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.node import Node
from orrange_p2p.daemon.public_api import take_entry
from orrange_p2p.daemon.settlement_config import SettlingConfig
from orrange_p2p.ports import Signer
from orrange_p2p.rpc.server import Method, Params

__all__ = ["methods"]

LONGEST_MS: Final = 366 * 86_400_000
MAX_CAP: Final = 2**62


def methods(
    node: Node,
    traders: Sequence[Signer],
    owners: Collection[Address],
    settling: Sequence[SettlingConfig],
) -> dict[str, Method]:
    """Additions to the table. ``owners``: accounts that may own a trader key."""
    api = _Delegations(node, {one.address: one for one in traders}, frozenset(owners), settling)
    return {
        "delegations": api.delegations,
        "delegation_plan": api.plan,
        "delegation": api.give,
    }


class _Delegations:
    def __init__(
        self,
        node: Node,
        traders: dict[Address, Signer],
        owners: frozenset[Address],
        settling: Sequence[SettlingConfig],
    ) -> None:
        self._node = node
        self._traders = traders
        self._owners = owners
        self._settling = settling

    async def delegations(self, params: Params) -> Any:
        """Which of our trader keys are whose, in a market."""
        market = market_named(self._node, params)
        fold = market.replica.fold
        rows = []
        for session in self._traders:
            account = fold.accounts.get(session)
            if account is None or account.binding is None:
                continue
            bound = account.binding
            rows.append(
                {
                    "session": "0x" + session.hex(),
                    "owner": "0x" + bound.owner.hex(),
                    "cap": str(bound.cap),
                    "expiry_ms": bound.expiry_ms,
                    "active": bound.is_active(market.replica.epoch, fold.time_ms),
                }
            )
        return rows

    async def plan(self, params: Params) -> Any:
        """What the wallet has to sign and to send for this; nothing has happened yet.

        ``expiry_ms`` 0 takes a delegation back. ``spend``: how much of quote may be paid at most,
        in its smallest units.
        """
        market, owner, session, operation = self._wish(params)
        draft = self._draft(market, owner, operation)
        spend = _whole(params, "spend", 2**256 - 1)
        return {
            "owner": "0x" + owner.hex(),
            "session": "0x" + session.hex(),
            "seq": draft.header.seq,
            "typed_data": entry_typed_data(self._node.genesis, draft.header),
            "calls": self._calls(market, owner, operation, spend),
        }

    async def give(self, params: Params) -> Any:
        """The same wish again, and the wallet's signature of the entry that ``plan`` showed."""
        market, owner, _, operation = self._wish(params)
        draft = self._draft(market, owner, operation)
        if draft.header.seq != params.get("seq"):
            raise WorldError("the account's log has gone on meanwhile: begin again")
        text = params.get("signature")
        try:
            signature = bytes.fromhex(str(text).removeprefix("0x"))
        except ValueError:
            raise ConfigError("'signature' must be hexadecimal") from None
        entry = draft.signed(_low_v(signature))
        entry.verify()
        await take_entry(market, entry)
        return {"author": "0x" + owner.hex(), "seq": entry.seq}

    def _wish(self, params: Params) -> tuple[MarketNode, Address, Address, Delegate]:
        market = market_named(self._node, params)
        owner, session = (parse_address(str(params.get(name))) for name in ("owner", "session"))
        if owner not in self._owners:
            raise ConfigError(
                f"{show_address(owner)} may own no key of this node: node.toml names who may, "
                "[api] wallets"
            )
        if session not in self._traders:
            raise ConfigError(f"0x{session.hex()} is no trader of this node")
        cap = _whole(params, "cap", MAX_CAP)
        expiry_ms = _whole(params, "expiry_ms", 2**63 - 1)
        if expiry_ms == 0:
            return market, owner, session, Delegate(session, Lots(0), 0, b"")
        if market.market.settlement != "atomic":
            raise ConfigError("a wallet can pay only in markets that settle by one call")
        if not cap or expiry_ms > self._node.clock.wall_ms() + LONGEST_MS:
            raise ConfigError("say a 'cap' of lots, and an 'expiry_ms' within a year")
        refusal = _why_not(market, owner, session)
        if refusal is not None:
            raise WorldError(refusal)
        separator = self._node.genesis.separator
        digest = delegation_digest(separator, market.market_id, owner, session, cap, expiry_ms)
        consent = self._traders[session].sign(Digest(digest))
        return market, owner, session, Delegate(session, Lots(cap), expiry_ms, consent)

    def _draft(self, market: MarketNode, owner: Address, operation: Delegate) -> UnsignedEntry:
        logs = market.replica.logs
        seq = logs.next_wanted(owner)
        prev = logs.head(owner) if seq else Digest(ZERO32)
        separator = self._node.genesis.separator
        return entries.draft(separator, market.market_id, owner, Seq(seq), prev, [operation])

    def _calls(
        self, market: MarketNode, owner: Address, operation: Delegate, spend: int
    ) -> list[dict[str, Any]]:
        """Transactions for the wallet, in their order; none if this node settles nothing there."""
        here = market.market
        found = next((one for one in self._settling if settlement.settles(here, one.chain)), None)
        if found is None:
            return []

        chain_id = evm_chain_id(found.chain)

        def call(what: str, to: Address, data: bytes) -> dict[str, Any]:
            shown = "0x" + data.hex()
            return {"what": what, "chain_id": chain_id, "to": show_address(to), "data": shown}

        name, session = market.market_id, operation.session
        if operation.expiry_ms == 0:
            return [call("stop paying", found.contract, settlement.revoke_call(name, session))]
        calls = []
        for asset, amount, what in (
            (here.base, operation.cap * here.lot_size, "let the contract move base"),
            (here.quote, spend, "let the contract move quote"),
        ):
            token = erc20.token_of(asset)
            assert token is not None  # settlement.settles
            calls.append(call(what, token[1], erc20.approve_call(found.contract, amount)))
        terms = (name, owner, session, operation.cap, operation.expiry_ms, operation.consent)
        calls.append(call("pay for its trades", found.contract, settlement.delegate_call(*terms)))
        return calls


def _why_not(market: MarketNode, owner: Address, session: Address) -> str | None:
    """Why the book would make nothing of the delegation (protocol/04-book.md, phase 2)."""
    fold = market.replica.fold
    if not fold.is_eligible(owner):
        return f"{show_address(owner)} may not trade in this network"
    if fold.is_listed(session):
        return "the network lists this trader key as an author of its own: use another one"
    account, owning = fold.accounts.get(session), fold.accounts.get(owner)
    if owning is not None and owning.binding is not None:
        return f"{show_address(owner)} is itself a session key"
    if account is not None and account.binding is not None and account.binding.owner != owner:
        return "this trader key belongs to another account, for good"
    if account is not None and account.binding is None and account.live_orders:
        return "this trader key has orders of its own: cancel them first"
    return None


def _low_v(signature: bytes) -> bytes:
    """Some wallets say 0 and 1 for 27 and 28."""
    if len(signature) == 65 and signature[64] < 27:
        return signature[:64] + bytes([signature[64] + 27])
    return signature


def _whole(params: Params, name: str, most: int) -> int:
    value = params.get(name, 0)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 79:
        value = int(value)
    if type(value) is not int or not 0 <= value <= most:
        raise ConfigError(f"{name!r} must be a whole number of at most {most}")
    return value
