"""Many runs of a scenario: here, one after the other or several at once, or on a Ray cluster.

Which seeds there are is settled before any is handed out, and a run depends on its scenario alone,
so where it ran cannot be seen in what it found.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.sim.run import Result, simulate
from orrange_p2p.sim.scenario import Scenario

__all__ = ["in_processes", "in_turn", "on_ray", "seeds_of"]

REACH_S: Final = 5.0

Tell = Callable[[Scenario, int], None]


def seeds_of(scenario: Scenario, count: int) -> list[Scenario]:
    """The scenario under so many seeds, from its own one on."""
    return [scenario.evolved(seed=scenario.seed + number) for number in range(count)]


def in_turn(scenarios: Sequence[Scenario], tell: Tell) -> Iterator[tuple[Scenario, Result]]:
    """One after the other; ``tell`` is told each simulated second."""
    for scenario in scenarios:
        yield scenario, simulate(scenario, partial(tell, scenario))


def in_processes(
    scenarios: Sequence[Scenario], tell: Tell, jobs: int
) -> Iterator[tuple[Scenario, Result]]:
    """So many at once; ``tell`` is told when one has ended, and they come as they end."""
    with ProcessPoolExecutor(min(jobs, len(scenarios), os.cpu_count() or 1)) as pool:
        running = {pool.submit(simulate, scenario): scenario for scenario in scenarios}
        for future in as_completed(running):
            scenario = running[future]
            tell(scenario, scenario.seconds)
            yield scenario, future.result()


def on_ray(
    scenarios: Sequence[Scenario], tell: Tell, address: str | None
) -> Iterator[tuple[Scenario, Result]]:
    """On a Ray cluster: the one at ``address``, or one of this machine alone.

    Raises ``ConfigError`` if Ray is not installed or the cluster does not answer.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("Ray is not installed: pip install 'orrange-p2p[ray]'") from None
    if address is not None:
        _reach(address)
    try:
        options: dict[str, Any] = {"include_dashboard": False} if address is None else {}
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"no Ray cluster at {address or 'this machine'}: {error}") from None
    try:
        remote = ray.remote(simulate)
        running = {remote.remote(scenario): scenario for scenario in scenarios}
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            for one in done:
                scenario = running.pop(one)
                tell(scenario, scenario.seconds)
                yield scenario, ray.get(one)
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there, and then ends the process."""
    place = urlsplit(address if "//" in address else f"//{address}")
    try:
        if place.hostname is None or place.port is None:
            raise ConfigError(f"a Ray cluster is HOST:PORT or ray://HOST:PORT, not {address!r}")
        socket.create_connection((place.hostname, place.port), REACH_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Ray cluster at {address}: {error}") from None
