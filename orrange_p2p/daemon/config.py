"""``node.toml`` and the layout of a data directory.

DIR/                 0700
    node.toml        what this node does; every key is optional
    network.toml     the network it belongs to, byte for byte the same at every node
    keys/            0700, files 0600
        seed.json        all keys, encrypted; or, without a passphrase:
        peer.key         its name on the network
        witness.key      signs ticks
        reveal.key       secret behind the witness's hash chains
        trader-1.key ... one log each
        imported-1.json  keys of other wallets beside the seed, encrypted as it is
    never-signed     until the first start
    store.sqlite     0600
    swaps.sqlite     0600, where each swap stands
    swaps/           a recovery bundle of each open one
    chains/          what was sent to each chain
    rpc.sock         0600
    api.cookie       0600, the token of the HTTP API's owner, new at each start
    api-audit.jsonl  0600, what was changed through it, by whom
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from orrange_p2p.chains.bitcoin.config import BitcoinConfig
from orrange_p2p.chains.evm.config import EvmConfig
from orrange_p2p.core import genesis
from orrange_p2p.core.checkpoints import CHECKPOINT_EPOCHS
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import MAX_UINT63, MarketId
from orrange_p2p.daemon.api_config import ApiConfig, parse_api
from orrange_p2p.daemon.chain_config import ChainConfig, chains_to_toml, parse_chains
from orrange_p2p.daemon.settlement_config import (
    SettlingConfig,
    SwapConfig,
    parse_settlements,
    parse_swaps,
    settlements_to_toml,
    swaps_to_toml,
)

__all__ = [
    "DEFAULT_LISTEN",
    "LOG_LEVELS",
    "ROLES",
    "DataDir",
    "NodeConfig",
    "default_data_dir",
    "load_config",
    "load_genesis",
    "parse_bootstrap",
    "parse_listen",
]

ROLES: Final = ("witness", "trader")
CANCEL_ON: Final = ("shutdown", "disconnect")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
DEFAULT_LISTEN: Final = "/ip4/127.0.0.1/tcp/9771"
MAX_FILE_BYTES: Final = 1 << 20

_LISTEN: Final = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/[^/\s]+/tcp/\d{1,5}")
_P2P: Final = r"/p2p/[1-9A-HJ-NP-Za-km-z]+"
_ANNOUNCE: Final = re.compile(_LISTEN.pattern + _P2P)
_BOOTSTRAP: Final = re.compile(rf"(?:{_LISTEN.pattern}|/dnsaddr/[^/\s]+){_P2P}")
_TRADER: Final = re.compile(r"trader-([1-9]\d*)\.key")
_IMPORTED: Final = re.compile(r"imported-([1-9]\d*)\.json")


def default_data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """``$ORRANGE_DATA_DIR``, or ``orrange`` in the user's data directory (XDG)."""
    if named := environment.get("ORRANGE_DATA_DIR"):
        return Path(named)
    share = environment.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return Path(share) / "orrange"


