"""What spam costs everybody else: a scenario beside itself with its spammers silent.

Both runs of a pair have one seed, and the same nodes, traders and bonds in it. Compared is how long
honest traders' entries take to be committed at nodes that are none of the attackers'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import attrs

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.sim.run import Result
from orrange_p2p.sim.scenario import AttackKind, Scenario
from orrange_p2p.sim.sweep import seeds_of

__all__ = ["compared", "pairs_of"]

FIGURES = ("p50", "p99", "mean")


def pairs_of(scenario: Scenario, seeds: int) -> list[Scenario]:
    """What is to be run: under each seed as it is, and with its spammers silent. Raises
    ``ConfigError`` for a scenario that has none."""
    if not any(one.kind is AttackKind.SPAM for one in scenario.attack):
        raise ConfigError(f"{scenario.name!r} has no attack of kind spam")
    wanted = seeds_of(scenario, seeds)
    return [*wanted, *[_silent(one) for one in wanted]]


def _silent(scenario: Scenario) -> Scenario:
    return scenario.evolved(
        attack=tuple(
            attrs.evolve(one, from_s=scenario.seconds, until_s=scenario.seconds + 1)
            if one.kind is AttackKind.SPAM
            else one
            for one in scenario.attack
        )
    )


def compared(scenario: Scenario, runs: Iterable[tuple[Scenario, Result]]) -> dict[str, Any]:
    """The figures of all pairs, in whichever order their runs come."""
    spammed: dict[int, dict[str, Any]] = {}
    silent: dict[int, dict[str, Any]] = {}
    for one, result in runs:
        is_as_it_is = one.attack == scenario.attack
        (spammed if is_as_it_is else silent)[one.seed] = result.figures
    rows = [_row(seed, silent[seed], spammed[seed]) for seed in sorted(spammed)]
    return {
        "scenario": scenario.name,
        "config": scenario.digest,
        "rows": rows,
        "rise_percent": {name: _spread([row[f"{name}_rise"] for row in rows]) for name in FIGURES},
    }


def _row(seed: int, silent: dict[str, Any], spammed: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "seed": seed,
        "agree": silent["agree"] and spammed["agree"],
        "orders": spammed["orders"],
        "orders_of_others": silent["orders"],
        "entries_not_let_through": spammed["over_allowance"],
    }
    for name in FIGURES:
        before, after = silent["commit_honest_ms"][name], spammed["commit_honest_ms"][name]
        row[f"{name}_ms"], row[f"{name}_spammed_ms"] = before, after
        row[f"{name}_rise"] = round(100 * (after - before) / before, 1)
    return row


def _spread(rises: Sequence[float]) -> dict[str, float]:
    return {"least": min(rises), "median": round(median(rises), 1), "most": max(rises)}
