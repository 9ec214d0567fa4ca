"""Addresses behind a name: ``/dnsaddr/NAME/p2p/ID``, as libp2p's addressing specification has it.

TXT records of ``_dnsaddr.NAME`` say ``dnsaddr=MULTIADDR``, which may be a ``/dnsaddr`` again. An
operator moves a bootstrap peer by changing the record; its peer id stays, so whoever forges the
record gains nothing but a failed dial.

Not stock's resolver (multiaddr/resolvers/dns.py): it follows every answer 32 deep with no bound on
their number, and reads only the first 255 bytes of a record.
"""

from __future__ import annotations

import re
from typing import Final

from dns.asyncresolver import Resolver
from dns.exception import DNSException

from orrange_p2p.core.errors import UnreachableError

__all__ = ["addresses_behind"]

MAX_LOOKUPS: Final = 8
MAX_ADDRESSES: Final = 16
_DNSADDR: Final = re.compile(r"/dnsaddr/([^/\s]+)")
_DIALLED: Final = re.compile(r"/(?:ip4|ip6|dns|dns4|dns6)/[^/\s]+/tcp/\d{1,5}")


async def addresses_behind(address: str, peer_id: str) -> list[str]:
    """The multiaddrs of ``peer_id`` that ``address``, ``/dnsaddr/NAME``, stands for, without the
    id; ``address`` itself if it is of another kind. Asks the name servers of this machine.

    Raises ``UnreachableError`` if there are none. The caller sets the deadline.
    """
    if not _DNSADDR.fullmatch(address):
        return [address]
    waiting, asked, found = [address], set[str](), dict[str, None]()
    while waiting and len(found) < MAX_ADDRESSES:
        head = waiting.pop(0)
        name = _DNSADDR.fullmatch(head)
        if name is None:
            if _DIALLED.fullmatch(head):
                found[head] = None
        elif name[1] not in asked and len(asked) < MAX_LOOKUPS:
            asked.add(name[1])
            waiting += await _named_by(name[1], peer_id)
    if not found:
        raise UnreachableError(f"no TXT record of _dnsaddr names a TCP address of {peer_id}")
    return list(found)


async def _named_by(name: str, peer_id: str) -> list[str]:
    """What the records of one name say of one peer."""
    try:
        answer = await Resolver().resolve(f"_dnsaddr.{name}", "TXT", raise_on_no_answer=False)
    except (DNSException, OSError) as error:
        raise UnreachableError(f"no TXT record of _dnsaddr.{name}: {error}") from error
    ending = f"/p2p/{peer_id}"
    texts = [b"".join(record.strings).decode("ascii", "replace") for record in answer]
    return [
        text.removeprefix("dnsaddr=").removesuffix(ending)
        for text in texts
        if text.startswith("dnsaddr=/") and text.endswith(ending)
    ]
