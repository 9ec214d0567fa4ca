"""What has to be known of an EVM chain to use it. Any such chain: nothing is built in."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import attrs

from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.errors import ConfigError

__all__ = ["EvmConfig", "check_url", "shown_url"]

_URL: Final = re.compile(r"(https?|wss?)://[^\s]+")
GWEI: Final = 10**9


@attrs.frozen
class EvmConfig:
    """One chain of ``node.toml``."""

    chain: str
    """CAIP-2, such as ``eip155:1``."""
    endpoints: tuple[str, ...]
    """URLs, the preferred one first: http, https, ws, wss. Two or more of different operators can
    contradict each other; one alone is believed."""
    finality: str = "finalized"
    """The tag of the newest block that is never replaced: ``finalized`` or ``safe``."""
    finality_depth: int = 64
    """Blocks below the head that count as final where endpoints do not know the tag."""
    max_fee_wei: int = 200 * GWEI
    """Per unit of gas; nothing that we send ever offers more."""
    min_priority_fee_wei: int = GWEI // 10
    """Per unit of gas; offered even if recent blocks took less."""
    bump_after_blocks: int = 3
    """A transaction not mined within so many blocks is replaced by one that offers more."""
    poll_interval_ms: int = 4_000
    """How often is looked for a new head where no endpoint tells of it."""
    timeout_ms: int = 10_000
    """How long one request may take."""

    @property
    def number(self) -> int:
        """The chain id that transactions are signed for."""
        return evm_chain_id(self.chain)


def check_url(url: str) -> str:
    """``url`` if an endpoint can have it; raises ``ConfigError``."""
    if not _URL.fullmatch(url) or not urlsplit(url).hostname:
        raise ConfigError(
            f"{shown_url(url)!r} is not an endpoint such as ws://127.0.0.1:8545; "
            "ws, wss, http and https are known"
        )
    return url


def shown_url(url: str) -> str:
    """Scheme, host and port: paths and user names of endpoints often are passwords."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
