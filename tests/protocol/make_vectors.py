"""Write protocol/vectors/*.json anew: ``python tests/protocol/make_vectors.py [folder]``.

Deterministic: the same source gives the same bytes, and a test compares them with what is
committed. The format is described in protocol/vectors/README.md. Inputs are built by hand here;
what a reader must get out of them is computed by the package, and every invalid case states by hand
which error it must meet.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256, shake_256
from pathlib import Path
from typing import Any

import attrs
import cbor2
from coincurve import PrivateKey

from orrange_p2p.core import (
    codec,
    entries,
    evidence,
    frames,
    hello,
    merkle,
    parts,
    sync,
    ticks,
    vouchers,
)
from orrange_p2p.core.accounts import ORDER_KEY_BYTES, Account, LiveOrder, delegation_digest
from orrange_p2p.core.bitcoin_bonds import bond_output, bond_script, parse_month
from orrange_p2p.core.bond_proofs import BondProof, proof_digest
from orrange_p2p.core.certificates import Certificate
from orrange_p2p.core.checkpoints import Checkpoint
from orrange_p2p.core.entries import Entry, EntryHeader
from orrange_p2p.core.fold import EpochFacts, Fold
from orrange_p2p.core.genesis import Author, Genesis, Market, Parameters, Witness
from orrange_p2p.core.handovers import Handover
from orrange_p2p.core.headers import StateHeader
from orrange_p2p.core.ids import Address, Amount, Epoch, Era, OrderId, TimeMs
from orrange_p2p.core.matches import MatchGroup, Trade
from orrange_p2p.core.operations import (
    Accept,
    Accepted,
    Amend,
    Announce,
    Cancel,
    CancelAll,
    Delegate,
    Evidence,
    Operation,
    Place,
    Side,
    to_items,
)
from orrange_p2p.core.proofs import OrderProof
from orrange_p2p.core.reveals import RevealChain
from orrange_p2p.core.roster import Pin, Roster, Standing, of_genesis
from orrange_p2p.core.swaps.agreement import Deal, SwapTerms, agree, secret_of
from orrange_p2p.core.swaps.schedule import chain_classes, is_base_long, schedule
from orrange_p2p.core.ticks import Applied, HeadItem, Tick, TickHeader
from orrange_p2p.core.witnesses import WitnessTable
from orrange_p2p.crypto import keccak_tree, secp256k1
from orrange_p2p.crypto.bitcoin import OutPoint

FOLDER = Path(__file__).resolve().parents[2] / "protocol" / "vectors"
START_MS = 1_700_000_000_000
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
ZERO32 = bytes(32)
TOP = (1 << 63) - 1
MOST = 1 << 62
CHAIN_LENGTH = 64
Json = dict[str, Any]


# --- keys and the network that all vectors share ----------------------------------------------


def secret(name: str) -> bytes:
    """The private key of a name in the vectors. Worthless: everybody knows it."""
    return sha256(b"orrange/vectors/" + name.encode()).digest()


def key(name: str) -> PrivateKey:
    return PrivateKey(secret(name))


def address(name: str) -> Address:
    return Address(secp256k1.address_of(key(name).public_key))


@functools.cache
def chain(name: str, market: int = 0) -> RevealChain:
    """A witness's reveal chain for the market of that place in genesis."""
    return RevealChain(secret(f"{name}/reveals/{market}"), CHAIN_LENGTH)


def witness(name: str, weight: int, markets: int = 2) -> Witness:
    anchors = tuple(chain(name, market).anchor for market in range(markets))
    return Witness(address(name), weight, anchors)


def network(name: str = "vectors", **changes: Any) -> Genesis:
    return Genesis(
        **{
            "name": name,
            "home_chain": "eip155:31337",
            "registry": Address(bytes(range(1, 21))),
            "start_ms": START_MS,
            "open": False,
            "parameters": Parameters(
                rounds_per_era=16,
                accept_deadline_epochs=2,
                penalty_epochs=4,
                applied_interval_epochs=1,
                order_lifetime_ms=60_000,
                trade_lifetime_ms=30_000,
                operations_per_round=2,
                operations_burst=8,
                open_orders=4,
            ),
            "witnesses": tuple(
                sorted(
                    (witness(name, weight) for name, weight in WITNESSES),
                    key=lambda one: one.address,
                )
            ),
            "authors": tuple(
                sorted(
                    (Author(address(n), reputation) for n, reputation in AUTHORS),
                    key=lambda author: author.address,
                )
            ),
            "markets": (MARKET, OTHER_MARKET),
        }
        | changes
    )


