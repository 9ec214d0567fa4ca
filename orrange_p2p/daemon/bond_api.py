"""What the local socket answers about bonds on Bitcoin: the traders' own, and proofs of anybody's
(protocol/13-bitcoin-bonds.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from orrange_p2p.chains.bitcoin.bonds import Bonds, OwnBond, find
from orrange_p2p.chains.bitcoin.leg import BitcoinLeg
from orrange_p2p.core.addresses import show_address
from orrange_p2p.core.bitcoin_bonds import DEPTH, bond_descriptor
from orrange_p2p.core.bond_proofs import BondProof, decode_bond_proof, proof_digest
from orrange_p2p.core.errors import ConfigError, PeerError
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address
from orrange_p2p.crypto.bitcoin import OutPoint
from orrange_p2p.daemon.indexer import Indexer
from orrange_p2p.rpc.server import Method, Params

__all__ = ["methods"]

_MAX_NAME: Final = 64


def methods(
    genesis: Genesis,
    accounts: Sequence[Address],
    wallets: Mapping[str, BitcoinLeg],
    indexer: Indexer | None,
) -> dict[str, Method]:
    """``bonds``, ``bond_plan``, ``bond_create``, ``bond_prove``, ``bond_verify``, ``bond_spend``.
    ``accounts``: the traders', in their order. ``indexer``: shows which keys are bound."""
    api = _BondApi(genesis, accounts, wallets, indexer)
    return {
        "bonds": api.bonds,
        "bond_plan": api.plan,
        "bond_create": api.create,
        "bond_prove": api.prove,
        "bond_verify": api.verify,
        "bond_spend": api.spend,
    }


