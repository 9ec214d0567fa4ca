"""What the assets of markets are called, and how many decimals they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import structlog
import trio

from orrange_p2p.chains.evm import erc20
from orrange_p2p.core.errors import MalformedError, WorldError
from orrange_p2p.daemon.chains import NodeChain

__all__ = ["Token", "Tokens"]

ASK_S: Final = 5.0
"""A chain that does not answer in this time is asked again the next time."""

log = structlog.get_logger()


class Token(NamedTuple):
    """An asset as people know it."""

    symbol: str
    decimals: int


_COINS: Final = {"60": Token("ETH", 18), "0": Token("BTC", 8), "501": Token("SOL", 9)}
"""By the number that SLIP-44 gives them, which CAIP-19 names have."""


class Tokens:
    """Asked of the chains once: neither ever changes in an honest token."""

    def __init__(self, chains: Mapping[str, NodeChain]) -> None:
        self._chains = chains
        self._known: dict[str, Token] = {}

    async def get(self, asset: str) -> Token | None:
        """None if it is unknown: of a chain that is not configured, or does not answer now.

        Wrong decimals would make an order a million times too large, so all endpoints of a chain
        have to say the same.
        """
        if (known := self._known.get(asset)) is not None:
            return known
        chain_id, _, reference = asset.partition("/")
        if reference.startswith("slip44:"):
            return _COINS.get(reference.removeprefix("slip44:"))
        token, node_chain = erc20.token_of(asset), self._chains.get(chain_id)
        if token is None or node_chain is None:
            return None
        chain, address = node_chain.chain, token[1]
        with trio.move_on_after(ASK_S):
            try:
                decimals = erc20.read_decimals(await chain.agreed_call(address, erc20.DECIMALS))
                symbol = erc20.read_symbol(await chain.agreed_call(address, erc20.SYMBOL))
            except (WorldError, MalformedError) as error:
                log.warning("cannot tell what a token is", asset=asset, why=str(error))
                return None
            self._known[asset] = Token(symbol, decimals)
        return self._known.get(asset)
