"""What has to be known of a Bitcoin chain to use it, and what is known of those that there are."""

from __future__ import annotations

from typing import Final, NamedTuple

import attrs

from orrange_p2p.core.assets import check_chain
from orrange_p2p.core.errors import ConfigError

__all__ = ["REGTEST", "BitcoinConfig", "Network", "network_of"]


class Network(NamedTuple):
    """A chain that CAIP-2 names by its first block."""

    name: str
    prefix: str
    """Of its addresses (BIP-173)."""
    coin: int
    """In key paths (SLIP-44): all test networks share one."""


REGTEST: Final = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"
_NETWORKS: Final = {
    "bip122:000000000019d6689c085ae165831e93": Network("mainnet", "bc", 0),
    "bip122:000000000933ea01ad0ee984209779ba": Network("testnet3", "tb", 1),
    "bip122:00000000da84f2bafbbc53dee25a72ae": Network("testnet4", "tb", 1),
    "bip122:00000008819873e925422c1ff0f99f7c": Network("signet", "tb", 1),
    REGTEST: Network("regtest", "bcrt", 1),
}


def network_of(chain: str) -> Network:
    """Raises ``ConfigError`` for a chain that is not one of Bitcoin's."""
    network = _NETWORKS.get(check_chain(chain))
    if network is None:
        raise ConfigError(f"{chain!r} is not a Bitcoin chain: one of {', '.join(_NETWORKS)}")
    return network


@attrs.frozen
class BitcoinConfig:
    """One chain of ``node.toml``."""

    chain: str
    """CAIP-2: ``bip122:`` and the first 32 digits of the first block's hash."""
    endpoint: str
    """bitcoind's JSON-RPC: http or https. One: our own node, which is believed."""
    cookie_file: str = ""
    """Where bitcoind writes its password; empty: the URL has it, or none is needed."""
    finality_depth: int = 6
    """Blocks after which nothing of ours is watched over any more."""
    min_rate: int = 1_000
    """Satoshis per 1,000 vbytes; offered even if less is estimated."""
    max_rate: int = 300_000
    """Likewise; nothing that we send ever offers more."""
    bump_after_blocks: int = 2
    """A transaction not mined within so many blocks is replaced by one that offers more."""
    poll_interval_ms: int = 5_000
    """How often is looked for a new head."""
    timeout_ms: int = 30_000
    """How long one request may take."""
