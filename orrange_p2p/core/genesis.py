"""Genesis: what all nodes of a network agree on before the first tick (protocol/01-records.md).

Written by people as ``network.toml``; its canonical encoding names the network.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, TypeVar

import attrs

from orrange_p2p.core import codec
from orrange_p2p.core.assets import check_asset, check_chain, evm_chain_id
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import (
    MAX_UINT63,
    Address,
    MarketId,
    NetworkId,
    TimeMs,
    Weight,
)
from orrange_p2p.core.reveals import CHAIN_LENGTH
from orrange_p2p.core.swaps.schedule import chain_classes
from orrange_p2p.core.ticks import MAX_WITNESSES
from orrange_p2p.crypto.eip712 import domain_separator
from orrange_p2p.crypto.hashes import sha256

PROTOCOL_VERSION: Final = "1"
DOMAIN_NAME: Final = "Orrange"
CLOSING_ROUNDS: Final = 64
"""Rounds of an era beyond its time, in which the leader that closes it gets committed."""
NO_ADDRESS: Final = Address(bytes(20))
SETTLEMENT_KINDS: Final = ("atomic", "htlc", "escrow")


@attrs.frozen(slots=True)
class Market:
    """What is traded against what, and in which steps. A market is the shard of the network."""

    base: str
    """CAIP-19 id of the asset bought and sold."""
    quote: str
    """CAIP-19 id of the asset paid with."""
    tick_size: int
    """Smallest units of quote that one lot costs per price tick: amounts never need rounding."""
    lot_size: int
    """Smallest units of base in one lot."""
    settlement: str
    """``atomic``, ``htlc`` or ``escrow``."""
    timing: str
    """Name of the class of timelocks its swaps use."""
    rate_numerator: int
    rate_denominator: int
    """Micro-units of the bond asset per smallest unit of quote, as a fraction; no oracle."""
    volatility_ppm: int
    """Daily volatility of the price in parts per million, for the bound on exposure."""

    def __attrs_post_init__(self) -> None:
        check_asset(self.base)
        check_asset(self.quote)
        if self.base == self.quote:
            raise ConfigError("a market needs two different assets")
        if self.settlement not in SETTLEMENT_KINDS:
            raise ConfigError(f"settlement {self.settlement!r}: one of {SETTLEMENT_KINDS}")
        if self.settlement == "htlc":
            chain_classes(self.timing)
        _at_least_one(self, "tick_size", "lot_size", "rate_numerator", "rate_denominator")
        if not 0 <= self.volatility_ppm <= MAX_UINT63:
            raise ConfigError("volatility_ppm must be in 0 .. 2^63-1")

    @cached_property
    def id(self) -> MarketId:
        """SHA-256 of the encoded record."""
        return MarketId(sha256(codec.encode(attrs.astuple(self))))


@attrs.frozen(slots=True)
class Witness:
    """A witness of the first era."""

    address: Address
    weight: Weight
    anchors: tuple[bytes, ...]
    """Market by market, in their order, and as many for each: 32 bytes, the hash of a chain's
    reveal at position 0. A chain lasts ``Parameters.chain_eras``; then the next one begins.

    Each market has chains of its own, or the fastest would give away the others' seeds.
    """


@attrs.frozen(slots=True)
class Author:
    """An author known from the start, with its reputation."""

    address: Address
    reputation: int


@attrs.frozen(slots=True)
class Parameters:
    """Times, deadlines and limits. All are rules that every node applies alike."""

    min_round_ms: int = 250
    """A witness stays at least this long in a round."""
    leader_timeout_ms: int = 1000
    """How long it then waits for the leader; doubles while rounds stay undecided."""
    era_ms: int = 3_600_000
    rounds_per_era: int = 16_384
    """Most rounds of an era; a witness's hash chain has this many reveals for each."""
    accept_deadline_epochs: int = 16
    """How long both sides may take to accept, from when a quorum has applied the match."""
    penalty_epochs: int = 256
    """How long the limits of an author who let a match lapse are halved."""
    applied_interval_epochs: int = 8
    """Witnesses vouch for the roots of epochs divisible by this."""
    order_lifetime_ms: int = 86_400_000
    trade_lifetime_ms: int = 3_600_000
    """From its match on a trade may be settled for so long, by the time of the chain."""
    operations_per_round: int = 64
    """Refill of everybody's token bucket, where nobody is elected."""
    operations_burst: int = 4096
    """Size of that bucket."""
    open_orders: int = 4096
    """Most orders an owner may have open or reserved, likewise."""
    elected_witnesses: int = 0
    """Seats of an era that the registry fills; 0: the witnesses of genesis stay for good."""
    handover_ms: int = 600_000
    """So long before an era ends, the state names the next one's roster."""
    pin_ms: int = 1_800_000
    """So long before an era ends, the registry is read for the next."""
    bond_unit: int = 1
    """Smallest units of the bond token in a micro-unit: 10^12 for a token of 18 decimals."""
    market_operations_per_round: int = 2048
    """With elections: what reputation divides, of refills,"""
    market_operations_burst: int = 131_072
    """of bursts,"""
    market_open_orders: int = 65_536
    """and of live orders in one market."""
    lane_operations_per_round: int = 64
    """Likewise of all together who have no reputation to speak of."""
    lane_operations_burst: int = 512
    lane_open_orders: int = 2048
    lane_order_notional: int = 100_000_000
    """Micro-units of the bond asset: the most that one order of theirs may be worth."""

    def __attrs_post_init__(self) -> None:
        names = {field.name for field in attrs.fields(type(self))} - {"elected_witnesses"}
        _at_least_one(self, *sorted(names))
        if not 0 <= self.elected_witnesses <= MAX_WITNESSES:
            raise ConfigError(f"elected_witnesses must be in 0 .. {MAX_WITNESSES}")
        if self.rounds_per_era > CHAIN_LENGTH:
            raise ConfigError(f"rounds_per_era must be at most {CHAIN_LENGTH}, a chain of reveals")
        if self.elected_witnesses and not self.handover_ms < self.pin_ms < self.era_ms:
            raise ConfigError("elections need handover_ms < pin_ms < era_ms")

    @property
    def chain_eras(self) -> int:
        """For how many eras a chain of reveals lasts."""
        return CHAIN_LENGTH // self.rounds_per_era


