"""``node.toml``: what is read, and how what is wrong in it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrange_p2p.chains.bitcoin.config import REGTEST, BitcoinConfig
from orrange_p2p.chains.evm.config import EvmConfig
from orrange_p2p.core.errors import ConfigError
from orrange_p2p.core.ids import Address, MarketId
from orrange_p2p.daemon.config import DataDir, NodeConfig, default_data_dir, load_config
from orrange_p2p.daemon.settlement_config import SettlingConfig, SwapConfig

NAMED = "/dnsaddr/example.org/p2p/12D3KooWGatU3xJJ6oZ3KvkSRuXv4kTDHyYEVdGgd7BXnX7dfnSj"
PEER = "/dns4/example.org/tcp/9771/p2p/12D3KooWGatU3xJJ6oZ3KvkSRuXv4kTDHyYEVdGgd7BXnX7dfnSj"


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("")
    config = load_config(tmp_path)
    assert config == NodeConfig(DataDir(tmp_path))
    assert config.is_witness and config.is_trader
    assert config.rpc_socket == tmp_path / "rpc.sock"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = NodeConfig(
        DataDir(tmp_path),
        roles=("trader",),
        listen=("/ip4/0.0.0.0/tcp/1", "/ip6/::1/tcp/65535"),
        bootstrap=(PEER, NAMED),
        markets=(MarketId(b"\x01" * 32),),
        rpc_socket=Path('/run/a "quoted"\\ name.sock'),
        log_level="debug",
        cancel_on=("disconnect", "shutdown"),
        max_exposure_lots=12,
        chains=(
            EvmConfig("eip155:1", ("wss://one.example/key", "https://two.example")),
            EvmConfig("eip155:31337", ("ws://127.0.0.1:8545",), "safe", 9, 10**10, 1, 2, 50, 900),
            BitcoinConfig(REGTEST, "http://u:p@127.0.0.1:18443", "/b/.cookie", 7, 2000, 9000, 3),
        ),
        swaps=(SwapConfig("eip155:31337", Address(b"e" * 20), 3),),
        settlements=(
            SettlingConfig("eip155:1", Address(b"c" * 20)),
            SettlingConfig("eip155:31337", Address(b"d" * 20), 2, 0, 7),
        ),
    )
    (tmp_path / "node.toml").write_text(config.to_toml())
    assert load_config(tmp_path) == config


def test_a_relative_socket_lies_in_the_data_directory(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('rpc_socket = "run/api.sock"')
    assert load_config(tmp_path).rpc_socket == tmp_path / "run" / "api.sock"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[settlement."eip155:1"]\ntrader = 1', 'settlement: "eip155:1": names no contract'),
        ('[settlement."eip155:1"]\ncontract = "0x1"', "contract: '0x1' is not an address"),
        (
            f'[settlement."eip155:1"]\ncontract = "0x{"ab" * 20}"\nfee = 1',
            "fee: unknown key; known: contract, trader",
        ),
        (
            f'[settlement."eip155:1"]\ncontract = "0x{"ab" * 20}"\ntrader = 0',
            "trader: must be an integer from 1 to",
        ),
        (
            f'[settlement."eip155:1"]\ncontract = "0x{"ab" * 20}"',
            'settlement: "eip155:1": there is no [chain."eip155:1"]',
        ),
        ("[chain]\na = 1", "chain: 'a' is not a CAIP-2 chain id"),
        ('[chain."solana:x"]\nendpoints = []', "chain: 'solana:x' is not an EVM chain"),
        ('[chain."eip155:1"]', 'chain: "eip155:1": names no endpoints'),
        ('[chain."eip155:1"]\nendpoints = []', 'chain: "eip155:1": endpoints: must be a list'),
        ('[chain."eip155:1"]\nendpoints = ["x"]', "is not an endpoint such as ws://"),
        (
            '[chain."eip155:1"]\nendpoints = ["ws://h"]\nmax_fee_wei = 0',
            'chain: "eip155:1": max_fee_wei: must be an integer from 1 to',
        ),
        (
            '[chain."eip155:1"]\nendpoints = ["ws://h"]\nfee = 0',
            'chain: "eip155:1": fee: unknown key; known: endpoints, finality',
        ),
        (
            f'[swap."eip155:1"]\ncontract = "0x{"ab" * 20}"',
            'swap: "eip155:1": there is no [chain."eip155:1"]',
        ),
        ('[swap."eip155:1"]', 'swap: "eip155:1": names no contract'),
        ('[chain."bip122:0"]\nendpoint = "http://h"', "'bip122:0' is not a Bitcoin chain"),
        (f'[chain."{REGTEST}"]', "names no endpoint"),
        (f'[chain."{REGTEST}"]\nendpoint = "ws://h"', "endpoint: bitcoind answers over http"),
        (
            f'[chain."{REGTEST}"]\nendpoint = "http://h"\ncookie_file = "a/b"',
            "cookie_file: 'a/b' must be an absolute path",
        ),
        (
            f'[chain."{REGTEST}"]\nendpoint = "http://h"\nmax_rate = 1000\nmin_rate = 2000',
            "min_rate is above max_rate",
        ),
        ("rolls = []", "rolls: unknown key; known: roles, listen"),
        ("[roles]", "roles: must be a list"),
        ("roles = [1]", "roles: must be a text"),
        ('roles = ["king"]', "roles: 'king' is none of: witness, trader"),
        ('roles = ["trader", "trader"]', "roles: lists something twice"),
        ('listen = "/ip4/0.0.0.0/tcp/1"', "listen: must be a list"),
        ('listen = ["0.0.0.0:9771"]', "listen: '0.0.0.0:9771' is not a multiaddr"),
        ('listen = ["/ip4/0.0.0.0/tcp/65536"]', "listen: "),
        ('listen = ["/ip4/0.0.0.0/udp/1/quic-v1"]', "listen: "),
        ('bootstrap = ["/ip4/127.0.0.1/tcp/1"]', "bootstrap: "),
        ('bootstrap = ["/dnsaddr/example.org"]', "bootstrap: "),
        ('announce = ["/dnsaddr/example.org/p2p/12D3KooW"]', "announce: "),
        ('markets = ["0x12"]', "markets: '0x12' is not a market id"),
        ('rpc_socket = ""', "rpc_socket: must be a text"),
        ('rpc_socket = "a\\u0000b"', "rpc_socket: must be a text"),
        ('log_level = "loud"', "log_level: 'loud' is none of"),
        ('cancel_on = ["crash"]', "cancel_on: 'crash' is none of"),
        ("max_exposure_lots = -1", "max_exposure_lots: must be a whole number"),
        ("max_exposure_lots = true", "max_exposure_lots: must be a whole number"),
        ("log_level = ", "is not TOML"),
        ("roles = 1\nroles = 2", "is not TOML"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(caught.value).startswith(f"{file}")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"), [(b"\xff\xfe", "not UTF-8"), (b"#" * (1 << 20) + b"\n", "larger than")]
)
def test_what_is_no_text_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "node.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        load_config(tmp_path)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="orrange init"):
        load_config(tmp_path / "none")
    with pytest.raises(ConfigError, match="orrange init"):
        DataDir(tmp_path / "none").load_genesis()
    (tmp_path / "node.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_the_default_data_directory(tmp_path: Path) -> None:
    assert default_data_dir({"ORRANGE_DATA_DIR": "/srv/node"}) == Path("/srv/node")
    assert default_data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/orrange")
    assert default_data_dir({}) == Path.home() / ".local" / "share" / "orrange"


def test_trader_keys_are_counted(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    directory.keys.mkdir()
    for name in ("trader-10.key", "trader-2.key", "trader-x.key", "trader-02.key", "other"):
        (directory.keys / name).touch()
    assert [path.name for path in directory.trader_keys()] == ["trader-2.key", "trader-10.key"]
