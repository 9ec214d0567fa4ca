"""Results on disk: what a run found, in files that others can read.

A folder holds for each run ``NAME-SEED.json``, its figures, and beside it two tables as Parquet:
``NAME-SEED.delays.parquet`` (what: propagation or commit, ms, count) and
``NAME-SEED.epochs.parquet`` (one row an epoch). An attack that is reckoned without a network leaves
``attack-NAME.json`` alone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from orrange_p2p.core.errors import ConfigError, WorldError
from orrange_p2p.sim.measures import Counts
from orrange_p2p.sim.run import Result
from orrange_p2p.sim.scenario import Scenario

__all__ = ["Run", "is_done", "load_reckonings", "load_runs", "write_reckoning", "write_result"]

PROPAGATION: Final = "propagation"
COMMIT: Final = "commit"
_RECKONED: Final = "attack-"


class Run(NamedTuple):
    """A run as it was read back."""

    path: Path
    figures: dict[str, Any]
    delays: pl.DataFrame
    epochs: pl.DataFrame

    @property
    def label(self) -> str:
        scenario = self.figures["scenario"]
        return f"{scenario['name']}, seed {scenario['seed']}"


def _stem(scenario: Scenario) -> str:
    return f"{scenario.name}-{scenario.seed}"


def is_done(folder: Path, scenario: Scenario) -> bool:
    """Whether the folder has this very run already: a sweep that was interrupted goes on there."""
    try:
        said = json.loads((folder / f"{_stem(scenario)}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("config") == scenario.digest


def write_result(folder: Path, scenario: Scenario, result: Result) -> Path:
    """Raises ``WorldError`` if the folder cannot be written."""
    stem = _stem(scenario)
    path = folder / f"{stem}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _delays(result).write_parquet(folder / f"{stem}.delays.parquet")
        pl.DataFrame(result.epochs).write_parquet(folder / f"{stem}.epochs.parquet")
        # The figures come last: a run without them is not done.
        _write_at_once(path, result.figures)
    except OSError as error:
        raise WorldError(f"{folder} cannot be written: {error.strerror}") from None
    return path


def _write_at_once(path: Path, figures: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    draft.replace(path)


def write_reckoning(folder: Path, figures: dict[str, Any]) -> Path:
    """Raises ``WorldError`` if the folder cannot be written."""
    path = folder / f"{_RECKONED}{figures['attack']}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_at_once(path, figures)
    except OSError as error:
        raise WorldError(f"{folder} cannot be written: {error.strerror}") from None
    return path


def _delays(result: Result) -> pl.DataFrame:
    def rows(what: str, counts: Counts) -> pl.DataFrame:
        there = np.flatnonzero(counts)
        columns = {"what": [what] * len(there), "ms": there, "count": counts[there]}
        return pl.DataFrame(columns, schema={"what": pl.String, "ms": pl.Int64, "count": pl.Int64})

    return pl.concat([rows(PROPAGATION, result.propagation), rows(COMMIT, result.commits)])


def load_runs(place: Path) -> list[Run]:
    """The runs in a folder, or the one that a ``.json`` file is; ascending by name and seed.

    Raises ``ConfigError`` if there are none, or something else is there.
    """
    if place.is_dir():
        files = sorted(place.glob("*.json"))
        files = [file for file in files if not file.name.startswith(_RECKONED)]
    elif place.is_file():
        files = [place]
    else:
        raise ConfigError(f"there is no {place}: `orrange sim run FILE --out {place}` makes one")
    runs = [_load(file) for file in files]
    if not runs:
        raise ConfigError(f"no run in {place}: `orrange sim run FILE --out {place}` makes one")
    return sorted(runs, key=lambda one: (one.figures["scenario"]["name"], one.figures["seed"]))


def load_reckonings(place: Path) -> list[dict[str, Any]]:
    """Figures of the attacks that were reckoned into a folder, ascending by name. Raises
    ``ConfigError`` for something else under such a name."""
    found = []
    for file in sorted(place.glob(f"{_RECKONED}*.json")) if place.is_dir() else []:
        try:
            figures = json.loads(file.read_text("utf-8"))
            if not isinstance(figures["rows"], list) or not figures["attack"]:
                raise ValueError("no rows")
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{file} is not a reckoned attack: {error}") from None
        found.append(figures)
    return found


def _load(file: Path) -> Run:
    try:
        figures = json.loads(file.read_text("utf-8"))
        if figures["scenario"]["name"] and figures["hash"]:
            figures.setdefault("seed", figures["scenario"]["seed"])
            delays = pl.read_parquet(file.with_suffix(".delays.parquet"))
            epochs = pl.read_parquet(file.with_suffix(".epochs.parquet"))
    except OSError as error:
        raise ConfigError(f"{error.filename or file} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"{file} is not the result of a run: {error}") from None
    return Run(file, figures, delays, epochs)
