"""The times of a swap: in order, the same for both, and with the margins that they promise."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import TimeMs
from orrange_p2p.core.swaps.schedule import (
    CHAIN_CLASSES,
    ChainClass,
    chain_classes,
    is_base_long,
    schedule,
)

BTC, EVM = CHAIN_CLASSES["btc"], CHAIN_CLASSES["evm"]
BOUND = TimeMs(1_700_000_000_000)


def test_bitcoin_is_the_long_leg_and_has_thirteen_hours_more() -> None:
    assert is_base_long(*chain_classes("btc-evm"))
    assert not is_base_long(*chain_classes("evm-btc"))
    assert is_base_long(*chain_classes("evm-evm"))
    times = schedule(BOUND, BTC, EVM)
    assert times.long_timelock_s - times.short_timelock_s >= 13 * 3600


@given(st.sampled_from(list(CHAIN_CLASSES)), st.sampled_from(list(CHAIN_CLASSES)), st.integers(1))
def test_times_are_in_order(long: str, short: str, bound_ms: int) -> None:
    times = schedule(TimeMs(bound_ms), CHAIN_CLASSES[long], CHAIN_CLASSES[short])
    assert all(one < other for one, other in pairwise((bound_ms // 1000, *times)))


@given(
    st.builds(ChainClass, *[st.integers(0, 10**5)] * 5),
    st.builds(ChainClass, *[st.integers(0, 10**5)] * 5),
)
def test_the_margins(long: ChainClass, short: ChainClass) -> None:
    times = schedule(BOUND, long, short)
    assert times.short_timelock_s - times.reveal_by_s >= short.claim_s + short.confirm_s
    delta = times.long_timelock_s - times.short_timelock_s
    assert delta >= short.confirm_s + long.claim_s + long.confirm_s + long.ahead_s


@pytest.mark.parametrize("timing", ["", "btc", "btc-", "btc-sol", "btc-evm-evm"])
def test_an_unknown_timing_says_which_there_are(timing: str) -> None:
    with pytest.raises(ConfigError, match="btc-evm"):
        chain_classes(timing)


def test_the_chapter_has_the_classes() -> None:
    chapter = Path(__file__).resolve().parents[2] / "protocol" / "09-swaps.md"
    rows = re.findall(r"^\| `(\w+)` \| ([\d |]+) \|$", chapter.read_text(), re.M)
    shown = {name: ChainClass(*map(int, cells.split(" | "))) for name, cells in rows}
    assert shown == CHAIN_CLASSES
