"""``orrange bench light``: how long a light client takes to verify a whole book.

Timed, from the answer's bytes as a node sends them: JSON, the certificate of sixteen witnesses, the
hash tree over every leaf, and the orders in them. Each order is an entry of its own, the most
leaves that so many orders can make.
"""

from __future__ import annotations

import json
from hashlib import sha256
from time import perf_counter
from typing import Any, Final

import attrs
from coincurve import PrivateKey

from orrange_p2p.bench.ingest import MARKET, START_MID, START_MS
from orrange_p2p.bench.one_market import LogWriter, new_fold, next_epoch, one_market
from orrange_p2p.core import codec, ticks
from orrange_p2p.core.certificates import Certificate, decode_certificate
from orrange_p2p.core.genesis import Genesis, Witness
from orrange_p2p.core.ids import ZERO32, Address, Digest, Era, Lots, Price, Round, TimeMs, Weight
from orrange_p2p.core.light import verify_book
from orrange_p2p.core.operations import Place, Side
from orrange_p2p.core.ticks import Applied, TickBody
from orrange_p2p.core.vouchers import voucher_of
from orrange_p2p.crypto import secp256k1

__all__ = ["answer_of", "main", "measure"]

WITNESSES: Final = 16
ORDERS: Final = 10_000
LIMIT_MS: Final = 1_000
RUNS: Final = 3


def answer_of(orders: int) -> tuple[Genesis, bytes]:
    """A network, and the answer of one of its nodes: so many orders that rest."""
    keys = [
        PrivateKey(sha256(f"orrange bench witness {n}".encode()).digest()) for n in range(WITNESSES)
    ]
    named = {Address(secp256k1.address_of(key.public_key)): key for key in keys}
    genesis = attrs.evolve(
        one_market(MARKET, START_MS),
        witnesses=tuple(Witness(address, Weight(1), (ZERO32,)) for address in sorted(named)),
    )
    fold, author = new_fold(genesis), LogWriter(genesis, "light")
    entries = [
        author.write(
            [
                Place(
                    side := number % 2,
                    Price(START_MID + (number // 2 + 1) * (1 if side == Side.SELL else -1)),
                    Lots(1 + number % 50),
                )
            ]
        )
        for number in range(orders)
    ]
    outcome = fold.apply(next_epoch(fold, entries, START_MS))
    view = fold.view()
    applied = Applied(outcome.epoch, outcome.root)
    vouchers = []
    for address in sorted(named):
        body = TickBody((), (), TimeMs(START_MS), applied, ZERO32)
        draft = ticks.draft(genesis.separator, MARKET.id, Era(0), Round(0), address, body)
        vouchers.append(
            voucher_of(draft.signed(secp256k1.sign(named[address], Digest(draft.digest))))
        )
    certificate = Certificate(view.header, tuple(vouchers))
    said = {
        "market": "0x" + MARKET.id.hex(),
        "epoch": outcome.epoch,
        "certificate": "0x" + codec.encode(certificate).hex(),
        "orders": [[key.hex(), leaf.hex()] for key, leaf in view.orders.items()],
    }
    return genesis, json.dumps(said).encode()


def measure(orders: int = ORDERS) -> dict[str, Any]:
    """The best of some runs."""
    genesis, answer = answer_of(orders)
    best_ms, found = float("inf"), 0
    for _ in range(RUNS):
        started = perf_counter()
        said = json.loads(answer)
        leaves = [(bytes.fromhex(key), bytes.fromhex(leaf)) for key, leaf in said["orders"]]
        certificate = decode_certificate(bytes.fromhex(said["certificate"][2:]))
        book = verify_book(genesis, MARKET.id, certificate, leaves)
        best_ms = min(best_ms, (perf_counter() - started) * 1000)
        found = len(book.orders)
    return {
        "orders": found,
        "witnesses": WITNESSES,
        "answer_kb": len(answer) // 1000,
        "verify_ms": round(best_ms, 1),
        "of_limit": round(best_ms / LIMIT_MS, 3),
    }


def main(as_json: bool) -> int:
    figures = measure()
    if as_json:
        print(json.dumps(figures, separators=(",", ":")))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):<12} {value}")
    return 0
