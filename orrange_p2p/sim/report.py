"""Pictures and tables of runs: one HTML page that needs nothing else, and the pictures as PNG."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import polars as pl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from orrange_p2p.core.errors import WorldError
from orrange_p2p.sim.results import COMMIT, PROPAGATION, Run

__all__ = ["compared", "write_report"]

INK: Final = ("#0b6e4f", "#c8553d", "#28536b", "#8a5a83", "#b08900", "#4a4a4a")
DASHES: Final = ("-", "--", ":")
ROWS: Final[tuple[tuple[str, str, Callable[[dict[str, Any]], object]], ...]] = (
    ("nodes", "", lambda f: f["scenario"]["nodes"]),
    ("agree", "", lambda f: f.get("agree")),
    ("disagreements seen", "", lambda f: len(f.get("disagreements", ()))),
    ("proven guilty", "", lambda f: ", ".join(f.get("convicted", ())) or None),
    ("epochs applied everywhere", "", lambda f: f.get("epochs", {}).get("least")),
    ("orders", "", lambda f: f["orders"]),
    ("trades", "", lambda f: f.get("trades")),
    ("matches lapsed", "", lambda f: f.get("lapses")),
    ("of them by attackers", "", lambda f: f.get("lapsed_by_attackers")),
    ("orders refused", "", lambda f: sum(f["refused"].values()) if "refused" in f else None),
    ("trades settled", "", lambda f: f.get("settlement", {}).get("settled")),
    ("trades not paid", "", lambda f: f.get("settlement", {}).get("defaulted")),
    ("settlement, p50", "ms", lambda f: f.get("settlement_ms", {}).get("p50")),
    ("settlement, p99", "ms", lambda f: f.get("settlement_ms", {}).get("p99")),
    ("fees of trades", "", lambda f: f.get("settlement", {}).get("fees")),
    (
        "kept by who did not pay",
        "lots x ticks",
        lambda f: f.get("settlement", {}).get("kept_by_defaulters"),
    ),
    ("propagation, mean", "ms", lambda f: f["propagation_ms"]["mean"]),
    ("propagation, p50", "ms", lambda f: f["propagation_ms"]["p50"]),
    ("propagation, p99", "ms", lambda f: f["propagation_ms"]["p99"]),
    ("propagation, longest", "ms", lambda f: f["propagation_ms"]["max"]),
    ("commit, p50", "ms", lambda f: f.get("commit_ms", {}).get("p50")),
    ("commit, p99", "ms", lambda f: f.get("commit_ms", {}).get("p99")),
    ("states differ for, p50", "ms", lambda f: f.get("divergence_ms", {}).get("p50")),
    ("states differ for, longest", "ms", lambda f: f.get("divergence_ms", {}).get("max")),
    ("duplicates a delivery", "", lambda f: f["duplicates_per_delivery"]),
    ("sent by a node", "kB/s", lambda f: round(f["kilobytes_per_node"] / _seconds(f), 1)),
    ("lost on links", "", lambda f: f["lost"]),
    ("records asked for", "", lambda f: f.get("asked")),
    ("records repaired", "", lambda f: f.get("repaired")),
    ("neighbours in time that an epoch swaps", "share", lambda f: f.get("inversions")),
    ("races won by the quicker", "share", lambda f: f.get("race_won")),
    ("hash", "", lambda f: f["hash"][:16]),
)


def _seconds(figures: dict[str, Any]) -> int:
    return int(figures["scenario"]["seconds"])


def write_report(
    runs: Sequence[Run], folder: Path, reckonings: Sequence[dict[str, Any]] = ()
) -> Path:
    """``report.html`` and its pictures. Raises ``WorldError`` if they cannot be written."""
    pictures = {
        "propagation": _picture(lambda axes: _cumulated(axes, runs, PROPAGATION), "ms", "reached"),
        "commit": _picture(lambda axes: _cumulated(axes, runs, COMMIT), "ms", "committed"),
        "divergence": _picture(lambda axes: _lags(axes, runs), "s", "ms"),
        "spread": _picture(lambda axes: _over_time(axes, runs, "spread_ticks"), "s", "ticks"),
        "depth": _picture(lambda axes: _over_time(axes, runs, "depth_lots"), "s", "lots"),
    }
    titles = {
        "propagation": "How long records travel: share of nodes reached",
        "commit": "From writing an order to its epoch: share of nodes that applied it",
        "divergence": "From the first node's applying an epoch to the last one's",
        "spread": "Best ask above best bid",
        "depth": "Lots at the ten best prices of both sides",
    }
    images = "".join(
        f"<figure><figcaption>{escape(titles[name])}</figcaption>"
        f'<img alt="{escape(titles[name])}" src="data:image/png;base64,'
        f'{base64.b64encode(image).decode()}"></figure>'
        for name, image in pictures.items()
    )
    attacks = "".join(map(_reckoned, reckonings))
    page = _PAGE.format(table=_table(runs), images=images, attacks=attacks)
    path = folder / "report.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in pictures.items():
            (folder / f"{name}.png").write_bytes(image)
        path.write_text(page, "utf-8")
    except OSError as error:
        raise WorldError(f"{folder} cannot be written: {error.strerror}") from None
    return path


def _table(runs: Sequence[Run]) -> str:
    heads = "".join(f"<th>{escape(run.label)}</th>" for run in runs)
    rows = []
    for name, unit, of in ROWS:
        values = [of(run.figures) for run in runs]
        if any(value is not None for value in values):
            cells = "".join(f"<td>{escape(_said(value))}</td>" for value in values)
            label = f"{name}, {unit}" if unit else name
            rows.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _reckoned(figures: dict[str, Any]) -> str:
    """A table of an attack's rows, whose columns are told by the first."""
    rows: list[dict[str, object]] = figures["rows"]
    heads = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in rows[0])
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(_said(value))}</td>' for value in row.values())}</tr>"
        for row in rows
    )
    title = f"{figures['attack']}, reckoned"
    return (
        f"<h2>{escape(title)}</h2><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{lines}</tbody></table>"
    )


