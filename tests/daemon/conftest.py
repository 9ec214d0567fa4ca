"""The hostile peers of tests/p2p attack whole nodes here."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "p2p"))


@pytest.fixture
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes are in this process: their clocks are one, and an echo takes a millisecond."""
    monkeypatch.setattr("orrange_p2p.daemon.signing.FRESH_MARGIN_MS", 300)
    monkeypatch.setattr("orrange_p2p.daemon.signing.LOOK_EVERY_S", 0.1)
    monkeypatch.setattr("orrange_p2p.daemon.witness.OFFER_AGAIN_S", 0.1)


@pytest.fixture
def quick_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs last a tenth of the usual time here, so looks are as much more often."""
    monkeypatch.setattr("orrange_p2p.daemon.checkpointing.LOOK_EVERY_S", 0.05)
    monkeypatch.setattr("orrange_p2p.daemon.joining.LOOK_EVERY_S", 0.2)
    monkeypatch.setattr("orrange_p2p.daemon.joining.ASK_EVERY_S", 0.2)
    monkeypatch.setattr("orrange_p2p.daemon.joining.AHEAD_EPOCHS", 8)
