"""Keys, addresses and coins, from the seed alone.

    m/84'/coin'/0'/0/n, m/84'/coin'/0'/1/n   addresses to receive at and for change (BIP-84)
    m/20306'/coin'/a'/b'/c'/d'               who we are in one swap: a to d are 31 bits each of
                                             SHA-256("Orrange Bitcoin party" || match id)
    m/20307'/coin'/t'                        the key of the bonds of trader t, from 1 on

Any wallet that knows BIP-84 finds the coins from the same words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from orrange_p2p.chains.bitcoin.ledger import Ledger
from orrange_p2p.chains.bitcoin.script import is_bond
from orrange_p2p.chains.bitcoin.transactions import Coin, public_key, wallet_script
from orrange_p2p.core.bitcoin_bonds import MONTHS_AHEAD, bond_output, month_of, month_start_s
from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import MatchId
from orrange_p2p.core.swaps.legs import Lock
from orrange_p2p.crypto.bip32 import HARDENED
from orrange_p2p.crypto.bitcoin import OutPoint

__all__ = ["CHANGE", "RECEIVE", "BondScript", "KeyAt", "Wallet"]

KeyAt = Callable[[tuple[int, ...]], bytes]
"""The 32-byte secret at a path from the seed."""
RECEIVE: Final = 0
CHANGE: Final = 1
GAP: Final = 20
"""Addresses watched past the last one used (BIP-44)."""
MATURITY: Final = 100
MAX_TRADERS: Final = 256
_PARTIES: Final = 20306
_BONDS: Final = 20307
FIRST_MONTH: Final = 672
"""January 2026: no bond was ever locked until an earlier month."""


class BondScript(NamedTuple):
    """A script that we may have bonds with."""

    number: int
    """Of the trader whose they are."""
    key: bytes
    locked_until_s: int


class Wallet:
    """Its coins are read off the ledger."""

    def __init__(self, ledger: Ledger, key_at: KeyAt, coin: int, traders: int = 1) -> None:
        self._ledger = ledger
        self._key_at = key_at
        self._coin = coin
        self._secrets: dict[bytes, bytes] = {}
        """By script."""
        self._scripts: tuple[list[bytes], list[bytes]] = ([], [])
        self._next = [0, 0]
        """Of each branch, the first number that was not handed out."""
        self._bond_secrets = [self._bond_secret(number) for number in range(1, traders + 1)]
        self._bonds: dict[bytes, BondScript] = {}
        self._next_month = FIRST_MONTH
        self.extend()

    def extend(self) -> None:
        """Watch ``GAP`` addresses past the last one used."""
        for branch, scripts in enumerate(self._scripts):
            used = len(scripts)
            while used and not self._ledger.outputs(scripts[used - 1]):
                used -= 1
            self._next[branch] = max(self._next[branch], used)
            while len(scripts) < self._next[branch] + GAP:
                path = (84 + HARDENED, self._coin + HARDENED, HARDENED, branch, len(scripts))
                secret = self._key_at(path)
                script = wallet_script(secret)
                self._secrets[script] = secret
                scripts.append(script)
                self._ledger.watch(script)

    def watch_bonds(self, time_s: int) -> None:
        """Watch the bonds of every month from the first to the last that can be locked at a time:
        also such as somebody else pays to our keys."""
        last = month_of(time_s) + MONTHS_AHEAD
        for month in range(self._next_month, last + 1):
            for number, secret in enumerate(self._bond_secrets, 1):
                key, until_s = public_key(secret), month_start_s(month)
                script = bond_output(key, until_s)
                self._bonds[script] = BondScript(number, key, until_s)
                self._ledger.watch(script)
        self._next_month = max(self._next_month, last + 1)

    def bonds(self) -> Mapping[bytes, BondScript]:
        """By the output's script."""
        return self._bonds

    def watched(self) -> list[bytes]:
        return [*(script for scripts in self._scripts for script in scripts), *self._bonds]

    def owns(self, script: bytes) -> bool:
        return script in self._secrets

    def fresh(self, branch: int) -> bytes:
        """The script of an address that was not handed out before, as far as is known here."""
        script = self._scripts[branch][self._next[branch]]
        self._next[branch] += 1
        self.extend()
        return script

    def unused(self, branch: int) -> bytes:
        """The script that ``fresh`` would give next: the same until coins come to it. Asked for
        without end it runs into no gap that other wallets, and this one from its seed, stop at."""
        return self._scripts[branch][self._next[branch]]

    def handed_out(self, scripts: Iterable[bytes]) -> None:
        """These are in transactions that may not have been seen yet."""
        for script in scripts:
            for branch, known in enumerate(self._scripts):
                if script in known:
                    self._next[branch] = max(self._next[branch], known.index(script) + 1)
        self.extend()

    def coins(self, height: int, reserved: set[OutPoint], own: set[bytes]) -> list[Coin]:
        """What can be spent in a block after ``height``: in a block, or change of ``own``
        transactions that wait; the largest first."""
        found = []
        for script, secret in self._secrets.items():
            for output in self._ledger.outputs(script):
                place = output.outpoint
                if place in reserved or self._ledger.spend(place) is not None:
                    continue
                if output.height == 0 and place.txid not in own:
                    continue
                if output.coinbase and height + 1 - output.height < MATURITY:
                    continue
                found.append(Coin(place, output.value, secret))
        return sorted(found, key=lambda coin: (-coin.value, coin.outpoint))

    def coin(self, place: OutPoint) -> Coin | None:
        """One of ours, spent or not."""
        tx = self._ledger.transaction(place.txid)
        if tx is None or place.vout >= len(tx.outputs):
            return None
        output = tx.outputs[place.vout]
        secret = self._secrets.get(output.script)
        return None if secret is None else Coin(place, output.value, secret)

    def bond_secret(self, number: int) -> bytes:
        """The secret key of a trader's bonds. Raises ``CallerError`` if there is no such trader."""
        if not 1 <= number <= len(self._bond_secrets):
            raise CallerError(f"this wallet is of {len(self._bond_secrets)} traders: no {number}")
        return self._bond_secrets[number - 1]

    def _bond_secret(self, number: int) -> bytes:
        return self._key_at((_BONDS + HARDENED, self._coin + HARDENED, number + HARDENED))

    def secret_of(self, lock: Lock) -> bytes:
        """What our side of a lock is signed with."""
        if not is_bond(lock):
            return self.party(lock.trade)
        for number in range(1, MAX_TRADERS + 1):  # also of a trader that is there no more
            secret = self._bond_secret(number)
            if public_key(secret) == lock.sender:
                return secret
        raise CallerError("the bond is none of this wallet's")

    def party(self, trade: MatchId) -> bytes:
        """The secret key of one swap."""
        digest = hashlib.sha256(b"Orrange Bitcoin party" + trade).digest()
        steps = (int.from_bytes(digest[at : at + 4], "big") | HARDENED for at in (0, 4, 8, 12))
        return self._key_at((_PARTIES + HARDENED, self._coin + HARDENED, *steps))
