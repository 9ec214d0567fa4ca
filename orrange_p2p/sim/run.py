"""From a scenario to its figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import attrs
from coincurve import PrivateKey

from orrange_p2p.core.genesis import Author, Genesis, Market, Parameters, Witness
from orrange_p2p.core.ids import Address, Digest, TimeMs, Weight
from orrange_p2p.core.replica import Replica
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.crypto import secp256k1
from orrange_p2p.sim.network import Network
from orrange_p2p.sim.scenario import Scenario

__all__ = ["simulate"]

START_MS: Final = TimeMs(1_700_000_000_000)
REVEALS: Final = 1 << 15
MARKET: Final = Market(
    "eip155:31337/slip44:60",
    "eip155:31337/erc20:0x" + "11" * 20,
    tick_size=1,
    lot_size=1,
    settlement="atomic",
    timing="evm-evm",
    rate_numerator=1,
    rate_denominator=1,
    volatility_ppm=1,
)


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


def _new_replica(genesis: Genesis) -> Replica:
    return Replica(genesis, MARKET.id)


def simulate(
    scenario: Scenario,
    tell: Callable[[int], None] = lambda second: None,
    replica: Callable[[Genesis], Replica] = _new_replica,
) -> dict[str, Any]:
    """Run it; ``tell`` is told each simulated second that has passed. ``replica``: what nodes run,
    for checking that a rule that is weakened on purpose is caught.

    All figures but those under ``machine`` follow from the scenario alone, and ``hash`` from them.
    """
    started = time.perf_counter()
    network = _network(scenario, replica)
    network.begin()
    for second in range(1, scenario.seconds + 1):
        network.run_to(second)
        tell(second)
    wall_s = time.perf_counter() - started
    figures = _figures(scenario, network)
    text = json.dumps(figures, sort_keys=True, separators=(",", ":"))
    return {
        **figures,
        "hash": sha256(text.encode()).hexdigest(),
        "machine": {
            "wall_s": round(wall_s, 2),
            "facts_per_s": round(network.counts["taken"] / wall_s),
        },
    }


def _network(scenario: Scenario, replica: Callable[[Genesis], Replica]) -> Network:
    witnesses = []
    for number in range(scenario.witnesses):
        name = f"witness {number}"
        secret = sha256(f"orrange sim reveals {scenario.seed} {name}".encode()).digest()
        witnesses.append((_Key(scenario.seed, name), RevealChain(secret, REVEALS)))
    traders = [_Key(scenario.seed, f"trader {number}") for number in range(scenario.authors)]
    listed = [Witness(key.address, Weight(1), (chain.anchor,)) for key, chain in witnesses]
    genesis = Genesis(
        name="simulated",
        home_chain="eip155:31337",
        registry=Address(bytes(20)),
        start_ms=START_MS,
        open=False,
        parameters=Parameters(
            min_round_ms=scenario.min_round_ms,
            leader_timeout_ms=scenario.leader_timeout_ms,
            operations_per_round=4096,
            operations_burst=65_536,
            open_orders=65_536,
        ),
        witnesses=tuple(sorted(listed, key=lambda one: one.address)),
        authors=tuple(Author(address, 0) for address in sorted(key.address for key in traders)),
        markets=(MARKET,),
    )
    return Network(scenario, genesis, witnesses, traders, replica)


def _figures(scenario: Scenario, network: Network) -> dict[str, Any]:
    epochs = [node.replica.epoch for node in network.nodes]
    least = min(network.nodes, key=lambda node: node.replica.epoch)
    counts = network.counts
    return {
        "scenario": attrs.asdict(scenario),
        "agree": not network.disagreements,
        "disagreements": network.disagreements[:10],
        "epochs": {"least": min(epochs), "most": max(epochs)},
        "root": least.replica.root.hex(),
        "orders": counts["orders"],
        "facts": counts["facts"],
        "ticks": counts["ticks"],
        "deliveries": counts["taken"],
        "duplicates_per_delivery": round(counts["duplicates"] / max(1, counts["taken"]), 3),
        "kilobytes_per_node": counts["bytes"] // 1000 // scenario.nodes,
        "lost": counts["lost"],
        "repaired": counts["repaired"],
        "propagation_ms": network.propagation.figures(),
        "commit_ms": network.commits.figures(),
    }
