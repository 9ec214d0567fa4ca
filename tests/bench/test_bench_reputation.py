"""A short run of the indexer's benchmark: all is read, kept and scored."""

from __future__ import annotations

import json

from click.testing import CliRunner

from orrange_p2p.cli.bench import command


def test_everything_that_was_answered_is_kept_and_scored() -> None:
    run = [
        CliRunner().invoke(
            command, ["reputation", "--events", "5000", "--accounts", "100", "--json"]
        )
        for _ in range(2)
    ]
    assert [done.exit_code for done in run] == [0, 0], run[0].output
    first, again = (json.loads(done.stdout) for done in run)
    assert (first["events"], first["accounts"]) == (5000, 100)
    assert first["events_per_s"] > 0
    assert first["digest"] == again["digest"]
