"""Swaps under every fault at every step: does each party end with its own coins or the other's?

    python tests/swaps/matrix.py [--quick] [--only TEXT] [--forget STATE] [--json]

The cases are generated: first an honest swap tells at which writes a party can die, for each role;
then each fault strikes at each of them. The chains are real, only their time is not; what a party
has in the end is read off the chains by a process of neither. Ends with one line of JSON, and with
status 1 if somebody has neither, a swap is stuck, a party acted on what it had not kept, or a row
of the table was never followed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
import trio

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "chains")]

from swap_parties import (
    STEP_S,
    Killed,
    Party,
    Stage,
    WatchedIntents,
    WatchedSwaps,
    World,
    holds,
    open_stage,
)

from orrange_p2p.core.swaps import htlc
from orrange_p2p.core.swaps.htlc import TRANSITIONS, Role, Swap, SwapEvent, SwapProgress, SwapState
from orrange_p2p.daemon import swapping

HOUR: Final = 6
"""Steps."""
STRIDE: Final = 3
"""Steps between looks while nothing happens: half an hour, within every margin."""
PAIRS: Final = (("btc", "evm"), ("evm", "evm2"))
MOST_STEPS: Final = 200
GOOD: Final = ("its own", "the other's", "both")


class Case(NamedTuple):
    """One course: what strikes whom, and when."""

    pair: tuple[str, str]
    role: Role
    """Of the party at whose write it strikes."""
    point: str
    fault: str
    size: int = 0
    """Steps for which it lasts, or blocks."""

    @property
    def name(self) -> str:
        size = f" {self.size}" if self.size else ""
        return f"{'-'.join(self.pair)} {self.role.name.lower()} {self.point}: {self.fault}{size}"


class Outcome(NamedTuple):
    """How it went."""

    case: Case
    holdings: tuple[str, ...]
    """Of the initiator and the responder, if they lived."""
    states: tuple[str, ...]
    problem: str

    @property
    def is_lost(self) -> bool:
        return any(one not in (*GOOD, "dead") for one in self.holdings)


# --- the cases -----------------------------------------------------------------------------------


def cases(points: dict[tuple[tuple[str, str], Role], list[str]]) -> Iterator[Case]:
    """All of them."""
    for (pair, role), labels in points.items():
        chains = ("own", "other")
        for label in labels:
            for size in (0, HOUR):
                yield Case(pair, role, label, "crash before", size)
                yield Case(pair, role, label, "crash after", size)
            yield Case(pair, role, label, "counterparty silent")
            for chain in chains:
                for fault in ("benign reorganisation", "hostile reorganisation"):
                    for depth in _depths(pair, role, chain):
                        yield Case(pair, role, label, f"{fault} of {chain}", depth)
                yield Case(pair, role, label, f"fee spike on {chain}", HOUR)
                yield Case(pair, role, label, f"endpoint of {chain} down", HOUR)
            yield Case(pair, role, label, "store lost", 1)
        for lie in LIES:
            yield Case(pair, role, "start", f"counterparty lies: {lie}")
        for script in SCRIPTS:
            yield Case(pair, role, "start", script)


def _depths(pair: tuple[str, str], role: Role, chain: str) -> Sequence[int]:
    """Shallower than what is waited for."""
    own_is_base = role is Role.INITIATOR
    kind = pair[0] if own_is_base == (chain == "own") else pair[1]
    return (1, 2) if kind == "btc" else (1, 63)


def quick(everything: Sequence[Case]) -> list[Case]:
    """One of each fault for each role, each at another write."""
    by_fault: dict[tuple[str, Role], list[Case]] = {}
    for case in everything:
        if case.pair == PAIRS[0]:
            by_fault.setdefault((case.fault, case.role), []).append(case)
    return [some[5 * number % len(some)] for number, some in enumerate(by_fault.values())]


# --- what a liar agrees to in truth --------------------------------------------------------------


def _wrong_hash(swap: Swap) -> Swap:
    return swap._replace(own=swap.own._replace(hashlock=b"\x01" * 32))


def _short_timelock(swap: Swap) -> Swap:
    return swap._replace(own=swap.own._replace(timelock_s=swap.own.timelock_s - 6 * 3600))


def _wrong_amount(swap: Swap) -> Swap:
    amount = type(swap.own.amount)(swap.own.amount - 1)
    return swap._replace(own=swap.own._replace(amount=amount))


def _dust(swap: Swap) -> Swap:
    least = 10_000 if swap.own.chain.startswith("bip122") else 1
    return swap._replace(own=swap.own._replace(amount=type(swap.own.amount)(least)))


def _late(swap: Swap) -> Swap:
    times = swap.schedule
    day = 86_400
    return swap._replace(
        schedule=times._replace(
            lock_long_by_s=times.lock_long_by_s + day,
            long_deep_by_s=times.long_deep_by_s + day,
            lock_short_by_s=times.lock_short_by_s + day,
            short_deep_by_s=times.short_deep_by_s + day,
        )
    )


def _late_reveal(swap: Swap) -> Swap:
    times = swap.schedule
    return swap._replace(schedule=times._replace(reveal_by_s=times.long_timelock_s))


LIES: Final[dict[str, Callable[[Swap], Swap]]] = {
    "wrong hash": _wrong_hash,
    "short timelock": _short_timelock,
    "wrong amount": _wrong_amount,
    "dust": _dust,
    "late lock": _late,
    "late reveal": _late_reveal,
}


# --- one course ----------------------------------------------------------------------------------


class Course:
    """One case on its way."""

    def __init__(self, world: World, case: Case) -> None:
        self.world = world
        self.case = case
        self.subject = world.parties[case.role]
        self.other = world.parties[1 - case.role]
        self.labels: list[str] = []
        """The subject's writes, each once."""
        self._struck = False
        self._later: list[Callable[[], Any]] = []
        self._restart_in = -1
        self._quiet = 0
        """Steps for which nothing happened."""
        self.subject.on_write = self._on_write

    async def _on_write(self, label: str) -> None:
        base = label.removesuffix("!")
        if label == base and label not in self.labels:
            self.labels.append(label)
        wanted = self.case.point + ("!" if self.case.fault != "crash before" else "")
        if self._struck or label != wanted:
            return
        self._struck = True
        fault, size = self.case.fault, self.case.size
        if fault.startswith("crash"):
            self._restart_in = size
            raise Killed
        if fault == "store lost":
            self._restart_in = size
            self._later.append(self._lose_store)
            raise Killed
        await self._strike(fault, size)

    async def _strike(self, fault: str, size: int) -> None:
        chains = self.world.chains
        chain = self._chain("own" if fault.split()[-1] == "own" or " of own" in fault else "other")
        if fault == "counterparty silent":
            self._later.append(self._silence)
        elif "reorganisation" in fault:
            is_hostile = fault.startswith("hostile")
            if is_hostile:
                self._later.append(self._silence)
            self._later.append(lambda: chains.reorganise(chain, size, is_hostile=is_hostile))
        elif fault.startswith("fee spike"):
            chains.spike_until_s[chain] = chains.time_s + size * STEP_S
        elif fault.startswith("endpoint"):
            self.subject.down_until_s[chain] = chains.time_s + size * STEP_S

    def _chain(self, which: str) -> str:
        swap = self.subject.kept.swap
        assert swap is not None
        return (swap.own if which == "own" else swap.other).chain

    async def _silence(self) -> None:
        self.other.kill()

    async def _lose_store(self) -> None:
        lose_store(self.subject)

    async def run(self) -> Outcome:
        world, case = self.world, self.case
        lie = LIES.get(case.fault.removeprefix("counterparty lies: "))
        if lie is not None:
            await world.agree(lambda who, swap: lie(swap) if who != case.role else swap)
        else:
            await world.agree()
        if case.fault in SCRIPTS:
            return await self._outcome(await SCRIPTS[case.fault](self))
        held_until_s = 0
        if case.fault.endswith("late lock"):
            swap = self.subject.kept.swap
            assert swap is not None
            held_until_s = swap.schedule.lock_short_by_s + STEP_S
        return await self._outcome(await self.finish(held_until_s=held_until_s))

    async def finish(self, *, held_until_s: int = 0) -> str:
        """Until everybody who lives has ended, or somebody acted on what it had not kept: whatever
        comes after that, the verdict stands. What is wrong else, if something is."""
        chains = self.world.chains
        until_s = chains.time_s + MOST_STEPS * STEP_S
        is_first = True
        while chains.time_s < until_s:
            await self.step(is_held=chains.time_s < held_until_s, is_first=is_first)
            is_first = False
            if self.has_ended() or any(party.ill for party in self.world.parties):
                return ""
        return "stuck"

    def has_ended(self) -> bool:
        waits = self._restart_in >= 0 or not self.subject.is_running
        return not waits and all(
            party.has_ended or party.ill or (party is self.other and not party.is_running)
            for party in self.world.parties
            if party.name in party.swaps._records
        )

    async def step(self, *, is_held: bool = False, is_first: bool = False) -> None:
        parties = [self.subject] if is_held else list(self.world.parties)
        if not is_first:
            await self.world.chains.step(STRIDE if self._quiet >= STRIDE else 1)
        moved = await self.world.look(parties)
        while self._later:
            await self._later.pop(0)()
            await self.world.look(parties)
        if self._restart_in > 0:
            self._restart_in -= 1
        elif self._restart_in == 0:
            self._restart_in = -1
            await self.world.start(self.subject)
            await self.world.look(parties)
        is_waiting = self._restart_in >= 0 or any(
            self.world.chains.time_s < until_s for until_s in self.subject.down_until_s.values()
        )
        self._quiet = 0 if moved or is_waiting else self._quiet + 1

    async def skip_to(self, time_s: int, *running: Party) -> None:
        """Time passes, and only these look."""
        while self.world.chains.time_s < time_s:
            await self.world.chains.step(STRIDE)
            await self.world.look(running)

    async def pass_steps(self, count: int, *running: Party) -> None:
        """Likewise, block by block."""
        for _ in range(count):
            await self.world.chains.step()
            await self.world.look(running)

    async def _outcome(self, problem: str) -> Outcome:
        parties = self.world.parties
        alice, bob = await self.world.views()
        holdings = [holds(alice, bob), holds(bob, alice)]
        for party in parties:
            lied = self.case.fault.startswith("counterparty lies") and party is self.other
            if (not party.is_running and party is self.other) or lied:
                holdings[party.who] = "dead"
        ill = next((party.ill for party in parties if party.ill), "")
        states = tuple(
            party.kept.progress.state.name if party.name in party.swaps._records else "unknown"
            for party in parties
        )
        return Outcome(self.case, tuple(holdings), states, ill or problem)


