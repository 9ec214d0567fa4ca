"""What these tests share is in ``swap_parties.py``; the chains are those of ``tests/chains``."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chains")]
