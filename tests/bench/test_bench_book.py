"""The matcher's benchmark, shortened: what it reports, and that every matcher did the same work.

No test here looks at a speed: machines differ, and so does what else they do.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orrange_p2p.bench import book as bench
from orrange_p2p.bench import peers
from orrange_p2p.core.book import BUY, USER, Book, Order

FIGURES = {
    "operations",
    "resting",
    "ops_per_s",
    "ops_per_s_building_orders",
    "build",
    "fills",
    "fills_hash",
    "fills_hash_naive",
    "peers",
    "ratios",
    "same_fills",
    "missing",
    "fastest_fill_reporting_peer",
    "ratio_to_fastest_fill_reporting_peer",
}


def test_the_workload_is_what_it_says() -> None:
    workload = bench.generate(operations=20_000, resting=500, seed=7)
    assert workload == bench.generate(operations=20_000, resting=500, seed=7)
    assert workload != bench.generate(operations=20_000, resting=500, seed=8)
    assert len(workload.resting) == 500
    assert len(workload.operations) == 20_000
    cancels = sum(len(operation) == 1 for operation in workload.operations)
    assert 0.28 < cancels / 20_000 < 0.32
    assert bench.naive_fills(workload)


def test_what_is_bought_is_sold_and_nothing_is_lost() -> None:
    workload = bench.generate(operations=5_000, resting=100, seed=3)
    book = Book()
    orders: dict[int, Order] = {}
    traded: Counter[int] = Counter()
    for operation in [*workload.resting, *workload.operations]:
        if len(operation) == 1:
            assert book.cancel(operation[0], USER) is orders[operation[0]]  # it was live
            continue
        number, side, price, quantity = operation
        owner = b"buyer" if side == BUY else b"seller"
        orders[number] = Order(number, owner, side, price, quantity)
        for fill in book.place(orders[number]):
            assert fill.maker.side != fill.taker.side
            for order in (fill.maker, fill.taker):
                traded[order.side] += fill.quantity
    assert traded[0] == traded[1] > 0
    for order in orders.values():
        assert order.open + order.reserved + order.cancelled == order.quantity
    assert sum(order.reserved for order in orders.values()) == traded[0] + traded[1]


def test_figures_and_equal_fills(tmp_path: Path) -> None:
    figures = bench.run(operations=2_000, repetitions=1, deep=300, environment=tmp_path)
    deep = figures.pop("resting_100k")
    for part, resting in ((figures, 0), (deep, 300)):
        assert set(part) == FIGURES
        assert part["resting"] == resting
        assert part["ops_per_s"] > 0
        assert part["ops_per_s_building_orders"] > 0
        assert part["same_fills"] == dict.fromkeys(peers.OURS, True)
        assert part["build"] in ("mypyc", "pure")
        assert part["fills"] > 0
        assert part["fills_hash"] == part["fills_hash_naive"]
        # An environment without anything in it: each peer is reported, none is passed over.
        assert part["peers"] == dict.fromkeys(peers.PEERS)
        assert [each["name"] for each in part["missing"]] == list(peers.PEERS)
        assert all(each["why"] for each in part["missing"])
        assert part["ratio_to_fastest_fill_reporting_peer"] is None
    assert figures["fills_hash"] != deep["fills_hash"]


@pytest.mark.parametrize("as_json", [True, False])
def test_output(as_json: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"operations": 500, "repetitions": 1, "deep": 0}
    assert bench.main(as_json, environment=tmp_path, **options) == 0
    output = capsys.readouterr().out
    if as_json:
        assert set(json.loads(output)) == FIGURES
    else:
        assert "equal to the naive matcher's" in output
        assert output.count("missing") == len(peers.PEERS)


@pytest.mark.parametrize("name", peers.PEERS)
def test_installed_peers_trade_the_same(name: str, tmp_path: Path) -> None:
    workload = bench.generate(operations=2_000, resting=50, seed=1)
    fills = bench.naive_fills(workload)
    file = tmp_path / "workload.json"
    file.write_text(json.dumps({"resting": workload.resting, "operations": workload.operations}))
    result = peers.measure(name, file, bench.ENVIRONMENT)
    if "missing" in result:
        pytest.skip(result["missing"])
    assert result["seconds"] > 0
    if "fills_hash" in result:
        assert result["fills_hash"] == peers.hash_fills(fills)
    elif name not in peers.NO_FILLS:
        assert result["fills"] == len(fills)


def test_different_fills_are_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "naive_fills", lambda workload: [(1, 2, 3, 4)])
    options: dict[str, Any] = {"operations": 500, "repetitions": 1, "deep": 0}
    assert bench.main(environment=tmp_path, **options) == 1
    assert "NOT EQUAL" in capsys.readouterr().out