def lose_store(party: Party) -> None:
    """An empty machine: the seed and the bundle are all there is."""
    party.swaps = WatchedSwaps(party._write)
    party.intents = {name: WatchedIntents(party._write, name) for name in party.intents}
    for file in party.folder.glob("bitcoin.sqlite*"):
        file.unlink()


# --- courses that chains and nodes within their bounds do not take -------------------------------


async def _until(course: Course, party: Party, state: SwapState) -> None:
    for number in range(MOST_STEPS):
        await course.step(is_first=number == 0)
        if party.kept.progress.state is state:
            return
    raise AssertionError(f"never {state.name}")


async def _taken_back_by_another(course: Course, state: SwapState) -> str:
    """A watchtower takes the lock back while we are down: on EVM anybody may."""
    subject = course.subject
    swap = subject.kept.swap
    assert swap is not None
    if swap.own.chain.startswith("bip122"):
        return ""
    await _until(course, subject, SwapState.LOCKED)
    subject.kill()
    course.other.kill()
    record = subject.kept
    subject.swaps._records[subject.name] = record._replace(progress=SwapProgress(state))
    await course.skip_to(swap.own.timelock_s + STEP_S)
    await course.world.start(course.other)
    await course.other.legs[swap.own.chain].refund(swap.own)
    course.other.kill()
    await course.pass_steps(4)
    await course.world.start(subject)
    return await course.finish()


