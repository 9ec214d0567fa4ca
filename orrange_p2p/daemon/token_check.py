"""Looking at a token with a node's configuration, whether or not the node runs."""

from __future__ import annotations

from typing import NamedTuple

from orrange_p2p.chains.evm import erc20
from orrange_p2p.chains.evm.chain import open_evm_chain
from orrange_p2p.chains.evm.token_check import Finding, check_token, is_listable
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address
from orrange_p2p.daemon.config import NodeConfig
from orrange_p2p.store.intents_memory import MemoryIntents

__all__ = ["TokenReport", "look_at_token"]


class TokenReport(NamedTuple):
    """What was found."""

    asset: str
    findings: list[Finding]
    is_listable: bool


async def look_at_token(config: NodeConfig, asset: str, holder: Address) -> TokenReport:
    """Raises ``ConfigError`` for what is no token of a configured chain, ``WorldError`` if the
    chain does not answer."""
    token = erc20.token_of(asset)
    if token is None:
        raise ConfigError(f"{asset!r} is no token, such as eip155:1/erc20:0x and 40 digits")
    chains = {one.chain: one for one in config.evm_chains}
    if token[0] not in chains:
        raise ConfigError(f"{token[0]} is not in {config.data_dir.config}")
    async with open_evm_chain(chains[token[0]], MemoryIntents()) as chain:
        findings = await check_token(chain, token[1], holder)
    return TokenReport(asset, findings, is_listable(findings))
