"""Peers on the same local network, by multicast DNS (RFC 6762, RFC 6763).

Not libp2p's (discovery/mdns), though it works: its threads write into the peer store while the
event loop reads it, and its clean-up is a system task whose exceptions end the program.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import ifaddr
import trio
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceInfo, ServiceListener, Zeroconf

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.p2p.cleanup import shielded_for

__all__ = ["found_on_lan"]

SERVICE: Final = "_orrange._udp.local."
ANSWER_TIMEOUT_MS: Final = 3000
CLOSE_TIMEOUT_S: Final = 3.0
_LISTEN: Final = re.compile(r"/ip[46]/([^/]+)/tcp/(\d+)/p2p/([1-9A-HJ-NP-Za-km-z]{1,64})")
_PEER_ID: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{1,64}")


@asynccontextmanager
async def found_on_lan(
    addresses: Sequence[str], network_id: bytes, heard: Callable[[str], None]
) -> AsyncIterator[None]:
    """Tell the local network where we listen, and ``heard`` the multiaddrs of others there.

    ``heard`` runs on the event loop, for nodes of the same network, with rumours: whoever is on the
    LAN can say anything. Raises ``ConfigError`` if nothing we listen on can be announced.
    """
    hosts, port, peer_id = _ours(addresses)
    network = network_id.hex()[:16]
    info = ServiceInfo(
        SERVICE,
        f"{peer_id}.{SERVICE}",
        port=port,
        properties={"peer": peer_id, "network": network},
        parsed_addresses=hosts,
        server=f"{peer_id[-32:]}.local.",
    )
    listener = _Listener(trio.lowlevel.current_trio_token(), network, peer_id, heard)
    zeroconf = await trio.to_thread.run_sync(_start, hosts, info, listener)
    try:
        yield
    finally:
        with shielded_for(CLOSE_TIMEOUT_S):
            await trio.to_thread.run_sync(
                _stop,
                zeroconf,
                abandon_on_cancel=True,  # type: ignore[call-arg]  # stubs of an older trio
            )


def _ours(addresses: Sequence[str]) -> tuple[list[str], int, str]:
    """The hosts, port and peer id to announce: of the first port that we listen on."""
    parsed = [match.groups() for a in addresses if (match := _LISTEN.fullmatch(a))]
    if not parsed:
        raise ConfigError("lan_discovery needs a TCP address to listen on: see 'listen'")
    _, port, peer_id = parsed[0]
    hosts: list[str] = []
    for host, _, _ in (row for row in parsed if row[1] == port):
        ip = ipaddress.ip_address(host)
        hosts += _machine(ip.version) if ip.is_unspecified else [host]
    if not hosts:
        raise ConfigError("lan_discovery: this machine has no address on any network")
    return hosts, int(port), peer_id


def _machine(version: int) -> list[str]:
    """Addresses of this machine that others on a LAN can use."""
    found = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            ip = ipaddress.ip_address(text)
            if ip.version == version and not ip.is_loopback and not ip.is_link_local:
                found.append(text)
    return found


class _Listener(ServiceListener):
    """Runs in a thread of zeroconf's."""

    def __init__(
        self,
        token: trio.lowlevel.TrioToken,
        network: str,
        own: str,
        heard: Callable[[str], None],
    ) -> None:
        self._token = token
        self._network = network
        self._own = own
        self._heard = heard

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        try:
            info = zc.get_service_info(type_, name, ANSWER_TIMEOUT_MS)
        except (ZeroconfError, ValueError, OSError):
            return  # somebody else's malformed answer
        if info is None or not info.port:
            return
        said = {key: value or b"" for key, value in info.properties.items()}
        peer = said.get(b"peer", b"").decode("ascii", "replace")
        if said.get(b"network") != self._network.encode() or peer == self._own:
            return
        if not _PEER_ID.fullmatch(peer):
            return
        for host in info.parsed_addresses(IPVersion.All)[:4]:
            kind = "ip6" if ":" in host else "ip4"
            with suppress(trio.RunFinishedError):
                address = f"/{kind}/{host.partition('%')[0]}/tcp/{info.port}/p2p/{peer}"
                self._token.run_sync_soon(self._heard, address)

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Whether a peer is gone shows when it is dialled."""


def _start(hosts: list[str], info: ServiceInfo, listener: _Listener) -> Zeroconf:
    try:
        zeroconf = Zeroconf(interfaces=hosts)
        zeroconf.add_service_listener(SERVICE, listener)  # ends with it, unlike a browser
        zeroconf.register_service(info)
    except (OSError, ZeroconfError) as error:
        raise ConfigError(f"lan_discovery does not work here: {error}") from error
    return zeroconf


def _stop(zeroconf: Zeroconf) -> None:
    zeroconf.unregister_all_services()
    zeroconf.close()