def _said(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _picture(draw: Callable[[Axes], None], x: str, y: str) -> bytes:
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.add_subplot()
        axes.set_prop_cycle(cycler(linestyle=DASHES) * cycler(color=INK))
        draw(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        else:
            axes.text(0.5, 0.5, "nothing of this in these runs", ha="center", va="center")
        made = BytesIO()
        # Without its date and version the same run gives the same bytes.
        figure.savefig(made, dpi=120, metadata={"Software": None})
    return made.getvalue()


def _cumulated(axes: Axes, runs: Sequence[Run], what: str) -> None:
    axes.set_xscale("log")
    for run in runs:
        delays = run.delays.filter(pl.col("what") == what).sort("ms")
        if delays.height:
            share = delays["count"].cum_sum() / delays["count"].sum()
            axes.plot(delays["ms"].clip(1).to_list(), share.to_list(), label=run.label)


def _lags(axes: Axes, runs: Sequence[Run]) -> None:
    for run in runs:
        if run.epochs.height:
            first, last = run.epochs["first_applied_us"], run.epochs["last_applied_us"]
            axes.plot((first / 1e6).to_list(), ((last - first) / 1e3).to_list(), label=run.label)


def _over_time(axes: Axes, runs: Sequence[Run], column: str) -> None:
    for run in runs:
        if run.epochs.height:
            there = run.epochs.filter(pl.col(column).is_not_null())
            times = (there["first_applied_us"] / 1e6).to_list()
            axes.step(times, there[column].to_list(), where="post", label=run.label)


def compared(
    first: Sequence[Run], second: Sequence[Run]
) -> list[tuple[str, object, object, float | None]]:
    """Rows of (figure, median here, median there, ratio), of what both have."""
    rows: list[tuple[str, object, object, float | None]] = []
    for name, unit, of in ROWS:
        here, there = (
            _median([of(r.figures) for r in first]),
            _median([of(r.figures) for r in second]),
        )
        if here is None and there is None:
            continue
        ratio = None
        if isinstance(here, int | float) and isinstance(there, int | float) and here:
            if not isinstance(here, bool):
                ratio = round(there / here, 3)
        rows.append((f"{name}, {unit}" if unit else name, here, there, ratio))
    return rows


def _median(values: Sequence[object]) -> object:
    """Of numbers the lower median; of anything else the one value, if it is one."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return all(known)
    numbers = sorted(value for value in known if isinstance(value, int | float))
    if known and len(numbers) == len(known):
        return numbers[(len(numbers) - 1) // 2]
    return known[0] if len(set(map(str, known))) == 1 else None


_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Simulated networks</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 68rem }}
body {{ margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
th, td {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884 }}
th:first-child {{ text-align: left; font-weight: normal; white-space: nowrap;
  position: sticky; left: 0; background: Canvas }}
td {{ max-width: 14rem }}
figure {{ margin: 2rem 0 }} figcaption {{ font-weight: 600 }}
img {{ max-width: 100%; background: #fff; border-radius: 4px }}
</style>
<h1>Simulated networks</h1>
{table}
{images}
{attacks}
</html>
"""
