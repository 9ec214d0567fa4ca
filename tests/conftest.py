"""Stops the run when compiled modules would hide the sources under test."""

import pytest
from compile_core import ROOT, stale_modules


def pytest_configure() -> None:
    if stale := stale_modules():
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise pytest.UsageError(
            f"compiled modules are older than their source: {names}. "
            "Run `make compile` to build them again, or `make pure` to do without."
        )