@attrs.frozen(slots=True)
class Genesis:
    """A network."""

    name: str
    home_chain: str
    """CAIP-2 id of the chain that holds the registry."""
    registry: Address
    """Zero if the network has none."""
    start_ms: TimeMs
    """Epoch time of epoch 0, start of era 0."""
    open: bool
    """Whether authors neither listed here nor registered may trade: development only."""
    parameters: Parameters
    witnesses: tuple[Witness, ...]
    """Ascending by address."""
    authors: tuple[Author, ...]
    """Ascending by address."""
    markets: tuple[Market, ...]
    settlement: Address = NO_ADDRESS
    """The network's ``Settlement`` on the home chain, which reputation reads; zero if none."""
    bitcoin_bonds: str = ""
    """CAIP-2 id of the Bitcoin chain whose bonds count; empty: none do."""
    bitcoin_rate_numerator: int = 1
    bitcoin_rate_denominator: int = 1
    """Micro-units of the bond asset per satoshi, as a fraction; no oracle."""

    def __attrs_post_init__(self) -> None:
        evm_chain_id(self.home_chain)
        if len(self.settlement) != 20:
            raise ConfigError("settlement must be an address")
        self._check_bitcoin()
        if not 1 <= len(self.name.encode()) <= 64 or not self.name.isprintable():
            raise ConfigError("the network's name must have 1 .. 64 bytes of printable text")
        if len(self.registry) != 20 or not 0 <= self.start_ms <= MAX_UINT63:
            raise ConfigError("registry must be an address and start_ms a time")
        if self.parameters.elected_witnesses and not any(self.registry):
            raise ConfigError("a network without a registry elects no witnesses")
        if not 1 <= len(self.witnesses) <= MAX_WITNESSES:
            raise ConfigError(f"a network needs 1 .. {MAX_WITNESSES} witnesses")
        if not self.markets:
            raise ConfigError("a network needs a market")
        if len({market.id for market in self.markets}) != len(self.markets):
            raise ConfigError("two markets are the same")
        for what, listed in (("witnesses", self.witnesses), ("authors", self.authors)):
            addresses = [one.address for one in listed]
            if addresses != sorted(set(addresses)) or any(len(a) != 20 for a in addresses):
                raise ConfigError(f"{what} must be addresses in ascending order, each once")
        if any(not 0 <= author.reputation <= MAX_UINT63 for author in self.authors):
            raise ConfigError("an author's reputation must be in 0 .. 2^63-1")
        for witness in self.witnesses:
            if not 1 <= witness.weight < 1 << 32:
                raise ConfigError("a witness's weight must be in 1 .. 2^32-1")
            chains, rest = divmod(len(witness.anchors), len(self.markets))
            is_whole = chains >= 1 and rest == 0
            if not is_whole or any(len(anchor) != 32 for anchor in witness.anchors):
                raise ConfigError(
                    "a witness needs one anchor for each market, or equally many for each, market "
                    "by market in their order, of 32 bytes"
                )

    def _check_bitcoin(self) -> None:
        _at_least_one(self, "bitcoin_rate_numerator", "bitcoin_rate_denominator")
        if not self.bitcoin_bonds:
            if self._bitcoin_rate != (1, 1):
                raise ConfigError("a rate of bitcoin says nothing without bitcoin_bonds")
            return
        if not check_chain(self.bitcoin_bonds).startswith("bip122:"):
            raise ConfigError(f"bitcoin_bonds {self.bitcoin_bonds!r} must be a chain 'bip122:...'")
        if not any(self.registry):
            raise ConfigError("bitcoin_bonds needs a registry, in which their keys are bound")

    @property
    def _bitcoin_rate(self) -> tuple[int, int]:
        return (self.bitcoin_rate_numerator, self.bitcoin_rate_denominator)

    def encode(self) -> bytes:
        """The canonical record: with an item more where bonds on Bitcoin count."""
        bitcoin = ((self.bitcoin_bonds, *self._bitcoin_rate),) if self.bitcoin_bonds else ()
        return codec.encode(
            (
                self.name,
                self.home_chain,
                self.registry,
                self.start_ms,
                int(self.open),
                attrs.astuple(self.parameters),
                tuple(attrs.astuple(witness) for witness in self.witnesses),
                tuple(attrs.astuple(author) for author in self.authors),
                tuple(attrs.astuple(market) for market in self.markets),
                self.settlement,
                *bitcoin,
            )
        )

    @cached_property
    def network_id(self) -> NetworkId:
        """SHA-256 of the canonical record."""
        return NetworkId(sha256(self.encode()))

    @cached_property
    def separator(self) -> bytes:
        """EIP-712 domain separator under which everything of this network is signed."""
        return domain_separator(
            DOMAIN_NAME,
            PROTOCOL_VERSION,
            evm_chain_id(self.home_chain),
            self.registry,
            self.network_id,
        )

    def anchors(self, market_id: MarketId) -> dict[Address, tuple[bytes, ...]]:
        """Per witness the anchors of its reveal chains in a market, in their order."""
        place = [market.id for market in self.markets].index(market_id)
        found = {}
        for witness in self.witnesses:
            chains = len(witness.anchors) // len(self.markets)
            found[witness.address] = witness.anchors[place * chains : (place + 1) * chains]
        return found

    def market(self, market_id: MarketId) -> Market:
        """The market of that id; raises ``ConfigError``."""
        for market in self.markets:
            if market.id == market_id:
                return market
        raise ConfigError(f"network {self.name!r} has no market 0x{market_id.hex()}")


