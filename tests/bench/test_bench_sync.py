"""The sync bench, shortened: a real process joins real ones. No timing."""

from __future__ import annotations

import json

from click.testing import CliRunner

from orrange_p2p.cli.bench import command


def test_a_fresh_process_joins_and_agrees() -> None:
    arguments = ["sync", "--orders", "800", "--checkpoint-epochs", "8", "--json"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["agree"] is True
    assert figures["orders"] == 800
    assert figures["bytes"] > 0
    assert figures["peers_used"] >= 1
    assert 0 < figures["joined_at"] <= figures["epoch"]
