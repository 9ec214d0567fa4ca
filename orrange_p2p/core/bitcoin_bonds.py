"""Bonds on Bitcoin: coins that stay where they are until a time (protocol/13-bitcoin-bonds.md).

    <key> CHECKSIGVERIFY <lock time> CHECKLOCKTIMEVERIFY

Paid to by its hash (P2WSH). The key is one that an owner bound in the registry, the lock time the
begin of a month: so everybody derives the scripts to look for, and nobody has to announce a bond.
What was paid to such a script stays there until its time, by Bitcoin's own rules: a bond that was
once in a deep block needs no second look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

from orrange_p2p.core import codec
from orrange_p2p.core.errors import CallerError, ConfigError
from orrange_p2p.core.reputation import Place
from orrange_p2p.crypto.bitcoin import OutPoint, decode_block, p2wsh

__all__ = [
    "BIND_WITHIN_S",
    "DEPTH",
    "MARGIN_S",
    "MIN_BOND_SATS",
    "MONTHS_AHEAD",
    "BitcoinBond",
    "Watch",
    "bond_descriptor",
    "bond_output",
    "bond_script",
    "bonds_digest",
    "compressed",
    "known_at",
    "lock_times",
    "month_of",
    "month_start_s",
    "parse_month",
    "show_month",
]

MIN_BOND_SATS: Final = 100_000
"""Less counts nothing: outputs to other people's scripts cost whoever makes them, too."""
MONTHS_AHEAD: Final = 36
"""Begins of months after a block's time, in which what it pays can be locked."""
DEPTH: Final = 36
"""A block is read when so many are known from it to the head, both counted."""
MARGIN_S: Final = 86_400
"""Blocks count whose time is so long before that of the home chain's block: more than ``DEPTH`` of
them take, so that nobody has to wait for Bitcoin."""
BIND_WITHIN_S: Final = 6 * 3_600
"""A key has to be bound before the block that pays to it, or so long after its time at most: the
median time past is an hour or two late, and nobody has to wait that out."""
KEY_BYTES: Final = 33
MAX_TIME_S: Final = (1 << 32) - 1
"""A transaction's locktime has 32 bits."""
FIRST_TIME_S: Final = 500_000_000
"""Lower locktimes are heights."""
DAY_S: Final = 86_400
_CHECKSIGVERIFY: Final = b"\xad"
_CHECKLOCKTIMEVERIFY: Final = b"\xb1"
_P2WSH: Final = re.compile(rb"(?=\x22(\0\x20.{32}))", re.DOTALL)
"""Wherever an output with such a script, its length before it, may be."""
_MONTH: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_RECORD: Final = Struct(">QQQ33s32sIQQ")


class BitcoinBond(NamedTuple):
    """An output that pays to the bond script of a key that was bound in time."""

    place: Place
    time_s: int
    """Median time past of its block, as all times here."""
    key: bytes
    """Compressed, 33 bytes."""
    outpoint: OutPoint
    sats: int
    locked_until_s: int


# --- lock times ---


def month_start_s(month: int) -> int:
    """00:00 UTC on its first day. Months are counted from January 1970, which is 0."""
    # Years that begin in March end with the day that leap years add (Hinnant, "chrono-Compatible
    # Low-Level Date Algorithms").
    years, march = divmod(month - 2, 12)
    years += 1970
    days = years * 365 + years // 4 - years // 100 + years // 400 + (153 * march + 2) // 5
    return (days - 719_468) * DAY_S


def month_of(time_s: int) -> int:
    """The month that a time is in."""
    month = time_s // DAY_S * 4800 // 146_097  # 400 years have so many months and days
    while month_start_s(month) > time_s:
        month -= 1
    while month_start_s(month + 1) <= time_s:
        month += 1
    return month


def lock_times(time_s: int) -> tuple[int, ...]:
    """Until when what a block of this time pays can be locked: ascending."""
    first = month_of(time_s) + 1
    return tuple([month_start_s(month) for month in range(first, first + MONTHS_AHEAD)])


def parse_month(text: str) -> int:
    """The begin of a month written as 2027-03. Raises ``ConfigError``."""
    found = _MONTH.fullmatch(text)
    if found is None:
        raise ConfigError(f"{text!r} is no month: written as 2027-03")
    return month_start_s((int(found[1]) - 1970) * 12 + int(found[2]) - 1)


def show_month(time_s: int) -> str:
    """The month that a time is in, likewise written."""
    years, month = divmod(month_of(time_s), 12)
    return f"{1970 + years}-{month + 1:02}"