WITNESSES = (("witness 0", 1), ("witness 1", 1), ("witness 2", 1), ("witness 3", 1))
AUTHORS = (("alice", 1000), ("bob", 500), ("carol", 0))
MARKET = Market(
    base="eip155:31337/erc20:0x" + "aa" * 20,
    quote="eip155:31337/slip44:60",
    tick_size=10,
    lot_size=1000,
    settlement="atomic",
    timing="evm",
    rate_numerator=1,
    rate_denominator=1_000_000,
    volatility_ppm=40_000,
)
OTHER_MARKET = attrs.evolve(MARKET, lot_size=2000)
GENESIS = network()
ELECTED = network(
    "elected",
    parameters=attrs.evolve(
        GENESIS.parameters,
        elected_witnesses=4,
        era_ms=20_000,
        pin_ms=10_000,
        handover_ms=5000,
        trade_lifetime_ms=4000,
        market_operations_per_round=6,
        market_operations_burst=30,
        market_open_orders=9,
        lane_operations_per_round=1,
        lane_operations_burst=2,
        lane_open_orders=2,
        lane_order_notional=100,
    ),
    # A trade of four seconds may lose all that it is worth; a lot at one tick is one micro-unit.
    markets=(
        attrs.evolve(
            MARKET,
            tick_size=1,
            rate_numerator=1,
            rate_denominator=1,
            volatility_ppm=293_938_769,
        ),
        OTHER_MARKET,
    ),
)
FOREIGN = network("another network")


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def jsonable(value: Any) -> Any:
    """Bytes as hex, named tuples and records as objects, the rest as it is."""
    if isinstance(value, OrderId):
        return str(value)
    if isinstance(value, bytes):
        return hexed(value)
    if attrs.has(type(value)):
        return {f.name: jsonable(getattr(value, f.name)) for f in attrs.fields(type(value))}
    if hasattr(value, "_asdict"):
        return {name: jsonable(item) for name, item in value._asdict().items()}
    if isinstance(value, dict):
        return {name: jsonable(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [jsonable(item) for item in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def operation_json(operation: Operation) -> Json:
    return {"type": type(operation).__name__, **jsonable(operation)}


def invalid(name: str, data: bytes | Json, error: str, reason: str, **more: Any) -> Json:
    shown = hexed(data) if isinstance(data, bytes) else data
    return {"name": name, "input": shown, **more, "error": error, "reason": reason}


def document(about: str, **parts: Any) -> Json:
    return {"about": about, **parts}


CONTEXT = {
    "network_id": hexed(GENESIS.network_id),
    "separator": hexed(GENESIS.separator),
    "market": hexed(MARKET.id),
}


# --- codec, signatures, EIP-712, genesis ------------------------------------------------------


def codec_vectors() -> Json:
    good = [
        ("zero", "00", 0),
        ("one_byte_int", "17", 23),
        ("two_byte_int", "1818", 24),
        ("largest_int", "1b7fffffffffffffff", TOP),
        ("null", "f6", None),
        ("bytes", "43010203", {"bytes": "0x010203"}),
        ("text", "63e282ac", "€"),
        ("empty_array", "80", []),
        ("nested_array", "8301820203f6", [1, [2, 3], None]),
        ("array_of_24", "9818" + "00" * 24, [0] * 24),
    ]
    bad = [
        ("non_minimal_int_1", "1817", "23 in two bytes"),
        ("non_minimal_int_2", "190017", "23 in three bytes"),
        ("non_minimal_int_4", "1a000000ff", "255 in five bytes"),
        ("non_minimal_int_8", "1b00000000ffffffff", "2^32-1 in nine bytes"),
        ("non_minimal_bytes_length", "580101", "a length of 1 in two bytes"),
        ("non_minimal_text_length", "780161", "a length of 1 in two bytes"),
        ("non_minimal_array_length", "980100", "a length of 1 in two bytes"),
        ("trailing_byte", "0000", "a second item after the first"),
        ("empty", "", "no item"),
        ("truncated_int", "19ff", "ends within an integer"),
        ("truncated_bytes", "430102", "ends within a byte string"),
        ("truncated_array", "820000"[:4], "ends before the second item"),
        ("indefinite_array", "9f00ff", "indefinite length"),
        ("indefinite_bytes", "5f4101ff", "indefinite length"),
        ("indefinite_text", "7f6161ff", "indefinite length"),
        ("break_alone", "ff", "a break outside of anything"),
        ("tag_date", "c11a514b67b0", "a tag (epoch time)"),
        ("tag_big_int", "c249010000000000000000", "a tag (2^64 as a big integer)"),
        ("tag_self_described", "d9d9f700", "a tag (self-described CBOR)"),
        ("tag_unknown", "d9fffe00", "a tag nobody assigned"),
        ("tag_in_array", "81c100", "a tag within an array"),
        ("reserved_length", "1c", "reserved additional information"),
        ("invalid_utf8", "61ff", "a text that is not UTF-8"),
        ("too_deep", "81" * 9 + "00", "arrays nested deeper than eight"),
    ]
    wrong = [
        ("map", "a0", "a map"),
        ("map_of_ints", "a10102", "a map"),
        ("negative", "20", "a negative integer"),
        ("above_63_bits", "1b8000000000000000", "2^63 is above the largest integer"),
        ("false", "f4", "a boolean is no integer"),
        ("true", "f5", "a boolean is no integer"),
        ("undefined", "f7", "undefined"),
        ("float_16", "f93c00", "a float"),
        ("float_32", "fa3f800000", "a float"),
        ("float_64", "fb3ff0000000000000", "a float"),
        ("simple_value", "f0", "an unassigned simple value"),
        ("text_for_int", "6131", "a text is no integer"),
        ("bytes_for_int", "4101", "a byte string is no integer"),
    ]
    return document(
        "Deterministic CBOR as the protocol restricts it. Cases of `invalid` are no encoding of "
        "anything; cases of `not_an_integer` must be refused where an integer is expected.",
        valid=[{"name": n, "input": "0x" + h, "value": v} for n, h, v in good],
        invalid=[invalid(n, bytes.fromhex(h), "malformed", r) for n, h, r in bad],
        not_an_integer=[invalid(n, bytes.fromhex(h), "malformed", r) for n, h, r in wrong],
    )


def signature_vectors() -> Json:
    digest = sha256(b"a digest").digest()
    made = secp256k1.sign(key("alice"), digest)
    r, s, v = made[:32], int.from_bytes(made[32:64], "big"), made[64]
    high = r + (ORDER - s).to_bytes(32, "big") + bytes((55 - v,))
    bad = [
        ("high_s", high, "the same signature in its second form"),
        ("v_0", made[:64] + bytes((v - 27,)), "v must be 27 or 28"),
        ("v_29", made[:64] + b"\x1d", "v must be 27 or 28"),
        ("other_v", made[:64] + bytes((55 - v,)), "recovers to another key"),
        ("short", made[:64], "64 bytes: EIP-2098 is not used"),
        ("long", made + b"\0", "66 bytes"),
        ("zero", bytes(64) + b"\x1b", "r and s are zero"),
        ("r_above_order", ORDER.to_bytes(32, "big") + made[32:], "r is no scalar"),
        ("other_key", secp256k1.sign(key("bob"), digest), "signed by another key"),
    ]
    valid = []
    for name in ("alice", "bob", "witness 0"):
        for text in ("a digest", "another digest"):
            hashed = sha256(text.encode()).digest()
            valid.append(
                {
                    "name": f"{name}, {text}",
                    "secret": hexed(secret(name)),
                    "address": hexed(address(name)),
                    "digest": hexed(hashed),
                    "signature": hexed(secp256k1.sign(key(name), hashed)),
                }
            )
    return document(
        "Recoverable secp256k1 signatures, r || s || v, deterministic (RFC 6979), low s. Invalid "
        "ones must not pass as a signature of `address` over `digest`.",
        address=hexed(address("alice")),
        digest=hexed(digest),
        valid=valid,
        invalid=[invalid(n, sig, "signature", reason) for n, sig, reason in bad],
    )


def eip712_vectors() -> Json:
    cases = []

    def case(name: str, type_name: str, fields: Sequence[int | bytes], digest: bytes) -> None:
        cases.append(
            {
                "name": name,
                "type": type_name,
                "values": [hexed(f) if isinstance(f, bytes) else f for f in fields],
                "digest": hexed(digest),
            }
        )

    separator, market = GENESIS.separator, MARKET.id
    entry = EntryHeader(market, address("alice"), 7, sha256(b"prev").digest(), ZERO32)
    case(
        "entry",
        "Entry(bytes32 market,address author,uint64 seq,bytes32 prev,bytes32 opsRoot)",
        entry,
        entry.digest(separator),
    )
    tick = TickHeader(market, 2, 300, address("witness 0"), sha256(b"body").digest())
    case(
        "tick",
        "Tick(bytes32 market,uint64 era,uint64 round,address witness,bytes32 bodyHash)",
        tick,
        tick.digest(separator),
    )
    delegation = (market, address("alice"), address("session"), 5000, START_MS + 1)
    case(
        "delegation",
        "Delegation(bytes32 market,address owner,address session,uint64 cap,uint64 expiryMs)",
        delegation,
        delegation_digest(separator, *delegation),
    )
    trade = Trade(
        market,
        sha256(b"m").digest(),
        address("alice"),
        address("bob"),
        MOST * 1000,
        MOST**2,
        9,
        START_MS,
    )
    case(
        "trade",
        "Trade(bytes32 market,bytes32 fill,address buyer,address seller,"
        "uint256 baseAmount,uint256 quoteAmount,uint64 epoch,uint64 expiryMs)",
        trade,
        accept_of("alice", trade.id).digest(separator),
    )
    several = digests("m", "n", "o")
    case(
        "trades",
        "Trades(bytes32 root)",
        (keccak_tree.root(several),),
        accept_of("alice", *several).digest(separator),
    )
    return document(
        "EIP-712 digests. `values` stand in the order of the type; integers may exceed 2^53.",
        domain={
            "name": "Orrange",
            "version": "1",
            "chain_id": 31337,
            "verifying_contract": hexed(GENESIS.registry),
            "salt": hexed(GENESIS.network_id),
            "separator": hexed(separator),
        },
        valid=cases,
    )


def genesis_vectors() -> Json:
    def shown(genesis: Genesis, name: str) -> Json:
        return {
            "name": name,
            "genesis": jsonable(genesis),
            "encoded": hexed(genesis.encode()),
            "network_id": hexed(genesis.network_id),
            "separator": hexed(genesis.separator),
            "market_ids": [hexed(market.id) for market in genesis.markets],
        }

    return document(
        "Genesis records, the ids and the domain separator that follow from them.",
        valid=[
            shown(GENESIS, "the network of all other vectors"),
            shown(FOREIGN, "another name, another network; its markets have the same ids"),
            shown(
                network("open", open=True, registry=Address(bytes(20)), authors=()),
                "open, without registry and authors",
            ),
            shown(
                network("heavy", witnesses=(witness("witness 9", 7, 1),), markets=(OTHER_MARKET,)),
                "one witness, one market",
            ),
            shown(ELECTED, "elected witnesses: of the stories of shares"),
            shown(
                network(
                    "bonded",
                    bitcoin_bonds="bip122:000000000019d6689c085ae165831e93",
                    bitcoin_rate_numerator=1200,
                    bitcoin_rate_denominator=7,
                ),
                "bonds on Bitcoin count",
            ),
        ],
    )


# --- entries ------------------------------------------------------------------------------------


def groups_root(items: Sequence[Any]) -> bytes:
    groups = [items[at : at + 16] for at in range(0, len(items), 16)]
    return merkle.list_root([b"".join(map(cbor2.dumps, group)) for group in groups])


def raw_entry(
    items: Sequence[Any],
    author: str = "alice",
    seq: int = 0,
    prev: bytes = ZERO32,
    signer: str | None = None,
    genesis: Genesis = GENESIS,
    market: bytes = MARKET.id,
) -> bytes:
    """A correctly signed entry of whatever items, valid or not."""
    header = EntryHeader(market, address(author), seq, prev, groups_root(items))
    try:
        digest = header.digest(genesis.separator)
    except OverflowError:
        digest = ZERO32
    signature = secp256k1.sign(key(signer or author), digest)
    return cbor2.dumps((market, address(author), seq, prev, items, signature))


def entry_of(
    operations: Sequence[Operation], author: str = "alice", seq: int = 0, prev: bytes = ZERO32
) -> Entry:
    data = raw_entry([to_items(o) for o in operations], author, seq, prev)
    return entries.decode_entry(data, GENESIS.separator, MARKET.id)


def consent(owner: str, session: str, cap: int, expiry_ms: int) -> bytes:
    digest = delegation_digest(
        GENESIS.separator, MARKET.id, address(owner), address(session), cap, expiry_ms
    )
    return secp256k1.sign(key(session), digest)


def fork_of(author: str) -> Evidence:
    first = entry_of([CancelAll()], author)
    return evidence.of_fork(first, entry_of([Cancel(0, 0)], author))


def equivocation_of(witness: str) -> Evidence:
    return evidence.of_equivocation(tick_of(witness), tick_of(witness, time_ms=START_MS + 1))


PLAIN = Place(side=0, price=100, quantity=5)
SIGNED = bytes(range(64)) + b"\x1b"


def accept_of(author: str, *ids: bytes, terms: bytes = b"", genesis: Genesis = GENESIS) -> Accept:
    """An accept of these matches, ascending, signed in the vectors' network."""
    unsigned = Accept(tuple(Accepted(name, terms) for name in ids), b"")
    return unsigned._replace(
        signature=secp256k1.sign(key(author), unsigned.digest(genesis.separator))
    )


def entry_vectors() -> Json:
    first = entry_of([PLAIN])
    good: list[tuple[str, Sequence[Operation], Json]] = [
        ("place", [PLAIN], {}),
        ("place_sell_largest", [Place(1, MOST, MOST)], {}),
        ("place_gtt", [PLAIN._replace(time_in_force=1, expiry=START_MS + 5000)], {}),
        ("place_gte", [PLAIN._replace(time_in_force=2, expiry=TOP)], {}),
        ("place_ioc", [PLAIN._replace(time_in_force=3)], {}),
        ("place_fok", [PLAIN._replace(time_in_force=4, min_quantity=5)], {}),
        ("place_post_only", [PLAIN._replace(post_only=1)], {}),
        ("place_cancel_oldest", [PLAIN._replace(self_trade=1)], {}),
        ("place_decrement", [PLAIN._replace(self_trade=2)], {}),
        ("place_min_quantity", [PLAIN._replace(min_quantity=3)], {}),
        ("place_slippage_zero", [PLAIN._replace(max_slippage=0)], {}),
        ("place_slippage_largest", [PLAIN._replace(max_slippage=MOST)], {}),
        ("place_min_reputation", [PLAIN._replace(min_reputation=TOP)], {}),
        ("cancel", [Cancel(0, 1023)], {}),
        ("cancel_largest_seq", [Cancel(TOP, 0)], {}),
        ("cancel_all", [CancelAll()], {}),
        ("amend", [Amend(3, 4, PLAIN)], {}),
        ("accept", [accept_of("alice", *digests("a match"))], {}),
        ("accept_longest_terms", [accept_of("alice", *digests("m"), terms=b"t" * 1024)], {}),
        ("accept_of_three", [PLAIN, accept_of("alice", *digests("m", "n", "o"))], {}),
        ("announce", [Announce(("eip155:1:0x" + "ab" * 20, "bip122:000000000019d6:1A1z"))], {}),
        ("announce_nothing", [Announce(())], {}),
        ("announce_sixteen", [Announce(tuple(f"eip155:{i}:0x0" for i in range(16)))], {}),
        (
            "delegate",
            [Delegate(address("session"), 50, START_MS + 9, consent("alice", "session", 50, 9))],
            {},
        ),
        ("revoke", [Delegate(address("session"), 0, 0, b"")], {}),
        ("evidence_of_a_fork", [fork_of("bob")], {}),
        ("evidence_of_equivocation", [equivocation_of("witness 1")], {}),
        ("evidence_of_nothing", [Evidence(0, b"", b"")], {}),
        ("eight_proofs", [Evidence(1, b"", b"")] * 8, {}),
        ("the_next_entry", [Cancel(0, 0)], {"seq": 1, "prev": first.digest}),
        ("sixteen_operations", [CancelAll()] * 16, {}),
        ("seventeen_operations", [CancelAll()] * 16 + [PLAIN], {}),
        ("most_operations", [CancelAll()] * 1024, {}),
        ("largest_seq", [CancelAll()], {"seq": TOP, "prev": sha256(b"prev").digest()}),
        ("by_bob", [PLAIN, Place(1, 101, 7), CancelAll()], {"author": "bob"}),
    ]
    valid = []
    for name, operations, more in good:
        entry = entry_of(operations, **more)
        valid.append(
            {
                "name": name,
                "input": hexed(entry.encoded),
                "author_secret": hexed(secret(more.get("author", "alice"))),
                "header": jsonable(entry.header),
                "digest": hexed(entry.digest),
                "operations": [operation_json(o) for o in entry.operations[:32]],
                "operation_count": len(entry.operations),
            }
        )
    return document(
        "Entries. `operations` shows the first 32 of `operation_count`. Every invalid one is "
        "correctly signed unless its reason says otherwise.",
        context=CONTEXT,
        valid=valid,
        invalid=bad_entries(first) + bad_operations(),
    )


def bad_entries(first: Entry) -> list[Json]:
    data = first.encoded
    record = list(codec.decode(data, len(data)))  # type: ignore[call-overload]
    plain = [to_items(PLAIN)]
    some = sha256(b"prev").digest()
    signature = record[5]
    high = (ORDER - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    high_s = signature[:32] + high + bytes((55 - signature[64],))

    def changed(at: int, value: Any) -> bytes:
        return cbor2.dumps([*record[:at], value, *record[at + 1 :]])

    one_item_more = cbor2.dumps([*record, 0])
    proofs = [to_items(Evidence(0, b"", b""))] * 9
    accept = accept_of("alice", *digests("m", "n"))
    forged = accept._replace(signature=accept_of("bob", *digests("m", "n")).signature)
    other_match = accept._replace(matches=accept_of("alice", *digests("m", "o")).matches)
    rows: list[tuple[str, bytes | Json, str, str]] = [
        ("empty", b"", "malformed", "no item"),
        ("not_an_array", b"\x00", "malformed", "an integer where a record is expected"),
        ("truncated", data[:-1], "malformed", "the last byte is missing"),
        ("trailing_byte", data + b"\x00", "malformed", "a byte after the record"),
        ("five_items", cbor2.dumps(record[:5]), "malformed", "the signature is missing"),
        ("seven_items", one_item_more, "malformed", "one item more"),
        ("not_minimal", raw_non_minimal(data), "malformed", "seq 0 in two bytes"),
        ("oversized", {"repeat": "0x00", "times": 65537}, "oversized", "above 64 KiB"),
        ("market_of_31_bytes", changed(0, bytes(31)), "malformed", "a market id has 32 bytes"),
        ("author_of_32_bytes", changed(1, bytes(32)), "malformed", "an author has 20 bytes"),
        ("seq_negative", changed(2, -1), "malformed", "seq below 0"),
        ("seq_too_large", changed(2, TOP + 1), "malformed", "seq above 2^63-1"),
        ("seq_bool", changed(2, False), "malformed", "a boolean is no integer"),
        ("seq_float", changed(2, 0.0), "malformed", "a float is no integer"),
        ("prev_of_20_bytes", changed(3, bytes(20)), "malformed", "prev has 32 bytes"),
        ("prev_null", changed(3, None), "malformed", "prev is never null"),
        ("operations_not_array", changed(4, 0), "malformed", "operations are an array"),
        ("no_operations", raw_entry([]), "malformed", "an entry has at least one operation"),
        ("too_many_operations", raw_entry([(2,)] * 1025), "malformed", "1,025 operations"),
        ("short_signature", changed(5, signature[:64]), "malformed", "signature of 64 bytes"),
        ("other_market", raw_entry(plain, market=OTHER_MARKET.id), "foreign", "another market"),
        ("first_with_prev", raw_entry(plain, prev=some), "invalid", "seq 0 with a prev"),
        ("later_without_prev", raw_entry(plain, seq=1), "invalid", "seq 1 without a prev"),
        ("nine_proofs", raw_entry(proofs), "invalid", "nine pieces of evidence or delegations"),
        ("two_accepts", raw_entry([to_items(accept)] * 2), "invalid", "an accept names them all"),
        ("accept_forged", raw_entry([to_items(forged)]), "signature", "the trades signed by bob"),
        ("accept_other", raw_entry([to_items(other_match)]), "signature", "a match exchanged"),
        ("other_signer", raw_entry(plain, signer="bob"), "signature", "signed by bob"),
        ("other_network", raw_entry(plain, genesis=FOREIGN), "signature", "signed elsewhere"),
        ("high_s", changed(5, high_s), "signature", "the signature's second form"),
        ("zero_signature", changed(5, bytes(65)), "signature", "no signature at all"),
        ("other_operations", changed(4, [(2,)]), "signature", "operations exchanged"),
        ("other_author", changed(1, address("bob")), "signature", "author exchanged"),
    ]
    return [invalid(*row) for row in rows]


def raw_non_minimal(data: bytes) -> bytes:
    """The entry with its seq 0 written as 0x1800."""
    at = 1 + 34 + 21
    assert data[at] == 0
    return data[:at] + b"\x18\x00" + data[at + 1 :]


def bad_operations() -> list[Json]:
    match = sha256(b"a match").digest()
    place = dict(zip(Place._fields, PLAIN, strict=True))

    def placed(**changes: Any) -> tuple[Any, ...]:
        return (0, *(place | changes).values())

    two = sorted((match, sha256(b"another").digest()))
    many = [n.to_bytes(32, "big") for n in range(257)]

    def accepted(*ids: bytes, terms: Any = b"") -> tuple[Any, ...]:
        return (4, tuple((name, terms) for name in ids), SIGNED)

    delegate = to_items(Delegate(address("session"), 50, 9, SIGNED))
    rows: list[tuple[str, Any, str]] = [
        ("operation_not_array", 0, "an operation is an array"),
        ("operation_empty", (), "an operation starts with its kind"),
        ("kind_unknown", (8,), "kinds go up to 7"),
        ("kind_bool", (False, *PLAIN), "a boolean is no kind"),
        ("kind_text", ("place",), "a text is no kind"),
        ("place_ten_items", (0, *PLAIN[:-1]), "a field is missing"),
        ("place_twelve_items", (0, *PLAIN, 0), "a field too many"),
        ("place_side", placed(side=2), "side is 0 or 1"),
        ("place_side_bool", placed(side=True), "a boolean is no side"),
        ("place_price_zero", placed(price=0), "price from 1"),
        ("place_price_large", placed(price=MOST + 1), "price to 2^62"),
        ("place_price_float", placed(price=100.0), "a float is no price"),
        ("place_price_negative", placed(price=-1), "price from 1"),
        ("place_quantity_zero", placed(quantity=0), "quantity from 1"),
        ("place_quantity_large", placed(quantity=MOST + 1), "quantity to 2^62"),
        ("place_tif", placed(time_in_force=5), "times in force go up to 4"),
        ("place_gtc_expiry", placed(expiry=1), "an expiry with GTC"),
        ("place_gtt_without_expiry", placed(time_in_force=1), "GTT without an expiry"),
        ("place_gte_without_expiry", placed(time_in_force=2), "GTE without an expiry"),
        ("place_ioc_expiry", placed(time_in_force=3, expiry=1), "an expiry with IOC"),
        ("place_expiry_large", placed(time_in_force=1, expiry=TOP + 1), "above 2^63-1"),
        ("place_post_only_two", placed(post_only=2), "post_only is 0 or 1"),
        ("place_post_only_ioc", placed(post_only=1, time_in_force=3), "post_only with IOC"),
        ("place_post_only_fok", placed(post_only=1, time_in_force=4), "post_only with FOK"),
        ("place_post_only_min", placed(post_only=1, min_quantity=1), "with min_quantity"),
        ("place_post_only_slip", placed(post_only=1, max_slippage=0), "with max_slippage"),
        ("place_self_trade", placed(self_trade=3), "self_trade goes up to 2"),
        ("place_min_quantity", placed(min_quantity=6), "min_quantity above quantity"),
        ("place_slippage_large", placed(max_slippage=MOST + 1), "max_slippage to 2^62"),
        ("place_slippage_bool", placed(max_slippage=False), "a boolean is no slippage"),
        ("place_reputation_large", placed(min_reputation=TOP + 1), "above 2^63-1"),
        ("place_quantity_null", placed(quantity=None), "only max_slippage may be null"),
        ("cancel_two_items", (1, 0), "the position is missing"),
        ("cancel_position", (1, 0, 1024), "positions go up to 1,023"),
        ("cancel_seq_text", (1, "0", 0), "a text is no seq"),
        ("cancel_all_two_items", (2, 0), "cancel_all has no fields"),
        ("amend_twelve_items", (3, 0, 0, *PLAIN[:-1]), "a field is missing"),
        ("amend_price", (3, 0, 0, *PLAIN._replace(price=0)), "price from 1"),
        ("amend_position", (3, 0, 1024, *PLAIN), "positions go up to 1,023"),
        ("accept_match_id", accepted(match[:31]), "a match id has 32 bytes"),
        ("accept_nothing", accepted(), "an accept names at least one match"),
        ("accept_257", accepted(*many), "257 matches"),
        ("accept_descending", accepted(*two[::-1]), "ids are in ascending order"),
        ("accept_twice", accepted(match, match), "each match once"),
        ("accept_signature", (*accepted(match)[:2], SIGNED[:64]), "a signature has 65 bytes"),
        ("accept_no_signature", accepted(match)[:2], "the signature is missing"),
        ("accept_terms", accepted(match, terms=bytes(1025)), "terms above 1,024 bytes"),
        ("accept_terms_text", accepted(match, terms="t"), "terms are bytes"),
        ("announce_not_array", (5, "eip155:1:0x0"), "accounts are an array"),
        ("announce_seventeen", (5, ["a"] * 17), "seventeen accounts"),
        ("announce_long", (5, ["a" * 193]), "an account above 192 bytes"),
        ("announce_bytes", (5, [b"a"]), "accounts are texts"),
        ("delegate_session", (6, bytes(19), *delegate[2:]), "a session key has 20 bytes"),
        ("delegate_cap", (*delegate[:2], MOST + 1, *delegate[3:]), "cap to 2^62"),
        ("delegate_no_consent", (*delegate[:4], b""), "the consent is missing"),
        ("revoke_with_consent", (*delegate[:3], 0, SIGNED), "to revoke takes no consent"),
        ("evidence_kind", (7, 2, b"", b""), "kinds of evidence are 0 and 1"),
        ("evidence_long", (7, 0, bytes(4097), b""), "a record above 4,096 bytes"),
        ("evidence_three_items", (7, 0, b""), "the second record is missing"),
    ]
    return [
        invalid("operation: " + name, raw_entry([items]), "malformed", reason)
        for name, items, reason in rows
    ]


# --- ticks, frames, evidence, sync --------------------------------------------------------------


def tick_body(
    parents: Sequence[bytes] = (),
    heads: Sequence[Any] = (),
    time_ms: int = START_MS,
    applied: Any = Applied(0, ZERO32),  # noqa: B008 - frozen
    reveal: bytes = ZERO32,
) -> tuple[Any, ...]:
    return (tuple(parents), tuple(heads), time_ms, applied, reveal)


def raw_tick(
    witness: str = "witness 0",
    era: int = 0,
    round: int = 0,
    body: tuple[Any, ...] | None = None,
    signer: str | None = None,
    genesis: Genesis = GENESIS,
    market: bytes = MARKET.id,
) -> bytes:
    """A correctly signed tick with whatever body."""
    shown = tick_body() if body is None else body
    body_hash = merkle.list_root(list(map(cbor2.dumps, shown)))
    header = TickHeader(market, era, round, address(witness), body_hash)
    try:
        digest = header.digest(genesis.separator)
    except OverflowError:
        digest = ZERO32
    signature = secp256k1.sign(key(signer or witness), digest)
    return cbor2.dumps((market, era, round, address(witness), *shown, signature))


def tick_of(witness: str, era: int = 0, round: int = 0, **body: Any) -> Tick:
    data = raw_tick(witness, era, round, tick_body(**body))
    return ticks.decode_tick(data, GENESIS.separator, MARKET.id)


def digests(*names: str) -> list[bytes]:
    return sorted(sha256(name.encode()).digest() for name in names)


def tick_vectors() -> Json:
    parents = digests("a", "b", "c")
    alice, bob = sorted((address("alice"), address("bob")))
    heads = [HeadItem(alice, 0, tuple(digests("1", "2"))), HeadItem(bob, 4, (ZERO32,))]
    good: list[tuple[str, Json]] = [
        ("first_round", {}),
        ("first_round_with_reveal", {"reveal": chain("witness 0").reveal(0)}),
        ("with_parents", {"round": 1, "parents": parents}),
        ("with_heads", {"round": 1, "parents": parents, "heads": heads}),
        ("with_applied", {"round": 9, "parents": parents, "applied": Applied(8, parents[0])}),
        ("largest", {"era": TOP, "round": TOP, "parents": parents, "time_ms": TOP}),
        ("thirty_two_parents", {"round": 1, "parents": digests(*map(str, range(32)))}),
        ("most_listed", {"heads": [HeadItem(alice, 0, (ZERO32,) * 200)]}),
    ]
    valid = []
    for name, fields in good:
        tick = tick_of("witness 0", **fields)
        valid.append(
            {
                "name": name,
                "input": hexed(tick.encoded),
                "witness_secret": hexed(secret("witness 0")),
                "header": jsonable(tick.header),
                "body": jsonable(tick.body),
                "body_encoded": hexed(cbor2.dumps(tick.body)),
                "digest": hexed(tick.digest),
            }
        )
    data = raw_tick()
    record = list(codec.decode(data, len(data)))  # type: ignore[call-overload]

    def changed(at: int, value: Any) -> bytes:
        return cbor2.dumps([*record[:at], value, *record[at + 1 :]])

    def with_body(round: int = 0, **body: Any) -> bytes:
        return raw_tick(round=round, body=tick_body(**body))

    def with_heads(*listed: Any) -> bytes:
        return with_body(heads=listed)

    one = (alice, 0, (ZERO32,))
    rows: list[tuple[str, bytes | Json, str, str]] = [
        ("truncated", data[:-1], "malformed", "the last byte is missing"),
        ("trailing_byte", data + b"\0", "malformed", "a byte after the record"),
        ("nine_items", cbor2.dumps(record[:9]), "malformed", "the signature is missing"),
        ("oversized", {"repeat": "0x00", "times": 262145}, "oversized", "above 256 KiB"),
        ("era_negative", changed(1, -1), "malformed", "era below 0"),
        ("round_too_large", changed(2, TOP + 1), "malformed", "round above 2^63-1"),
        ("round_bool", changed(2, False), "malformed", "a boolean is no integer"),
        ("witness_of_19_bytes", changed(3, bytes(19)), "malformed", "a witness has 20 bytes"),
        ("parents_null", changed(4, None), "malformed", "parents are an array"),
        (
            "thirty_three_parents",
            with_body(1, parents=digests(*map(str, range(33)))),
            "malformed",
            "more parents than witnesses",
        ),
        ("parent_of_31_bytes", with_body(1, parents=[bytes(31)]), "malformed", "32 bytes each"),
        ("time_float", changed(6, 1.5), "malformed", "a float is no time"),
        ("applied_null", changed(7, None), "malformed", "applied is a pair"),
        ("applied_root", changed(7, (0, b"")), "malformed", "a root has 32 bytes"),
        ("reveal_of_31_bytes", changed(8, bytes(31)), "malformed", "a reveal has 32 bytes"),
        ("head_of_two_items", with_heads((alice, 0)), "malformed", "a head has three items"),
        ("head_author", with_heads((b"", 0, (ZERO32,))), "malformed", "20 bytes"),
        ("head_digest", with_heads((alice, 0, (b"",))), "malformed", "32 bytes each"),
        ("other_market", raw_tick(market=OTHER_MARKET.id), "foreign", "another market"),
        ("first_with_parents", with_body(0, parents=parents), "invalid", "round 0 has no parents"),
        ("later_without_parents", with_body(1), "invalid", "round 1 without parents"),
        ("parents_unsorted", with_body(1, parents=parents[::-1]), "invalid", "not ascending"),
        ("parents_twice", with_body(1, parents=parents[:1] * 2), "invalid", "one parent twice"),
        ("heads_unsorted", with_heads((bob, 0, (ZERO32,)), one), "invalid", "not ascending"),
        ("head_twice", with_heads(one, one), "invalid", "two runs of one author"),
        ("head_empty", with_heads((alice, 0, ())), "invalid", "a run lists at least one entry"),
        ("other_signer", raw_tick(signer="witness 1"), "signature", "signed by another witness"),
        ("other_network", raw_tick(genesis=FOREIGN), "signature", "signed elsewhere"),
        ("other_body", changed(6, START_MS + 1), "signature", "time exchanged"),
        ("other_era", changed(1, 1), "signature", "era exchanged"),
    ]
    return document(
        "Ticks, by themselves: whether the witness is one, its parents are known and its reveal "
        "belongs to its hash chain is for chapter 3.",
        context=CONTEXT,
        valid=valid,
        invalid=[invalid(*row) for row in rows],
    )


def voucher_vectors() -> Json:
    vouched = Applied(8, sha256(b"root").digest())
    parents = digests("a", "b", "c")
    shown = [
        ("of_a_bare_tick", tick_of("witness 0", round=9, parents=parents, applied=vouched)),
        ("of_nothing_applied", tick_of("witness 1")),
        (
            "of_a_long_tick",
            tick_of("witness 0", heads=[HeadItem(address("alice"), 0, (ZERO32,) * 200)]),
        ),
    ]
    good = vouchers.voucher_of(shown[0][1])

    def changed(**fields: Any) -> bytes:
        return codec.encode(good._replace(**fields))

    rows: list[tuple[str, bytes | Json, str, str]] = [
        ("five_items", codec.encode(good[:5]), "malformed", "the signature is missing"),
        ("short_path", changed(path=good.path[:2]), "malformed", "a path has three hashes"),
        ("long_path", changed(path=(*good.path, ZERO32)), "malformed", "a path has three hashes"),
        ("step", changed(path=(*good.path[:2], b"")), "malformed", "a hash has 32 bytes"),
        ("round_too_large", changed(round=TOP + 1), "malformed", "round above 2^63-1"),
        ("trailing_byte", codec.encode(good) + b"\0", "malformed", "a byte after the record"),
        ("other_root", changed(applied=Applied(8, ZERO32)), "signature", "root exchanged"),
        ("other_epoch", changed(applied=Applied(16, vouched.root)), "signature", "epoch exchanged"),
        ("other_round", changed(round=10), "signature", "round exchanged"),
        ("other_witness", changed(witness=address("witness 1")), "signature", "not the signer"),
        ("swapped", changed(path=good.path[::-1]), "signature", "another path, another tick"),
    ]
    return document(
        "Vouchers: `input` is what the tick `tick` says of a state root.",
        context=CONTEXT,
        valid=[
            {
                "name": name,
                "input": hexed(codec.encode(vouchers.voucher_of(tick))),
                "tick": hexed(tick.encoded),
                "digest": hexed(tick.digest),
                "voucher": jsonable(vouchers.voucher_of(tick)),
            }
            for name, tick in shown
        ],
        invalid=[invalid(*row) for row in rows],
    )


def orders_map() -> merkle.SparseMerkleMap:
    """Seven orders in four groups."""
    tree = merkle.SparseMerkleMap(ORDER_KEY_BYTES)
    places = {"alice": ((0, 0), (0, 3), (0, 16), (2, 1)), "bob": ((5, 0), (5, 1), (5, 15))}
    for rank, (name, author) in enumerate((name, address(name)) for name in places):
        account = Account(author, 0, 0, 0)
        for seq, position in places[name]:
            group = account.group_for(seq, position)
            order_id = OrderId(author, seq, position)
            order = LiveOrder(order_id, author, PLAIN, 500, 7, rank, START_MS + 60_000, group)
            order.open = PLAIN.quantity
            group.slots[order.slot] = order
            tree.set(group.key, group.leaf())
    return tree


def certificate_of(orders: bytes, epoch: int = 8, witnesses: int = 3) -> Certificate:
    """A header with that root of orders, and the vouchers of some witnesses."""
    header = StateHeader(
        MARKET.id,
        epoch,
        1,
        *digests("closing leader"),
        START_MS + 3_600_000,
        ZERO32,
        ZERO32,
        9,
        *digests("leader"),
        sha256(b"seed").digest(),
        START_MS + 2000,
        orders,
        merkle.EMPTY_ROOT,
        merkle.EMPTY_ROOT,
        tuple((w.address, epoch - 1) for w in GENESIS.witnesses),
        epoch - 1,
        sha256(b"previous").digest(),
    )
    body = {"parents": digests("a", "b", "c"), "applied": Applied(epoch, header.root)}
    said = [
        vouchers.voucher_of(tick_of(f"witness {n}", round=10 + n, **body)) for n in range(witnesses)
    ]
    return Certificate(header, tuple(sorted(said, key=lambda voucher: voucher.witness)))


def bad_certificates(good: Certificate) -> list[tuple[str, Certificate, str, str]]:
    """What no quorum stands for."""
    header, said = good
    forged = said[0]._replace(signature=said[1].signature)
    return [
        ("two_of_four", Certificate(header, said[:2]), "invalid", "less than a quorum"),
        ("nobody", Certificate(header, ()), "invalid", "less than a quorum"),
        ("one_twice", Certificate(header, (said[0], *said)), "invalid", "a witness twice"),
        ("backwards", Certificate(header, said[::-1]), "invalid", "not in ascending order"),
        ("forged", Certificate(header, (forged, *said[1:])), "signature", "not the signer's"),
        (
            "other_time",
            Certificate(header._replace(time_ms=header.time_ms + 1), said),
            "invalid",
            "the vouchers are for another header",
        ),
        (
            "other_market",
            Certificate(header._replace(market=OTHER_MARKET.id), said),
            "invalid",
            "of another market",
        ),
    ]


def checkpoint_vectors() -> Json:
    tree = orders_map()
    skeleton, found = tree.split(300)
    names = {part.root(): part for part in found}
    good = Checkpoint(certificate_of(tree.root()), tuple(skeleton), (), ())
    empty = Checkpoint(certificate_of(merkle.EMPTY_ROOT, 16), (), (), ())
    whole = good._replace(orders=(tree.root(),))
    rows: list[tuple[str, bytes | Json, str, str]] = [
        ("three_items", codec.encode(good[:3]), "malformed", "a skeleton is missing"),
        ("bit_256", good._replace(orders=(256, *skeleton[1:])).encode(), "malformed", "no bit"),
        ("trailing_byte", good.encode() + b"\0", "malformed", "a byte after the record"),
        ("other_skeleton", good._replace(orders=()).encode(), "invalid", "not the header's root"),
        (
            "swapped_maps",
            good._replace(orders=(), accounts=good.orders).encode(),
            "invalid",
            "orders among the accounts",
        ),
        (
            "half_a_tree",
            good._replace(orders=good.orders[:-1]).encode(),
            "invalid",
            "an inner node lacks a child",
        ),
        (
            "two_trees",
            good._replace(orders=(*good.orders, ZERO32)).encode(),
            "invalid",
            "more than one tree",
        ),
    ]
    rows += [
        (name, good._replace(certificate=certificate).encode(), error, reason)
        for name, certificate, error, reason in bad_certificates(good.certificate)
    ]
    return document(
        "Checkpoints, and the parts they name. Valid ones verify with the genesis alone. That of "
        "`in_parts` is cut smaller than need be.",
        context=CONTEXT,
        valid=[
            {
                "name": name,
                "input": hexed(checkpoint.encode()),
                "root": hexed(checkpoint.header.root),
                "checkpoint": jsonable(checkpoint),
                "parts": {
                    hexed(part): hexed(parts.encode_part(names.get(part, tree)))
                    for part in checkpoint.part_names
                },
            }
            for name, checkpoint in (("in_parts", good), ("whole", whole), ("empty", empty))
        ],
        invalid=[invalid(*row) for row in rows],
    )


def handover_vectors() -> Json:
    market = ELECTED.markets[0].id
    first = of_genesis(ELECTED, market)
    seats = tuple(sorted(first.seats)[1:])
    second = Roster(Era(1), Pin(7, sha256(b"block 7").digest()), seats, first.standings)
    third = attrs.evolve(second, era=Era(2))

    def ending(known: Roster, following: Roster, said_in: int = -1, count: int = 3) -> Handover:
        """``said_in``: the era of one voucher, if it is another one than the header's."""
        header = certificate_of(merkle.EMPTY_ROOT).header._replace(
            market=market, era=known.era, roster=known.digest, next_roster=following.digest
        )
        said = []
        for place, seat in enumerate(known.seats[:count]):
            name = next(n for n, _ in WITNESSES if address(n) == seat.witness)
            era = said_in if place == 0 and said_in >= 0 else known.era
            body = tick_body(digests("a", "b", "c"), applied=Applied(8, header.root))
            data = raw_tick(name, era, 10 + place, body, genesis=ELECTED, market=market)
            said.append(vouchers.voucher_of(ticks.decode_tick(data, ELECTED.separator, market)))
        return Handover(Certificate(header, tuple(said)), following.encode())

    good = ending(first, second)
    unnamed = good.certificate.header._replace(next_roster=ZERO32)
    rows: list[tuple[str, bytes, str, str]] = [
        ("one_item", codec.encode(good[:1]), "malformed", "no roster"),
        ("trailing_byte", good.encode() + b"\0", "malformed", "a byte after the record"),
        ("other_roster", good._replace(roster=third.encode()).encode(), "invalid", "not committed"),
        ("no_roster", good._replace(roster=b"\x80").encode(), "malformed", "not a roster"),
        ("two_of_four", ending(first, second, count=2).encode(), "invalid", "less than a quorum"),
        ("skipped", ending(second, third).encode(), "invalid", "the handover of era 1"),
        ("skips", ending(first, third).encode(), "invalid", "to era 2"),
        ("said_later", ending(first, second, said_in=1).encode(), "invalid", "a voucher of era 1"),
        (
            "names_none",
            good._replace(certificate=good.certificate._replace(header=unnamed)).encode(),
            "invalid",
            "the header names no roster",
        ),
        (
            "other_table",
            ending(attrs.evolve(first, standings=()), second).encode(),
            "invalid",
            "under another roster of era 0",
        ),
    ]
    return document(
        "Handovers: `input` leads from the roster `known` to `following`. For invalid ones `known` "
        "is that of the first case, of era 0.",
        context={
            "network_id": hexed(ELECTED.network_id),
            "separator": hexed(ELECTED.separator),
            "market": hexed(market),
        },
        valid=[
            {
                "name": name,
                "input": hexed(ending(known, following).encode()),
                "known": hexed(known.encode()),
                "following": hexed(following.encode()),
                "digest": hexed(following.digest),
            }
            for name, known, following in (
                ("from_genesis", first, second),
                ("the_next", second, third),
            )
        ],
        invalid=[invalid(*row) for row in rows],
    )


def order_proof_vectors() -> Json:
    tree = orders_map()
    certificate = certificate_of(tree.root())
    asked = [
        ("live", OrderId(address("alice"), 0, 3), 1),
        ("last_of_a_group", OrderId(address("bob"), 5, 15), 1),
        ("not_in_its_group", OrderId(address("alice"), 0, 4), 0),
        ("no_such_group", OrderId(address("alice"), 1, 0), 0),
        ("no_such_author", OrderId(address("carol"), 0, 0), 0),
    ]

    def proof(name: OrderId) -> OrderProof:
        group = name.author + name.seq.to_bytes(8, "big") + (name.position // 16).to_bytes(2, "big")
        return OrderProof(certificate, tree.prove(group))

    def shown(name: OrderId, proof: OrderProof, is_live: int) -> Json:
        return {"order": str(name), "input": hexed(proof.encode()), "live": bool(is_live)}

    live, other = asked[0][1], asked[1][1]
    good = proof(live)
    path = good.path
    assert path is not None
    rows = [
        ("no_path", good._replace(path=None), "invalid", "only of the empty map"),
        ("other_walk", proof(other), "invalid", "the walk by another order"),
        ("no_steps", good._replace(path=path._replace(steps=())), "invalid", "another root"),
        (
            "other_lots",
            good._replace(path=path._replace(leaf_value=path.leaf_value[:-1] + b"\1")),
            "invalid",
            "the leaf was changed",
        ),
        (
            "no_leaf",
            good._replace(path=path._replace(leaf_value=b"")),
            "malformed",
            "a leaf holds orders",
        ),
        ("short_key", good._replace(path=path._replace(leaf_key=bytes(29))), "malformed", "key"),
    ]
    rows += [
        (name, good._replace(certificate=bad), error, reason)
        for name, bad, error, reason in bad_certificates(certificate)
    ]
    nobody = OrderProof(certificate_of(merkle.EMPTY_ROOT), None)
    return document(
        "Order proofs: `input` shows, with the genesis alone, whether `order` was live.",
        context=CONTEXT,
        valid=[
            *(
                {"name": name, **shown(order, proof(order), is_live)}
                for name, order, is_live in asked
            ),
            {"name": "empty_book", **shown(live, nobody, 0)},
        ],
        invalid=[
            {**invalid(name, bad.encode(), error, reason), "order": str(live)}
            for name, bad, error, reason in rows
        ],
    )


def frame_vectors() -> Json:
    entry, tick = entry_of([PLAIN]).encoded, raw_tick()
    good = [
        ("empty", frames.Frame((), ())),
        ("one_entry", frames.Frame((entry,), ())),
        ("one_tick", frames.Frame((), (tick,))),
        ("both", frames.Frame((entry, raw_entry([(2,)], "bob")), (tick,))),
        ("unchecked_records", frames.Frame((b"", b"anything"), ())),
    ]
    big = {"prefix": "0x8281" + "5a00010001", "repeat": "0x00", "times": 65537, "suffix": "0x80"}
    rows: list[tuple[str, bytes | Json, str, str]] = [
        ("empty_input", b"", "malformed", "no item"),
        ("one_list", cbor2.dumps(((),)), "malformed", "the ticks are missing"),
        ("three_lists", cbor2.dumps(((), (), ())), "malformed", "a list too many"),
        ("not_lists", cbor2.dumps((0, 0)), "malformed", "lists are arrays"),
        ("record_not_bytes", cbor2.dumps((((1,),), ())), "malformed", "records are byte strings"),
        ("map", b"\xa0", "malformed", "a map"),
        ("trailing_byte", cbor2.dumps(((), ())) + b"\0", "malformed", "a byte after the frame"),
        ("not_minimal", bytes.fromhex("8298008080"), "malformed", "a length in two bytes"),
        ("entry_too_long", big, "malformed", "an entry above 64 KiB"),
        ("too_many", cbor2.dumps(((b"",) * 4097, ())), "malformed", "4,097 entries"),
        ("oversized", {"repeat": "0x00", "times": 524289}, "oversized", "above 512 KiB"),
    ]
    return document(
        "Frames. The records in them are decoded and verified one by one, afterwards.",
        valid=[
            {
                "name": name,
                "input": hexed(frame.encode()),
                "entries": [hexed(e) for e in frame.entries],
                "ticks": [hexed(t) for t in frame.ticks],
            }
            for name, frame in good
        ],
        invalid=[invalid(*row) for row in rows],
    )


def evidence_vectors() -> Json:
    def signed(header: EntryHeader | TickHeader, signer: str, genesis: Genesis = GENESIS) -> bytes:
        signature = secp256k1.sign(key(signer), header.digest(genesis.separator))
        return cbor2.dumps((*header, signature))

    first = EntryHeader(MARKET.id, address("bob"), 3, sha256(b"p").digest(), sha256(b"1").digest())
    second = first._replace(ops_root=sha256(b"2").digest())
    bob = signed(first, "bob")
    tick = TickHeader(MARKET.id, 0, 5, address("witness 2"), sha256(b"1").digest())
    other = tick._replace(body_hash=sha256(b"2").digest())
    elsewhere = [h._replace(market=OTHER_MARKET.id) for h in (first, second)]
    good = [
        ("fork", Evidence(0, bob, signed(second, "bob")), "bob"),
        ("fork_other_order", Evidence(0, signed(second, "bob"), bob), "bob"),
        (
            "fork_by_prev",
            Evidence(0, bob, signed(first._replace(prev=sha256(b"q").digest()), "bob")),
            "bob",
        ),
        (
            "equivocation",
            Evidence(1, signed(tick, "witness 2"), signed(other, "witness 2")),
            "witness 2",
        ),
    ]
    rows = [
        ("same_record", Evidence(0, bob, bob), "invalid", "one record is no fork"),
        (
            "two_numbers",
            Evidence(0, bob, signed(second._replace(seq=4), "bob")),
            "invalid",
            "entries 3 and 4",
        ),
        (
            "two_authors",
            Evidence(0, bob, signed(second._replace(author=address("alice")), "alice")),
            "invalid",
            "one entry each of two authors",
        ),
        ("other_signer", Evidence(0, bob, signed(second, "alice")), "invalid", "forged"),
        (
            "other_network",
            Evidence(0, bob, signed(second, "bob", FOREIGN)),
            "invalid",
            "the second is of another network",
        ),
        (
            "other_market",
            Evidence(0, *(signed(header, "bob") for header in elsewhere)),
            "invalid",
            "a fork, but in another market",
        ),
        (
            "two_rounds",
            Evidence(1, signed(tick, "witness 2"), signed(other._replace(round=6), "witness 2")),
            "invalid",
            "rounds 5 and 6",
        ),
        ("empty", Evidence(0, b"", b""), "malformed", "no headers at all"),
        ("truncated", Evidence(0, bob, bob[:-1]), "malformed", "the last byte is missing"),
        (
            "tick_as_entry",
            Evidence(0, signed(tick, "witness 2"), signed(other, "witness 2")),
            "malformed",
            "headers of ticks under the kind of forks",
        ),
        (
            "bad_signature",
            Evidence(0, bob, cbor2.dumps((*second, bytes(65)))),
            "signature",
            "not a signature",
        ),
    ]
    return document(
        "Evidence: who is convicted by two signed headers, or why they convict nobody.",
        context=CONTEXT,
        valid=[
            {"name": n, "input": jsonable(e), "culprit": hexed(address(who))} for n, e, who in good
        ],
        invalid=[invalid(n, jsonable(e), error, why) for n, e, error, why in rows],
    )


def sync_vectors() -> Json:
    market, alice = MARKET.id, address("alice")
    many = tuple(sync.LogRange(alice, i, i) for i in range(257))
    requests = [
        ("entries", sync.EntriesWanted(market, (sync.LogRange(alice, 3, 9),))),
        ("no_ranges", sync.EntriesWanted(market, ())),
        ("most_ranges", sync.EntriesWanted(market, many[:256])),
        ("records", sync.RecordsWanted(market, tuple(digests("a", "b")))),
        ("rounds", sync.RoundsWanted(market, 1, 10, 265)),
        ("status", sync.StatusWanted(market)),
        ("newest_checkpoint", sync.CheckpointWanted(market, 0, 0)),
        ("rest_of_checkpoint", sync.CheckpointWanted(market, 512, 524_288)),
        ("parts", sync.PartsWanted(market, tuple(digests("a", "b")))),
        ("no_parts", sync.PartsWanted(market, ())),
    ]
    rows: list[tuple[str, bytes, str]] = [
        ("kind_6", cbor2.dumps((6, market)), "kinds go up to 5"),
        ("checkpoint_no_offset", cbor2.dumps((4, market, 0)), "the offset is missing"),
        ("offset_too_far", cbor2.dumps((4, market, 8, (4 << 20) + 1)), "past 4 MiB"),
        ("part_name_short", cbor2.dumps((5, market, (market[:31],))), "a name has 32 bytes"),
        ("too_many_parts", cbor2.dumps((5, market, (ZERO32,) * 257)), "257 names"),
        ("kind_only", cbor2.dumps((3,)), "the market is missing"),
        ("status_three_items", cbor2.dumps((3, market, 0)), "an item too many"),
        ("market_short", cbor2.dumps((3, market[:31])), "a market id has 32 bytes"),
        ("range_backwards", cbor2.dumps((0, market, ((alice, 9, 3),))), "ends before its start"),
        ("too_many_ranges", cbor2.dumps((0, market, many)), "257 ranges"),
        ("too_many_digests", cbor2.dumps((1, market, (ZERO32,) * 1025)), "1,025 digests"),
        ("rounds_backwards", cbor2.dumps((2, market, 0, 5, 4)), "ends before its start"),
        ("too_many_rounds", cbor2.dumps((2, market, 0, 0, 256)), "257 rounds"),
        ("map", b"\xa0", "a map"),
        ("not_minimal", b"\x82\x18\x03\x58\x20" + market, "a kind in two bytes"),
    ]
    page = frames.Frame((entry_of([PLAIN]).encoded,), ())
    empty = frames.Frame((), ())
    reply_rows: list[tuple[str, bytes, str]] = [
        ("one_item", cbor2.dumps((page.encode(),)), "more is missing"),
        ("more_two", cbor2.dumps((page.encode(), 2)), "more is 0 or 1"),
        ("more_bool", cbor2.dumps((page.encode(), True)), "a boolean is no integer"),
        ("page_no_frame", cbor2.dumps((b"", 0)), "the page is no frame"),
        ("page_not_bytes", cbor2.dumps((((), ()), 0)), "the page is a byte string"),
    ]
    return document(
        "Requests and replies of /orrange/sync/1.",
        valid_requests=[
            {
                "name": n,
                "input": hexed(sync.encode_request(r)),
                "type": type(r).__name__,
                "request": jsonable(r),
            }
            for n, r in requests
        ],
        invalid_requests=[invalid(n, d, "malformed", why) for n, d, why in rows],
        valid_replies=[
            {
                "name": n,
                "input": hexed(reply.encode()),
                "frame": hexed(reply.frame.encode()),
                "more": reply.more,
            }
            for n, reply in (
                ("last_page", sync.Reply(page, False)),
                ("more_pages", sync.Reply(page, True)),
                ("nothing", sync.Reply(empty, False)),
            )
        ],
        invalid_replies=[invalid(n, d, "malformed", why) for n, d, why in reply_rows],
        valid_checkpoint_pages=[
            {
                "name": n,
                "input": hexed(p.encode()),
                "epoch": p.epoch,
                "size": p.size,
                "page": hexed(p.page),
            }
            for n, p in (
                ("which", sync.CheckpointPage(512, 700_000, b"")),
                ("some_bytes", sync.CheckpointPage(512, 3, b"abc")),
                ("none", sync.CheckpointPage(0, 0, b"")),
            )
        ],
        invalid_checkpoint_pages=[
            invalid(n, d, "malformed", why)
            for n, d, why in (
                ("two_items", cbor2.dumps((512, 3)), "the page is missing"),
                ("size_too_large", cbor2.dumps((8, (4 << 20) + 1, b"")), "more than 4 MiB"),
                ("page_too_long", cbor2.dumps((8, 9, bytes((512 << 10) + 1))), "over 512 KiB"),
            )
        ],
        valid_parts=[
            {
                "name": n,
                "input": hexed(p.encode()),
                "parts": [[hexed(name), hexed(part)] for name, part in p.parts],
            }
            for n, p in (
                ("two", sync.Parts(tuple((name, name[:3]) for name in digests("a", "b")))),
                ("none", sync.Parts(())),
            )
        ],
        invalid_parts=[
            invalid(n, d, "malformed", why)
            for n, d, why in (
                ("name_short", cbor2.dumps((((market[:31], b""),),)), "a name has 32 bytes"),
                ("no_part", cbor2.dumps((((market,),),)), "the part is missing"),
                ("too_many", cbor2.dumps((((market, b""),) * 257,)), "257 parts"),
            )
        ],
    )


def hello_vectors() -> Json:
    network_id, market = GENESIS.network_id, MARKET.id
    one = "/ip4/203.0.113.7/tcp/9771/p2p/12D3KooWGjTtKZXUmsMB9dfFxkmDfCXq8SvUTW6Wb7BkVrHNBnTw"
    plain = hello.Hello(network_id, hello.Versions(1, 1), "orrange/0.1.0", (market,), (one,), ())
    least = hello.Hello(network_id, hello.Versions(1, 65535), "", (), (), ())
    full = hello.Hello(
        network_id, hello.Versions(2, 3), "a" * 64, (market,) * 64, (one,) * 8, (one,) * 32
    )
    cases = [("plain", plain), ("least", least), ("most_of_all", full)]
    items = (network_id, (1, 1), "a", (), (), ())
    later = codec.encode((*items, b"of a later version", (1, 2)))

    def changed(position: int, value: Any) -> bytes:
        return cbor2.dumps((*items[:position], value, *items[position + 1 :]))

    rows: list[tuple[str, bytes, str]] = [
        ("five_items", cbor2.dumps(items[:5]), "known is missing"),
        ("too_many_items", cbor2.dumps((*items, *range(27))), "33 items"),
        ("network_short", changed(0, network_id[:31]), "a network id has 32 bytes"),
        ("versions_backwards", changed(1, (2, 1)), "ends before its start"),
        ("version_0", changed(1, (0, 1)), "versions start at 1"),
        ("version_large", changed(1, (1, 65536)), "versions go up to 65,535"),
        ("agent_long", changed(2, "a" * 65), "at most 64 bytes"),
        ("agent_control", changed(2, "a\x1b[2J"), "an escape sequence"),
        ("market_short", changed(3, (market[:31],)), "a market id has 32 bytes"),
        ("too_many_addresses", changed(4, (one,) * 9), "9 addresses"),
        ("too_many_known", changed(5, (one,) * 33), "33 addresses"),
        ("address_long", changed(5, ("/" * 257,)), "257 bytes"),
        ("not_minimal", b"\x98\x06" + cbor2.dumps(items)[1:], "a length in two bytes"),
        ("trailing_byte", cbor2.dumps(items) + b"\x00", "a byte too many"),
    ]
    return document(
        "Request and reply of /orrange/hello/1.",
        valid=[
            *({"name": n, "input": hexed(h.encode()), "hello": jsonable(h)} for n, h in cases),
            {
                "name": "items_of_a_later_version",
                "input": hexed(later),
                "hello": jsonable(hello.Hello(network_id, hello.Versions(1, 1), "a", (), (), ())),
            },
        ],
        invalid=[invalid(n, d, "malformed", why) for n, d, why in rows],
    )


# --- trees --------------------------------------------------------------------------------------

# The leaves of the test tree of the certificate transparency project, whose roots are published.
KNOWN_LEAVES = [
    *("", "00", "10", "2021", "3031", "40414243"),
    *("5051525354555657", "606162636465666768696a6b6c6d6e6f"),
]


def merkle_list_vectors() -> Json:
    known = [bytes.fromhex(leaf) for leaf in KNOWN_LEAVES]
    valid = []
    for count in (0, 1, 2, 3, 4, 5, 6, 7, 8):
        leaves = known[:count]
        valid.append(
            {
                "name": f"{count} leaves",
                "leaves": [hexed(leaf) for leaf in leaves],
                "root": hexed(merkle.list_root(leaves)),
                "paths": [[hexed(h) for h in merkle.list_proof(leaves, i)] for i in range(count)],
            }
        )
    leaves = known[:7]
    root = merkle.list_root(leaves)
    path = merkle.list_proof(leaves, 2)

    def forged(name: str, why: str, **changes: Any) -> Json:
        claim = {"root": root, "leaf": leaves[2], "index": 2, "count": 7, "path": path} | changes
        return invalid(name, jsonable(claim), "invalid", why)

    inner = merkle.leaf_hash(leaves[0]) + merkle.leaf_hash(leaves[1])
    return document(
        "RFC 6962 trees over raw leaves, with the audit path of each leaf.",
        valid=valid,
        invalid=[
            forged("other_leaf", "the leaf is another", leaf=leaves[3]),
            forged("other_index", "the leaf stands elsewhere", index=3),
            forged("other_root", "another root", root=merkle.list_root(known)),
            forged("short_path", "the last hash is missing", path=path[:-1]),
            forged("long_path", "one hash too many", path=[*path, ZERO32]),
            forged("swapped_path", "two hashes exchanged", path=[path[1], path[0], *path[2:]]),
            forged("index_past_end", "no such leaf", index=7),
            forged("index_negative", "no such leaf", index=-1),
            forged("no_leaves", "an empty list has no leaf", index=0, count=0, path=[]),
            forged(
                "node_as_leaf",
                "an inner node is no leaf",
                leaf=inner,
                index=0,
                count=4,
                path=path[1:],
            ),
        ],
    )


def proof_json(proof: merkle.MapProof | None) -> Json | None:
    return None if proof is None else jsonable(proof)


def merkle_map_vectors() -> Json:
    def name_of(text: str) -> bytes:
        return sha256(text.encode()).digest()[:4]

    scripts: list[tuple[str, list[tuple[str, bytes, bytes]]]] = [
        ("empty", []),
        ("one_key", [("set", b"\0\0\0\0", b"zero")]),
        ("two_keys_first_bit", [("set", b"\0\0\0\0", b"a"), ("set", b"\x80\0\0\0", b"b")]),
        ("two_keys_last_bit", [("set", b"\0\0\0\0", b"a"), ("set", b"\0\0\0\x01", b"b")]),
        ("empty_value", [("set", b"\0\0\0\0", b"")]),
        ("set_twice", [("set", b"\0\0\0\0", b"a"), ("set", b"\0\0\0\0", b"b")]),
        ("ten_keys", [("set", name_of(str(i)), b"%d" % i) for i in range(10)]),
        ("ten_keys_reversed", [("set", name_of(str(i)), b"%d" % i) for i in range(9, -1, -1)]),
        (
            "ten_keys_less_three",
            [("set", name_of(str(i)), b"%d" % i) for i in range(10)]
            + [("delete", name_of(str(i)), b"") for i in (3, 7, 0)],
        ),
        (
            "down_to_nothing",
            [("set", name_of("0"), b"0"), ("delete", name_of("0"), b"")],
        ),
        ("delete_absent", [("set", name_of("0"), b"0"), ("delete", name_of("1"), b"")]),
    ]
    valid = []
    for name, script in scripts:
        tree = merkle.SparseMerkleMap(4)
        for what, at, value in script:
            if what == "set":
                tree.set(at, value)
            else:
                tree.delete(at)
        asked = sorted({at for _, at, _ in script} | {name_of("absent"), b"\xff" * 4})
        valid.append(
            {
                "name": name,
                "key_bytes": 4,
                "updates": [
                    [w, hexed(a), hexed(v)][: 3 if w == "set" else 2] for w, a, v in script
                ],
                "content": [[hexed(a), hexed(v)] for a, v in tree.items()],
                "root": hexed(tree.root()),
                "proofs": [
                    {
                        "key": hexed(at),
                        "value": None if (held := tree.get(at)) is None else hexed(held),
                        "proof": proof_json(tree.prove(at)),
                    }
                    for at in asked
                ],
            }
        )
    tree = merkle.SparseMerkleMap(4)
    for i in range(10):
        tree.set(name_of(str(i)), b"%d" % i)
    root, present, absent = tree.root(), name_of("4"), name_of("absent")
    shown, not_shown = tree.prove(present), tree.prove(absent)
    assert shown is not None and not_shown is not None and len(shown.steps) > 1
    step = shown.steps[0]

    def forged(name: str, why: str, proof: merkle.MapProof | None, asked: bytes = present) -> Json:
        claim = {"root": hexed(root), "key": hexed(asked), "proof": proof_json(proof)}
        return invalid(name, claim, "invalid", why)

    def with_step(changed: merkle.Step) -> merkle.MapProof:
        return shown._replace(steps=(changed, *shown.steps[1:]))

    flipped = bytes((present[0] ^ 0x80,)) + present[1:]
    return document(
        "The sparse map: root after updates, and what proofs say of present and absent keys "
        "(`value` null: absent; `proof` null: the map is empty).",
        valid=valid,
        invalid=[
            forged("other_value", "the value is another", shown._replace(leaf_value=b"5")),
            forged("other_leaf_key", "the leaf is another's", shown._replace(leaf_key=absent)),
            forged("no_proof", "only of the empty map", None),
            forged("missing_step", "a step is missing", shown._replace(steps=shown.steps[1:])),
            forged(
                "steps_swapped",
                "steps do not descend",
                shown._replace(steps=(shown.steps[1], shown.steps[0], *shown.steps[2:])),
            ),
            forged("step_twice", "a bit twice", shown._replace(steps=(step, *shown.steps))),
            forged("bit_past_end", "no such bit", with_step(merkle.Step(32, step.sibling))),
            forged("bit_negative", "no such bit", with_step(merkle.Step(-1, step.sibling))),
            forged(
                "other_bit",
                "the bit is part of the hash",
                with_step(
                    merkle.Step(
                        shown.steps[1].bit - 1
                        if shown.steps[1].bit - 1 != step.bit
                        else step.bit + 0,
                        ZERO32,
                    )
                ),
            ),
            forged("short_sibling", "31 bytes", with_step(merkle.Step(step.bit, bytes(31)))),
            forged("other_walk", "speaks of a key on another path", shown, flipped),
            forged("other_key_length", "keys of 4 bytes", shown, present + b"\0"),
            forged(
                "leaf_boundary",
                "a byte moved from the value to the key",
                shown._replace(leaf_key=present + b"4", leaf_value=b""),
            ),
        ],
    )


# --- clock --------------------------------------------------------------------------------------


def leader_vectors() -> Json:
    tables: list[tuple[str, dict[Address, int]]] = [
        ("one witness", {address("witness 0"): 5}),
        ("four equal", {address(f"witness {i}"): 1 for i in range(4)}),
        ("unequal", {address(f"witness {i}"): weight for i, weight in enumerate((1, 2, 3, 10))}),
        ("heavy", {address(f"witness {i}"): (1 << 32) - 1 - i for i in range(32)}),
    ]
    valid = []
    for name, weights in tables:
        table = WitnessTable(weights)  # type: ignore[arg-type]
        seed = sha256(name.encode()).digest()
        valid.append(
            {
                "name": name,
                "weights": {hexed(a): weights[a] for a in sorted(weights)},
                "total": table.total,
                "quorum": table.quorum,
                "era_seed": hexed(seed),
                "leaders": [hexed(table.leader(seed, round)) for round in range(24)],  # type: ignore[arg-type]
            }
        )
    return document("Who leads rounds 0 to 23 of an era.", valid=valid)


def seed_vectors() -> Json:
    seed = sha256(GENESIS.network_id + MARKET.id).digest()
    steps = []
    for name in ("x", "y", "z"):
        reveal = sha256(name.encode()).digest()
        seed = sha256(seed + reveal).digest()
        steps.append({"reveal": hexed(reveal), "seed": hexed(seed)})
    keys = []
    for author, seq, count in (("alice", 0, 1), ("alice", 1, 3), ("bob", TOP, 20)):
        material = seed + address(author) + seq.to_bytes(8, "big")
        stream = shake_256(material).digest(8 * count)
        keys.append(
            {
                "author": hexed(address(author)),
                "seq": seq,
                "seed": hexed(seed),
                "keys": [hexed(stream[8 * i : 8 * i + 8]) for i in range(count)],
            }
        )
    made = chain("witness 0")
    reveals = [{"position": i, "reveal": hexed(made.reveal(i))} for i in (0, 1, 2, 15, 16, 63)]
    return document(
        "Seeds of epochs, the keys by which an epoch's new orders are sorted, and reveal chains.",
        network_id=CONTEXT["network_id"],
        market=CONTEXT["market"],
        seed_of_epoch_0=hexed(sha256(GENESIS.network_id + MARKET.id).digest()),
        seeds=steps,
        sort_keys=keys,
        chain={"anchor": hexed(made.anchor), "length": CHAIN_LENGTH, "reveals": reveals},
        invalid=[
            invalid(
                "other_position",
                {"position": 3, "reveal": hexed(made.reveal(4))},
                "invalid",
                "the reveal of position 4",
            ),
            invalid("made_up", {"position": 0, "reveal": hexed(ZERO32)}, "invalid", "not a link"),
            invalid(
                "past_the_end",
                {"position": 64, "reveal": hexed(made.reveal(63))},
                "invalid",
                "the chain has 64 links",
            ),
        ],
    )


# --- book ---------------------------------------------------------------------------------------

Script = Callable[["Story"], None]


class Story:
    """Epochs told one by one, and what the fold makes of them."""

    def __init__(self, name: str, genesis: Genesis = GENESIS) -> None:
        self.name = name
        self.genesis = genesis
        self.market = genesis.markets[0].id
        self.fold = Fold(genesis, self.market)
        self.era = 0
        self.heads: dict[str, tuple[int, bytes]] = {}
        self.epochs: list[Json] = []
        self.last: Any = None

    def write(self, author: str, operations: Sequence[Operation]) -> Entry:
        seq, prev = self.heads.get(author, (0, ZERO32))
        data = raw_entry(
            [to_items(o) for o in operations], author, seq, prev, None, self.genesis, self.market
        )
        entry = entries.decode_entry(data, self.genesis.separator, self.market)
        self.heads[author] = (seq + 1, entry.digest)
        return entry

    def epoch(
        self,
        comment: str,
        *writes: tuple[str, Sequence[Operation]],
        time_ms: int | None = None,
        reports: Sequence[tuple[str, int]] = (),
        forked: Sequence[str] = (),
        reveal: str = "",
        standings: Sequence[tuple[str, int, int]] | None = None,
    ) -> Any:
        """One epoch; each write is an entry of that author. The first of another era if its
        ``standings`` are given."""
        fold, number = self.fold, self.fold.epoch + 1
        begins: Json = {}
        if standings is not None:
            self.era += 1
            listed = sorted(Standing(address(name), *worth) for name, *worth in standings)
            roster = Roster(Era(self.era), Pin(1, ZERO32), fold.roster.seats, tuple(listed))
            fold.begin_era(roster)
            begins = {"roster": hexed(roster.encode())}
        written = [self.write(author, operations) for author, operations in writes]
        written.sort(key=lambda entry: (entry.author, entry.seq))
        facts = EpochFacts(
            epoch=number,
            era=self.era,
            era_opened_by=sha256(b"era %d" % self.era).digest() if self.era else ZERO32,
            era_end_ms=START_MS + (self.era + 1) * self.genesis.parameters.era_ms,
            round=number * 2,
            leader=sha256(b"leader %d" % number).digest(),
            time_ms=fold.time_ms + 1000 if time_ms is None else time_ms,
            reveal=sha256(f"reveal {number}{reveal}".encode()).digest(),
            entries=tuple(written),
            forked=tuple(sorted(address(name) for name in forked)),
            reports=tuple((address(name), epoch) for name, epoch in reports),
        )
        outcome = fold.apply(facts)
        self.last = outcome
        self.epochs.append(
            {
                "comment": comment,
                **begins,
                "facts": {
                    **jsonable(facts._replace(entries=())),
                    "entries": [hexed(e.encoded) for e in facts.entries],
                    "operations": [
                        {
                            "author": hexed(e.author),
                            "seq": e.seq,
                            "operations": [operation_json(o) for o in e.operations],
                        }
                        for e in facts.entries
                    ],
                },
                "outcome": {
                    "seed": hexed(fold.seed),
                    "matches": [match_json(m) for m in outcome.matches],
                    "trades": [hexed(m.id) for m in outcome.trades],
                    "lapses": [
                        {"match": hexed(lapse.match.id), "silent": jsonable(lapse.silent)}
                        for lapse in outcome.lapses
                    ],
                    "refusals": [[str(order), why.name] for order, why in outcome.refusals],
                    "ended": [order_json(order) for order in outcome.ended],
                    "frozen": jsonable(outcome.frozen),
                    "placed": outcome.placed,
                    "live": [order_json(o) for o in sorted(fold.live_orders(), key=by_name)],
                    "root": hexed(outcome.root),
                },
            }
        )
        return outcome

    def accepts(self, author: str, *matches: Any, terms: bytes = b"") -> list[Operation]:
        names = sorted(match.id for match in matches)
        return [accept_of(author, *names, terms=terms, genesis=self.genesis)]

    def quorum(self, epoch: int) -> list[tuple[str, int]]:
        return [(f"witness {i}", epoch) for i in range(3)]

    def told(self) -> Json:
        fold = self.fold
        groups = [g for a in fold.accounts.values() for g in a.groups.values() if g.count]
        return {
            "name": self.name,
            "network": self.genesis.name,
            "epochs": self.epochs,
            "leaves": {
                "orders": sorted([hexed(g.key), hexed(g.leaf())] for g in groups),
                "matches": sorted([hexed(g.key), hexed(g.leaf())] for g in match_groups(fold)),
                "accounts": sorted(
                    [hexed(a.address), hexed(a.leaf())] for a in fold.accounts.values()
                ),
            },
        }


def match_groups(fold: Fold) -> list[MatchGroup]:
    return list({match.group.key: match.group for match in fold.matches.values()}.values())


def by_name(order: Any) -> OrderId:
    name: OrderId = order.id
    return name


def order_json(order: Any) -> Json:
    return {
        "order": str(order.id),
        "open": int(order.open),
        "reserved": int(order.reserved),
        "filled": int(order.filled),
        "cancelled": int(order.cancelled),
        "reason": int(order.reason),
        "ended": bool(order.ended),
    }


def match_json(match: Any) -> Json:
    return {
        "id": hexed(match.id),
        "maker": str(match.maker),
        "taker": str(match.taker),
        "maker_side": int(match.maker_side),
        "price": int(match.price),
        "quantity": int(match.quantity),
    }


def buy(price: int, quantity: int, **terms: Any) -> Place:
    return Place(0, price, quantity, **terms)  # type: ignore[arg-type]


def sell(price: int, quantity: int, **terms: Any) -> Place:
    return Place(1, price, quantity, **terms)  # type: ignore[arg-type]


def a_trade(s: Story) -> None:
    s.epoch("alice offers 5 at 100", ("alice", [sell(100, 5)]))
    made = s.epoch("bob takes 3, at alice's price", ("bob", [buy(103, 3)]))
    s.epoch("alice accepts", ("alice", s.accepts("alice", *made.matches, terms=b"a")))
    s.epoch("bob accepts: a trade", ("bob", s.accepts("bob", *made.matches, terms=b"b")))


def both_accept_at_once(s: Story) -> None:
    s.epoch("alice bids", ("alice", [buy(100, 2)]))
    made = s.epoch("bob sells", ("bob", [sell(100, 2)]))
    s.epoch(
        "both accept in one epoch",
        ("alice", s.accepts("alice", *made.matches)),
        ("bob", s.accepts("bob", *made.matches)),
    )


def priority(s: Story) -> None:
    s.epoch("alice offers at 102", ("alice", [sell(102, 1)]))
    s.epoch(
        "carol offers at 101, alice at 101 and 102",
        ("alice", [sell(101, 1), sell(102, 1)]),
        ("carol", [sell(101, 1)]),
    )
    s.epoch("bob sweeps: best price, then epoch, then the epoch's sort", ("bob", [buy(102, 5)]))


def sorting(s: Story) -> None:
    for reveal in ("", "'"):
        s.epoch(
            "three authors at once; the reveal decides who is first",
            ("alice", [sell(100, 1), buy(100, 1, self_trade=1)]),
            ("bob", [buy(100, 1)]),
            ("carol", [sell(100, 1)]),
            reveal=reveal,
        )


def cancels(s: Story) -> None:
    s.epoch("alice offers three times", ("alice", [sell(100, 5), sell(101, 5), sell(102, 5)]))
    s.epoch("bob takes 2 of the first", ("bob", [buy(100, 2)]))
    s.epoch(
        "a cancel beats bob's buy of this epoch, and leaves what is reserved",
        ("alice", [Cancel(0, 0)]),
        ("bob", [buy(100, 9)]),
    )
    s.epoch(
        "takes back an earlier place of this epoch, never a later one nor a stranger's",
        ("alice", [sell(105, 1), Cancel(2, 0), sell(106, 1), Cancel(2, 4), sell(107, 1)]),
        ("carol", [Cancel(0, 0), Cancel(7, 7)]),
    )
    s.epoch("everything before it, nothing after", ("alice", [CancelAll(), sell(110, 1)]))
    s.epoch("an amend is cancel and place", ("alice", [Amend(3, 1, sell(109, 4))]))
    s.epoch("an amend of what is gone places all the same", ("alice", [Amend(3, 1, sell(111, 1))]))


def times_in_force(s: Story) -> None:
    start = START_MS
    s.epoch("carol offers 3", ("carol", [sell(100, 3)]))
    s.epoch("IOC fills 3 of 5, the rest is cancelled", ("bob", [buy(100, 5, time_in_force=3)]))
    s.epoch("carol offers 3 again", ("carol", [sell(100, 3)]))
    s.epoch("FOK of 4 does nothing", ("bob", [buy(100, 4, time_in_force=4)]))
    s.epoch("FOK of 3 fills", ("bob", [buy(100, 3, time_in_force=4)]))
    s.epoch(
        "GTT until 9 s after the start; GTE through epoch 7",
        ("alice", [buy(90, 1, time_in_force=1, expiry=start + 9000)]),
        ("bob", [buy(91, 1, time_in_force=2, expiry=7)]),
    )
    s.epoch("epoch 7: both live")
    s.epoch("epoch 8: the GTE order is gone")
    s.epoch("epoch time reaches 9 s: the GTT order is gone", time_ms=start + 9000)
    s.epoch(
        "dead on arrival: GTT at this very time, GTE of an epoch before",
        ("alice", [buy(90, 1, time_in_force=1, expiry=start + 10_000)]),
        ("bob", [buy(91, 1, time_in_force=2, expiry=9)]),
    )
    s.epoch("GTC, which lives for at most the network's 60 s", ("alice", [buy(80, 1)]))
    s.epoch("a moment before", time_ms=start + 70_999)
    s.epoch("60 s later it is gone", time_ms=start + 71_000)


def order_terms(s: Story) -> None:
    s.epoch("alice offers 2 at 100 and 3 at 105", ("alice", [sell(100, 2), sell(105, 3)]))
    s.epoch("post-only that would cross is cancelled", ("bob", [buy(100, 1, post_only=1)]))
    s.epoch("post-only below rests", ("bob", [buy(99, 1, post_only=1)]))
    s.epoch("at least 3, and only 2 are there: cancelled", ("bob", [buy(100, 4, min_quantity=3)]))
    s.epoch(
        "at least 2: takes 2, the rest rests",
        ("carol", [buy(100, 3, min_quantity=2)]),
    )
    s.epoch(
        "within 1 tick of the best, 105: not at 107; what is left does not rest",
        ("carol", [sell(107, 1)]),
        ("bob", [buy(200, 9, max_slippage=1)]),
    )


def self_trades(s: Story) -> None:
    s.epoch("alice offers 2 and 3 at 100", ("alice", [sell(100, 2), sell(100, 3)]))
    s.epoch("carol offers 1 behind her", ("carol", [sell(100, 1)]))
    s.epoch("newest gives way: alice's buy is cancelled", ("alice", [buy(100, 4)]))
    s.epoch("both shrink: 2 and 1 of 3", ("alice", [buy(100, 3, self_trade=2)]))
    s.epoch("oldest gives way, then carol's trades", ("alice", [buy(100, 4, self_trade=1)]))


def reputations(s: Story) -> None:
    s.epoch(
        "carol (0) offers at 100, bob (500) at 101",
        ("carol", [sell(100, 1)]),
        ("bob", [sell(101, 1, min_reputation=800)]),
    )
    s.epoch(
        "alice (1000) wants 400: passes carol, takes bob's",
        ("alice", [buy(101, 1, min_reputation=400)]),
    )
    s.epoch(
        "carol's buy takes back her own offer and passes bob's, who wants 800",
        ("carol", [buy(101, 1, self_trade=1)]),
        ("bob", [sell(101, 1, min_reputation=800)]),
    )


def limits(s: Story) -> None:
    s.epoch(
        "eight tokens: the ninth and tenth place are refused; four orders may be live",
        ("alice", [buy(price, 1) for price in range(10, 20)]),
    )
    s.epoch(
        "two rounds on: four tokens; a cancel costs none",
        ("alice", [CancelAll(), *[buy(price, 1) for price in range(30, 36)]]),
    )


def deadline(s: Story) -> None:
    s.epoch("alice offers 5", ("alice", [sell(100, 5)]))
    made = s.epoch("bob takes 3", ("bob", [buy(100, 3)]))
    s.epoch(
        "two of four witnesses have applied it: no deadline yet",
        reports=[("witness 0", 2), ("witness 1", 2)],
    )
    s.epoch(
        "a third: accepts count through epoch 6",
        ("alice", s.accepts("alice", *made.matches)),
        reports=[("witness 2", 3)],
    )
    s.epoch("epoch 5")
    s.epoch("epoch 6, the last")
    s.epoch(
        "bob is late: the match lapses, alice's 3 return at their old priority",
        ("bob", s.accepts("bob", *made.matches)),
    )
    s.epoch("bob's limits are halved: two orders live", ("bob", [buy(p, 1) for p in (1, 2, 3)]))
    s.epoch("alice's 5 lots still come first at 100", ("carol", [buy(100, 1)]))


def returned_quantity(s: Story) -> None:
    s.epoch("alice offers 4", ("alice", [sell(100, 4)]))
    first = s.epoch("bob takes all 4", ("bob", [buy(100, 4)])).matches
    s.epoch("carol bids 3: nothing is left to take", ("carol", [buy(100, 3)]), reports=s.quorum(2))
    s.epoch("alice accepts", ("alice", s.accepts("alice", *first)))
    s.epoch("waiting")
    s.epoch("bob stayed silent: alice's 4 enter again as a taker and meet carol's 3")


def bad_accepts(s: Story) -> None:
    s.epoch("alice bids", ("alice", [buy(100, 1)]))
    made = s.epoch("bob sells", ("bob", [sell(100, 1)]))
    s.epoch("carol is no party", ("carol", s.accepts("carol", *made.matches)))
    for again in ("", " again"):
        s.epoch(f"alice accepts{again}", ("alice", s.accepts("alice", *made.matches)))
    s.epoch("of an unknown match", ("bob", [accept_of("bob", ZERO32)]))
    known = made.matches[0].id
    s.epoch("of both", ("bob", [accept_of("bob", *sorted((known, ZERO32)))]))


def freezing(s: Story) -> None:
    s.epoch("bob offers 2 and bids 1", ("bob", [sell(100, 2), buy(50, 1)]))
    s.epoch("carol takes 1", ("carol", [buy(100, 1)]))
    s.epoch(
        "alice proves bob's fork: he is frozen, his orders end, the match lapses as his default; "
        "his entry of this epoch counts no more",
        ("alice", [fork_of("bob")]),
        ("bob", [sell(90, 1)]),
    )
    s.epoch("evidence of equivocation freezes nobody", ("alice", [equivocation_of("witness 1")]))
    s.epoch("evidence that shows nothing does nothing", ("alice", [Evidence(0, b"", b"\x80")]))
    s.epoch("the clock itself commits carol's fork", forked=["carol"])


def delegations(s: Story) -> None:
    end = START_MS + 7000

    def bind(cap: int, signer: str = "session") -> Delegate:
        made = consent("alice", "session", cap, end)
        if signer != "session":
            made = secp256k1.sign(key(signer), ZERO32)
        return Delegate(address("session"), cap, end, made)

    s.epoch("without the session key's consent nothing is bound", ("alice", [bind(5, "bob")]))
    s.epoch("alice binds a session key, 5 lots at most, from epoch 3 on", ("alice", [bind(5)]))
    s.epoch("it trades for her: 3 fit, then 3 more do not", ("session", [sell(100, 3)]))
    s.epoch("cap", ("session", [sell(100, 3)]))
    s.epoch("alice does not trade with herself", ("alice", [buy(100, 1)]))
    s.epoch("bob takes 1 of it", ("bob", [buy(100, 1)]))
    s.epoch("past its expiry: ended, and places are refused", ("session", [sell(100, 1)]))
    s.epoch(
        "a second session",
        ("alice", [Delegate(address("session 2"), 9, TOP, consent("alice", "session 2", 9, TOP))]),
    )
    s.epoch("it trades", ("session 2", [sell(120, 1)]))
    s.epoch("revoked: from the next epoch", ("alice", [Delegate(address("session 2"), 0, 0, b"")]))
    s.epoch("its order is gone, its places are refused", ("session 2", [sell(120, 1)]))
    s.epoch(
        "bob cannot take another's session key",
        ("bob", [Delegate(address("session 2"), 9, TOP, consent("bob", "session 2", 9, TOP))]),
    )


def announcing(s: Story) -> None:
    s.epoch("alice announces", ("alice", [Announce(("eip155:1:0x01",))]))
    s.epoch("and again: the last counts", ("alice", [Announce(("a:b:c",)), Announce(("d:e:f",))]))
    s.epoch("an epoch without entries")


def groups(s: Story) -> None:
    filler = [Announce(())] * 14
    s.epoch(
        "orders at positions 0, 15, 16 and 17: two leaves of the orders map",
        ("bob", [buy(1, 1), *filler, buy(2, 1), buy(3, 1), buy(4, 1)]),
    )
    s.epoch("the second leaf goes", ("bob", [Cancel(0, 16), Cancel(0, 17)]))
    s.epoch("all gone: the empty map", ("bob", [CancelAll()]))


def shares(s: Story) -> None:
    s.epoch(
        "alice has two thirds of all reputation, bob a third: six orders and three may be live",
        ("alice", [buy(price, 1) for price in range(1, 8)]),
        ("bob", [buy(price, 1) for price in range(1, 5)]),
    )
    s.epoch("alice may have 1000 at stake", ("alice", [CancelAll(), buy(100, 9)]))
    s.epoch("200 more are too much", ("alice", [sell(200, 1)]))
    s.epoch("bob may have 500: to sell 6 at 1 would bring 600", ("bob", [CancelAll(), sell(1, 6)]))
    made = s.epoch("to sell 5 is all that he may", ("bob", [sell(1, 5, time_in_force=3)])).matches
    s.epoch(
        "a trade stays at stake",
        ("alice", s.accepts("alice", *made)),
        ("bob", s.accepts("bob", *made)),
    )
    s.epoch("so bob can do no more", ("bob", [buy(1, 1)]))
    even = [("alice", 500, 500), ("bob", 500, 1000)]
    s.epoch(
        "alice's bond is half of what it was: 400 open and 500 bound do not fit",
        ("bob", [buy(1, 1)]),
        standings=even,
    )
    s.epoch(
        "this roster's block is stamped after the trade can have changed: it is let go",
        ("alice", [buy(100, 5)]),
        standings=even,
    )


def the_lane(s: Story) -> None:
    s.epoch("carol has no reputation: two tokens for three places", ("carol", [
        buy(10, 1), buy(11, 1), buy(12, 1)]))  # fmt: skip
    s.epoch("two rounds on, the oldest gives way", ("carol", [buy(13, 1)]))
    s.epoch("not worth more than 100", ("carol", [buy(51, 2)]))
    s.epoch(
        "bob comes into the lane, and his first place comes before her second",
        ("bob", [buy(20, 1), buy(21, 1)]),
        ("carol", [buy(14, 1), buy(15, 1)]),
        standings=[("alice", 1000, 1000), ("bob", 0, 500), ("carol", 0, 0)],
    )
    s.epoch("alice takes the best", ("alice", [sell(10, 1)]))
    s.epoch("seen", reports=s.quorum(5))
    s.epoch("waiting")
    s.epoch("waiting")
    s.epoch("nobody accepted: alice and bob are halved")
    s.epoch("of the lane, that means no tokens", ("bob", [buy(1, 1)]), ("carol", [buy(1, 1)]))


def evicted(s: Story) -> None:
    s.epoch("alice offers 10 at 100", ("alice", [sell(100, 10)]))
    made = s.epoch("bob takes 5", ("bob", [buy(100, 5)]))
    s.epoch(
        "alice accepts",
        ("alice", s.accepts("alice", *made.matches)),
        reports=s.quorum(2),
    )
    s.epoch(
        "her bond shrinks: what rests goes, what is reserved stays",
        standings=[("alice", 1000, 300), ("bob", 500, 500)],
    )
    s.epoch("waiting")
    s.epoch("bob was silent")
    s.epoch("whoever is in no list is heard no more: bob's order goes", ("bob", [buy(1, 1)]))
    s.epoch("it goes", standings=[("alice", 1000, 300)])
    s.epoch("alice offers 3 at 100", ("alice", [sell(100, 3)]))
    s.epoch("she loses her bond: an order above 100 does not fit the lane",
            standings=[("alice", 0, 0)])  # fmt: skip


STORIES_OF_SHARES: tuple[Script, ...] = (shares, the_lane, evicted)
STORIES: tuple[Script, ...] = (
    *(a_trade, both_accept_at_once, priority, sorting, cancels, times_in_force, order_terms),
    *(self_trades, reputations, limits, deadline, returned_quantity, bad_accepts, freezing),
    *(delegations, announcing, groups),
)


def book_vectors() -> Json:
    told = []
    for script in STORIES:
        story = Story(script.__name__)
        script(story)
        told.append(story.told())
    for script in STORIES_OF_SHARES:
        story = Story(script.__name__, ELECTED)
        script(story)
        told.append(story.told())
    return document(
        "Epochs and what they do to a market. Facts in, outcome and state root out; `leaves` is "
        "the whole state after the last epoch.",
        networks={
            network.name: {
                "genesis": hexed(network.encode()),
                "separator": hexed(network.separator),
                "market": hexed(network.markets[0].id),
            }
            for network in (GENESIS, ELECTED)
        },
        valid=told,
    )


def schedule_vectors() -> Json:
    def case(timing: str, bound_ms: TimeMs) -> Json:
        base, quote = chain_classes(timing)
        base_long = is_base_long(base, quote)
        long, short = (base, quote) if base_long else (quote, base)
        return {
            "name": f"{timing} {bound_ms}",
            "timing": timing,
            "bound_ms": bound_ms,
            "is_base_long": base_long,
            "schedule": jsonable(schedule(bound_ms, long, short)),
        }

    timings = ("btc-evm", "evm-btc", "evm-evm", "dev-dev", "btc-dev")
    return document(
        "The times of a swap, from the classes of its chains and when its trade bound.",
        valid=[
            case(timing, TimeMs(ms))
            for timing in timings
            for ms in (1_700_000_000_000, 1_700_000_000_001)
        ],
    )


def swap_vectors() -> Json:
    """From a bound trade and both sides' terms to the two locks."""
    bitcoin = "bip122:000000000019d6689c085ae165831e93"
    market = Market(
        f"{bitcoin}/slip44:0", "eip155:1/erc20:0x" + "11" * 20, 1, 1, "htlc", "btc-evm", 1, 1, 1
    )
    seller_key, buyer_key = (key(name).public_key.format() for name in ("alice", "bob"))
    alice, bob = address("alice"), address("bob")
    trade = Trade(
        market.id,
        sha256(b"fill").digest(),
        bob,
        alice,
        Amount(50_000),
        Amount(10**18),
        Epoch(3),
        TimeMs(9),
    )
    secret = secret_of(sha256(b"root").digest(), trade.id)
    seller = SwapTerms(seller_key, alice, sha256(secret).digest())
    buyer = SwapTerms(bob, buyer_key, b"")
    bound_ms = TimeMs(1_700_000_000_000)
    swap = agree(market, Deal(trade, bob, bound_ms, Side.SELL), seller, buyer.encode())
    mirrored = agree(market, Deal(trade, bob, bound_ms, Side.BUY), buyer, seller.encode())
    assert (swap.own, swap.other) == (mirrored.other, mirrored.own)

    def wrong(name: str, error: str, reason: str, data: bytes) -> Json:
        return invalid(name, data, error, reason)

    return document(
        "Two sides' terms, in their accepts, and the locks that both compute from them.",
        market=jsonable(market),
        trade=jsonable(trade),
        bound_ms=bound_ms,
        root=hexed(sha256(b"root").digest()),
        secret=hexed(secret),
        seller=jsonable(seller),
        locks={"base": jsonable(swap.own), "quote": jsonable(swap.other)},
        valid=[
            {"name": "seller", "input": hexed(seller.encode()), "terms": jsonable(seller)},
            {"name": "buyer", "input": hexed(buyer.encode()), "terms": jsonable(buyer)},
        ],
        invalid=[
            wrong("empty", "malformed", "no terms at all", b""),
            wrong("version", "malformed", "of version 2", codec.encode((2, *buyer))),
            wrong("items", "malformed", "an item too few", codec.encode((1, *buyer[:2]))),
            wrong("trailing_byte", "malformed", "a byte after it", buyer.encode() + b"\x00"),
            wrong(
                "second_hash",
                "invalid",
                "the responder gives a hash too",
                buyer._replace(hashlock=sha256(secret).digest()).encode(),
            ),
            wrong(
                "zero_address",
                "invalid",
                "nobody's address",
                buyer._replace(sender=bytes(20)).encode(),
            ),
            wrong(
                "no_point",
                "invalid",
                "33 bytes that are no public key",
                buyer._replace(recipient=b"\x02" + b"\xff" * 32).encode(),
            ),
            wrong(
                "parties_swapped",
                "invalid",
                "an address where Bitcoin has keys",
                SwapTerms(buyer.recipient, buyer.sender, b"").encode(),
            ),
        ],
    )


# --- bonds on Bitcoin ---------------------------------------------------------------------------


def bond_vectors() -> Json:
    """Scripts of bonds, and what their keys sign for accounts."""
    genesis = network()
    keys = {name: key(name).public_key.format() for name in ("alice", "bob")}
    place = OutPoint(sha256(b"funding").digest(), 1)

    def signed(signer: str = "alice", network: bytes = genesis.network_id, **changes: Any) -> Json:
        until_s = parse_month("2027-03")
        terms = {"sats": 25_000_000, "locked_until_s": until_s, "outpoint": place} | changes
        digest = proof_digest(genesis, address("owner"), **terms)
        signature = secp256k1.sign(key(signer), digest)
        sats, until_s = terms["sats"], terms["locked_until_s"]
        proof = BondProof(
            network, address("owner"), keys["alice"], *terms["outpoint"], sats, until_s, signature
        )
        return {"proof": proof, "digest": digest}

    good: BondProof = signed()["proof"]
    other_network = network("other").network_id

    def wrong(name: str, error: str, reason: str, data: bytes | BondProof) -> Json:
        return invalid(name, data if isinstance(data, bytes) else codec.encode(data), error, reason)

    return document(
        "Scripts of bonds on Bitcoin by key and month, and proofs in the vectors' network.",
        scripts=[
            {
                "name": f"{name}_{month}",
                "key": hexed(keys[name]),
                "month": month,
                "locked_until": parse_month(month),
                "script": hexed(bond_script(keys[name], parse_month(month))),
                "output": hexed(bond_output(keys[name], parse_month(month))),
            }
            for name in keys
            for month in ("2026-12", "2028-03", "2038-01", "2038-02")
        ],
        valid=[
            {
                "name": name,
                "input": hexed(made["proof"].encode()),
                "proof": jsonable(made["proof"]),
                "digest": hexed(made["digest"]),
            }
            for name, made in (
                ("plain", signed()),
                ("first_output", signed(outpoint=place._replace(vout=0))),
                ("least", signed(sats=100_000)),
                ("late", signed(locked_until_s=parse_month("2039-12"))),
            )
        ],
        invalid=[
            wrong("empty", "malformed", "no proof at all", b""),
            wrong("items", "malformed", "an item too few", tuple(good[:7])),
            wrong("trailing_byte", "malformed", "a byte after it", good.encode() + b"\0"),
            wrong("key_short", "malformed", "32 bytes of key", good._replace(key=good.key[1:])),
            wrong("key_uncompressed", "malformed", "no such form", good._replace(key=b"\4" * 33)),
            wrong("vout_large", "malformed", "above 2^32-1", good._replace(vout=1 << 32)),
            wrong(
                "sats_large",
                "malformed",
                "more than all coins",
                good._replace(sats=21 * 10**14 + 1),
            ),
            wrong("time_large", "malformed", "above 2^32-1", good._replace(locked_until_s=1 << 32)),
            wrong("network", "foreign", "another network's", good._replace(network=other_network)),
            wrong("too_little", "invalid", "99,999 sat", signed(sats=99_999)["proof"]),
            wrong(
                "no_month",
                "invalid",
                "a second too late",
                signed(locked_until_s=good.locked_until_s + 1)["proof"],
            ),
            wrong("height", "invalid", "a lock time of 0", signed(locked_until_s=0)["proof"]),
            wrong("signer", "signature", "another key's", signed("bob")["proof"]),
            wrong(
                "no_point",
                "signature",
                "33 bytes that are no public key",
                good._replace(key=b"\2" + b"\xff" * 32),
            ),
            wrong("account", "signature", "for bob", good._replace(account=address("bob"))),
            wrong("sats", "signature", "more than was signed", good._replace(sats=25_000_001)),
        ],
    )


# --- files --------------------------------------------------------------------------------------

FILES: dict[str, Callable[[], Json]] = {
    "codec.json": codec_vectors,
    "signatures.json": signature_vectors,
    "eip712.json": eip712_vectors,
    "genesis.json": genesis_vectors,
    "entry.json": entry_vectors,
    "tick.json": tick_vectors,
    "voucher.json": voucher_vectors,
    "checkpoint.json": checkpoint_vectors,
    "handover.json": handover_vectors,
    "order_proof.json": order_proof_vectors,
    "frame.json": frame_vectors,
    "evidence.json": evidence_vectors,
    "sync.json": sync_vectors,
    "hello.json": hello_vectors,
    "merkle_list.json": merkle_list_vectors,
    "merkle_map.json": merkle_map_vectors,
    "leader.json": leader_vectors,
    "seed.json": seed_vectors,
    "schedule.json": schedule_vectors,
    "swap.json": swap_vectors,
    "bitcoin_bond.json": bond_vectors,
    "book.json": book_vectors,
}


def text_of(name: str) -> str:
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_text(text_of(name), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
