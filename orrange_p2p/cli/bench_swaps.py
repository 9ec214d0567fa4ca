"""``orrange bench swaps``: how many matches that bind reach both locks while messages are lost."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import trio

from orrange_p2p.cli.demo_swaps import SwapReport, SwapRun
from orrange_p2p.devnet.chains import KINDS

LEAST_RATIO: Final = 0.99
HAPPY_S: Final = 20.0


def main(as_json: bool, *, trades: int, nodes: int, lost_percent: int) -> int:
    """Print the figures; the exit status."""
    alone = _run(nodes=2, trades=1, lost_percent=0)
    many = _run(nodes=nodes, trades=trades, lost_percent=lost_percent)
    ratio = many.both_locked / many.trades if many.trades else 0.0
    figures: dict[str, Any] = {
        "trades": many.trades,
        "both_locked": many.both_locked,
        "ratio": round(ratio, 4),
        "swapped": many.swapped,
        "failed": many.failed,
        "lost_percent": lost_percent,
        "nodes": nodes,
        "balances_conserved": many.balances_conserved,
        "agree": many.agree,
        "all_ended_after_s": many.seconds,
        "single_swap_s": alone.seconds,
    }
    if as_json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<20} {value}")
    is_good = ratio >= LEAST_RATIO and many.is_as_it_should_be and alone.is_as_it_should_be
    return 0 if is_good and alone.seconds < HAPPY_S else 1


def _run(*, nodes: int, trades: int, lost_percent: int) -> SwapReport:
    with tempfile.TemporaryDirectory(prefix="orrange-bench-swaps-") as base:
        run = SwapRun(Path(base), nodes, KINDS[0], True, trades=trades, lost_percent=lost_percent)
        report = trio.run(run.run)
    print(f"{report.swapped} of {report.trades} swapped", file=sys.stderr)
    return report
