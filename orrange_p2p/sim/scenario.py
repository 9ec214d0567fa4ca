"""What is simulated: a TOML file, every key of which is optional but must be one of these."""

from __future__ import annotations

import enum
import re
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ticks import MAX_WITNESSES
from orrange_p2p.sim.latency import PLACES

__all__ = [
    "Attack",
    "AttackKind",
    "Candidate",
    "Chain",
    "Churn",
    "Eras",
    "Fidelity",
    "Growth",
    "Partition",
    "Scenario",
    "Traders",
    "load_scenario",
    "parse_scenario",
]

MAX_NODES: Final = 20_000
MAX_FULL_NODES: Final = 5_000
MAX_SECONDS: Final = 86_400
MAX_FILE_BYTES: Final = 1 << 20


class Fidelity(enum.StrEnum):
    """How much of a node is run."""

    FULL = "full"
    """Every node runs the whole core."""
    WIRE = "wire"
    """Messages spread and nothing is computed from them: for very large networks."""


class AttackKind(enum.StrEnum):
    """What attackers do."""

    SILENT = "silent"
    """Witnesses that never tick."""
    DELAY = "delay"
    """Witnesses that publish each tick ``delay_ms`` late."""
    WITHHOLD = "withhold"
    """Witnesses that give each tick to ``told`` other nodes alone, who spread it."""
    TWINS = "twins"
    """Witnesses that run twice with one key from ``from_s`` on, so that they sign two ticks for
    each round. Of a partition the second life is on another side."""
    MISLED = "misled"
    """Witnesses that are shown another home chain, and read other rosters off it."""
    FORK = "fork"
    """Traders that sign two entries for one number, and tell each half of the network another."""
    SPAM = "spam"
    """Traders that write ``per_s`` orders each second, or ``times`` their quota, ``batch`` in an
    entry, whatever they may; from ``from_s`` to ``until_s``. Each has bonded ``bond``."""
    REFUSE = "refuse"
    """Traders that place orders and never accept a match: last look and griefing in one."""
    SYBIL = "sybil"
    """Nodes, ``percent`` of all that are no witnesses, that take messages and forward none."""
    ECLIPSE = "eclipse"
    """``count`` nodes whose neighbours are all the attacker's: what is meant for them comes
    ``delay_ms`` late, or never if that is 0."""
    DEFAULT = "default"
    """Traders that do not pay for a trade that the price has moved against since it bound."""
    REORGANISE = "reorganise"
    """The chain's last ``depth`` blocks are replaced every ``every_s``, from ``from_s`` on."""
    FEE_SPIKE = "fee_spike"
    """From ``from_s`` to ``until_s`` blocks have room for ``percent`` of the trades, which pay the
    more."""


OF_WITNESSES: Final = (
    AttackKind.SILENT,
    AttackKind.DELAY,
    AttackKind.WITHHOLD,
    AttackKind.TWINS,
    AttackKind.MISLED,
)
OF_TRADERS: Final = (
    AttackKind.FORK,
    AttackKind.SPAM,
    AttackKind.REFUSE,
    AttackKind.DEFAULT,
)


def _number(default: int, least: int, most: int) -> Any:
    return attrs.field(default=default, metadata={"least": least, "most": most}, kw_only=True)


def _check(table: Any) -> None:
    for field in attrs.fields(type(table)):
        if "least" in field.metadata:
            value: object = getattr(table, field.name)
            least, most = field.metadata["least"], field.metadata["most"]
            if type(value) is not int or not least <= value <= most:
                raise ConfigError(
                    f"{field.name} must be an integer from {least} to {most}, not {value!r}"
                )
    if hasattr(table, "until_s") and table.until_s <= table.from_s:
        raise ConfigError(f"until_s must be later than from_s, which is {table.from_s}")


@attrs.frozen
class Traders:
    """Who trades. Each writes a log of its own at a node of its own, as far as there are nodes."""

    random: int = _number(8, 0, 10_000)
    """Traders with no intelligence: prices around a middle, either side, some that cross."""
    orders_per_s: int = _number(20, 0, 100_000)
    """Of all of those together."""
    makers: int = _number(0, 0, 1_000)
    """Market makers: once a second each replaces its two quotes around the last price it saw."""
    takers: int = _number(0, 0, 1_000)
    """Takers: every ten seconds each sends twenty orders at once that cross the book."""
    racers: int = _number(0, 0, 1_000)
    """Latency racers: each answers an order that it sees on the wire by a better one at once."""
    feed: str = attrs.field(default="", kw_only=True)
    """A recorded Bitstamp log to replay, beside this file; ``sample``: the one that ships."""
    feed_speed: int = _number(1, 1, 1_000)
    """How many times faster than recorded."""
    feed_authors: int = _number(8, 1, 10_000)

    @property
    def count(self) -> int:
        feed_authors = self.feed_authors if self.feed else 0
        return self.random + self.makers + self.takers + self.racers + feed_authors


