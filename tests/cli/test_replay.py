"""``orrange replay`` on the sample that ships and on feeds one can check by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orrange_p2p.cli.replay import command
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.feeds.bitstamp import SAMPLE


def order(event: str, number: int, side: int, price: str, amount: str) -> str:
    fields = {"price": price, "amount": amount, "id": number, "order_type": side}
    return f"{number} order_{event} {json.dumps(fields)}"


def published(price: float, amount: float) -> str:
    return f"9 trade {json.dumps({'price': price, 'amount': amount, 'id': 1})}"


def replay(tmp_path: Path, *lines: str) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Trades, summary, and what was said on standard error."""
    path = tmp_path / "feed.log"
    path.write_text("\n".join(lines))
    result = CliRunner().invoke(command, [str(path), "--format", "bitstamp", "--json"])
    assert result.exit_code == 0, result.output
    *trades, summary = [json.loads(line) for line in result.stdout.splitlines()]
    return trades, summary, result.stderr


def test_two_orders_that_meet(tmp_path: Path) -> None:
    trades, summary, _ = replay(
        tmp_path,
        order("created", 10, 1, "236.47", "2.00000000"),
        order("created", 11, 0, "236.50", "0.21144331"),
        published(236.47, 0.21144331),
    )
    assert trades == [{"price": "236.47", "amount": "0.21144331", "maker": 10, "taker": 11}]
    assert (summary["trades"], summary["in_feed"], summary["equal"]) == (1, 1, 1)


def test_price_then_time(tmp_path: Path) -> None:
    trades, _, _ = replay(
        tmp_path,
        order("created", 1, 0, "10.00", "1.00000000"),
        order("created", 2, 0, "10.01", "1.00000000"),
        order("created", 3, 0, "10.01", "1.00000000"),
        order("created", 4, 1, "10.00", "2.50000000"),
    )
    assert [(t["maker"], t["price"], t["amount"]) for t in trades] == [
        (2, "10.01", "1.00000000"),
        (3, "10.01", "1.00000000"),
        (1, "10.00", "0.50000000"),
    ]


def test_each_published_trade_counts_once(tmp_path: Path) -> None:
    _, summary, _ = replay(
        tmp_path,
        order("created", 1, 0, "10.00", "3.00000000"),
        order("created", 2, 1, "10.00", "1.00000000"),
        order("created", 3, 1, "10.00", "1.00000000"),
        order("created", 4, 1, "10.00", "1.00000000"),
        published(10.0, 1.0),
        published(10.0, 1.0),
        published(10.0, 0.5),
    )
    assert (summary["trades"], summary["in_feed"], summary["equal"]) == (3, 3, 2)


def test_deletions(tmp_path: Path) -> None:
    trades, summary, _ = replay(
        tmp_path,
        order("created", 1, 0, "10.00", "1.00000000"),
        order("deleted", 1, 0, "10.00", "1.00000000"),
        order("deleted", 99, 0, "10.00", "1.00000000"),
        order("created", 2, 1, "10.00", "1.00000000"),
        order("created", 3, 0, "10.00", "1.00000000"),
        order("deleted", 3, 0, "10.00", "0.00000000"),
        order("created", 3, 0, "10.00", "1.00000000"),
    )
    assert [(t["maker"], t["taker"]) for t in trades] == [(2, 3)]
    assert (summary["cancels"], summary["unknown"]) == (1, 1)
    assert (summary["finished"], summary["duplicates"]) == (1, 1)
    assert summary["epochs"] == summary["orders"] + summary["cancels"] == 4


def test_a_clock_that_runs_backwards_is_borne(tmp_path: Path) -> None:
    lines = [order("created", number, number % 2, "10.00", "1.00000000") for number in (9, 8, 7)]
    trades, _, _ = replay(tmp_path, *lines)
    assert len(trades) == 1


def test_broken_lines_are_reported_by_number_and_the_rest_goes_on(tmp_path: Path) -> None:
    trades, summary, stderr = replay(
        tmp_path,
        order("created", 1, 0, "10.00", "1.00000000"),
        order("created", 2, 1, "10.00", "-1.00000000"),
        order("created", 3, 1, "10.00", "1.00000000")[:-5],
        order("created", 4, 1, "10.00", "1.00000000"),
        *["?"] * 20,
    )
    assert len(trades) == 1
    assert (summary["broken"], summary["lines"]) == (22, 24)
    assert "line 2: amount is not a number" in stderr
    assert "line 3: broken JSON" in stderr
    assert "22 broken lines in all" in stderr


@pytest.mark.parametrize("content", [None, b"time,price\n"])
def test_a_file_that_cannot_be_used_is_one_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "feed.log"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(command, [str(path), "--format", "bitstamp"])
    assert isinstance(result.exception, ConfigError)
    assert str(path) in str(result.exception)


def test_the_sample_against_the_exchange() -> None:
    result = CliRunner().invoke(command, [str(SAMPLE), "--format", "bitstamp", "--json"])
    *trades, summary = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(trades) == summary["trades"] == 60
    assert (summary["in_feed"], summary["equal"]) == (82, 55)
    assert trades[0] == {
        "price": "236.47",
        "amount": "2.00000000",
        "maker": 65595247,
        "taker": 65595250,
    }


def test_for_people() -> None:
    result = CliRunner().invoke(command, [str(SAMPLE), "--format", "bitstamp"])
    assert "The last 20 of 60 trades" in result.stdout
    assert "55 of them (91.7%) equal one of the 82 that the exchange published" in result.stdout


def test_the_same_root_whatever_the_hash_seed() -> None:
    outputs = set()
    for seed in ("0", "1", "4242"):
        run = subprocess.run(
            [
                sys.executable,
                "-c",
                "from orrange_p2p.cli.replay import command; command()",
                *(str(SAMPLE), "--format", "bitstamp", "--json"),
            ],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        outputs.add(run.stdout)
    assert len(outputs) == 1
