"""Addresses of EVM chains as people write them: with a checksum in their capitals (EIP-55)."""

from __future__ import annotations

import re
from typing import Final

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address
from orrange_p2p.crypto.hashes import keccak256

__all__ = ["parse_address", "show_address"]

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


def show_address(address: Address) -> str:
    """With its checksum."""
    digits = address.hex()
    capitals = keccak256(digits.encode()).hex()
    shown = (d.upper() if int(c, 16) >= 8 else d for d, c in zip(digits, capitals, strict=False))
    return "0x" + "".join(shown)


def parse_address(text: str) -> Address:
    """Raises ``ConfigError`` for what is none, and for one whose capitals say that it was mistyped.

    All in one case has no checksum, and is taken as it is.
    """
    if not _ADDRESS.fullmatch(text):
        raise ConfigError(f"{text!r} is not an address: 0x and 40 hexadecimal digits")
    address = Address(bytes.fromhex(text[2:]))
    digits = text[2:]
    is_mixed = digits not in (digits.lower(), digits.upper())
    if is_mixed and text != show_address(address):
        raise ConfigError(f"{text} is mistyped: the checksum in its capitals does not fit")
    return address