@attrs.frozen
class Partition:
    """The network falls into parts that hear nothing of each other."""

    from_s: int = _number(10, 0, MAX_SECONDS)
    until_s: int = _number(20, 1, MAX_SECONDS)
    sides: int = _number(2, 2, 16)
    """Nodes and witnesses go to them in turn."""


@attrs.frozen
class Churn:
    """Nodes that are no witnesses go offline and come back, in turn."""

    from_s: int = _number(5, 0, MAX_SECONDS)
    until_s: int = _number(50, 1, MAX_SECONDS)
    percent: int = _number(10, 1, 100)
    """Of nodes, at any time."""
    away_s: int = _number(10, 1, MAX_SECONDS)


@attrs.frozen
class Growth:
    """The network starts small and grows by the same factor each second."""

    start: int = _number(10, 1, MAX_NODES)
    from_s: int = _number(0, 0, MAX_SECONDS)
    until_s: int = _number(60, 1, MAX_SECONDS)


@attrs.frozen
class Attack:
    """Somebody's ill will. Which keys count depends on ``kind``."""

    kind: AttackKind = attrs.field(kw_only=True)
    count: int = _number(1, 1, MAX_NODES)
    """Attackers: the last ones of the witnesses, or of the random traders."""
    percent: int = _number(10, 1, 90)
    delay_ms: int = _number(0, 0, 600_000)
    told: int = _number(1, 0, MAX_NODES)
    per_s: int = _number(50, 1, 10_000)
    from_s: int = _number(0, 0, MAX_SECONDS)
    until_s: int = _number(MAX_SECONDS, 1, MAX_SECONDS)
    every_s: int = _number(20, 1, MAX_SECONDS)
    depth: int = _number(2, 1, 100)
    times: int = _number(0, 0, 1_000_000)
    """Of what the book lets an attacker do; those of the lane have equal parts of it. 0: ``per_s``
    says it."""
    batch: int = _number(1, 1, 512)
    bond: int = _number(1_000, 0, 1_000_000_000)
    """Whole ones; of the traders that do no ill it is 1,000."""


@attrs.frozen
class Chain:
    """The chain on which trades settle."""

    block_ms: int = _number(2_000, 100, 3_600_000)
    confirmations: int = _number(6, 0, 1_000)
    """Blocks above one that make it final."""
    trades_per_block: int = _number(200, 1, 100_000)
    fallback_ms: int = _number(30_000, 0, 3_600_000)
    """The maker's side sends at once, the other if it has not by then."""
    lifetime_s: int = _number(3_600, 1, 86_400)
    """After its match a trade can settle for so long."""


@attrs.frozen
class Eras:
    """Eras whose witnesses are elected out of a home chain; without them the first ones stay."""

    BOND: ClassVar[int] = 1_000

    era_s: int = _number(120, 10, MAX_SECONDS)
    pin_s: int = _number(60, 2, MAX_SECONDS)
    """So long before an era ends, the chain is read for the next."""
    handover_s: int = _number(30, 1, MAX_SECONDS)
    """So long before an era ends, the state names the next one's roster."""
    seats: int = _number(MAX_WITNESSES, 1, MAX_WITNESSES)
    block_ms: int = _number(2_000, 100, 3_600_000)
    """Of the home chain."""
    read_within_ms: int = _number(5_000, 1, 3_600_000)
    """Each node reads a roster so late at most, drawn anew for each."""
    slash_after_s: int = _number(10, 0, MAX_SECONDS)
    """From the first proof to the block that shows the slash."""


@attrs.frozen
class Candidate:
    """From when to when a witness stands for the seats, if not from the start to the end. Whoever
    begins later is no witness of the first era."""

    witness: int = _number(0, 0, MAX_WITNESSES - 1)
    from_s: int = _number(0, 0, MAX_SECONDS)
    until_s: int = _number(MAX_SECONDS, 1, MAX_SECONDS)
    bond: int = _number(Eras.BOND, 1, 1_000_000_000)


