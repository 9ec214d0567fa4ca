"""Connections: sockets we own, slots that come back, stream handlers that cannot raise."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from collections import Counter, OrderedDict
from typing import Any

import trio
from libp2p.abc import IMuxedConn, INetStream, IRawConnection
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.host.ping import ID as PING_ID
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY_ID
from libp2p.identity.identify.identify import identify_handler_for
from libp2p.io.trio import TrioTCPStream
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.connection import swarm_connection
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP, TCPListener
from multiaddr import Multiaddr

from orrange_p2p.core.errors import ConfigError, PortInUseError
from orrange_p2p.p2p.cleanup import shielded_for
from orrange_p2p.p2p.limits import Counters, Limits

__all__ = ["HardHost", "HardListener", "HardSwarm", "HardTCP", "quiet_logging"]


READ_AHEAD_BYTES = 64 * 1024
MAX_BANNED = 4096
DNS_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}


def quiet_logging() -> None:
    """Keep libp2p's log out of the user's terminal unless the user asked for it.

    Stock (swarm_connection.py:92) logs through the root logger, and the first such call gives a
    program that configured no logging a handler that prints. Warnings of "libp2p" go to stderr
    by Python's last-resort handler; a peer can cause thousands a second.
    """
    libp2p = logging.getLogger("libp2p")
    if not libp2p.handlers:
        libp2p.addHandler(logging.NullHandler())
        libp2p.setLevel(logging.CRITICAL)
        libp2p.propagate = False  # some modules set a level of their own, below ours
    module: Any = swarm_connection
    module.logging = logging.getLogger(swarm_connection.__name__)


class HardTCPStream(TrioTCPStream):
    """A TCP stream that reads ahead, and knows where it came from over IPv6 too.

    Stock reads exactly what is asked for, one or two bytes at a time during negotiation and two
    system calls for each encrypted message. And (io/trio.py:104) it takes only addresses of two
    parts; those of IPv6 have four, and no limit per address would hold.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._ahead = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        if not self._ahead:
            self._ahead += await super().read(READ_AHEAD_BYTES)
        size = len(self._ahead) if n is None else n
        data = bytes(self._ahead[:size])
        del self._ahead[:size]
        return data

    def get_remote_address(self) -> tuple[str, int] | None:
        if self._cached_remote_address is None:
            try:
                host, port = self.stream.socket.getpeername()[:2]
            except OSError:
                return None
            self._cached_remote_address = (str(host), int(port))
        return self._cached_remote_address


class HardTCP(TCP):
    """TCP with our streams; it does not listen, see ``HardListener``.

    Stock (tcp.py:371) asks name servers by itself, past the system's resolver: ``/etc/hosts``,
    search domains and local caches do not count, and "localhost" is unknown. Here ``dns``, ``dns4``
    and ``dns6`` go through the system, all answers are tried; ``dnsaddr`` never comes this far.
    """

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        parts = str(maddr).split("/")
        if parts[1] not in DNS_FAMILIES:
            return await super().dial(maddr)
        try:
            found = await trio.socket.getaddrinfo(
                parts[2], None, DNS_FAMILIES[parts[1]], socket.SOCK_STREAM
            )
        except OSError as error:
            raise OpenConnectionError(f"{parts[2]} has no address: {error.strerror}") from error
        failed: Exception | None = None
        for host in dict.fromkeys(str(answer[4][0]) for answer in found):
            kind = "ip6" if ":" in host else "ip4"
            try:
                return await self._dial_resolved(Multiaddr("/".join(["", kind, host, *parts[3:]])))
            except OpenConnectionError as error:
                failed = error
        raise OpenConnectionError(f"no address of {parts[2]} answers") from failed

    async def _dial_resolved(
        self, maddr: Multiaddr, source: tuple[str, int] | None = None
    ) -> IRawConnection:
        raw: Any = await super()._dial_resolved(maddr, source)
        return RawConnection(HardTCPStream(raw.stream.stream), True)


