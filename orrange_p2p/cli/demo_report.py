"""What the demo has to say: while it runs, and at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import attrs
from rich import box
from rich.console import Console
from rich.table import Table

from orrange_p2p.cli.demo_chain import Holding
from orrange_p2p.cli.ledger import Ledger
from orrange_p2p.devnet.contracts import BASE, QUOTE

HONEST: Final = "honest"
DEFAULT: Final = "default"
ERAS: Final = "eras"
SCENARIOS: Final = (HONEST, DEFAULT, ERAS)


@attrs.frozen
class Report:
    """What the demo showed."""

    nodes: int
    epochs: int
    orders: int
    matches: int
    trades: int
    root_epoch: int
    roots: list[str]
    agree: bool
    commit_latency_ms: dict[str, int | None]
    """From submission to the entry being applied and durable at the slowest node."""
    entries: int
    lapses: int
    refusals: int
    feed_events: int
    broken_lines: int
    chain: str | None
    """CAIP-2; None without one, and then nothing below says anything."""
    settled: int
    """Trades that a final block shows settled, by what all their parties' nodes say."""
    failed: int
    """Other trades."""
    transactions: int
    """Those that settled them."""
    defaults: list[dict[str, Any]]
    """Of the failed ones those where a final block shows who did not pay: the evidence."""
    balances_conserved: bool | None
    """Each trader holds what its settled trades say, and all of them together what they had. None
    if the nodes do not agree: then settlement was not waited for."""
    scenario: str
    """Of ``SCENARIOS``."""
    holdings: list[Holding]

    @property
    def is_as_it_should_be(self) -> bool:
        if not self.agree:
            return False
        if self.chain is None:
            return True
        if self.failed > len(self.defaults) or self.balances_conserved is not True:
            return False
        return bool(self.defaults) == (self.scenario == DEFAULT)


def progress(states: Sequence[dict[str, Any]], fed: int, ledger: Ledger) -> Table:
    """Where the nodes are now."""
    done = f", {len(ledger.ended('settled'))} of {len(ledger)} trades settled" if ledger else ""
    table = Table(title=f"{fed} feed events{done}", title_justify="left")
    for column in ("node", "peers", "round", "epoch", "orders", "matches", "trades", "bid", "ask"):
        table.add_column(column, justify="right")
    for number, state in enumerate(states):
        totals: Counter[str] = Counter(state["totals"])
        table.add_row(
            str(number),
            str(len(state["peers"])),
            str(state["round"]),
            str(state["epoch"]),
            str(totals["orders"]),
            str(totals["matches"]),
            str(totals["trades"]),
            _dollars(state["best_bid"]),
            _dollars(state["best_ask"]),
        )
    return table


def show(report: Report) -> None:
    """All of it, for people."""
    console = Console(highlight=False)
    console.print(_roots(report))
    latency = report.commit_latency_ms
    console.print(
        f"{report.orders} orders, {report.matches} matches, {report.trades} trades "
        f"in {report.epochs} epochs from {report.feed_events} feed events."
    )
    if report.lapses:
        console.print(
            f"{report.lapses} matches lapsed: one side did not accept in time, so they bind nobody."
        )
    console.print(
        f"Commit latency at the slowest node: p50 {latency['p50']} ms, p99 {latency['p99']} ms."
    )
    if not report.agree:
        console.print("[red]The roots differ:[/] at least one node computed another book.")
        return
    console.print("[green]All roots are equal:[/] every node computed the same book.")
    if report.chain is not None:
        _show_settlement(console, report)


def _show_settlement(console: Console, report: Report) -> None:
    console.print()
    console.print(_balances(report))
    colour = "red" if report.failed else "green"
    console.print(
        f"[{colour}]{report.settled} of {report.trades} trades are settled[/] on {report.chain}, "
        f"in {report.transactions} transactions."
    )
    if report.balances_conserved:
        console.print(
            "[green]Balances add up:[/] each change is the sum of the trader's settled trades, and "
            "nothing was lost."
        )
    else:
        console.print("[red]Balances do not add up.[/]")
    if report.scenario == DEFAULT and not report.defaults:
        console.print("[red]Nobody defaulted:[/] who withdrew its allowance had no trade to pay.")
    if report.defaults:
        console.print()
        console.print(_defaults(report.defaults))
        console.print(
            "Both had signed, and one could not pay: the trade has no effect, the other keeps its "
            "coins, and the transaction shows everybody who defaulted."
        )


def _roots(report: Report) -> Table:
    table = Table(title=f"State roots of epoch {report.root_epoch}", title_justify="left")
    table.add_column("node", justify="right")
    table.add_column("root")
    for number, root in enumerate(report.roots):
        odd = report.roots.count(root) <= len(report.roots) // 2
        table.add_row(str(number), root, style="red" if odd and not report.agree else None)
    return table


def _balances(report: Report) -> Table:
    table = _table(f"Balances on {report.chain}, before and after")
    for column in ("node", "trader"):
        table.add_column(column, justify="right")
    for symbol in (BASE.symbol, QUOTE.symbol):
        for column in ("before", "after"):
            table.add_column(f"{symbol} {column}", justify="right")
    amounts = []
    for one in report.holdings:
        row = (one.base_before, one.base_after, one.quote_before, one.quote_after)
        amounts.append(tuple(map(int, row)))
        table.add_row(str(one.node), _short(one.trader), *_decimal(amounts[-1]))
    table.add_section()
    table.add_row("", "all", *_decimal(tuple(map(sum, zip(*amounts, strict=True)))))
    return table


def _defaults(defaults: Sequence[dict[str, Any]]) -> Table:
    table = _table("Not settled: who did not pay")
    table.add_column("trader")
    table.add_column("transaction that shows it")
    for default in defaults:
        table.add_row(_short(default["blamed"]), default["tx_hash"])
    return table


def _table(title: str) -> Table:
    """Narrow enough for 80 columns."""
    lines = box.SIMPLE_HEAD
    return Table(title=title, title_justify="left", box=lines, padding=(0, 1, 0, 0), pad_edge=False)


def _decimal(amounts: tuple[int, ...]) -> list[str]:
    """Base with all its digits, quote to the cent."""
    base, quote = amounts[:2], amounts[2:]
    one = 10**QUOTE.decimals // 100
    return [
        *(f"{n // 10**BASE.decimals:,}.{n % 10**BASE.decimals:0{BASE.decimals}}" for n in base),
        *(f"{n // one // 100:,}.{n // one % 100:02}" for n in quote),
    ]


def _short(address: str) -> str:
    return address[:8]


def _dollars(cents: str | None) -> str:
    return "-" if cents is None else f"{int(cents) // 100}.{int(cents) % 100:02d}"