@attrs.frozen
class Scenario:
    """A network, what it is given to do, and what goes wrong in it."""

    name: str = attrs.field(default="unnamed", kw_only=True)
    seed: int = _number(1, 0, (1 << 63) - 1)
    seconds: int = _number(60, 1, MAX_SECONDS)
    """Simulated."""
    fidelity: Fidelity = attrs.field(default=Fidelity.FULL, kw_only=True)
    nodes: int = _number(16, 1, MAX_NODES)
    """The first ones are the witnesses."""
    witnesses: int = _number(4, 1, MAX_WITNESSES)
    degree: int = _number(6, 1, 64)
    """Mesh neighbours of a node on average: half are of its own choice, half chose it."""
    places: tuple[str, ...] = attrs.field(default=("US", "DE", "JP", "BR", "ZA"), kw_only=True)
    """Countries among which nodes are spread in turn: latencies are those between them."""
    link_ms: int = _number(0, 0, 10_000)
    """One way between any two nodes, instead of the countries'; 0: the countries'."""
    min_round_ms: int = _number(250, 10, 60_000)
    leader_timeout_ms: int = _number(1000, 10, 600_000)
    operations_per_round: int = _number(32, 1, 1 << 20)
    """What a trader may write; ten rounds' worth at once."""
    bandwidth_kbps: int = _number(50_000, 1, 8_000_000)
    """Of each node's uplink: what it sends waits for what it sent before."""
    loss_ppm: int = _number(0, 0, 999_999)
    """Of messages between two nodes, in millionths."""
    flush_ms: int = _number(20, 0, 1_000)
    """What a node waits for more to send with an entry."""
    process_us: int = _number(1_000, 0, 1_000_000)
    """What a node takes to check a message before it goes on."""
    copy_us: int = _number(0, 0, 1_000_000)
    """Processor time that each copy of a message costs who gets it; what comes meanwhile waits."""
    chain: Chain = attrs.field(factory=Chain, kw_only=True)
    traders: Traders = attrs.field(factory=Traders, kw_only=True)
    growth: Growth | None = attrs.field(default=None, kw_only=True)
    partition: tuple[Partition, ...] = attrs.field(default=(), kw_only=True)
    churn: tuple[Churn, ...] = attrs.field(default=(), kw_only=True)
    eras: Eras | None = attrs.field(default=None, kw_only=True)
    candidate: tuple[Candidate, ...] = attrs.field(default=(), kw_only=True)
    attack: tuple[Attack, ...] = attrs.field(default=(), kw_only=True)

    def __attrs_post_init__(self) -> None:
        _check(self)
        if not str(self.name).isprintable() or not self.name:
            raise ConfigError(f"name must be a text, not {self.name!r}")
        if self.witnesses > self.nodes:
            raise ConfigError(f"witnesses: {self.witnesses} of only {self.nodes} nodes")
        if self.nodes > 1 and self.degree >= self.nodes:
            raise ConfigError(f"degree: {self.degree} neighbours among {self.nodes} nodes")
        if self.fidelity is Fidelity.FULL and self.nodes > MAX_FULL_NODES:
            raise ConfigError(
                f"nodes: {self.nodes} with the whole core; up to {MAX_FULL_NODES}, or "
                'fidelity = "wire"'
            )
        if not self.places:
            raise ConfigError("places must name a country at least")
        for place in self.places:
            if place not in PLACES:
                raise ConfigError(f"places: {place!r} is none of {', '.join(PLACES)}")
        if self.growth is not None and not self.witnesses <= self.growth.start <= self.nodes:
            raise ConfigError(
                f"growth: it starts with {self.growth.start} nodes; that must be all "
                f"{self.witnesses} witnesses, and at most {self.nodes} nodes"
            )
        self._check_eras()
        self._check_attackers(OF_WITNESSES, self.witnesses, "witnesses")
        self._check_attackers(OF_TRADERS, self.traders.random, "random traders")
        if self.eras is None and any(attack.times for attack in self.attack):
            raise ConfigError("attack: a quota follows from reputation, which needs [eras]")

    def _check_attackers(self, kinds: tuple[AttackKind, ...], there: int, what: str) -> None:
        wanted = sum(attack.count for attack in self.attack if attack.kind in kinds)
        if wanted > there:
            raise ConfigError(f"attack: {wanted} of {there} {what}")

    def _check_eras(self) -> None:
        eras = self.eras
        if eras is None:
            if self.candidate:
                raise ConfigError("candidate: nobody is elected without [eras]")
            if any(attack.kind is AttackKind.MISLED for attack in self.attack):
                raise ConfigError("attack: nobody reads rosters without [eras]")
            return
        if self.fidelity is Fidelity.WIRE:
            raise ConfigError('eras need the whole core, not fidelity = "wire"')
        if not eras.handover_s < eras.pin_s < eras.era_s:
            raise ConfigError("eras need handover_s < pin_s < era_s")
        for one in self.candidate:
            if one.witness >= self.witnesses:
                raise ConfigError(
                    f"candidate: witness {one.witness} of only {self.witnesses}, counted from 0"
                )
        if not any(self.candidacy(n).from_s == 0 for n in range(self.witnesses)):
            raise ConfigError("candidate: the first era needs a witness that stands from 0 on")

    def candidacy(self, witness: int) -> Candidate:
        """When a witness stands for the seats."""
        found = [one for one in self.candidate if one.witness == witness]
        return found[-1] if found else Candidate(witness=witness)

    @property
    def faulty_witnesses(self) -> int:
        """How many witnesses do what an honest one would not."""
        return sum(attack.count for attack in self.attack if attack.kind in OF_WITNESSES)

    @property
    def faults_borne(self) -> int:
        """The most that a network of so many witnesses bears: less than a third."""
        return (self.witnesses - 1) // 3

    @property
    def digest(self) -> str:
        """Names what is simulated, the seed apart."""
        return sha256(repr(attrs.evolve(self, seed=0)).encode()).hexdigest()[:16]

    def evolved(self, **changes: Any) -> Scenario:
        """With other values; raises ``ConfigError`` if they do not fit."""
        return attrs.evolve(self, **changes)


