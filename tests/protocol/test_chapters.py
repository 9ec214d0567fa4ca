"""The chapters say what the code does, where a program can tell: numbers, names, links."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
from cddl_check import Rules

from orrange_p2p.core import (
    accounts,
    bitcoin_bonds,
    bond_proofs,
    book,
    certificates,
    checkpoints,
    entries,
    evidence,
    fold,
    frames,
    genesis,
    handovers,
    headers,
    hello,
    matches,
    operations,
    proofs,
    roster,
    sync,
    ticks,
    vouchers,
)
from orrange_p2p.core.genesis import Parameters
from orrange_p2p.core.matches import TRANSITIONS, MatchEvent, MatchState
from orrange_p2p.core.swaps import agreement

PROTOCOL = Path(__file__).resolve().parents[2] / "protocol"
PAGES = sorted(PROTOCOL.rglob("*.md"))


def text(name: str) -> str:
    return (PROTOCOL / name).read_text(encoding="utf-8")


def rows(name: str, heading: str) -> list[list[str]]:
    """The cells of the table that starts with this heading row."""
    _, _, rest = text(name).partition(heading + "\n|")
    assert rest, heading
    lines = rest.partition("\n\n")[0].split("\n")[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROTOCOL)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_parameter_with_its_default() -> None:
    table = rows("01-records.md", "| parameter | default | meaning |")
    shown = {name.strip("`"): int(value.replace(",", "")) for name, value, _ in table}
    assert shown == attrs.asdict(Parameters())


def test_the_sizes_of_records() -> None:
    table = rows("01-records.md", "| record | largest size in bytes |")
    assert [int(size.replace(",", "")) for _, size in table] == [
        entries.MAX_ENTRY_BYTES,
        ticks.MAX_TICK_BYTES,
        frames.MAX_FRAME_BYTES,
        operations.MAX_EVIDENCE_BYTES,
    ]


def test_the_kinds_of_operations() -> None:
    table = rows("01-records.md", "| kind | name | fields |")
    shown = {name.strip("`"): int(kind) for kind, name, _ in table}
    assert shown == {kind.__name__: number for kind, number in operations.KINDS.items()}


def test_the_fields_of_an_order_in_wire_order() -> None:
    table = rows("01-records.md", "| field | range | meaning |")
    assert [name.strip("`") for name, _, _ in table] == list(operations.Place._fields)


def test_the_types_that_are_signed() -> None:
    shown = {name.strip("`") for name, _ in rows("01-records.md", "| type | signed by |")}
    used = {
        struct.type_name
        for struct in (
            entries._ENTRY,
            ticks._TICK,
            matches._TRADE,
            operations._TRADES,
            accounts._DELEGATION,
        )
    }
    assert shown == used


def test_the_width_of_an_orders_record() -> None:
    table = rows("02-merkle.md", "| bytes | field |")
    width = sum(int(number) for sizes, _ in table for number in sizes.split(","))
    assert width == accounts._TERMS.size + accounts._ACCOUNT.size


def test_the_reasons_and_the_refusals() -> None:
    chapter = " ".join(text("04-book.md").split())
    numbered = re.search(r"The numbers of reasons: (.*?)\. ", chapter)
    assert numbered
    shown = [part.split(" ", 1) for part in numbered[1].replace("`", "").split(", ")]
    assert [(int(n), name) for n, name in shown] == list(enumerate(book.REASON_NAMES))
    for refusal in fold.Refusal:
        assert f"(`{refusal.name}`)" in chapter


def test_the_table_of_matches() -> None:
    table = rows(
        "04-book.md",
        "| state | maker accepts | taker accepts | deadline passes, or a party is frozen |",
    )
    events = list(MatchEvent)
    shown = {}
    for state, *targets in table:
        name, number = re.findall(r"\w+", state)
        assert MatchState[name] == int(number)
        for event, target in zip(events, targets, strict=True):
            if target:
                shown[MatchState[name], event] = MatchState[target.strip("`")]
    assert shown == TRANSITIONS


def test_what_a_bond_on_bitcoin_is() -> None:
    chapter = " ".join(text("13-bitcoin-bonds.md").split())
    shown = [
        (r"pays at least ([\d,]+) sat to the P2WSH", bitcoin_bonds.MIN_BOND_SATS),
        (r"count the first (\d+) months that begin after", bitcoin_bonds.MONTHS_AHEAD),
        (r"A block is read when (\d+) blocks are known", bitcoin_bonds.DEPTH),
    ]
    for pattern, number in shown:
        (said,) = re.findall(pattern, chapter)
        assert int(said.replace(",", "")) == number
    assert bitcoin_bonds.BIND_WITHIN_S == 6 * 3600 and "less than six hours after" in chapter
    assert bitcoin_bonds.MARGIN_S == 24 * 3600 and "of at most `t` less a day" in chapter


def test_wire_names_are_class_names() -> None:
    schema = "\n".join(path.read_text(encoding="utf-8") for path in PROTOCOL.glob("cddl/*.cddl"))
    records = {name for name in Rules(schema).names() if name[0].isupper()}
    modules = (
        accounts,
        bond_proofs,
        entries,
        evidence,
        frames,
        genesis,
        hello,
        operations,
        sync,
        ticks,
        headers,
        vouchers,
        certificates,
        checkpoints,
        proofs,
        agreement,
        handovers,
        roster,
    )
    known = {name for module in modules for name in vars(module)}
    # Not classes of their own: a Delegate without expiry, unions, signed headers, values of maps.
    composed = {"Operation", "Revoke", "SyncRequest"}
    composed |= {"SignedEntryHeader", "SignedTickHeader"}
    composed |= {"AccountLeaf", "Leaf", "Part", "Path", "Skeleton", "Terms"}
    assert records - composed <= known
