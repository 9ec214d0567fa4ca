"""What many replicas in one process compute alike is computed once.

The fold and the cut of a market are deterministic machines: what an operation returns, and how the
machine goes on, follows from the operations before it alone. Here a machine's states form a tree
whose edges are operations. A replica holds a place in it. It goes along the edge of its next
operation, if some replica went there before with exactly the same arguments, and takes the result
found then; otherwise the production machine computes it, and the tree grows. Replicas that compute
something else sit on branches of their own. No rule is written a second time (decision 0020).

The arguments of ``Cut.extend`` are functions: its edge remembers what they were asked and answered,
and is taken by whose functions answer the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, NamedTuple, cast

from orrange_p2p.core.cut import Cut, Extension
from orrange_p2p.core.fold import EpochFacts, EpochOutcome, Fold
from orrange_p2p.core.genesis import Genesis
from orrange_p2p.core.ids import Address, Digest, Epoch, MarketId
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.roster import Roster
from orrange_p2p.core.state import StateView
from orrange_p2p.core.ticks import Tick
from orrange_p2p.core.witnesses import WitnessTable

__all__ = ["SharedMachines"]

COPY_EVERY: Final = 16
"""A copy of the cut is kept every so many operations, from which stragglers go on."""

Prev = Callable[[Digest], Digest | None]
Eligible = Callable[[Address], bool]


class SharedMachines:
    """The trees of one market. The replicas made here share them."""

    def __init__(self, genesis: Genesis, market_id: MarketId) -> None:
        self._genesis = genesis
        self._market_id = market_id
        self._fold_root: _FoldState | None = None
        self._cut_root: _CutState | None = None

    def replica(self) -> Replica:
        """A replica at genesis."""
        return Replica(
            self._genesis,
            self._market_id,
            new_fold=cast("Callable[[Genesis, MarketId], Fold]", self._new_fold),
            new_cut=cast("Callable[[WitnessTable], Cut]", self._new_cut),
        )

    def _new_fold(self, genesis: Genesis, market_id: MarketId) -> SharedFold:
        if self._fold_root is None:
            self._fold_root = _FoldState(None, None, Fold(genesis, market_id), None)
        return SharedFold(genesis, self._fold_root, lambda: Fold(genesis, market_id))

    def _new_cut(self, table: WitnessTable) -> SharedCut:
        if self._cut_root is None:
            self._cut_root = _CutState(None, None, Cut(table))
        return SharedCut(self._cut_root)


# --- the fold ---


class _FoldState:
    """A state of the fold that some replica was in, and what a replica asks of it."""

    __slots__ = ("bound", "children", "epoch", "frozen", "listed", "live_order_count", "machine",
                 "operation", "outcome", "parent", "root", "terms", "view")  # fmt: skip

    def __init__(
        self,
        parent: _FoldState | None,
        operation: EpochFacts | Roster | None,
        machine: Fold,
        outcome: EpochOutcome | None,
    ) -> None:
        self.parent = parent
        self.operation = operation
        """What led here from ``parent``."""
        self.machine: Fold | None = machine
        """Until it goes on from here."""
        self.outcome = outcome
        self.children: dict[Hashable, _FoldState] = {}
        self.epoch: Epoch = machine.epoch
        self.root: bytes = machine.root
        self.live_order_count: int = machine.live_order_count
        accounts = machine.accounts.items()
        self.frozen = frozenset([address for address, account in accounts if account.frozen])
        self.bound = frozenset(
            [a for a, account in accounts if account.binding and machine.is_eligible(a)]
        )
        if parent is None or isinstance(operation, Roster):
            self.listed = frozenset([one.author for one in machine.roster.standings])
        else:
            self.listed = parent.listed
        self.view: StateView | None = None
        self.terms: dict[bytes, bytes] = {}


class SharedFold:
    """A replica's fold: as much of ``Fold`` as replicas and the simulator ask for."""

    __slots__ = ("_is_open", "_new_machine", "state")

    def __init__(
        self, genesis: Genesis, state: _FoldState, new_machine: Callable[[], Fold]
    ) -> None:
        self._is_open = genesis.open
        self._new_machine = new_machine
        self.state = state

    @property
    def epoch(self) -> Epoch:
        return self.state.epoch

    @property
    def root(self) -> bytes:
        return self.state.root

    @property
    def live_order_count(self) -> int:
        return self.state.live_order_count

    def is_frozen(self, author: Address) -> bool:
        return author in self.state.frozen

    def is_eligible(self, author: Address) -> bool:
        return self._is_open or author in self.state.listed or author in self.state.bound

    def view(self) -> StateView:
        self._look()
        assert self.state.view is not None
        return self.state.view

    def terms(self) -> dict[bytes, bytes]:
        self._look()
        return self.state.terms

    def _look(self) -> None:
        """Keep what the first replica asks for: all ask right after they applied."""
        state = self.state
        if state.view is None:
            assert state.machine is not None
            state.view, state.terms = state.machine.view(), state.machine.terms()

    def apply(self, facts: EpochFacts) -> EpochOutcome:
        # Digests name entries, which therefore need not be compared field by field.
        key = (facts[:8], tuple([entry.digest for entry in facts.entries]), facts[9:])
        known = self.state.children.get(key)
        if known is None:
            machine = self._take_machine()
            outcome = machine.apply(facts)
            known = _FoldState(self.state, facts, machine, outcome)
            self.state.children[key] = known
        self.state = known
        assert known.outcome is not None
        return known.outcome

    def begin_era(self, roster: Roster) -> None:
        known = self.state.children.get(roster.digest)
        if known is None:
            machine = self._take_machine()
            machine.begin_era(roster)
            known = _FoldState(self.state, roster, machine, None)
            self.state.children[roster.digest] = known
        self.state = known

    def _take_machine(self) -> Fold:
        """The machine in this state, to go on with; one anew if it went on elsewhere."""
        state = self.state
        if state.machine is not None:
            machine, state.machine = state.machine, None
            return machine
        machine = self._new_machine()
        for step in _path(state):
            if isinstance(step.operation, EpochFacts):
                machine.apply(step.operation)
            elif step.operation is not None:
                machine.begin_era(step.operation)
        return machine


