"""Recovery bundles: all that it takes, beside the seed, to end a swap on an empty machine.

One file for each open swap, there before its first lock. It holds no secrets: a watchtower may have
it. What the chains show decides what is done with it, so an old one does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from orrange_p2p.core.errors import ConfigError, MalformedError, StoreError
from orrange_p2p.core.ids import MatchId
from orrange_p2p.core.swaps.agreement import Deal, decode_swap, encode_swap
from orrange_p2p.core.swaps.htlc import Swap
from orrange_p2p.core.swaps.legs import Lock
from orrange_p2p.daemon.files import write_whole

__all__ = ["Bundle", "Bundles", "read_bundle"]

FORMAT: Final = "orrange swap 1"
MAX_BUNDLE_BYTES: Final = 1 << 20
MAX_RESCUE_BYTES: Final = 100_000
_NAME: Final = "{}.json"


class Bundle(NamedTuple):
    """One swap, as it is handed on."""

    deal: Deal
    swap: Swap
    own_rescue: bytes = b""
    """For the lock that we make, ``Leg.rescue``; empty where none is needed, or not yet there."""
    other_rescue: bytes = b""
    """Likewise for the other's."""

    @property
    def name(self) -> MatchId:
        return self.deal.id

    def encode(self) -> str:
        """JSON: what is read again as hexadecimal digits, and the same in words for people."""
        own, other = self.swap.own, self.swap.other
        return (
            json.dumps(
                {
                    "format": FORMAT,
                    "trade": "0x" + self.name.hex(),
                    "role": self.swap.role.name.lower(),
                    "gives": _words(own),
                    "gets": _words(other),
                    "deal": self.deal.encode().hex(),
                    "swap": encode_swap(self.swap).hex(),
                    "own_rescue": self.own_rescue.hex(),
                    "other_rescue": self.other_rescue.hex(),
                },
                indent=1,
            )
            + "\n"
        )

    @classmethod
    def decode(cls, text: str) -> Bundle:
        """Raises ``ConfigError``."""
        try:
            document = json.loads(text)
            if not isinstance(document, dict) or document.get("format") != FORMAT:
                raise ConfigError(f"it does not say that it is of the format {FORMAT!r}")
            bundle = cls(
                Deal.decode(_octets(document, "deal", MAX_RESCUE_BYTES)),
                decode_swap(_octets(document, "swap", MAX_RESCUE_BYTES)),
                _octets(document, "own_rescue", MAX_RESCUE_BYTES),
                _octets(document, "other_rescue", MAX_RESCUE_BYTES),
            )
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"it is not JSON: {error}") from None
        except MalformedError as error:
            raise ConfigError(str(error)) from None
        if {bundle.swap.own.trade, bundle.swap.other.trade} != {bundle.name}:
            raise ConfigError("its locks are those of another trade")
        return bundle


def _octets(document: Mapping[str, Any], name: str, most: int) -> bytes:
    value = document.get(name)
    if not isinstance(value, str) or len(value) > 2 * most:
        raise ConfigError(f"{name!r} is missing or no text of hexadecimal digits")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise ConfigError(f"{name!r} is no text of hexadecimal digits") from None


def _words(lock: Lock) -> dict[str, str]:
    until = datetime.fromtimestamp(lock.timelock_s, UTC)
    return {"amount": str(lock.amount), "asset": lock.asset, "locked_until": until.isoformat()}


def read_bundle(path: Path) -> Bundle:
    """Raises ``ConfigError`` that names the file."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BUNDLE_BYTES + 1)
        if len(content) > MAX_BUNDLE_BYTES:
            raise ConfigError("it is too large for a bundle")
        return Bundle.decode(content.decode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: it is not UTF-8 text") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


class Bundles:
    """Those of a node's open swaps, in one folder. All of it blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: MatchId) -> Path:
        return self._folder / _NAME.format(name.hex())

    def write(self, bundle: Bundle) -> None:
        """Durable on return. Raises ``StoreError``."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {self._folder}: {error.strerror}") from None
        write_whole(self.path(bundle.name), bundle.encode())

    def remove(self, name: MatchId) -> None:
        """The swap has ended."""
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot remove {self.path(name)}: {error.strerror}") from None

    def all(self) -> list[Bundle]:
        """Raises ``ConfigError`` for a file that is none: it may stand for coins."""
        return [read_bundle(path) for path in sorted(self._folder.glob(_NAME.format("*")))]
