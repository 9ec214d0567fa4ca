"""network.toml: the shortest one, the round trip, and one message for each thing wrong with it."""

from __future__ import annotations

import re

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrange_p2p.core import genesis
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.genesis import (
    Author,
    Genesis,
    Market,
    Parameters,
    Witness,
    parse_toml,
    to_toml,
)
from orrange_p2p.core.ids import Address, Era, TimeMs, Weight
from orrange_p2p.core.roster import of_genesis

SHORTEST = f"""
name = "tiny"
home_chain = "eip155:31337"
registry = "0x{"00" * 20}"
start_ms = 1700000000000
open = true

[[witnesses]]
address = "0x{"11" * 20}"
weight = 1
anchors = ["0x{"22" * 32}"]

[[markets]]
base = "eip155:31337/slip44:60"
quote = "eip155:31337/erc20:0x{"33" * 20}"
tick_size = 1
lot_size = 1000
settlement = "atomic"
timing = "evm"
rate_numerator = 1
rate_denominator = 1
volatility_ppm = 40000
"""


def test_the_shortest_network_file() -> None:
    network = parse_toml(SHORTEST)
    assert network.name == "tiny" and network.open and network.authors == ()
    assert network.parameters == Parameters()
    assert network.witnesses == (Witness(Address(b"\x11" * 20), Weight(1), (b"\x22" * 32,)),)
    assert network.market(network.markets[0].id) is network.markets[0]
    assert network.anchors(network.markets[0].id) == {b"\x11" * 20: (b"\x22" * 32,)}
    assert parse_toml(to_toml(network)) == network


def test_a_witness_may_have_several_chains_for_each_market() -> None:
    first = parse_toml(SHORTEST)
    other = attrs.evolve(first.markets[0], lot_size=7)
    anchors = tuple(bytes([n]) * 32 for n in range(6))
    network = attrs.evolve(
        first,
        markets=(*first.markets, other),
        witnesses=(attrs.evolve(first.witnesses[0], anchors=anchors),),
    )
    address = network.witnesses[0].address
    assert network.anchors(network.markets[0].id)[address] == anchors[:3]
    assert network.anchors(other.id)[address] == anchors[3:]
    lasts = network.parameters.chain_eras
    assert lasts == 64
    for era, number in ((0, 0), (lasts - 1, 0), (lasts, 1), (3 * lasts - 1, 2), (9 * lasts, 2)):
        seat = of_genesis(network, other.id, Era(era)).seats[0]
        assert (seat.anchor, seat.since) == (anchors[3 + number], number * lasts)
    for wrong in ((), anchors[:3], (b"\1", b"\2")):
        with pytest.raises(ConfigError, match="equally many for each"):
            attrs.evolve(network, witnesses=(attrs.evolve(network.witnesses[0], anchors=wrong),))


def test_every_field_changes_the_network() -> None:
    network = parse_toml(SHORTEST)
    market = attrs.evolve(network.markets[0], lot_size=7)
    others = [
        attrs.evolve(network, name="other"),
        attrs.evolve(network, home_chain="eip155:1"),
        attrs.evolve(network, registry=b"\x01" * 20),
        attrs.evolve(network, start_ms=1),
        attrs.evolve(network, open=False),
        attrs.evolve(network, authors=(Author(Address(b"\x05" * 20), 3),)),
        attrs.evolve(network, markets=(market,)),
        attrs.evolve(network, witnesses=(Witness(b"\x12" * 20, 1, (b"\x22" * 32,)),)),  # type: ignore[arg-type]
        attrs.evolve(network, witnesses=(Witness(b"\x11" * 20, 2, (b"\x22" * 32,)),)),  # type: ignore[arg-type]
        attrs.evolve(network, witnesses=(Witness(b"\x11" * 20, 1, (b"\x23" * 32,)),)),  # type: ignore[arg-type]
    ]
    registry = b"\x01" * 20
    bitcoin = {"registry": Address(registry), "bitcoin_bonds": "bip122:0001"}
    others += [
        attrs.evolve(network, **bitcoin),
        attrs.evolve(network, **bitcoin | {"bitcoin_bonds": "bip122:0002"}),
        attrs.evolve(network, **bitcoin, bitcoin_rate_numerator=2),
        attrs.evolve(network, **bitcoin, bitcoin_rate_denominator=2),
    ]
    for field in attrs.fields(Parameters):
        changed = attrs.evolve(network.parameters, **{field.name: field.default + 1})
        others.append(attrs.evolve(network, parameters=changed, registry=registry))
    ids = {one.network_id for one in (network, *others)}
    separators = {one.separator for one in (network, *others)}
    assert len(ids) == len(separators) == len(others) + 1