@attrs.frozen
class DataDir:
    """Where everything of one node lies."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "node.toml"

    @property
    def network(self) -> Path:
        return self.path / "network.toml"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def seed(self) -> Path:
        """The encrypted seed that stands for all of the key files."""
        return self.keys / "seed.json"

    @property
    def peer_key(self) -> Path:
        return self.keys / "peer.key"

    @property
    def witness_key(self) -> Path:
        return self.keys / "witness.key"

    @property
    def reveal_key(self) -> Path:
        return self.keys / "reveal.key"

    def trader_key(self, number: int) -> Path:
        """Traders are counted from 1."""
        return self.keys / f"trader-{number}.key"

    def trader_keys(self) -> list[Path]:
        """The trader keys that are there, by number."""
        found = [path for path in self.keys.glob("trader-*.key") if _TRADER.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.stem.removeprefix("trader-")))

    def imported_key(self, number: int) -> Path:
        """A trader's key that is not of the seed, encrypted as that; counted from 1."""
        return self.keys / f"imported-{number}.json"

    def imported_keys(self) -> list[Path]:
        """Those that are there, by number."""
        found = [
            path for path in self.keys.glob("imported-*.json") if _IMPORTED.fullmatch(path.name)
        ]
        return sorted(found, key=lambda path: int(path.stem.removeprefix("imported-")))

    @property
    def store(self) -> Path:
        return self.path / "store.sqlite"

    @property
    def never_signed(self) -> Path:
        """There until the node's first start: its keys are new, so that an absent store is none
        that was lost."""
        return self.path / "never-signed"

    @property
    def chains(self) -> Path:
        return self.path / "chains"

    def sent(self, chain: str) -> Path:
        """What was sent to a chain."""
        return self.chains / f"{chain.replace(':', '-')}.sqlite"

    def sent_to(self) -> list[str]:
        """The chains, by CAIP-2 id, to which something may have been sent."""
        files = self.chains.glob("eip155-*.sqlite")
        return sorted(path.stem.replace("-", ":", 1) for path in files)

    @property
    def swaps(self) -> Path:
        """Where each swap stands."""
        return self.path / "swaps.sqlite"

    @property
    def followed(self) -> Path:
        """How far light clients here followed elected witnesses: they can be followed again."""
        return self.path / "followed.json"

    @property
    def history(self) -> Path:
        """What the home chain shows of accounts: it can be read again."""
        return self.path / "history.sqlite"

    @property
    def bonds(self) -> Path:
        """The bonds on Bitcoin that count in the network: they can be read again."""
        return self.path / "bonds.sqlite"

    @property
    def bundles(self) -> Path:
        """What it takes to end the open swaps on an empty machine."""
        return self.path / "swaps"

    @property
    def rpc_socket(self) -> Path:
        return self.path / "rpc.sock"

    @property
    def api_cookie(self) -> Path:
        return self.path / "api.cookie"

    @property
    def api_audit(self) -> Path:
        return self.path / "api-audit.jsonl"

    def load_genesis(self) -> genesis.Genesis:
        """The network of this node. Raises ``ConfigError`` that names the file."""
        return load_genesis(self.network)


