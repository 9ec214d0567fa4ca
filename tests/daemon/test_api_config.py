"""The table [api] of node.toml."""

from __future__ import annotations

import tomllib

import pytest

from orrange_p2p.core.errors import ConfigError
from orrange_p2p.daemon.api_config import ApiConfig, parse_api

WALLET = "0x" + "11" * 20


@pytest.mark.parametrize(
    "config",
    [
        ApiConfig(),
        ApiConfig("::1", 0),
        ApiConfig("0.0.0.0", 80, ("node.example",), (), public=True),
        ApiConfig(wallets=(bytes.fromhex(WALLET[2:]),)),  # type: ignore[arg-type]
    ],
)
def test_what_is_written_is_read_back(config: ApiConfig) -> None:
    assert parse_api(tomllib.loads(config.to_toml())["api"]) == config


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("yes", "must be a table"),
        ({"port": 3}, "port: unknown key; known: listen, hosts, wallets, public"),
        ({"listen": "9772"}, "an address and a port"),
        ({"listen": 9772}, "an address and a port"),
        ({"listen": "127.0.0.1:99999"}, "there is no port 99999"),
        ({"listen": "0.0.0.0:80"}, "not of this machine alone"),
        ({"listen": "example.org:80"}, "not of this machine alone"),
        ({"public": "yes"}, "must be true or false"),
        ({"hosts": "a"}, "hosts: must be a list"),
        ({"hosts": [3]}, "hosts: 3 is no name"),
        ({"wallets": ["0x12"]}, "wallets: "),
    ],
)
def test_what_cannot_be_is_told_by_its_key(table: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_api(table)