def test_every_field_changes_the_market() -> None:
    market = parse_toml(SHORTEST).markets[0]
    others = [
        attrs.evolve(market, base="eip155:31337/slip44:0"),
        attrs.evolve(market, quote="eip155:31337/slip44:0"),
        attrs.evolve(market, settlement="escrow"),
        attrs.evolve(market, timing="btc"),
    ]
    for field in attrs.fields(Market):
        if field.type == "int":
            value = getattr(market, field.name)
            others.append(attrs.evolve(market, **{field.name: value + 1}))
    assert len(others) == 9
    assert len({one.id for one in (market, *others)}) == len(others) + 1


addresses = st.binary(min_size=20, max_size=20).map(Address)
positive = st.integers(1, (1 << 63) - 1)


@st.composite
def parameters(draw: st.DrawFn) -> Parameters:
    """Any, but for eras that could not last: ``parse_toml`` refuses them."""
    values = {field.name: draw(positive) for field in attrs.fields(Parameters)}
    values["rounds_per_era"] = draw(st.integers(65, 1 << 20))
    longest = min((values["rounds_per_era"] - 64) * values["min_round_ms"], (1 << 63) - 1)
    values["era_ms"] = draw(st.integers(1, longest))
    values["elected_witnesses"] = 0
    if values["era_ms"] > 2 and draw(st.booleans()):
        values["elected_witnesses"] = draw(st.integers(1, 32))
        values["pin_ms"] = draw(st.integers(2, values["era_ms"] - 1))
        values["handover_ms"] = draw(st.integers(1, values["pin_ms"] - 1))
    return Parameters(**values)


@st.composite
def networks(draw: st.DrawFn) -> Genesis:
    lots = draw(st.lists(positive, min_size=1, max_size=3, unique=True))
    market = parse_toml(SHORTEST).markets[0]
    anchors = st.lists(
        st.binary(min_size=32, max_size=32), min_size=len(lots), max_size=len(lots)
    ).map(tuple)
    witnesses = draw(st.sets(addresses, min_size=1, max_size=32))
    authors = draw(st.sets(addresses, max_size=5))
    return Genesis(
        # What does not print is refused, a no-break space too: see the test below.
        name=draw(st.text(st.characters().filter(str.isprintable), min_size=1, max_size=16)),
        home_chain=f"eip155:{draw(st.integers(0, 10**9))}",
        registry=draw(addresses.filter(any)),
        start_ms=TimeMs(draw(st.integers(0, (1 << 63) - 1))),
        open=draw(st.booleans()),
        parameters=draw(parameters()),
        witnesses=tuple(
            Witness(a, Weight(draw(st.integers(1, (1 << 32) - 1))), draw(anchors))
            for a in sorted(witnesses)
        ),
        authors=tuple(Author(a, draw(st.integers(0, (1 << 63) - 1))) for a in sorted(authors)),
        markets=tuple(attrs.evolve(market, lot_size=lot) for lot in lots),
        **draw(st.sampled_from([{}, BITCOIN])),
    )


BITCOIN = {
    "bitcoin_bonds": "bip122:000000000019d6689c085ae165831e93",
    "bitcoin_rate_numerator": 1 << 62,
    "bitcoin_rate_denominator": 7,
}


@given(networks())
@settings(max_examples=50)
def test_any_network_survives_its_file(network: Genesis) -> None:
    again = parse_toml(to_toml(network))
    assert again == network
    assert again.network_id == network.network_id


def test_the_file_may_list_in_any_order() -> None:
    blocks = [
        f'[[witnesses]]\naddress = "0x{n:040x}"\nweight = 1\nanchors = ["0x{"22" * 32}"]\n'
        for n in (3, 1, 2)
    ]
    network = parse_toml(SHORTEST + "\n" + "\n".join(blocks))
    assert [w.address[-1] for w in network.witnesses] == [1, 2, 3, 0x11]


