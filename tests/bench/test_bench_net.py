"""The network bench, shortened: real processes agree and lose nothing. No timing."""

from __future__ import annotations

import json

from click.testing import CliRunner

from orrange_p2p.cli.bench import command
from orrange_p2p.cli.chronicle import percentile


def test_two_nodes_agree_and_lose_nothing() -> None:
    arguments = ["net", "--nodes", "2", "--seconds", "3", "--rate", "400", "--authors", "2"]
    result = CliRunner().invoke(command, [*arguments, "--operations", "16", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["agree"] is True
    assert figures["lost"] == 0
    assert figures["settled"] is True
    assert figures["refused"] == 0
    assert figures["acknowledged"] == 75 * 16
    assert figures["largest_entry"] <= 17  # the accept of matches joins what is submitted
    assert figures["matches"] == figures["trades"] + figures["lapses"] > 0
    assert 0 < figures["commit_latency_ms"]["p50"] <= figures["commit_latency_ms"]["p99"]
    assert len(figures["cpu"]) == len(figures["rss_mb"]) == 2


def test_percentiles_are_of_nearest_rank() -> None:
    assert [percentile([10, 20, 30, 40], percent) for percent in (1, 50, 99)] == [10, 20, 40]
    assert percentile([], 50) is None
