"""Multicast DNS, on the loopback interface only."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.lowlevel
from p2p_processes import until

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.p2p.lan import _ours, found_on_lan

ONE, TWO, THREE = ("12D3KooW" + letter * 44 for letter in "abc")


def listening(name: str, port: int, host: str = "/ip4/127.0.0.1") -> list[str]:
    return [f"{host}/tcp/{port}/p2p/{name}"]


async def test_nodes_of_one_network_find_each_other() -> None:
    before = threading.active_count()
    heard: dict[str, set[str]] = {ONE: set(), TWO: set(), THREE: set()}
    here, elsewhere = b"h" * 32, b"e" * 32
    try:
        async with (
            found_on_lan(listening(ONE, 4001), here, heard[ONE].add),
            found_on_lan(listening(THREE, 4003), elsewhere, heard[THREE].add),
            found_on_lan(listening(TWO, 4002), here, heard[TWO].add),
        ):
            await until(lambda: heard[ONE] and heard[TWO], timeout_s=20)
            assert heard[ONE] == {*listening(TWO, 4002)}
            assert heard[TWO] == {*listening(ONE, 4001)}
            assert not heard[THREE]
    except ConfigError as error:
        pytest.skip(f"no multicast on this machine: {error}")
    assert not any("zeroconf" in thread.name for thread in threading.enumerate())
    assert threading.active_count() <= before + 3  # idle workers of trio's


def test_what_is_announced() -> None:
    assert _ours(listening(ONE, 7)) == (["127.0.0.1"], 7, ONE)
    assert _ours(listening(ONE, 7) + listening(ONE, 8)) == (["127.0.0.1"], 7, ONE)
    assert _ours(listening(ONE, 7) + listening(ONE, 7, "/ip6/::1"))[0] == ["127.0.0.1", "::1"]


async def test_nothing_to_announce_is_told() -> None:
    with pytest.raises(ConfigError, match="lan_discovery"):
        async with found_on_lan([], b"n" * 32, print):
            await trio.lowlevel.checkpoint()
