"""``orrange bench swaps`` says when a figure falls short; the swaps are run by the demo's test."""

from __future__ import annotations

import json

import attrs
import pytest

from orrange_p2p.cli import bench_swaps
from orrange_p2p.cli.demo_swaps import SwapReport

GOOD = SwapReport(
    nodes=4,
    market="BTC/tUSD",
    trades=100,
    swapped=100,
    both_locked=100,
    failed=0,
    chains=["bip122:0", "eip155:1"],
    agree=True,
    roots=["0x00"] * 4,
    seconds=7.0,
    balances_conserved=True,
    swaps=[],
)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 0),
        ({"both_locked": 98}, 1),
        ({"failed": 1, "swapped": 99}, 1),
        ({"balances_conserved": False}, 1),
        ({"agree": False}, 1),
        ({"seconds": 20.0}, 1),
        ({"trades": 0, "swapped": 0, "both_locked": 0}, 1),
    ],
)
def test_the_status_says_whether_it_is_enough(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    status: int,
) -> None:
    report = attrs.evolve(GOOD, **changes)
    monkeypatch.setattr(bench_swaps, "_run", lambda **how: report)
    assert bench_swaps.main(True, trades=100, nodes=4, lost_percent=5) == status
    figures = json.loads(capsys.readouterr().out)
    assert figures["lost_percent"] == 5
    assert figures["ratio"] == (report.both_locked / 100 if report.trades else 0.0)
