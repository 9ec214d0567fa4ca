"""The table ``[api]`` of ``node.toml``: where the HTTP API listens, and to whom."""

from __future__ import annotations

import ipaddress
from typing import Final

import attrs

from orrange_p2p.core.addresses import parse_address
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address

__all__ = ["DEFAULT_API", "ApiConfig", "parse_api"]

_KEYS: Final = ("listen", "hosts", "wallets", "public")
LISTEN_EXAMPLE: Final = "127.0.0.1:9772"


@attrs.frozen
class ApiConfig:
    """The HTTP API of a node."""

    host: str = "127.0.0.1"
    port: int = 9772
    """0: any that is free."""
    hosts: tuple[str, ...] = ()
    """Names under which it may be asked, beside loopback's: those of a proxy before it."""
    wallets: tuple[Address, ...] = ()
    """EVM accounts that may log in, to read and to trade."""
    public: bool = False
    """Anybody may read markets, books, tapes, epochs and proofs; needed to listen elsewhere than
    on loopback."""

    def to_toml(self) -> str:
        """The text that ``parse_api`` reads back."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = ["", "[api]", f'listen = "{host}:{self.port}"']
        if self.hosts:
            lines.append("hosts = [" + ", ".join(f'"{name}"' for name in self.hosts) + "]")
        if self.wallets:
            names = ", ".join(f'"0x{wallet.hex()}"' for wallet in self.wallets)
            lines.append(f"wallets = [{names}]")
        if self.public:
            lines.append("public = true")
        return "\n".join(lines) + "\n"


DEFAULT_API: Final = ApiConfig()


def parse_api(value: object) -> ApiConfig:
    """Raises ``ConfigError`` that names the key."""
    if not isinstance(value, dict):
        raise ConfigError(f'must be a table: [api] with listen = "{LISTEN_EXAMPLE}"')
    unknown = sorted(set(value) - set(_KEYS))
    if unknown:
        raise ConfigError(f"{unknown[0]}: unknown key; known: {', '.join(_KEYS)}")
    host, port = _listen(value.get("listen", LISTEN_EXAMPLE))
    public = value.get("public", False)
    if not isinstance(public, bool):
        raise ConfigError("public: must be true or false")
    if not public and not _is_loopback(host):
        raise ConfigError(
            f"listen: {host} is not of this machine alone; with public = true strangers may read, "
            "and nobody can trade but who has a token"
        )
    hosts = tuple(_text(name, "hosts") for name in _items(value, "hosts"))
    wallets = tuple(_wallet(name) for name in _items(value, "wallets"))
    return ApiConfig(host, port, hosts, wallets, public)


def _listen(value: object) -> tuple[str, int]:
    host, _, port = str(value).rpartition(":")
    if not isinstance(value, str) or not host or not port.isascii() or not port.isdecimal():
        raise ConfigError(f'listen: must be an address and a port such as "{LISTEN_EXAMPLE}"')
    if int(port) > 65_535:
        raise ConfigError(f"listen: there is no port {port}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _items(value: dict[str, object], key: str) -> list[object]:
    items = value.get(key, [])
    if not isinstance(items, list):
        raise ConfigError(f"{key}: must be a list")
    return items


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or '"' in value:
        raise ConfigError(f"{key}: {value!r} is no name")
    return value


def _wallet(value: object) -> Address:
    try:
        return parse_address(str(value))
    except ConfigError as error:
        raise ConfigError(f"wallets: {error}") from None
