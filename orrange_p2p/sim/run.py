"""From a scenario to its figures."""

from __future__ import annotations

import gc
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import numpy as np
from coincurve import PrivateKey

from orrange_p2p.core.genesis import Author, Genesis, Parameters, Witness
from orrange_p2p.core.ids import Address, Digest, TimeMs, Weight
from orrange_p2p.core.limits import UNIT, lane_share, shares_of
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.roster import of_genesis
from orrange_p2p.crypto import secp256k1
from orrange_p2p.feeds.bitstamp import SAMPLE, BitstampLog
from orrange_p2p.sim import measures
from orrange_p2p.sim.conditions import Conditions
from orrange_p2p.sim.demand import Demand
from orrange_p2p.sim.elections import (
    REGISTRY,
    TRADER_BOND,
    WHOLE,
    Elections,
    Stander,
    elected_parameters,
    rounds_needed,
)
from orrange_p2p.sim.engine import Dice, Engine
from orrange_p2p.sim.homechain import MARKET
from orrange_p2p.sim.measures import Counts, quantiles
from orrange_p2p.sim.network import Network
from orrange_p2p.sim.scenario import OF_TRADERS, Fidelity, Scenario
from orrange_p2p.sim.settlement import Settlement
from orrange_p2p.sim.shared import SharedMachines
from orrange_p2p.sim.traders import FeedTrader, Maker, Racer, RandomTrader, Taker, Trader, replay
from orrange_p2p.sim.wire import Wire

__all__ = ["MARKET", "Result", "simulate"]

START_MS: Final = TimeMs(1_700_000_000_000)
REVEALS: Final = 1 << 15
BURST_ROUNDS: Final = 10
COLLECTOR_THRESHOLDS: Final = (200_000, 50, 1_000)
Tell = Callable[[int], None]
NewReplica = Callable[[Genesis], Replica]


class Result(NamedTuple):
    """What a run found."""

    figures: dict[str, Any]
    """All of them but those under ``machine`` follow from the scenario alone, and ``hash`` from
    them."""
    propagation: Counts
    """How many arrivals took how many whole milliseconds."""
    commits: Counts
    """The same of commits: from an entry's writing to its epoch at each node."""
    epochs: list[dict[str, Any]]
    """One row each; none of a ``wire`` run."""


class _Key:
    """A key of its own for each name and seed."""

    def __init__(self, seed: int, name: str) -> None:
        self._secret = PrivateKey(sha256(f"orrange sim key {seed} {name}".encode()).digest())
        self._address = Address(secp256k1.address_of(self._secret.public_key))

    @property
    def address(self) -> Address:
        return self._address

    def sign(self, digest: Digest) -> bytes:
        return secp256k1.sign(self._secret, digest)


def simulate(
    scenario: Scenario, tell: Tell = lambda second: None, replica: NewReplica | None = None
) -> Result:
    """Run it; ``tell`` is told each simulated second that has passed. ``replica``: what nodes run
    instead, for checking that a rule that is weakened on purpose is caught."""
    started = time.perf_counter()
    run = _wire if scenario.fidelity is Fidelity.WIRE else _full
    before = gc.get_threshold()
    # Nearly all that is made stays: looking at it over and over took a quarter of the time.
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    try:
        result = run(scenario, tell, replica)
    finally:
        gc.set_threshold(*before)
    wall_s = time.perf_counter() - started
    text = json.dumps(result.figures, sort_keys=True, separators=(",", ":"))
    taken = result.figures["deliveries"]
    return result._replace(
        figures={
            **result.figures,
            "hash": sha256(text.encode()).hexdigest(),
            "machine": {"wall_s": round(wall_s, 2), "deliveries_per_s": round(taken / wall_s)},
        }
    )


# --- full ---


def _full(scenario: Scenario, tell: Tell, replica: NewReplica | None) -> Result:
    cast = _Cast(scenario)
    machines = SharedMachines(cast.genesis, MARKET.id)
    new = machines.replica if replica is None else lambda: replica(cast.genesis)
    network = Network(
        scenario,
        cast.genesis,
        cast.witnesses,
        cast.traders,
        new,
        lambda engine: Settlement(scenario, engine, MARKET, START_MS),
        cast.elections,
    )
    Conditions(scenario, network.engine, network.links).begin()
    demand = Demand(scenario, cast.random, cast.quota_ppm())
    network.settlement.defaulters = frozenset(one.address for one in demand.defaulters)
    network.begin()
    demand.begin(network)
    if cast.feed:
        log = BitstampLog(_path_of(scenario.traders.feed))
        replay(cast.feed, log, scenario.traders.feed_speed, network)
    for second in range(1, scenario.seconds + 1):
        network.run_to(second)
        tell(second)
    propagation = measures.propagation_ms(network.facts)
    commits = network.measures.commits_ms(network.facts)
    figures = _header(scenario, network.measures.counts, propagation)
    figures |= _of_core(scenario, network, cast, demand, commits)
    return Result(figures, propagation, commits, network.measures.rows())


