"""Records under one name: two convict the signer, further ones only fill the disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from orrange_p2p.core.ids import Address, Digest

MAX_VERSIONS: Final = 2
"""Records kept of one name: the second convicts, further ones say nothing new."""
MAX_NAMES: Final = 1 << 13
"""What is neither cut nor decided fits several times over; a larger memory only fills up later."""

Name = tuple[Address, int, int]
"""Signer, era or -1 for an entry, number."""


class Twins:
    """A bounded memory of digests seen lately under one name."""

    def __init__(self) -> None:
        self._digests: dict[Name, tuple[Digest, ...]] = {}

    def admit(self, name: Name, digest: Digest, is_needed: Callable[[Digest], bool]) -> bool:
        """Whether few enough others came under this name, or this one is needed all the same."""
        others = self._digests.pop(name, ())
        if digest not in others:
            if len(others) >= MAX_VERSIONS and not is_needed(digest):
                self._digests[name] = others
                return False
            others = (*others, digest)
        while len(self._digests) >= MAX_NAMES:
            del self._digests[next(iter(self._digests))]
        self._digests[name] = others
        return True
