"""How deeply a JSON text is nested, told before it is decoded."""

from __future__ import annotations

import re
from typing import Final

_BRACKET: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')


def is_deep(text: str, most: int) -> bool:
    """Whether arrays and objects are nested more than ``most`` levels; of a broken text, anything.

    Counted here, since the decoder's own guard is Python's recursion limit: a package that raises
    it (py_ecc does, to 100,000) turns deep nesting into a crash of the process.
    """
    if text.count("[") + text.count("{") <= most:
        return False
    depth = 0
    for match in _BRACKET.finditer(text):
        bracket = match[0]
        if bracket in "[{":
            depth += 1
            if depth > most:
                return True
        elif bracket in "]}":
            depth -= 1
    return False
