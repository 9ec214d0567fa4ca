"""What accounts are worth by the home chain, as this node has read it; and the check of that."""

from __future__ import annotations

from typing import Any, Final

from orrange_p2p.chains.evm.chain import open_evm_chain
from orrange_p2p.core.addresses import parse_address
from orrange_p2p.core.errors import ConfigError, WorldError
from orrange_p2p.core.histories import Standings
from orrange_p2p.core.ids import Address
from orrange_p2p.core.reputation import Score, Term
from orrange_p2p.daemon.bond_reader import open_bond_reader
from orrange_p2p.daemon.config import NodeConfig
from orrange_p2p.daemon.indexer import Indexer, contracts_of
from orrange_p2p.rpc.server import Method, Params
from orrange_p2p.store.history_memory import MemoryBonds, MemoryHistory
from orrange_p2p.store.intents_memory import MemoryIntents

__all__ = ["methods", "read_anew"]

MAX_ROWS: Final = 1000
OTHER_PAGES: Final = 997
"""Blocks; whoever checks reads in other pages than the node did."""
OTHER_BOND_PAGES: Final = 31
"""Blocks of Bitcoin."""


def methods(indexer: Indexer | None) -> dict[str, Method]:
    """Additions to the table. ``indexer``: None if this node reads no home chain."""

    async def reputation(params: Params) -> Any:
        """All scores at a block, the best first, at most 1,000; or one account's with its terms.
        ``digest`` is of all of them: nodes that have read the same say the same."""
        if indexer is None:
            raise WorldError(
                "this node reads no home chain: name its endpoints in node.toml (table [chain]), "
                "and that of the Bitcoin chain whose bonds count, if any do; the network needs a "
                "registry on its home chain"
            )
        block = params.get("block")
        if block is not None and (type(block) is not int or block < 0):
            raise ConfigError("'block' must be the number of a block")
        found = await indexer.standings(block)
        named = params.get("account")
        account = None if named is None else parse_address(str(named))
        why_not = indexer.why_not or (None if indexer.bonds is None else indexer.bonds.why_not)
        return {**_about(found), "why_not": why_not, "scores": _rows(found, account)}

    return {"reputation": reputation}


def _about(found: Standings) -> dict[str, Any]:
    return {
        "chain": found.chain,
        "block": found.block,
        "hash": "0x" + found.hash.hex(),
        "day": found.day,
        "accounts": len(found.scores),
        "digest": "0x" + found.digest.hex(),
    }


def _rows(found: Standings, account: Address | None) -> list[dict[str, Any]]:
    if account is None:
        best = sorted(found.scores, key=lambda one: (-one.total, one.account))
        return [_score(one) for one in best[:MAX_ROWS]]
    return [
        {**_score(one), "terms": [_term(term) for term in found.terms(one.account)]}
        for one in found.scores
        if one.account == account
    ]


def _score(one: Score) -> dict[str, Any]:
    return {
        "account": "0x" + one.account.hex(),
        "total": str(one.total),
        "bonds": str(one.bonds),
        "trades": str(one.trades),
        "defaults": str(one.defaults),
        "age_days": one.age_days,
    }


def _term(term: Term) -> dict[str, Any]:
    return {
        "kind": term.kind.name.lower(),
        "chain": term.place.chain,
        "block": term.place.block,
        "log": term.place.log,
        "value": str(term.value),
    }


async def read_anew(config: NodeConfig, block: int) -> dict[str, Any]:
    """What the home chain itself says of a block, read from the beginning, in other pages and by
    nothing that the node keeps. Raises as ``Indexer``, ``ConfigError`` without a home chain."""
    genesis = config.data_dir.load_genesis()
    chain = next((one for one in config.evm_chains if one.chain == genesis.home_chain), None)
    if chain is None or not contracts_of(genesis):
        raise ConfigError(
            f"there is nothing to read: node.toml names no chain {genesis.home_chain}, or the "
            "network has no registry"
        )
    history = MemoryHistory()
    async with (
        open_evm_chain(chain, MemoryIntents()) as opened,
        open_bond_reader(config, genesis, MemoryBonds(), history, OTHER_BOND_PAGES) as bonds,
    ):
        indexer = Indexer(genesis, opened, history, OTHER_PAGES, bonds)
        await indexer.catch_up()
        return _about(await indexer.standings(block))
