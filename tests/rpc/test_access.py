"""Tokens, sessions, and how often: on a clock of our own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orrange_p2p.core.ids import Address
from orrange_p2p.rpc import access
from orrange_p2p.rpc.access import Access, LoginError


class Clock:
    """As much of a clock as this asks for."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms


WALLET = Address(b"\x07" * 20)


def access_of(clock: Clock) -> Access:
    return Access(clock, [WALLET])


def test_who_asks_too_often_waits_and_then_may_ask() -> None:
    clock = Clock()
    one = access_of(clock)
    burst = int(access.CALLS_BURST)
    assert [one.wait_s("a") for _ in range(burst)] == [0.0] * burst
    wait_s = one.wait_s("a")
    assert 0 < wait_s <= 1 / access.CALLS_PER_S
    assert one.wait_s("b") == 0.0, "everybody's share is their own"
    clock.now_ms += 5
    assert one.wait_s("a") == 0.0 and one.wait_s("a") > 0
    clock.now_ms += 1000
    assert [one.wait_s("a") for _ in range(200)] == [0.0] * 200


def test_many_strangers_cost_no_memory() -> None:
    one = access_of(Clock())
    for number in range(5 * access.MAX_BUCKETS):
        one.wait_s(str(number))
    assert len(one._buckets) <= access.MAX_BUCKETS


def test_the_owners_token_is_in_a_file_of_its_own(tmp_path: Path) -> None:
    one, path = access_of(Clock()), tmp_path / "api.cookie"
    for _ in range(2):  # what is there is replaced
        one.write_cookie(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    owner = one.caller(path.read_text().strip())
    assert owner is not None and owner.scopes == ("read", "trade", "admin")
    assert one.expires_s(owner) is None
    assert one.caller("") is None and one.caller("x" * 64) is None


def test_a_session_ends_after_its_time() -> None:
    clock = Clock()
    one = access_of(clock)
    token, caller = one.open_by_code(one.new_code())
    assert one.caller(token) == caller and one.expires_s(caller) == access.SESSION_MS // 1000
    clock.now_ms += access.SESSION_MS
    assert one.caller(token) is None


def test_codes_and_nonces_are_good_once_and_for_a_while() -> None:
    clock = Clock()
    one = access_of(clock)
    code = one.new_code()
    clock.now_ms += access.CODE_MS + 1
    with pytest.raises(LoginError, match="ask for a new one"):
        one.open_by_code(code)
    nonce = one.new_nonce()
    token, caller = one.open_for_wallet(WALLET, nonce)
    assert caller.scopes == ("read", "trade") and one.caller(token) == caller
    with pytest.raises(LoginError, match="this nonce is used"):
        one.open_for_wallet(WALLET, nonce)
    with pytest.raises(LoginError, match="may not log in here"):
        one.open_for_wallet(Address(b"\x08" * 20), one.new_nonce())


def test_sessions_and_codes_are_bounded() -> None:
    one = access_of(Clock())
    tokens = [one.open_by_code(one.new_code())[0] for _ in range(2 * access.MAX_SESSIONS)]
    assert one.caller(tokens[0]) is None and one.caller(tokens[-1]) is not None
    first = one.new_code()
    for _ in range(access.MAX_WAITING):
        one.new_code()
    with pytest.raises(LoginError):
        one.open_by_code(first)