WRONG = [
    ('name = "tiny"', "name = ", "not TOML"),
    ('name = "tiny"', "", "network file: 'name' is missing"),
    ('name = "tiny"', "name = 7", "'name' must be of type str"),
    ('name = "tiny"', 'name = ""', "name must have 1 .. 64 bytes"),
    ('name = "tiny"', f'name = "{"é" * 33}"', "name must have 1 .. 64 bytes"),
    ('name = "tiny"', 'name = "tiny"\nnmae = 1', "unknown key 'nmae'; known: name, home_chain"),
    ('eip155:31337"\nreg', 'eip155"\nreg', "'eip155' is not a CAIP-2 chain id"),
    (f'registry = "0x{"00" * 20}"', 'registry = "0x00"', "'registry' must be 0x and 40"),
    (f'registry = "0x{"00" * 20}"', "registry = 0", "'registry' must be 0x and 40"),
    ("start_ms = 1700000000000", "start_ms = -1", "'start_ms' must be an integer in 0 .. 2^63-1"),
    ("start_ms = 1700000000000", "start_ms = 1.0", "'start_ms' must be an integer in 0 .. 2^63-1"),
    ("start_ms = 1700000000000", "start_ms = true", "'start_ms' must be an integer"),
    ("open = true", "open = 1", "'open' must be of type bool"),
    ("open = true", "open = true\nparameters = 3", "'parameters' must be a table: [parameters]"),
    ("open = true", "open = true\nauthors = 3", "'authors' must be an array of tables"),
    ("open = true", "open = true\nauthors = [3]", "'authors' must be an array of tables"),
    ("[[markets]]", "[parameters]\nera_ms = 0\n[[markets]]", "era_ms must be in 1 .. 2^63-1"),
    ("[[markets]]", "[parameters]\nera_s = 1\n[[markets]]", "parameters: unknown key 'era_s'"),
    ("weight = 1", "weight = 0", "a witness's weight must be in 1 .. 2^32-1"),
    ("weight = 1", "weight = 4294967296", "a witness's weight must be in 1 .. 2^32-1"),
    (f'"0x{"22" * 32}"]', '"0x22"]', "'anchors' must be 0x and 64 hexadecimal digits"),
    (f'["0x{"22" * 32}"]', "3", "'anchors' must be a list"),
    (f'["0x{"22" * 32}"]', "[]", "one anchor for each market"),
    (f"11{'11' * 19}", "zz" * 20, "'address' must be 0x and 40 hexadecimal digits"),
    ("tick_size = 1", "tick_size = 0", "tick_size must be in 1 .. 2^63-1"),
    ("lot_size = 1000", "lot_size = 0", "lot_size must be in 1 .. 2^63-1"),
    ("rate_denominator = 1", "rate_denominator = 0", "rate_denominator must be in 1"),
    ('settlement = "atomic"', 'settlement = "trust"', "settlement 'trust': one of ('atomic'"),
    ("eip155:31337/slip44:60", "eth", "'eth' is not a CAIP-19 asset id"),
    ("open = true", 'open = true\nbitcoin_bonds = "bip122:1"', "bitcoin_bonds needs a registry"),
    ("open = true", 'open = true\nbitcoin_bonds = "eip155:1"', "must be a chain 'bip122:...'"),
    ("open = true", "open = true\nbitcoin_rate_numerator = 2", "nothing without bitcoin_bonds"),
    ("open = true", "open = true\nbitcoin_rate_denominator = 0", "_denominator must be in 1"),
    (f"erc20:0x{'33' * 20}", "slip44:60", "a market needs two different assets"),
]


@pytest.mark.parametrize(("old", "new", "message"), WRONG)
def test_each_mistake_has_its_message(old: str, new: str, message: str) -> None:
    assert SHORTEST.count(old) == 1, old
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_toml(SHORTEST.replace(old, new))


def test_a_network_needs_witnesses_and_markets() -> None:
    head, witness, market = re.split(r"(?=\[\[)", SHORTEST)
    with pytest.raises(ConfigError, match=r"a network needs 1 \.\. 32 witnesses"):
        parse_toml(head + market)
    with pytest.raises(ConfigError, match="a network needs a market"):
        parse_toml(head + witness)
    with pytest.raises(ConfigError, match="two markets are the same"):
        parse_toml(head + witness + market + market)
    with pytest.raises(ConfigError, match="ascending order, each once"):
        parse_toml(head + witness + witness + market)


def test_an_unknown_market_and_a_foreign_home_chain() -> None:
    network = parse_toml(SHORTEST)
    with pytest.raises(ConfigError, match="has no market 0x0101"):
        network.market(b"\x01" * 32)  # type: ignore[arg-type]
    for chain in ("solana:mainnet", "eip155:01", "eip155:x"):
        with pytest.raises(ConfigError, match="not an EVM chain"):
            attrs.evolve(network, home_chain=chain)


def test_an_era_has_rounds_for_all_its_time() -> None:
    enough = SHORTEST.replace("[[markets]]", "[parameters]\nera_ms = 4_080_000\n[[markets]]")
    assert parse_toml(enough).parameters.era_ms == (16_384 - 64) * 250
    with pytest.raises(ConfigError, match="rounds_per_era is too small"):
        parse_toml(enough.replace("4_080_000", "4_080_001"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("registry", b"\x01" * 19),
        ("start_ms", -1),
        ("name", "two\nlines"),
        ("authors", (Author(Address(b"\x05" * 20), -1),)),
        ("authors", (Author(Address(b"\x05" * 19), 0),)),
        ("witnesses", (Witness(Address(b"\x11" * 20), Weight(1), (b"\x22" * 31,)),)),
    ],
)
def test_what_the_encoding_could_not_hold_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError):
        attrs.evolve(parse_toml(SHORTEST), **{field: value})


def test_the_domain_has_a_name_and_a_version() -> None:
    assert (genesis.DOMAIN_NAME, genesis.PROTOCOL_VERSION) == ("Orrange", "1")
