"""The commit rule as the specification words it, on a whole DAG, with no regard for cost.

Nothing is shared with ``orrange_p2p.core.clock`` but the witness table: no masks, no increments, no
pruning. Every call starts from the bare set of ticks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from orrange_p2p.core.ids import Digest, Round
from orrange_p2p.core.ticks import Tick
from orrange_p2p.core.witnesses import WitnessTable

UNDECIDED = "undecided"
SKIPPED = "skipped"


class Slot(NamedTuple):
    round: int
    leader: Digest | None
    history: tuple[Digest, ...]


def valid_ticks(ticks: Iterable[Tick], table: WitnessTable) -> dict[Digest, Tick]:
    """Those whose whole causal history is at hand and keeps the rules."""
    known = {tick.digest: tick for tick in ticks}
    valid: dict[Digest, Tick] = {}
    for tick in sorted(known.values(), key=lambda tick: tick.round):
        if tick.witness not in table or not all(parent in valid for parent in tick.parents):
            continue
        parents = [valid[parent] for parent in tick.parents]
        witnesses = {parent.witness for parent in parents}
        if tick.round == 0:
            sound = not parents
        else:
            sound = (
                all(parent.round == tick.round - 1 for parent in parents)
                and len(witnesses) == len(parents)
                and sum(table.weight_of(witness) for witness in witnesses) >= table.quorum
            )
        if sound:
            valid[tick.digest] = tick
    return valid


def sequence(ticks: Iterable[Tick], table: WitnessTable, era_seed: bytes) -> list[Slot]:
    """Every slot decided in order, with the history each committed leader newly covers."""
    held = valid_ticks(ticks, table)
    top = max((tick.round for tick in held.values()), default=-1)
    histories: dict[Digest, set[Digest]] = {}
    statuses: dict[int, Any] = {}  # UNDECIDED, SKIPPED or the digest that commits

    def of_round(round: int) -> list[Tick]:
        return [tick for tick in held.values() if tick.round == round]

    def history(digest: Digest) -> set[Digest]:
        """The tick and everything it descends from."""
        if digest not in histories:
            parents = held[digest].parents
            histories[digest] = {digest}.union(*(history(parent) for parent in parents))
        return histories[digest]

    def weight(ticks_of: Iterable[Tick]) -> int:
        return sum(table.weight_of(witness) for witness in {tick.witness for tick in ticks_of})

    def is_certificate(tick: Tick, leader: Tick) -> bool:
        if tick.round != leader.round + 2:
            return False
        supports = [held[p] for p in tick.parents if leader.digest in held[p].parents]
        return weight(supports) >= table.quorum

    def status(round: int) -> Any:
        if round not in statuses:
            statuses[round] = find_status(round)
        return statuses[round]

    def find_status(round: int) -> Any:
        leader = table.leader(era_seed, Round(round))
        candidates = [tick for tick in of_round(round) if tick.witness == leader]
        for candidate in candidates:
            certificates = [t for t in of_round(round + 2) if is_certificate(t, candidate)]
            if weight(certificates) >= table.quorum:
                return candidate.digest
        following = of_round(round + 1)
        if weight(following) >= table.quorum and all(
            weight(t for t in following if candidate.digest not in t.parents) >= table.quorum
            for candidate in candidates
        ):
            return SKIPPED
        for later in range(round + 3, top + 1):
            anchor = status(later)
            if anchor == SKIPPED:
                continue
            if anchor == UNDECIDED:
                return UNDECIDED
            past = [held[digest] for digest in history(anchor)]
            for candidate in candidates:
                if any(is_certificate(tick, candidate) for tick in past):
                    return candidate.digest
            return SKIPPED
        return UNDECIDED

    # Filled in the order of dependence, or the recursion would be deep.
    for tick in sorted(held.values(), key=lambda tick: tick.round):
        history(tick.digest)
    for round in range(top, -1, -1):
        status(round)

    slots: list[Slot] = []
    covered: set[Digest] = set()
    previous: int | None = None
    for round in range(top + 1):
        decision = status(round)
        if decision == UNDECIDED:
            break
        if decision == SKIPPED:
            slots.append(Slot(round, None, ()))
            continue
        new = [held[digest] for digest in history(decision) - covered]
        if previous is not None:
            new = [tick for tick in new if tick.round >= previous - 64]
        covered |= history(decision)
        previous = round
        new.sort(key=lambda tick: (tick.round, tick.witness, tick.digest))
        slots.append(Slot(round, decision, tuple(tick.digest for tick in new)))
    return slots