class HardListener(TCPListener):
    """A listener that shares its port with no one and whose tasks have an owner.

    Stock (tcp.py:59) sets SO_REUSEPORT, so a second node on the same port starts without an error
    and takes half of the connections. Stock (tcp.py:303) serves in a system task of trio, whose
    exceptions end the program.
    """

    def __init__(self, swarm: HardSwarm, nursery: trio.Nursery) -> None:
        super().__init__(self._accept)
        self._swarm = swarm
        self._owner = nursery
        self._scope = trio.CancelScope()
        self._maddr = Multiaddr("/ip4/0.0.0.0/tcp/0")

    async def listen(self, maddr: Multiaddr) -> None:
        """Raises ``PortInUseError`` if the port is taken, ``ConfigError`` if the address is not
        one of this machine."""
        listener = await _bind(maddr)
        self._maddr = maddr
        self.listeners.append(listener)
        self._owner.start_soon(self._run, listener)

    async def close(self) -> None:
        """Stop listening and end what came in here."""
        self._scope.cancel()
        for listener in self.listeners:
            await listener.aclose()
        self.listeners.clear()

    async def _run(self, listener: trio.SocketListener) -> None:
        with self._scope:
            await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            await self.handler(HardTCPStream(stream))
        except Exception:
            await trio.aclose_forcefully(stream)

    async def _accept(self, stream: Any) -> None:
        await self._swarm._handle_inbound_connection(stream, self._maddr)


async def _bind(maddr: Multiaddr) -> trio.SocketListener:
    host, port = _host_port(maddr)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind((host, port))
        sock.listen(128)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} of {host} is taken by another process; stop it, or listen on another"
                f" port (0 lets the system choose)"
            ) from error
        if error.errno == errno.EACCES:
            raise ConfigError(
                f"not allowed to listen on port {port}; choose one above 1023"
            ) from error
        raise ConfigError(f"cannot listen on {maddr}: {error.strerror}") from error
    return trio.SocketListener(sock)


def _host_port(maddr: Multiaddr) -> tuple[str, int]:
    parts = str(maddr).split("/")
    if len(parts) != 5 or parts[1] not in ("ip4", "ip6") or parts[3] != "tcp":
        raise ConfigError(f"cannot listen on {maddr}: write /ip4/ADDRESS/tcp/PORT")
    return parts[2], int(parts[4])


def _payer(host: str) -> str:
    """What limits per address count: of IPv6 the /64 that one subscriber has to itself."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return host if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


def _group(host: str) -> str:
    """The network that one customer of a provider may have whole: an IPv4 /24, an IPv6 /56."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 56), strict=False))


