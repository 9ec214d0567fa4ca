"""Who may do what over HTTP: the cookie file, sessions, and how often.

Whoever can read the node's files is its owner: ``api.cookie`` (0600) holds a token of all scopes,
new at each start, as bitcoind's does. Sessions are for pages: from the one-time code that the owner
asks for, or from a wallet that the configuration names (Sign-In with Ethereum). They end after some
hours, and with the node.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

from orrange_p2p.core.errors import CallerError
from orrange_p2p.core.ids import Address
from orrange_p2p.ports import Clock

__all__ = ["ADMIN", "READ", "TRADE", "Access", "Caller"]

READ: Final = "read"
TRADE: Final = "trade"
ADMIN: Final = "admin"
ALL: Final = (READ, TRADE, ADMIN)
SESSION_MS: Final = 8 * 3_600_000
CODE_MS: Final = 60_000
NONCE_MS: Final = 300_000
MAX_SESSIONS: Final = 64
MAX_WAITING: Final = 64
"""Codes and nonces that are out; the oldest give way."""
CALLS_PER_S: Final = 200.0
CALLS_BURST: Final = 400.0
MAX_BUCKETS: Final = 1024


@attrs.frozen
class Caller:
    """Whoever a token stands for."""

    name: str
    scopes: tuple[str, ...]
    expires_ms: int | None = None


class LoginError(CallerError):
    """A code, nonce or signature that opens nothing."""


class Access:
    """The tokens of one node."""

    def __init__(self, clock: Clock, wallets: Iterable[Address] = ()) -> None:
        """``wallets`` may log in to read and trade."""
        self._clock = clock
        self.wallets = frozenset(wallets)
        self._owner = secrets.token_hex(32)
        self._sessions: dict[str, Caller] = {}
        self._codes: dict[str, int] = {}
        self._nonces: dict[str, int] = {}
        self._buckets: dict[str, tuple[float, int]] = {}

    def write_cookie(self, path: Path) -> None:
        """Put the owner's token where only the owner can read it."""
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._owner + "\n")
        draft.replace(path)

    def caller(self, token: str) -> Caller | None:
        """Who it is; None of an unknown or expired token."""
        if hmac.compare_digest(token.encode(), self._owner.encode()):
            return Caller("owner", ALL)
        session = self._sessions.get(token)
        if session is None:
            return None
        if session.expires_ms is not None and session.expires_ms <= self._clock.monotonic_ms():
            del self._sessions[token]
            return None
        return session

    # --- pages ---

    def new_code(self) -> str:
        """What opens one session of all scopes, once, within a minute."""
        return self._remember(self._codes, CODE_MS)

    def new_nonce(self) -> str:
        """What a wallet has to sign."""
        return self._remember(self._nonces, NONCE_MS)

    def open_by_code(self, code: str) -> tuple[str, Caller]:
        """Raises ``LoginError``."""
        self._use(self._codes, code, "this code is used, old or none of ours: ask for a new one")
        return self._open("owner's page", ALL)

    def open_for_wallet(self, wallet: Address, nonce: str) -> tuple[str, Caller]:
        """A wallet has shown that it is one, over this nonce. Raises ``LoginError``."""
        self._use(self._nonces, nonce, "this nonce is used, old or none of ours: ask for a new one")
        if wallet not in self.wallets:
            raise LoginError(
                f"0x{wallet.hex()} may not log in here: node.toml has to name it in [api] wallets"
            )
        return self._open(f"wallet 0x{wallet.hex()}", (READ, TRADE))

    def close(self, token: str) -> None:
        """Log out."""
        self._sessions.pop(token, None)

    def _open(self, name: str, scopes: tuple[str, ...]) -> tuple[str, Caller]:
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        token = secrets.token_hex(32)
        caller = Caller(name, scopes, self._clock.monotonic_ms() + SESSION_MS)
        self._sessions[token] = caller
        return token, caller

    def expires_s(self, caller: Caller) -> int | None:
        """How long it is good; None: as long as the node runs."""
        if caller.expires_ms is None:
            return None
        return max(0, caller.expires_ms - self._clock.monotonic_ms()) // 1000

    def _remember(self, waiting: dict[str, int], good_ms: int) -> str:
        while len(waiting) >= MAX_WAITING:
            del waiting[next(iter(waiting))]
        name = secrets.token_hex(16)
        waiting[name] = self._clock.monotonic_ms() + good_ms
        return name

    def _use(self, waiting: dict[str, int], name: str, refusal: str) -> None:
        until_ms = waiting.pop(name, -1)
        if until_ms < self._clock.monotonic_ms():
            raise LoginError(refusal)

    # --- how often ---

    def wait_s(self, who: str) -> float:
        """0 if ``who`` may ask now, which counts; else how long to wait (a token bucket)."""
        now_ms = self._clock.monotonic_ms()
        tokens, since_ms = self._buckets.pop(who, (CALLS_BURST, now_ms))
        tokens = min(CALLS_BURST, tokens + (now_ms - since_ms) / 1000 * CALLS_PER_S)
        while len(self._buckets) >= MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        if tokens < 1:
            self._buckets[who] = (tokens, now_ms)
            return (1 - tokens) / CALLS_PER_S
        self._buckets[who] = (tokens - 1, now_ms)
        return 0.0
