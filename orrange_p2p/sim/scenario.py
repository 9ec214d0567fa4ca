"""What is simulated: a TOML file, every key of which is optional but must be one of these."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import attrs

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ticks import MAX_WITNESSES
from orrange_p2p.sim.latency import PLACES

__all__ = ["Scenario", "load_scenario", "parse_scenario"]

MAX_NODES: Final = 10_000
MAX_FILE_BYTES: Final = 1 << 20


def _number(default: int, least: int, most: int) -> Any:
    return attrs.field(default=default, metadata={"least": least, "most": most}, kw_only=True)


@attrs.frozen
class Scenario:
    """A network, what it is given to do, and what goes wrong in it."""

    name: str = attrs.field(default="unnamed", kw_only=True)
    seed: int = _number(1, 0, (1 << 63) - 1)
    seconds: int = _number(60, 1, 86_400)
    """Simulated."""
    nodes: int = _number(16, 1, MAX_NODES)
    """Each runs the whole core. The first ones are the witnesses."""
    witnesses: int = _number(4, 1, MAX_WITNESSES)
    degree: int = _number(6, 1, 64)
    """Mesh neighbours of a node on average: half are of its own choice, half chose it."""
    places: tuple[str, ...] = attrs.field(default=("US", "DE", "JP", "BR", "ZA"), kw_only=True)
    """Countries among which nodes are spread in turn: latencies are those between them."""
    min_round_ms: int = _number(250, 10, 60_000)
    leader_timeout_ms: int = _number(1000, 10, 600_000)
    orders_per_s: int = _number(20, 0, 100_000)
    authors: int = _number(8, 1, 10_000)
    """Traders with no intelligence: prices around a middle, either side, some that cross."""
    bandwidth_kbps: int = _number(50_000, 1, 100_000_000)
    """Of each node's uplink: what it sends waits for what it sent before."""
    loss_ppm: int = _number(0, 0, 999_999)
    """Of messages between two nodes, in millionths."""
    silent_witnesses: int = _number(0, 0, MAX_WITNESSES)
    """The last ones of them never tick."""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Scenario):
            if "least" in field.metadata:
                value, least, most = getattr(self, field.name), *field.metadata.values()
                if type(value) is not int or not least <= value <= most:
                    raise ConfigError(
                        f"{field.name} must be an integer from {least} to {most}, not {value!r}"
                    )
        if not str(self.name).isprintable() or not self.name:
            raise ConfigError(f"name must be a text, not {self.name!r}")
        if self.witnesses > self.nodes:
            raise ConfigError(f"witnesses: {self.witnesses} of only {self.nodes} nodes")
        if self.silent_witnesses > self.witnesses:
            raise ConfigError(f"silent_witnesses: {self.silent_witnesses} of {self.witnesses}")
        if self.nodes > 1 and self.degree >= self.nodes:
            raise ConfigError(f"degree: {self.degree} neighbours among {self.nodes} nodes")
        if not self.places:
            raise ConfigError("places must name a country at least")
        for place in self.places:
            if place not in PLACES:
                raise ConfigError(f"places: {place!r} is none of {', '.join(PLACES)}")

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
        return parse_scenario(content.decode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_scenario(text: str) -> Scenario:
    """Raises ``ConfigError`` that names the line, if it is one."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}") from None
    known = [field.name for field in attrs.fields(Scenario)]
    for name, value in document.items():
        if name not in known:
            raise ConfigError(f"{_line(text, name)}unknown key {name!r}; known: {', '.join(known)}")
        if isinstance(value, list):
            document[name] = tuple(value)
    try:
        return Scenario(**document)
    except ConfigError as error:
        blamed = next((name for name in known if str(error).startswith(name)), "")
        raise ConfigError(f"{_line(text, blamed)}{error}") from None


def _line(text: str, key: str) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        if key and re.match(rf"\s*\[?{re.escape(key)}\b", line):
            return f"line {number}: "
    return ""
