"""The hostile peers of tests/p2p attack whole nodes here."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "p2p"))
