"""What the tests of chains share is in ``evm_chains.py`` beside this file."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