async def _claim_too_late(course: Course) -> str:
    """We showed no secret and were down until the other had taken its lock back."""
    subject, other = course.subject, course.other
    swap = subject.kept.swap
    assert swap is not None
    if swap.role is not Role.INITIATOR:
        return ""

    async def die(label: str) -> None:
        if label == "swap CLAIMING!":
            raise Killed

    subject.on_write = die
    for number in range(MOST_STEPS):
        await course.step(is_first=number == 0)
        if not subject.is_running:
            break
    await course.skip_to(swap.other.timelock_s, other)
    await course.pass_steps(6, other)
    subject.on_write = course._on_write
    await course.world.start(subject)
    return await course.finish()


async def _not_shown_when_it_is_too_late(course: Course) -> str:
    """We were down from just before we would have shown the secret until after the other could have
    taken its lock back, and it had not: shown now, the secret would give it both."""
    subject, other = course.subject, course.other
    swap = subject.kept.swap
    assert swap is not None
    if swap.role is not Role.INITIATOR:
        return ""

    async def die(label: str) -> None:
        if label == "swap CLAIMING!":
            raise Killed

    subject.on_write = die
    for number in range(MOST_STEPS):
        await course.step(is_first=number == 0)
        if not subject.is_running:
            break
    other.kill()
    await course.skip_to(swap.other.timelock_s)
    subject.on_write = course._on_write
    await course.world.start(subject)
    await course.pass_steps(4, subject)
    if (await course.world.views())[1].preimage:
        return "the secret came out"
    await course.world.start(other)
    return await course.finish()


