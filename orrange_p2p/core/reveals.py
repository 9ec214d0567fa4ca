"""Hash chains that feed the seed: one reveal per witness and round (protocol/03-clock.md, Reveals).

``x[i] = SHA-256(x[i + 1])`` down from a secret; the anchor, published in genesis, is
``SHA-256(x[0])``. A witness shows ``x[i]`` in its tick of position
i = era * rounds_per_era + round. Nobody can compute a later reveal from an earlier one, and nobody
can show a different one.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from orrange_p2p.core.errors import InvalidError

CHAIN_LENGTH: Final = 1 << 20
"""Reveals in a chain: 64 eras of 16,384 rounds, computed in about a second."""
_STRIDE: Final = 1 << 10


class RevealChain:
    """The witness's own side: derives any reveal from the secret.

    Keeps every 1,024th link, so a reveal costs at most 1,023 hashes and the chain 32 KiB.
    """

    def __init__(self, secret: bytes, length: int = CHAIN_LENGTH) -> None:
        if len(secret) != 32:
            raise ValueError("the secret of a reveal chain is 32 bytes")
        self.length = length
        last = length - 1
        link = sha256(b"orrange/reveal/1" + secret).digest()
        self._marks = {last: link}
        for start in range(last - last % _STRIDE, -1, -_STRIDE):
            for _ in range(last - start):
                link = sha256(link).digest()
            self._marks[start] = link
            last = start
        self.anchor = sha256(link).digest()
        """32 bytes for genesis."""
        self._block: tuple[int, list[bytes]] = (-1, [])

    def reveal(self, position: int) -> bytes:
        """The preimage for a position. Raises ``InvalidError`` past the end of the chain."""
        if not 0 <= position < self.length:
            raise InvalidError(f"the reveal chain ends before position {position}")
        start = position - position % _STRIDE
        if self._block[0] != start:
            end = min(start + _STRIDE, self.length - 1)
            links = [self._marks[end]]
            for _ in range(end - start):
                links.append(sha256(links[-1]).digest())
            links.reverse()
            self._block = (start, links)
        return self._block[1][position - start]


class RevealVerifier:
    """Everyone else's side: checks reveals in any order, remembering one verified link."""

    def __init__(self, anchor: bytes, length: int = CHAIN_LENGTH) -> None:
        self._position = -1
        self._link = anchor
        self._anchor = anchor
        self._length = length

    def check(self, position: int, reveal: bytes) -> None:
        """Raises ``InvalidError`` unless ``reveal`` is the chain's at ``position``.

        Costs one hash per round since the highest position verified before (or, for an older
        position, per round of difference).
        """
        if not 0 <= position < self._length:
            raise InvalidError(f"no reveal chain reaches position {position}")
        low, high, link, target = self._position, position, reveal, self._link
        if position <= self._position:
            low, high, link, target = position, self._position, self._link, reveal
        for _ in range(high - low):
            link = sha256(link).digest()
        if link != target:
            raise InvalidError("the reveal is not the witness's hash chain's")
        if position > self._position:
            self._position, self._link = position, reveal