def _at_least_one(record: object, *names: str) -> None:
    for name in names:
        if not 1 <= getattr(record, name) <= MAX_UINT63:
            raise ConfigError(f"{name} must be in 1 .. 2^63-1")


# --- network.toml ---------------------------------------------------------------------------


def parse_toml(text: str) -> Genesis:
    """Read ``network.toml``. Raises ``ConfigError`` that names the key; unknown keys are errors.

    So are eras that would run out of rounds before their time is over: the market would halt.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"network file is not TOML: {error}") from None
    parameters = _table(document, "parameters", default={})
    witnesses = [_record(Witness, row, "witnesses") for row in _rows(document, "witnesses")]
    authors = [_record(Author, row, "authors") for row in _rows(document, "authors")]
    markets = [_record(Market, row, "markets") for row in _rows(document, "markets")]
    genesis = _record(
        Genesis,
        {
            **document,
            "parameters": _record(Parameters, parameters, "parameters"),
            "witnesses": tuple(sorted(witnesses, key=lambda witness: witness.address)),
            "authors": tuple(sorted(authors, key=lambda author: author.address)),
            "markets": tuple(markets),
        },
        "network file",
    )
    times = genesis.parameters
    if (times.rounds_per_era - CLOSING_ROUNDS) * times.min_round_ms < times.era_ms:
        raise ConfigError(
            "parameters: rounds_per_era is too small: an era takes up to era_ms / min_round_ms "
            f"rounds and {CLOSING_ROUNDS} more to close"
        )
    return genesis


def to_toml(genesis: Genesis) -> str:
    """The text that ``parse_toml`` reads back to an equal genesis."""
    lines = [f"{name} = {_literal(value)}" for name, value in _scalars(genesis)]
    lines += ["", "[parameters]"]
    lines += [f"{name} = {_literal(value)}" for name, value in _scalars(genesis.parameters)]
    tables: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("witnesses", genesis.witnesses),
        ("authors", genesis.authors),
        ("markets", genesis.markets),
    )
    for title, records in tables:
        for record in records:
            lines += ["", f"[[{title}]]"]
            lines += [f"{name} = {_literal(value)}" for name, value in _scalars(record)]
    return "\n".join(lines) + "\n"


def _scalars(record: Any) -> list[tuple[str, Any]]:
    names = (field.name for field in attrs.fields(type(record)) if field.name not in _NESTED)
    return [(name, getattr(record, name)) for name in names]


def _literal(value: _Scalar) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return f'"0x{value.hex()}"'
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


_Record = TypeVar("_Record")
_Scalar = int | str | bytes | tuple[bytes, ...]
_BYTES: Final = {"address": 20, "registry": 20, "settlement": 20, "anchors": 32}
_NESTED: Final = {"parameters", "witnesses", "authors", "markets"}


def _record(cls: type[_Record], table: Mapping[str, Any], where: str) -> _Record:
    fields = {field.name: field for field in attrs.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(fields)}")
    values = {}
    for name, field in fields.items():
        if name not in table:
            if field.default is attrs.NOTHING:
                raise ConfigError(f"{where}: {name!r} is missing")
            continue
        values[name] = table[name] if name in _NESTED else _scalar(name, field, table[name], where)
    return cls(**values)


def _scalar(name: str, field: Any, value: Any, where: str) -> _Scalar:
    if name == "anchors":
        if not isinstance(value, list):
            raise ConfigError(f"{where}: {name!r} must be a list")
        return tuple(_hex(name, item, where) for item in value)
    if name in _BYTES and field.type != "str":  # a market has a kind of settlement
        return _hex(name, value, where)
    if field.type in ("bool", "str"):
        if type(value).__name__ != field.type:
            raise ConfigError(f"{where}: {name!r} must be of type {field.type}")
    elif type(value) is not int or not 0 <= value <= MAX_UINT63:
        raise ConfigError(f"{where}: {name!r} must be an integer in 0 .. 2^63-1")
    scalar: int | str | bool = value
    return scalar


def _hex(name: str, value: Any, where: str) -> bytes:
    size = _BYTES[name]
    text = value.removeprefix("0x") if isinstance(value, str) else ""
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if len(octets) != size:
        raise ConfigError(f"{where}: {name!r} must be 0x and {2 * size} hexadecimal digits")
    return octets


def _table(document: Mapping[str, Any], name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
    table = document.get(name, default)
    if not isinstance(table, Mapping):
        raise ConfigError(f"{name!r} must be a table: [{name}]")
    return table


def _rows(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = document.get(name, [])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ConfigError(f"{name!r} must be an array of tables: [[{name}]]")
    return rows