async def _taken(course: Course) -> str:
    """Beyond all bounds: the other knows the secret, took its lock back and takes ours."""
    subject, other = course.subject, course.other
    swap = subject.kept.swap
    assert swap is not None
    if swap.role is not Role.INITIATOR:
        return ""

    async def die(label: str) -> None:
        if label == "swap CLAIMING!":
            raise Killed

    subject.on_write = die
    for number in range(MOST_STEPS):
        await course.step(is_first=number == 0)
        if not subject.is_running:
            break
    await course.skip_to(swap.other.timelock_s, other)
    await course.pass_steps(6, other)
    await other.legs[swap.own.chain].claim(swap.own, subject.secret(subject.name), by_s=0)
    await course.pass_steps(6)
    subject.on_write = course._on_write
    await course.world.start(subject)
    return await course.finish()


async def _never_locked(course: Course) -> str:
    """The block of our lock is replaced long after it was deep, while we are down."""
    subject = course.subject
    swap = subject.kept.swap
    assert swap is not None
    if swap.own.chain.startswith("bip122"):
        return ""
    await _until(course, subject, SwapState.LOCKED)
    subject.kill()
    course.other.kill()
    record = subject.kept
    subject.swaps._records[subject.name] = record._replace(
        progress=SwapProgress(SwapState.REFUNDING)
    )
    subject.intents = {name: WatchedIntents(subject._write, name) for name in subject.intents}
    chains = course.world.chains
    await chains.reorganise(swap.own.chain, 120, is_hostile=True)
    await course.skip_to(swap.own.timelock_s + 12 * STEP_S)
    await course.world.start(subject)
    return await course.finish()


async def _down_while_the_secret_comes_out(course: Course, state: SwapState) -> str:
    """We were down from just after our lock was sent until it was claimed."""
    subject, other = course.subject, course.other
    swap = subject.kept.swap
    assert swap is not None
    if swap.role is not Role.RESPONDER:
        return ""
    await _until(course, subject, SwapState.LOCKED)
    subject.kill()
    subject.swaps._records[subject.name] = subject.kept._replace(progress=SwapProgress(state))
    await course.pass_steps(6, other)
    await course.world.start(subject)
    return await course.finish()


