"""Named fixes for py-libp2p, applied from outside and pinned to one version.

Every fix is a class here that takes the place of a stock one; its docstring says what stock does,
where, and why it matters. Nothing in libp2p is patched in place, except the name under which one
of its modules logs. Line numbers are those of 0.8.1.

- ``services``  a failing task does not end its service
- ``network``   sockets of our own, slots that come back, handlers that cannot raise, no dials
                but ours, bans
- ``muxer``     windows enforced, writes that cannot be torn, dead peers noticed
- ``pubsub``    nothing a peer says raises; no task per message
- ``router``    the mesh: heartbeat, back-off, peer exchange, bounds on all that peers cause
- ``queues``    deep queues with counted drops, bounded memory of messages and ids

``tests/p2p/test_stock_faults.py`` and ``test_stock_gossip.py`` show stock and ours side by side.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from orrange_p2p.core.errors import ConfigError

__all__ = ["LIBP2P_VERSION", "require_version"]

LIBP2P_VERSION: Final = "0.8.1"


def require_version() -> None:
    """Raises ``ConfigError`` unless libp2p is exactly the version the fixes were made for."""
    try:
        found = version("libp2p")
    except PackageNotFoundError:
        found = "not installed"
    if found != LIBP2P_VERSION:
        raise ConfigError(
            f"libp2p is {found}, but the network layer is made for exactly {LIBP2P_VERSION};"
            f" run: pip install libp2p=={LIBP2P_VERSION}"
        )