def _path(state: _FoldState | None) -> list[_FoldState]:
    """From the root on."""
    path = []
    while state is not None:
        path.append(state)
        state = state.parent
    return path[::-1]


def _key_of(table: WitnessTable) -> Hashable:
    return tuple([(address, table.weight_of(address)) for address in table.addresses])


# --- the cut ---


class _Asked(NamedTuple):
    """What ``extend`` asked, and what it was answered."""

    prevs: dict[Digest, Digest | None]
    eligible: dict[Address, bool]

    def would_answer(self, prev_of: Prev, eligible: Eligible) -> bool:
        for author, verdict in self.eligible.items():
            if eligible(author) != verdict:
                return False
        return all(prev_of(digest) == prev for digest, prev in self.prevs.items())


class _CutState:
    """A state of the cut that some replica was in."""

    __slots__ = ("children", "depth", "extensions", "machine", "operation", "parent", "spare")

    def __init__(
        self, parent: _CutState | None, operation: Callable[[Cut], object] | None, machine: Cut
    ) -> None:
        self.parent = parent
        self.operation = operation
        """What led here from ``parent``."""
        self.machine: Cut | None = machine
        """Until it goes on from here."""
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.spare: Cut | None = None
        """A copy that stays."""
        self.children: dict[Hashable, _CutState] = {}
        self.extensions: list[tuple[_Asked, Extension, _CutState]] = []
        if self.depth % COPY_EVERY == 0:
            self.spare = machine.copy()

    def take_machine(self) -> Cut:
        """The machine in this state, to go on with; a copy brought here if it went on elsewhere."""
        if self.machine is not None:
            machine, self.machine = self.machine, None
            return machine
        steps: list[_CutState] = []
        state = self
        while state.spare is None:
            assert state.parent is not None, "the root has a copy"
            steps.append(state)
            state = state.parent
        assert state.spare is not None
        machine = state.spare.copy()
        for step in reversed(steps):
            assert step.operation is not None
            step.operation(machine)
        return machine

    def become(self, key: Hashable, operation: Callable[[Cut], object]) -> _CutState:
        """Where that operation leads."""
        known = self.children.get(key)
        if known is None:
            machine = self.take_machine()
            operation(machine)
            known = self.children[key] = _CutState(self, operation, machine)
        return known


class SharedCut:
    """A replica's cut: as much of ``Cut`` as replicas ask for."""

    __slots__ = ("_state",)

    def __init__(self, state: _CutState) -> None:
        self._state = state

    def prime(self, ticks: Sequence[Tick]) -> None:
        self._become("prime", _names(ticks), lambda cut: cut.prime(ticks))

    def absorb(self, ticks: Sequence[Tick]) -> None:
        self._become("absorb", _names(ticks), lambda cut: cut.absorb(ticks))

    def freeze(self, author: Address) -> None:
        self._become("freeze", author, lambda cut: cut.freeze(author))

    def begin_era(self, table: WitnessTable) -> None:
        self._become("begin_era", _key_of(table), lambda cut: cut.begin_era(table))

    def _become(self, name: str, key: Hashable, operation: Callable[[Cut], object]) -> None:
        self._state = self._state.become((name, key), operation)

    def extend(self, prev_of: Prev, eligible: Eligible) -> Extension:
        state = self._state
        for asked, extension, after in state.extensions:
            if asked.would_answer(prev_of, eligible):
                self._state = after
                return extension
        asked = _Asked({}, {})
        machine = state.take_machine()
        extension = machine.extend(
            lambda digest: asked.prevs.setdefault(digest, prev_of(digest)),
            lambda author: asked.eligible.setdefault(author, eligible(author)),
        )
        if extension.missing:  # nothing changed
            state.machine, after = machine, state
        else:
            prevs, verdicts = asked.prevs.__getitem__, asked.eligible.__getitem__
            after = _CutState(state, lambda cut: cut.extend(prevs, verdicts), machine)
        state.extensions.append((asked, extension, after))
        self._state = after
        return extension


def _names(ticks: Iterable[Tick]) -> Hashable:
    return tuple([tick.digest for tick in ticks])
