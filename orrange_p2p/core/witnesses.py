"""Who keeps the clock of an era, and who leads its rounds (protocol/03-clock.md, Witnesses).

Weight always counts distinct witnesses. A set of witnesses is an ``int`` used as a bit mask over
the table's order (ascending addresses), so unions cost one operation and weighing one costs four
look-ups: the clock does both for every tick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address, Round, Weight
from orrange_p2p.crypto.hashes import sha256

MAX_WITNESSES: Final = 32
MAX_WEIGHT: Final = (1 << 32) - 1

_LEADER_DOMAIN: Final = b"orrange/leader/1"
_DRAW_RANGE: Final = 1 << 64


class WitnessTable:
    """The witnesses of one era with their weights; fixed for the whole era.

    Faulty witnesses of together less than a third of ``total`` are tolerated. With one to three
    witnesses of equal weight the quorum is everybody, so no fault is: development only.
    """

    __slots__ = ("_index", "_masks", "_weights", "addresses", "quorum", "total")

    def __init__(self, weights: Mapping[Address, Weight]) -> None:
        """Raises ``ConfigError`` for an empty or oversized table, or a weight out of range."""
        if not 1 <= len(weights) <= MAX_WITNESSES:
            raise ConfigError(f"{len(weights)} witnesses; an era has 1 to {MAX_WITNESSES}")
        for address, weight in weights.items():
            if not 1 <= weight <= MAX_WEIGHT:
                raise ConfigError(f"witness 0x{address.hex()} has weight {weight}")
        self.addresses: tuple[Address, ...] = tuple(sorted(weights))
        self._weights: tuple[int, ...] = tuple([weights[a] for a in self.addresses])
        self._index: dict[Address, int] = {a: i for i, a in enumerate(self.addresses)}
        self.total: Weight = Weight(sum(self._weights))
        self.quorum: Weight = Weight(2 * self.total // 3 + 1)
        """The smallest weight above two thirds: any two quorums share an honest witness."""
        self._masks: tuple[tuple[int, ...], ...] = tuple(
            [_byte_weights(self._weights[low : low + 8]) for low in range(0, MAX_WITNESSES, 8)]
        )

    def __len__(self) -> int:
        return len(self.addresses)

    def __contains__(self, address: Address) -> bool:
        return address in self._index

    def index_of(self, address: Address) -> int:
        """Position in ascending order of addresses, or -1 for somebody else."""
        return self._index.get(address, -1)

    def weight_of(self, address: Address) -> Weight:
        """Zero for somebody who is no witness."""
        position = self._index.get(address, -1)
        return Weight(0 if position < 0 else self._weights[position])

    def mask_of(self, addresses: Iterable[Address]) -> int:
        """The bit mask of those among ``addresses`` who are witnesses."""
        mask = 0
        for address in addresses:
            position = self._index.get(address, -1)
            if position >= 0:
                mask |= 1 << position
        return mask

    def members(self, mask: int) -> tuple[Address, ...]:
        """The witnesses of a bit mask, ascending."""
        return tuple([a for i, a in enumerate(self.addresses) if mask >> i & 1])

    def weigh(self, mask: int) -> Weight:
        """Weight of a bit mask of witnesses."""
        masks = self._masks
        return Weight(
            masks[0][mask & 255]
            + masks[1][mask >> 8 & 255]
            + masks[2][mask >> 16 & 255]
            + masks[3][mask >> 24 & 255]
        )

    def weight_of_set(self, addresses: Iterable[Address]) -> Weight:
        """Weight of the distinct witnesses among ``addresses``."""
        return self.weigh(self.mask_of(addresses))

    def is_quorum(self, mask: int) -> bool:
        return self.weigh(mask) >= self.quorum

    def more_than_third(self, weight: int) -> bool:
        """Enough that at least one of them is honest: strictly more than a third of the total."""
        return 3 * weight > self.total

    def leader(self, era_seed: bytes, round: Round) -> Address:
        """Who leads a round: drawn by weight, the same for everyone, no two rounds related.

        Draw ``c`` = 0, 1, ... is the first 8 bytes, big-endian, of
        ``SHA-256("orrange/leader/1" || era_seed || uint64 round || uint32 c)``. Draws at or above
        the largest multiple of the total weight are rejected, because taking them modulo the total
        would favour low addresses. The accepted draw modulo the total falls into one witness's
        share, shares laid end to end in ascending order of addresses.
        """
        return self.addresses[self.leader_index(era_seed, round)]

    def leader_index(self, era_seed: bytes, round: int) -> int:
        limit = _DRAW_RANGE - _DRAW_RANGE % self.total
        prefix = _LEADER_DOMAIN + era_seed + round.to_bytes(8, "big")
        counter = 0
        while True:
            draw = int.from_bytes(sha256(prefix + counter.to_bytes(4, "big"))[:8], "big")
            if draw < limit:
                break
            counter += 1
        point = draw % self.total
        for position, weight in enumerate(self._weights):
            if point < weight:
                return position
            point -= weight
        raise AssertionError("the point is below the total weight")


def _byte_weights(weights: tuple[int, ...]) -> tuple[int, ...]:
    """The weight of each of the 256 subsets of up to eight witnesses."""
    sums = [0]
    for bit in range(8):
        weight = weights[bit] if bit < len(weights) else 0
        sums += [known + weight for known in sums]
    return tuple(sums)