# --- scripts ---


def compressed(point: bytes) -> bytes:
    """The key whose x and y the registry shows in 64 bytes."""
    if len(point) != 64:
        raise CallerError("a Bitcoin key in the registry has 64 bytes")
    return bytes((2 + (point[63] & 1),)) + point[:32]


def bond_script(key: bytes, locked_until_s: int) -> bytes:
    """What ``bond_descriptor`` stands for, so that wallets that know miniscript sign for it. Raises
    ``CallerError``."""
    if len(key) != KEY_BYTES or key[0] not in (2, 3):
        raise CallerError("a bond's key is a compressed public key of 33 bytes")
    if not FIRST_TIME_S <= locked_until_s <= MAX_TIME_S:
        raise CallerError(f"a bond is locked until {FIRST_TIME_S} .. {MAX_TIME_S} s since 1970")
    # A number of a script has a sign: from 2038 on it takes a byte more.
    size = 4 if locked_until_s < 1 << 31 else 5
    number = bytes((size,)) + locked_until_s.to_bytes(size, "little")
    return bytes((KEY_BYTES,)) + key + _CHECKSIGVERIFY + number + _CHECKLOCKTIMEVERIFY


def bond_descriptor(key: bytes, locked_until_s: int) -> str:
    """What a wallet imports to watch a bond, or with the private key to spend it (BIP-380)."""
    return f"wsh(and_v(v:pk({key.hex()}),after({locked_until_s})))"


def bond_output(key: bytes, locked_until_s: int) -> bytes:
    """The script of the output, by which a bond is found. Raises ``CallerError``."""
    return p2wsh(bond_script(key, locked_until_s))


# --- finding them ---


class Watch:
    """The scripts to look for as blocks go by. Blocks come in the chain's order."""

    def __init__(self) -> None:
        self._bound_s: dict[bytes, int] = {}
        """By key."""
        self._outputs: dict[bytes, tuple[bytes, int]] = {}
        """Key and lock time by script."""
        self._times: tuple[int, ...] = ()
        self._month = -1

    def add(self, key: bytes, bound_s: int) -> None:
        """A key, and when the home chain bound it. Its first binding is the one that counts."""
        if key not in self._bound_s:
            self._bound_s[key] = bound_s
            self._derive([key])

    def find(self, chain: str, height: int, time_s: int, block: bytes) -> list[BitcoinBond]:
        """The bonds in an encoded block, in its order. ``time_s``: its median time past. What is
        paid to a key that was bound too late is none.

        Raises ``MalformedError`` for what is no block. One with none of the scripts anywhere in its
        bytes is not decoded: that is nearly every one, and takes twenty times as long.
        """
        month = month_of(time_s)
        if month != self._month:
            self._month, self._times = month, lock_times(time_s)
            self._outputs.clear()
            self._derive(self._bound_s)
        if not any(found[1] in self._outputs for found in _P2WSH.finditer(block)):
            return []
        found, number = [], 0
        for tx in decode_block(block).transactions:
            for vout, output in enumerate(tx.outputs):
                paid = self._outputs.get(output.script)
                if paid is not None and output.value >= MIN_BOND_SATS:
                    key, locked_until_s = paid
                    place, outpoint = Place(chain, height, number), OutPoint(tx.txid, vout)
                    if self._bound_s[key] < time_s + BIND_WITHIN_S:
                        found.append(
                            BitcoinBond(place, time_s, key, outpoint, output.value, locked_until_s)
                        )
                number += 1
        return found

    def _derive(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            for time_s in self._times:
                self._outputs[bond_output(key, time_s)] = (key, time_s)


def known_at(bonds: Iterable[BitcoinBond], time_s: int) -> list[BitcoinBond]:
    """Those that count at a block of the home chain stamped so, ascending by place."""
    return sorted([bond for bond in bonds if bond.time_s <= time_s - MARGIN_S])


def bonds_digest(bonds: Iterable[BitcoinBond]) -> bytes:
    """SHA-256 of bonds, each in full, in the order that they come in."""
    hashed = sha256()
    for bond in bonds:
        place = bond.place
        hashed.update(codec.encode(place.chain))
        hashed.update(
            _RECORD.pack(
                place.block,
                place.log,
                bond.time_s,
                bond.key,
                bond.outpoint.txid,
                bond.outpoint.vout,
                bond.sats,
                bond.locked_until_s,
            )
        )
    return hashed.digest()