class _BondApi:
    def __init__(
        self,
        genesis: Genesis,
        accounts: Sequence[Address],
        wallets: Mapping[str, BitcoinLeg],
        indexer: Indexer | None,
    ) -> None:
        self._genesis = genesis
        self._accounts = accounts
        self._wallets = wallets
        self._indexer = indexer

    async def bonds(self, params: Params) -> Any:
        """The traders' keys, whose they are by the registry, and what is locked by them."""
        bonds = self._wallet()
        owners = await self._owners()
        keys = []
        for number, account in enumerate(self._accounts, 1):
            key = bonds.key(number)
            owner = owners.get(key)
            keys.append(
                {
                    "trader": number,
                    "account": show_address(account),
                    "key": key.hex(),
                    "bound_to": None if owner is None else show_address(owner),
                }
            )
        return {
            "chain": bonds.chain,
            "counts": self._genesis.bitcoin_bonds == bonds.chain,
            **self._read_to(),
            "keys": keys,
            "bonds": [self._row(one) for one in await bonds.all()],
        }

    async def plan(self, params: Params) -> Any:
        """What ``bond_create`` would do: nothing is sent. Raises ``ConfigError`` for a bond that
        would not count, ``RefusedError`` if it cannot be paid."""
        number, sats, until_s = self._wish(params)
        name = _name(params)
        bonds = await self._counting(number)
        plan = await bonds.plan(name, number, sats, until_s)
        return {
            "chain": bonds.chain,
            "account": show_address(self._accounts[number - 1]),
            "key": bonds.key(number).hex(),
            "address": plan.address,
            "fee": plan.fee,
            "free": plan.free,
            "worth": str(self._worth(sats)),
        }

    async def create(self, params: Params) -> Any:
        """Lock coins: ``id`` names it, and the same again is not done again."""
        number, sats, until_s = self._wish(params)
        name = _name(params)
        bonds = await self._counting(number)
        txid = await bonds.create(name, number, sats, until_s)
        return {"id": name, "txid": txid[::-1].hex()}

    async def spend(self, params: Params) -> Any:
        """Take home a bond whose time has come."""
        outpoint = _outpoint(params)
        txid = await self._wallet().spend(outpoint)
        return {"outpoint": str(outpoint), "txid": txid[::-1].hex()}

    async def prove(self, params: Params) -> Any:
        """A proof of one of the traders' bonds, for its account: the record, and what it says."""
        bonds = self._wallet()
        bond = find(await bonds.all(), _outpoint(params))
        if bond.spent_by or not bond.depth:
            where = "was spent" if bond.spent_by else "is in no block yet"
            raise ConfigError(f"{bond.outpoint} {where}: there is nothing to prove")
        account = self._accounts[bond.number - 1]
        terms = (bond.outpoint, bond.sats, bond.locked_until_s)
        signature = bonds.sign(bond.number, proof_digest(self._genesis, account, *terms))
        network = self._genesis.network_id
        made = (*bond.outpoint, bond.sats, bond.locked_until_s, signature)
        return _shown(BondProof(network, account, bond.key, *made))

    async def verify(self, params: Params) -> Any:
        """Whether a proof, by its ``record`` in hexadecimal, is true now. If not, ``why``."""
        record = params.get("record")
        try:
            octets = bytes.fromhex(record.removeprefix("0x")) if isinstance(record, str) else b""
        except ValueError:
            octets = b""
        try:
            proof = decode_bond_proof(octets)
            proof.verify(self._genesis)
        except PeerError as error:
            return {"valid": False, "why": str(error), "proof": None}
        bonds, shown = self._wallet(), _shown(proof)
        try:
            depth = await bonds.verify(proof)
        except PeerError as error:
            return {"valid": False, "why": str(error), "proof": shown}
        owner = (await self._owners()).get(proof.key)
        return {
            "valid": True,
            "why": None,
            "proof": shown,
            "depth": depth,
            "deep": depth >= DEPTH,
            "bound_to": None if owner is None else show_address(owner),
        }

    # --- inside ---

    def _read_to(self) -> dict[str, Any]:
        """How far everybody's bonds were read."""
        reader = None if self._indexer is None else self._indexer.bonds
        if reader is None:
            return {"read_to": None, "why_not": None}
        height = None if reader.read_to is None else reader.read_to.block
        return {"read_to": height, "why_not": reader.why_not}

    def _wallet(self) -> Bonds:
        """The wallet on the chain whose bonds count; elsewhere the only one, so that coins can be
        taken home whatever the network counts."""
        counted = self._genesis.bitcoin_bonds
        leg = self._wallets.get(counted)
        if leg is None and not counted and len(self._wallets) == 1:
            (leg,) = self._wallets.values()
        if leg is None:
            chain = counted or "bip122:..."
            raise ConfigError(
                f"this node has no wallet on Bitcoin: it needs a trader, and in node.toml the "
                f'table [chain."{chain}"] with the endpoint of a node'
            )
        return leg.bonds

    async def _counting(self, number: int) -> Bonds:
        """Raises ``ConfigError`` unless a bond of that trader would count: what is locked for
        nothing cannot be taken back."""
        if not self._genesis.bitcoin_bonds:
            raise ConfigError(f"network {self._genesis.name!r} counts no bonds on Bitcoin")
        bonds = self._wallet()
        if self._indexer is None:
            raise ConfigError(
                "whether the bond's key is bound cannot be told: name the endpoints of "
                f"{self._genesis.home_chain} in node.toml (table [chain])"
            )
        account, key = self._accounts[number - 1], bonds.key(number)
        owner = (await self._owners()).get(key)
        if owner is None:
            raise ConfigError(
                f"the registry does not show the key of this trader's bonds, {key.hex()}, and what "
                f"is locked by an unbound key never counts: `orrange registry bind {number} "
                f"--bitcoin --trader {number}` first, and wait until that is final"
            )
        if owner != account:
            raise ConfigError(
                f"{show_address(owner)} bound this trader's key: it would count there"
            )
        return bonds

    async def _owners(self) -> dict[bytes, Address]:
        """Who bound a key first, as of the last final block that was read."""
        owners: dict[bytes, Address] = {}
        for event in () if self._indexer is None else await self._indexer.bitcoin_bindings():
            owners.setdefault(event.bitcoin_key, event.subject)
        return owners

    def _wish(self, params: Params) -> tuple[int, int, int]:
        number = _integer({"trader": 1, **params}, "trader")
        if not 1 <= number <= len(self._accounts):
            raise ConfigError(f"'trader' must be 1 to {len(self._accounts)}, not {number}")
        return number, _integer(params, "sats"), _integer(params, "until_s")

    def _worth(self, sats: int) -> int:
        rate = self._genesis.bitcoin_rate_numerator, self._genesis.bitcoin_rate_denominator
        return sats * rate[0] // rate[1]

    def _row(self, bond: OwnBond) -> dict[str, Any]:
        spent = bond.spent_by[::-1].hex() if bond.spent_by else None
        return {
            "trader": bond.number,
            "outpoint": str(bond.outpoint),
            "sats": bond.sats,
            "locked_until_s": bond.locked_until_s,
            "descriptor": bond_descriptor(bond.key, bond.locked_until_s),
            "depth": bond.depth,
            "free": bond.is_free,
            "spent_by": spent,
            "spent_depth": bond.spent_depth,
        }


def _shown(proof: BondProof) -> dict[str, Any]:
    """For people and files; ``record`` says all of it."""
    return {
        "network": "0x" + proof.network.hex(),
        "account": show_address(proof.account),
        "key": proof.key.hex(),
        "outpoint": str(proof.outpoint),
        "sats": proof.sats,
        "locked_until_s": proof.locked_until_s,
        "record": "0x" + proof.encode().hex(),
    }


def _name(params: Params) -> str:
    name = params.get("id")
    if not isinstance(name, str) or not name.isalnum() or not 1 <= len(name) <= _MAX_NAME:
        raise ConfigError(f"'id' must be 1 to {_MAX_NAME} letters and digits, not {name!r}")
    return name


def _integer(params: Params, name: str) -> int:
    value = params.get(name)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ConfigError(f"{name!r} must be a whole number, not {value!r}")
    return value


def _outpoint(params: Params) -> OutPoint:
    text = str(params.get("outpoint"))
    name, _, vout = text.partition(":")
    try:
        txid = bytes.fromhex(name)[::-1]
    except ValueError:
        txid = b""
    if len(txid) != 32 or not vout.isascii() or not vout.isdecimal() or len(vout) > 9:
        raise ConfigError(f"{text!r} is no output: a transaction's id, a colon and a number")
    return OutPoint(txid, int(vout))