async def _claimed_at_the_last_moment(course: Course) -> str:
    """An initiator who keeps no rule shows the secret only as we take our lock back, and is
    quicker."""
    subject, other = course.subject, course.other
    swap = subject.kept.swap
    assert swap is not None
    if swap.role is not Role.RESPONDER:
        return ""
    record = other.kept
    assert record.swap is not None
    other.swaps._records[other.name] = record._replace(swap=_late_reveal(record.swap))
    await _until(course, subject, SwapState.LOCKED)

    async def die(label: str) -> None:
        if label == "swap REFUNDING!":
            raise Killed

    subject.on_write = die
    await course.skip_to(swap.own.timelock_s, subject)
    while subject.is_running:
        await course.pass_steps(1, subject)
    await other.legs[swap.own.chain].claim(swap.own, other.secret(other.name), by_s=0)
    await course.pass_steps(4, other)
    subject.on_write = course._on_write
    await course.world.start(subject)
    return await course.finish()


SCRIPTS: Final[dict[str, Callable[[Course], Any]]] = {
    "taken back by another while LOCKED": lambda course: _taken_back_by_another(
        course, SwapState.LOCKED
    ),
    "taken back by another while LOCKING": lambda course: _taken_back_by_another(
        course, SwapState.LOCKING
    ),
    "taken back by another while CANCELLING": lambda course: _taken_back_by_another(
        course, SwapState.CANCELLING
    ),
    "claim too late": _claim_too_late,
    "secret kept back": _not_shown_when_it_is_too_late,
    "down while the secret comes out, LOCKING": lambda course: _down_while_the_secret_comes_out(
        course, SwapState.LOCKING
    ),
    "down while the secret comes out, CANCELLING": lambda course: _down_while_the_secret_comes_out(
        course, SwapState.CANCELLING
    ),
    "claimed at the last moment": _claimed_at_the_last_moment,
    "lock gone from a deep block": _never_locked,
    "everything taken": _taken,
}
EXPECTED_LOSSES: Final = ("everything taken",)
"""Beyond the bounds, told as ``LOST``: that the table has the row, and the node says so."""


# --- all of them ---------------------------------------------------------------------------------


class Visited:
    """Which rows of the table were followed."""

    def __init__(self) -> None:
        self.rows: set[tuple[SwapState, SwapEvent]] = set()

    def __enter__(self) -> Visited:
        def advance(progress: SwapProgress, event: SwapEvent, sight: Any) -> SwapProgress:
            self.rows.add((progress.state, event))
            return htlc.advance(progress, event, sight)

        swapping.advance = advance  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: object) -> None:
        swapping.advance = htlc.advance  # type: ignore[attr-defined]

    @property
    def missing(self) -> list[str]:
        rows = sorted(set(TRANSITIONS) - self.rows)
        return [f"{state.name} {event.name}" for state, event in rows]


async def run_case(stage: Stage, case: Case, forgets: frozenset[SwapState]) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="orrange-matrix-") as folder:
        async with stage.world(Path(folder), *case.pair) as world:
            for party in world.parties:
                party.swaps.forgets = forgets
            with trio.move_on_after(120):
                return await Course(world, case).run()
    return Outcome(case, ("nothing yet",) * 2, (), "no end within two minutes")


async def find_points(stage: Stage) -> dict[tuple[tuple[str, str], Role], list[str]]:
    """At which writes each role can die, from an honest swap of each pair."""
    points = {}
    for pair in PAIRS:
        for role in Role:
            with tempfile.TemporaryDirectory(prefix="orrange-matrix-") as folder:
                async with stage.world(Path(folder), *pair) as world:
                    course = Course(world, Case(pair, role, "none", "none"))
                    outcome = await course.run()
                    if outcome.problem or set(outcome.holdings) != {"the other's"}:
                        raise AssertionError(f"an honest swap fails: {outcome}")
                    points[pair, role] = course.labels
    return points


