"""Derive the simulator's table of latencies from RIPE Atlas measurements.

    python tools/derive_latency.py ripe-atlas-country-rtt.csv.gz

The source is a table of round-trip times between countries (average, deviation, least, most, in ms)
that the Ouroboros Leios project reduced from RIPE Atlas measurements of 2025. Of it remain the
averages between a few places all over the world, in whole microseconds.
"""

from __future__ import annotations

import csv
import gzip
import sys
from decimal import Decimal
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "orrange_p2p" / "sim" / "data" / "rtt.csv"
PLACES = (
    "AU", "BR", "CA", "CH", "DE", "FR", "GB", "IN", "IT", "JP", "NL", "PL", "SE", "SG", "US", "ZA",
)  # fmt: skip
"""Well measured in both directions, and on every inhabited continent."""


def derive(source: Path) -> list[tuple[str, str, int]]:
    """(place, place, microseconds), each pair once; directions weigh as often as measured."""
    sums: dict[tuple[str, str], list[Decimal]] = {}
    with gzip.open(source, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            pair = tuple(sorted((row["cty1"], row["cty2"])))
            if all(place in PLACES for place in pair):
                count = Decimal(row["rtt_cnt"])
                total = sums.setdefault((pair[0], pair[1]), [Decimal(0), Decimal(0)])
                total[0] += count * Decimal(row["rtt_avg"])
                total[1] += count
    return [(*pair, int(1000 * total / count)) for pair, (total, count) in sorted(sums.items())]


def main() -> None:
    rows = derive(Path(sys.argv[1]))
    missing = len(PLACES) * (len(PLACES) + 1) // 2 - len(rows)
    if missing:
        sys.exit(f"{missing} pairs of places were not measured")
    with TABLE.open("w", encoding="utf-8") as file:
        file.write(
            "# Average round-trip times between countries in microseconds, RIPE Atlas 2025, as\n"
            "# reduced by the Ouroboros Leios project; derived by tools/derive_latency.py.\n"
        )
        file.writelines(f"{first},{second},{rtt}\n" for first, second, rtt in rows)


if __name__ == "__main__":
    main()