@attrs.frozen
class NodeConfig:
    """What one node does."""

    data_dir: DataDir
    roles: tuple[str, ...] = ROLES
    """``witness`` signs ticks, ``trader`` writes logs; with neither the node follows."""
    traders: int = 1
    """How many trader keys of an encrypted seed are in use; plain key files count themselves."""
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    """Multiaddrs to listen on."""
    bootstrap: tuple[str, ...] = ()
    """Multiaddrs of peers to stay connected with, each ending in /p2p/<peer id>. Hosts may be names
    (/dns4/example.org/tcp/9771/p2p/...); /dnsaddr/example.org/p2p/... is what the TXT records of
    _dnsaddr.example.org say."""
    announce: tuple[str, ...] = ()
    """Multiaddrs under which others reach us though we do not listen on them ourselves: the
    outside of a router that forwards a port. Each ends in /p2p/<our peer id>."""
    lan_discovery: bool = False
    """Announce this node on the local network by multicast DNS, and dial others found there."""
    markets: tuple[MarketId, ...] = ()
    """The markets it carries; none named: all."""
    rpc_socket: Path = attrs.field(
        default=attrs.Factory(lambda self: self.data_dir.rpc_socket, takes_self=True)
    )
    """Where the local API listens."""
    log_level: str = "info"
    cancel_on: tuple[str, ...] = ()
    """When to cancel all own orders: at ``shutdown`` of the node, on ``disconnect`` from all peers.

    Shutdown waits up to 3 s for the commit. After 5 s without a peer the cancel is signed, and
    counts once a peer hears us again: cut off, nobody can be told anything, and only an order's own
    expiry ends it without us. Matches made before the cancel commits stand; whoever leaves them
    unaccepted pays as for any lapse (protocol/04-book.md): the order goes, limits halve for 256
    epochs, reputation falls.
    """

    max_exposure_lots: int = 0
    """Most lots in pending matches with one counterparty, for each author in each market; 0: any.

    A match is pending until both sides have accepted it. One beyond the limit is not accepted until
    others have ended, and `orrange status` counts it. If it lapses meanwhile we are the silent
    side, which costs what is said above. Orders smaller than the limit make that rare.
    """

    chains: tuple[ChainConfig, ...] = ()
    """The chains it settles on: tables [chain."eip155:1"], each with ``endpoints``, and
    [chain."bip122:<first block>"], each with the ``endpoint`` of a bitcoind."""
    settlements: tuple[SettlingConfig, ...] = ()
    """Where its trades are settled: tables [settlement."eip155:1"], each with ``contract``; none:
    nothing is settled. The contract moves what its owner has allowed it to."""
    swaps: tuple[SwapConfig, ...] = ()
    """Where the EVM legs of its swaps are locked: tables [swap."eip155:1"], each with ``contract``.
    Bitcoin's need no contract."""
    slash_with: int = 1
    """Which trader key shows the registry who forked or equivocated, pays for that transaction and
    gets a tenth of the bond; counted from 1. 0: none does, others will."""
    stand_again: bool = True
    """A witness that stands for seats in the registry stands again before its reveals end; its
    owner, a trader of this node, pays for that transaction."""
    api: ApiConfig | None = None
    """The HTTP API and the page: table [api]; none: only the socket."""
    archive: bool = False
    """Keep all records. Else what lies before the last checkpoint but one is forgotten."""
    checkpoint_epochs: int = CHECKPOINT_EPOCHS
    """Of so many epochs one state is kept as a checkpoint; best the same at all nodes of a network,
    for then they can serve a joining node together."""

    @property
    def evm_chains(self) -> tuple[EvmConfig, ...]:
        return tuple(one for one in self.chains if isinstance(one, EvmConfig))

    @property
    def bitcoin_chains(self) -> tuple[BitcoinConfig, ...]:
        return tuple(one for one in self.chains if isinstance(one, BitcoinConfig))

    @property
    def is_witness(self) -> bool:
        return "witness" in self.roles

    @property
    def is_trader(self) -> bool:
        return "trader" in self.roles

    def to_toml(self) -> str:
        """The text that ``load_config`` reads back to an equal configuration."""
        lines = [
            ("roles", _list(self.roles)),
            ("traders", str(self.traders)),
            ("listen", _list(self.listen)),
            ("bootstrap", _list(self.bootstrap)),
            ("announce", _list(self.announce)),
            ("lan_discovery", "true" if self.lan_discovery else "false"),
            ("markets", _list(f"0x{market.hex()}" for market in self.markets)),
            ("log_level", f'"{self.log_level}"'),
            ("cancel_on", _list(self.cancel_on)),
            ("max_exposure_lots", str(self.max_exposure_lots)),
            ("archive", "true" if self.archive else "false"),
            ("checkpoint_epochs", str(self.checkpoint_epochs)),
        ]
        if self.rpc_socket != self.data_dir.rpc_socket:
            lines.append(("rpc_socket", _quoted(str(self.rpc_socket))))
        settings = "".join(f"{name} = {value}\n" for name, value in lines)
        tables = chains_to_toml(self.chains) + settlements_to_toml(self.settlements)
        api = "" if self.api is None else self.api.to_toml()
        return settings + tables + swaps_to_toml(self.swaps) + api


def load_config(path: Path) -> NodeConfig:
    """Read ``node.toml`` of the data directory ``path``.

    Raises ``ConfigError`` that names file and key: unknown keys, wrong types, wrong values.
    """
    directory = DataDir(path)
    file = directory.config
    try:
        document = tomllib.loads(_read(file))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    unknown = sorted(set(document) - set(_KEYS))
    if unknown:
        raise ConfigError(f"{file}: {unknown[0]}: unknown key; known: {', '.join(_KEYS)}")
    values: dict[str, Any] = {}
    for name, value in document.items():
        try:
            values[name] = _KEYS[name](value)
        except ConfigError as error:
            raise ConfigError(f"{file}: {name}: {error}") from None
    values["chains"] = values.pop("chain", ())
    values["settlements"] = values.pop("settlement", ())
    values["swaps"] = values.pop("swap", ())
    known = {chain.chain for chain in values["chains"]}
    for section in ("settlement", "swap"):
        for one in values[f"{section}s"]:
            if one.chain not in known:
                raise ConfigError(
                    f'{file}: {section}: "{one.chain}": there is no [chain."{one.chain}"]'
                )
    if "rpc_socket" in values:
        values["rpc_socket"] = path / values["rpc_socket"]
    return NodeConfig(directory, **values)


