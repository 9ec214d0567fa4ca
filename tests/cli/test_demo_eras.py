"""The demo of elected witnesses: two join, one leaves, one is slashed, over six processes."""

from __future__ import annotations

import json
import subprocess
import sys


def test_witnesses_join_leave_and_lose_their_bonds_and_epochs_never_differ() -> None:
    command = [sys.executable, "-m", "orrange_p2p.cli.main", "demo", "--scenario", "eras", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    said = json.loads(done.stdout)
    assert said["agree"] is True and len(set(said["roots"])) == 1 and len(said["roots"]) == 6
    assert (said["joined"], said["left"], said["slashed"]) == (2, 1, 1)
    assert said["eras"] >= 3
    assert int(said["bond_before"]) > 0 and said["bond_after"] == "0"
    assert int(said["reporter_share"]) == int(said["bond_before"]) // 10
    sets = [set(one["witnesses"]) for one in said["rosters"]]
    assert len(sets[0]) == 4 and len(set.union(*sets)) == 6 and len(sets[-1]) == 4
