"""The package against protocol/vectors, and the vectors against independent arithmetic."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from hashlib import sha256, shake_256
from pathlib import Path
from typing import Any

import cbor2
import make_vectors
import pytest
import sha3
from coincurve import PrivateKey

from orrange_p2p.core import (
    checkpoints,
    codec,
    entries,
    errors,
    evidence,
    frames,
    hello,
    merkle,
    proofs,
    sync,
    ticks,
    vouchers,
)
from orrange_p2p.core.accounts import LiveOrder
from orrange_p2p.core.bitcoin_bonds import bond_output, bond_script, parse_month
from orrange_p2p.core.bond_proofs import BondProof, decode_bond_proof, proof_digest
from orrange_p2p.core.book import REASON_NAMES
from orrange_p2p.core.errors import SignatureError
from orrange_p2p.core.fold import EpochFacts, Fold, Refusal
from orrange_p2p.core.genesis import Author, Genesis, Market, Parameters, Witness
from orrange_p2p.core.handovers import decode_handover
from orrange_p2p.core.ids import MarketId, OrderId
from orrange_p2p.core.matches import Trade
from orrange_p2p.core.merkle import MapProof, SparseMerkleMap, Step
from orrange_p2p.core.operations import Evidence, Side
from orrange_p2p.core.reveals import RevealVerifier
from orrange_p2p.core.roster import Roster, decode_roster
from orrange_p2p.core.swaps.agreement import Deal, SwapTerms, agree, secret_of
from orrange_p2p.core.swaps.schedule import chain_classes, is_base_long, schedule
from orrange_p2p.core.witnesses import WitnessTable
from orrange_p2p.crypto import eip712, secp256k1

Json = dict[str, Any]
FOLDER = Path(__file__).resolve().parents[2] / "protocol" / "vectors"
LOADED: dict[str, Json] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")
}
ERRORS = {
    "malformed": errors.MalformedError,
    "oversized": errors.OversizedError,
    "foreign": errors.ForeignError,
    "invalid": errors.InvalidError,
    "signature": errors.SignatureError,
}


def cases(file: str, part: str = "valid") -> list[Any]:
    """The cases of one part of a file, as parameters named after them."""
    listed = LOADED[file][part]
    assert listed
    return [pytest.param(case, id=case["name"]) for case in listed]


def octets(shown: Any) -> bytes:
    """The bytes of ``0x...``, or of ``{"prefix", "repeat", "times", "suffix"}``."""
    if isinstance(shown, str):
        assert shown.startswith("0x")
        return bytes.fromhex(shown[2:])
    repeated: bytes = octets(shown["repeat"]) * shown["times"]
    return octets(shown.get("prefix", "0x")) + repeated + octets(shown.get("suffix", "0x"))


def must_fail(case: Json, action: Callable[[], object]) -> None:
    expected = ERRORS[case["error"]]
    with pytest.raises(errors.PeerError) as caught:
        action()
    assert caught.type is expected, f"{case['reason']}: {caught.value}"


def pair(file: str) -> tuple[bytes, bytes]:
    context = LOADED[file]["context"]
    return octets(context["separator"]), octets(context["market"])


def test_the_committed_files_are_what_the_source_makes() -> None:
    assert sorted(LOADED) == sorted(name.removesuffix(".json") for name in make_vectors.FILES)
    for name in make_vectors.FILES:
        assert make_vectors.text_of(name) == (FOLDER / name).read_text(encoding="utf-8"), (
            f"{name} differs: run python tests/protocol/make_vectors.py, and look at the change"
        )


def test_the_readme_names_every_file() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+\.json)`", readme)) == {f"{name}.json" for name in LOADED}


def test_every_invalid_case_says_why() -> None:
    for name, loaded in LOADED.items():
        for part, listed in loaded.items():
            if part.startswith(("invalid", "not_an")):
                for case in listed:
                    assert case["reason"] and case["error"] in ERRORS, (name, case["name"])
                assert len({case["name"] for case in listed}) == len(listed), name


# --- codec, signatures, EIP-712, genesis ------------------------------------------------------


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(plain(item) for item in value)
    return octets(value["bytes"]) if isinstance(value, dict) else value


@pytest.mark.parametrize("case", cases("codec"))
def test_codec(case: Json) -> None:
    data, value = octets(case["input"]), plain(case["value"])
    assert codec.decode_canonical(data, 100) == value
    assert codec.encode(value) == data
    assert cbor2.dumps(value, canonical=True) == data


@pytest.mark.parametrize("case", cases("codec", "invalid"))
def test_codec_refuses(case: Json) -> None:
    must_fail(case, lambda: codec.decode_canonical(octets(case["input"]), 100))


@pytest.mark.parametrize("case", cases("codec", "not_an_integer"))
def test_codec_refuses_as_integer(case: Json) -> None:
    must_fail(case, lambda: codec.uint(codec.decode(octets(case["input"]), 100), "number"))


@pytest.mark.parametrize("case", cases("signatures"))
def test_signatures(case: Json) -> None:
    secret, digest = octets(case["secret"]), octets(case["digest"])
    signature = secp256k1.sign(PrivateKey(secret), digest)
    assert signature == octets(case["signature"])
    assert secp256k1.recover(digest, signature) == octets(case["address"])


@pytest.mark.parametrize("case", cases("signatures", "invalid"))
def test_signatures_refuse(case: Json) -> None:
    loaded = LOADED["signatures"]
    address, digest = octets(loaded["address"]), octets(loaded["digest"])
    assert not secp256k1.is_signed_by(address, digest, octets(case["input"]))


def keccak(data: bytes) -> bytes:
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def abi_words(kinds: list[str], values: list[Any]) -> bytes:
    """ABI encoding of static values, written down once more."""
    words = []
    for kind, value in zip(kinds, values, strict=True):
        if kind.startswith("uint"):
            assert 0 <= value < 1 << int(kind[4:])
            words.append(value.to_bytes(32, "big"))
        else:
            size = {"address": 20, "bytes32": 32}[kind]
            assert len(octets(value)) == size
            words.append(bytes(32 - size) + octets(value))
    return b"".join(words)


def separator_of(domain: Json) -> bytes:
    kind = (
        "EIP712Domain(string name,string version,uint256 chainId,"
        "address verifyingContract,bytes32 salt)"
    )
    hashed = [keccak(domain[name].encode()) for name in ("name", "version")]
    rest = abi_words(
        ["uint256", "address", "bytes32"],
        [domain["chain_id"], domain["verifying_contract"], domain["salt"]],
    )
    return keccak(keccak(kind.encode()) + b"".join(hashed) + rest)


def test_the_domain_separator() -> None:
    domain = LOADED["eip712"]["domain"]
    assert octets(domain["separator"]) == separator_of(domain)
    assert octets(domain["separator"]) == eip712.domain_separator(
        domain["name"],
        domain["version"],
        domain["chain_id"],
        octets(domain["verifying_contract"]),
        octets(domain["salt"]),
    )


@pytest.mark.parametrize("case", cases("eip712"))
def test_eip712(case: Json) -> None:
    separator = octets(LOADED["eip712"]["domain"]["separator"])
    kinds = [field.split()[0] for field in case["type"].split("(")[1][:-1].split(",")]
    struct = keccak(keccak(case["type"].encode()) + abi_words(kinds, case["values"]))
    assert octets(case["digest"]) == keccak(b"\x19\x01" + separator + struct)
    values = [octets(v) if isinstance(v, str) else v for v in case["values"]]
    assert eip712.StructType(case["type"]).digest(separator, values) == octets(case["digest"])


def genesis_of(shown: Json) -> Genesis:
    def record(cls: Any, table: Json) -> Any:
        return cls(**{name: value_of(value) for name, value in table.items()})

    def value_of(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(octets(item) for item in value)
        return octets(value) if isinstance(value, str) and value.startswith("0x") else value

    lists = {"witnesses": Witness, "authors": Author, "markets": Market}
    parts = {n: tuple(record(c, row) for row in shown[n]) for n, c in lists.items()}
    scalars = {n: value_of(v) for n, v in shown.items() if n not in lists and n != "parameters"}
    return Genesis(**scalars, **parts, parameters=Parameters(**shown["parameters"]))


@pytest.mark.parametrize("case", cases("genesis"))
def test_genesis(case: Json) -> None:
    genesis = genesis_of(case["genesis"])
    assert genesis.encode() == octets(case["encoded"])
    assert genesis.network_id == sha256(octets(case["encoded"])).digest()
    assert genesis.network_id == octets(case["network_id"])
    assert [m.id for m in genesis.markets] == [octets(m) for m in case["market_ids"]]
    record = cbor2.loads(octets(case["encoded"]))
    assert [sha256(cbor2.dumps(m)).digest() for m in record[8]] == [m.id for m in genesis.markets]
    domain = {
        "name": "Orrange",
        "version": "1",
        "chain_id": 31337,
        "verifying_contract": case["genesis"]["registry"],
        "salt": case["network_id"],
    }
    assert genesis.separator == octets(case["separator"]) == separator_of(domain)


# --- records ------------------------------------------------------------------------------------


def decoded_entry(data: bytes) -> entries.Entry:
    entry = entries.decode_entry(data, *pair("entry"))
    entry.verify()
    return entry


def group_root(encoded: bytes) -> bytes:
    """The operations root, from the encoding alone: the operations cut out and hashed naively."""
    record = cbor2.loads(encoded)
    operations = [cbor2.dumps(operation) for operation in record[4]]
    leaves = [b"".join(operations[at : at + 16]) for at in range(0, len(operations), 16)]
    return naive_root(leaves)


@pytest.mark.parametrize("case", cases("entry"))
def test_entry(case: Json) -> None:
    entry = decoded_entry(octets(case["input"]))
    assert make_vectors.jsonable(entry.header) == case["header"]
    assert entry.digest == octets(case["digest"])
    shown = [make_vectors.operation_json(operation) for operation in entry.operations[:32]]
    assert shown == case["operations"]
    assert len(entry.operations) == case["operation_count"]
    assert entry.header.ops_root == group_root(entry.encoded)
    draft = entries.draft(pair("entry")[0], *entry.header[:4], entry.operations)
    signature = secp256k1.sign(PrivateKey(octets(case["author_secret"])), draft.digest)
    assert draft.signed(signature) == entry


@pytest.mark.parametrize("case", cases("entry", "invalid"))
def test_entry_refuses(case: Json) -> None:
    must_fail(case, lambda: decoded_entry(octets(case["input"])))


def decoded_tick(data: bytes) -> ticks.Tick:
    tick = ticks.decode_tick(data, *pair("tick"))
    tick.verify()
    return tick


@pytest.mark.parametrize("case", cases("tick"))
def test_tick(case: Json) -> None:
    tick = decoded_tick(octets(case["input"]))
    assert make_vectors.jsonable(tick.header) == case["header"]
    assert make_vectors.jsonable(tick.body) == case["body"]
    assert tick.digest == octets(case["digest"])
    record = cbor2.loads(tick.encoded)
    assert cbor2.dumps(record[4:9]) == octets(case["body_encoded"])
    assert tick.header.body_hash == merkle.list_root(list(map(cbor2.dumps, record[4:9])))
    draft = ticks.draft(pair("tick")[0], *tick.header[:4], tick.body)
    signature = secp256k1.sign(PrivateKey(octets(case["witness_secret"])), draft.digest)
    assert draft.signed(signature) == tick


@pytest.mark.parametrize("case", cases("tick", "invalid"))
def test_tick_refuses(case: Json) -> None:
    must_fail(case, lambda: decoded_tick(octets(case["input"])))


def decoded_voucher(data: bytes) -> vouchers.Voucher:
    (voucher,) = vouchers.from_items((codec.decode_canonical(data, 1024),))
    separator, market = pair("voucher")
    digest = voucher.digest(separator, market)
    if not secp256k1.is_signed_by(voucher.witness, digest, voucher.signature):
        raise SignatureError("not signed by the witness")
    return voucher


@pytest.mark.parametrize("case", cases("voucher"))
def test_voucher(case: Json) -> None:
    voucher = decoded_voucher(octets(case["input"]))
    assert make_vectors.jsonable(voucher) == case["voucher"]
    assert voucher.digest(*pair("voucher")) == octets(case["digest"])
    tick = ticks.decode_tick(octets(case["tick"]), *pair("voucher"))
    assert voucher == vouchers.voucher_of(tick)
    assert codec.encode(voucher) == octets(case["input"])


@pytest.mark.parametrize("case", cases("voucher", "invalid"))
def test_voucher_refuses(case: Json) -> None:
    must_fail(case, lambda: decoded_voucher(octets(case["input"])))


def verified_checkpoint(data: bytes) -> checkpoints.Checkpoint:
    checkpoint = checkpoints.decode_checkpoint(data)
    checkpoint.verify(make_vectors.GENESIS, pair("checkpoint")[1])
    return checkpoint


@pytest.mark.parametrize("case", cases("checkpoint"))
def test_checkpoint(case: Json) -> None:
    checkpoint = verified_checkpoint(octets(case["input"]))
    assert checkpoint.encode() == octets(case["input"])
    assert make_vectors.jsonable(checkpoint) == case["checkpoint"]
    assert checkpoint.header.root == octets(case["root"])
    blobs = {octets(name): octets(part) for name, part in case["parts"].items()}
    assert set(blobs) == set(checkpoint.part_names)
    for name, part in blobs.items():
        checkpoint.check_part(name, part)
    assert bool(checkpoint.leaves(blobs).orders) == (case["name"] != "empty")


@pytest.mark.parametrize("case", cases("checkpoint", "invalid"))
def test_checkpoint_refuses(case: Json) -> None:
    must_fail(case, lambda: verified_checkpoint(octets(case["input"])))


def followed(case: Json, known: bytes) -> Roster:
    handover = decode_handover(octets(case["input"]))
    assert handover.encode() == octets(case["input"])
    market = MarketId(pair("handover")[1])
    return handover.follow(make_vectors.ELECTED, market, decode_roster(known))


@pytest.mark.parametrize("case", cases("handover"))
def test_handover(case: Json) -> None:
    found = followed(case, octets(case["known"]))
    assert found.encode() == octets(case["following"])
    assert found.digest == octets(case["digest"])


@pytest.mark.parametrize("case", cases("handover", "invalid"))
def test_handover_refuses(case: Json) -> None:
    known = octets(LOADED["handover"]["valid"][0]["known"])
    must_fail(case, lambda: followed(case, known))


def shown_order(case: Json) -> LiveOrder | None:
    proof = proofs.decode_proof(octets(case["input"]))
    name = OrderId.parse(case["order"])
    return proofs.verify_order(make_vectors.GENESIS, pair("order_proof")[1], name, proof)


@pytest.mark.parametrize("case", cases("order_proof"))
def test_order_proof(case: Json) -> None:
    assert proofs.decode_proof(octets(case["input"])).encode() == octets(case["input"])
    assert (shown_order(case) is not None) == case["live"]


@pytest.mark.parametrize("case", cases("order_proof", "invalid"))
def test_order_proof_refuses(case: Json) -> None:
    must_fail(case, lambda: shown_order(case))


@pytest.mark.parametrize("case", cases("frame"))
def test_frame(case: Json) -> None:
    frame = frames.decode_frame(octets(case["input"]))
    assert [frame.entries, frame.ticks] == [
        tuple(map(octets, case["entries"])),
        tuple(map(octets, case["ticks"])),
    ]
    assert frame.encode() == octets(case["input"])


@pytest.mark.parametrize("case", cases("frame", "invalid"))
def test_frame_refuses(case: Json) -> None:
    must_fail(case, lambda: frames.decode_frame(octets(case["input"])))


def convicted(shown: Json) -> bytes:
    piece = Evidence(shown["kind"], octets(shown["first"]), octets(shown["second"]))
    return evidence.culprit(piece, *pair("evidence"))


@pytest.mark.parametrize("case", cases("evidence"))
def test_evidence(case: Json) -> None:
    assert convicted(case["input"]) == octets(case["culprit"])


@pytest.mark.parametrize("case", cases("evidence", "invalid"))
def test_evidence_refuses(case: Json) -> None:
    must_fail(case, lambda: convicted(case["input"]))


@pytest.mark.parametrize("case", cases("sync", "valid_requests"))
def test_sync_requests(case: Json) -> None:
    request = sync.decode_request(octets(case["input"]))
    assert type(request).__name__ == case["type"]
    assert make_vectors.jsonable(request) == case["request"]
    assert sync.encode_request(request) == octets(case["input"])


@pytest.mark.parametrize("case", cases("sync", "invalid_requests"))
def test_sync_refuses_requests(case: Json) -> None:
    must_fail(case, lambda: sync.decode_request(octets(case["input"])))


@pytest.mark.parametrize("case", cases("sync", "valid_replies"))
def test_sync_replies(case: Json) -> None:
    reply = sync.decode_reply(octets(case["input"]))
    assert (reply.frame.encode(), reply.more) == (octets(case["frame"]), case["more"])
    assert reply.encode() == octets(case["input"])


@pytest.mark.parametrize("case", cases("sync", "invalid_replies"))
def test_sync_refuses_replies(case: Json) -> None:
    must_fail(case, lambda: sync.decode_reply(octets(case["input"])))


@pytest.mark.parametrize("case", cases("sync", "valid_checkpoint_pages"))
def test_sync_checkpoint_pages(case: Json) -> None:
    page = sync.decode_checkpoint_page(octets(case["input"]))
    assert page == (case["epoch"], case["size"], octets(case["page"]))
    assert page.encode() == octets(case["input"])


@pytest.mark.parametrize("case", cases("sync", "invalid_checkpoint_pages"))
def test_sync_refuses_checkpoint_pages(case: Json) -> None:
    must_fail(case, lambda: sync.decode_checkpoint_page(octets(case["input"])))


@pytest.mark.parametrize("case", cases("sync", "valid_parts"))
def test_sync_parts(case: Json) -> None:
    reply = sync.decode_parts(octets(case["input"]))
    assert reply.parts == tuple((octets(name), octets(part)) for name, part in case["parts"])
    assert reply.encode() == octets(case["input"])


@pytest.mark.parametrize("case", cases("sync", "invalid_parts"))
def test_sync_refuses_parts(case: Json) -> None:
    must_fail(case, lambda: sync.decode_parts(octets(case["input"])))


@pytest.mark.parametrize("case", cases("hello"))
def test_hello(case: Json) -> None:
    said = hello.decode_hello(octets(case["input"]))
    assert make_vectors.jsonable(said) == case["hello"]
    if case["name"] != "items_of_a_later_version":
        assert said.encode() == octets(case["input"])


@pytest.mark.parametrize("case", cases("hello", "invalid"))
def test_hello_refuses(case: Json) -> None:
    must_fail(case, lambda: hello.decode_hello(octets(case["input"])))


# --- trees --------------------------------------------------------------------------------------


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


@pytest.mark.parametrize("case", cases("merkle_list"))
def test_merkle_list(case: Json) -> None:
    leaves, root = list(map(octets, case["leaves"])), octets(case["root"])
    assert merkle.list_root(leaves) == root == naive_root(leaves)
    for index, shown in enumerate(case["paths"]):
        path = list(map(octets, shown))
        assert merkle.list_proof(leaves, index) == path
        merkle.verify_list_proof(root, leaves[index], index, len(leaves), path)


def test_the_published_roots_of_the_certificate_transparency_tree() -> None:
    roots = [case["root"] for case in LOADED["merkle_list"]["valid"]]
    assert roots[0] == "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert roots[1] == "0x6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert roots[5] == "0x4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"
    assert roots[8] == "0x5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("case", cases("merkle_list", "invalid"))
def test_merkle_list_refuses(case: Json) -> None:
    claim = case["input"]
    must_fail(
        case,
        lambda: merkle.verify_list_proof(
            octets(claim["root"]),
            octets(claim["leaf"]),
            claim["index"],
            claim["count"],
            list(map(octets, claim["path"])),
        ),
    )


def naive_map_root(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """The root by its definition: split at the first bit in which any two keys differ."""
    if not pairs:
        return bytes(32)
    if len(pairs) == 1:
        return sha256(b"\x00" + pairs[0][0] + pairs[0][1]).digest()
    bit = 0
    sides: list[list[tuple[bytes, bytes]]] = [[], []]
    while not (sides[0] and sides[1]):
        sides = [[p for p in pairs if p[0][bit // 8] >> 7 - bit % 8 & 1 == s] for s in (0, 1)]
        bit += 1
    inner = b"\x01" + (bit - 1).to_bytes(2, "big") + b"".join(map(naive_map_root, sides))
    return sha256(inner).digest()


def map_proof(shown: Json | None) -> MapProof | None:
    if shown is None:
        return None
    steps = tuple(Step(step["bit"], octets(step["sibling"])) for step in shown["steps"])
    return MapProof(octets(shown["leaf_key"]), octets(shown["leaf_value"]), steps)


@pytest.mark.parametrize("case", cases("merkle_map"))
def test_merkle_map(case: Json) -> None:
    tree = SparseMerkleMap(case["key_bytes"])
    for what, key, *value in case["updates"]:
        if what == "set":
            tree.set(octets(key), octets(value[0]))
        else:
            tree.delete(octets(key))
    content = [(octets(key), octets(value)) for key, value in case["content"]]
    root = octets(case["root"])
    assert list(tree.items()) == content
    assert tree.root() == root == naive_map_root(content)
    for asked in case["proofs"]:
        key, proof = octets(asked["key"]), map_proof(asked["proof"])
        assert tree.prove(key) == proof
        value = merkle.verify_map_proof(root, key, proof)
        assert value == (None if asked["value"] is None else octets(asked["value"]))
        assert value == dict(content).get(key)


@pytest.mark.parametrize("case", cases("merkle_map", "invalid"))
def test_merkle_map_refuses(case: Json) -> None:
    claim = case["input"]
    must_fail(
        case,
        lambda: merkle.verify_map_proof(
            octets(claim["root"]), octets(claim["key"]), map_proof(claim["proof"])
        ),
    )


# --- clock --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("leader"))
def test_leaders(case: Json) -> None:
    weights = {octets(address): weight for address, weight in case["weights"].items()}
    table = WitnessTable(weights)  # type: ignore[arg-type]
    seed, total = octets(case["era_seed"]), sum(weights.values())
    assert (table.total, table.quorum) == (case["total"], case["quorum"])
    assert 3 * table.quorum > 2 * total >= 3 * (table.quorum - 1)
    for round, shown in enumerate(case["leaders"]):
        count = 0
        while True:
            drawn = b"orrange/leader/1" + seed + round.to_bytes(8, "big") + count.to_bytes(4, "big")
            point = int.from_bytes(sha256(drawn).digest()[:8], "big")
            if point < (1 << 64) // total * total:
                break
            count += 1
        point %= total
        for address in sorted(weights):
            point -= weights[address]
            if point < 0:
                break
        assert octets(shown) == address == table.leader(seed, round)  # type: ignore[arg-type]


def test_seeds() -> None:
    loaded = LOADED["seed"]
    seed = sha256(octets(loaded["network_id"]) + octets(loaded["market"])).digest()
    assert seed == octets(loaded["seed_of_epoch_0"])
    for step in loaded["seeds"]:
        seed = sha256(seed + octets(step["reveal"])).digest()
        assert seed == octets(step["seed"])


def test_sort_keys() -> None:
    """Against one long stream; the fold itself is held to them by the stories of book.json."""
    for case in LOADED["seed"]["sort_keys"]:
        material = octets(case["seed"]) + octets(case["author"]) + case["seq"].to_bytes(8, "big")
        stream = shake_256(material).digest(8192)
        for position, shown in enumerate(case["keys"]):
            assert stream[8 * position : 8 * position + 8] == octets(shown)


def test_reveals() -> None:
    chain = LOADED["seed"]["chain"]
    for reveals in (chain["reveals"], chain["reveals"][::-1]):
        verifier = RevealVerifier(octets(chain["anchor"]), chain["length"])
        for case in reveals:
            verifier.check(case["position"], octets(case["reveal"]))
    for case in chain["reveals"]:
        link = octets(case["reveal"])
        for _ in range(case["position"] + 1):
            link = sha256(link).digest()
        assert link == octets(chain["anchor"])


@pytest.mark.parametrize("case", cases("seed", "invalid"))
def test_reveals_refuse(case: Json) -> None:
    chain, claim = LOADED["seed"]["chain"], case["input"]
    for seen in ([], chain["reveals"]):
        verifier = RevealVerifier(octets(chain["anchor"]), chain["length"])
        for known in seen:
            verifier.check(known["position"], octets(known["reveal"]))
        must_fail(case, lambda v=verifier: v.check(claim["position"], octets(claim["reveal"])))  # type: ignore[misc]


# --- book ---------------------------------------------------------------------------------------


def facts_of(shown: Json, network: Json) -> EpochFacts:
    signed_for = octets(network["separator"]), octets(network["market"])
    return EpochFacts(
        epoch=shown["epoch"],
        era=shown["era"],
        era_opened_by=octets(shown["era_opened_by"]),  # type: ignore[arg-type]
        era_end_ms=shown["era_end_ms"],
        round=shown["round"],
        leader=octets(shown["leader"]),  # type: ignore[arg-type]
        time_ms=shown["time_ms"],
        reveal=octets(shown["reveal"]),
        entries=tuple(
            entries.decode_entry(octets(data), *signed_for)  # type: ignore[arg-type]
            for data in shown["entries"]
        ),
        forked=tuple(map(octets, shown["forked"])),  # type: ignore[arg-type]
        reports=tuple((octets(witness), epoch) for witness, epoch in shown["reports"]),  # type: ignore[misc]
    )


def network_of(case: Json) -> tuple[Genesis, Json]:
    network = LOADED["book"]["networks"][case["network"]]
    listed = LOADED["genesis"]["valid"]
    (shown,) = [known for known in listed if known["encoded"] == network["genesis"]]
    return genesis_of(shown["genesis"]), network


def leaves_of(fold: Fold) -> dict[str, list[tuple[bytes, bytes]]]:
    """The state as leaves, from what is live; the root is kept up incrementally by the fold."""
    accounts = fold.accounts.values()
    groups = [group for account in accounts for group in account.groups.values()]
    return {
        "orders": sorted((group.key, group.leaf()) for group in groups if group.leaf()),
        "matches": sorted((g.key, g.leaf()) for g in make_vectors.match_groups(fold)),
        "accounts": sorted((account.address, account.leaf()) for account in accounts),
    }


def quorum_reported(genesis: Genesis, reported: dict[bytes, int]) -> int:
    """The latest epoch that more than two thirds of the weight have applied."""
    weights = {witness.address: witness.weight for witness in genesis.witnesses}
    reached = [
        epoch
        for epoch in reported.values()
        if 3 * sum(weights[w] for w, e in reported.items() if e >= epoch)
        > 2 * sum(weights.values())
    ]
    return max(reached, default=0)


@pytest.mark.parametrize("case", cases("book"))
def test_book(case: Json) -> None:
    genesis, network = network_of(case)
    market = octets(network["market"])
    fold = Fold(genesis, market)  # type: ignore[arg-type]
    reported: dict[bytes, int] = {}
    previous = bytes(32)
    seen = 0
    for told in case["epochs"]:
        facts, expected = facts_of(told["facts"], network), told["outcome"]
        if "roster" in told:
            fold.begin_era(decode_roster(octets(told["roster"])))
        outcome = fold.apply(facts)
        shown = {
            "seed": make_vectors.hexed(fold.seed),
            "matches": [make_vectors.match_json(match) for match in outcome.matches],
            "trades": [make_vectors.hexed(match.id) for match in outcome.trades],
            "lapses": [
                {"match": make_vectors.hexed(match.id), "silent": make_vectors.jsonable(silent)}
                for match, silent in outcome.lapses
            ],
            "refusals": [[str(order), why.name] for order, why in outcome.refusals],
            "ended": [make_vectors.order_json(order) for order in outcome.ended],
            "frozen": make_vectors.jsonable(outcome.frozen),
            "placed": outcome.placed,
            "live": [
                make_vectors.order_json(order)
                for order in sorted(fold.live_orders(), key=make_vectors.by_name)
            ],
            "root": make_vectors.hexed(outcome.root),
        }
        assert shown == expected, told["comment"]
        for order in fold.live_orders():
            assert order.open + order.reserved + order.filled + order.cancelled == order.quantity
        for witness, epoch in facts.reports:
            reported[witness] = max(reported.get(witness, 0), epoch)
        seen = max(seen, quorum_reported(genesis, reported))
        maps = [naive_map_root(leaves) for leaves in leaves_of(fold).values()]
        header = [
            *(market, facts.epoch, facts.era, facts.era_opened_by, facts.era_end_ms),
            fold.roster.digest if genesis.parameters.elected_witnesses else bytes(32),
            bytes(32),
            *(facts.round, facts.leader, octets(expected["seed"])),
            *(facts.time_ms, *maps, sorted(map(list, reported.items())), seen, previous),
        ]
        previous = sha256(cbor2.dumps(header)).digest()
        assert outcome.root == previous, told["comment"]
    for part, leaves in leaves_of(fold).items():
        assert [[make_vectors.hexed(k), make_vectors.hexed(v)] for k, v in leaves] == case[
            "leaves"
        ][part]


def test_the_book_shows_every_refusal_and_every_reason() -> None:
    outcomes = [e["outcome"] for case in LOADED["book"]["valid"] for e in case["epochs"]]
    refusals = {why for outcome in outcomes for _, why in outcome["refusals"]}
    assert refusals == {refusal.name for refusal in Refusal}
    reasons = {o["reason"] for outcome in outcomes for o in outcome["ended"] + outcome["live"]}
    assert reasons == set(range(len(REASON_NAMES)))


def _swap_deal(side: Side) -> tuple[Market, Deal]:
    said = LOADED["swap"]
    market = Market(**said["market"])
    values = [octets(v) if isinstance(v, str) else v for v in said["trade"].values()]
    trade = Trade(*values)
    return market, Deal(trade, trade.buyer, said["bound_ms"], side)


def test_the_locks_of_a_swap() -> None:
    said = LOADED["swap"]
    seller, buyer = (octets(case["input"]) for case in said["valid"])
    market, deal = _swap_deal(Side.SELL)
    secret = secret_of(octets(said["root"]), deal.id)
    assert secret == octets(said["secret"])
    swap = agree(market, deal, SwapTerms.decode(seller), buyer)
    assert make_vectors.jsonable(swap.own) == said["locks"]["base"]
    assert make_vectors.jsonable(swap.other) == said["locks"]["quote"]
    mirrored = agree(*_swap_deal(Side.BUY), SwapTerms.decode(buyer), seller)
    assert (mirrored.own, mirrored.other) == (swap.other, swap.own)


@pytest.mark.parametrize("case", cases("swap"))
def test_terms_of_a_swap(case: Json) -> None:
    terms = SwapTerms(*(octets(value) for value in case["terms"].values()))
    assert SwapTerms.decode(octets(case["input"])) == terms
    assert terms.encode() == octets(case["input"])


@pytest.mark.parametrize("case", cases("swap", "invalid"))
def test_terms_that_make_no_swap(case: Json) -> None:
    market, deal = _swap_deal(Side.SELL)
    ours = SwapTerms.decode(octets(LOADED["swap"]["valid"][0]["input"]))
    must_fail(case, lambda: agree(market, deal, ours, octets(case["input"])))


@pytest.mark.parametrize("case", cases("bitcoin_bond", "scripts"))
def test_scripts_of_bonds(case: Json) -> None:
    bond_key, time_s = octets(case["key"]), parse_month(case["month"])
    assert time_s == case["locked_until"]
    script = bond_script(bond_key, time_s)
    size = 4 if time_s < 1 << 31 else 5
    assert script == b"\x21" + bond_key + b"\xad" + bytes([size]) + (
        time_s.to_bytes(size, "little") + b"\xb1"
    )
    assert (script, bond_output(bond_key, time_s)) == (
        octets(case["script"]),
        octets(case["output"]),
    )
    assert octets(case["output"]) == b"\0\x20" + sha256(script).digest()


@pytest.mark.parametrize("case", cases("bitcoin_bond"))
def test_proofs_of_bonds(case: Json) -> None:
    values = [octets(v) if isinstance(v, str) else v for v in case["proof"].values()]
    proof = decode_bond_proof(octets(case["input"]))
    assert proof == BondProof(*values) and proof.encode() == octets(case["input"])
    proof.verify(make_vectors.network())
    assert octets(case["digest"]) == proof_digest(
        make_vectors.network(), proof.account, proof.outpoint, proof.sats, proof.locked_until_s
    )


@pytest.mark.parametrize("case", cases("bitcoin_bond", "invalid"))
def test_proofs_that_no_bond_has(case: Json) -> None:
    must_fail(case, lambda: decode_bond_proof(octets(case["input"])).verify(make_vectors.network()))


@pytest.mark.parametrize("case", cases("schedule"))
def test_schedules(case: Json) -> None:
    base, quote = chain_classes(case["timing"])
    assert is_base_long(base, quote) is case["is_base_long"]
    long, short = (base, quote) if case["is_base_long"] else (quote, base)
    assert schedule(case["bound_ms"], long, short)._asdict() == case["schedule"]
