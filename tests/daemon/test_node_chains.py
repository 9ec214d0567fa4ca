"""A node's chains come from its configuration, and what it sent outlives it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orrange_p2p.core.errors import StoreError
from orrange_p2p.core.ids import Address, Amount
from orrange_p2p.daemon.chains import open_chains
from orrange_p2p.daemon.config import load_config
from orrange_p2p.devnet.accounts import accounts
from orrange_p2p.devnet.rpc_server import open_embedded
from orrange_p2p.ports.chain import Intent, IntentState
from orrange_p2p.signers.memory import MemorySigner

ALICE = MemorySigner(accounts()[0].secret)
RENT = Intent("rent", ALICE.address, Address(b"\xb0" * 20), value=Amount(7))


async def test_what_a_node_sent_outlives_it(tmp_path: Path) -> None:
    async with open_embedded(31337, block_time_s=0.05) as port:
        (tmp_path / "node.toml").write_text(
            f'[chain."eip155:31337"]\nendpoints = ["ws://127.0.0.1:{port}"]\n'
            "poll_interval_ms = 50\n"
            '[chain."eip155:5"]\nendpoints = ["ws://127.0.0.1:1"]\n'
        )
        config = load_config(tmp_path)
        async with open_chains(config, [ALICE]) as chains:
            assert list(chains) == ["eip155:31337", "eip155:5"]
            sent = await chains["eip155:31337"].chain.submit(RENT)
        assert stat.S_IMODE((tmp_path / "chains").stat().st_mode) == 0o700
        async with open_chains(config, [ALICE]) as chains:
            status = await chains["eip155:31337"].chain.wait("rent", timeout_s=10)
            assert (status.state, status.tx_hash) == (IntentState.FINAL, sent.tx_hash)
            with pytest.raises(StoreError, match="in use by another process"):
                async with open_chains(config, [ALICE]):
                    pass
