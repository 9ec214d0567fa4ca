"""Chain, account and asset names: CAIP-2, CAIP-10 and CAIP-19, as far as they can be checked here.

Examples (https://chainagnostic.org): chain ``eip155:1``, asset ``eip155:1/slip44:60``.
"""

from __future__ import annotations

import re
from typing import Final

from orrange_p2p.core.errors import ConfigError

_CHAIN: Final = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}")
_ASSET: Final = re.compile(
    r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}/[-a-z0-9]{3,8}:[-.%a-zA-Z0-9]{1,128}(/[-.%a-zA-Z0-9]{1,78})?"
)


def check_chain(chain: str) -> str:
    """``chain`` if it is a CAIP-2 id; raises ``ConfigError``."""
    if not _CHAIN.fullmatch(chain):
        raise ConfigError(f"{chain!r} is not a CAIP-2 chain id such as 'eip155:1'")
    return chain


def check_asset(asset: str) -> str:
    """``asset`` if it is a CAIP-19 id; raises ``ConfigError``."""
    if not _ASSET.fullmatch(asset):
        raise ConfigError(f"{asset!r} is not a CAIP-19 asset id such as 'eip155:1/slip44:60'")
    return asset


def evm_chain_id(chain: str) -> int:
    """The number of an ``eip155`` chain; raises ``ConfigError`` for any other namespace."""
    namespace, _, reference = check_chain(chain).partition(":")
    if namespace != "eip155" or not reference.isdecimal() or str(int(reference)) != reference:
        raise ConfigError(f"{chain!r} is not an EVM chain: expected 'eip155:<number>'")
    return int(reference)