def load_scenario(path: Path) -> Scenario:
    """Raises ``ConfigError`` that names the file and the line."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"larger than {MAX_FILE_BYTES} bytes")
        return parse_scenario(content.decode(), path.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


_TABLES: Final[dict[str, type[Any]]] = {
    "traders": Traders,
    "chain": Chain,
    "growth": Growth,
    "eras": Eras,
    "candidate": Candidate,
    "partition": Partition,
    "churn": Churn,
    "attack": Attack,
}
_REPEATED: Final = ("partition", "churn", "candidate", "attack")
_CHOICES: Final[dict[str, type[enum.StrEnum]]] = {"kind": AttackKind, "fidelity": Fidelity}


def parse_scenario(text: str, folder: Path = Path()) -> Scenario:
    """Raises ``ConfigError`` that names the line, if it is one. ``folder``: where a feed is."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}") from None
    lines = _Lines(text)
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in _TABLES:
            values[name] = tuple(value) if isinstance(value, list) else value
        elif name in _REPEATED:
            if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
                raise ConfigError(f"{lines.of(name)}write it as [[{name}]]")
            values[name] = tuple(
                _made(_TABLES[name], one, lines, name, place) for place, one in enumerate(value)
            )
        elif isinstance(value, dict):
            values[name] = _made(_TABLES[name], value, lines, name)
        else:
            raise ConfigError(f"{lines.of(name)}write it as [{name}]")
    scenario: Scenario = _made(Scenario, values, lines)
    feed = scenario.traders.feed
    if feed and feed != "sample":
        path = folder / feed
        if not path.is_file():
            raise ConfigError(f"{lines.of('feed', 'traders')}feed: there is no file {path}")
        scenario = scenario.evolved(traders=attrs.evolve(scenario.traders, feed=str(path)))
    return scenario


def _made(
    kind: type[Any], values: Mapping[str, Any], lines: _Lines, table: str = "", place: int = 0
) -> Any:
    known = [field.name for field in attrs.fields(kind)]
    chosen = dict(values)
    for name, value in values.items():
        line = lines.of(name, table, place)
        if name not in known:
            raise ConfigError(f"{line}unknown key {name!r}; known: {', '.join(known)}")
        if name in _CHOICES:
            choices = [one.value for one in _CHOICES[name]]
            if value not in choices:
                raise ConfigError(f"{line}{name} must be one of {', '.join(choices)}")
            chosen[name] = _CHOICES[name](value)
        elif name == "feed" and not isinstance(value, str):
            raise ConfigError(f"{line}feed must be the name of a file")
    if kind is Attack and "kind" not in chosen:
        kinds = ", ".join(one.value for one in AttackKind)
        raise ConfigError(f"{lines.of('', table, place)}an attack needs a kind: {kinds}")
    try:
        made = kind(**chosen)
        if kind is not Scenario:
            _check(made)
    except ConfigError as error:
        blamed = next((name for name in known if str(error).startswith(name)), "")
        raise ConfigError(f"{lines.of(blamed, table, place)}{error}") from None
    return made


class _Lines:
    """Where in a file a key is."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def of(self, key: str, table: str = "", place: int = 0) -> str:
        """Of a key in the table of that name, the ``place``-th of it; of the table without one."""
        inside, seen = "", {"": 0}
        for number, line in enumerate(self._lines, 1):
            header = re.match(r"\s*\[\[?\s*([\w-]+)", line)
            if header is not None:
                inside = header[1]
                seen[inside] = seen.get(inside, -1) + 1
                is_it = (not table and inside == key) or (not key and inside == table)
            else:
                is_it = inside == table and re.match(rf"\s*{re.escape(key)}\b", line) is not None
                is_it = is_it and bool(key)
            if is_it and (not table or seen[inside] == place):
                return f"line {number}: "
        return ""