def load_genesis(file: Path) -> genesis.Genesis:
    """Read a network file. Raises ``ConfigError`` that names the file."""
    text = _read(file)
    try:
        return genesis.parse_toml(text)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{file} is missing: `orrange init --data-dir {file.parent}` makes a data directory"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text") from None


# --- one parser per key; each raises ConfigError with what it wants ---

_Item = TypeVar("_Item")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigError(f"must be a text, not {value!r}")
    return value


def _array(parse: Callable[[str], _Item]) -> Callable[[object], tuple[_Item, ...]]:
    def parse_array(value: object) -> tuple[_Item, ...]:
        if not isinstance(value, list):
            raise ConfigError(f'must be a list of texts such as ["..."], not {value!r}')
        items = tuple(parse(_text(item)) for item in value)
        if len(set(items)) != len(items):
            raise ConfigError("lists something twice")
        return items

    return parse_array


def _one_of(known: tuple[str, ...]) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in known:
            raise ConfigError(f"{value!r} is none of: {', '.join(known)}")
        return _text(value)

    return parse


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_UINT63:
        raise ConfigError(f"must be a whole number from 0 on, not {value!r}")
    return value


def _positive(value: object) -> int:
    if _count(value) == 0:
        raise ConfigError("must be a whole number from 1 on, not 0")
    return _count(value)


def parse_listen(value: str) -> str:
    """Raises ``ConfigError`` unless it is a multiaddr that can be listened on."""
    if not _LISTEN.fullmatch(value) or int(value.rpartition("/")[2]) > 65535:
        raise ConfigError(f"{value!r} is not a multiaddr such as {DEFAULT_LISTEN}")
    return value


def parse_bootstrap(value: str) -> str:
    """Raises ``ConfigError`` unless it is a multiaddr that can be dialled."""
    if not _BOOTSTRAP.fullmatch(value):
        raise ConfigError(f"{value!r} is not a multiaddr such as {DEFAULT_LISTEN}/p2p/<peer id>")
    return value


def _announced(value: str) -> str:
    if not _ANNOUNCE.fullmatch(value):
        raise ConfigError(f"{value!r} is not a multiaddr such as {DEFAULT_LISTEN}/p2p/<peer id>")
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"must be true or false, not {value!r}")
    return value


def _market(value: str) -> MarketId:
    try:
        octets = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        octets = b""
    if len(octets) != 32:
        raise ConfigError(f"{value!r} is not a market id: 0x and 64 hexadecimal digits")
    return MarketId(octets)


_KEYS: Final[Mapping[str, Callable[[object], Any]]] = {
    "roles": _array(_one_of(ROLES)),
    "listen": _array(parse_listen),
    "bootstrap": _array(parse_bootstrap),
    "announce": _array(_announced),
    "lan_discovery": _bool,
    "markets": _array(_market),
    "rpc_socket": lambda value: Path(_text(value)),
    "log_level": _one_of(LOG_LEVELS),
    "cancel_on": _array(_one_of(CANCEL_ON)),
    "max_exposure_lots": _count,
    "traders": _count,
    "chain": parse_chains,
    "settlement": parse_settlements,
    "swap": parse_swaps,
    "slash_with": _count,
    "stand_again": _bool,
    "api": parse_api,
    "archive": _bool,
    "checkpoint_epochs": _positive,
}


def _list(items: Any) -> str:
    return "[" + ", ".join(map(_quoted, items)) + "]"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