def _take_one(counts: Counter[str], key: str) -> None:
    """Uncount one, and keep no entry for none."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


class _NoAutoConnector(AutoConnector):
    """Dials no one.

    Stock (auto_connector.py:313) dials every peer it has an address of, up to 256, whatever
    ``low_watermark`` and ``min_connections`` say, and learns addresses from strangers.
    """

    async def run_background_task(self, nursery: trio.Nursery) -> None:
        await trio.lowlevel.checkpoint()

    async def maybe_connect(self) -> None:
        await trio.lowlevel.checkpoint()

    def record_disconnect(self, peer_id: ID) -> None:
        """Keep no list of everyone who ever came."""


class HardSwarm(Swarm):
    """A swarm whose inbound slots come back.

    Stock (swarm.py:2060): the task of an inbound connection, and its slot, stay until the swarm
    ends; after 250 connections no inbound is accepted ever again.

    Also limits the connections of one address and of one group of addresses, handshakes included,
    and knows banned peers.
    """

    limits: Limits
    counters: Counters

    def attach(self, limits: Limits, counters: Counters) -> None:
        """What the constructor of stock does not take."""
        self.limits = limits
        self.counters = counters
        self.auto_connector = _NoAutoConnector(self)
        self._by_address: Counter[str] = Counter()
        self._by_group: Counter[str] = Counter()
        self._banned: OrderedDict[ID, tuple[float, int]] = OrderedDict()
        self._bans_by_address: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def ban(self, peer_id: ID) -> None:
        """End all connections to ``peer_id`` and refuse new ones: for ``ban_s``, twice as long
        each time it comes back for more. Its address pays too, see ``bans_per_address``."""
        if self.is_banned(peer_id):
            return  # two of its messages were judged at once
        self.counters["peers_banned"] += 1
        now_s = trio.current_time()
        _, times = self._banned.pop(peer_id, (0.0, 0))
        self._banned[peer_id] = (now_s + self.limits.ban_s * 2**times, min(times + 1, 6))
        if len(self._banned) > MAX_BANNED:
            self._banned.popitem(last=False)
        for connection in self.get_connections(peer_id):
            muxed: Any = connection.muxed_conn
            remote = muxed.get_remote_address()
            if remote is not None:
                host = _payer(remote[0])
                since_s, count = self._bans_by_address.pop(host, (now_s, 0))
                is_old = now_s - since_s > self.limits.ban_s
                self._bans_by_address[host] = (now_s, 1 if is_old else count + 1)
        while len(self._bans_by_address) > MAX_BANNED:
            self._bans_by_address.popitem(last=False)
        await self.close_peer(peer_id)

    def is_banned(self, peer_id: ID) -> bool:
        return self._banned.get(peer_id, (0.0, 0))[0] > trio.current_time()

    def _is_address_banned(self, host: str) -> bool:
        since_s, count = self._bans_by_address.get(host, (0.0, 0))
        return (
            count >= self.limits.bans_per_address
            and trio.current_time() - since_s <= self.limits.ban_s
        )

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        if self.is_banned(muxed_conn.peer_id):
            self.counters["connections_refused"] += 1
            await muxed_conn.close()
            raise SwarmException(f"{muxed_conn.peer_id} is banned for now")
        return await super().add_conn(muxed_conn, direction)

    async def _handle_inbound_connection(self, read_write_closer: Any, maddr: Multiaddr) -> None:
        remote = read_write_closer.get_remote_address()
        host = _payer(remote[0]) if remote else ""
        group = _group(remote[0]) if remote else ""
        if (
            self._by_address.total() >= self.limits.connections
            or self._by_address[host] >= self.limits.connections_per_address
            or self._by_group[group] >= self.limits.connections_per_group
            or self._is_address_banned(host)
        ):
            self.counters["connections_refused"] += 1
            await read_write_closer.close()
            return
        self._by_address[host] += 1
        self._by_group[group] += 1
        try:
            await self._serve_inbound(RawConnection(read_write_closer, False), maddr)
        finally:
            _take_one(self._by_address, host)
            _take_one(self._by_group, group)

    async def _serve_inbound(self, raw: IRawConnection, maddr: Multiaddr) -> None:
        """One inbound connection from handshake to end."""
        try:
            connection: Any = await self.upgrade_inbound_raw_conn(raw, maddr)
            await connection.event_closed.wait()
        except Exception:
            self.counters["handshakes_failed"] += 1
        finally:
            with shielded_for(1):
                await raw.close()


class HardHost(BasicHost):
    """A host whose stream handlers cannot take it along.

    Stock (multiselect_communicator.py:58): a protocol name that is not UTF-8 raises
    UnicodeDecodeError through swarm and nursery into the program. So does every exception of a
    stream handler (swarm_connection.py, basic_host.py:1554).

    Serves identify and ping. It does not ask others to identify themselves, because nothing here
    needs the answer and stock (basic_host.py:1210) reads it in a system task, whose exceptions
    end the program; and it does not serve identify/push, which fills the peer store at will.
    """

    def __init__(self, network: HardSwarm) -> None:
        super().__init__(network, disable_identify_address_discovery=True)
        self._counters = network.counters
        for protocol in list(self.multiselect.handlers):
            self.multiselect.handlers.pop(protocol)
        handlers: OrderedDict[TProtocol, Any] = OrderedDict()
        handlers[IDENTIFY_ID] = identify_handler_for(self, use_varint_format=True)
        handlers[PING_ID] = PingService(self).handle_ping
        for protocol, handler in handlers.items():
            self.set_stream_handler(protocol, handler)

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        try:
            await super()._swarm_stream_handler(net_stream)
        except Exception:
            self._counters["streams_failed"] += 1
            with trio.move_on_after(1):
                await net_stream.reset()

    def _schedule_identify(self, peer_id: Any, *, reason: str) -> None:
        """Do not identify."""