async def run(
    chosen: Callable[[list[Case]], Sequence[Case]],
    forgets: frozenset[SwapState] = frozenset(),
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The figures of ``make matrix``."""
    bad: list[Outcome] = []
    verdicts: Counter[str] = Counter()
    with Visited() as visited:
        async with open_stage((31337, 31338)) as stage:
            every = list(cases(await find_points(stage)))
            wanted = chosen(every)
            for number, case in enumerate(wanted, 1):
                outcome = await run_case(stage, case, forgets)
                is_lost = outcome.is_lost and case.fault not in EXPECTED_LOSSES
                verdicts["lost"] += is_lost
                verdicts["stuck"] += outcome.problem in ("stuck", "no end within two minutes")
                verdicts["ill"] += bool(outcome.problem) and not outcome.problem.startswith(
                    ("stuck", "no end")
                )
                if is_lost or outcome.problem:
                    bad.append(outcome)
                    tell(f"{case.name}: {outcome.holdings} {outcome.states} {outcome.problem}")
                elif number % 20 == 0:
                    tell(f"{number} of {len(wanted)}")
    rows = len(TRANSITIONS)
    return {
        "cases": len(wanted),
        "generated": len(every),
        "lost": verdicts["lost"],
        "stuck": verdicts["stuck"],
        "acted_on_what_was_not_kept": verdicts["ill"],
        "transitions_visited": round(len(visited.rows & set(TRANSITIONS)) / rows, 3),
        "not_visited": visited.missing,
        "bad": [one.case.name for one in bad[:20]],
    }


_SUMMED: Final = ("cases", "lost", "stuck", "acted_on_what_was_not_kept")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a few of each fault")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument(
        "--forget",
        choices=[s.name for s in SwapState],
        action="append",
        default=[],
        help="a mutant that does not keep that it is in this state: the run must fail",
    )
    parser.add_argument("--jobs", type=int, default=1, help="so many processes share the cases")
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--parts", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.jobs > 1:
        return _share(arguments.jobs)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

    def chosen(every: list[Case]) -> Sequence[Case]:
        picked = quick(every) if arguments.quick else every
        wanted = [case for case in picked if arguments.only in case.name]
        return wanted[arguments.part :: arguments.parts]

    forgets = frozenset(SwapState[name] for name in arguments.forget)
    tell = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    figures = trio.run(run, chosen, forgets, tell)
    print(json.dumps(figures))
    is_whole = bool(arguments.only) or arguments.parts > 1 or not figures["not_visited"]
    return 0 if _is_good(figures) and is_whole else 1


def _is_good(figures: dict[str, Any]) -> bool:
    return not (figures["lost"] or figures["stuck"] or figures["acted_on_what_was_not_kept"])


def _share(jobs: int) -> int:
    """The same in several processes, and their figures as one."""
    command = [sys.executable, *(word for word in sys.argv if not word.startswith("--jobs"))]
    command = [word for word in command if word != str(jobs)]
    processes = [
        subprocess.Popen(
            [*command, "--part", str(part), "--parts", str(jobs)], stdout=subprocess.PIPE, text=True
        )
        for part in range(jobs)
    ]
    printed = [process.communicate()[0].splitlines() for process in processes]
    if not all(printed):
        return 1  # one of them has said why
    said = [json.loads(lines[-1]) for lines in printed]
    rows = {f"{state.name} {event.name}" for state, event in TRANSITIONS}
    missing = sorted(set.intersection(*(set(one["not_visited"]) for one in said)))
    figures = {
        **{name: sum(one[name] for one in said) for name in said[0] if name in _SUMMED},
        "generated": said[0]["generated"],
        "transitions_visited": round(1 - len(missing) / len(rows), 3),
        "not_visited": missing,
        "bad": [name for one in said for name in one["bad"]],
    }
    print(json.dumps(figures))
    return 0 if _is_good(figures) and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