def _path_of(feed: str) -> Path:
    return SAMPLE if feed == "sample" else Path(feed)


class _Cast:
    """Who takes part: keys, genesis, traders."""

    def __init__(self, scenario: Scenario) -> None:
        seed, wanted = scenario.seed, scenario.traders
        self._scenario = scenario
        reveals, eras = REVEALS, scenario.eras
        if eras is not None:
            reveals = (scenario.seconds // eras.era_s + 2) * rounds_needed(scenario, eras)
        self.witnesses = []
        for number in range(scenario.witnesses):
            name = f"witness {number}"
            secret = sha256(f"orrange sim reveals {seed} {name}".encode()).digest()
            self.witnesses.append((_Key(seed, name), RevealChain(secret, reveals)))
        keys = [_Key(seed, f"trader {number}") for number in range(wanted.count)]
        self.bonds = _bonds(scenario)
        self.genesis = _genesis(scenario, self.witnesses, keys, self.bonds)
        kinds: list[tuple[type[Trader], int]] = [
            (RandomTrader, wanted.random),
            (Maker, wanted.makers),
            (Taker, wanted.takers),
            (Racer, wanted.racers),
            (FeedTrader, wanted.feed_authors if wanted.feed else 0),
        ]
        self.traders: list[Trader] = []
        for kind, count in kinds:
            for _ in range(count):
                number = len(self.traders)
                dice = Dice(seed, number, "trader")
                home = number % scenario.nodes
                self.traders.append(kind(self.genesis, keys[number], home, dice))
        self.random = [one for one in self.traders if isinstance(one, RandomTrader)]
        self.feed = [one for one in self.traders if isinstance(one, FeedTrader)]
        self.names = {key.address: f"trader {number}" for number, key in enumerate(keys)}
        for number, (key, _) in enumerate(self.witnesses):
            self.names[key.address] = f"witness {number}"

    def quota_ppm(self) -> dict[Address, int]:
        """Millionths of an order that the book lets each trader place a second in the first era:
        by its share, or by an equal part of the lane."""
        genesis = self.genesis
        if self._scenario.eras is None:
            return {}
        parameters = genesis.parameters
        shares = shares_of(of_genesis(genesis, MARKET.id), parameters, MARKET)
        apart = [trader.address for trader in self.traders if trader.address not in shares]
        lane = lane_share(parameters, MARKET).refill // max(1, len(apart))
        rounds_ppm = 1_000_000_000 // self._scenario.min_round_ms
        return {
            trader.address: (shares[trader.address].refill if trader.address in shares else lane)
            * rounds_ppm
            // UNIT
            for trader in self.traders
        }

    @property
    def elections(self) -> Callable[[Engine], Elections] | None:
        """The home chain, of a network that elects its witnesses."""
        eras = self._scenario.eras
        if eras is None:
            return None
        standers = [Stander(key.address, chain.anchor) for key, chain in self.witnesses]
        traders = dict(zip([one.address for one in self.traders], self.bonds, strict=True))
        return lambda engine: Elections(
            self._scenario, eras, engine, self.genesis, standers, traders
        )


def _bonds(scenario: Scenario) -> list[int]:
    """Of traders, whole ones, in their order: the last random ones are attackers."""
    bonds = [TRADER_BOND] * scenario.traders.count
    number = scenario.traders.random
    for attack in scenario.attack:
        if attack.kind in OF_TRADERS:
            bonds[number - attack.count : number] = [attack.bond] * attack.count
            number -= attack.count
    return bonds


def _genesis(
    scenario: Scenario,
    witnesses: list[tuple[_Key, RevealChain]],
    traders: list[_Key],
    bonds: list[int],
) -> Genesis:
    listed = [
        Witness(key.address, Weight(1), (chain.anchor,))
        for number, (key, chain) in enumerate(witnesses)
        if scenario.candidacy(number).from_s == 0
    ]
    unit = 0 if scenario.eras is None else WHOLE
    worths = {key.address: bond * unit for key, bond in zip(traders, bonds, strict=True)}
    parameters = Parameters(
        min_round_ms=scenario.min_round_ms,
        leader_timeout_ms=scenario.leader_timeout_ms,
        operations_per_round=scenario.operations_per_round,
        operations_burst=scenario.operations_per_round * BURST_ROUNDS,
        open_orders=65_536,
        trade_lifetime_ms=scenario.chain.lifetime_s * 1000,
    )
    return Genesis(
        name="simulated",
        home_chain="eip155:31337",
        registry=Address(bytes(20)) if scenario.eras is None else REGISTRY,
        start_ms=START_MS,
        open=False,
        parameters=elected_parameters(scenario, parameters),
        witnesses=tuple(sorted(listed, key=lambda one: one.address)),
        authors=tuple(Author(address, worths[address]) for address in sorted(worths)),
        markets=(MARKET,),
    )


def _header(scenario: Scenario, counts: Mapping[str, int], propagation: Counts) -> dict[str, Any]:
    return {
        "scenario": json.loads(json.dumps(attrs.asdict(scenario))),
        "config": scenario.digest,
        "orders": counts["orders"],
        "ticks": counts["ticks"],
        "deliveries": counts["taken"],
        "messages": counts["messages"],
        "duplicates_per_delivery": round(counts["duplicates"] / max(1, counts["taken"]), 3),
        "kilobytes_per_node": counts["bytes"] // 1000 // scenario.nodes,
        "lost": counts["lost"],
        "propagation_ms": {**quantiles(propagation), "mean": measures.mean(propagation)},
    }


def _of_core(
    scenario: Scenario, network: Network, cast: _Cast, demand: Demand, commits: Counts
) -> dict[str, Any]:
    noted, counts = network.measures, network.measures.counts
    replicas = [node.replica for node in network.nodes if not node.is_misled]
    halts = [one.halt.reason.value for one in replicas if one.halt is not None]
    least = min(replicas, key=lambda one: one.epoch)
    guilty = {cast.names[address]: what for address, what in network.convicted().items()}
    epoch_of = noted.epoch_of()
    born = {fact.record.digest: fact.born_us for fact in network.facts if not fact.is_tick}
    attackers = {trader.address for trader in demand.attackers}
    if attackers:
        theirs = {trader.home for trader in demand.attackers}
        others = {node.number for node in network.nodes} - theirs
        honest = noted.commits_ms(network.facts, attackers, others)
        of_honest = {"commit_honest_ms": {**quantiles(honest), "mean": measures.mean(honest)}}
    else:
        of_honest = {}
    refused = Counter[str]()
    for (author, why), count in noted.refusals.items():
        refused["of attackers" if author in attackers else why] += count
    return {
        "agree": not noted.disagreements and not halts,
        "disagreements": noted.disagreements[:10],
        "halted": dict(sorted(Counter(halts).items())),
        "faulty_witnesses": {"there": scenario.faulty_witnesses, "borne": scenario.faults_borne},
        "convicted": dict(sorted(guilty.items())),
        "epochs": {"least": least.epoch, "most": max(one.epoch for one in replicas)},
        **_of_eras(network, cast, replicas),
        "root": least.root.hex(),
        "facts": len(network.facts),
        "matches": counts["matches"],
        "trades": counts["trades"],
        "lapses": counts["lapses"],
        "lapsed_by_attackers": sum(
            count for silent, count in noted.lapsed.items() if attackers.intersection(silent)
        ),
        "refused": dict(sorted(refused.items())),
        "asked": counts["asked"],
        "pages": counts["pages"],
        "repaired": counts["repaired"],
        "commit_ms": {**quantiles(commits), "mean": measures.mean(commits)},
        **of_honest,
        "over_allowance": counts["over_allowance"],
        "divergence_ms": quantiles(noted.lags_ms()),
        "inversions": measures.inversions(
            [(born[digest], epoch) for digest, epoch in epoch_of.items()]
        ),
        "settlement": network.settlement.figures(),
        "settlement_ms": quantiles(network.settlement.took_ms()),
        "race_won": measures.race_won(
            (epoch_of[seen], epoch_of[answer])
            for seen, answer in network.races()
            if seen in epoch_of and answer in epoch_of
        ),
    }


def _of_eras(network: Network, cast: _Cast, replicas: list[Replica]) -> dict[str, Any]:
    if network.elections is None:
        return {}
    misled = Counter(
        f"{'goes on' if replica.halt is None else replica.halt.reason.value} in era {replica.era}"
        for replica in [node.replica for node in network.nodes if node.is_misled]
    )
    return {
        "eras": {
            "least": min(one.era for one in replicas),
            "most": max(one.era for one in replicas),
        },
        "rosters": network.elections.figures(cast.names),
        "misled": dict(sorted(misled.items())),
    }


# --- wire ---


def _wire(scenario: Scenario, tell: Tell, replica: NewReplica | None) -> Result:
    wire = Wire(scenario)
    for second in range(1, scenario.seconds + 1):
        wire.run_to(second)
        tell(second)
    figures = _header(scenario, wire.measures.counts, wire.propagation)
    figures["facts"] = wire.measures.counts["facts"]
    figures["unreached"] = wire.unreached
    return Result(figures, wire.propagation, np.zeros(1, np.int64), [])
