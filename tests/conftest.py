"""Stops the run when compiled modules would hide the sources under test, begins with the tests that
take long, and lets no property fail for being slow: speed is for benchmarks."""

from pathlib import Path
from typing import Final

import pytest
from compile_core import ROOT, stale_modules
from hypothesis import HealthCheck, settings

LONG: Final = (
    "contracts/test_evm_contracts.py",
    "swaps/test_swapping.py",
    "cli/test_demo.py",
    "sim/test_run.py",
    "cli/test_demo_eras.py",
    "daemon/test_joining.py",
    "daemon/test_hostile.py",
    "rpc/test_page.py",
    "daemon/test_node.py",
    "chaos/test_chaos.py",
    "swaps/test_watchtower.py",
    "daemon/test_backup.py",
    "sim/test_results.py",
    "cli/test_wallet.py",
    "rpc/test_light_trader.py",
    "rpc/test_http_api.py",
    "p2p/test_stock_faults.py",
    "daemon/test_hostile_process.py",
)
"""Files that take twenty seconds or more. They come first, the longest among them, since a worker
runs a file as a whole: one that began last would leave the other worker idle. Neighbours run at the
same time, so those of many processes stand beside those of one."""


settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_configure() -> None:
    if stale := stale_modules():
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise pytest.UsageError(
            f"compiled modules are older than their source: {names}. "
            "Run `make compile` to build them again, or `make pure` to do without."
        )
