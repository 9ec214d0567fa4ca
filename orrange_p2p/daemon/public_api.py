"""What a node does for light clients, who trust it in nothing (protocol/02-merkle.md).

They read what a quorum of the witnesses vouches for, and hand in entries that they have signed
themselves. Nothing here speaks for the node, so a public node answers all of it to anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from orrange_p2p.core import codec
from orrange_p2p.core.accounts import Account
from orrange_p2p.core.addresses import parse_address
from orrange_p2p.core.checkpoints import CertifiedState
from orrange_p2p.core.entries import MAX_ENTRY_BYTES, Entry, decode_entry
from orrange_p2p.core.errors import ConfigError, DeadlineError, HaltedError, WorldError
from orrange_p2p.core.frames import Frame
from orrange_p2p.core.ids import Address, PeerId, Seq
from orrange_p2p.core.merkle import MapView
from orrange_p2p.core.pacemaker import HELD_AHEAD
from orrange_p2p.core.proofs import prove_account
from orrange_p2p.daemon.api import market_named
from orrange_p2p.daemon.market import MarketNode
from orrange_p2p.daemon.node import Node
from orrange_p2p.rpc.server import Method, Params

__all__ = ["public_methods", "take_entry"]

MAX_LEAVES: Final = 100_000
MAX_ENTRIES: Final = 32
"""Of a log at once; no more are ahead of the cut."""
TAKE_S: Final = 5.0
"""Within this a handed-in entry is durable, or something is wrong."""
VISITORS: Final = PeerId("visitors of the API")
"""Whose budget of signature checks handed-in entries are on."""


def public_methods(node: Node, genesis_text: str) -> dict[str, Method]:
    """Additions to the table of methods. ``genesis_text``: the network's file."""
    api = _Public(node, genesis_text)
    return {
        "network": api.network,
        "certified": api.certified,
        "certified_matches": api.certified_matches,
        "log": api.log,
        "entry": api.entry,
    }


class _Public:
    def __init__(self, node: Node, genesis_text: str) -> None:
        self._node = node
        self._genesis_text = genesis_text

    async def network(self, params: Params) -> Any:
        """The network this node belongs to."""
        genesis = self._node.genesis
        return {
            "name": genesis.name,
            "network_id": "0x" + genesis.network_id.hex(),
            "genesis": self._genesis_text,
        }

    async def certified(self, params: Params) -> Any:
        """The latest certified book, whole."""
        return await self._map(params, "orders", lambda state: state.view.orders)

    async def certified_matches(self, params: Params) -> Any:
        """The matches that were pending then, all of them."""
        return await self._map(params, "matches", lambda state: state.view.matches)

    async def _map(
        self, params: Params, name: str, choose: Callable[[CertifiedState], MapView]
    ) -> Any:
        market = market_named(self._node, params)
        state = _certified(market)
        leaves = await trio.to_thread.run_sync(lambda: list(choose(state).items()))
        if len(leaves) > MAX_LEAVES:
            raise WorldError(f"there are more than {MAX_LEAVES} groups of {name}")
        return {
            "market": "0x" + market.market_id.hex(),
            "epoch": state.header.epoch,
            "certificate": "0x" + codec.encode(state.certificate).hex(),
            name: [[key.hex(), leaf.hex()] for key, leaf in leaves],
        }

    async def log(self, params: Params) -> Any:
        """How far an author's log is known: a proof of how far it was cut in the latest certified
        state, and the entries after that."""
        market = market_named(self._node, params)
        author = _author(params)
        state = _certified(market)
        proof = prove_account(state.certificate, state.view.accounts, author)
        leaf = state.view.accounts.get(author)
        first = Seq(0) if leaf is None else Account.of_leaf(author, leaf).next_seq
        records = await market.store.log(market.market_id, author, first, limit=MAX_ENTRIES)
        return {
            "market": "0x" + market.market_id.hex(),
            "epoch": state.header.epoch,
            "proof": "0x" + proof.encode().hex(),
            "entries": ["0x" + record.encoded.hex() for record in records],
        }

    async def entry(self, params: Params) -> Any:
        """Take an entry that its author has signed, and gossip it; durable here on return. The
        same entry again is a no-op that gossips it again.

        Raises ``PeerError`` if the entry is not valid, ``WorldError`` that says why it is not
        taken now.
        """
        market = market_named(self._node, params)
        encoded = _octets(params, "entry")
        entry = decode_entry(encoded, self._node.genesis.separator, market.market_id)
        entry.verify()
        await take_entry(market, entry)
        return {"author": "0x" + entry.author.hex(), "seq": entry.seq}


async def take_entry(market: MarketNode, entry: Entry) -> None:
    """Take a verified entry that was signed outside of this node, and gossip it. Raises
    ``WorldError`` that says why it is not taken now."""
    if not market.is_held(entry):
        refusal = _why_not(market, entry)
        if refusal is not None:
            raise refusal
        await market.intake.admit(VISITORS, Frame((entry.encoded,), ()))
        await _until_held(market, entry)
    market.outbox.put(entry)


def _certified(market: MarketNode) -> CertifiedState:
    state = market.replica.certified
    if state is None:
        raise WorldError("no state is certified here yet: ask again in a few seconds")
    return state


def _why_not(market: MarketNode, entry: Entry) -> WorldError | None:
    replica, author = market.replica, entry.author
    named = f"0x{author.hex()}"
    if replica.halt is not None:
        return HaltedError(f"the market is halted ({replica.halt.reason.value})")
    if replica.fold.is_frozen(author):
        return WorldError(f"{named} is frozen: it has signed two entries of one number")
    if not replica.fold.is_eligible(author):
        return WorldError(f"{named} may not trade in this network")
    known = replica.logs.next_wanted(author)
    if entry.seq < known:
        # To spread it would freeze its author: whoever means that does it without our help.
        return WorldError(f"another entry {entry.seq} of {named} is known: sign none twice")
    if entry.seq > known:
        return WorldError(f"entry {known} of {named} is missing: hand that in first")
    if entry.prev != replica.logs.head(author):
        return WorldError(f"entry {entry.seq} of {named} follows another one than is known")
    if entry.seq >= replica.logs.first_uncut(author) + HELD_AHEAD - 1:
        return WorldError("too many entries wait to be committed: try again later")
    return None


async def _until_held(market: MarketNode, entry: Entry) -> None:
    with trio.move_on_after(TAKE_S):
        while not market.is_held(entry):
            await market.changed.wait()
    if not market.is_held(entry):
        raise DeadlineError("the entry was not taken in time: hand it in again")


def _author(params: Params) -> Address:
    return parse_address(str(params.get("author")))


def _octets(params: Params, name: str) -> bytes:
    text = params.get(name)
    if isinstance(text, str) and len(text) <= 2 * MAX_ENTRY_BYTES + 2:
        try:
            return bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            pass
    raise ConfigError(f"{name!r} must be hexadecimal, of at most {MAX_ENTRY_BYTES} bytes")
