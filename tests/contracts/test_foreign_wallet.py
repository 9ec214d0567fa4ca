"""Signatures of a foreign wallet library, ethers, over our EIP-712 types: node and contract take
them, and it takes ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path += [str(Path(__file__).parents[1] / name) for name in ("daemon", "chains")]

from test_node import genesis_of
from test_settling import FINAL, FUNDS, MAKER, NOBODY, PARTIES, TAKER, settle_all, world

from orrange_p2p.core import entries, matches
from orrange_p2p.core.accounts import delegation_digest
from orrange_p2p.core.assets import evm_chain_id
from orrange_p2p.core.entries import EntryHeader
from orrange_p2p.core.genesis import DOMAIN_NAME, PROTOCOL_VERSION, Genesis
from orrange_p2p.core.ids import Digest, Epoch, Era, Lots, Price, Round, Seq
from orrange_p2p.core.operations import Accept, Accepted, Delegate, Place
from orrange_p2p.core.swaps.binding import Consent, Taken
from orrange_p2p.core.ticks import TickHeader
from orrange_p2p.crypto import keccak_tree, secp256k1
from orrange_p2p.signers.memory import MemorySigner
from orrange_p2p.store.memory import MemoryStore

EVM = Path(__file__).parents[2] / "contracts" / "evm"
SCRIPT = Path(__file__).with_name("foreign_wallet.cjs")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (EVM / "node_modules" / "ethers").exists(),
    reason="ethers is not installed: run `make setup` where there is Node",
)

TYPES = {
    "Trade": "Trade(bytes32 market,bytes32 fill,address buyer,address seller,"
    "uint256 baseAmount,uint256 quoteAmount,uint64 epoch,uint64 expiryMs)",
    "Trades": "Trades(bytes32 root)",
    "Entry": "Entry(bytes32 market,address author,uint64 seq,bytes32 prev,bytes32 opsRoot)",
    "Tick": "Tick(bytes32 market,uint64 era,uint64 round,address witness,bytes32 bodyHash)",
    "Delegation": "Delegation(bytes32 market,address owner,address session,uint64 cap,"
    "uint64 expiryMs)",
}
"""As the specification and the contracts have them: read by a wallet, not by our code."""


def shown(value: object) -> object:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


class Wallet:
    """ethers, in a process of its own."""

    def __init__(self, genesis: Genesis) -> None:
        self._domain = {
            "name": DOMAIN_NAME,
            "version": PROTOCOL_VERSION,
            "chainId": evm_chain_id(genesis.home_chain),
            "verifyingContract": shown(genesis.registry),
            "salt": shown(genesis.network_id),
        }

    def ask(self, name: str, values: tuple[Any, ...], **more: str) -> Mapping[str, str]:
        fields = re.findall(r"(\w+) (\w+)[,)]", TYPES[name])
        message = {field: shown(value) for (_, field), value in zip(fields, values, strict=True)}
        types = {name: [{"type": kind, "name": field} for kind, field in fields]}
        request = {"domain": self._domain, "types": types, "message": message, **more}
        done = subprocess.run(
            ["node", str(SCRIPT), str(EVM)],
            input=json.dumps(request) + "\n",
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        answer: Mapping[str, str] = json.loads(done.stdout)
        return answer

    def sign(self, signer: MemorySigner, name: str, values: tuple[Any, ...]) -> bytes:
        answer = self.ask(name, values, secret=shown(signer._key.secret))  # type: ignore[arg-type]
        return bytes.fromhex(answer["signature"][2:])


def test_its_digests_are_ours_and_each_takes_the_others_signatures() -> None:
    genesis = genesis_of(PARTIES)
    wallet, separator = Wallet(genesis), genesis.separator
    market = genesis.markets[0].id
    alice, bob = MAKER.address, TAKER.address
    trade = matches.Trade(market, b"f" * 32, alice, bob, 3, 2**255, Epoch(5), 2**63 - 1)  # type: ignore[arg-type]
    entry = EntryHeader(market, alice, Seq(7), Digest(b"p" * 32), b"o" * 32)
    tick = TickHeader(market, Era(1), Round(2), alice, b"b" * 32)
    root = keccak_tree.root([trade.id, b"x" * 32])
    cases: dict[str, tuple[tuple[Any, ...], bytes]] = {
        "Trade": (tuple(trade), Accept((Accepted(trade.id, b""),), b"").digest(separator)),
        "Trades": (
            (root,),
            Accept((Accepted(trade.id, b""), Accepted(b"x" * 32, b"")), b"").digest(separator),  # type: ignore[arg-type]
        ),
        "Entry": (tuple(entry), entry.digest(separator)),
        "Tick": (tuple(tick), tick.digest(separator)),
        "Delegation": (
            (market, alice, bob, 50, 2**63 - 1),
            delegation_digest(separator, market, alice, bob, 50, 2**63 - 1),
        ),
    }
    assert cases.keys() == TYPES.keys()
    for name, (values, digest) in cases.items():
        signature = wallet.sign(MAKER, name, values)
        assert secp256k1.recover(digest, signature) == alice, name
        ours = MAKER.sign(Digest(digest))
        said = wallet.ask(name, values, signature=shown(ours))  # type: ignore[arg-type]
        assert said["digest"] == shown(digest), name
        assert said["signer"].lower() == shown(alice), name


def test_an_entry_that_it_signed_is_one_of_a_log() -> None:
    genesis = genesis_of(PARTIES)
    wallet, market = Wallet(genesis), genesis.markets[0].id
    consent = wallet.sign(
        TAKER, "Delegation", (market, MAKER.address, TAKER.address, 50, 2_000_000_000_000)
    )
    operations = [
        Place(0, Price(5), Lots(7)),
        Delegate(TAKER.address, Lots(50), 2_000_000_000_000, consent),
    ]
    draft = entries.draft(
        genesis.separator, market, MAKER.address, Seq(0), Digest(bytes(32)), operations
    )
    entry = draft.signed(wallet.sign(MAKER, "Entry", tuple(draft.header)))
    decoded = entries.decode_entry(entry.encoded, genesis.separator, market)
    decoded.verify()
    assert decoded.operations == tuple(operations)


async def test_trades_that_it_accepted_settle_on_a_chain() -> None:
    async with world() as chain:
        wallet, store = Wallet(chain.genesis), MemoryStore()
        one, other = chain.trade(), chain.trade()
        # The maker by one signature for each, the taker by one for both.
        names = sorted([one.id, other.id])
        for_both = wallet.sign(TAKER, "Trades", (keccak_tree.root(names),))
        bound = [
            trade._replace(
                buyer=Consent(NOBODY, (), wallet.sign(MAKER, "Trade", tuple(trade.trade))),
                seller=Consent(NOBODY, keccak_tree.proofs(names)[names.index(trade.id)], for_both),
            )
            for trade in (one, other)
        ]
        await store.keep_bindings(chain.market.id, Taken({}, tuple(bound), ()))
        await settle_all(chain, store, dict.fromkeys(FINAL, 2))
        assert chain.held(MAKER) == (FUNDS + 6, FUNDS - 1400)
