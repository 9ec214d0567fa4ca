"""A first experiment: does a slower clock help a network whose links are bad?

    python simulations/examples/first_steps.py

Copy it, change the scenario, and look at other figures. Each of them is named and explained in
``orrange_p2p/sim/run.py``; what a scenario may say, in ``orrange_p2p/sim/scenario.py``.
"""

from __future__ import annotations

from orrange_p2p.sim.run import simulate
from orrange_p2p.sim.scenario import Scenario, Traders

SEEDS = range(1, 4)


def main() -> None:
    network = Scenario(
        name="first steps",
        seconds=20,
        nodes=40,
        witnesses=7,
        loss_ppm=200_000,
        traders=Traders(random=10, orders_per_s=20),
    )
    print("round, ms   commit p50, ms   p99, ms   repaired")
    for round_ms in (100, 250, 500):
        runs = [
            simulate(network.evolved(min_round_ms=round_ms, seed=seed)).figures for seed in SEEDS
        ]
        if not all(run["agree"] for run in runs):
            raise SystemExit(f"nodes disagree at {round_ms} ms")
        p50, p99, repaired = (
            sum(values) // len(runs)
            for values in zip(
                *((r["commit_ms"]["p50"], r["commit_ms"]["p99"], r["repaired"]) for r in runs),
                strict=True,
            )
        )
        print(f"{round_ms:9}   {p50:14}   {p99:7}   {repaired:8}")


if __name__ == "__main__":
    main()
